//! Readers that wait until a job's history is in the local files, where a store beyond this host has it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::job::JobId;
use crate::persist::frame::Frame;

/// Readers that may wait at one time.
const WAITING: usize = 1024;

/// Called when a job's history can be read, or with the reason why not, in words.
pub(in crate::daemon) type WhenFetched = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A job that somebody wants to read.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Wanted {
    /// The job's identity.
    pub(in crate::daemon) id: JobId,
    /// The directory of its spool.
    pub(in crate::daemon) dir: PathBuf,
    /// When it was accepted, ns since the epoch; 0: the daemon does not know the job.
    pub(in crate::daemon) created_ns: i64,
    /// When it ended, ns since the epoch; 0: the same.
    pub(in crate::daemon) ended_ns: i64,
}

/// All readers that wait.
#[derive(Default)]
pub(super) struct Fetches {
    /// The directory of jobs' output in the local files.
    logs: PathBuf,
    waiting: HashMap<JobId, Vec<WhenFetched>>,
    count: usize,
}

impl Fetches {
    /// Nobody waits. The local files are in this directory.
    pub(super) fn new(logs: PathBuf) -> Fetches {
        Fetches { logs, ..Fetches::default() }
    }

    /// Has a reader wait, and returns what to tell the process. `is_up`: it hears of it now. A reader whose job is in the
    /// spool or in the local files, or for whom there is no hope, is called at once.
    pub(super) fn add(&mut self, wanted: Wanted, done: WhenFetched, is_up: bool) -> Option<Frame> {
        let Wanted { id: job, dir, created_ns, ended_ns } = wanted;
        let is_whole = self.logs.join(job.to_string()).join("job.json").exists();
        if is_whole || dir.join(crate::output::INDEX).exists() {
            done(Ok(()));
            return None;
        }
        if !is_up || self.count >= WAITING {
            let why = if is_up { "too many readers wait for history" } else { "the history process is away" };
            done(Err(unreadable(&format!("{why}; try again"))));
            return None;
        }
        self.count += 1;
        let readers = self.waiting.entry(job).or_default();
        readers.push(done);
        (readers.len() == 1).then_some(Frame::Fetch { job, created_ns, ended_ns })
    }

    /// The process has done what it can for a job.
    pub(super) fn fetched(&mut self, job: JobId, failure: Option<&str>) {
        for done in self.waiting.remove(&job).into_iter().flatten() {
            self.count -= 1;
            done(failure.map_or(Ok(()), |why| Err(unreadable(why))));
        }
    }

    /// The process is gone, and its answers with it.
    pub(super) fn disconnected(&mut self) {
        for job in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.fetched(job, Some("the history process ended; try again"));
        }
    }
}

/// The answer to a reader. rnx knows it by its beginning.
fn unreadable(why: &str) -> String {
    format!("history cannot be read: {why}")
}

impl fmt::Debug for Fetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetches({} waiting)", self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn readers_of_one_job_wait_for_one_answer() {
        let temp = tempfile::tempdir().unwrap();
        let mut fetches = Fetches::new(temp.path().to_owned());
        let (told, heard) = channel();
        let call = || -> WhenFetched {
            let told = told.clone();
            Box::new(move |done| told.send(done).unwrap())
        };
        let id = JobId::random();
        let wanted = Wanted { id, dir: temp.path().join("spool"), created_ns: 1, ended_ns: 2 };
        assert_eq!(fetches.add(wanted.clone(), call(), false), None);
        assert!(heard.try_recv().unwrap().unwrap_err().contains("away"));
        let frame = Frame::Fetch { job: id, created_ns: 1, ended_ns: 2 };
        assert_eq!(fetches.add(wanted.clone(), call(), true), Some(frame));
        assert_eq!(fetches.add(wanted.clone(), call(), true), None);
        assert!(heard.try_recv().is_err());
        fetches.fetched(id, Some("no AWS"));
        for _ in 0..2 {
            assert_eq!(heard.try_recv().unwrap().unwrap_err(), "history cannot be read: no AWS");
        }
        fetches.add(wanted.clone(), call(), true);
        fetches.disconnected();
        assert!(heard.try_recv().unwrap().is_err());
        std::fs::create_dir(&wanted.dir).unwrap();
        std::fs::write(wanted.dir.join("index"), "").unwrap();
        assert_eq!(fetches.add(wanted, call(), true), None);
        assert_eq!(heard.try_recv().unwrap(), Ok(()));
    }
}
