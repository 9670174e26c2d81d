//! Names of jobs and of the outside, under a real daemon whose host is a namespace of the test's own.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::name_server::{NameServer, in_host, set_server};
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::residue;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

const FIRST: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// The user of the resolver's processes.
fn user_of(d: &TestDaemon) -> Range<u32> {
    let first = d.uids().start;
    first - 1..first
}

/// The processes of the resolver.
fn resolvers(d: &TestDaemon) -> Vec<i32> {
    let found = residue::processes_of(&user_of(d));
    found.iter().filter_map(|process| process.split(' ').next()?.parse().ok()).collect()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

/// A job that answers until its gate opens.
fn waits(d: &TestDaemon, network: &str, name: &str) -> String {
    let script = format!("cat /etc/hosts; hostname; {}", gate::wait_for("go"));
    d.submit(["--network", network, "--name", name, "bash", "-c", &script])
}

/// The answer that a job of this network finds for a name or an address.
fn finds(d: &TestDaemon, network: &str, name: &str) -> String {
    let script = format!("getent hosts {name} || echo nothing");
    d.run(["--network", network, "bash", "-c", &script]).text().trim().to_owned()
}

pub(super) fn end(mut d: TestDaemon, jobs: &[&String]) {
    for id in jobs {
        gate::open(id, "go");
        d.until_status(id, "COMPLETED");
    }
    d.keep_descriptors();
    let user = user_of(&d);
    d.stop();
    // Those of an earlier daemon are children of the host's PID 1, which takes note of their end when it likes.
    eventually("both processes are gone with the daemon", || holds(residue::processes_of(&user).is_empty()));
}

#[test]
fn jobs_find_each_other_and_the_outside_by_name() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, outside) = host_and_outside();
    let server = NameServer::start(&outside, FIRST, Ipv4Addr::new(203, 0, 113, 7));
    let _second = NameServer::start(&outside, SECOND, Ipv4Addr::new(203, 0, 113, 8));
    in_host(&host, FIRST, |file| {
        let d = TestDaemon::start();
        let (db, apart) = (waits(&d, "bridge", "db"), waits(&d, "isolated", "db"));
        let found = eventually("the name is known", || {
            Some(finds(&d, "bridge", "db")).filter(|found| found.starts_with("172.20."))
        });
        let address = found.split_whitespace().next().unwrap();
        for name in [&format!("job-{}", &db[..8]), &db[..8], "DB.joblet"] {
            assert!(finds(&d, "bridge", name).starts_with(address), "{name}");
        }
        let reverse = finds(&d, "bridge", address);
        assert!(reverse.contains(&format!("job-{}.joblet", &db[..8])), "{reverse}");
        assert_eq!(finds(&d, "isolated", "db"), "nothing");
        assert_eq!(finds(&d, "isolated", &format!("job-{}", &apart[..8])), "nothing");
        assert_eq!(finds(&d, "bridge", "nobody"), "nothing", "also not below the host's search domain");
        // Its own name leads to its own address, from its own file.
        let own = d.rnx(["job", "log", "--no-follow", &db]).text();
        let line = format!("{address}\tjob-{}", &db[..8]);
        assert!(own.contains(&line), "{line:?} is not in {own}");
        assert!(finds(&d, "bridge", "www.example.org").starts_with("203.0.113.7"));
        let heard = server.heard();
        assert!(heard.iter().all(|asked| asked.starts_with("www.example.org")), "{heard:?}");

        set_server(file, SECOND);
        eventually("the other name server is asked", || {
            holds(finds(&d, "bridge", "www.example.org").starts_with("203.0.113.8"))
        });
        end(d, &[&db, &apart]);
    });
}

#[test]
fn names_survive_the_daemon_and_the_end_of_their_processes() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, outside) = host_and_outside();
    let _server = NameServer::start(&outside, FIRST, Ipv4Addr::new(203, 0, 113, 7));
    in_host(&host, FIRST, |_| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        let d = node.start();
        let db = waits(&d, "bridge", "db");
        // Asks again and again, and prints each answer that is another one than before.
        let script = format!(
            "while [ ! -e {0} ]; do for name in db www.example.org; do \
             getent hosts $name >/dev/null && echo found $name; done; done",
            "/work/go"
        );
        let asks = d.submit(["--network", "bridge", "bash", "-c", &script]);
        let found = |d: &TestDaemon, name: &str| {
            let log = d.rnx(["job", "log", "--no-follow", &asks]).text();
            log.lines().filter(|line| *line == format!("found {name}")).count()
        };
        let goes_on = |d: &TestDaemon, name: &str| {
            let before = found(d, name);
            eventually("it finds the name again", || holds(found(d, name) > before + 3));
        };
        goes_on(&d, "db");
        let both = || {
            eventually("both processes are there", || Some(resolvers(&d)).filter(|found| found.len() == 2))
        };
        for n in 0..2 {
            kill(both()[n]);
            goes_on(&d, "www.example.org");
            goes_on(&d, "db");
        }
        let both = both();
        let node = d.crash();
        let d = node.start();
        goes_on(&d, "db");
        assert_eq!(resolvers(&d), both, "they are taken over");
        d.until_logged("took over the resolver");
        goes_on(&d, "www.example.org");
        end(d, &[&db, &asks]);
    });
}
