//! Why and how a job ended: one verdict from several witnesses.

use serde::{Deserialize, Serialize};

use super::Status;
use super::exit_file::{Begun, Defect, ExitFile, OWN_DISKS};
use super::own_disk::{self, OwnDisk};

/// The reason on the wire (`exit_reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The payload returned a code.
    Exited,
    /// A signal killed the payload.
    Signaled,
    /// The kernel killed it for lack of memory.
    Oom,
    /// It ran longer than its timeout.
    Timeout,
    /// A client, or the daemon's shutdown, stopped it.
    Stopped,
    /// It wrote more output than the node keeps.
    OutputLimit,
    /// It kept the lock of its output pipe.
    PipeHeld,
    /// It failed with the host's disk full below its volumes.
    DiskFull,
    /// A client canceled it before its time came.
    Canceled,
    /// The sandbox could not be created, or the command could not be executed.
    StartFailed,
    /// No witness saw its end.
    Lost,
}

impl ExitReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Exited => "exited",
            ExitReason::Signaled => "signaled",
            ExitReason::Oom => "oom",
            ExitReason::Timeout => "timeout",
            ExitReason::Stopped => "stopped",
            ExitReason::OutputLimit => "output_limit",
            ExitReason::PipeHeld => "pipe_held",
            ExitReason::DiskFull => "disk_full",
            ExitReason::Canceled => "canceled",
            ExitReason::StartFailed => "start_failed",
            ExitReason::Lost => "lost",
        }
    }
}

/// The cause of a deliberate end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// A StopJob request.
    Request,
    /// The job's own timeout.
    Timeout,
    /// It was paused for longer than the node allows.
    Paused,
    /// The daemon's own shutdown.
    Shutdown,
    /// A limit on its output.
    OutputLimit,
    /// The lock of its output pipe, which it kept.
    PipeHeld,
}

/// The end of a job, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// COMPLETED, FAILED, STOPPED or CANCELED.
    pub status: Status,
    /// The reason for the end.
    pub reason: ExitReason,
    /// Exit code on the wire: the payload's own, 128+n for signal n, -1 where it was stopped or never started.
    pub code: i32,
    /// The signal that killed the payload, 0 for none.
    pub signal: i32,
    /// One sentence, empty where the code says all.
    pub message: String,
}

impl Ending {
    /// The status that clients saw last before this end.
    pub fn status_before(&self) -> Status {
        match self.reason {
            ExitReason::Canceled => Status::Scheduled,
            ExitReason::StartFailed => Status::Initializing,
            _ => Status::Running,
        }
    }
}

/// The facts about a job whose PID 1 is gone.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// Somebody asked for the end.
    pub stopped: Option<StopCause>,
    /// The exit file that joblet-init wrote.
    pub record: Option<ExitFile>,
    /// The job's cgroup counted a kill for memory.
    pub oom: bool,
    /// Memory limit in MiB, for the sentence.
    pub memory_mib: Option<u32>,
    /// Peak memory in bytes, for the sentence.
    pub peak_bytes: Option<u64>,
    /// /work is a tmpfs, for the sentence.
    pub work_in_memory: bool,
    /// The job's own file systems in the order of [`OWN_DISKS`], for the sentence where one is full.
    pub disks: [OwnDisk; OWN_DISKS.len()],
    /// The host's disk has no room left for its volumes.
    pub disk_full: bool,
    /// Timeout in words, for the sentence.
    pub timeout: String,
    /// The longest pause in words, for the sentence.
    pub max_pause: String,
    /// The command, for the sentence of a failed exec.
    pub command: String,
    /// The working directory, for the sentence where it cannot be entered.
    pub work_dir: String,
    /// The limit of output that it reached, for the sentence.
    pub output_limit: String,
    /// The end of PID 1 itself, for `lost`.
    pub init_end: String,
    /// The host was restarted since the job ran.
    pub host_restarted: bool,
}

/// Exit code of a job that was ended for its output: that of a process that SIGXFSZ ends, the signal for a write
/// beyond the file size limit (setrlimit(2)).
const OUTPUT_LIMIT_CODE: i32 = 128 + 25;

/// The message of a job that was ended for keeping the lock of its output pipe.
const PIPE_HELD: &str = "a process of the job kept its output pipe locked for two seconds, so that nobody could read it: it \
                         wrote from a file that does not answer, or its processor limit left a write no time";

/// The verdict: a wish to stop wins, then the kernel's count of memory kills, then the exit file, then `lost`.
pub fn verdict(w: &Witnesses) -> Ending {
    match w.stopped {
        Some(StopCause::Request) => return ended(Status::Stopped, ExitReason::Stopped, -1, 0, String::new()),
        Some(StopCause::Shutdown) => {
            return ended(Status::Stopped, ExitReason::Stopped, -1, 0, "daemon shut down".to_owned());
        }
        Some(StopCause::Timeout) => {
            let text = format!("ran longer than its timeout of {}", w.timeout);
            return ended(Status::Stopped, ExitReason::Timeout, -1, 0, text);
        }
        Some(StopCause::Paused) => {
            let text = format!("was paused for longer than joblet.maxPause ({})", w.max_pause);
            return ended(Status::Stopped, ExitReason::Timeout, -1, 0, text);
        }
        Some(StopCause::OutputLimit) => {
            let text = w.output_limit.clone();
            return ended(Status::Failed, ExitReason::OutputLimit, OUTPUT_LIMIT_CODE, 0, text);
        }
        Some(StopCause::PipeHeld) => {
            return ended(Status::Failed, ExitReason::PipeHeld, 137, 9, PIPE_HELD.to_owned());
        }
        None => {}
    }
    let killed = w.record.is_none_or(|r| r.wait_status & 0x7f == 9);
    if w.oom && killed {
        return ended(Status::Failed, ExitReason::Oom, 137, 9, oom_sentence(w));
    }
    match w.record {
        Some(record) => match record.begun {
            Begun::Executed => {
                let ending = from_status(record, own_disk::hint(&record, &w.disks));
                if w.disk_full && ending.status == Status::Failed { on_full_disk(ending) } else { ending }
            }
            Begun::NotExecuted => exec_failure(&w.command, record),
            Begun::NotEntered => {
                let (dir, why) = (&w.work_dir, errno_words(record.errno));
                start_failure(format!(
                    "failed to create isolated environment: enter working directory {dir}: {why}"
                ))
            }
        },
        None if w.host_restarted => {
            ended(Status::Failed, ExitReason::Lost, -1, 0, "lost: host restarted".to_owned())
        }
        None => {
            ended(Status::Failed, ExitReason::Lost, -1, 0, format!("lost: no exit record: {}", w.init_end))
        }
    }
}

/// The end of a scheduled job that a client canceled.
pub fn canceled() -> Ending {
    ended(Status::Canceled, ExitReason::Canceled, 0, 0, String::new())
}

/// The end of a job that was stopped before it had a process.
pub fn stopped_while_waiting(cause: StopCause) -> Ending {
    verdict(&Witnesses { stopped: Some(cause), ..Witnesses::default() })
}

/// The end of a job that never came to its exec: its sandbox could not be created.
pub fn start_failure(sentence: String) -> Ending {
    ended(Status::Failed, ExitReason::StartFailed, -1, 0, sentence)
}

/// The signal for a system call that a filter refuses to let pass.
const SIGSYS: i32 = 31;
const BAD_CALL: &str = "; the job's filter ends programs that make system calls of another architecture, as 32-bit programs \
                        do; a filter of the program's own may do the same";
/// fork(2) and execve(2) at the limit of processes.
const EAGAIN: i32 = 11;
/// The same at the limit of memory.
const ENOMEM: i32 = 12;

/// The end of a job whose command could not be executed: 127 where it does not exist, else 126 (as shells
/// and chroot(1) count).
fn exec_failure(command: &str, record: ExitFile) -> Ending {
    let (errno, code) = (record.errno, code_of(record));
    let why = errno_words(errno);
    let hint = match (record.defect, code, errno) {
        (Defect::None, 127, _) => {
            "it must exist inside the job: an uploaded file is called ./NAME, programs come from the host's /usr"
        }
        (Defect::None, _, EAGAIN) => {
            "the limit of processes (joblet.defaultPidsLimit) has no room for it beside joblet-init, which counts, or that of \
             all jobs (TasksMax of joblet-jobs.service) is reached"
        }
        (Defect::None, _, ENOMEM) => "the memory limit has no room for it",
        (Defect::None, _, _) => {
            "is it an executable for this machine, and does its interpreter exist inside the job?"
        }
        (Defect::Elf32, _, _) => "a 32-bit program: this job's filter knows only x86-64",
        (Defect::OtherMachine, _, _) => "a program for another machine than x86-64",
        (Defect::NoFormat, _, _) => {
            "it is no program, and no script whose first line names its interpreter, such as #!/bin/sh"
        }
        (Defect::CarriageReturn, _, _) => {
            "its first line ends with a carriage return, which the kernel takes as part of the interpreter's name; end its \
             lines with a line feed alone (dos2unix)"
        }
        (Defect::NoInterpreter, _, _) => {
            "the interpreter that it names (the first line of a script, the loader of a program) does not exist inside the job"
        }
    };
    ended(
        Status::Failed,
        ExitReason::StartFailed,
        code,
        0,
        format!("cannot execute \"{command}\": {why}; {hint}"),
    )
}

fn errno_words(errno: i32) -> String {
    let why = std::io::Error::from_raw_os_error(errno).to_string();
    why.split(" (os error").next().unwrap_or(&why).to_owned()
}

fn code_of(record: ExitFile) -> i32 {
    (record.wait_status >> 8) & 0xff
}

/// The end of a payload, with a hint at a file system that was full then.
fn from_status(record: ExitFile, full: Option<String>) -> Ending {
    let signal = record.wait_status & 0x7f;
    if signal != 0 {
        let core = if record.wait_status & 0x80 != 0 { " (core dumped)" } else { "" };
        let hint = if signal == SIGSYS { BAD_CALL } else { "" };
        let full = full.map(|full| format!("; {full}")).unwrap_or_default();
        let text = format!("killed by signal {signal}{core}{hint}{full}");
        return ended(Status::Failed, ExitReason::Signaled, 128 + signal, signal, text);
    }
    let code = code_of(record);
    let status = if code == 0 { Status::Completed } else { Status::Failed };
    ended(status, ExitReason::Exited, code, 0, full.unwrap_or_default())
}

/// The end of a payload that failed while the host's disk was full below its volumes.
fn on_full_disk(ending: Ending) -> Ending {
    const FULL: &str = "the host's disk is full below its volumes, so what it wrote last there may be lost: make room on it (df -h)";
    let message = match ending.message.as_str() {
        "" => format!("failed: {FULL}"),
        said => format!("{said}; {FULL}"),
    };
    Ending { reason: ExitReason::DiskFull, message, ..ending }
}

fn oom_sentence(w: &Witnesses) -> String {
    let limit = w.memory_mib.map(|m| format!("limit {m} MiB"));
    let peak = w.peak_bytes.map(|b| format!("peak {} MiB", b.div_ceil(1 << 20)));
    let figures: Vec<String> = limit.into_iter().chain(peak).collect();
    let counted = if w.work_in_memory { "/work and /tmp" } else { "/tmp" };
    format!(
        "killed: out of memory ({}); what the job writes to {counted} counts as its memory",
        figures.join(", ")
    )
}

fn ended(status: Status, reason: ExitReason, code: i32, signal: i32, message: String) -> Ending {
    Ending { status, reason, code, signal, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(wait_status: i32) -> Witnesses {
        Witnesses { record: Some(ExitFile { wait_status, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn a_command_that_cannot_be_executed_says_what_to_look_at() {
        let told = |errno, code: i32| {
            let record =
                ExitFile { begun: Begun::NotExecuted, errno, wait_status: code << 8, ..Default::default() };
            let ending =
                verdict(&Witnesses { record: Some(record), command: "x".to_owned(), ..Default::default() });
            assert_eq!((ending.reason, ending.code), (ExitReason::StartFailed, code));
            ending.message
        };
        for (errno, code, hint) in [
            (2, 127, "it must exist inside the job"),
            (8, 126, "an executable for this machine"),
            (EAGAIN, 126, "the limit of processes (joblet.defaultPidsLimit)"),
            (ENOMEM, 126, "the memory limit"),
        ] {
            let message = told(errno, code);
            assert!(message.starts_with("cannot execute \"x\": ") && message.contains(hint), "{message}");
        }
    }

    #[test]
    fn defect_of_a_program_is_named() {
        for (defect, errno, hint) in [
            (Defect::Elf32, 8, "Exec format error; a 32-bit program: this job's filter knows only x86-64"),
            (Defect::OtherMachine, 8, "a program for another machine"),
            (Defect::NoFormat, 8, "no script whose first line names its interpreter"),
            (Defect::CarriageReturn, 2, "ends with a carriage return"),
            (Defect::NoInterpreter, 2, "the interpreter that it names"),
        ] {
            let record = ExitFile {
                begun: Begun::NotExecuted,
                defect,
                errno,
                wait_status: 126 << 8,
                ..Default::default()
            };
            let decoded = ExitFile::decode(&record.encode()).unwrap();
            assert_eq!(decoded, record);
            let ending = verdict(&Witnesses { record: Some(decoded), ..Default::default() });
            assert_eq!((ending.reason, ending.code), (ExitReason::StartFailed, 126));
            assert!(ending.message.contains(hint), "{}", ending.message);
        }
        assert!(verdict(&record(SIGSYS)).message.contains("another architecture"));
        assert_eq!(verdict(&record(9)).message, "killed by signal 9");
    }

    #[test]
    fn every_exit_code_and_signal_is_reported_exactly() {
        for code in 0..=255 {
            let ending = verdict(&record(code << 8));
            assert_eq!((ending.code, ending.signal, ending.reason), (code, 0, ExitReason::Exited));
            assert_eq!(ending.status, if code == 0 { Status::Completed } else { Status::Failed });
        }
        for signal in 1..=64 {
            let ending = verdict(&record(signal));
            assert_eq!(
                (ending.code, ending.signal, ending.reason),
                (128 + signal, signal, ExitReason::Signaled)
            );
        }
    }

    #[test]
    fn an_oom_kill_of_a_helper_process_does_not_rename_a_clean_exit() {
        let mut w = record(0);
        w.oom = true;
        assert_eq!(verdict(&w).reason, ExitReason::Exited);
        let mut w = record(9);
        w.oom = true;
        assert_eq!(verdict(&w).reason, ExitReason::Oom);
    }

    #[test]
    fn missing_exit_file_falls_back_to_memory_events_then_to_lost() {
        let oom = verdict(&Witnesses {
            oom: true,
            memory_mib: Some(64),
            peak_bytes: Some(64 << 20),
            ..Default::default()
        });
        assert_eq!(oom.reason, ExitReason::Oom);
        assert!(
            oom.message.starts_with("killed: out of memory (limit 64 MiB, peak 64 MiB)"),
            "{}",
            oom.message
        );
        assert_eq!(verdict(&Witnesses::default()).reason, ExitReason::Lost);
    }

    #[test]
    fn full_file_system_is_named_by_the_end_of_a_payload() {
        let end = |wait_status| {
            let full = ExitFile { wait_status, full: 2, ..Default::default() };
            verdict(&Witnesses { record: Some(full), ..Default::default() })
        };
        let (exited, killed) = (end(1 << 8), end(7));
        assert_eq!((exited.reason, exited.code), (ExitReason::Exited, 1));
        assert!(exited.message.starts_with("its /tmp was full"), "{}", exited.message);
        assert_eq!(killed.reason, ExitReason::Signaled);
        assert!(killed.message.starts_with("killed by signal 7; its /tmp was full"), "{}", killed.message);
    }

    #[test]
    fn a_stop_wins_over_everything() {
        let mut w = record(0);
        w.stopped = Some(StopCause::Request);
        let ending = verdict(&w);
        assert_eq!((ending.status, ending.code), (Status::Stopped, -1));
        w.stopped = Some(StopCause::OutputLimit);
        w.output_limit = "wrote too much".to_owned();
        let ending = verdict(&w);
        assert_eq!((ending.status, ending.code, ending.signal), (Status::Failed, 153, 0));
        assert_eq!((ending.reason.as_str(), ending.message.as_str()), ("output_limit", "wrote too much"));
    }

    /// Stored by version 1, to be read for ever.
    #[test]
    fn golden_exit_file_is_read() {
        let record = ExitFile::decode(include_bytes!("../../tests/golden/exit-record-1")).unwrap();
        let want = ExitFile {
            wait_status: 42 << 8,
            pid: 2,
            user_usec: 20_527,
            system_usec: 1603,
            max_rss_kib: 9104,
            started_ns: 1_795_302_098_526_585_525,
            ended_ns: 1_795_302_098_549_667_476,
            ..ExitFile::default()
        };
        assert_eq!(record, want);
        assert_eq!(record.encode(), *include_bytes!("../../tests/golden/exit-record-1"));
    }

    #[test]
    fn a_record_survives_its_encoding_and_a_blank_page_is_none() {
        let record = ExitFile {
            wait_status: 9,
            defect: Defect::CarriageReturn,
            full: 8,
            crowded: 255,
            pid: 2,
            user_usec: 7,
            ended_ns: -1,
            ..Default::default()
        };
        assert_eq!(ExitFile::decode(&record.encode()), Some(record));
        assert_eq!(ExitFile::decode(&[0; 64]), None);
        assert_eq!(ExitFile::decode(b"JBEXIT01"), None);
    }

    #[test]
    fn job_that_fails_above_a_full_disk_says_so() {
        let on_full_disk = |wait_status| verdict(&Witnesses { disk_full: true, ..record(wait_status) });
        let failed = on_full_disk(1 << 8);
        assert_eq!((failed.reason, failed.code, failed.status), (ExitReason::DiskFull, 1, Status::Failed));
        assert!(failed.message.contains("disk is full below its volumes"), "{}", failed.message);
        let killed = on_full_disk(7);
        assert_eq!((killed.reason, killed.signal), (ExitReason::DiskFull, 7));
        assert!(killed.message.starts_with("killed by signal 7"), "{}", killed.message);
        assert_eq!(on_full_disk(0).reason, ExitReason::Exited, "it has what it wanted");
    }
}
