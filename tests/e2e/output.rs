//! The output of a job: exact, live and afterwards, for any number of readers, whatever the job or the readers do.

use crate::helper::programs;
use crate::helper::rnx::Running;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};
use futures_util::StreamExt;
use joblet::pb::joblet::{DataChunk, GetJobLogsReq};
use std::process::Command;

fn chunks(d: &TestDaemon, id: &str) -> Vec<DataChunk> {
    let client = d.client("default");
    let mut stream =
        client.get_job_logs(&GetJobLogsReq { uuid: id.to_owned(), ..Default::default() }).unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = futures_executor::block_on(stream.next()) {
        all.push(chunk.unwrap());
    }
    all
}

#[test]
fn every_byte_value_comes_back_on_both_streams() {
    let d = TestDaemon::start();
    let script = "import sys\nb = bytes(range(256)) * 64\nsys.stdout.buffer.write(b)\nsys.stdout.flush()\nsys.stderr.buffer.write(b[::-1])";
    let id = d.submit(["/usr/bin/python3", "-c", script]);
    d.until_status(&id, "COMPLETED");
    let all: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(64);
    let got = chunks(&d, &id);
    let of = |wanted: i32| -> Vec<u8> {
        use protobuf::Enum;
        let mine = got.iter().filter(|c| c.stream.enum_value().map(|s| s.value()) == Ok(wanted));
        mine.flat_map(|c| c.payload.clone()).collect()
    };
    let mut backwards = all.clone();
    backwards.reverse();
    assert!(of(1) == all, "stdout differs");
    assert!(of(2) == backwards, "stderr differs");
    let order: Vec<u64> = got.iter().map(|c| c.seq).collect();
    assert!(order.is_sorted() && order.first() == Some(&1), "{order:?}");
    assert!(got.iter().all(|c| c.timestamp_ns > 1_700_000_000_000_000_000 && c.lost_bytes == 0));
}

#[test]
fn many_readers_at_their_own_pace_each_get_everything_once() {
    let d = TestDaemon::start();
    let flood = programs::c("flood").display().to_string();
    let id = d.submit(["--upload", &flood, "./flood", "400000"]);
    let readers: Vec<Running> = (0..6).map(|_| d.rnx_spawn(["job", "log", &id])).collect();
    let mut wanted = Vec::with_capacity(400_000 * 8);
    for n in 0..400_000_u64 {
        wanted.extend(n.to_le_bytes());
    }
    for reader in readers {
        let out = reader.finish();
        out.ok();
        assert!(out.stdout == wanted, "{} bytes of {}", out.stdout.len(), wanted.len());
    }
    assert!(d.rnx(["job", "log", &id]).stdout == wanted, "the history differs from the live stream");
}

#[test]
fn a_hundred_lines_come_once_each_at_any_moment() {
    let d = TestDaemon::start();
    let id = d.submit([
        "sh",
        "-c",
        "for i in $(seq 1000); do echo line $i; [ $((i % 100)) = 0 ] && sleep 0.02; done",
    ]);
    let wanted: String = (1..=1000).map(|i| format!("line {i}\n")).collect();
    let early = d.rnx_spawn(["job", "log", &id]);
    assert_eq!(d.rnx(["job", "log", &id]).ok(), wanted, "in the middle");
    assert_eq!(early.finish().ok(), wanted, "from the start");
    assert_eq!(d.rnx(["job", "log", &id]).ok(), wanted, "afterwards");
}

#[test]
fn a_reader_that_never_reads_does_not_slow_the_job() {
    let d = TestDaemon::start();
    let flood = programs::c("flood").display().to_string();
    let client = d.client("default");
    let id = d.submit(["--upload", &flood, "./flood", "3000000"]);
    let request = GetJobLogsReq { uuid: id.clone(), ..Default::default() };
    let mut stuck: Vec<_> = (0..4).map(|_| client.get_job_logs(&request).unwrap()).collect();
    for stream in &mut stuck {
        assert!(futures_executor::block_on(stream.next()).is_some(), "the stream is open");
    }
    d.until_status(&id, "COMPLETED");
    for mut stream in stuck {
        stream.cancel();
    }
}

#[test]
fn a_client_that_vanishes_costs_nothing() {
    let d = TestDaemon::start();
    let flood = programs::c("flood").display().to_string();
    let id = d.submit(["--upload", &flood, "./flood"]);
    // Killed at many points of its life, from the handshake to the middle of the stream.
    for n in 0..25 {
        let mut reader = d.rnx_spawn(["job", "log", &id]);
        let looks = n * 3;
        let mut seen = 0;
        eventually("the reader has lived a while", || {
            seen += 1;
            holds(seen > looks)
        });
        reader.kill();
    }
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
    // stop() below waits until the daemon's descriptors are the same as at the start: no stream remains.
    d.stop();
}

#[test]
fn output_can_be_reopened_closed_or_nonblocking_but_not_read() {
    let d = TestDaemon::start();
    let script = "exec 2>&-; echo one; echo two > /dev/stdout; echo three > /proc/self/fd/1; \
                  (cat < /dev/stdout) 2>/dev/null || echo unreadable; echo four >> /dev/stdout";
    assert_eq!(d.run(["sh", "-c", script]).ok(), "one\ntwo\nthree\nunreadable\nfour\n");
    let script = "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK)\nn = 0\n\
                  while n < 3000000:\n try: n += os.write(1, b'x' * min(70000, 3000000 - n))\n except BlockingIOError: pass";
    let id = d.submit(["/usr/bin/python3", "-c", script]);
    assert_eq!(d.rnx(["job", "log", &id]).stdout.len(), 3_000_000);
    let id = d.submit(["sh", "-c", "echo to stderr >&2; echo again > /dev/stderr"]);
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "to stderr\nagain\n");
    let out = d.run(["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (out.text().as_str(), out.stderr.as_str()),
        ("out\n", "err\n"),
        "--follow keeps the streams apart"
    );
}

#[test]
fn output_before_the_end_is_never_lost() {
    let d = TestDaemon::start();
    // Output and exit arrive in one batch: the end must wait for the pipe.
    for n in 0..40 {
        let out = d.run(["sh", "-c", &format!("echo last words {n}; kill -9 $$")]);
        assert_eq!((out.code, out.text()), (137, format!("last words {n}\n")));
    }
}

#[test]
fn terminal_gets_no_escape_sequences_and_a_pipe_gets_the_bytes() {
    let d = TestDaemon::start();
    let evil = "\\033]52;c;ZXZpbA==\\007\\033]0;title\\007\\033[2J\\r\\033[31mred\\033[0m\\302\\2331A\\342\\200\\256";
    let id = d.submit(["--name", "plain", "printf", evil]);
    d.until_status(&id, "COMPLETED");
    let piped = d.rnx(["job", "log", &id]);
    assert_eq!(
        piped.stdout,
        b"\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\r\x1b[31mred\x1b[0m\xc2\x9b1A\xe2\x80\xae"
    );
    let on_terminal = |args: &[&str]| {
        let mut command = Command::new("/usr/bin/python3");
        let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        command
            .args(["-c", spawn, crate::helper::daemon::RNX, "--config"])
            .arg(d.dir().join("rnx-config.yml"))
            .args(args);
        command.env_clear().env("TERM", "xterm").env("HOME", d.dir()).env("PATH", "/usr/bin:/bin");
        String::from_utf8_lossy(&Running::start(&mut command).finish().stdout).into_owned()
    };
    let shown = on_terminal(&["job", "log", &id]);
    assert!(shown.contains("red"), "{shown:?}");
    for bad in ["\x1b]", "\x07", "\x1b[2J", "\u{9b}", "\u{202e}"] {
        assert!(!shown.contains(bad), "{bad:?} reached the terminal: {shown:?}");
    }
    // In what rnx itself prints about a job too.
    let named = d.rnx(["job", "run", "-q", "sh", "-c", "exit 0", "\x1b]0;evil\x07\r"]).id();
    for args in [vec!["job", "status", &named], vec!["job", "list"]] {
        let shown = on_terminal(&args);
        assert!(!shown.contains("\x1b]0") && !shown.contains('\x07'), "{shown:?}");
    }
    assert!(on_terminal(&["job", "log", "--raw", &id]).contains("\x1b]52;"), "--raw shows the bytes");
}

#[test]
fn a_closed_pipe_ends_rnx_quietly() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "seq 100000"]);
    let script = format!(
        "{} --config {}/rnx-config.yml job log {id} | head -2",
        crate::helper::daemon::RNX,
        d.dir().display()
    );
    let out = Running::start(Command::new("sh").args(["-c", &script])).finish();
    assert_eq!(out.ok(), "1\n2\n");
    assert!(!out.stderr.contains("panicked") && !out.stderr.contains("Broken pipe"), "{}", out.stderr);
}
