//! `rnx job log`

use jiff::Zoned;

use super::super::cli::flag::{Group, RAW, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, value};
use super::super::error::{Error, Result};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::printer::{Printer, Streams};
use super::super::reconnect::Watch;
use super::super::render::{json, text};
use super::super::resolve;
use super::{connect, range};
use crate::pb::joblet::{GetJobLogsReq, OutputStream};

/// `rnx job log` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "log"],
    alias: true,
    usage: "[flags] <job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: FLAGS,
    summary: "Print what a job has written, then follow it to its end",
    about: "Both streams of the job go to stdout; the heading goes to stderr. Ctrl-C ends the command with\n\
            130 and leaves the job alone. Without --filter, --tail and --timestamps the bytes are exact.\n\
            Of several jobs the output comes one after the other, each to its end; --json has the job's\n\
            uuid on each line then.",
    examples: &[
        "rnx job log f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "rnx job log f47ac10b | grep ERROR",
        "rnx job log --tail=100 --no-follow --timestamps f47ac10b",
        "rnx job log --stream=stderr --filter=ERROR --since=10m f47ac10b",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value("stream", "stdout|stderr", Group::Part, "Only this stream"),
    value("filter", "TEXT", Group::Part, "Only lines with this text in them"),
    value(
        "since",
        "TIME",
        Group::Part,
        "Only what was written at this time or later: 10m (ago), 2025-08-03T15:00\n\
         (here), 2025-08-03T15:00:00Z",
    ),
    value("until", "TIME", Group::Part, "Only what was written at this time or before"),
    Flag {
        short: Some('n'),
        ..value("tail", "N|all", Group::Part, "Of what is there, only the last N lines; then what follows")
    },
    value("from-seq", "N", Group::Part, "Only from this sequence number on, as --json has them"),
    switch("no-follow", None, Group::Part, "End with what is there now"),
    switch("follow", Some('f'), Group::Part, "Follow the job to its end (the default)"),
    Flag { hidden: true, ..value("lines", "N|all", Group::Part, "Another spelling of --tail") },
    switch(
        "timestamps",
        Some('t'),
        Group::Output,
        "Print before each line when it was written; --json always has it",
    ),
    RAW,
];

/// Prints what a job has written, or a part of it, and follows it to its end.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let mut request = part(values, &Zoned::now(), out)?;
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(values, out)?;
    let uuids = resolve::jobs(server, invocation)?;
    for uuid in &uuids {
        interrupt.about(uuid);
        request.uuid.clone_from(uuid);
        let mut watch = Watch::new(server);
        if out.json {
            let of = (uuids.len() > 1).then_some(uuid.as_str());
            watch.output(&request, |chunk| out.value_line(&json::chunk(chunk).of(of)))?;
            continue;
        }
        out.note(&text::log_heading(uuid));
        let mut printer = Printer::new(out, Streams::Merged, values.is("raw"));
        if values.is("timestamps") {
            printer.stamp_lines();
        }
        let ended = watch.output(&request, |chunk| printer.chunk(chunk));
        printer.finish()?;
        ended?;
        if uuids.last() != Some(uuid) {
            printer.break_line()?;
        }
    }
    Ok(())
}

/// The request for the wanted part, without the job's id.
fn part(values: &Values, now: &Zoned, out: Out) -> Result<GetJobLogsReq> {
    let (since_ns, until_ns) = range(values, now, out)?;
    let stream = match values.last("stream").as_deref() {
        None => OutputStream::OUTPUT_STREAM_UNSPECIFIED,
        Some("stdout") => OutputStream::OUTPUT_STREAM_STDOUT,
        Some("stderr") => OutputStream::OUTPUT_STREAM_STDERR,
        Some(other) => return Err(value::invalid("stream", other, "it is stdout or stderr")),
    };
    if values.is("follow") && values.is("no-follow") {
        return Err(Error::usage("--follow and --no-follow exclude each other"));
    }
    let tails = values.in_order(&["tail", "lines"]);
    Ok(GetJobLogsReq {
        stream: stream.into(),
        filter: values.last("filter").unwrap_or_default(),
        since_ns,
        until_ns,
        tail: tails.last().map_or(Ok(None), |(flag, text)| tail(flag, text))?,
        no_follow: values.is("no-follow"),
        from_seq: values.last("from-seq").map_or(Ok(0), |text| from_seq(&text))?,
        ..Default::default()
    })
}

fn tail(flag: &str, text: &str) -> Result<Option<i32>> {
    if text == "all" {
        return Ok(None);
    }
    let wrong = || value::invalid(flag, text, "give how many lines, a whole number, or all");
    digits(text).and_then(|n| n.parse().ok()).map(Some).ok_or_else(wrong)
}

fn from_seq(text: &str) -> Result<u64> {
    let wrong = || value::invalid("from-seq", text, "give a sequence number, from 1 on");
    digits(text).and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or_else(wrong)
}

/// A number without a sign, which `parse` alone would let through.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn asked(line: &str) -> Result<GetJobLogsReq> {
        let words = format!("job log {line} f47ac10b");
        let now: Zoned = "2025-08-03T12:00:00+00:00[UTC]".parse().unwrap();
        match parse(words.split_whitespace().map(Into::into).collect()) {
            Ok(Parsed::Invoke(i)) => part(&i.values, &now, Out { json: false, colour: false }),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn log_without_flags_requests_everything() {
        assert_eq!(asked("").unwrap(), GetJobLogsReq::default());
        assert_eq!(asked("--follow --tail all --raw -t").unwrap(), GetJobLogsReq::default());
    }

    #[test]
    fn every_flag_has_its_field() {
        let line = "--stream=stderr --filter=ERROR --since=10m --until 2025-08-03T13:00:00+01:00 -n 5 --no-follow --from-seq 7";
        let noon = 1_754_222_400_000_000_000;
        let want = GetJobLogsReq {
            stream: OutputStream::OUTPUT_STREAM_STDERR.into(),
            filter: "ERROR".into(),
            since_ns: noon - 600_000_000_000,
            until_ns: noon,
            tail: Some(5),
            no_follow: true,
            from_seq: 7,
            ..Default::default()
        };
        assert_eq!(asked(line).unwrap(), want);
        assert_eq!(
            asked("--tail 5 --lines 0").unwrap().tail,
            Some(0),
            "the last one wins, however it is spelled"
        );
    }

    #[test]
    fn log_range_before_the_epoch_does_not_become_no_range() {
        let long_ago = asked("--since 60000d --until 1970-01-01T00:00:00Z").unwrap();
        assert_eq!((long_ago.since_ns, long_ago.until_ns), (1, 1));
        let e = asked("--since 10m --until 20m").unwrap_err();
        assert_eq!((e.to_string().as_str(), e.exit_code(None)), ("--until is before --since", 2));
    }

    #[test]
    fn meaningless_log_flags_are_refused() {
        for line in [
            "--stream both",
            "--tail=-1",
            "--tail +1",
            "--tail many",
            "--tail 99999999999",
            "--from-seq 0",
            "--from-seq x",
            "--since yesterday",
            "--until 25:00",
            "--since 9999-01-01T00:00:00Z",
        ] {
            let e = asked(line).unwrap_err();
            assert!(e.to_string().starts_with("invalid value "), "{line}: {e}");
        }
        assert!(asked("-f --no-follow").unwrap_err().to_string().contains("exclude each other"));
    }
}
