//! `rnx job metrics`

use std::time::Duration;

use jiff::Zoned;

use super::super::cli::{Invocation, Values, value};
use super::super::error::{Error, Result};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::reconnect::Watch;
use super::super::render::metrics;
use super::super::terminal::one_line;
use super::super::watch;
use super::{connect, range, resolve};
use crate::job::units;
use crate::pb::joblet::JobMetricsRequest;

/// Prints what was measured of a job and follows it to its end.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let mut request = request(&invocation.values, out)?;
    if invocation.values.is("watch") && !out.json && watch::is_possible() {
        // It reads Ctrl-C as a key, and other signals by itself.
        let signals = watch::Signals::block()?;
        let server = connect(&invocation.values, out)?;
        request.uuid = resolve::job(server, invocation)?;
        return watch::show(server, request, signals, out);
    }
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(&invocation.values, out)?;
    request.uuid = resolve::job(server, invocation)?;
    interrupt.about(&request.uuid);
    let mut any = false;
    Watch::new(server).samples(&request, |sample| {
        any = true;
        if out.json { out.value_line(&metrics::json(sample)) } else { out.text(&metrics::text(sample)) }
    })?;
    if any { Ok(()) } else { Err(none(&request.uuid)) }
}

/// There are no samples, or none in the range.
pub(crate) fn none(uuid: &str) -> Error {
    let text =
        format!("no metrics available for job {} (metrics collection may not be enabled)", one_line(uuid));
    Error::Follow(text.into()).hint("a job that never ran has none, and --since and --until may leave none")
}

fn request(values: &Values, out: Out) -> Result<JobMetricsRequest> {
    let aggregate = values.last("aggregate").unwrap_or_default();
    if !["", "avg", "min", "max", "sum"].contains(&aggregate.as_str())
        || values.last("aggregate").is_some_and(|a| a.is_empty())
    {
        return Err(value::invalid("aggregate", &aggregate, "it is avg, min, max or sum"));
    }
    let interval_s = match values.last("interval") {
        None => 0,
        Some(_) if aggregate.is_empty() => {
            return Err(Error::usage("--interval needs --aggregate: avg, min, max or sum"));
        }
        Some(text) => seconds(&text)?,
    };
    if values.is("watch") && !aggregate.is_empty() {
        return Err(Error::usage(
            "--watch shows samples as they come; it and --aggregate exclude each other",
        ));
    }
    let (since_ns, until_ns) = range(values, &Zoned::now(), out)?;
    Ok(JobMetricsRequest { since_ns, until_ns, aggregate, interval_s, ..JobMetricsRequest::default() })
}

/// `--interval` in whole seconds.
fn seconds(text: &str) -> Result<i32> {
    let wrong = |why: &str| value::invalid("interval", text, why);
    let interval = units::parse_duration(text).map_err(|e| wrong(&e.to_string()))?;
    match i32::try_from(interval.as_secs()) {
        Ok(seconds @ 1..) if interval == Duration::from_secs(interval.as_secs()) => Ok(seconds),
        _ => Err(wrong("it is a whole number of seconds, from 1s")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn of(flags: &str) -> Result<JobMetricsRequest> {
        let line = format!("job metrics {flags} f47ac10b");
        let words = line.split_whitespace().map(Into::into).collect();
        let Ok(Parsed::Invoke(invocation)) = parse(words) else { panic!("{line}") };
        request(&invocation.values, Out { json: false, colour: false })
    }

    #[test]
    fn flags_become_the_fields_of_the_request() {
        let all =
            of("--aggregate=avg --interval 1m --since=2024-01-15T10:30:00Z --until=2024-01-15T11:30:00Z")
                .unwrap();
        assert_eq!((all.aggregate.as_str(), all.interval_s), ("avg", 60));
        assert_eq!(all.until_ns - all.since_ns, 3_600_000_000_000);
        assert_eq!(all.since_ns, 1_705_314_600_000_000_000);
        assert_eq!(of("").unwrap(), JobMetricsRequest::default());
        assert!(of("--since 10m").unwrap().since_ns > 1_700_000_000_000_000_000);
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_by_name() {
        for (flags, expected) in [
            ("--aggregate=median", "invalid value \"median\" for --aggregate: it is avg, min, max or sum"),
            ("--aggregate=", "--aggregate"),
            ("--interval=5s", "--interval needs --aggregate"),
            ("--aggregate=avg --interval=500ms", "a whole number of seconds"),
            ("--aggregate=avg --interval=x", "--interval"),
            ("--since=yesterday", "--since"),
            ("--since=1m --until=2m", "--until is before --since"),
            ("--watch --aggregate=sum", "exclude each other"),
        ] {
            let error = of(flags).unwrap_err();
            assert!(error.to_string().contains(expected), "{flags}: {error}");
            assert_eq!(error.exit_code(None), 2, "{flags}");
        }
    }
}
