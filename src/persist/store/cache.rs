//! The local store as a cache of another one: old jobs go when it is full, without a tombstone, and may come back.
//!
//! Only a job whose directory says that the other store has it may go: an empty file `copy`. So nothing goes that was stored
//! here before there was another store, nor output that its writer never ended.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::layout::job_dirs;
use super::resume::JobEnd;
use super::{LocalStore, StoreError, disk, trash};
use crate::job::JobId;

/// The file that says that another store has the job.
const COPY: &str = "copy";
/// Age of a copy that never became whole, from which on it may go.
const BROKEN: Duration = Duration::from_secs(3600);

impl LocalStore {
    /// Whether all of a job is here, its end included.
    pub fn is_complete(&self, id: JobId) -> bool {
        JobEnd::read(&job_dirs(&self.layout, id).0).is_some()
    }

    /// Notes that the local files of a job are a copy of what another store has.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn mark_copy(&self, id: JobId) -> Result<(), StoreError> {
        let dir = job_dirs(&self.layout, id).0;
        let path = dir.join(COPY);
        // A job without output and without an end has no directory: make_directory makes the tree's, too.
        let made = disk::make_directory(&self.layout.logs).and_then(|()| disk::make_directory(&dir));
        let noted = made.and_then(|()| {
            fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map(drop)
        });
        noted.map_err(|source| StoreError::Create { path, source })
    }

    /// Lets the local files of a job go. Unlike [`LocalStore::delete`] that is not for good.
    ///
    /// # Errors
    /// A directory cannot be moved.
    pub fn evict(&self, id: JobId) -> Result<(), StoreError> {
        trash::discard(&self.layout.metrics, id)?;
        trash::discard(&self.layout.logs, id)
    }

    /// Lets the copies go that changed longest ago, until what is left has at most `bytes`, and returns their number. Jobs
    /// that are written, by `is_known`, stay.
    ///
    /// # Errors
    /// A directory cannot be moved.
    pub fn shrink(&self, bytes: u64, is_known: &dyn Fn(JobId) -> bool) -> Result<u64, StoreError> {
        let mut jobs = Vec::new();
        let mut all = 0;
        for entry in fs::read_dir(&self.layout.logs).into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(JobId::parse) else { continue };
            let (logs, metrics) = job_dirs(&self.layout, id);
            let (size, changed) = measure(&[&logs, &metrics]);
            all += size;
            let is_old = changed.elapsed().is_ok_and(|age| age > BROKEN);
            if !is_known(id) && logs.join(COPY).exists() && (is_old || self.is_complete(id)) {
                jobs.push((changed, id, size));
            }
        }
        jobs.sort_unstable();
        let mut evicted = 0;
        for (_, id, size) in jobs {
            if all <= bytes {
                break;
            }
            self.evict(id)?;
            all -= size;
            evicted += 1;
        }
        Ok(evicted)
    }
}

/// Bytes of the files in directories, and their last change.
fn measure(dirs: &[&Path]) -> (u64, SystemTime) {
    let files = dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    files.filter_map(|file| file.metadata().ok()).fold((0, SystemTime::UNIX_EPOCH), |(size, last), meta| {
        (size + meta.len(), last.max(meta.modified().unwrap_or(last)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, StoreLimits};
    use super::*;

    #[test]
    fn oldest_jobs_go_first_and_those_that_are_written_stay() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::new(Layout::below(temp.path()), StoreLimits::default());
        let ids = [(); 3].map(|()| JobId::random());
        for (n, id) in ids.iter().enumerate() {
            store.job(*id).unwrap().end(1, 0, 0).unwrap();
            store.mark_copy(*id).unwrap();
            let path = temp.path().join("logs").join(id.to_string()).join("stdout.log.gz");
            fs::write(&path, [0; 1000]).unwrap();
            let changed = SystemTime::now() + Duration::from_secs(n as u64);
            fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        }
        assert!(store.is_complete(ids[0]));
        assert_eq!(store.shrink(1 << 20, &|_| false).unwrap(), 0);
        assert_eq!(store.shrink(2500, &|id| id == ids[0]).unwrap(), 1);
        assert_eq!(ids.map(|id| store.is_complete(id)), [true, false, true]);
        assert!(!store.is_deleted(ids[1]));
        assert_eq!(store.shrink(0, &|_| false).unwrap(), 2);
    }

    #[test]
    fn job_that_is_nowhere_else_stays_whatever_its_size() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::new(Layout::below(temp.path()), StoreLimits::default());
        let id = JobId::random();
        store.job(id).unwrap().end(1, 0, 0).unwrap();
        assert_eq!(store.shrink(0, &|_| false).unwrap(), 0);
        store.mark_copy(id).unwrap();
        store.mark_copy(id).unwrap();
        assert_eq!(store.shrink(0, &|_| false).unwrap(), 1);
    }
}
