//! The daemon's log lines.
//!
//! A line is an event: a message that never varies, and keys with values in the order in which the code names
//! them, `[2026-01-02T03:04:05.678Z] [INFO] job started successfully | jobId=… pid=12`. [`event!`] makes one,
//! [`limited!`] does the same for lines that clients can cause at will. Events travel through the `log` facade
//! to env_logger, whose formatter ([`mod@line`]) escapes each character that could end a line, move a cursor or
//! fake a key; the keys go beside the record in a thread-local, because a record formats on the thread that made it.
//!
//! Formatted lines go into a bounded queue and a thread of its own writes them ([`writer`]), so that a stuck
//! reader of our output stops the log and never the loop. Lines that do not fit are counted, and a line
//! reports their number. The code that ends the process calls [`flush`] first.

use std::{cell::RefCell, fmt, io, panic, path::PathBuf, sync::OnceLock};

pub use log::{Level, LevelFilter};
use serde::{Deserialize, Serialize};

mod limiter;
mod line;
mod refusal;
mod writer;

pub use limiter::Limiter;
pub use refusal::disk_remedy;
pub use writer::{flush, reopen};

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `[time] [LEVEL] message | key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// Destination of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output; the journal under systemd.
    Stdout,
    /// The standard error of the process.
    Stderr,
    /// Appended to a file, made with mode 0640.
    File(PathBuf),
}

/// How the daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Least severity that is logged.
    pub level: LevelFilter,
    /// Format of each line.
    pub format: Format,
    /// Destination of the lines.
    pub output: Output,
}

/// The reason why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The file cannot be opened for appending.
    #[error("cannot open log file {}: {source}", path.display())]
    Open {
        /// Path of the log file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The system gives no thread to write from.
    #[error("cannot start the log's thread: {0}")]
    Spawn(io::Error),
    /// Logging was started before.
    #[error("cannot install the log: there is one already")]
    Install,
}

/// Starts logging for the whole process. To be called once, after signals are blocked (the writing thread
/// inherits the mask). A set `RUST_LOG` replaces the configured level, and the first line says so.
///
/// # Errors
/// The file cannot be opened, or logging was started before.
pub fn start(settings: &Settings) -> Result<(), DiagError> {
    let lines = writer::start(&settings.output)?;
    let format = settings.format;
    let mut builder = env_logger::Builder::new();
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    match &filter {
        Some(filter) => builder.parse_filters(filter),
        // Lines are held back by the facade alone, whose level can be changed while we run.
        None => builder.filter_level(LevelFilter::Trace),
    };
    builder
        .target(env_logger::Target::Pipe(Box::new(lines)))
        .format(
            move |out, record| if is_secretive(record) { Ok(()) } else { line::write(out, record, format) },
        )
        .try_init()
        .map_err(|_| DiagError::Install)?;
    if filter.is_none() {
        log::set_max_level(settings.level);
    }
    if let Some(filter) = filter {
        event!(Level::Info, "log level comes from RUST_LOG, not from the configuration", filter = filter);
    }
    Ok(())
}

/// A function that sees the lines of gRPC's core.
type CoreWatch = Box<dyn Fn(&str) + Send + Sync>;

static CORE_WATCH: OnceLock<CoreWatch> = OnceLock::new();

/// Has a function see each line of gRPC's core that the level lets through, on the thread that wrote it, also those that are
/// suppressed for their number. It must not log. The first call of the process counts.
pub fn watch_core(watch: impl Fn(&str) + Send + Sync + 'static) {
    // A second one would see lines of the first one's server.
    let _ = CORE_WATCH.set(Box::new(watch));
}

/// Crates whose detailed lines hold the header of each signed request, with its signature and session token.
const SECRETIVE: [&str; 2] = ["rusoto_", "hyper"];

/// Whether a line is one that nobody may see, at whatever level the log is.
fn is_secretive(record: &log::Record<'_>) -> bool {
    record.level() > Level::Info && SECRETIVE.iter().any(|name| record.target().starts_with(name))
}

/// Changes the least severity of what is logged, unless `RUST_LOG` has set it.
pub fn set_level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none_or(|filter| filter.is_empty()) {
        log::set_max_level(level);
    }
}

/// Makes every panic of every thread end the process, after its line is written. A handler that panics in
/// gRPC's thread would otherwise leave a daemon that lives and answers no call.
pub fn panic_aborts() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let why = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map_or_else(|| "unknown".into(), ToString::to_string);
        if writer::started() {
            event!(Level::Error, "panic: the daemon ends here, this is a bug", why = why, place = place);
            flush();
        } else {
            eprintln!("panic at {place}: {why}");
        }
        std::process::abort();
    }));
}

/// Longest value that is written, in bytes; the rest is cut off and the cut is shown. Clients choose values.
const MAX_VALUE: usize = 1024;

thread_local! {
    /// Keys and values of the event that this thread is handing to the log right now.
    static PAIRS: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
}

/// What [`event!`] and [`limited!`] expand to: logs `message` with `pairs` for the module `target`.
pub fn emit(
    target: &'static str,
    level: Level,
    message: &dyn fmt::Display,
    pairs: &[(&'static str, &dyn fmt::Display)],
) {
    if !log::log_enabled!(target: target, level) {
        return;
    }
    let values = pairs.iter().map(|(key, value)| (*key, line::cut(value.to_string(), MAX_VALUE))).collect();
    PAIRS.set(values);
    log::log!(target: target, level, "{message}");
    // A filter behind the facade may have dropped the record and left them.
    PAIRS.take();
}

/// Logs one event: level, message, then keys with values that implement Display.
///
/// ```ignore
/// diag::event!(Level::Info, "job started successfully", jobId = id, pid = pid);
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! event {
    ($level:expr, $message:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::diag::emit(
            module_path!(),
            $level,
            &$message,
            &[$((stringify!($key), &$value as &dyn ::std::fmt::Display)),*],
        )
    };
}

/// [`event!`] for what clients can cause as often as they like: each place in the code writes a few lines in ten
/// seconds, and its next line says how many were not.
#[doc(hidden)]
#[macro_export]
macro_rules! limited {
    ($level:expr, $message:expr $(, $key:ident = $value:expr)* $(,)?) => {{
        static LIMITER: $crate::diag::Limiter = $crate::diag::Limiter::new();
        match LIMITER.admit() {
            Some(0) => $crate::diag::event!($level, $message $(, $key = $value)*),
            Some(n) => $crate::diag::event!(
                $level,
                format_args!("{} (suppressed {n} more)", $message) $(, $key = $value)*
            ),
            None => {}
        }
    }};
}

pub use event;
pub use limited;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Logging is one for the whole process, so the tests run themselves once more as a process each.
    fn in_child(test: &str, env: &[(&str, &str)]) -> (String, Option<i32>) {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--quiet"])
            .env_remove("RUST_LOG")
            .env("JOBLET_TEST_CHILD", "1")
            .envs(env.iter().copied())
            .output()
            .unwrap();
        (String::from_utf8(out.stdout).unwrap(), out.status.code())
    }

    fn is_child() -> bool {
        std::env::var_os("JOBLET_TEST_CHILD").is_some()
    }

    fn started(format: Format) {
        start(&Settings { level: LevelFilter::Info, format, output: Output::Stdout }).unwrap();
    }

    #[test]
    fn events_are_lines_with_keys_in_order() {
        if is_child() {
            started(Format::Text);
            event!(
                Level::Info,
                "job started successfully",
                jobId = "f47ac10b",
                pid = 12,
                command = "python3 a.py"
            );
            event!(Level::Debug, "not this one");
            log::warn!("plain\nline");
            flush();
            return;
        }
        let (out, code) = in_child("diag::tests::events_are_lines_with_keys_in_order", &[]);
        assert_eq!(code, Some(0));
        assert!(
            out.contains(
                "Z] [INFO] job started successfully | jobId=f47ac10b pid=12 command=\"python3 a.py\"\n"
            ),
            "{out}"
        );
        assert!(out.contains("Z] [WARN] plain\\nline\n") && !out.contains("not this one"), "{out}");
    }

    #[test]
    fn detailed_lines_of_signed_requests_are_never_written() {
        if is_child() {
            started(Format::Text);
            log::debug!(target: "rusoto_signature::signature", "authorization: hunter2");
            log::trace!(target: "hyper::client", "x-amz-security-token: hunter2");
            log::warn!(target: "hyper::client", "a warning");
            flush();
            return;
        }
        let test = "diag::tests::detailed_lines_of_signed_requests_are_never_written";
        let (out, _) = in_child(test, &[("RUST_LOG", "trace,rusoto_signature::signature=trace")]);
        assert!(out.contains("a warning") && !out.contains("hunter2"), "{out}");
    }

    #[test]
    fn rust_log_overrides_the_configuration_and_is_logged() {
        if is_child() {
            started(Format::Text);
            event!(Level::Debug, "this one");
            flush();
            return;
        }
        let (out, _) = in_child(
            "diag::tests::rust_log_overrides_the_configuration_and_is_logged",
            &[("RUST_LOG", "debug")],
        );
        assert!(out.contains("comes from RUST_LOG, not from the configuration | filter=debug\n"), "{out}");
        assert!(out.contains("[DEBUG] this one\n"), "{out}");
    }

    #[test]
    fn a_flood_of_limited_lines_is_cut_and_counted() {
        if is_child() {
            started(Format::Text);
            for i in 0..500 {
                limited!(Level::Warn, "client refused", n = i);
            }
            flush();
            return;
        }
        let (out, _) = in_child("diag::tests::a_flood_of_limited_lines_is_cut_and_counted", &[]);
        assert_eq!(out.matches("client refused").count(), limiter::BURST as usize, "{out}");
    }

    #[test]
    fn a_panic_in_any_thread_is_logged_and_ends_the_process() {
        if is_child() {
            started(Format::Json);
            panic_aborts();
            let _ = std::thread::spawn(|| panic!("no \"such\" luck")).join();
            return;
        }
        let (out, code) = in_child("diag::tests::a_panic_in_any_thread_is_logged_and_ends_the_process", &[]);
        assert_eq!(code, None, "ended by SIGABRT");
        let line = out.lines().find(|l| l.contains("panic")).unwrap();
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["level"], "ERROR");
        assert_eq!(json["why"], "no \"such\" luck");
        assert!(json["place"].as_str().unwrap().contains("diag/mod.rs"), "{line}");
    }
}
