//! The daemon's command line, and the one place where the API and the loop meet.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use getopts::{Fail, Options};
use joblet::api::{Reload, Rules, Server, StreamPump, access, reload, start_pump};
use joblet::certs::{self, CertError, setup};
use joblet::config::Loaded;
use joblet::config::daemon::DaemonConfig;
use joblet::daemon::{Daemon, assemble, doctor, notify};
use joblet::output::watermark::Notifiers;
use joblet::{diag, sys};
use log::Level;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

/// How long open calls may take to end at shutdown.
const CALLS_END: Duration = Duration::from_secs(5);

const ABOUT: &str = "joblet: runs isolated, limited, measured Linux jobs on this host

Usage:
  joblet [--foreground] [--config FILE]    run the daemon (it never leaves the foreground)
  joblet --check-config [--config FILE]    check the configuration and print what is in force
  joblet doctor [--config FILE] [--json]   check this host; every failing line says how to mend it (exit code 1)
  joblet recover [--config FILE]           make a new job database from a damaged one and what the jobs left; the old one is kept aside
  joblet setup --dir DIR [--host NAME]... [--port N] [--enforcement strict|best-effort] [--force]
                                           make certificates and configuration files below DIR
  joblet certs init|issue|show|revoke      one more client, a look, a revocation: see joblet certs --help";

type Failure = Box<dyn std::error::Error>;

/// Wrong words on the command line: exit code 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}; try joblet --help")]
struct Usage(String);

fn main() {
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let code = match run(&args) {
        Ok(code) => code,
        Err(why) => {
            // The reason is the last line, behind what was logged before.
            diag::flush();
            let _ = writeln!(std::io::stderr(), "joblet: {why}");
            if why.is::<Usage>() { 2 } else { 1 }
        }
    };
    diag::flush();
    let _ = std::io::stdout().flush();
    sys::exit_now(code)
}

fn run(args: &[String]) -> Result<i32, Failure> {
    match args.split_first() {
        Some((word, rest)) if word == "setup" => return certified(setup::command(rest)),
        Some((word, rest)) if word == "certs" => return certified(certs::command::command(rest)),
        Some((word, rest)) if word == "doctor" => return examine(rest),
        Some((word, rest)) if word == "recover" => return recover(rest),
        _ => {}
    }
    let mut options = Options::new();
    options
        .optflag("", "foreground", "run in the foreground, as always; for service files")
        .optopt(
            "",
            "config",
            "configuration file (default: $JOBLET_CONFIG_PATH, then the usual places)",
            "FILE",
        )
        .optflag("", "check-config", "check the configuration, print it with defaults filled in, and exit")
        .optflag("", "version", "print the version and exit")
        .optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|e| match e {
        Fail::UnrecognizedOption(name) => Usage(format!("unknown flag: --{name}")),
        other => Usage(other.to_string()),
    })?;
    if let Some(word) = given.free.first() {
        return Err(Usage(format!("unknown command \"{}\"", word.escape_debug())).into());
    }
    if given.opt_present("help") {
        return print(&options.usage(ABOUT));
    }
    if given.opt_present("version") {
        return print(&format!("joblet {}\n", env!("CARGO_PKG_VERSION")));
    }
    let loaded = DaemonConfig::load(given.opt_str("config").map(PathBuf::from).as_deref())?;
    if given.opt_present("check-config") {
        for warning in &loaded.warnings {
            writeln!(std::io::stderr(), "warning: {warning}")?;
        }
        access::check(&loaded.config.security)?;
        return print(&loaded.config.effective());
    }
    // Before any thread is started: all of them inherit the mask.
    let mut signals = assemble::block_signals()?;
    without_hang_up(&mut signals)?;
    diag::start(&loaded.config.logging.settings())?;
    diag::panic_aborts();
    say(Level::Info, "configuration loaded", &[("path", &loaded.path.display())]);
    for warning in &loaded.warnings {
        say(Level::Warn, warning, &[]);
    }
    serve(&loaded, signals)?;
    say(Level::Info, "daemon stopped", &[]);
    Ok(0)
}

/// What became of a command about certificates.
fn certified(done: Result<String, CertError>) -> Result<i32, Failure> {
    match done {
        Ok(done) => print(&format!("{}\n", done.trim_end())),
        Err(why @ (CertError::ReadArguments { .. } | CertError::NameHost { .. })) => {
            Err(Usage(why.to_string()).into())
        }
        Err(why) => Err(why.into()),
    }
}

/// `joblet doctor` with the arguments after that word.
fn examine(args: &[String]) -> Result<i32, Failure> {
    let mut options = Options::new();
    options
        .optopt("", "config", "the daemon's configuration file (default: as the daemon finds it)", "FILE")
        .optflag("", "json", "print an array of {check, status, seen, remedy}")
        .optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|e| Usage(format!("doctor: {e}")))?;
    if let Some(word) = given.free.first() {
        return Err(Usage(format!("doctor: \"{}\" is not expected", word.escape_debug())).into());
    }
    if given.opt_present("help") {
        let about = "Usage: joblet doctor [--config FILE] [--json]\n\nChecks whether this host is fit for the \
                     configuration, and changes nothing. Exit code 1: something fails.";
        return print(&options.usage(about));
    }
    let findings = doctor::command(given.opt_str("config").map(PathBuf::from).as_deref());
    print(&if given.opt_present("json") {
        doctor::json(&findings)
    } else {
        doctor::text(&findings, std::io::stdout().is_terminal())
    })?;
    Ok(i32::from(findings.iter().any(|finding| finding.status == doctor::Status::Fail)))
}

/// `joblet recover` with the arguments after that word.
fn recover(args: &[String]) -> Result<i32, Failure> {
    let mut options = Options::new();
    options
        .optopt("", "config", "the daemon's configuration file (default: as the daemon finds it)", "FILE")
        .optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|e| Usage(format!("recover: {e}")))?;
    if let Some(word) = given.free.first() {
        return Err(Usage(format!("recover: \"{}\" is not expected", word.escape_debug())).into());
    }
    if given.opt_present("help") {
        let about = "Usage: joblet recover [--config FILE]\n\nReads what can be read of the job database, rebuilds \
                     what cannot from what the jobs left beside their output and exit records, and writes a new one. \
                     The old one is kept aside, and so is the output of jobs that are lost. The daemon must not run.";
        return print(&options.usage(about));
    }
    let loaded = DaemonConfig::load(given.opt_str("config").map(PathBuf::from).as_deref())?;
    let salvaged = assemble::recover(&loaded.config)?;
    let lost = salvaged.lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    let spools = salvaged.spools.map_or_else(String::new, |(number, path)| {
        format!("; the output of {number} jobs without a record is in {}", path.display())
    });
    let (saved, rebuilt, aside) = (salvaged.saved, salvaged.rebuilt, salvaged.aside.display());
    print(&format!(
        "saved {saved} jobs, rebuilt {rebuilt}, lost {lost}; the damaged database is {aside}{spools}\n"
    ))
}

/// One line of the daemon's log.
fn say(level: Level, message: &str, pairs: &[(&'static str, &dyn Display)]) {
    diag::emit("joblet", level, &message, pairs);
}

fn print(text: &str) -> Result<i32, Failure> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn serve(loaded: &Loaded<DaemonConfig>, signals: SignalFd) -> Result<(), Failure> {
    let config = &loaded.config;
    doctor::at_start(config)?;
    let pump = start_pump()?;
    // The loop runs on this thread, so what it calls at shutdown may share with us what is not thread-safe.
    let server: Rc<RefCell<Option<Server>>> = Rc::default();
    let closing = server.clone();
    let mut daemon = Daemon::new(config, signals, move || {
        notify::tell("STOPPING=1");
        if let Some(server) = closing.borrow_mut().as_mut() {
            server.begin_shutdown();
        }
    })?;
    let started = start_server(config, &mut daemon, pump).and_then(|server| {
        reload_on_hang_up(Reload::new(loaded.path.clone(), config.clone(), server.access()))?;
        Ok(server)
    });
    let started = match started {
        Ok(started) => started,
        Err(why) => {
            daemon.close();
            return Err(why);
        }
    };
    reload::say("certificates in force", started.in_force());
    let place: [(&'static str, &dyn Display); 3] = [
        ("address", &config.server.address),
        ("port", &started.port()),
        ("version", &env!("CARGO_PKG_VERSION")),
    ];
    say(Level::Info, "server started successfully", &place);
    server.replace(Some(started));
    notify::tell("READY=1");
    daemon.run();
    if let Some(server) = server.take() {
        server.finish(CALLS_END);
    }
    Ok(())
}

/// Reloads at each SIGHUP, on a thread of its own that waits for it: files are read, and the loop waits for
/// none. Signals that come meanwhile become one, which is enough: it reads what is there then.
fn reload_on_hang_up(reload: Reload) -> Result<(), Failure> {
    let mut hang_up = SigSet::empty();
    hang_up.add(Signal::SIGHUP);
    let run = move || {
        while hang_up.wait().is_ok() {
            notify::reloading();
            reload.run();
            diag::flush(); // who asked for it looks for the reason now
            notify::tell("READY=1");
        }
    };
    std::thread::Builder::new().name("reload".into()).spawn(run)?;
    Ok(())
}

/// Leaves SIGHUP, blocked as it is, to the thread that waits for it.
fn without_hang_up(signals: &mut SignalFd) -> Result<(), Failure> {
    let mut mask = SigSet::thread_get_mask()?;
    mask.remove(Signal::SIGHUP);
    signals.set_mask(&mask)?;
    Ok(())
}

fn start_server(config: &DaemonConfig, daemon: &mut Daemon, pump: StreamPump) -> Result<Server, Failure> {
    let rules = Rules::new(config, daemon.cores().clone(), host_memory_mib())?;
    let usual = rules.usual();
    let server = Server::start(config, daemon.commands(), rules, pump)?;
    daemon.make_ready(usual);
    Ok(server)
}

fn host_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (u64::from(info.mem_unit) * info.totalram) >> 20
}
