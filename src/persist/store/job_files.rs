//! The files of one job: commits in a fixed order, and the end of a job.
//!
//! Order of a commit: write the members of all files, start writing all of them to the disk, make each durable, then
//! write their rows into the indexes. A commit ends before a member of the next one is written.
//!
//! `through` is one number for a job: all rows up to it of both streams are durable. A member carries the number of the
//! last commit that was *completed* before it was written, never that of its own: with its own, a crash between the
//! members of both streams would skip the rows of the second one for ever.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::disk;
use super::home::Homes;
use super::log_file::{LogFile, Repaired, Written};
use super::member::Packer;
use super::names::{Kind, Names, end_file};
use super::packing::{Packed, pack};
use super::resume::{JobEnd, Resume};
use super::stage::Batch;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of a log file after which it is rotated away.
    pub log_bytes: u64,
    /// Rotated log files of each stream that are kept; the oldest go first.
    pub log_files: usize,
    /// Bytes of a metrics file after which it is rotated away.
    pub metrics_bytes: u64,
    /// Rotated metrics files that are kept.
    pub metrics_files: usize,
    /// Jobs whose files are open at the same time in a group commit. Each has three at most.
    pub open_jobs: usize,
    /// Bytes of text in the files of other programs of one job. They are inflated to be opened, in the reader's thread.
    pub foreign_text: u64,
}

impl Default for StoreLimits {
    /// Files of 1 GiB, all of them kept, 16 jobs at a time, and 64 MiB of other programs' text, a quarter of a second.
    fn default() -> Self {
        StoreLimits {
            log_bytes: 1 << 30,
            log_files: usize::MAX,
            metrics_bytes: 1 << 30,
            metrics_files: usize::MAX,
            open_jobs: 16,
            foreign_text: 64 << 20,
        }
    }
}

/// The result of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// All rows up to this sequence are durable.
    pub through: u64,
    /// Records that were stored.
    pub records: u64,
    /// Bytes of output and of samples that were stored.
    pub bytes: u64,
    /// Bytes of the members.
    pub stored: u64,
    /// Records that stand for lost bytes.
    pub gaps: u64,
    /// Bytes that were lost before they came here.
    pub lost: u64,
    /// Rotated files that were removed because there were too many.
    pub removed_files: u64,
}

/// The files of a job.
#[derive(Debug)]
pub struct JobFiles {
    pub(super) logs_dir: PathBuf,
    pub(super) files: [LogFile; 3],
    through: u64,
    end: Option<JobEnd>,
    limits: StoreLimits,
    homes: Homes,
    /// The file that says that the job's history is deleted.
    tombstone: PathBuf,
}

impl JobFiles {
    /// Opens the files in a job's directories and repairs their ends. Creates nothing.
    pub(super) fn open(
        logs_dir: &Path,
        metrics_dir: &Path,
        tombstone: PathBuf,
        limits: StoreLimits,
        homes: Homes,
    ) -> Result<JobFiles, StoreError> {
        let open = |kind| {
            let dir = if kind == Kind::Samples { metrics_dir } else { logs_dir }.to_owned();
            LogFile::open(Names { dir, kind })
        };
        let files = [open(Kind::Stdout)?, open(Kind::Stderr)?, open(Kind::Samples)?];
        let end = JobEnd::read(logs_dir);
        let stored = files.iter().map(|file| file.through).max().unwrap_or_default();
        let through = end.map_or(stored, |end| end.rows.max(stored));
        Ok(JobFiles { logs_dir: logs_dir.to_owned(), files, through, end, limits, homes, tombstone })
    }

    /// The positions behind which the series go on.
    pub fn resume(&self) -> Resume {
        let tails = [0, 1, 2].map(|place| self.files[place].tail);
        Resume { through: self.through, end: self.end, tails }
    }

    /// The repairs so far.
    pub fn repaired(&self) -> Repaired {
        let mut all = Repaired::default();
        self.files.iter().for_each(|file| all.add(file.repaired));
        all
    }

    /// Stores a batch.
    ///
    /// # Errors
    /// See [`commit_all`].
    pub fn commit(&mut self, batch: Batch) -> Result<Committed, StoreError> {
        let mut result = Err(StoreError::Deleted);
        commit_group(&mut [(self, batch)], |_, done| result = done);
        result
    }

    fn write(&mut self, batch: &mut Batch) -> Result<[Option<Written>; 3], StoreError> {
        let mut written = [None, None, None];
        for kind in Kind::ALL {
            let part = &mut batch.parts[kind.place()];
            if part.headers.is_empty() {
                continue;
            }
            if self.tombstone.exists() {
                return Err(StoreError::Deleted);
            }
            part.vouch(self.through);
            let file = &mut self.files[kind.place()];
            self.homes.check(kind, &file.names.dir)?;
            let (_, bytes) = file.size();
            let limit = if kind == Kind::Samples { self.limits.metrics_bytes } else { self.limits.log_bytes };
            if bytes > 0 && bytes + part.bytes.len() as u64 > limit {
                file.rotate()?;
            }
            written[kind.place()] = Some(file.write(&part.bytes, &part.headers)?);
        }
        Ok(written)
    }

    fn sync(&self, written: &[Option<Written>; 3]) -> Result<(), StoreError> {
        self.files
            .iter()
            .zip(written)
            .filter_map(|(file, written)| Some((file, written.as_ref()?)))
            .try_for_each(|(file, written)| file.sync(written))
    }

    fn finish(&mut self, batch: &Batch, written: [Option<Written>; 3]) -> Committed {
        let mut done = Committed::default();
        for ((file, written), part) in self.files.iter_mut().zip(written).zip(&batch.parts) {
            if let Some(written) = written {
                file.finish(written);
            }
            done.records += part.headers.iter().map(|header| u64::from(header.records)).sum::<u64>();
            done.bytes += part.headers.iter().map(|header| u64::from(header.bytes)).sum::<u64>();
            done.stored += part.bytes.len() as u64;
            done.gaps += part.gaps;
            done.lost += part.lost;
        }
        let StoreLimits { log_files, metrics_files, .. } = self.limits;
        for (file, keep) in self.files.iter().zip([log_files, log_files, metrics_files]) {
            if keep < usize::MAX {
                done.removed_files += file.remove_rotated(keep);
            }
        }
        self.through = self.through.max(batch.through);
        done.through = self.through;
        done
    }

    /// Undoes a commit that failed.
    fn undo(&mut self, why: &StoreError) {
        self.files.iter_mut().for_each(LogFile::cut_back);
        if matches!(why, StoreError::Changed { .. }) {
            // Whatever cannot be read now is an error of the next commit.
            for file in &mut self.files {
                let _ = file.reopen();
            }
        }
    }

    /// Writes files with many small members anew, for a job that has ended.
    ///
    /// # Errors
    /// A file could not be written or renamed. Every file is whole, packed or not.
    pub fn pack(&mut self, packer: &mut Packer) -> Result<Packed, StoreError> {
        let mut all = Packed::default();
        for file in &mut self.files {
            if let Some(done) = pack(file, packer)? {
                all.files += done.files;
                all.before += done.before;
                all.after += done.after;
            }
        }
        Ok(all)
    }

    /// States that the job has ended and that all of it is stored. `rows` is its last sequence, `samples` their number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(&mut self, ended_ns: i64, rows: u64, samples: u64) -> Result<(), StoreError> {
        let last = self.files[..2].iter().map(|file| file.tail.sequence).max().unwrap_or_default();
        let end = JobEnd { version: 1, ended_ns, rows: rows.max(last), samples };
        let path = end_file(&self.logs_dir);
        if self.tombstone.exists() {
            return Err(StoreError::Deleted);
        }
        let dir = &self.logs_dir;
        self.homes.check(Kind::Stdout, dir)?;
        disk::make_directory(dir).map_err(|source| StoreError::Create { path: dir.clone(), source })?;
        write_end(&path, &end).map_err(|source| StoreError::Write { path, source })?;
        (self.end, self.through) = (Some(end), self.through.max(end.rows));
        Ok(())
    }
}

fn write_end(path: &Path, end: &JobEnd) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("json.tmp");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    disk::write(&file, &serde_json::to_vec(end)?, 0)?;
    disk::sync(&file)?;
    disk::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), disk::sync_names)
}

/// Stores batches of several jobs: all of them are on their way to the disk before the first one is waited for, which
/// halves the time for many small files. `done` is called once for each, with its position.
///
/// # Errors
/// A job's files could not be written, or somebody else changed them, or its history is deleted. They are as they were
/// before the commit; begin again behind [`JobFiles::resume`].
pub fn commit_all(
    jobs: &mut [(&mut JobFiles, Batch)],
    mut done: impl FnMut(usize, Result<Committed, StoreError>),
) {
    let mut from = 0;
    while from < jobs.len() {
        let size = jobs[from].0.limits.open_jobs.clamp(1, jobs.len() - from);
        commit_group(&mut jobs[from..from + size], |n, result| done(from + n, result));
        from += size;
    }
}

fn commit_group(
    jobs: &mut [(&mut JobFiles, Batch)],
    mut done: impl FnMut(usize, Result<Committed, StoreError>),
) {
    let written: Vec<_> = jobs.iter_mut().map(|(files, batch)| files.write(batch)).collect();
    // Rows are written when all members are durable: in between they would join what the next sync waits for.
    let written = jobs.iter().zip(written);
    let synced: Vec<_> = written
        .map(|((files, _), written)| written.and_then(|written| files.sync(&written).map(|()| written)))
        .collect();
    for (n, ((files, batch), synced)) in jobs.iter_mut().zip(synced).enumerate() {
        let result = match synced {
            Ok(written) => Ok(files.finish(batch, written)),
            Err(why) => {
                files.undo(&why);
                Err(why)
            }
        };
        done(n, result);
    }
}
