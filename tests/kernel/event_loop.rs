//! The loop with its threads, but without gRPC: commands through its mailbox, answers back.

use std::os::unix::thread::JoinHandleExt;
use std::time::Duration;

use futures_executor::block_on;
use joblet::config::daemon::DaemonConfig;
use joblet::daemon::command::{Answer, Command, CommandError, CommandSender, Page, StoredFiles};
use joblet::daemon::{Daemon, assemble};
use joblet::exporter::Counts;
use joblet::job::limits::MemoryMib;
use joblet::job::{Enforcement, ExitReason, JobRef, JobSpec, JobView, Limits, NetworkMode, Status, User};
use joblet::output::OutputReader;

use crate::helper::eventually;

/// A loop on a thread of its own, ended by the signal that ends the daemon.
pub(crate) struct LoopUnderTest {
    commands: CommandSender,
    thread: Option<std::thread::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl LoopUnderTest {
    pub(crate) fn start(tune: impl FnOnce(&mut DaemonConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = DaemonConfig { data_dir: dir.path().to_owned(), ..DaemonConfig::default() };
        config.cgroup.enforcement = Enforcement::BestEffort;
        // Ids of this file alone: nodes of the e2e tier use those from 1_879_048_192 on, jobs of this tier those from 1_900_000_000.
        config.process.subid_base = 1_860_000_000;
        config.joblet.on_shutdown = joblet::config::daemon::OnShutdown::Stop;
        config.runtime.base_path = dir.path().join("runtimes");
        tune(&mut config);
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let signals = assemble::block_signals().unwrap();
            let daemon = Daemon::new(&config, None, signals, &Counts::default(), || {}).unwrap();
            send.send(daemon.commands()).unwrap();
            daemon.run();
        });
        LoopUnderTest { commands: receive.recv().expect("the loop starts"), thread: Some(thread), dir }
    }

    pub(crate) fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, CommandError> {
        let (answer, reply) = futures_channel::oneshot::channel();
        self.commands.submit(command(answer))?;
        block_on(reply).expect("the loop answers")
    }

    pub(crate) fn run(&self, spec: JobSpec) -> Result<JobView, CommandError> {
        self.ask(|answer| Command::Run {
            spec: Box::new(spec),
            uploads: Vec::new(),
            stored: StoredFiles::default(),
            answer,
        })
    }

    pub(crate) fn ended(&self, view: &JobView) -> JobView {
        eventually("the job has ended", || {
            let now = self.ask(|answer| Command::Status { job: JobRef::Exact(view.id), answer }).unwrap();
            now.ending.is_some().then_some(now)
        })
    }

    fn output(&self, view: &JobView) -> String {
        let mut reader =
            OutputReader::open(&self.dir.path().join("spool").join(view.id.to_string()), None).unwrap();
        let source = self
            .ask(|answer| Command::Logs { job: JobRef::Exact(view.id), exec: String::new(), answer })
            .unwrap();
        let rows = source.watermark.look().0;
        let chunks = std::iter::from_fn(|| reader.next(rows).unwrap());
        chunks.map(|chunk| String::from_utf8(chunk.bytes).unwrap()).collect()
    }
}

impl Drop for LoopUnderTest {
    fn drop(&mut self) {
        let thread = self.thread.take().expect("taken here only");
        nix::sys::pthread::pthread_kill(thread.as_pthread_t(), nix::sys::signal::Signal::SIGTERM).unwrap();
        thread.join().unwrap();
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("run/exit")).unwrap().collect();
        assert!(left.is_empty(), "exit records are left: {left:?}");
    }
}

pub(crate) fn spec(argv: &[&str]) -> JobSpec {
    let mut words = argv.iter().map(|word| (*word).to_owned());
    JobSpec {
        name: String::new(),
        command: words.next().unwrap(),
        args: words.collect(),
        limits: Limits { cpu: None, memory: MemoryMib::new(64, 64).ok(), io: None, cores: None, pids: 64 },
        work_dir: "/work".into(),
        environment: Vec::new(),
        secrets: Vec::new(),
        network: NetworkMode::None,
        egress: None,
        rate: Default::default(),
        publish: Vec::new(),
        volumes: Vec::new(),
        gpus: None,
        runtime: None,
        writable: false,
        stdin: false,
        user: User::Root,
        run_as: Default::default(),
        profile: Default::default(),
        timeout: None,
        stop_grace: None,
        upload_paths: Vec::new(),
        upload_handles: Vec::new(),
        not_before_ns: None,
        request_id: String::new(),
        client: Default::default(),
        part: None,
        build: None,
    }
}

#[test]
fn a_job_runs_ends_and_is_deleted_with_its_output() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    let view = under_test.run(spec(&["sh", "-c", "echo out; echo err >&2; exit 3"])).unwrap();
    let end = under_test.ended(&view);
    let ending = end.ending.clone().unwrap();
    assert_eq!((end.status, ending.code, ending.reason), (Status::Failed, 3, ExitReason::Exited));
    assert!(end.started_ns.unwrap() <= end.ended_ns.unwrap());
    let mut lines: Vec<String> = under_test.output(&view).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    under_test.ask(|answer| Command::Delete { job: JobRef::Exact(view.id), answer }).unwrap();
    assert!(!under_test.dir.path().join("spool").join(view.id.to_string()).exists());
    let gone = under_test.ask(|answer| Command::Status { job: JobRef::Exact(view.id), answer });
    assert_eq!(gone.unwrap_err(), CommandError::NotFound(view.id.to_string()));
}

#[test]
fn command_that_cannot_run_fails_with_127_or_126_and_says_why() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    for (command, code) in [("no-such-program", 127), ("/etc/passwd", 126), ("/usr", 126)] {
        let end = under_test.run(spec(&[command])).unwrap();
        let ending = end.ending.clone().expect("the answer comes when the start has failed");
        assert_eq!(
            (ending.code, ending.reason),
            (code, ExitReason::StartFailed),
            "{command}: {}",
            ending.message
        );
        assert!(ending.message.contains(command), "{}", ending.message);
    }
}

#[test]
fn a_payload_that_ignores_term_is_killed_after_the_grace_period() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    let view =
        under_test.run(spec(&["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])).unwrap();
    eventually("the trap is set", || (under_test.output(&view) == "ready\n").then_some(()));
    let end =
        under_test.ask(|answer| Command::Stop { job: JobRef::Exact(view.id), grace: None, answer }).unwrap();
    assert_eq!((end.status, end.ending.unwrap().code), (Status::Stopped, -1));
    let again = under_test.ask(|answer| Command::Stop { job: JobRef::Exact(view.id), grace: None, answer });
    assert!(matches!(again, Err(CommandError::WrongState(text)) if text.contains("current status: STOPPED")));
}

#[test]
fn a_timeout_stops_the_job_and_says_so() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    let mut sleeper = spec(&["sleep", "1000"]);
    sleeper.timeout = Some(Duration::from_millis(50));
    let view = under_test.run(sleeper).unwrap();
    let ending = under_test.ended(&view).ending.unwrap();
    assert_eq!((ending.status, ending.reason, ending.code), (Status::Stopped, ExitReason::Timeout, -1));
    assert!(ending.message.contains("50ms"), "{}", ending.message);
}

#[test]
fn admission_bounds_live_jobs_and_shutdown_stops_them() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|config| {
        config.joblet.max_concurrent_jobs = 3;
        config.joblet.max_queued_jobs = 1;
    });
    for _ in 0..3 {
        under_test.run(spec(&["sleep", "1000"])).unwrap();
    }
    let waits = under_test.run(spec(&["true"])).unwrap();
    assert_eq!((waits.status, waits.queue_position), (Status::Initializing, 1));
    let refused = under_test.run(spec(&["true"])).unwrap_err();
    assert!(matches!(&refused, CommandError::Exhausted(text) if text.contains("maxQueuedJobs")), "{refused}");
    let page = under_test
        .ask(|answer| Command::List { page: Page { limit: 2, ..Page::default() }, answer })
        .unwrap();
    assert_eq!((page.jobs.len(), page.next), (2, Some(2)));
    // Dropping ends the loop with three jobs alive; it joins only when all of them are gone.
}

// The collector may report the end of the output before the spawner reports the start: the loop forgot the first report and
// waited for ever. Only many spawns at a time show it.
#[test]
fn jobs_that_end_before_their_start_is_reported_end_normally() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let views: Vec<JobView> = (0..50).map(|_| under_test.run(spec(&["true"])).unwrap()).collect();
                for view in &views {
                    assert_eq!(under_test.ended(view).status, Status::Completed);
                }
            });
        }
    });
    let deleted = under_test.ask(|answer| Command::DeleteAll { answer }).unwrap();
    assert_eq!((deleted.deleted, deleted.skipped), (400, 0));
}
