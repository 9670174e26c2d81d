//! `rnx job metrics`

use std::time::Duration;

use jiff::Zoned;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, time, value};
use super::super::error::{Error, Result};
use super::super::full_screen;
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::reconnect::Watch;
use super::super::render::metrics;
use super::super::resolve;
use super::super::watch;
use super::{connect, range};
use crate::pb::joblet::JobMetricsRequest;

/// `rnx job metrics` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "metrics"],
    alias: false,
    usage: "[flags] <job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: FLAGS,
    summary: "Print what a job has used, then follow it to its end",
    about: "A job is sampled at its start, every few seconds, and at its end. CPU is in percent of one core; rates\n\
            are those since the sample before. n/a: this host cannot tell. With --json one object a line, with the\n\
            names of the API; what the host cannot tell is not there.\n\n\
            With --watch on a terminal: processor, memory and disk as curves; q or Ctrl-C leaves. Elsewhere it\n\
            prints lines. Exit code 1: there are no samples, as of a job that never ran.",
    examples: &[
        "rnx job metrics f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "rnx job metrics --watch train",
        "rnx job metrics --aggregate=max --interval=1m --since=1h f47ac10b",
        "rnx --json job metrics f47ac10b | jq -c '[.timestamp, .cpu.usagePercent]'",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "aggregate",
        "avg|min|max|sum",
        Group::Output,
        "One sample made of many: of all there are now, or see --interval",
    ),
    value(
        "interval",
        "TIME",
        Group::Output,
        "With --aggregate: one sample for each 1m, 1h, ... as it is over",
    ),
    value("since", "TIME", Group::Output, "From a time on (2025-08-03T15:00), or so long ago (10m, 2h30m)"),
    value("until", "TIME", Group::Output, "Up to a time; one that is past ends the command there"),
    switch("watch", None, Group::Output, "Show the job in the terminal until it ends or q is pressed"),
];

/// Prints what was measured of a job and follows it to its end.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let mut request = request(&invocation.values, out)?;
    if invocation.values.is("watch") && !out.json && full_screen::is_possible() {
        // It reads Ctrl-C as a key, and other signals by itself.
        let signals = full_screen::Signals::block()?;
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
    if any { Ok(()) } else { Err(watch::no_samples(&request.uuid)) }
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
    let interval = time::span("interval", text)?;
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
