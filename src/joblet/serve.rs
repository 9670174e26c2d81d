//! The daemon's life: log, host check, loop and gRPC server, from the start to the last call.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
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
use crate::api::access::Access;
use crate::api::{Reload, Rules, Server, StreamPump, note_handshakes, reload, start_pump};
use crate::audit::{self, Audit, Entry, Event, OnFull};
use crate::config::Loaded;
use crate::config::daemon::{AuditOnFull, DaemonConfig};
use crate::daemon::command::{Command, CommandSender, GpuBoard, SeenGpu};
use crate::daemon::{Daemon, assemble, notify};
use crate::exporter::{Counts, Exporter, Figures, GpuFigures, HistoryFigures, Tls};
use crate::persist::{Answer, Probe};
use crate::{diag, doctor};

/// How long open calls may take to end at shutdown.
const CALLS_END: Duration = Duration::from_secs(5);

/// How long the history process may take for its numbers.
const HISTORY_ANSWERS: Duration = Duration::from_millis(500);

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
    // Behind the lock of dataDir, which the daemon has now.
    let audit = match start_audit(config) {
        Ok(audit) => audit,
        Err(why) => {
            daemon.close();
            return Err(why);
        }
    };
    note_handshakes(audit.clone());
    let answers = daemon.wait_for_history(config).map_err(Failure::from);
    let mut exporter = None;
    let started = answers.and_then(|()| start_server(config, &mut daemon, pump, (&counts, &audit))).and_then(
        |server| {
            if let Some(address) = metrics {
                exporter = Some(start_exporter(
                    config,
                    address,
                    counts,
                    (daemon.commands(), daemon.gpus()),
                    (audit.clone(), server.access()),
                )?);
            }
            let reload = Reload::new(loaded.path.clone(), config.clone(), server.access(), audit.clone());
            reload_on_hang_up(reload)?;
            Ok(server)
        },
    );
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
    // Counts come first: the end is the last line.
    audit.flush();
    audit.note(Entry::new(Event::Stop));
    audit.flush();
    Ok(())
}

/// Opens the audit trail, where one is kept, and notes the start.
fn start_audit(config: &DaemonConfig) -> Result<Audit, Failure> {
    if !config.audit.enabled {
        return Ok(Audit::default());
    }
    let audit = Audit::start(audit::Settings {
        directory: config.audit.place(&config.data_dir),
        max_bytes: config.audit.max_bytes,
        keep: config.audit.keep as usize,
        on_full: match config.audit.on_full {
            AuditOnFull::Block => OnFull::Block,
            AuditOnFull::Continue => OnFull::Continue,
        },
    })?;
    let why = format!("joblet {}", env!("CARGO_PKG_VERSION"));
    audit.note(Entry { why, ..Entry::new(Event::Start) });
    Ok(audit)
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
fn start_exporter(
    config: &DaemonConfig,
    address: SocketAddr,
    counts: Counts,
    (commands, gpus): (CommandSender, GpuBoard),
    (audit, access): (Audit, Access),
) -> Result<Exporter, Failure> {
    let history = config.ipc.enabled.then(|| Probe::new(&config.persist.server.grpc_socket));
    let figures = move || {
        let (answer, asked) = oneshot::channel();
        commands.submit(Command::Figures { answer }).ok()?;
        // The loop drops a command without an answer when it ends.
        let figures = block_on(asked).ok()?.ok()?;
        Some(Figures {
            audit: audit.counters().map(|lines| (lines.written, lines.lost)),
            history: history.as_ref().map(ask_history),
            gpus: gpus.all().into_iter().map(gpu_figures).collect(),
            ..figures
        })
    };
    let tls = config.metrics.tls.then(|| {
        let own = access.clone();
        Tls::new(move || own.acceptor().map_err(|why| why.to_string()), move |pem| access.may_look(pem))
    });
    let exporter = Exporter::start(address, counts, Arc::new(figures), tls)?;
    say(Level::Info, "serving metrics", &[("address", &exporter.address())]);
    Ok(exporter)
}

/// One GPU, as the endpoint shows it.
fn gpu_figures(SeenGpu { device, standing, measured }: SeenGpu) -> GpuFigures {
    let (xids, figures) = measured.map(|found| (Some(found.xids), found.figures)).unwrap_or_default();
    GpuFigures {
        index: device.index.to_string(),
        uuid: device.uuid,
        name: device.name,
        state: standing.state.as_str(),
        job: standing.job.map(|job| job.to_string()).unwrap_or_default(),
        utilization: figures.utilization,
        memory: [figures.memory_used, figures.memory_total],
        temperature: figures.temperature,
        power: figures.power_draw,
        xids,
    }
}

/// The numbers of the history process, which may not answer.
fn ask_history(probe: &Probe) -> HistoryFigures {
    let Ok((never, _open)) = UnixStream::pair() else { return HistoryFigures::default() };
    let Answer::Given(pulse) = probe.ping(HISTORY_ANSWERS, never) else { return HistoryFigures::default() };
    HistoryFigures {
        up: pulse.healthy,
        waiting: pulse.figure("waiting_bytes"),
        records: pulse.figure("records"),
        stored: pulse.figure("stored_bytes"),
        gaps: (pulse.figure("gaps"), pulse.figure("lost_bytes")),
        failures: pulse.figure("failures"),
    }
}

fn start_server(
    config: &DaemonConfig,
    daemon: &mut Daemon,
    pump: StreamPump,
    (counts, audit): (&Counts, &Audit),
) -> Result<Server, Failure> {
    let rules = Rules::new(config, daemon.cores().clone(), host_memory_mib())?;
    let rules = rules.with_processes(daemon.most_processes());
    let (limits, user, network) = rules.usual();
    let (parts, files) = ((pump, daemon.relay(), daemon.inputs()), (daemon.uploads(), daemon.installer()));
    let server = Server::start(
        config,
        (daemon.commands(), daemon.gpus()),
        rules,
        parts,
        files,
        (counts.clone(), audit.clone()),
    )?;
    daemon.make_ready(limits, user, network);
    Ok(server)
}

fn host_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (u64::from(info.mem_unit) * info.totalram) >> 20
}
