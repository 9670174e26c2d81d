//! The ways out of a job with an egress list, each tried from inside and judged from outside: nothing arrives.
//!
//! The job is root in its namespace here and has no seccomp filter, so that what a job may not even try is tried too.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::egress::{list, pin, sets};
use crate::helper::network::{Namespace, has_ipv6, has_program};
use crate::helper::skip::is_root;
use crate::lab::{self, Lab, Reach};

const LISTED: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const UNLISTED: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const LISTED6: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 8);
const UNLISTED6: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 9);

/// Counts what comes to the outside, except by TCP to the one port that is listed. It sees fragments as they come. The host
/// itself speaks of its IPv6 link there, from addresses that nobody forwards.
const JUDGE: &str = "
    nft add table inet judge
    nft 'add chain inet judge seen { type filter hook prerouting priority -500; }'
    nft add rule inet judge seen iifname != down0 accept
    nft add rule inet judge seen ip6 saddr '{ ::, fe80::/10 }' accept
    nft add rule inet judge seen ip6 daddr 2600::8 exthdr frag missing exthdr rt missing meta l4proto '{ tcp, udp }' th dport 8080 accept
    nft add rule inet judge seen ip daddr 8.8.8.8 'ip frag-off & 0x3fff' 0 tcp dport 8080 counter accept
    nft add rule inet judge seen counter";

/// Packets that came to what is listed, and others.
fn arrived(outside: &Namespace) -> [u64; 2] {
    let rules = outside.shell("nft list chain inet judge seen");
    let count = |line: &str| line.split("counter packets ").nth(1)?.split(' ').next()?.parse().ok();
    let counts: Vec<u64> = rules.lines().filter_map(count).collect();
    counts.try_into().unwrap()
}

/// A program that makes one try for each line.
struct Villain(Child, BufReader<std::process::ChildStdout>);

impl Villain {
    fn start(job: &Namespace) -> Villain {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/exfiltrate.py");
        let mut child = job.run(|| {
            Command::new("python3")
                .arg(program)
                .args([LISTED.to_string(), lab::PORT.to_string(), UNLISTED.to_string(), "-".into()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let lines = BufReader::new(child.stdout.take().unwrap());
        Villain(child, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn attempt(&mut self, name: &str) -> String {
        writeln!(self.0.stdin.as_ref().unwrap(), "{name}").unwrap();
        self.line()
    }
}

impl Drop for Villain {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn nothing_leaves_a_listed_job_but_to_what_is_listed() {
    needs!(ready(), "needs root, ip(8), nft(8) and python3");
    let lab = Lab::new();
    if has_ipv6() {
        // The host's own chatter would be counted.
        lab.host.shell("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    }
    try_all(lab, &["listed.example:8080", "10.8.0.0/16"]);
}

#[test]
fn nothing_leaves_a_listed_job_with_ipv6_either() {
    needs!(ready(), "needs root, ip(8), nft(8) and python3");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let lab = Lab::with_ipv6();
    lab.outside.shell(
        "ip -6 address add 2600::9/128 dev lo nodad; ip -6 address add 2001:4860:4860::8888/128 dev lo nodad",
    );
    try_all(lab, &["listed.example:8080", "10.8.0.0/16", "[2600::8]:8080", "fd00::/8"]);
}

fn ready() -> bool {
    is_root() && has_program("nft") && has_program("python3")
}

fn try_all(mut lab: Lab, entries: &[&str]) {
    lab.outside.shell("ip address add 9.9.9.9/32 dev lo");
    lab.outside.shell(JUDGE);
    lab.router.follow(lab.uplink.addresses().unwrap(), Some(UNLISTED)).unwrap();
    let (job, free) = (lab.job("isolated"), lab.job("isolated"));
    let six = lab.router.has_ipv6();
    if !six && has_ipv6() {
        // The job has more than jobs have.
        job.namespace
            .shell("ip -6 address add 2001:db8::2/64 dev eth0 nodad; ip -6 route add default dev eth0");
    }
    let mut sets = sets(&lab);
    sets.begin(job.lease.address, &list(entries)).unwrap();
    pin(&lab, job.lease.address, LISTED, libc::IPPROTO_TCP, lab::PORT, Duration::from_secs(600));
    // The answer of a name that was listed, which is too old.
    pin(&lab, job.lease.address, UNLISTED, libc::IPPROTO_TCP, 0, Duration::from_millis(1));
    let before = arrived(&lab.outside);
    let mut villain = Villain::start(&job.namespace);
    let tries = villain.line();
    assert!(tries.split(' ').count() >= 50, "{tries}");
    let mut escaped = Vec::new();
    for name in tries.split(' ') {
        let before = arrived(&lab.outside)[1];
        let heard = villain.attempt(name);
        let after = arrived(&lab.outside)[1];
        if after > before {
            escaped.push(format!("{name}: {} packets; it heard: {heard}", after - before));
        }
    }
    assert_eq!(escaped, Vec::<String>::new());
    // The judge is not blind, and nothing was late.
    assert_eq!(job.tcp(LISTED), Reach::Arrives);
    let [listed, other] = arrived(&lab.outside);
    assert!(listed > before[0] && other == before[1], "{listed} {other}");
    if six {
        assert_eq!(job.tcp(LISTED6), Reach::Arrives);
        assert_eq!(arrived(&lab.outside)[1], other);
        assert_eq!(free.tcp(UNLISTED6), Reach::Arrives);
        assert!(arrived(&lab.outside)[1] > other);
    }
    assert_eq!(free.tcp(UNLISTED), Reach::Arrives);
    assert!(arrived(&lab.outside)[1] > other);
}
