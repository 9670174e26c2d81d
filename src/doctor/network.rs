//! Networks of jobs: whether this host can have a router, and what of its own rules stands in the way of the outside.

use std::fs;

use super::{Finding, Host};
use crate::config::daemon::{DaemonConfig, Ipv6};
use crate::network::router::{probe, probe_ipv6};
use crate::network::uplink::Uplink;
use crate::network::{NetworkError, host_rules, rate};

const NO_WAY: &str = "the host has no default route: jobs with a network reach nothing outside";

pub(super) fn checks(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    let needed = matches!(config.network.default_network.as_str(), "bridge" | "isolated");
    let ipv6 = ipv6(config.network.ipv6);
    vec![router(host, needed), outside(needed), forwarding(host), ipv6, firewalls(host, needed), rates()]
}

/// Makes the router with all of its rules, in a namespace that goes again.
fn router(host: &Host, needed: bool) -> Finding {
    const CHECK: &str = "network.router";
    let why = match probe() {
        Ok(()) => {
            return Finding::ok(CHECK, "the router of jobs' networks can be made, with all of its rules");
        }
        Err(why) => why,
    };
    let modules = host_rules::modules().into_iter().collect::<Vec<_>>().join(" ");
    let remedy = match host.number("/proc/sys/kernel/modules_disabled") {
        Some(1) => format!(
            "kernel.modules_disabled is 1: load them at boot, echo {modules} | tr ' ' '\\n' >/etc/modules-load.d/joblet.conf, and restart"
        ),
        _ => format!("modprobe -a {modules}; or keep network.default_network: none"),
    };
    let finding = if needed { Finding::fail } else { Finding::warn };
    finding(CHECK, why.to_string(), remedy)
}

/// Tries a rate, in a namespace that goes again.
fn rates() -> Finding {
    const CHECK: &str = "network.rate";
    match rate::probe() {
        Ok(()) => Finding::ok(CHECK, "the rate of a job's network can be limited"),
        Err(why) => Finding::warn(CHECK, why.to_string(), "modprobe sch_tbf"),
    }
}

/// The host's way out, which jobs share. Where no job has a network unless it asks for one, a missing way is no fault.
fn outside(needed: bool) -> Finding {
    const CHECK: &str = "network.outside";
    let way = || -> Result<_, NetworkError> { Uplink::open()?.way_out() };
    match way() {
        Ok(Some(way)) => {
            Finding::ok(CHECK, format!("jobs with a network leave by {}, MTU {}", way.name, way.mtu))
        }
        Ok(None) if needed => Finding::warn(CHECK, NO_WAY, "ip route add default via GATEWAY"),
        Ok(None) => Finding::ok(CHECK, NO_WAY),
        Err(why) => Finding::warn(CHECK, why.to_string(), "start joblet as root"),
    }
}

/// Whether packets pass from joblet0 to the way out. Joblet sees to that itself, and says here how.
fn forwarding(host: &Host) -> Finding {
    const CHECK: &str = "network.forwarding";
    if host.number("/proc/sys/net/ipv4/ip_forward") == Some(1) {
        return Finding::ok(CHECK, "the host forwards packets");
    }
    let seen = "the host forwards nothing: joblet switches it on for joblet0 and the interface of the default route \
                alone, and lets no other new connection pass";
    Finding::ok(CHECK, seen)
}

/// Whether jobs get IPv6, and why not. A host without it is no fault.
fn ipv6(wanted: Ipv6) -> Finding {
    const CHECK: &str = "network.ipv6";
    if wanted == Ipv6::Off {
        return Finding::ok(CHECK, "jobs have no IPv6: network.ipv6 is off");
    }
    let look = || -> Result<_, NetworkError> {
        let lacking = Uplink::open()?.lacks_ipv6()?;
        Ok(if lacking.is_none() && !probe_ipv6()? { Some("it is off in new namespaces") } else { lacking })
    };
    match look() {
        Ok(None) => Finding::ok(CHECK, "jobs have IPv6, behind the host's address"),
        Ok(Some(why)) => Finding::ok(CHECK, format!("jobs have no IPv6: {why}")),
        Err(why) => Finding::warn(CHECK, why.to_string(), "start joblet as root"),
    }
}

/// Whether a zone of firewalld has joblet0 after every reload: firewalld.zone(5).
fn has_zone(host: &Host) -> bool {
    let zones = fs::read_dir(host.path("/etc/firewalld/zones")).into_iter().flatten().flatten();
    let has =
        |path| fs::read_to_string(path).is_ok_and(|text| text.contains("<interface name=\"joblet0\"/>"));
    zones.map(|zone| zone.path()).filter(|path| path.extension().is_some_and(|e| e == "xml")).any(has)
}

/// firewalld refuses what comes from an interface that it does not know.
fn firewalls(host: &Host, needed: bool) -> Finding {
    const CHECK: &str = "network.firewall";
    if needed && host.path("/run/firewalld").exists() {
        if has_zone(host) {
            return Finding::ok(CHECK, "firewalld runs, and joblet0 has a zone");
        }
        return Finding::warn(
            CHECK,
            "firewalld runs, and refuses what comes from interfaces without a zone",
            "firewall-cmd --permanent --zone=trusted --add-interface=joblet0 && firewall-cmd --reload",
        );
    }
    let legacy = host.text("/proc/net/ip_tables_names").is_some_and(|names| !names.trim().is_empty());
    if needed && legacy {
        return Finding::warn(
            CHECK,
            "rules of the old iptables are in force, which joblet cannot read: they may refuse packets of joblet0",
            "iptables-legacy -I FORWARD -i joblet0 -j ACCEPT; iptables-legacy -I FORWARD -o joblet0 -j ACCEPT",
        );
    }
    let drops = || -> Result<_, NetworkError> { Uplink::open()?.drops_unknown() };
    if drops().unwrap_or(false) {
        let seen = "the chain FORWARD drops what it does not know, as docker has it: joblet puts two rules for joblet0 there";
        return Finding::ok(CHECK, seen);
    }
    Finding::ok(CHECK, "nothing is known that refuses packets of the interface joblet0")
}
