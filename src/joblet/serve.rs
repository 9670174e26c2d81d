//! The daemon's life: log, host check, loop and gRPC server, from the start to the last call.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_executor::block_on;
use log::Level;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use super::Failure;
use crate::api::{Reload, Rules, Server, StreamPump, reload, start_pump};
use crate::config::Loaded;
use crate::config::daemon::DaemonConfig;
use crate::daemon::command::{Command, CommandSender};
use crate::daemon::{Daemon, assemble, notify};
use crate::exporter::{Counts, Exporter};
use crate::{diag, doctor};

/// How long open calls may take to end at shutdown.
const CALLS_END: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal ends it.
pub(super) fn run(path: Option<&Path>) -> Result<i32, Failure> {
    let loaded = DaemonConfig::load(path)?;
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

/// Writes one line of the daemon's log.
fn say(level: Level, message: &str, pairs: &[(&'static str, &dyn Display)]) {
    diag::emit("joblet", level, &message, pairs);
}

fn serve(loaded: &Loaded<DaemonConfig>, signals: SignalFd) -> Result<(), Failure> {
    let config = &loaded.config;
    doctor::at_start(config)?;
    let pump = start_pump()?;
    // The loop runs on this thread, so what it calls at shutdown may share with us what is not thread-safe.
    let server: Rc<RefCell<Option<Server>>> = Rc::default();
    let closing = server.clone();
    let metrics = config.metrics.address()?;
    let counts = if metrics.is_some() { Counts::on() } else { Counts::default() };
    let mut daemon = Daemon::new(config, Some(&loaded.path), signals, &counts, move || {
        notify::tell("STOPPING=1");
        if let Some(server) = closing.borrow_mut().as_mut() {
            server.begin_shutdown();
        }
    })?;
    let answers = daemon.wait_for_history(config).map_err(Failure::from);
    let mut exporter = None;
    let started =
        answers.and_then(|()| start_server(config, &mut daemon, pump, &counts)).and_then(|server| {
            if let Some(address) = metrics {
                exporter = Some(start_exporter(address, counts, daemon.commands())?);
            }
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
    drop(exporter);
    if let Some(server) = server.take() {
        server.finish(CALLS_END);
    }
    Ok(())
}

/// Reloads at each SIGHUP, on a thread of its own, because it reads files and the loop waits for none. Signals
/// that arrive during a reload become one, which is enough: that reload reads the files as they are then.
fn reload_on_hang_up(reload: Reload) -> Result<(), Failure> {
    let mut hang_up = SigSet::empty();
    hang_up.add(Signal::SIGHUP);
    let run = move || {
        while hang_up.wait().is_ok() {
            notify::reloading();
            reload.run();
            diag::flush(); // the sender of SIGHUP looks for the reason now
            notify::tell("READY=1");
        }
    };
    std::thread::Builder::new().name("reload".into()).spawn(run)?;
    Ok(())
}

/// Leaves SIGHUP, which stays blocked, to the thread that waits for it.
fn without_hang_up(signals: &mut SignalFd) -> Result<(), Failure> {
    let mut mask = SigSet::thread_get_mask()?;
    mask.remove(Signal::SIGHUP);
    signals.set_mask(&mask)?;
    Ok(())
}

/// Serves `/metrics`, with numbers from the loop.
fn start_exporter(address: SocketAddr, counts: Counts, commands: CommandSender) -> Result<Exporter, Failure> {
    let figures = move || {
        let (answer, asked) = oneshot::channel();
        commands.submit(Command::Figures { answer }).ok()?;
        // The loop drops a command without an answer when it ends.
        block_on(asked).ok()?.ok()
    };
    let exporter = Exporter::start(address, counts, Arc::new(figures))?;
    say(Level::Info, "serving metrics", &[("address", &exporter.address())]);
    Ok(exporter)
}

fn start_server(
    config: &DaemonConfig,
    daemon: &mut Daemon,
    pump: StreamPump,
    counts: &Counts,
) -> Result<Server, Failure> {
    let rules = Rules::new(config, daemon.cores().clone(), host_memory_mib())?;
    let rules = rules.with_processes(daemon.most_processes());
    let (limits, user, network) = rules.usual();
    let (parts, files) = ((pump, daemon.relay()), (daemon.uploads(), daemon.installer()));
    let server = Server::start(config, daemon.commands(), rules, parts, files, counts.clone())?;
    daemon.make_ready(limits, user, network);
    Ok(server)
}

fn host_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (u64::from(info.mem_unit) * info.totalram) >> 20
}
