//! The flags of the commands about the host, and the stream that two of them follow.

use std::sync::mpsc::channel;
use std::thread;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Flag, Invocation, Values, value as values};
use super::super::error::Result;
use super::super::full_screen::{self, Picture, Signals};
use super::super::out::Out;
use super::super::render::{monitor, monitor_json};
use super::connect;
use crate::pb::joblet::{StreamMetricsReq, SystemMetricsRes};

/// Parts of a sample, as the API names them.
const PARTS: [&str; 6] = ["cpu", "memory", "disk", "network", "io", "process"];
/// The longest interval, seconds.
const LONGEST: i32 = 3600;

/// The flag `--filter`.
pub(super) const FILTER: Flag =
    value("filter", "PART,...", Group::Output, "Only these parts: cpu, memory, disk, network, io, process");
/// The flag `--compact`.
pub(super) const COMPACT: Flag = switch("compact", None, Group::Output, "One line a sample");
/// The flag `--interval`.
pub(super) const INTERVAL: Flag =
    value("interval", "SECONDS", Group::Output, "Seconds from one sample to the next (default 5)");

/// The parts of `--filter`, which may be given several times.
///
/// # Errors
/// A part has another name.
pub(super) fn filter(from: &Values) -> Result<Vec<String>> {
    let given = from.all("filter");
    let parts: Vec<String> =
        given.iter().flat_map(|list| list.split(',')).map(|part| part.trim().to_owned()).collect();
    match parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        Some(_) => {
            Err(values::invalid("filter", &given.join(","), &format!("there are {}", PARTS.join(", "))))
        }
        None => Ok(parts),
    }
}

/// The request of a stream.
///
/// # Errors
/// A flag is out of range.
pub(super) fn request(from: &Values) -> Result<StreamMetricsReq> {
    let text = from.last("interval").unwrap_or_else(|| "5".to_owned());
    let seconds = text.strip_suffix('s').unwrap_or(&text).parse().ok().filter(|n| (1..=LONGEST).contains(n));
    let why = format!("it is a number of seconds, 1 to {LONGEST}");
    let interval = seconds.ok_or_else(|| values::invalid("interval", &text, &why))?;
    Ok(StreamMetricsReq {
        intervalSeconds: interval,
        metricTypes: filter(from)?,
        ..StreamMetricsReq::default()
    })
}

/// The lines of a sample in a terminal of so many columns.
pub(super) type Draw = fn(&SystemMetricsRes, &[String], usize) -> Vec<String>;

/// Follows the host: on a terminal in one picture until the user leaves, elsewhere sample after sample as text or JSON.
///
/// # Errors
/// A flag is out of range, or the server ends the stream.
pub(super) fn follow(invocation: &Invocation, out: Out, draw: Draw) -> Result<()> {
    let request = request(&invocation.values)?;
    let filter = request.metricTypes.clone();
    let compact = invocation.values.is("compact");
    if out.json || compact || !full_screen::is_possible() {
        let server = connect(&invocation.values, out)?;
        return server.host_samples(&request, |sample| {
            if out.json {
                out.value_line(&monitor_json::json(sample))
            } else if compact {
                out.text(&monitor::line(sample))
            } else {
                out.text(&format!("{}\n\n", draw(sample, &filter, usize::MAX).join("\n")))
            }
        });
    }
    // It reads Ctrl-C as a key, and other signals by itself. Before the channel: gRPC's threads must inherit the mask.
    let signals = Signals::block()?;
    let server = connect(&invocation.values, out)?;
    let (tell, samples) = channel();
    let read = move || {
        let ended = server.host_samples(&request, |sample| {
            // A receiver that is gone means that the user has left.
            let _ = tell.send(Ok(sample.clone()));
            Ok(())
        });
        if let Err(why) = ended {
            let _ = tell.send(Err(why));
        }
    };
    thread::Builder::new().name("host".into()).spawn(read)?;
    let mut view = View { newest: None, filter, draw };
    full_screen::show(&samples, &signals, &mut view).map(drop)
}

struct View {
    newest: Option<SystemMetricsRes>,
    filter: Vec<String>,
    draw: Draw,
}

impl Picture for View {
    type Update = SystemMetricsRes;

    fn add(&mut self, update: SystemMetricsRes) {
        self.newest = Some(update);
    }

    fn lines(&self, width: usize, _rows: usize) -> Vec<String> {
        self.newest.as_ref().map(|sample| (self.draw)(sample, &self.filter, width)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn of(flags: &str) -> Result<StreamMetricsReq> {
        let words = format!("monitor watch {flags}").split_whitespace().map(Into::into).collect();
        let Ok(Parsed::Invoke(invocation)) = parse(words) else { panic!("{flags}") };
        request(&invocation.values)
    }

    #[test]
    fn flags_become_the_fields_of_the_request() {
        assert_eq!(of("").unwrap().intervalSeconds, 5);
        let all = of("--interval=10s --filter=cpu,memory --filter io").unwrap();
        assert_eq!(
            (all.intervalSeconds, all.metricTypes),
            (10, ["cpu", "memory", "io"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn flags_out_of_range_are_refused_by_name() {
        for (flags, name) in [
            ("--interval=0", "--interval"),
            ("--interval=3601", "--interval"),
            ("--interval=soon", "--interval"),
            ("--filter=gpu", "--filter"),
            ("--filter=cpu,", "--filter"),
        ] {
            let error = of(flags).unwrap_err();
            assert!(error.to_string().contains(name), "{flags}: {error}");
        }
    }
}
