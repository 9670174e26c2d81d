//! Real jobs with a wire: a thousand at a time, what is left of them, and what one costs the host beside time.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use joblet::pb::joblet::{RunJobRequest, StopJobReq};
use joblet::pb::joblet_grpc::JobServiceClient;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::figures::{Values, at_most, head, row};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::network::{Namespace, has_program, host_and_outside, router_of};
use crate::helper::wait::{eventually, holds, within};

/// Threads that start and stop jobs.
const THREADS: usize = 4;
/// Jobs whose traces in the host are counted.
const COUNTED: usize = 20;

pub fn measure(jobs: usize) {
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.maxConcurrentJobs", jobs as u64 + 100);
        let mut d = node.start();
        // The first one makes the router.
        d.run(["--network", "bridge", "true"]).ok();
        let router = router_of(d.pid());
        crowd(&d, &router, jobs);
        traces(&d, &host, &router);
        drop(router);
        d.keep_descriptors();
        d.stop();
        let left = || host.shell("nft list ruleset; ip -o link | grep joblet || true");
        let gone = eventually_gone(left);
        println!("left in the host: {}", if gone.is_empty() { "nothing" } else { &gone });
    });
}

/// What is left of the daemon once the kernel has taken the router apart.
fn eventually_gone(left: impl Fn() -> String) -> String {
    let gone = within(Duration::from_secs(5), || holds(left().is_empty()));
    gone.map_or_else(left, |()| String::new())
}

fn wires(router: &Namespace) -> usize {
    router.shell("ip -o -4 address | grep -c job- || true").trim().parse().unwrap()
}

/// Starts jobs that sleep, ends all of them, and waits until their wires are gone.
fn crowd(d: &TestDaemon, router: &Namespace, jobs: usize) {
    let client = d.client("default");
    let warm = wires(router);
    let (ids, times) = (Mutex::new(Vec::new()), Mutex::new(Values::default()));
    let begin = Instant::now();
    in_threads(jobs, || {
        let begin = Instant::now();
        let id = run(&client, "bridge", "sleep", "3600");
        times.lock().unwrap().add(begin.elapsed().as_secs_f64() * 1e3);
        ids.lock().unwrap().push(id);
    });
    let started = begin.elapsed().as_secs_f64();
    eventually("all jobs have their wires", || holds(wires(router) >= jobs));
    let ids = ids.into_inner().unwrap();
    let begin = Instant::now();
    let left = Mutex::new(ids);
    in_threads(jobs, || {
        let id = left.lock().unwrap().pop().unwrap();
        client.stop_job(&StopJobReq { uuid: id, ..Default::default() }).unwrap();
    });
    let stopped = begin.elapsed().as_secs_f64();
    eventually("the wires of jobs are gone", || holds(wires(router) <= warm.max(8)));
    let gone = begin.elapsed().as_secs_f64();
    head(&format!("{jobs} jobs with a wire"), "ms");
    row("RunJob, 4 at a time", &times.into_inner().unwrap());
    println!("started in {started:.1} s, stopped in {stopped:.1} s, all wires gone after {gone:.1} s");
    at_most("seconds from the last stop to the last wire", gone - stopped, 1.5);
}

/// Calls `act` so many times, on some threads.
fn in_threads(times: usize, act: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let act = &act;
            let own = times / THREADS + usize::from(thread < times % THREADS);
            scope.spawn(move || (0..own).for_each(|_| act()));
        }
    });
}

fn run(client: &JobServiceClient, network: &str, command: &str, argument: &str) -> String {
    let (command, network) = (command.to_owned(), network.to_owned());
    let args = vec![argument.to_owned()];
    client.run_job(&RunJobRequest { command, args, network, ..Default::default() }).unwrap().jobUuid
}

/// Events of devices to the host, rules that change, and programs that are executed, by jobs with a wire.
fn traces(d: &TestDaemon, host: &Namespace, router: &Namespace) {
    let client = d.client("default");
    let events = uevents(host);
    let monitors = has_program("nft").then(|| [host, router].map(Monitor::start));
    for _ in 0..COUNTED {
        let id = run(&client, "bridge", "sleep", "0");
        d.until_status(&id, "COMPLETED");
    }
    let mut buffer = [0; 8192];
    let seen = std::iter::from_fn(|| recv(&events, &mut buffer, RecvFlags::DONTWAIT).ok()).count();
    println!();
    at_most("events of devices to the host, per job", seen as f64 / COUNTED as f64, 0.0);
    if let Some(monitors) = monitors {
        let changed: usize = monitors.into_iter().map(Monitor::end).sum();
        at_most("rules changed, per job", changed as f64 / COUNTED as f64, 0.0);
    }
    if !has_program("strace") {
        return println!("strace is not installed: executed programs are not counted");
    }
    let with = executed(d, &client, "bridge");
    let without = executed(d, &client, "none");
    at_most("programs executed per job, more than in mode none", with - without, 0.0);
}

/// Hears what the kernel tells udev of devices of the host.
fn uevents(host: &Namespace) -> OwnedFd {
    host.run(|| {
        let (flags, kind) = (SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, SocketType::RAW);
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(KOBJECT_UEVENT)).unwrap();
        bind(&socket, &SocketAddrNetlink::new(0, 1)).unwrap();
        socket
    })
}

/// `nft monitor` of the rules of a namespace.
struct Monitor(Child);

impl Monitor {
    fn start(namespace: &Namespace) -> Monitor {
        let child = namespace
            .run(|| Command::new("nft").args(["monitor", "rules"]).stdout(Stdio::piped()).spawn().unwrap());
        let waits = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            holds(status.contains("State:\tS"))
        };
        eventually("nft listens", waits);
        Monitor(child)
    }

    /// Lines about rules that came.
    fn end(mut self) -> usize {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).count()
    }
}

/// Programs that the daemon and its children execute for a job of this network, the job's own with them.
fn executed(d: &TestDaemon, client: &JobServiceClient, network: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("calls");
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=execve,execveat", "-o"])
        .arg(&file)
        .args(["-p", &d.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", d.pid());
    let traced = || std::fs::read_to_string(&status).unwrap();
    eventually("strace has the daemon", || holds(!traced().contains("TracerPid:\t0\n")));
    for _ in 0..COUNTED {
        let id = run(client, network, "sleep", "0");
        d.until_status(&id, "COMPLETED");
    }
    // Those that refill the pool come behind the last job.
    eventually("the pool is full", || holds(crate::helper::residue::waits(d.pid(), "pool")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(strace.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    let _ = strace.wait();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    text.lines().filter(|line| line.contains("exec") && line.ends_with("= 0")).count() as f64 / COUNTED as f64
}
