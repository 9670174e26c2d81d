//! The streams: the output of a job, its samples, the host, and the list of jobs.
//!
//! All but the list are one gRPC stream for each reader. When the node goes away the reader stays: it gets a `state` event,
//! then heartbeats, and when the node is back the stream goes on behind the last message. Output goes on by its sequence
//! number, which the daemon keeps over its own death; the reader brings it as `Last-Event-ID` when its own connection broke.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use grpcio::{ClientSStreamReceiver, RpcStatusCode};
use serde_json::{Value, json};

use super::super::command::QUERY;
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::reconnect::SamplePosition;
use super::super::render::{json as shapes, metrics, monitor_json};
use super::super::server::Server;
use super::Dashboard;
use super::http::{self, Reply, Request};
use super::pull::{Pull, Pulled};
use super::sse::Events;
use super::table::{self, Snapshot};
use crate::pb::joblet::{
    DataChunk, EmptyRequest, GetJobLogsReq, GetJobStatusReq, JobMetricsRequest, JobMetricsSample,
    OutputStream, StreamMetricsReq, SystemMetricsRes,
};

/// How long a thread waits for a message before it looks whether its reader is there.
const TURN: Duration = Duration::from_secs(1);
/// Jobs in one event of the list.
const BATCH: usize = 200;
/// Seconds between two samples of the host: the default, and the longest.
const INTERVAL: (i32, i32) = (2, 3600);

/// A gRPC stream and the place of its reader.
trait Source {
    type Message;
    /// Begins the stream behind the last message.
    fn open(&self, server: &Server) -> Result<ClientSStreamReceiver<Self::Message>>;
    /// Passes one message on.
    fn pass(&mut self, message: &Self::Message, events: &mut Events<'_>) -> io::Result<()>;
    /// A question that tells whether the node is back, and the state of what is followed.
    fn ask(&self, server: &Server, within: Duration) -> Result<Value>;
}

/// Follows a source until it is over or the reader has gone.
fn follow<S: Source>(server: &Server, mut source: S, events: &mut Events<'_>) -> io::Result<()> {
    loop {
        let lost = match source.open(server).map(Pull::new) {
            Err(why) => why,
            Ok(mut pull) => loop {
                match pull.next(TURN) {
                    Pulled::Message(message) => source.pass(&message, events)?,
                    Pulled::Quiet => events.check()?,
                    Pulled::End(Some(why)) => break server.explain(why),
                    Pulled::End(None) => {
                        let state = source.ask(server, QUERY);
                        return events.send("end", None, &state.unwrap_or_else(|_| json!({})));
                    }
                }
            },
        };
        if !lost.is_unreachable() {
            return events.send("failure", None, &Out::failure_value(&lost));
        }
        let why = lost.to_string();
        events.send("state", None, &json!({ "connected": false, "why": why }))?;
        // A node that answers and does not serve is not asked without a pause.
        pause(events)?;
        let state = loop {
            match source.ask(server, TURN) {
                Ok(state) => break state,
                Err(why) if is_waited_for(&why) => pause(events)?,
                Err(why) => return events.send("failure", None, &Out::failure_value(&why)),
            }
        };
        events.send("state", None, &json!({ "connected": true, "job": state }))?;
    }
}

fn is_waited_for(why: &Error) -> bool {
    why.is_unreachable() || matches!(why, Error::Call(RpcStatusCode::DEADLINE_EXCEEDED, _))
}

fn pause(events: &mut Events<'_>) -> io::Result<()> {
    thread::park_timeout(TURN / 4);
    events.check()
}

fn job_state(server: &Server, uuid: &str, within: Duration) -> Result<Value> {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    let job = server.ask_when_there(within, |jobs, option| jobs.get_job_status_opt(&request, option))?;
    Ok(json!({ "status": job.status, "endTime": job.endTime, "why": table::why(&job) }))
}

struct Output(GetJobLogsReq);

impl Source for Output {
    type Message = DataChunk;

    fn open(&self, server: &Server) -> Result<ClientSStreamReceiver<DataChunk>> {
        server.open_output(&self.0)
    }

    fn pass(&mut self, chunk: &DataChunk, events: &mut Events<'_>) -> io::Result<()> {
        if chunk.seq > 0 {
            self.0.from_seq = self.0.from_seq.max(chunk.seq + 1);
            // It was counted from the output that was there at first.
            self.0.tail = None;
        }
        let id = chunk.seq.to_string();
        if !chunk.payload.is_empty() || chunk.lost_bytes > 0 {
            return events.send("output", Some(&id), &shapes::chunk(chunk));
        }
        // Only a place in the output, or what the job waits for.
        events.send("state", None, &json!({ "connected": true, "waitReason": chunk.wait_reason }))?;
        if chunk.seq > 0 { events.place(&id) } else { Ok(()) }
    }

    fn ask(&self, server: &Server, within: Duration) -> Result<Value> {
        job_state(server, &self.0.uuid, within)
    }
}

struct Samples {
    wanted: JobMetricsRequest,
    place: SamplePosition,
    /// Samples of the stream that the reader has.
    skip: usize,
}

impl Source for Samples {
    type Message = JobMetricsSample;

    fn open(&self, server: &Server) -> Result<ClientSStreamReceiver<JobMetricsSample>> {
        server.open_samples(&self.wanted)
    }

    fn pass(&mut self, sample: &JobMetricsSample, events: &mut Events<'_>) -> io::Result<()> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        self.place.advance(sample);
        events.send("sample", Some(&self.place.id()), &metrics::json(sample))
    }

    fn ask(&self, server: &Server, within: Duration) -> Result<Value> {
        job_state(server, &self.wanted.uuid, within)
    }
}

impl Samples {
    /// Sets the request for what follows the place.
    fn resume(mut self) -> Self {
        self.skip = self.place.resume(&mut self.wanted);
        self
    }
}

struct Host(StreamMetricsReq);

impl Source for Host {
    type Message = SystemMetricsRes;

    fn open(&self, server: &Server) -> Result<ClientSStreamReceiver<SystemMetricsRes>> {
        server.open_host_samples(&self.0)
    }

    fn pass(&mut self, sample: &SystemMetricsRes, events: &mut Events<'_>) -> io::Result<()> {
        events.send("sample", None, &monitor_json::json(sample))
    }

    fn ask(&self, server: &Server, within: Duration) -> Result<Value> {
        let request = EmptyRequest { limit: 1, ..Default::default() };
        server.ask_when_there(within, |jobs, option| jobs.list_jobs_opt(&request, option))?;
        Ok(Value::Null)
    }
}

/// Answers with events. A wrong request gets its refusal instead.
pub(super) fn answer(
    dashboard: &Dashboard,
    path: &[&str],
    request: &Request,
    to: &mut TcpStream,
) -> io::Result<()> {
    let server = dashboard.server;
    match path {
        ["events"] => list(dashboard, &mut Events::begin(to)?),
        ["node", "events"] => match host(request) {
            Err(why) => refuse(&why).send(to),
            Ok(wanted) => follow(server, Host(wanted), &mut Events::begin(to)?),
        },
        ["jobs", id, "log", "events"] => match output(id, request) {
            Err(why) => refuse(&why).send(to),
            Ok(wanted) => follow(server, Output(wanted), &mut Events::begin(to)?),
        },
        ["jobs", id, "metrics", "events"] => match samples(id, request) {
            Err(why) => refuse(&why).send(to),
            Ok(source) => follow(server, source, &mut Events::begin(to)?),
        },
        _ => Reply::text("404 Not Found", "there is no such stream").send(to),
    }
}

fn refuse(why: &Error) -> Reply {
    Reply::json("400 Bad Request", &Out::failure_value(why))
}

/// Sends the list of jobs, then what changes in it.
fn list(dashboard: &Dashboard, events: &mut Events<'_>) -> io::Result<()> {
    let mut had = Arc::new(Snapshot::default());
    let (mut first, mut connected) = (true, true);
    loop {
        match dashboard.jobs.latest(dashboard.server) {
            Err(why) => {
                if std::mem::take(&mut connected) {
                    let state = json!({ "connected": false, "why": why.to_string() });
                    events.send("state", None, &state)?;
                }
            }
            Ok(now) => {
                if !std::mem::replace(&mut connected, true) {
                    events.send("state", None, &json!({ "connected": true }))?;
                }
                changes(&had, &now, std::mem::take(&mut first), events)?;
                had = now;
            }
        }
        thread::park_timeout(TURN);
        events.check()?;
    }
}

fn changes(had: &Arc<Snapshot>, now: &Arc<Snapshot>, first: bool, events: &mut Events<'_>) -> io::Result<()> {
    if Arc::ptr_eq(had, now) {
        return Ok(());
    }
    let change = now.since(had);
    if first {
        events.send("reset", None, &json!({ "total": change.jobs.len(), "most": table::MOST }))?;
    }
    for part in change.jobs.chunks(BATCH) {
        events.text("jobs", None, &format!("[{}]", part.join(",")))?;
    }
    if change.gone.is_empty() { Ok(()) } else { events.send("gone", None, &change.gone) }
}

/// The wanted part of an output.
pub(super) fn output(uuid: &str, request: &Request) -> Result<GetJobLogsReq> {
    let mut wanted = GetJobLogsReq { uuid: uuid.into(), ..Default::default() };
    wanted.stream = match request.query("stream") {
        None => OutputStream::OUTPUT_STREAM_UNSPECIFIED,
        Some("stdout") => OutputStream::OUTPUT_STREAM_STDOUT,
        Some("stderr") => OutputStream::OUTPUT_STREAM_STDERR,
        Some(other) => return Err(Error::usage(format!("stream is stdout or stderr, not {other:?}"))),
    }
    .into();
    wanted.filter = request.query("filter").unwrap_or_default().to_owned();
    wanted.since_ns = number(request, "since_ns")?.unwrap_or_default();
    wanted.until_ns = number(request, "until_ns")?.unwrap_or_default();
    wanted.from_seq = number(request, "from")?.unwrap_or_default();
    wanted.tail = number(request, "tail")?;
    if let Some(last) = request.header("last-event-id") {
        let last: u64 = last
            .parse()
            .map_err(|_| Error::usage(format!("Last-Event-ID is a sequence number, not {last:?}")))?;
        wanted.from_seq = wanted.from_seq.max(last.saturating_add(1));
        wanted.tail = None;
    }
    Ok(wanted)
}

fn samples(uuid: &str, request: &Request) -> Result<Samples> {
    let wanted = JobMetricsRequest { uuid: uuid.into(), ..Default::default() };
    let place = match request.header("last-event-id") {
        None => SamplePosition::default(),
        Some(id) => SamplePosition::parse(id)
            .ok_or_else(|| Error::usage(format!("Last-Event-ID is SECONDS.NUMBER, not {id:?}")))?,
    };
    Ok(Samples { wanted, place, skip: 0 }.resume())
}

fn host(request: &Request) -> Result<StreamMetricsReq> {
    let interval = number(request, "interval")?.unwrap_or(INTERVAL.0);
    if !(1..=INTERVAL.1).contains(&interval) {
        return Err(Error::usage(format!("interval is 1 to {} seconds", INTERVAL.1)));
    }
    Ok(StreamMetricsReq { intervalSeconds: interval, ..Default::default() })
}

/// A number of the query.
pub(super) fn number<N: std::str::FromStr>(request: &Request, name: &str) -> Result<Option<N>> {
    let parse = |text: &str| text.parse().map_err(|_| Error::usage(format!("{name} is no number: {text:?}")));
    request.query(name).map(parse).transpose()
}

/// Sends the bytes of an output that are there, as a file to keep.
pub(super) fn download(server: &Server, uuid: &str, request: &Request, to: &mut TcpStream) -> io::Result<()> {
    let opened = output(uuid, request).and_then(|mut wanted| {
        wanted.no_follow = true;
        server.open_output(&wanted)
    });
    let mut pull = match opened {
        Err(why) => return refuse(&why).send(to),
        Ok(stream) => Pull::new(stream),
    };
    let name: String = uuid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let as_file = [("Content-Disposition", format!("attachment; filename=\"{name}.log\""))];
    let mut begun = false;
    loop {
        match pull.next(QUERY) {
            Pulled::Message(chunk) => {
                if !std::mem::replace(&mut begun, true) {
                    http::begin(to, "application/octet-stream", &as_file)?;
                }
                to.write_all(&chunk.payload)?;
            }
            Pulled::Quiet if http::is_gone(to) => return Ok(()),
            Pulled::Quiet => {}
            Pulled::End(Some(why)) if !begun => return super::api::failed(&server.explain(why)).send(to),
            // The file must not look whole: the connection is reset by closing it with an error.
            Pulled::End(Some(_)) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Pulled::End(None) if !begun => return http::begin(to, "application/octet-stream", &as_file),
            Pulled::End(None) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &[(&str, &str)], last: Option<&str>) -> Request {
        let query = query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let headers = last.map(|id| ("last-event-id".to_string(), id.to_string())).into_iter().collect();
        Request { query, headers, ..Default::default() }
    }

    #[test]
    fn last_event_id_continues_behind_it_and_replaces_the_tail() {
        let first = output("f47a", &request(&[("tail", "10"), ("filter", "x")], None)).unwrap();
        assert_eq!((first.from_seq, first.tail, first.filter.as_str()), (0, Some(10), "x"));
        let next = output("f47a", &request(&[("tail", "10"), ("filter", "x")], Some("41"))).unwrap();
        assert_eq!((next.from_seq, next.tail, next.filter.as_str()), (42, None, "x"));
        let last = output("f47a", &request(&[], Some(&u64::MAX.to_string()))).unwrap();
        assert_eq!(last.from_seq, u64::MAX);
        for (query, last) in [
            (&[("stream", "both")][..], None),
            (&[("from", "-1")], None),
            (&[], Some("41.1")),
            (&[], Some("")),
        ] {
            assert!(output("f47a", &request(query, last)).is_err(), "{query:?} {last:?}");
        }
    }

    #[test]
    fn samples_continue_within_a_second() {
        let resumed = samples("f47a", &request(&[], Some("1700000000.2"))).unwrap();
        assert_eq!((resumed.wanted.since_ns, resumed.skip), (1_700_000_000_000_000_000, 2));
        assert!(samples("f47a", &request(&[], Some("x"))).is_err());
        assert_eq!(samples("f47a", &request(&[], None)).unwrap().skip, 0);
        assert!(host(&request(&[("interval", "0")], None)).is_err());
    }
}
