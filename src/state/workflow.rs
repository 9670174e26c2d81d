//! Records of workflows: one of the whole, and one of each job of it that has run.
//!
//! Table `workflows`: `serial` (the order of acceptance), `record` ([`WorkflowRecord`] as JSON), `crc`. Table `elements`:
//! `workflow` (its serial), `node`, `element`, `record` ([`ElementRecord`] as JSON), `crc`. A job of a workflow that
//! ends adds one small row, so that a graph of ten thousand writes each of them once. Rows of one transaction stand or fall together
//! with the records of jobs: a job's record goes only in or behind the transaction that keeps its end here.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::checksum::checksum;
use crate::job::egress::List;
use crate::job::{ClientId, Ending, JobId, Limits, NetRate, NetworkMode, RuntimeId, User, WorkflowId};

/// Made when they are missing: earlier versions do not know them, and leave them alone.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS workflows (serial INTEGER PRIMARY KEY, crc INTEGER NOT \
    NULL, record TEXT NOT NULL) STRICT; CREATE TABLE IF NOT EXISTS elements (workflow INTEGER NOT NULL, node INTEGER \
    NOT NULL, element INTEGER NOT NULL, crc INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (workflow, node, \
    element)) STRICT, WITHOUT ROWID;";

/// Everything about a workflow as a whole that must survive the daemon. Times are ns since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRecord {
    /// The workflow's id.
    pub id: WorkflowId,
    /// Place in the order of acceptance, from 1.
    pub serial: u64,
    /// The name that its file gives it; may be empty.
    pub name: String,
    /// The file, with `***` for the values of secrets.
    pub yaml: String,
    /// The file with the values of its secrets is sealed in the staging directory, as long as the workflow runs.
    pub sealed: bool,
    /// The node's defaults at the time of acceptance.
    pub defaults: Defaults,
    /// The client that made the request.
    pub client: ClientId,
    /// The client's own id of the request; may be empty.
    pub request_id: String,
    /// Handles of the uploads that its jobs name.
    pub upload_handles: Vec<String>,
    /// Time of acceptance.
    pub created_ns: i64,
    /// A user canceled it.
    pub canceled: bool,
    /// Its end, once all of its jobs are over.
    pub end: Option<WorkflowEnd>,
}

/// The limits and places of jobs that ask for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Resource limits of its jobs.
    pub limits: Limits,
    /// The user inside.
    pub user: User,
    /// The network of its jobs.
    pub network: NetworkMode,
    /// Longest run time.
    pub timeout: Option<Duration>,
    /// The names and addresses that a job with a network may reach.
    pub egress: Option<List>,
    /// The rate of a job with a network.
    #[serde(default, skip_serializing_if = "NetRate::is_unlimited")]
    pub rate: NetRate,
    /// The versions that the runtimes of its jobs came to, by the texts that ask for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes: BTreeMap<String, RuntimeId>,
}

/// The end of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowEnd {
    /// Its last status, in the word of the wire.
    pub status: String,
    /// Start of its first job.
    pub started_ns: Option<i64>,
    /// Time of the end.
    pub ended_ns: i64,
    /// A sentence for people; empty where the status says all.
    pub message: String,
    /// Its jobs in the order of the file.
    pub nodes: Vec<NodeRecord>,
}

/// One job of a workflow that is over, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its key in the file.
    pub name: String,
    /// The numbers of the jobs that it waits for.
    pub dependencies: Vec<u32>,
    /// The elements that it stands for.
    pub elements: u32,
    /// Whether it is an array or a matrix.
    pub is_array: bool,
}

/// An element of a workflow's job, of which an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementRecord {
    /// Serial of the workflow.
    pub workflow: u64,
    /// Number of the job in the file.
    pub node: u32,
    /// Number of the element.
    pub element: u32,
    /// Ids of the attempts that have ended, in order.
    pub attempts: Vec<JobId>,
    /// Start of the last one's payload.
    pub started_ns: Option<i64>,
    /// End of the last one.
    pub ended_ns: i64,
    /// How the last one ended.
    pub ending: Ending,
    /// Earliest start of the next attempt; `None`: there is no next one.
    pub next_ns: Option<i64>,
}

/// A workflow and its elements of which an attempt has ended.
pub(super) type Stored = (WorkflowRecord, Vec<ElementRecord>);

/// Changes of workflows that are to be written.
#[derive(Debug, Default)]
pub struct WorkflowChanges {
    /// Newest records with their versions, by serial.
    heads: BTreeMap<u64, (Box<WorkflowRecord>, u64)>,
    elements: BTreeMap<(u64, u32, u32), Box<ElementRecord>>,
    gone: Vec<u64>,
}

/// One change of a workflow.
#[derive(Debug)]
pub enum WorkflowChange {
    /// Its newest record, and the number of it, counted up by the caller.
    Head(Box<WorkflowRecord>, u64),
    /// An attempt of an element has ended.
    Element(Box<ElementRecord>),
    /// The end of all records of these workflows, by serial.
    Delete(Vec<u64>),
}

impl WorkflowChanges {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.elements.is_empty() && self.gone.is_empty()
    }

    /// Whether records go.
    pub(super) fn removes(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The records of whole workflows with their versions.
    pub(super) fn versions(&self) -> Vec<(u64, u64)> {
        self.heads.iter().map(|(serial, (_, version))| (*serial, *version)).collect()
    }

    /// Adds a change, which replaces an earlier one of the same record.
    pub(super) fn take(&mut self, change: WorkflowChange) {
        match change {
            WorkflowChange::Head(record, version) => {
                self.heads.insert(record.serial, (record, version));
            }
            WorkflowChange::Element(record) => {
                self.elements.insert((record.workflow, record.node, record.element), record);
            }
            WorkflowChange::Delete(serials) => {
                self.heads.retain(|serial, _| !serials.contains(serial));
                self.elements.retain(|(serial, ..), _| !serials.contains(serial));
                self.gone.extend(serials);
            }
        }
    }

    /// Writes all of it within a transaction.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let text = |record: serde_json::Result<String>| {
            record.map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
        };
        let mut put = transaction
            .prepare_cached("INSERT OR REPLACE INTO workflows (serial, crc, record) VALUES (?1, ?2, ?3)")?;
        for (serial, (record, _)) in &self.heads {
            let text = text(serde_json::to_string(record))?;
            put.execute(params![serial.cast_signed(), checksum(&text), text])?;
        }
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO elements (workflow, node, element, crc, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for ((serial, node, element), record) in &self.elements {
            let text = text(serde_json::to_string(record))?;
            put.execute(params![serial.cast_signed(), node, element, checksum(&text), text])?;
        }
        for delete in ["DELETE FROM workflows WHERE serial = ?1", "DELETE FROM elements WHERE workflow = ?1"]
        {
            let mut delete = transaction.prepare_cached(delete)?;
            for serial in &self.gone {
                delete.execute(params![serial.cast_signed()])?;
            }
        }
        Ok(())
    }
}

/// All workflows with the elements of each, oldest first. A row that cannot be read is in the second value, in words.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<(Vec<Stored>, Vec<String>)> {
    let mut damaged = Vec::new();
    let heads: Vec<WorkflowRecord> =
        rows(connection, "SELECT crc, record FROM workflows ORDER BY serial", &mut damaged)?;
    let elements: Vec<ElementRecord> =
        rows(connection, "SELECT crc, record FROM elements ORDER BY workflow, node, element", &mut damaged)?;
    let mut found: BTreeMap<u64, (WorkflowRecord, Vec<ElementRecord>)> =
        heads.into_iter().map(|head| (head.serial, (head, Vec::new()))).collect();
    for element in elements {
        if let Some((_, of)) = found.get_mut(&element.workflow) {
            of.push(element);
        }
    }
    Ok((found.into_values().collect(), damaged))
}

/// The rows of a damaged database that can be read.
pub(super) fn rescue(connection: &Connection) -> WorkflowChanges {
    let mut changes = WorkflowChanges::default();
    // A database of an earlier version has no tables of them.
    let (found, _) = read(connection).unwrap_or_default();
    for (head, elements) in found {
        changes.take(WorkflowChange::Head(Box::new(head), 0));
        elements.into_iter().for_each(|element| changes.take(WorkflowChange::Element(Box::new(element))));
    }
    changes
}

fn rows<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
    damaged: &mut Vec<String>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (crc, text): (i64, String) = (row.get(0)?, row.get(1)?);
        if crc != checksum(&text) {
            damaged.push("the checksum of a workflow's row does not fit".to_owned());
            continue;
        }
        match serde_json::from_str(&text) {
            Ok(record) => found.push(record),
            Err(why) => damaged.push(why.to_string()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitReason, Status};
    use crate::state::Database;

    fn head(serial: u64) -> WorkflowRecord {
        let limits = Limits { cpu: None, memory: None, io: None, cores: None, pids: 10 };
        let defaults = Defaults {
            limits,
            user: User::Root,
            network: NetworkMode::None,
            timeout: None,
            egress: None,
            rate: NetRate::default(),
            runtimes: BTreeMap::new(),
        };
        WorkflowRecord {
            id: WorkflowId::random(),
            serial,
            name: "w".into(),
            yaml: "jobs: {a: {command: x}}".into(),
            sealed: false,
            defaults,
            client: ClientId::new(7),
            request_id: String::new(),
            upload_handles: vec![],
            created_ns: 1,
            canceled: false,
            end: None,
        }
    }

    fn element(workflow: u64, node: u32, code: i32) -> ElementRecord {
        let reason = ExitReason::Exited;
        let ending = Ending { status: Status::Failed, reason, code, signal: 0, message: String::new() };
        let attempts = vec![JobId::random()];
        ElementRecord {
            workflow,
            node,
            element: 0,
            attempts,
            started_ns: None,
            ended_ns: 2,
            ending,
            next_ns: None,
        }
    }

    fn write(database: &mut Database, changes: Vec<WorkflowChange>) {
        let mut all = WorkflowChanges::default();
        changes.into_iter().for_each(|change| all.take(change));
        database.write_with(&BTreeMap::new(), &[], &Default::default(), &[], &all).unwrap();
    }

    #[test]
    fn workflows_come_back_with_their_newest_rows_and_go_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let (mut database, _) = Database::open(dir.path()).unwrap();
        let (one, two) = (head(1), head(2));
        let canceled = WorkflowRecord { canceled: true, ..one.clone() };
        let (old, new) = (element(1, 3, 1), element(1, 3, 2));
        write(
            &mut database,
            vec![
                WorkflowChange::Head(Box::new(one), 1),
                WorkflowChange::Element(Box::new(old)),
                WorkflowChange::Head(Box::new(two.clone()), 1),
                WorkflowChange::Element(Box::new(element(2, 0, 0))),
                // Its workflow is not known.
                WorkflowChange::Element(Box::new(element(9, 0, 0))),
            ],
        );
        write(
            &mut database,
            vec![
                WorkflowChange::Head(Box::new(canceled.clone()), 2),
                WorkflowChange::Element(Box::new(new.clone())),
                WorkflowChange::Delete(vec![2]),
            ],
        );
        drop(database);
        let (mut database, _) = Database::open(dir.path()).unwrap();
        assert_eq!(database.workflows().unwrap(), [(canceled, vec![new])]);
        write(
            &mut database,
            vec![WorkflowChange::Head(Box::new(two), 1), WorkflowChange::Delete(vec![1, 2])],
        );
        assert_eq!(database.workflows().unwrap(), []);
    }

    #[test]
    fn damaged_row_is_refused_and_recover_keeps_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (mut database, _) = Database::open(dir.path()).unwrap();
        let (one, two) = (head(1), head(2));
        let both = [&one, &two].map(|head| WorkflowChange::Head(Box::new(head.clone()), 1));
        write(&mut database, both.into());
        drop(database);
        let connection = Connection::open(dir.path().join("state.db")).unwrap();
        connection.execute("UPDATE workflows SET crc = crc + 1 WHERE serial = 1", []).unwrap();
        drop(connection);
        let (database, _) = Database::open(dir.path()).unwrap();
        assert!(database.workflows().unwrap_err().to_string().contains("joblet recover"));
        drop(database);
        let connection = Connection::open(dir.path().join("state.db")).unwrap();
        assert_eq!(rescue(&connection).versions(), [(2, 0)]);
    }
}
