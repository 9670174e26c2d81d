//! What `rnx top` and the like follow: the running jobs, asked for again and again, and a stream of samples of each.
//!
//! One thread asks for the jobs, another one reads all streams of samples. Both tell the thread that draws.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use futures_channel::mpsc::unbounded;

use super::command::QUERY;
use super::error::Result;
use super::render::top::Update;
use super::server::Server;
use super::wanted::Wanted;
use crate::pb::joblet::JobMetricsRequest;

/// Most jobs that are followed, the newest ones. The server has room for twice as many streams of a client.
pub(crate) const MOST: usize = 1000;
/// It wants samples from so long ago, so that there is one at once.
const BEFORE: Duration = Duration::from_secs(30);

/// Updates, until the receiver is dropped. The jobs come first, and then again at each interval.
pub(crate) fn follow(server: &'static Server, interval: Duration) -> Result<Receiver<Result<Update>>> {
    let (tell, updates) = channel();
    let (want, wanted) = unbounded();
    let told = tell.clone();
    let samples = move || {
        server.samples_of(wanted, |sample| {
            // A receiver that is gone means that the user has left.
            let _ = told.send(Ok(Update::Sample(Box::new(sample))));
        });
    };
    thread::Builder::new().name("samples".into()).spawn(samples)?;
    let mut followed = HashSet::new();
    let jobs = move || {
        // Nothing ever comes through it: it measures the interval.
        let (_beat, beats): (Sender<()>, Receiver<()>) = channel();
        loop {
            let running = Wanted::in_statuses(&["RUNNING"]);
            let found =
                running.jobs(|page| server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(page, option)));
            let update = found.map(|mut jobs| {
                let all = jobs.len();
                jobs.drain(..all.saturating_sub(MOST));
                let now: HashSet<String> = jobs.iter().map(|job| job.uuid.clone()).collect();
                followed.retain(|uuid| now.contains(uuid));
                for uuid in now {
                    if followed.insert(uuid.clone()) {
                        let now = jiff::Timestamp::now().as_nanosecond();
                        let since = now - BEFORE.as_nanos() as i128;
                        let since_ns = i64::try_from(since).unwrap_or_default();
                        let request = JobMetricsRequest { uuid, since_ns, ..JobMetricsRequest::default() };
                        let _ = want.unbounded_send(request);
                    }
                }
                Update::Jobs(jobs, all)
            });
            let failed = update.is_err();
            if tell.send(update).is_err() || failed {
                return;
            }
            if beats.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    thread::Builder::new().name("jobs".into()).spawn(jobs)?;
    Ok(updates)
}
