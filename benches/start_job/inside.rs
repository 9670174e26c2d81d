//! The daemon without gRPC, in a separate process: commands, their answers, and the ends of the jobs as a log reader gets
//! them. The benchmark executes itself for it and exchanges lines with it, so that the descriptors of a thousand jobs
//! belong to the daemon and not to the benchmark, and its threads have their own scheduling.
//!
//! | request | answer |
//! |---|---|
//! | `once PROGRAM` | accepted, started, first instruction (0: it reports none), ended: ticks |
//! | `live N` | `ok` when N jobs sleep |
//! | `rate THREADS MILLISECONDS PROGRAM` | jobs, microseconds |

use std::io::{BufRead, BufReader, Write};
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use futures_executor::block_on;
use joblet::config::daemon::{Backend, DaemonConfig, OnShutdown};
use joblet::daemon::command::{Answer, Command, CommandSender, StoredFiles};
use joblet::daemon::{Daemon, assemble};
use joblet::exporter::Counts;
use joblet::job::{Enforcement, JobId, JobRef, JobSpec, Limits, NetworkMode, User};
use joblet::output::OutputReader;
use joblet::sandbox::rootfs::default_paths;

use crate::clock;
use crate::figures::Sample;
use crate::rates;

/// The argument by which the benchmark becomes this daemon.
pub const ARGUMENT: &str = "--inside";

/// Host paths of a job: the usual ones, and the payload's directory.
pub fn mounts(program: &Path) -> Vec<PathBuf> {
    let own = program.parent().expect("the payload is in a directory").to_owned();
    default_paths().into_iter().chain([own]).collect()
}

/// Whether this tree has the configuration key `network.reuseNamespaces`.
pub fn can_reuse() -> bool {
    let known = serde_yaml::to_value(DaemonConfig::default()).expect("the configuration is a tree");
    known["network"].get("reuseNamespaces").is_some()
}

/// The daemon, as the benchmark sees it.
pub struct Inside {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Inside {
    /// `reuse`: network namespaces are used again. `forgets`: jobs are remembered in memory only.
    pub fn start(payload: &Path, reuse: bool, forgets: bool) -> Inside {
        let own = std::env::current_exe().expect("our own path");
        let mut child = Program::new(own)
            .arg(ARGUMENT)
            .arg(payload)
            .arg(if reuse { "true" } else { "false" })
            .arg(if forgets { "true" } else { "false" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("we can be executed again");
        let ask = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Inside { child, ask, answers }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.ask, "{question}").expect("the inside lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the inside lives");
        assert!(!answer.is_empty(), "the inside died of: {question}");
        answer
    }

    /// Runs one job.
    pub fn once(&mut self, program: &str) -> Sample {
        let answer = self.ask(&format!("once {program}"));
        let ticks: Vec<u64> = answer.split_whitespace().map(|n| n.parse().expect("ticks")).collect();
        let [accepted, started, first, ended] = ticks[..] else { panic!("four moments: {answer}") };
        Sample { accepted, started, first, ended }
    }

    /// Starts jobs until this many sleep.
    pub fn live(&mut self, jobs: usize) {
        assert_eq!(self.ask(&format!("live {jobs}")).trim(), "ok");
    }

    /// The jobs a second that `threads` complete in this time.
    pub fn rate(&mut self, threads: usize, time: Duration, program: &str) -> f64 {
        let answer = self.ask(&format!("rate {threads} {} {program}", time.as_millis()));
        answer.trim().parse().expect("a rate")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The daemon ends when its standard input ends.
        let _ = writeln!(self.ask, "end");
        let _ = self.child.wait();
    }
}

/// The daemon itself: a loop on a separate thread, and the server of requests on this one.
pub fn serve(payload: &Path, reuse: bool, forgets: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), payload, reuse, forgets);
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        let signals = assemble::block_signals().expect("signals can be blocked");
        let daemon = Daemon::new(&config, None, signals, &Counts::default(), || {}).expect("a daemon");
        send.send(daemon.commands()).expect("somebody waits for it");
        daemon.run();
    });
    let client = Client { commands: receive.recv().expect("the loop starts") };
    let mut sleepers = 0;
    for line in std::io::stdin().lines() {
        let line = line.expect("questions are text");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["once", program] => {
                let s = client.once(program);
                println!("{} {} {} {}", s.accepted, s.started, s.first, s.ended);
            }
            ["live", wanted] => {
                let wanted: usize = wanted.parse().expect("a number");
                while sleepers < wanted {
                    client.start("/usr/bin/sleep", &["3600"]);
                    sleepers += 1;
                }
                println!("ok");
            }
            ["rate", threads, time, program] => {
                let time = Duration::from_millis(time.parse().expect("a number"));
                println!("{}", client.rate(threads.parse().expect("a number"), time, program));
            }
            _ => break,
        }
    }
    nix::sys::pthread::pthread_kill(thread.as_pthread_t(), nix::sys::signal::Signal::SIGTERM)
        .expect("the loop lives");
    thread.join().expect("the loop ends well");
}

fn config(dir: &Path, payload: &Path, reuse: bool, forgets: bool) -> DaemonConfig {
    let text = format!("network: {{reuseNamespaces: {reuse}}}");
    let mut config: DaemonConfig = serde_yaml::from_str(&text).expect("a section that exists");
    config.data_dir = dir.to_owned();
    config.runtime.base_path = dir.join("runtimes");
    config.cgroup.enforcement = Enforcement::BestEffort;
    config.process.subid_base = match (reuse, forgets) {
        (false, false) => 1_950_000_000,
        (true, false) => 1_950_100_000,
        (_, true) => 1_950_400_000,
    };
    config.joblet.on_shutdown = OnShutdown::Stop;
    if forgets {
        config.state.backend = Backend::Memory;
    }
    config.filesystem.allowed_mounts = Some(mounts(payload));
    config.joblet.max_concurrent_jobs = 2000;
    config
}

#[derive(Clone)]
struct Client {
    commands: CommandSender,
}

impl Client {
    fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> T {
        let (answer, reply) = futures_channel::oneshot::channel();
        self.commands.submit(command(answer)).expect("the loop lives");
        block_on(reply).expect("the loop answers").expect("the command is good")
    }

    fn start(&self, program: &str, args: &[&str]) -> JobId {
        let spec = Box::new(spec(program, args));
        self.ask(|answer| Command::Run { spec, uploads: Vec::new(), stored: StoredFiles::default(), answer })
            .id
    }

    fn once(&self, program: &str) -> Sample {
        let accepted = clock::now();
        let id = self.start(program, &[]);
        let started = clock::now();
        let source = self.ask(|answer| Command::Logs { job: JobRef::Exact(id), exec: String::new(), answer });
        let thread = std::thread::current();
        let listener = source.watermark.rows().listen(Box::new(move || thread.unpark()));
        let rows = loop {
            listener.acknowledge();
            let (rows, ended) = source.watermark.look();
            if ended {
                break rows;
            }
            std::thread::park();
        };
        let ended = clock::now();
        drop(listener);
        let mut reader = OutputReader::open(&source.dir, None).expect("the spool");
        let chunk = reader.next(rows).expect("the spool can be read");
        let word = chunk.and_then(|chunk| chunk.bytes.try_into().ok());
        Sample { accepted, started, first: word.map_or(0, u64::from_ne_bytes), ended }
    }

    fn rate(&self, threads: usize, time: Duration, program: &str) -> f64 {
        rates::count(threads, time, |_| {
            let client = self.clone();
            let program = program.to_owned();
            move || client.once(&program)
        })
    }
}

fn spec(program: &str, args: &[&str]) -> JobSpec {
    JobSpec {
        name: String::new(),
        command: program.into(),
        args: args.iter().map(|a| (*a).into()).collect(),
        limits: Limits { cpu: None, memory: None, io: None, cores: None, pids: 64 },
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
