//! Faults at a chosen system call of a process: strace(1) ends it before the call, or lets the call fail.

use super::eventually;
use super::wait::{PATIENCE, holds, within};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A tracer that changes the calls of a process, until it is dropped.
pub struct Tracer {
    strace: Child,
    pid: i32,
}

/// Whether strace(1) is installed.
pub fn is_there() -> bool {
    Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Tracer {
    /// Changes calls of all threads, see `inject=` in strace(1).
    pub fn attach(pid: i32, log: &Path, call: &str, change: &str) -> Tracer {
        Tracer::watch(pid, log, &injection(call, change))
    }

    /// Traces all threads and what they start, as these arguments of strace(1) say.
    pub fn watch<S: AsRef<OsStr>>(pid: i32, log: &Path, arguments: &[S]) -> Tracer {
        Tracer::start(pid, log, arguments, &["-f", "-p", &pid.to_string()], |_| true)
    }

    /// Changes calls of the threads that there are now and have this name, if one is given. Each counts for itself, and
    /// processes that they start are left alone.
    pub fn attach_threads(pid: i32, thread: Option<&str>, log: &Path, call: &str, change: &str) -> Tracer {
        let named = |tid: &String| {
            let comm = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
            thread.is_none_or(|thread| comm.is_ok_and(|name| name.trim() == thread))
        };
        let threads: Vec<String> = threads(pid).into_iter().filter(named).collect();
        assert!(!threads.is_empty(), "no thread is named {thread:?}");
        let args: Vec<&str> = threads.iter().flat_map(|tid| ["-p", tid.as_str()]).collect();
        Tracer::start(pid, log, &injection(call, change), &args, |tid| threads.contains(tid))
    }

    fn start<S: AsRef<OsStr>>(
        pid: i32,
        log: &Path,
        arguments: &[S],
        which: &[&str],
        wanted: impl Fn(&String) -> bool,
    ) -> Tracer {
        let mut command = Command::new("strace");
        command.arg("-qq").args(arguments).arg("-o").arg(log).args(which);
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace is installed");
        let mut tracer = Tracer { strace, pid };
        eventually("the tracer has the threads, or the process is gone", || {
            let is_traced = |tid: String| {
                let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
                !status.contains("TracerPid:\t0")
            };
            let all = || threads(pid).into_iter().filter(&wanted).all(is_traced);
            holds(tracer.strace.try_wait().unwrap().is_some() || all())
        });
        tracer
    }
}

fn injection(call: &str, change: &str) -> [String; 4] {
    ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:{change}")]
}

/// The threads of a process, as their numbers.
fn threads(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It leaves the process as it was. With one that was killed it may wait for ever.
        let pid = nix::unistd::Pid::from_raw(self.strace.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let exe = format!("/proc/{}/exe", self.pid);
        let is_gone = || fs::metadata(&exe).is_err();
        let _ =
            within(PATIENCE, || holds(self.strace.try_wait().is_ok_and(|end| end.is_some()) || is_gone()));
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
