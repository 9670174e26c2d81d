//! The file: opening it with care, reading all of it, writing batches.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use rustix::io::Errno;

use super::checksum::checksum;
use super::standing::{self, StandingChange};
use super::workflow::{self, ElementRecord, WorkflowChanges, WorkflowRecord};
use super::{Record, StateError, StoredNetwork, StoredVolume, is_writable, wal};
use crate::job::JobId;

/// `application_id` of our databases: "JBLT".
pub const APPLICATION: i64 = 0x4a42_4c54;
/// Version of the format.
pub const VERSION: i64 = 1;

const TABLE: &str =
    "CREATE TABLE jobs (serial INTEGER PRIMARY KEY, crc INTEGER NOT NULL, record TEXT NOT NULL) STRICT";
/// Jobs whose history is to be deleted. Made when it is missing: earlier versions do not know it, and leave it alone.
const DELETIONS: &str = "CREATE TABLE IF NOT EXISTS deletions (job TEXT PRIMARY KEY) STRICT";

/// A change of the jobs whose history is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions {
    /// Jobs whose history is to be deleted from now on.
    pub wanted: Vec<JobId>,
    /// Jobs whose history is deleted.
    pub done: Vec<JobId>,
}

/// An open database. One process at a time has it: the daemon holds the lock of dataDir.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
    log: File,
    /// The content that the log must have, while the disk may have less of it.
    owed: Option<Vec<u8>>,
}

impl Database {
    /// Opens `<data_dir>/state.db`, or makes it with mode 0600, and reads every record, oldest job first.
    ///
    /// # Errors
    /// It cannot be opened, is damaged, newer, or not ours; it is left as it was.
    pub fn open(data_dir: &Path) -> Result<(Database, Vec<Record>), StateError> {
        let path = data_dir.join("state.db");
        let opened = |source| StateError::Open { path: path.clone(), source };
        let flags = libc::O_NOFOLLOW;
        let is_new = {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
            options.open(&path).and_then(|file| file.metadata()).map_err(opened)?.len() == 0
        };
        let connection = connect(&path)?;
        let damaged = |e: rusqlite::Error| StateError::Damaged { path: path.clone(), why: e.to_string() };
        if is_new {
            create(&connection).map_err(|e| write_failed(&path, e))?;
        }
        check(&connection, &path)?;
        let records = read(&connection, &path)?;
        // Without a checkpoint of SQLite's own: the writer does it when nothing waits. NORMAL: the writer syncs.
        // Deleted records are overwritten in the file; [`Database::erase`] does it in the log.
        let settings = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; \
                        PRAGMA secure_delete=ON;";
        let settings = format!("{settings} {DELETIONS}; {}; {}", standing::TABLES, workflow::TABLES);
        // The empty transaction makes the log. SQLite keeps this one file for as long as the connection lives. It holds
        // no locks, so that opening it here takes none away (close(2) would, of the database itself).
        connection.execute_batch(&format!("{settings} BEGIN IMMEDIATE; COMMIT;")).map_err(damaged)?;
        let log = path.with_extension("db-wal");
        let log = opened_log(&log).map_err(|source| StateError::Open { path: log, source })?;
        Ok((Database { path, connection, log, owed: None }, records))
    }

    /// Whether an earlier daemon has left a log, which may hold what was deleted since.
    pub fn has_traces(&self) -> bool {
        wal::written(&self.log).is_ok_and(|written| written.len() > wal::HEADER)
    }

    /// Commits newest records and removals in one transaction: *written*, not yet durable.
    ///
    /// # Errors
    /// Nothing of it was written.
    pub fn write(&mut self, puts: &BTreeMap<u64, &Record>, gone: &[u64]) -> Result<(), StateError> {
        self.write_with(puts, gone, &Deletions::default(), &[], &WorkflowChanges::default())
    }

    /// The same, with changes of the jobs whose history is to be deleted, of networks and volumes in their order, and of
    /// workflows.
    ///
    /// # Errors
    /// Nothing of it was written.
    pub fn write_with(
        &mut self,
        puts: &BTreeMap<u64, &Record>,
        gone: &[u64],
        deletions: &Deletions,
        standing: &[&StandingChange],
        workflows: &WorkflowChanges,
    ) -> Result<(), StateError> {
        self.rewrite_log()?;
        let mut write = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            {
                let mut put = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO jobs (serial, crc, record) VALUES (?1, ?2, ?3)",
                )?;
                for (serial, record) in puts {
                    let text = serde_json::to_string(record)
                        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
                    put.execute(params![serial.cast_signed(), checksum(&text), text])?;
                }
                let mut delete = transaction.prepare_cached("DELETE FROM jobs WHERE serial = ?1")?;
                for serial in gone {
                    delete.execute(params![serial.cast_signed()])?;
                }
                for (jobs, change) in [
                    (&deletions.wanted, "INSERT OR IGNORE INTO deletions (job) VALUES (?1)"),
                    (&deletions.done, "DELETE FROM deletions WHERE job = ?1"),
                ] {
                    let mut change = transaction.prepare_cached(change)?;
                    for job in jobs {
                        change.execute(params![job.to_string()])?;
                    }
                }
                standing.iter().try_for_each(|change| change.write(&transaction))?;
            }
            workflows.write(&transaction)?;
            transaction.commit()
        };
        write().map_err(|e| write_failed(&self.path, e))
    }

    /// Jobs whose history is to be deleted.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn deletions(&self) -> Result<Vec<JobId>, StateError> {
        let damaged =
            |e: rusqlite::Error| StateError::Damaged { path: self.path.clone(), why: e.to_string() };
        let mut statement = self.connection.prepare("SELECT job FROM deletions").map_err(damaged)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(damaged)?;
        let jobs = rows.map(|job| job.map_err(damaged)).collect::<Result<Vec<_>, _>>()?;
        Ok(jobs.iter().filter_map(|job| JobId::parse(job)).collect())
    }

    /// The networks that clients made, by their names.
    ///
    /// # Errors
    /// The table cannot be read, or a row is damaged.
    pub fn networks(&self) -> Result<Vec<StoredNetwork>, StateError> {
        self.standing()
    }

    /// The volumes of the node, by their names.
    ///
    /// # Errors
    /// The table cannot be read, or a row is damaged.
    pub fn volumes(&self) -> Result<Vec<StoredVolume>, StateError> {
        self.standing()
    }

    fn standing<N: standing::Named>(&self) -> Result<Vec<N>, StateError> {
        let damaged = |why| StateError::Damaged { path: self.path.clone(), why };
        standing::read(&self.connection).and_then(|rows| rows.into_iter().collect()).map_err(damaged)
    }

    /// The workflows of an earlier daemon with the elements of each, oldest first.
    ///
    /// # Errors
    /// A table or a row cannot be read.
    pub fn workflows(&self) -> Result<Vec<(WorkflowRecord, Vec<ElementRecord>)>, StateError> {
        let damaged = |why: String| StateError::Damaged { path: self.path.clone(), why };
        let (found, wrong) = workflow::read(&self.connection).map_err(|e| damaged(e.to_string()))?;
        wrong.into_iter().next().map_or(Ok(found), |why| Err(damaged(why)))
    }

    /// Makes all writes durable: fdatasync(2) of the write-ahead log.
    ///
    /// # Errors
    /// The disk's. Writes since the last sync may be lost with the power, and a second try says nothing of them
    /// (fsync(2), NOTES on EIO). A copy is taken while the kernel still has them, and it is written before anything
    /// else.
    pub fn sync(&mut self) -> Result<(), StateError> {
        self.rewrite_log()?;
        self.log.sync_data().and_then(|()| is_writable(&self.log)).map_err(|source| {
            self.owed = Some(wal::written(&self.log).unwrap_or_default());
            StateError::Write { path: self.path.clone(), source }
        })
    }

    /// Writes the part of the log that the disk may have lost.
    fn rewrite_log(&mut self) -> Result<(), StateError> {
        let Some(owed) = &mut self.owed else { return Ok(()) };
        if owed.is_empty() {
            *owed = wal::written(&self.log)
                .map_err(|source| StateError::Write { path: self.path.clone(), source })?;
        }
        let rewritten = self.log.write_all_at(owed, 0).and_then(|()| self.log.sync_data());
        let rewritten = rewritten.and_then(|()| is_writable(&self.log));
        rewritten.map_err(|source| StateError::Write { path: self.path.clone(), source })?;
        self.owed = None;
        Ok(())
    }

    /// Moves the log into the database, and makes that durable. The log is then written from its beginning again.
    ///
    /// # Errors
    /// The disk's; the log stays then.
    pub fn checkpoint(&mut self) -> Result<(), StateError> {
        self.rewrite_log()?;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        done.map_err(|e| write_failed(&self.path, e))
    }

    /// Moves the log into the database and empties it, so that no file of the database holds a deleted record.
    ///
    /// # Errors
    /// The disk's; the log, or its old blocks, may stay then.
    pub fn erase(&mut self) -> Result<(), StateError> {
        self.rewrite_log()?;
        let busy =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let failed = |source| StateError::Write { path: self.path.clone(), source };
        if busy.map_err(|e| write_failed(&self.path, e))? != 0 {
            return Err(failed(io::ErrorKind::ResourceBusy.into()));
        }
        lengthen(&self.log).map_err(failed)
    }
}

/// Bytes that the log has from the start, some 500 commits. Making it longer costs each fdatasync(2) a commit of the file
/// system's own journal.
const LOG: u64 = 8 << 20;

fn opened_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new().read(true).write(true).open(path)?;
    // The disk may hold less of it than the kernel shows us: an earlier daemon's last sync may have failed.
    log.write_all_at(&wal::written(&log)?, 0)?;
    lengthen(&log)?;
    Ok(log)
}

/// Lengthens the log with zeros, which SQLite takes for space not written yet.
fn lengthen(log: &File) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    for at in (log.metadata()?.len()..LOG).step_by(zeros.len()) {
        // A disk without room for it has room for records, perhaps.
        if log.write_all_at(&zeros, at).is_err() {
            break;
        }
    }
    log.sync_all()
}

/// SQLite drops most errno values; a lasting one shows again in a check of the file.
fn write_failed(path: &Path, why: rusqlite::Error) -> StateError {
    let lasting = File::open(path).and_then(|file| is_writable(&file));
    let source = match (why.sqlite_error_code(), lasting) {
        (Some(ErrorCode::DiskFull), _) => Errno::NOSPC.into(),
        (_, Err(lasting)) => lasting,
        (Some(ErrorCode::SystemIoFailure), _) => Errno::IO.into(),
        _ => io::Error::other(why),
    };
    StateError::Write { path: path.to_owned(), source }
}

pub(super) fn connect(path: &Path) -> Result<Connection, StateError> {
    let damaged = |e: rusqlite::Error| StateError::Damaged { path: path.to_owned(), why: e.to_string() };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(damaged)?;
    // Ours alone: without memory shared between processes, and without looking for changes of others.
    connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE").map_err(damaged)?;
    Ok(connection)
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let marks = format!("PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};");
    connection.execute_batch(&format!("BEGIN; {TABLE}; {DELETIONS}; {}; {marks} COMMIT;", standing::TABLES))
}

/// Reads before anything is written.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StateError> {
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let number = |pragma| number(pragma).map_err(|e| damaged(e.to_string()));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    if application != APPLICATION {
        return Err(StateError::Foreign { path: path.to_owned() });
    }
    if version != VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|e| damaged(e.to_string()))?.as_str() {
        "ok" => Ok(()),
        why => Err(damaged(why.lines().collect::<Vec<_>>().join(" "))),
    }
}

fn read(connection: &Connection, path: &Path) -> Result<Vec<Record>, StateError> {
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let failed = |e: rusqlite::Error| damaged(e.to_string());
    let mut statement =
        connection.prepare("SELECT serial, crc, record FROM jobs ORDER BY serial").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let serial: i64 = row.get(0).map_err(failed)?;
        let record = decode(row).map_err(|why| damaged(format!("job {serial}: {why}")))?;
        records.push(record);
    }
    Ok(records)
}

/// One row of `serial, crc, record`.
pub(super) fn decode(row: &rusqlite::Row<'_>) -> Result<Record, String> {
    let words = |e: rusqlite::Error| e.to_string();
    let text = row.get_ref(2).map_err(words)?.as_str().map_err(|e| e.to_string())?;
    if row.get::<_, i64>(1).map_err(words)? != checksum(text) {
        return Err("its checksum does not fit".to_owned());
    }
    let record: Record = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if row.get::<_, i64>(0).map_err(words)? != record.serial.cast_signed() {
        return Err("it stands in another job's place".to_owned());
    }
    Ok(record)
}

#[cfg(test)]
#[path = "database_tests.rs"]
pub(super) mod tests;
