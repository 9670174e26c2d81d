//! `rnx job wait`
//!
//! No polling: the server ends the stream of a job's output when the job has ended, so rnx waits for the end of
//! that stream. When the server goes away, its jobs may keep running without it, and the wait continues with its
//! successor.

use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, time};
use super::super::error::{Error, Result};
use super::super::exit;
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::progress::{self, Live};
use super::super::reconnect::Watch;
use super::super::render::{is_terminal_status, json, short, span, text};
use super::super::resolve;
use super::super::server::Server;
use super::super::terminal::one_line;
use super::{QUERY, connect};
use crate::job::units;
use crate::pb::joblet::{GetJobStatusReq, GetJobStatusRes};

/// `rnx job wait` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "wait"],
    alias: false,
    usage: "[flags] <job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: FLAGS,
    summary: "Wait for the end of jobs and exit with their code",
    about: "Prints a line for each job when all of them have ended, in the order of the command line. When a job\n\
            did not end by itself, the reason goes to stderr. rnx waits for a server that restarts meanwhile.\n\n\
            Exit codes: the first one that is not 0, as `job run --wait` has it; with --any that of the job\n\
            that ended first. 7: the time of --timeout is over; 130: Ctrl-C. The jobs go on in both cases.",
    examples: &[
        "rnx job wait f47ac10b && echo done",
        "rnx job wait --timeout=10m train evaluate",
        "rnx job wait --any --json f47ac10b 6ba7b810",
    ],
    statuses: &["RUNNING", "INITIALIZING", "SCHEDULED"],
    failure: None,
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[
    switch("any", None, Group::Waiting, "Until the first of them has ended"),
    value("timeout", "TIME", Group::Waiting, "Give up after this time: 30s, 5m, 1h30m; the jobs go on"),
];

/// Waits for the end of jobs; the exit code is theirs: of the first one, in the order of the command line,
/// whose code is not 0, or with `--any` of the one that ended first.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let values = &invocation.values;
    let time_limit = TimeLimit::of(values)?;
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(values, out)?;
    let mut jobs = Vec::new();
    for text in &invocation.operands {
        // Every word is resolved before the wait for the first job begins.
        jobs.push(status(server, &resolve::id_of(server, text)?, QUERY)?);
    }
    if let Some(job) = jobs.first() {
        interrupt.about(&job.uuid);
    }
    let wait = Wait { server, out, time_limit, begun: Instant::now(), all: jobs.len() };
    let is_seen = progress::is_possible(out);
    let waited = jobs.iter().any(|job| !is_terminal_status(&job.status));
    let ended = if values.is("any") { vec![wait.for_any(jobs, 0)?] } else { wait.for_all(jobs)? };
    if is_seen && waited {
        out.note(&summary(&ended, wait.begun.elapsed()));
    }
    if out.json {
        out.value(&ended.iter().map(json::shown).collect::<Vec<_>>())?;
    }
    Ok(ended.iter().map(exit::of_job).find(|code| *code != 0).unwrap_or(0))
}

/// Until when we wait.
#[derive(Debug, Clone, Copy)]
struct TimeLimit(Option<(Instant, Duration)>);

impl TimeLimit {
    fn of(values: &Values) -> Result<Self> {
        let Some(text) = values.last("timeout") else { return Ok(TimeLimit(None)) };
        let bound = time::span("timeout", &text)?;
        // A time beyond the range of the clock means no timeout.
        Ok(TimeLimit(Instant::now().checked_add(bound).map(|end| (end, bound))))
    }

    /// The time that is left; `None`: no timeout.
    fn left(&self) -> Option<Duration> {
        self.0.map(|(end, _)| end.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    fn refusal(&self, waiting: &[GetJobStatusRes]) -> Error {
        let bound = self.0.map(|(_, bound)| units::format_duration(bound)).unwrap_or_default();
        let word = |job: &GetJobStatusRes| format!("{} ({})", short(&job.uuid), one_line(&job.status));
        let names: Vec<String> = waiting.iter().map(word).collect();
        let text = format!("not ended within {bound}: {}", names.join(", "));
        Error::Call(RpcStatusCode::DEADLINE_EXCEEDED, text.into())
    }
}

struct Wait {
    server: &'static Server,
    out: Out,
    time_limit: TimeLimit,
    begun: Instant,
    /// How many jobs the command names.
    all: usize,
}

impl Wait {
    /// One after the other: all of them end before the wait does, so the order costs nothing.
    fn for_all(&self, jobs: Vec<GetJobStatusRes>) -> Result<Vec<GetJobStatusRes>> {
        let mut ended = Vec::with_capacity(jobs.len());
        for job in jobs {
            ended.push(self.for_any(vec![job], ended.len())?);
        }
        Ok(ended)
    }

    /// The first of these to end, after `before` others of the command.
    fn for_any(&self, mut jobs: Vec<GetJobStatusRes>, before: usize) -> Result<GetJobStatusRes> {
        let mut watch = Watch::new(self.server);
        loop {
            if let Some(at) = jobs.iter().position(|job| is_terminal_status(&job.status)) {
                let job = jobs.swap_remove(at);
                self.tell(&job)?;
                return Ok(job);
            }
            let ids: Vec<&str> = jobs.iter().map(|job| job.uuid.as_str()).collect();
            let seen = self.progress(&jobs, before);
            let first = self.server.first_end(&ids, self.time_limit.left());
            drop(seen);
            match first {
                Ok(at) => {
                    jobs[at] = watch.status(&jobs[at].uuid, QUERY)?;
                    if !is_terminal_status(&jobs[at].status) {
                        return Err(cut_off(&jobs[at]));
                    }
                }
                Err(e) if e.is_unreachable() && !self.time_limit.is_over() => {
                    self.look_again(&mut watch, &mut jobs, e)?
                }
                Err(Error::Call(RpcStatusCode::DEADLINE_EXCEEDED, _)) => {
                    return Err(self.time_limit.refusal(&jobs));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// On a terminal, the line that says what is waited for and for how long already.
    fn progress(&self, jobs: &[GetJobStatusRes], before: usize) -> Option<Live> {
        let what = waiting_for(jobs, before, self.all);
        let begun = self.begun;
        let line = move || format!("Waiting for {what}, {} so far", span::took(begun.elapsed().as_secs()));
        progress::is_possible(self.out).then(|| Live::draw(line))
    }

    /// The server has gone: waits for it or its successor, then returns the status of each job.
    fn look_again(&self, watch: &mut Watch, jobs: &mut [GetJobStatusRes], why: Error) -> Result<()> {
        match watch.lost(&jobs[0].uuid, why, self.time_limit.left()) {
            Err(_) if self.time_limit.is_over() => return Err(self.time_limit.refusal(jobs)),
            back => jobs[0] = back?,
        }
        for job in &mut jobs[1..] {
            *job = watch.status(&job.uuid, QUERY)?;
        }
        Ok(())
    }

    fn tell(&self, job: &GetJobStatusRes) -> Result<()> {
        if !self.out.json {
            self.out.text(&text::waited(job, self.out.colour))?;
        }
        if let Some(line) = text::end_summary(job) {
            self.out.note(&line);
        }
        Ok(())
    }
}

/// `train (f47ac10b, RUNNING), 2 of 3 have ended`.
fn waiting_for(jobs: &[GetJobStatusRes], before: usize, all: usize) -> String {
    let of = |job: &GetJobStatusRes| {
        let (id, status) = (one_line(short(&job.uuid)), one_line(&job.status));
        match job.name.as_str() {
            "" => format!("{id} ({status})"),
            name => format!("{} ({id}, {status})", one_line(name)),
        }
    };
    match jobs {
        [one] if all == 1 => of(one),
        [one] => format!("{}, {before} of {all} have ended", of(one)),
        several => format!("the first of {} jobs", several.len()),
    }
}

/// The sum of a wait: the end of one job, or how many ended in which way.
fn summary(ended: &[GetJobStatusRes], taken: Duration) -> String {
    let taken = span::measured(taken);
    if let [job] = ended {
        // The reason of an end that was not the job's own was given with its line.
        return match text::end_summary(job) {
            None => text::exit_summary(job, None),
            Some(_) => format!("waited {taken}"),
        };
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for job in ended {
        match counts.iter_mut().find(|(status, _)| *status == job.status) {
            Some((_, count)) => *count += 1,
            None => counts.push((&job.status, 1)),
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(status, count)| format!("{count} {}", one_line(status))).collect();
    format!("{} jobs ended: {}; waited {taken}", ended.len(), counts.join(", "))
}

fn status(server: &Server, uuid: &str, deadline: Duration) -> Result<GetJobStatusRes> {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    server.ask(deadline, |jobs, option| jobs.get_job_status_opt(&request, option))
}

fn cut_off(job: &GetJobStatusRes) -> Error {
    let id = one_line(short(&job.uuid));
    let text = format!("the server ended the output of job {id}, but the job is {}", one_line(&job.status));
    Error::Follow(text.into()).hint(format!("rnx job status {id}"))
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn time_limit(line: &str) -> Result<TimeLimit> {
        match parse(line.split_whitespace().map(Into::into).collect()) {
            Ok(Parsed::Invoke(i)) => TimeLimit::of(&i.values),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn wait_timeout_is_the_given_one_or_none() {
        assert_eq!(time_limit("job wait x").unwrap().left(), None);
        let hour = time_limit("job wait --timeout 1h x").unwrap();
        assert!(hour.left().is_some_and(|left| left > Duration::from_secs(3500)) && !hour.is_over());
        assert!(time_limit("job wait --timeout 0s x").unwrap().is_over());
        let refused = time_limit("job wait --timeout soon x").unwrap_err();
        assert!(refused.to_string().starts_with("invalid value \"soon\" for --timeout: "));
    }

    fn job(name: &str, status: &str) -> GetJobStatusRes {
        GetJobStatusRes {
            uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            name: name.into(),
            status: status.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_wait_says_what_it_waits_for_and_sums_up() {
        let running = job("train", "RUNNING");
        assert_eq!(waiting_for(&[job("", "RUNNING")], 0, 1), "f47ac10b (RUNNING)");
        let one = waiting_for(std::slice::from_ref(&running), 2, 3);
        assert_eq!(one, "train (f47ac10b, RUNNING), 2 of 3 have ended");
        assert_eq!(waiting_for(&[running.clone(), running], 0, 2), "the first of 2 jobs");
        let ended = [job("", "COMPLETED"), job("", "FAILED"), job("", "COMPLETED")];
        let taken = Duration::from_millis(65_300);
        assert_eq!(summary(&ended, taken), "3 jobs ended: 2 COMPLETED, 1 FAILED; waited 1m05s");
        assert_eq!(summary(&ended[..1], taken), "exit 0");
        let killed = GetJobStatusRes { exit_reason: "oom".into(), ..job("", "FAILED") };
        assert_eq!(summary(&[killed], taken), "waited 1m05s");
    }

    #[test]
    fn jobs_that_have_not_ended_are_named_and_the_exit_code_is_7() {
        let job = GetJobStatusRes {
            uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            status: "RUNNING".into(),
            ..Default::default()
        };
        let e = time_limit("job wait --timeout 90s x").unwrap().refusal(&[job]);
        assert_eq!(e.to_string(), "not ended within 1m30s: f47ac10b (RUNNING)");
        assert_eq!(e.exit_code(None), 7);
    }
}
