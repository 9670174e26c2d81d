//! Networks of jobs without any program: the daemon finds none in PATH and executes none, and no rule changes.

use std::process::{Child, Command, Stdio};

use super::names::end;
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{Namespace, has_program, host_and_outside};
use crate::helper::residue;
use crate::helper::skip::is_root;
use crate::helper::tracer::Tracer;
use crate::helper::wait::{eventually, holds};

const JOBS: usize = 8;

/// The changes in one namespace that nft(8) hears of.
struct Monitor<'a> {
    nft: Child,
    log: std::path::PathBuf,
    namespace: &'a Namespace,
}

impl<'a> Monitor<'a> {
    /// Hears of every change from now on.
    fn start(namespace: &'a Namespace, log: std::path::PathBuf) -> Self {
        let out = std::fs::File::create(&log).unwrap();
        let nft = namespace.run(|| {
            Command::new("nft")
                .arg("monitor")
                .stdin(Stdio::null())
                .stdout(out)
                .spawn()
                .expect("nft is installed")
        });
        let monitor = Monitor { nft, log, namespace };
        monitor.hears("begin");
        monitor
    }

    /// Waits until it has heard of a table with this name, and returns what it heard.
    fn hears(&self, table: &str) -> String {
        let mut made = 0;
        let text = eventually("the monitor hears of a new table", || {
            made += 1;
            self.namespace.shell(&format!("nft add table inet {table}{made}"));
            let text = std::fs::read_to_string(&self.log).unwrap();
            text.contains(&format!("add table inet {table}")).then_some(text)
        });
        (1..=made).for_each(|n| drop(self.namespace.shell(&format!("nft delete table inet {table}{n}"))));
        text
    }

    /// The lines about our table since the start.
    fn end(self) -> Vec<String> {
        let text = self.hears("end");
        text.lines().filter(|line| line.contains("inet joblet")).map(str::to_owned).collect()
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        let _ = self.nft.kill();
        let _ = self.nft.wait();
    }
}

/// The router, by the descriptor that the first process of a networked job keeps.
fn router_of(d: &TestDaemon) -> Namespace {
    let inits =
        residue::processes_of(&d.uids()).into_iter().filter(|process| process.ends_with(" joblet-init"));
    let router = |process: String| {
        let pid = process.split(' ').next()?;
        let path = format!("/proc/{pid}/fd/{}", joblet::init_abi::slot::ROUTER);
        std::fs::read_link(&path).ok().filter(|file| file.display().to_string().starts_with("net:["))?;
        std::fs::File::open(path).ok()
    };
    let router = inits.filter_map(router).next().expect("a networked job runs");
    Namespace::of(std::os::fd::AsFd::as_fd(&router))
}

#[test]
fn jobs_of_a_network_need_no_program_and_change_no_rule() {
    needs!(
        is_root() && ["ip", "nft", "strace"].into_iter().all(has_program),
        "needs root, ip(8), nft(8) and strace(1)"
    );
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        // Each start makes its sandbox and its wire then, and none is half made when the tracer goes.
        node.set("joblet.warmSandboxes", 0);
        let empty = node.dir().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let d = node.start_with(|command| {
            command.env("PATH", &empty);
        });
        // The router and its resolver are made for the first job.
        let first = d.submit(["--network", "bridge", "sh", "-c", &gate::wait_for("go")]);
        d.until_status(&first, "RUNNING");
        let router = router_of(&d);
        // The host has its end of the router since a moment ago, and the router's set of the host's addresses follows.
        eventually("the router knows the host's new address", || {
            holds(router.shell("nft list set inet joblet host4").contains("169.254.127.1"))
        });
        let monitors = [
            Monitor::start(&host, d.dir().join("host.changes")),
            Monitor::start(&router, d.dir().join("router.changes")),
        ];
        let log = d.dir().join("programs");
        let tracer = Tracer::watch(
            d.pid(),
            &log,
            &["-s", "200", "-z", "-e", "signal=none", "-e", "trace=execve,execveat"],
        );
        let script = "exec 3<>/dev/tcp/8.8.8.8/8080 && echo reached";
        for network in ["bridge", "isolated"].repeat(JOBS / 2) {
            let out = d.run(["--network", network, "bash", "-c", script]);
            assert!(out.text().contains("reached"), "{network}: {}", out.text());
        }
        drop(tracer);
        let [of_host, of_router] = monitors.map(Monitor::end);
        assert_eq!((of_host, of_router), (vec![], vec![]), "rules have changed");

        // PID 1 of each sandbox is executed from a file in memory, and the job's command by its path.
        let text = std::fs::read_to_string(&log).unwrap();
        let (inits, others): (Vec<&str>, Vec<&str>) = text
            .lines()
            .filter(|line| line.contains("exec"))
            .partition(|line| line.contains("AT_EMPTY_PATH"));
        let commands = others.iter().filter(|line| line.contains("/bash\", [\"bash\", \"-c\"")).count();
        assert_eq!((commands, others.len()), (JOBS, JOBS), "{text}");
        assert!(inits.len() == JOBS && inits.iter().all(|line| line.contains("joblet-init")), "{text}");
        end(d, &[&first]);
    });
}
