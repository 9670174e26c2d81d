//! The history process as the daemon's child: its user, and a start at which it does not answer.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::history::until_complete;
use crate::helper::daemon::Node;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, residue};

/// Ends a daemon that waits for its history process, which is in this state, and returns how long that took.
fn end_at_the_gate(hold: impl FnOnce(i32)) -> Duration {
    let node = Node::set_up();
    // Another process has the lock, so no question is answered for ten seconds.
    let lock = File::create(node.dir().join("persist.lock")).unwrap();
    lock.lock().unwrap();
    let mut daemon = node.spawn();
    let pid = daemon.id().cast_signed();
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "persist")
    };
    let history =
        eventually("the history process lives", || residue::children_of(pid).into_iter().find(is_it));
    eventually("the daemon waits for it", || {
        holds(node.log().contains("persist service started successfully"))
    });
    hold(history);
    let began = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let status = daemon.wait().unwrap();
    let took = began.elapsed();
    assert!(status.success(), "{status}: {}", node.log());
    assert!(!node.log().contains("is ready and healthy"), "{}", node.log());
    took
}

#[test]
fn daemon_ends_at_once_while_history_does_not_answer() {
    let took = end_at_the_gate(|_| {});
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

#[test]
fn daemon_ends_at_once_while_its_history_process_hangs() {
    let took = end_at_the_gate(|pid| kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap());
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

/// The number of the user `joblet`, which no host has.
const USER: u32 = 64_123;

/// Starts a node in a mount namespace of its own, in which the host has a user `joblet`.
fn start_with_user(node: Node) -> TestDaemon {
    let users = node.dir().join("passwd");
    let host = fs::read_to_string("/etc/passwd").unwrap();
    let host: String =
        host.lines().filter(|line| !line.starts_with("joblet:")).map(|l| format!("{l}\n")).collect();
    fs::write(&users, format!("{host}joblet:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin\n")).unwrap();
    fs::set_permissions(node.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    let log = node.log_path();
    node.start_with(move |command| {
        let words: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(OsString::from).collect();
        let variables: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let log = || fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let mut inside = Command::new("unshare");
        inside
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/passwd && exec \"$@\"")
            .arg(&users)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(variables)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        *command = inside;
    })
}

/// The values of one line of a process's status.
fn status(pid: i32, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn history_process_gives_up_root_where_the_host_has_its_user() {
    let d = start_with_user(Node::set_up());
    let pid = d.history();
    let own = USER.to_string();
    let four = vec![own.clone(); 4];
    assert_eq!(
        (status(pid, "Uid"), status(pid, "Gid"), status(pid, "Groups")),
        (four.clone(), four, vec![own])
    );
    assert_eq!(status(pid, "NoNewPrivs"), ["1"]);
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(pid, set), ["0000000000000000"], "{set}");
    }
    let id = d.submit(["sh", "-c", "seq 1000; echo err >&2"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let metrics = d.dir().join("metrics");
    let logs = d.dir().join("logs");
    let mut found = 0;
    for tree in [&logs, &metrics, &d.dir().join("deleted")] {
        for path in [tree.clone(), tree.join(&id)].into_iter().chain(residue::files(tree)) {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(meta.permissions().mode() & 0o7777, wanted, "{}", path.display());
            assert_eq!((meta.uid(), meta.gid()), (USER, USER), "{}", path.display());
            found += 1;
        }
    }
    assert!(found >= 8, "{found} files and directories");
    let numbers: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    let read = |d: &TestDaemon| d.rnx(["job", "log", "--no-follow", "--stream=stdout", &id]).text();
    assert_eq!(read(&d), numbers);
    // Trees of an earlier daemon whose history process was root: the next one gives them away.
    let node = d.crash();
    for path in [logs.clone(), logs.join(&id), logs.join(&id).join("stdout.log.gz")] {
        lchown(&path, Some(0), Some(0)).unwrap();
    }
    let d = start_with_user(node);
    assert_eq!(read(&d), numbers);
    let meta = fs::metadata(logs.join(&id).join("stdout.log.gz")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (USER, USER));
}

#[test]
fn history_process_stays_root_where_its_user_cannot_pass() {
    let node = Node::set_up();
    let closed = node.dir().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    for tree in ["logs", "metrics"] {
        let key = format!("persist.storage.local.{tree}.directory");
        node.set(&key, closed.join(tree).to_str().unwrap());
    }
    let d = start_with_user(node);
    assert_eq!(status(d.history(), "Uid")[1], "0");
    d.until_logged("persist keeps the rights of root: the user joblet cannot pass a directory");
    let id = d.submit(["echo", "kept"]);
    d.until_status(&id, "COMPLETED");
    eventually("it is stored", || holds(closed.join("logs").join(&id).join("job.json").exists()));
    assert_eq!(d.rnx(["job", "log", "--no-follow", &id]).text(), "kept\n");
}
