//! Things of the node that clients make and that stay until they are removed: a row each, by name, in a table of their kind.

use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checksum::checksum;
use super::{NetworkChange, StoredNetwork, StoredVolume, VolumeChange};

/// The tables, made when they are missing: earlier versions do not know them, and leave them alone.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS networks (name TEXT PRIMARY KEY, crc INTEGER NOT NULL, record TEXT NOT NULL) STRICT; \
     CREATE TABLE IF NOT EXISTS volumes (name TEXT PRIMARY KEY, crc INTEGER NOT NULL, record TEXT NOT NULL) STRICT";

/// A thing that is stored by its name.
pub(super) trait Named: Serialize + DeserializeOwned {
    /// The table, which is the plural of the word for one.
    const TABLE: &'static str;
    /// The word for one, in errors.
    const WORD: &'static str;

    /// The name, by which its row is found.
    fn name(&self) -> &str;
}

impl Named for StoredNetwork {
    const TABLE: &'static str = "networks";
    const WORD: &'static str = "network";

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Named for StoredVolume {
    const TABLE: &'static str = "volumes";
    const WORD: &'static str = "volume";

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// A change of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandingChange {
    /// A change of a network.
    Network(NetworkChange),
    /// A change of a volume.
    Volume(VolumeChange),
}

impl From<NetworkChange> for StandingChange {
    fn from(change: NetworkChange) -> Self {
        StandingChange::Network(change)
    }
}

impl From<VolumeChange> for StandingChange {
    fn from(change: VolumeChange) -> Self {
        StandingChange::Volume(change)
    }
}

impl StandingChange {
    /// The change that undoes this one.
    pub(super) fn undone(self) -> Self {
        match self {
            StandingChange::Network(change) => StandingChange::Network(change.undone()),
            StandingChange::Volume(change) => StandingChange::Volume(change.undone()),
        }
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            StandingChange::Network(change) => write(transaction, &change.network, change.is_there),
            StandingChange::Volume(change) => write(transaction, &change.volume, change.is_there),
        }
    }
}

fn write<N: Named>(transaction: &Transaction<'_>, thing: &N, is_there: bool) -> rusqlite::Result<()> {
    let (table, name) = (N::TABLE, thing.name());
    if !is_there {
        return transaction.execute(&format!("DELETE FROM {table} WHERE name = ?1"), params![name]).map(drop);
    }
    let text = serde_json::to_string(thing).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let put = format!("INSERT OR REPLACE INTO {table} (name, crc, record) VALUES (?1, ?2, ?3)");
    transaction.execute(&put, params![name, checksum(&text), text]).map(drop)
}

/// The rows of a table, each by itself.
pub(super) fn read<N: Named>(connection: &Connection) -> Result<Vec<Result<N, String>>, String> {
    let words = |e: rusqlite::Error| e.to_string();
    let table = N::TABLE;
    let select = format!("SELECT name, crc, record FROM {table} ORDER BY name");
    let mut statement = connection.prepare(&select).map_err(words)?;
    let mut rows = statement.query([]).map_err(words)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(words)? {
        found.push(decode(row));
    }
    Ok(found)
}

/// One row of `name, crc, record`.
fn decode<N: Named>(row: &Row<'_>) -> Result<N, String> {
    let words = |e: rusqlite::Error| e.to_string();
    let name = row.get::<_, String>(0).map_err(words)?;
    let word = N::WORD;
    let damaged = |why: &str| format!("{word} {name:?}: {why}");
    let text = row.get_ref(2).map_err(words)?.as_str().map_err(|e| damaged(&e.to_string()))?;
    if row.get::<_, i64>(1).map_err(words)? != checksum(text) {
        return Err(damaged("its checksum does not fit"));
    }
    let thing: N = serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))?;
    if thing.name() != name {
        return Err(damaged(&format!("it stands in another {word}'s place")));
    }
    Ok(thing)
}
