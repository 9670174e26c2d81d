//! The daemon's sudden death. A job's earlier output is in the spool, or in a pipe that joblet-init keeps open.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::wait::{eventually, holds};
use crate::helper::{programs, soak};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[test]
fn killing_the_daemon_loses_no_byte_that_a_job_wrote() {
    let flood = programs::c("flood").display().to_string();
    let mut node = Node::set_up();
    for round in 0..soak::rounds(40, 1000) {
        let d = node.start();
        let id = d.submit(["--upload", &flood, "./flood"]);
        let spool = d.dir().join("spool").join(&id).join("stdout");
        // A different moment in each round: early in the first chunk, or some hundred chunks later.
        let least = (round as u64 * 7919) % 900_000;
        eventually("the flood has come some way", || {
            holds(fs::metadata(&spool).is_ok_and(|m| m.len() > least))
        });
        let job = Job::find(&d, &id);
        node = d.crash();
        let written = job.written_when_blocked();
        let mut bytes = fs::read(&spool).unwrap();
        bytes.extend(job.drain_pipe());
        job.end();
        assert_eq!(bytes.len() as u64, written, "round {round}: bytes lost or doubled");
        for (n, record) in bytes.chunks_exact(8).enumerate() {
            assert_eq!(
                u64::from_le_bytes(record.try_into().unwrap()),
                n as u64,
                "round {round}: a hole at {n}"
            );
        }
    }
    // At the end the node starts once more, and stops in order without leftovers.
    node.start().stop();
}

/// A job whose daemon is about to die, seen from the host.
struct Job {
    init: i32,
    payload: i32,
    cgroup: Option<PathBuf>,
}

impl Job {
    fn find(d: &TestDaemon, id: &str) -> Job {
        let init = eventually("init is a child of the daemon", || {
            let of_the_job = |pid: &i32| {
                fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
            };
            crate::helper::residue::children_of(d.pid()).into_iter().find(of_the_job)
        });
        let payload = *eventually("the payload is a child of init", || {
            let children = crate::helper::residue::children_of(init);
            (!children.is_empty()).then_some(children)
        })
        .first()
        .unwrap();
        let mount = crate::helper::residue::cgroup2_mount();
        let cgroup =
            mount.and_then(|m| crate::helper::residue::directories(&m, &|name| name.contains(id)).pop());
        Job { init, payload, cgroup }
    }

    /// The number of bytes that the payload has written: its write count when the pipe is full and the count no longer changes.
    fn written_when_blocked(&self) -> u64 {
        eventually("the payload is blocked on its full pipe", || {
            let at = fs::read_to_string(format!("/proc/{}/wchan", self.payload)).ok()?;
            let state = fs::read_to_string(format!("/proc/{}/stat", self.payload)).ok()?;
            let asleep = state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
            holds(asleep && (at.contains("pipe") || at == "0"))
        });
        self.write_count()
    }

    fn write_count(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.payload)).unwrap();
        io.lines().find_map(|l| l.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    }

    /// The bytes in the stdout pipe, read through the end that init keeps. The payload is killed first: an emptied pipe
    /// would let it continue to write.
    fn drain_pipe(&self) -> Vec<u8> {
        let pipe = fs::read_link(format!("/proc/{}/fd/1", self.payload)).unwrap();
        let kept = descriptor_of(self.init, &pipe).expect("init keeps the read end");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.payload), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        // Before the first byte is taken: room in the pipe would let a last write through.
        eventually("the payload is dead", || holds(!alive(self.payload)));
        let mut options = fs::OpenOptions::new();
        let mut end = options.read(true).custom_flags(libc::O_NONBLOCK).open(kept).expect("init lingers");
        let mut bytes = Vec::new();
        // WouldBlock while a writer remains, end of file when none does.
        let _ = end.read_to_end(&mut bytes);
        bytes
    }

    /// Ends the waiting joblet-init, as a later daemon would.
    fn end(self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.init), nix::sys::signal::Signal::SIGKILL);
        eventually("init is gone", || holds(!alive(self.init)));
        if let Some(cgroup) = self.cgroup {
            eventually("the cgroup can be removed", || {
                holds(fs::remove_dir(&cgroup).is_ok() || !cgroup.exists())
            });
        }
    }
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A path below /proc/PID/fd that leads to the read end of the same pipe.
fn descriptor_of(pid: i32, pipe: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let reads =
        |p: &PathBuf| fs::symlink_metadata(p).is_ok_and(|link| link.permissions().mode() & 0o200 == 0);
    entries.map(|e| e.path()).find(|p| reads(p) && fs::read_link(p).is_ok_and(|target| target == pipe))
}
