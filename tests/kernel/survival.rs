//! joblet-init's part in a job's survival of the daemon: no output is lost, the job's end is on disk, and a new daemon can
//! take over; without one, joblet-init ends by itself when its time is over.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use joblet::job::Profile;
use joblet::job::exit_file::{Begun, ExitFile};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd, pidfd_open,
    pidfd_send_signal, set_child_subreaper, waitid,
};

use crate::helper::eventually;
use crate::helper::skip::is_root;
use crate::job::{Bench, Ground, Order, drain, sandbox, start};

const LINES: usize = 10_000;

/// The output of `life flood` on one stream.
fn flood(stream: usize) -> String {
    (0..LINES).map(|line| format!("stream {stream} line {line:015}\n")).collect()
}

/// The environment variable that turns [`stand_in`] into a daemon; its value describes the ground.
const STAND_IN: &str = "JOBLET_TEST_STAND_IN";

/// A daemon that starts one job, reads its first line, prints it, and then waits to be killed. It is a test so that the test
/// program can execute itself as this daemon.
#[test]
fn stand_in() {
    let Ok(words) = std::env::var(STAND_IN) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let (dir, cgroup, uid) = (Path::new(words[0]), Path::new(words[1]), words[2].parse::<u32>().unwrap());
    let order = Order::program("life", &["flood", &LINES.to_string()]);
    let running = start(&sandbox(dir, 600), &order, (uid, Profile::Strict), cgroup, dir).unwrap();
    rustix::io::ioctl_fionbio(&running.started.stdout, false).unwrap();
    let mut line = [0; 30];
    File::from(running.started.stdout.try_clone().unwrap()).read_exact(&mut line).unwrap();
    let text = format!(
        "\n{} {} {}",
        running.started.init.pid,
        running.record.display(),
        String::from_utf8_lossy(&line)
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}

/// joblet-init of a job whose daemon is gone.
struct Orphan {
    pidfd: OwnedFd,
    record: PathBuf,
    /// The bytes that the daemon read before it was killed.
    already: String,
}

/// Starts a stand-in daemon and kills it as soon as it has read the first line of its job.
fn orphaned_by_a_killed_daemon(ground: &Ground) -> Orphan {
    let words = format!("{} {} {}", ground.dir.display(), ground.cgroup.display(), ground.uid);
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "survival::stand_in", "--nocapture", "--test-threads=1"])
        .env(STAND_IN, words)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(daemon.stderr.take().unwrap());
    let told = said.lines().map(Result::unwrap).find(|line| line.contains("/exit/"));
    let told = told.expect("the stand-in starts a job");
    let (pid, rest) = told.split_once(' ').unwrap();
    let (record, line) = rest.split_once(' ').unwrap();
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    Orphan { pidfd, record: record.into(), already: format!("{line}\n") }
}

fn take(init: BorrowedFd<'_>, number: i32) -> OwnedFd {
    pidfd_getfd(init, number, PidfdGetfdFlags::empty()).unwrap()
}

fn has_ended(init: BorrowedFd<'_>) -> bool {
    let now = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(init), now).unwrap().is_some()
}

/// The action of a new daemon that has read all output.
fn release(init: BorrowedFd<'_>) {
    let read_end = take(init, 5);
    let way = format!("/proc/self/fd/{}", read_end.as_raw_fd());
    let mut control = OpenOptions::new().write(true).open(way).unwrap();
    control.write_all(b"R").unwrap();
    pidfd_send_signal(init, Signal::USR1).unwrap();
}

fn recorded(path: &Path) -> ExitFile {
    eventually("the exit record is on disk", || ExitFile::decode(&fs::read(path).unwrap()))
}

fn exit_code(init: BorrowedFd<'_>) -> Option<i32> {
    waitid(WaitId::PidFd(init), WaitIdOptions::EXITED).unwrap().unwrap().exit_status()
}

#[test]
fn killed_daemon_costs_a_job_nothing_and_the_next_has_all_bytes() {
    needs!(is_root(), "needs root");
    // The orphans become children of this process, so that their end can be waited for.
    set_child_subreaper(rustix::process::getpid().into()).unwrap();
    let ground = Ground::new();
    let orphan = orphaned_by_a_killed_daemon(&ground);
    let init = orphan.pidfd.as_fd();
    // Both pipes are full now or soon: the job is not killed and loses no byte.
    assert!(!has_ended(init));
    let (kept_out, kept_err) = (take(init, 6), take(init, 7));
    let (stdout, stderr) = std::thread::scope(|scope| {
        let stderr = scope.spawn(|| drain(&kept_err));
        (drain(&kept_out), stderr.join().unwrap())
    });
    assert!(orphan.already + &stdout == flood(1), "stdout is not what the job wrote");
    assert!(stderr == flood(2), "stderr is not what the job wrote");
    let record = recorded(&orphan.record);
    assert_eq!((record.wait_status, record.begun), (7 << 8, Begun::Executed));
    assert!(!has_ended(init), "joblet-init lingers for the new daemon");
    release(init);
    assert_eq!(exit_code(init), Some(7));
}

#[test]
fn ended_job_without_a_daemon_keeps_its_output_until_one_comes() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::new(&["sh", "-c", "echo out; echo err >&2; exit 9"]));
    let (started, record) = (running.started, running.record);
    let init = started.init.pidfd;
    drop((started.stdout, started.stderr, started.init.report, started.init.control, started.init.exit_file));
    assert_eq!(recorded(&record).wait_status, 9 << 8);
    assert!(!has_ended(init.as_fd()));
    let (kept_out, kept_err) = (take(init.as_fd(), 6), take(init.as_fd(), 7));
    assert_eq!((drain(&kept_out), drain(&kept_err)), ("out\n".into(), "err\n".into()));
    release(init.as_fd());
    assert_eq!(exit_code(init.as_fd()), Some(9));
}

#[test]
fn a_new_daemon_may_come_while_the_job_still_runs() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::program("life", &["listen", "15"]));
    running.hear("ready");
    let started = running.started;
    let init = started.init.pidfd.as_fd();
    drop((started.stdout, started.stderr, started.init.report, started.init.control, started.init.exit_file));
    let kept_out = take(init, 6);
    let read_end = take(init, 5);
    let way = format!("/proc/self/fd/{}", read_end.as_raw_fd());
    let mut control = OpenOptions::new().write(true).open(way).unwrap();
    pidfd_send_signal(init, Signal::TERM).unwrap();
    assert_eq!(drain(&kept_out), "got 15\n");
    control.write_all(b"R").unwrap();
    assert_eq!(exit_code(init), Some(0));
}

#[test]
fn without_a_new_daemon_joblet_init_goes_when_its_time_is_over() {
    needs!(is_root(), "needs root");
    let bench = Bench::lingering(1);
    let running = bench.start(&Order::new(&["sh", "-c", "exit 4"]));
    let started = running.started;
    let before = std::time::Instant::now();
    drop((started.stdout, started.stderr, started.init.report, started.init.control, started.init.exit_file));
    assert_eq!(exit_code(started.init.pidfd.as_fd()), Some(4));
    assert!(before.elapsed().as_millis() > 900, "it did not linger: {:?}", before.elapsed());
    assert_eq!(recorded(&running.record).wait_status, 4 << 8);
}
