//! Retention: which directories are too old, in steps.
//!
//! A job's age counts from its end. Without `job.json` (another program's files, a job that never became complete) it
//! counts from the last change of its files. Jobs that the daemon still knows to be unfinished never expire, whatever
//! the clock says.

use std::fs::{self, ReadDir};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StoreError;
use super::resume::JobEnd;
use super::trash;
use crate::job::JobId;

/// Directories that one step looks at.
const STEP: usize = 100;

/// The times for which history is kept; `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The time for which output is kept.
    pub logs: Option<Duration>,
    /// The time for which samples are kept.
    pub metrics: Option<Duration>,
}

/// The result of one step.
#[derive(Debug, Default)]
pub struct Expired {
    /// Directories that went into the trash.
    pub removed: u64,
    /// The last failure to move one; the next walk tries again.
    pub failed: Option<StoreError>,
    /// Whether the walk has come to its end.
    pub is_done: bool,
}

/// A walk over all directories of history.
#[derive(Debug)]
pub struct Expiry {
    logs: PathBuf,
    /// The trees that are still to be walked, with the time for which their directories are kept.
    trees: Vec<(PathBuf, Duration)>,
    entries: Option<(ReadDir, PathBuf, Duration)>,
}

impl Expiry {
    pub(super) fn new(logs: &Path, metrics: &Path, keep: Keep) -> Expiry {
        let trees = [(metrics, keep.metrics), (logs, keep.logs)];
        let trees = trees.into_iter().filter_map(|(tree, keep)| Some((tree.to_owned(), keep?)));
        Expiry { logs: logs.to_owned(), trees: trees.collect(), entries: None }
    }

    /// Looks at the next hundred directories and moves those that are too old into the trash. `is_known` says whether a
    /// job must not expire.
    pub fn step(&mut self, now: SystemTime, is_known: &dyn Fn(JobId) -> bool) -> Expired {
        let mut done = Expired::default();
        for _ in 0..STEP {
            let Some((entries, tree, keep)) = &mut self.entries else {
                let Some((tree, keep)) = self.trees.pop() else {
                    done.is_done = true;
                    break;
                };
                // A tree that is not there has nothing to expire.
                self.entries = fs::read_dir(&tree).ok().map(|entries| (entries, tree, keep));
                continue;
            };
            let Some(entry) = entries.next() else {
                self.entries = None;
                continue;
            };
            let Some(id) = entry.ok().and_then(|entry| JobId::parse(entry.file_name().to_str()?)) else {
                continue;
            };
            let end = JobEnd::read(&self.logs.join(id.to_string()));
            if is_known(id) || !is_old(&tree.join(id.to_string()), end, now, *keep) {
                continue;
            }
            match trash::discard(tree, id) {
                Ok(()) => done.removed += 1,
                Err(why) => done.failed = Some(why),
            }
        }
        done
    }
}

fn is_old(dir: &Path, end: Option<JobEnd>, now: SystemTime, keep: Duration) -> bool {
    let ended = match end {
        Some(end) => UNIX_EPOCH.checked_add(Duration::from_nanos(end.ended_ns.max(0).cast_unsigned())),
        None => last_change(dir),
    };
    ended.and_then(|ended| now.duration_since(ended).ok()).is_some_and(|age| age > keep)
}

/// The time at which a file in a directory, or the directory, was last changed.
fn last_change(dir: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(dir).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    files.chain(fs::metadata(dir).ok()).filter_map(|meta| meta.modified().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn run(mut walk: Expiry, now: SystemTime, is_known: &dyn Fn(JobId) -> bool) -> u64 {
        let mut removed = 0;
        loop {
            let step = walk.step(now, is_known);
            assert!(step.failed.is_none(), "{:?}", step.failed);
            removed += step.removed;
            if step.is_done {
                return removed;
            }
        }
    }

    #[test]
    fn old_jobs_expire_by_their_end_and_known_ones_never() {
        let base = tempfile::tempdir().unwrap();
        let (logs, metrics) = (base.path().join("logs"), base.path().join("metrics"));
        let now = SystemTime::now();
        let ended_ns = |days: u32| (now - days * DAY).duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        let make = |days: Option<u32>| {
            let id = JobId::random();
            for tree in [&logs, &metrics] {
                fs::create_dir_all(tree.join(id.to_string())).unwrap();
            }
            if let Some(days) = days {
                let end = JobEnd { version: 1, ended_ns: ended_ns(days), rows: 1, samples: 1 };
                let path = logs.join(id.to_string()).join("job.json");
                fs::write(path, serde_json::to_vec(&end).unwrap()).unwrap();
            }
            id
        };
        let ids: Vec<JobId> = [Some(31), Some(29), Some(100), None, Some(31)].map(make).to_vec();
        for _ in 0..250 {
            make(Some(1));
        }
        fs::create_dir(logs.join("lost+found")).unwrap();
        let keep = Keep { logs: Some(30 * DAY), metrics: Some(90 * DAY) };
        let walk = || Expiry::new(&logs, &metrics, keep);
        let is_known = |id| id == ids[4];
        let there = |tree: &Path| ids.iter().map(|id| tree.join(id.to_string()).exists()).collect::<Vec<_>>();
        // The metrics of a job outlive its logs, and expire by the end that stands beside these.
        assert_eq!(run(Expiry::new(&logs, &metrics, Keep { logs: None, ..keep }), now, &is_known), 1);
        assert_eq!(there(&metrics), [true, true, false, true, true]);
        assert_eq!(run(walk(), now, &is_known), 2);
        assert_eq!(there(&logs), [false, true, false, true, true]);
        assert_eq!(run(walk(), now, &is_known), 0);
        // Without a stated end the last change counts; a clock that jumps a year expires no known job.
        assert_eq!(run(walk(), now + 365 * DAY, &|_| true), 0);
        assert_eq!(run(walk(), now + 40 * DAY, &|id| id != ids[3]), 1);
        assert!(logs.join("lost+found").exists());
    }
}
