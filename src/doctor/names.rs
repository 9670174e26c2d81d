//! Names: the program that answers them for jobs, and the host's name servers, which it asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use super::{Finding, Host, shown};
use crate::config::daemon::DaemonConfig;

const PORT: u16 = 53;
/// How long a name server has.
const PATIENCE: Duration = Duration::from_secs(1);
/// A question for the name servers of the root: every name server has that answer.
const QUESTION: [u8; 17] = [0x6a, 0x6f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

pub(super) fn checks() -> Vec<Finding> {
    vec![program()]
}

fn program() -> Finding {
    const CHECK: &str = "names.program";
    let name = "joblet-resolver";
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let places = beside.into_iter().chain([PathBuf::from("/opt/joblet/bin").join(name)]);
    match places.into_iter().find(|place| place.exists()) {
        Some(place) => Finding::ok(CHECK, shown(&place)),
        None => Finding::warn(
            CHECK,
            "no program joblet-resolver beside joblet: jobs do not know each other's names, and those with an egress \
             list resolve none",
            "put joblet-resolver beside joblet",
        ),
    }
}

/// The processes and the name servers, as they are now.
pub(super) fn work(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    let mut all = vec![servers(&host.text("/etc/resolv.conf").unwrap_or_default())];
    all.extend(processes(host, config));
    all
}

/// The two processes, where a daemon has started them: `resolver.processes` has a line for each.
fn processes(host: &Host, config: &DaemonConfig) -> Option<Finding> {
    const CHECK: &str = "names.resolver";
    let text = std::fs::read_to_string(config.data_dir.join("run/resolver.processes")).ok()?;
    let pids = text.lines().filter_map(|line| line.split_whitespace().next());
    let is_it = |pid: &&str| {
        host.text(&format!("/proc/{pid}/comm")).is_some_and(|name| name.trim_end() == "joblet-resolver")
    };
    let gone: Vec<&str> = pids.filter(|pid| !is_it(pid)).collect();
    Some(match gone.is_empty() {
        true => Finding::ok(CHECK, "both processes run"),
        false => Finding::warn(
            CHECK,
            format!("process {} is gone; the daemon starts both anew, if it runs", gone.join(", ")),
            "journalctl -u joblet | grep resolver",
        ),
    })
}

/// Whether the host's name servers answer.
fn servers(text: &str) -> Finding {
    const CHECK: &str = "names.servers";
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<IpAddr> =
        words.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).take(3).collect();
    if servers.is_empty() {
        let seen = "/etc/resolv.conf has no name server: jobs resolve each other's names alone";
        return Finding::warn(CHECK, seen, "add a line: nameserver ADDRESS");
    }
    let (answer, silent): (Vec<IpAddr>, Vec<IpAddr>) =
        servers.into_iter().partition(|server| answers(*server));
    let list = |servers: &[IpAddr]| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (answer.is_empty(), silent.is_empty()) {
        (_, true) => Finding::ok(CHECK, format!("{} answers", list(&answer))),
        (false, false) => {
            Finding::ok(CHECK, format!("{} answers, {} does not", list(&answer), list(&silent)))
        }
        (true, false) => Finding::warn(
            CHECK,
            format!("no name server of /etc/resolv.conf answers: {}", list(&silent)),
            "see resolvectl status, or put another one into /etc/resolv.conf",
        ),
    }
}

fn answers(server: IpAddr) -> bool {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let ask = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect((server, PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&QUESTION)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(length >= 12 && answer[..2] == QUESTION[..2])
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_server_that_nobody_serves_is_told_of() {
        // Nobody serves the port on this address of the loopback range.
        let finding = servers("nameserver 127.77.77.77\n");
        assert!(finding.seen.contains("127.77.77.77"), "{finding:?}");
        assert!(servers("search example.org\n").seen.contains("no name server"));
    }
}
