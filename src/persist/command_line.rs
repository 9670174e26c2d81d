//! The program `persist`: its flags, and its start.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use getopts::Options;
use log::Level;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::remote::{OpenRemote, RemoteStore};
use super::server::{Given, Server};
use super::store::{self, Layout, LocalStore, StoreLimits};
use super::{LIFELINE, OUTPUT_SOCKET, PersistError, QUERY_SOCKET, privilege};
use crate::config::daemon::DaemonConfig;
use crate::config::daemon::persist::StorageType;
use crate::diag::{self, Format, Output, Settings};
use crate::sys;
use crate::sys::inherited;

const ABOUT: &str = "persist: keeps the output and the samples of joblet's jobs

Usage:
  persist [--config FILE]     started by joblet, which gives it its sockets
  persist --check FILE...     reads files of history, such as stdout.log.gz, whole; exit code 1: something is wrong
";

/// How long an earlier process has to end.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Time from one try for the lock to the next.
const LOCK_AGAIN: Duration = Duration::from_millis(50);

/// The whole program `persist`. `open` opens a store beyond this host, where the program has one.
pub fn main(open: Option<OpenRemote>) -> ! {
    let args: Vec<String> = std::env::args_os().skip(1).map(long).collect();
    let code = match run(&args, open) {
        Ok(()) => 0,
        Err(Failure::Usage(why)) => {
            let _ = writeln!(std::io::stderr(), "persist: {why}; try persist --help");
            2
        }
        Err(Failure::Damage) => 1,
        Err(Failure::Start(why)) => {
            diag::flush();
            let _ = writeln!(std::io::stderr(), "persist: {why}");
            1
        }
    };
    diag::flush();
    let _ = std::io::stdout().flush();
    sys::exit_now(code)
}

/// The one flag that other programs write with one dash.
fn long(arg: OsString) -> String {
    let arg = arg.to_string_lossy().into_owned();
    if arg == "-config" { "--config".into() } else { arg }
}

enum Failure {
    Usage(String),
    Start(PersistError),
    /// Said on stderr already.
    Damage,
}

impl From<PersistError> for Failure {
    fn from(why: PersistError) -> Self {
        Failure::Start(why)
    }
}

fn run(args: &[String], open: Option<OpenRemote>) -> Result<(), Failure> {
    let mut options = Options::new();
    options
        .optopt("", "config", "the daemon's configuration file (default: as the daemon finds it)", "FILE")
        .optflag("", "check", "read files of history from their start to their end, and say what is wrong")
        .optflag("", "version", "print the version and exit")
        .optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|why| Failure::Usage(why.to_string()))?;
    let check = given.opt_present("check");
    if let Some(word) = given.free.first().filter(|_| !check) {
        return Err(Failure::Usage(format!("\"{}\" is not expected", word.escape_debug())));
    }
    let print = |text: String| {
        let _ = std::io::stdout().write_all(text.as_bytes());
    };
    if given.opt_present("help") {
        print(options.usage(ABOUT));
    } else if given.opt_present("version") {
        print(format!("persist {}\n", env!("CARGO_PKG_VERSION")));
    } else if check {
        return check_files(&given.free, print);
    } else {
        serve(given.opt_str("config").map(PathBuf::from), open)?;
    }
    Ok(())
}

/// Checks files one after the other, and prints a line for each and for each problem.
fn check_files(paths: &[String], print: impl Fn(String)) -> Result<(), Failure> {
    if paths.is_empty() {
        return Err(Failure::Usage("--check needs a file".to_owned()));
    }
    let mut wrong = 0;
    for path in paths {
        let report = match store::check(Path::new(path)) {
            Ok(report) => report,
            Err(why) => {
                wrong += 1;
                print(format!("{why}\n"));
                continue;
            }
        };
        let (first, last) = report.sequences.unwrap_or_default();
        print(format!(
            "{path}: {} members, {} records with sequences {first} to {last}, {} bytes, {} lines, \
             {} index rows, {} foreign members, {} problems\n",
            report.members,
            report.records,
            report.bytes,
            report.lines,
            report.index_rows,
            report.foreign_members,
            report.problem_count
        ));
        for problem in &report.problems {
            print(format!("{path}: at byte {}: {}\n", problem.offset, problem.why));
        }
        wrong += u64::from(report.problem_count > 0);
    }
    if wrong > 0 { Err(Failure::Damage) } else { Ok(()) }
}

fn serve(path: Option<PathBuf>, open: Option<OpenRemote>) -> Result<(), PersistError> {
    let take =
        |number, what| inherited::take(number).map_err(|source| PersistError::Inherit { what, source });
    let (output, queries, lifeline) = (
        listener(take(OUTPUT_SOCKET, "the socket for output")?)?,
        listener(take(QUERY_SOCKET, "the socket for queries")?)?,
        take(LIFELINE, "the daemon's lifeline")?,
    );
    let config = DaemonConfig::load(path.as_deref())?.config;
    let signals = block_signals()?;
    let owner = rustix::process::getuid().as_raw();
    let open_files = raise_open_files();
    let layout = layout(&config);
    let trees = [layout.logs.clone(), layout.metrics.clone(), layout.state.join("deleted")];
    let lock = privilege::prepare(&trees, &layout.state)?;
    // Threads inherit the user and the signal mask, so they come last.
    let level = config.logging.settings().level;
    diag::start(&Settings { level, format: Format::Text, output: Output::Stderr })?;
    diag::panic_aborts();
    if let Some(why) = &lock.stays_root {
        diag::event!(
            Level::Warn,
            "persist keeps the rights of root: the user joblet cannot pass a directory",
            directory = why.display(),
            remedy = format!("chmod o+x {}", why.display())
        );
    }
    if !lock_it(&lock.file, &lifeline, &signals, &layout)? {
        return Ok(());
    }
    let store = LocalStore::new(layout, limits(&config, open_files));
    let user = rustix::process::geteuid().as_raw();
    let given = Given { output, queries, lifeline, signals, owner, open_files, lock: lock.file };
    let remote = open_remote(&config, open)?;
    let server = Server::new(&config, given, &store, remote)?;
    diag::event!(Level::Info, "keeping history", uid = user, version = env!("CARGO_PKG_VERSION"));
    server.run();
    Ok(())
}

/// Opens the store beyond this host, if the configuration names one.
fn open_remote(
    config: &DaemonConfig,
    open: Option<OpenRemote>,
) -> Result<Option<Arc<dyn RemoteStore>>, PersistError> {
    if config.persist.storage.kind == StorageType::Local {
        return Ok(None);
    }
    let missing = || PersistError::Remote("this program is built without one".to_owned());
    open.ok_or_else(missing)?(config).map(Some).map_err(PersistError::Remote)
}

fn listener(socket: OwnedFd) -> Result<mio::net::UnixListener, PersistError> {
    let refused = |source| PersistError::Inherit { what: "a listening socket", source };
    if !socket_acceptconn(&socket).map_err(|why| refused(why.into()))? {
        return Err(refused(std::io::Error::other("it is a socket that does not listen")));
    }
    let socket = UnixListener::from(socket);
    socket.set_nonblocking(true).map_err(refused)?;
    Ok(mio::net::UnixListener::from_std(socket))
}

fn block_signals() -> Result<SignalFd, PersistError> {
    let failed = |why: nix::Error| PersistError::SetUp { doing: "block signals", source: why.into() };
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    let mut blocked = set;
    // Those of a terminal are the daemon's: it ends us.
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2] {
        blocked.add(signal);
    }
    blocked.thread_block().map_err(failed)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

/// Raises the number of files that may be open, and returns it.
fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A tuning: jobs that find no room wait for it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let number = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn layout(config: &DaemonConfig) -> Layout {
    let storage = &config.persist.storage;
    Layout {
        logs: storage.local.logs.directory.clone(),
        metrics: storage.local.metrics.directory.clone(),
        state: storage.base_dir.clone(),
    }
}

/// Bytes of text in other programs' files of one job that a query inflates.
const FOREIGN_TEXT: u64 = 16 << 30;

fn limits(config: &DaemonConfig, open_files: usize) -> StoreLimits {
    let log_bytes = match config.persist.storage.local.logs.rotation.max_size_mb {
        0 => u64::MAX,
        mib => u64::from(mib) << 20,
    };
    let default = StoreLimits::default();
    // Each job of a commit has three files, and an index at a time.
    let open_jobs = default.open_jobs.min(open_files / 16).max(1);
    // A query has a thread of its own.
    let foreign_text = FOREIGN_TEXT;
    StoreLimits { log_bytes, metrics_bytes: u64::MAX, open_jobs, foreign_text, ..default }
}

/// Waits for the end of an earlier process, and not without the daemon. `false`: a signal came first.
fn lock_it(
    file: &std::fs::File,
    lifeline: &OwnedFd,
    signals: &SignalFd,
    layout: &Layout,
) -> Result<bool, PersistError> {
    let end = Instant::now() + LOCK_WAIT;
    let again = Timespec::try_from(LOCK_AGAIN).unwrap_or_default();
    loop {
        let why = match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(why) => std::io::Error::from(why),
        };
        let mut fds = [PollFd::new(lifeline, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&again)).is_ok_and(|ready| ready > 0);
        let [gone, stop] = [0, 1].map(|n: usize| ready && !fds[n].revents().is_empty());
        if stop {
            return Ok(false);
        }
        if gone || Instant::now() >= end {
            let path = layout.state.join("persist.lock");
            return Err(PersistError::Lock { path, source: why });
        }
    }
}
