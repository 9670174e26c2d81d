//! Jobs that keep the lock of their own output pipe, looked at from outside while they do.

use crate::helper::daemon::Node;
use crate::helper::slow_files::SlowFiles;
use crate::helper::wait::{holds, within};
use crate::helper::{TestDaemon, eventually};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// A node whose jobs see a file that does not answer.
fn node(slow: &SlowFiles) -> Node {
    let node = Node::set_up();
    let mut mounts: Vec<String> =
        ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"].map(str::to_owned).into();
    mounts.push(slow.dir().display().to_string());
    node.set("filesystem.allowedMounts", serde_yaml::to_value(mounts).unwrap());
    node
}

/// Starts a job one of whose writes faults on the file with the lock of stdout. The byte before makes the daemon look into
/// this pipe; it comes too early now and then, although the flood of stderr keeps it busy, and then another job tries.
fn hold(d: &TestDaemon, slow: &SlowFiles) -> String {
    hold_then(d, slow, "")
}

/// The same, with what the job does when its write has failed.
fn hold_then(d: &TestDaemon, slow: &SlowFiles, then: &str) -> String {
    eventually("the daemon waits for a held pipe", || {
        let script = format!(
            "import mmap, os, time\nf = open('{}', 'rb')\nm = mmap.mmap(f.fileno(), 65536, prot=mmap.PROT_READ)\n\
             if os.fork() == 0:\n while True: os.write(2, b'y' * 65536)\n\
             time.sleep(0.01)\nos.write(1, b'x')\ntry: os.write(1, m)\nexcept OSError: pass\n{then}",
            slow.file().display()
        );
        let before = d.log().matches("is late").count();
        let id = d.submit(["/usr/bin/python3", "-c", &script]);
        let noticed =
            within(Duration::from_millis(700), || holds(d.log().matches("is late").count() > before));
        if noticed.is_none() {
            d.rnx(["job", "stop", &id]).ok();
        }
        noticed.map(|()| id)
    })
}

#[test]
fn held_pipe_delays_no_other_job_and_ends_its_own() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let Some(slow) = SlowFiles::mount() else { skip!("no /dev/fuse") };
    let d = node(&slow).start();
    let beside = d.submit(["sh", "-c", "while sleep 0.05; do echo line; done"]);
    let follower = d.rnx_spawn(["job", "log", &beside]);
    // The hold lasts two seconds: a slow machine gets several tries.
    let seen = (0..10).any(|_| {
        let held = hold(&d, &slow);
        let printed = follower.printed();
        let ran = d.run(["echo", "another"]).ok() == "another\n";
        let stopped = d.submit(["sleep", "1000"]);
        d.rnx(["job", "stop", &stopped]).ok();
        let grown = within(Duration::from_secs(1), || holds(follower.printed() > printed)).is_some();
        let lasted = d.status(&held)["status"] == "RUNNING";
        d.until_status(&held, "FAILED");
        let status = d.status(&held);
        assert_eq!(
            (status["exitReason"].as_str(), status["exitCode"].as_i64()),
            (Some("pipe_held"), Some(137))
        );
        assert!(status["message"].as_str().unwrap().contains("output pipe"), "{status}");
        ran && grown && lasted
    });
    assert!(seen, "other jobs were delayed while the pipe was held");
    d.rnx(["job", "stop", &beside]).ok();
    follower.finish();
    d.stop();
}

#[test]
fn pipe_that_was_held_for_a_moment_rests_and_loses_nothing() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
    // On a slow machine the moment may be longer than two seconds.
    for _ in 0..5 {
        let Some(slow) = SlowFiles::mount() else { skip!("no /dev/fuse") };
        let d = node(&slow).start();
        let then = "time.sleep(0.1)\nfor n in range(100): os.write(1, b'line %d\\n' % n)\ntime.sleep(1000)";
        let id = hold_then(&d, &slow, then);
        // The file fails now, and the job has its lock no longer.
        let freed = Instant::now();
        drop(slow);
        let printed = || d.rnx(["job", "log", "--no-follow", "--stream=stdout", &id]).ok();
        let seen = eventually("the job has printed everything, or was ended", || {
            let running = d.status(&id)["status"] == "RUNNING";
            let complete = printed() == format!("x{lines}");
            (complete || !running).then_some(complete && running)
        });
        d.rnx(["job", "stop", &id]);
        d.stop();
        if seen {
            assert!(freed.elapsed() > Duration::from_millis(900), "its pipe did not rest");
            return;
        }
    }
    panic!("each job was ended");
}

#[test]
fn daemon_ends_while_a_pipe_is_held_and_says_why() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let Some(slow) = SlowFiles::mount() else { skip!("no /dev/fuse") };
    for (end, reason) in [("stop", "stopped"), ("keep", "pipe_held")] {
        let node = node(&slow);
        node.set("joblet.onShutdown", end);
        let d = node.start();
        let held = hold(&d, &slow);
        let d = d.leave().start();
        assert_eq!(d.status(&held)["exitReason"], reason, "{end}");
        d.stop();
    }
}

#[test]
fn killed_daemon_of_a_held_pipe_gives_way_to_the_next() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let Some(slow) = SlowFiles::mount() else { skip!("no /dev/fuse") };
    let node = node(&slow);
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let kept = d.submit(["sleep", "1000"]);
    let held = hold(&d, &slow);
    d.signal(Signal::SIGKILL);
    let d = d.abandon().start();
    assert_eq!(d.status(&held)["exitReason"], "pipe_held");
    assert_eq!(d.status(&kept)["status"], "RUNNING", "only the job that held its pipe was ended");
    d.rnx(["job", "stop", &kept]).ok();
    d.stop();
}
