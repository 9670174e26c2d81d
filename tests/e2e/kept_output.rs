//! Jobs that have ended while somebody still has the write end of their output.

use crate::helper::daemon::Node;
use crate::helper::gate;
use crate::helper::residue::{descriptors, processes_in_cgroup, processes_of};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};
use std::fs::{File, OpenOptions};

/// The write ends of its output lie in the queues of two sockets, each of which lies in the queue of the other: no process
/// can take them out, and the kernel finds out when it looks for such sockets.
const CYCLE: &str = "import array, os, socket\n\
    a, b = socket.socketpair()\n\
    for end in (a, b): socket.send_fds(end, [b'x'], [1, 2, a.fileno(), b.fileno()])\n\
    print('sent', flush=True)";

/// A node that waits a second for output, and has no warm sandbox whose descriptors would count.
fn node() -> Node {
    let node = Node::set_up();
    node.set("joblet.cleanupTimeout", "1s");
    node.set("joblet.warmSandboxes", 0);
    node
}

/// A job that ends when its gate is opened, and a write end of its stdout outside of it.
fn held_outside(d: &TestDaemon) -> (String, File) {
    let id = d.submit(["sh", "-c", &format!("echo ready; {}; echo last", gate::wait_for("end"))]);
    let end = eventually("the job has its stdout", || {
        processes_in_cgroup(&id).iter().find_map(|process| {
            let pid = process.split(' ').next()?;
            OpenOptions::new().write(true).open(format!("/proc/{pid}/fd/1")).ok()
        })
    });
    (id, end)
}

fn is_over(d: &TestDaemon, id: &str, log: &str) {
    d.until_status(id, "COMPLETED");
    assert_eq!(d.status(id)["exitCode"], 0);
    assert_eq!(d.rnx(["job", "log", id]).ok(), log);
    eventually("nothing of the job is left", || holds(processes_of(&d.uids()).is_empty()));
}

#[test]
fn job_whose_output_has_a_writer_outside_ends_in_bounded_time() {
    let d = node().start();
    d.run(["true"]).ok();
    // Its group and its files are closed behind its end.
    let before = eventually("the daemon has nothing of the first job", || {
        let open = descriptors(d.pid());
        (!open.keys().any(|kind| kind.contains("ID"))).then_some(open)
    });
    // The connection of a client may have been there for a moment longer than the client.
    let has_no_more = || {
        let open = descriptors(d.pid());
        open.iter().all(|(kind, count)| before.get(kind).is_some_and(|had| count <= had))
    };
    let (id, end) = held_outside(&d);
    gate::open(&id, "end");
    is_over(&d, &id, "ready\nlast\n");
    d.until_logged("output of a finished job does not end");
    eventually("the daemon has closed the pipe", || holds(has_no_more()));
    drop(end);
    d.stop();
}

#[test]
fn output_kept_since_before_a_takeover_is_given_up_after_it() {
    let d = node().start();
    let (id, end) = held_outside(&d);
    let node = d.crash();
    gate::open(&id, "end");
    let exit_file = node.dir().join("run/exit").join(&id);
    // Written by joblet-init when the payload has ended.
    let has_ended = || std::fs::read(&exit_file).is_ok_and(|block| block.starts_with(b"JBEXIT01"));
    eventually("the job has ended", || holds(has_ended()));
    let d = node.start();
    is_over(&d, &id, "ready\nlast\n");
    drop(end);
    d.stop();
}

#[test]
fn output_in_sockets_that_nobody_has_ends_with_its_job() {
    let d = node().start();
    for _ in 0..3 {
        let id = d.submit(["/usr/bin/python3", "-c", CYCLE]);
        is_over(&d, &id, "sent\n");
    }
    d.stop();
}
