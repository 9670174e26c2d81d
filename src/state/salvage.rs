//! `joblet recover`: a new database from the readable rows of a damaged one, and from the files that the jobs left.
//!
//! Networks, volumes and workflows are taken over as far as they can be read. Records come from the damaged database row by row, and for jobs that are not among these from beside their output
//! ([`sidecar`], jobs that are over) and from their exit files ([`intent`], jobs that ran). Nothing is thrown
//! away: the damaged database is kept, and so is the output of jobs of which no record is found, out of the way of
//! the next daemon, which removes spools without a job.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::database::{Database, Deletions, check, connect, decode};
use super::standing::{self, StandingChange};
use super::workflow::{self, WorkflowChanges};
use super::{NetworkChange, Record, Stage, StateError, VolumeChange, intent, sidecar};
use crate::job::JobId;

/// The result of [`salvage`].
#[derive(Debug)]
pub struct Salvaged {
    /// The path of the damaged database now.
    pub aside: PathBuf,
    /// Records that could be read of it.
    pub saved: usize,
    /// Records that were rebuilt from the files that the jobs left.
    pub rebuilt: usize,
    /// Rows that were neither saved nor rebuilt; `None`: the number of rows is unknown.
    pub lost: Option<usize>,
    /// Spools of jobs without a record, and where they are now.
    pub spools: Option<(usize, PathBuf)>,
}

/// Reads every readable row of the damaged `<data_dir>/state.db`, keeps it aside and puts a new one in its place. `exits`
/// is the directory of the exit files, `spools` that of the spools; no daemon may run on them.
///
/// # Errors
/// It cannot be opened at all, or is newer; or the new one cannot be written. The old one stays then.
pub fn salvage(data_dir: &Path, exits: &Path, spools: &Path, now_ns: i64) -> Result<Salvaged, StateError> {
    let path = data_dir.join("state.db");
    let rows = rescue(&path)?;
    let mut records: BTreeMap<u64, Record> =
        rows.whole.into_iter().map(|record| (record.serial, record)).collect();
    let saved = records.len();
    for record in names(spools).filter_map(|(_, id)| sidecar::read(&spools.join(id.to_string()))) {
        let place = records.entry(record.serial).or_insert_with(|| record.clone());
        // A database that lost its log has older records.
        if place.id == record.id && !matches!(place.stage, Stage::Ended(_)) {
            *place = record;
        }
    }
    for record in names(exits).filter_map(|(path, _)| intent::read(&File::open(path).ok()?)) {
        records.entry(record.serial).or_insert(record);
    }
    let failed = |source| StateError::Open { path: path.clone(), source };
    let mark = format!("damaged-{}", now_ns / 1_000_000_000);
    let aside = data_dir.join(format!("state.db.{mark}"));
    let moved = data_dir.join(format!("spool.{mark}"));
    let number = put_aside(spools, &moved, &records).map_err(failed)?;
    replace(data_dir, &path, &aside, &records, &rows.standing, &rows.workflows)?;
    Ok(Salvaged {
        aside,
        saved,
        rebuilt: records.len() - saved,
        lost: rows.broken.map(|broken| broken.iter().filter(|serial| !records.contains_key(serial)).count()),
        spools: (number > 0).then_some((number, moved)),
    })
}

/// The entries of a directory that are named like a job.
fn names(dir: &Path) -> impl Iterator<Item = (PathBuf, JobId)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), JobId::parse(entry.file_name().to_str()?)?)))
}

/// Moves the spools of jobs without a record into `to`; how many.
fn put_aside(spools: &Path, to: &Path, records: &BTreeMap<u64, Record>) -> io::Result<usize> {
    let known: HashSet<JobId> = records.values().map(|record| record.id).collect();
    let mut number = 0;
    for (path, id) in names(spools).filter(|(_, id)| !known.contains(id)) {
        fs::create_dir_all(to)?;
        fs::rename(path, to.join(id.to_string()))?;
        number += 1;
    }
    Ok(number)
}

/// Writes the new database aside, keeps the old one, and only then lets the new one take its name: there is always one
/// of that name, so that no daemon starts without any job and removes the files that they left.
fn replace(
    data_dir: &Path,
    path: &Path,
    aside: &Path,
    records: &BTreeMap<u64, Record>,
    standing: &[StandingChange],
    workflows: &WorkflowChanges,
) -> Result<(), StateError> {
    let failed = |source| StateError::Open { path: path.to_owned(), source };
    let unless_absent = |done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    };
    let making = data_dir.join("state.new");
    unless_absent(fs::remove_dir_all(&making))?;
    fs::create_dir(&making).map_err(failed)?;
    let (mut database, _) = Database::open(&making)?;
    let records = records.iter().map(|(serial, record)| (*serial, record)).collect();
    let standing = standing.iter().collect::<Vec<_>>();
    database.write_with(&records, &[], &Deletions::default(), &standing, workflows)?;
    database.sync()?;
    database.checkpoint()?;
    drop(database);
    fs::hard_link(path, aside).map_err(failed)?;
    for tail in ["-wal", "-shm"] {
        let name = |base: &Path| PathBuf::from(format!("{}{tail}", base.display()));
        unless_absent(fs::rename(name(path), name(aside)))?;
    }
    fs::rename(making.join("state.db"), path).map_err(failed)?;
    fs::remove_dir(&making).map_err(failed)?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// The rows of a damaged database.
struct Rows {
    whole: Vec<Record>,
    standing: Vec<StandingChange>,
    workflows: WorkflowChanges,
    /// Serials of rows that cannot be read; `None`: the table cannot.
    broken: Option<BTreeSet<u64>>,
}

/// All rows, each by itself. A file that is no database has none.
fn rescue(path: &Path) -> Result<Rows, StateError> {
    let connection = connect(path)?;
    // Else closing it would write into it.
    let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    let damaged = |e: rusqlite::Error| StateError::Damaged { path: path.to_owned(), why: e.to_string() };
    connection.set_db_config(keep, true).map_err(damaged)?;
    // A damaged header may hide which program made the file; the rows show it.
    if let Err(other @ StateError::Newer { .. }) = check(&connection, path) {
        return Err(other);
    }
    // A database of an earlier version has no table of them.
    let networks = standing::read(&connection).unwrap_or_default().into_iter().flatten();
    let networks = networks.map(|network| NetworkChange { network, is_there: true }.into());
    let volumes = standing::read(&connection).unwrap_or_default().into_iter().flatten();
    let volumes = volumes.map(|volume| VolumeChange { volume, is_there: true, old_bytes: None }.into());
    let standing = networks.chain(volumes).collect();
    let workflows = workflow::rescue(&connection);
    let highest =
        connection.query_row("SELECT max(serial) FROM jobs", [], |row| row.get::<_, Option<i64>>(0));
    let Ok(highest) = highest else {
        return Ok(Rows { whole: Vec::new(), standing, workflows, broken: None });
    };
    let (mut whole, mut broken, mut at) = (Vec::new(), BTreeSet::new(), 0);
    while at < highest.unwrap_or(0) {
        // One row at a time: a page that cannot be read takes its own rows only.
        let next = "SELECT serial, crc, record FROM jobs WHERE serial > ?1 ORDER BY serial LIMIT 1";
        let row = connection.query_row(next, [at], |row| Ok((row.get::<_, i64>(0)?, decode(row))));
        match row {
            Ok((serial, decoded)) => {
                at = serial;
                match decoded {
                    Ok(record) => whole.push(record),
                    Err(_) => drop(broken.insert(serial.cast_unsigned())),
                }
            }
            Err(rusqlite::Error::QueryReturnedNoRows) => break,
            Err(_) => {
                at += 1;
                broken.insert(at.cast_unsigned());
            }
        }
    }
    Ok(Rows { whole, standing, workflows, broken: Some(broken) })
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;
