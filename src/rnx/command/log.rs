//! `rnx job log`

use jiff::Zoned;

use super::super::cli::{Invocation, Values, value};
use super::super::error::{Error, Result};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::printer::{Printer, Streams};
use super::super::reconnect::Watch;
use super::super::render::{json, text};
use super::{connect, range, resolve};
use crate::pb::joblet::{GetJobLogsReq, OutputStream};

/// Prints what a job has written, or a part of it, and follows it to its end.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let mut request = part(values, &Zoned::now(), out)?;
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(values, out)?;
    let id = resolve::job(server, invocation)?;
    interrupt.about(&id);
    request.uuid.clone_from(&id);
    let mut watch = Watch::new(server);
    if out.json {
        return watch.output(&request, |chunk| out.value_line(&json::chunk(chunk)));
    }
    out.note(&text::log_heading(&id));
    let mut printer = Printer::new(out, Streams::Merged, values.is("raw"));
    if values.is("timestamps") {
        printer.stamp_lines();
    }
    let ended = watch.output(&request, |chunk| printer.chunk(chunk));
    printer.finish()?;
    ended
}

/// The part that is asked for, of a job that is not known yet.
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
