//! The whole daemon but gRPC: a command through the door, its answer, and the end of the job as a log reader hears it.

use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use futures_executor::block_on;
use joblet::config::daemon::{DaemonConfig, Enforcement};
use joblet::daemon::commands::{Answer, Command, Door};
use joblet::daemon::{Daemon, wiring};
use joblet::job::{JobId, JobRef, JobSpec, NetworkMode};
use joblet::output::SpoolReader;

use crate::clock;
use crate::figures::Sample;
use crate::pipeline::{limits, mounts};

/// A loop on a thread of its own.
pub struct DoorUnderTest {
    door: Door,
    news: Receiver<JobId>,
    thread: Option<std::thread::JoinHandle<()>>,
    program: String,
    _dir: tempfile::TempDir,
}

impl DoorUnderTest {
    pub fn new(program: &Path) -> DoorUnderTest {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = DaemonConfig { data_dir: dir.path().to_owned(), ..DaemonConfig::default() };
        config.cgroup.enforcement = Enforcement::BestEffort;
        config.process.subid_base = 1_950_001_000;
        config.filesystem.allowed_mounts = Some(mounts(program));
        let (send, receive) = channel();
        let (tell, news) = channel();
        let thread = std::thread::spawn(move || {
            let signals = wiring::block_signals().expect("signals can be blocked");
            let tell = move |id| {
                // The reader is gone only when the benchmark is over.
                let _ = tell.send(id);
            };
            let daemon = Daemon::new(&config, signals, Arc::new(tell), || {}).expect("a daemon");
            send.send(daemon.door()).expect("somebody waits for it");
            daemon.run();
        });
        let door = receive.recv().expect("the loop starts");
        let program = program.to_str().expect("a plain path").to_owned();
        DoorUnderTest { door, news, thread: Some(thread), program, _dir: dir }
    }

    fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> T {
        let (answer, reply) = futures_channel::oneshot::channel();
        self.door.submit(command(answer)).expect("the loop lives");
        block_on(reply).expect("the loop answers").expect("the command is good")
    }

    pub fn run(&mut self) -> Sample {
        let spec = self.spec();
        let accepted = clock::now();
        let view = self.ask(|answer| Command::Run { spec: Box::new(spec), uploads: Vec::new(), answer });
        let started = clock::now();
        let source = self.ask(|answer| Command::Logs { job: JobRef::Exact(view.id), answer });
        source.progress.watch();
        let rows = loop {
            source.progress.heard();
            let (rows, ended) = source.progress.look();
            if ended {
                break rows;
            }
            self.news.recv().expect("the loop tells");
        };
        let ended = clock::now();
        let mut reader = SpoolReader::open(&source.dir).expect("the spool");
        let chunk = reader.next(rows).expect("the spool can be read").expect("the payload reports");
        let first = u64::from_ne_bytes(chunk.bytes.try_into().expect("eight bytes"));
        while self.news.try_recv().is_ok() {}
        Sample { accepted, started, first, ended, stages: Vec::new() }
    }

    fn spec(&self) -> JobSpec {
        JobSpec {
            name: String::new(),
            command: self.program.clone(),
            args: Vec::new(),
            limits: limits(),
            work_dir: "/work".into(),
            environment: Vec::new(),
            secrets: Vec::new(),
            network: NetworkMode::None,
            timeout: None,
            upload_paths: Vec::new(),
        }
    }
}

impl Drop for DoorUnderTest {
    fn drop(&mut self) {
        let thread = self.thread.take().expect("taken here only");
        nix::sys::pthread::pthread_kill(thread.as_pthread_t(), nix::sys::signal::Signal::SIGTERM)
            .expect("the loop lives");
        thread.join().expect("the loop ends well");
    }
}
