//! A daemon at a terminal: its keys and its end are the daemon's, not the jobs'.

use crate::helper::daemon::{JOBLET, Node};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The side of a terminal at which a person sits. It hangs up when it is dropped.
struct Terminal {
    keys: Option<ChildStdin>,
    holder: Child,
    name: String,
}

impl Terminal {
    fn open() -> Terminal {
        let script = "import os, pty, sys\n\
                      ours, theirs = pty.openpty()\n\
                      print(os.ttyname(theirs), flush=True)\n\
                      for line in sys.stdin: os.write(ours, bytes.fromhex(line))\n";
        let mut holder = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed (tests/run.sh installs it)");
        let mut name = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut name).unwrap();
        Terminal { keys: holder.stdin.take(), holder, name: name.trim_end().to_owned() }
    }

    fn other_side(&self) -> File {
        File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&self.name).unwrap()
    }

    /// Types one key, given by its code.
    fn press(&self, key: &str) {
        let mut keys = self.keys.as_ref().unwrap();
        writeln!(keys, "{key}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.keys.take());
        let _ = self.holder.wait();
    }
}

const CTRL_C: &str = "03";
const CTRL_BACKSLASH: &str = "1c";

/// The daemon leads a session with this terminal, as a command of a shell does.
fn at_terminal(mut node: Node, terminal: &Terminal) -> crate::helper::TestDaemon {
    let starter = node.dir().join("at-terminal");
    fs::write(&starter, format!("#!/bin/sh\nexec /usr/bin/setsid --ctty {JOBLET} \"$@\"\n")).unwrap();
    fs::set_permissions(&starter, Permissions::from_mode(0o755)).unwrap();
    node.program = starter;
    node.start_with(|command| {
        command.stdin(terminal.other_side());
    })
}

#[test]
fn keys_and_end_of_the_daemons_terminal_leave_jobs_alone() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let terminal = Terminal::open();
    let d = at_terminal(node, &terminal);
    let jobs = [d.submit(["sleep", "1000"]), d.submit(["sh", "-c", "sleep 1000; exit 1"])];
    let run_on = |d: &crate::helper::TestDaemon| {
        for job in &jobs {
            assert_eq!(d.status(job)["status"], "RUNNING", "{}", d.status(job));
        }
    };
    terminal.press(CTRL_BACKSLASH);
    d.until_logged("signal without effect | number=3");
    run_on(&d);
    terminal.press(CTRL_C);
    d.until_logged("shutting down");
    let node = d.leave();

    let d = at_terminal(node, &terminal);
    run_on(&d);
    drop(terminal);
    d.until_logged("configuration reloaded");
    run_on(&d);
    for job in &jobs {
        d.rnx(["job", "stop", job]).ok();
        let ended = d.status(job);
        assert_eq!((&ended["status"], &ended["signal"]), (&"STOPPED".into(), &0.into()), "{ended}");
    }
    // The search for leaked descriptors would find the terminal under another name: it is gone.
    d.leave();
}

#[test]
fn priority_of_the_daemon_is_not_that_of_its_jobs() {
    let node = Node::set_up();
    node.set("joblet.warmSandboxes", 0);
    let d = node.start();
    for thread in std::fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().flatten() {
        for (program, args) in
            [("renice", ["-n", "-7", "-p"].as_slice()), ("ionice", &["-c", "2", "-n", "1", "-p"])]
        {
            let set =
                std::process::Command::new(program).args(args).arg(thread.file_name()).output().unwrap();
            assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        }
    }
    assert_eq!(
        d.rnx(["job", "run", "--follow", "--quiet", "sh", "-c", "nice; ionice"]).ok(),
        "0\nnone: prio 0\n"
    );
}
