//! Uploads that come ahead of their jobs, as files below `<dataDir>/uploads`.
//!
//! Each upload has a directory named by its handle: `manifest` (its entries and its client), `data` (all contents one
//! behind the other) and, once everything is there and the digest is right, `complete`. A client that lost its
//! connection goes on where `data` ends, also after a restart of the daemon.
//!
//! The bytes of all uploads, and those of one client, are bounded by the sizes that they announce, from their first
//! message until their files are gone. A job that takes an upload has a [`Claim`] on it; with the last of it the files
//! go. An upload that no job takes is removed [`StoreLimits::lifetime`] after its last use. One thread removes files; it is also
//! the clock of that. The loop only takes claims and drops them, which are atomic operations.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Upload;
use super::entry::Entry;
use crate::diag::{self, Level, disk_remedy};

/// Most uploads that are kept at one time.
const MOST: usize = 256;
/// Most of them of one client.
const MOST_OF_CLIENT: usize = 64;
/// Most bytes of paths that an upload keeps in memory, to be shown.
const SHOWN: usize = 4096;
/// The longest pause between two looks for old uploads.
const LOOK: Duration = Duration::from_secs(60);

/// Bounds of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Bytes of all uploads.
    pub total: u64,
    /// Bytes of one client's uploads.
    pub client: u64,
    /// How long an upload is kept that nobody uses.
    pub lifetime: Duration,
}

/// A client, by the digest of what tells it from others: whoever has the same owns its uploads. The number that other
/// rooms count by ([`ClientId`](crate::job::ClientId)) is made of the same key, and too short for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey(String);

impl ClientKey {
    /// The client with this key.
    pub fn of(key: &[u8]) -> Self {
        ClientKey(hex(&openssl::sha::sha256(key)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why the store refuses a request.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such upload of this client.
    #[error("upload not found: {0}; it was removed, or belongs to another client")]
    Find(Uuid),
    /// A new upload with the handle of another one.
    #[error("upload {0} exists already; go on with it by its handle and an offset, or make another handle")]
    Begin(Uuid),
    /// A bound is reached.
    #[error("{0}")]
    Bound(String),
    /// The call does not begin where the upload ends.
    #[error("upload {handle} has {received} bytes; a call cannot begin at {offset}")]
    Resume {
        /// The upload that was meant.
        handle: Uuid,
        /// Bytes that are there.
        received: u64,
        /// Where the call wants to begin.
        offset: u64,
    },
    /// The contents do not have the announced size.
    #[error("upload {handle} has {received} bytes of the {size} that its entries announce")]
    Measure {
        /// The upload that was meant.
        handle: Uuid,
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        size: u64,
    },
    /// The digest is another one.
    #[error("upload {0} arrived damaged: its SHA-256 is not the one that the client sent; send it again")]
    Verify(Uuid),
    /// Another call goes on with the upload, or it was removed meanwhile.
    #[error("upload {0} was taken over by another call, or removed")]
    Continue(Uuid),
    /// The client sent nothing for too long.
    #[error("upload {0} waits for its client no longer; go on with it by its handle")]
    Wait(Uuid),
    /// The disk refuses.
    #[error("cannot store an upload as {path}: {source}; {}", disk_remedy(source))]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The stage of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Open,
    Complete,
    /// A job has it.
    Taken,
    /// Its files are being removed.
    Gone,
}

/// One upload, from its first message until its files are gone.
#[derive(Debug)]
pub struct Stored {
    handle: Uuid,
    client: ClientKey,
    dir: PathBuf,
    size: u64,
    /// Bytes on disk when it is complete.
    cost: u64,
    entries: usize,
    shown: Vec<String>,
    stage: AtomicU8,
    received: AtomicU64,
    /// Counts the calls that went on with it; only the newest may write.
    calls: AtomicU64,
    /// Last use, milliseconds after [`Store::start`].
    used: AtomicU64,
    /// Held for one write, so that a call that takes over waits for the last one of its predecessor.
    pub(super) writer: Mutex<()>,
}

/// An upload as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredStatus {
    /// The handle that its client chose.
    pub handle: Uuid,
    /// Bytes that are stored.
    pub received: u64,
    /// Bytes of all contents.
    pub size: u64,
    /// Whether a job can take it.
    pub complete: bool,
}

impl Stored {
    /// Bytes of all contents.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Files, directories and links.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The first paths, for status.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// The handle that its client chose.
    pub fn handle(&self) -> Uuid {
        self.handle
    }

    fn status(&self) -> StoredStatus {
        StoredStatus {
            handle: self.handle,
            received: self.received.load(Ordering::SeqCst),
            size: self.size,
            complete: self.is(Stage::Complete),
        }
    }

    fn is(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::SeqCst) == stage as u8
    }

    fn step(&self, from: Stage, to: Stage) -> bool {
        self.stage.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The entries with the sizes of their contents, and the file that has these one behind the other.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn open(&self) -> io::Result<(Vec<Entry>, File)> {
        let manifest: Manifest = serde_json::from_slice(&fs::read(self.file("manifest"))?)?;
        Ok((manifest.entries, File::open(self.file("data"))?))
    }
}

/// A job's right to an upload. With the last of it the files are removed.
#[derive(Debug)]
pub struct Claim {
    stored: Arc<Stored>,
    removals: Sender<Uuid>,
}

impl Claim {
    /// The upload that the job has.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.stored.step(Stage::Taken, Stage::Gone) {
            // Without the thread the next daemon removes it, when it is old.
            let _ = self.removals.send(self.stored.handle);
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    client: ClientKey,
    entries: Vec<Entry>,
}

/// All uploads that no job has used up.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    limits: StoreLimits,
    start: Instant,
    index: Mutex<HashMap<Uuid, Arc<Stored>>>,
    removals: Sender<Uuid>,
}

impl Store {
    /// Opens the store in a directory that is ours alone, with what an earlier daemon left, and starts its thread, which
    /// ends with the process.
    ///
    /// # Errors
    /// No thread, or no directory.
    pub fn open(dir: PathBuf, limits: StoreLimits) -> io::Result<Arc<Store>> {
        let (removals, queue) = unbounded();
        let store = Store { dir, limits, start: Instant::now(), index: Mutex::default(), removals };
        for found in fs::read_dir(&store.dir)? {
            let found = found?;
            let handle = found.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            match handle.and_then(|handle| store.read(handle).ok()) {
                Some(stored) => drop(store.lock().insert(stored.handle, Arc::new(stored))),
                None => log_refusal(fs::remove_dir_all(found.path()), &found.path()),
            }
        }
        let store = Arc::new(store);
        let weak = Arc::downgrade(&store);
        let keep = move || {
            while let Some(pause) = weak.upgrade().map(|store| store.pause())
                && let Some(wanted) = next(&queue, pause)
                && let Some(store) = weak.upgrade()
            {
                store.remove_old(wanted);
            }
        };
        std::thread::Builder::new().name("uploads".into()).spawn(keep)?;
        Ok(store)
    }

    /// An upload of an earlier daemon.
    fn read(&self, handle: Uuid) -> io::Result<Stored> {
        let dir = self.dir.join(handle.to_string());
        let text = fs::read(dir.join("manifest"))?;
        let manifest: Manifest = serde_json::from_slice(&text)?;
        let received = fs::metadata(dir.join("data"))?.len();
        let stored = self.stored(handle, manifest.client, &manifest.entries, text.len() as u64);
        if dir.join("complete").exists() {
            stored.step(Stage::Open, Stage::Complete);
        }
        stored.received.store(received, Ordering::SeqCst);
        Ok(stored)
    }

    fn stored(&self, handle: Uuid, client: ClientKey, entries: &[Entry], manifest: u64) -> Stored {
        let size = entries.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        Stored {
            handle,
            client,
            dir: self.dir.join(handle.to_string()),
            size,
            cost: size.saturating_add(manifest),
            entries: entries.len(),
            shown: shown(entries),
            stage: AtomicU8::new(Stage::Open as u8),
            received: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            used: AtomicU64::new(self.now()),
            writer: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Stored>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn pause(&self) -> Duration {
        (self.limits.lifetime / 4).clamp(Duration::from_millis(10), LOOK)
    }

    /// How long a call may wait for its client.
    pub fn patience(&self) -> Duration {
        self.limits.lifetime
    }

    /// An upload of this client, whatever its stage.
    fn of(&self, handle: Uuid, client: &ClientKey) -> Result<Arc<Stored>, StoreError> {
        let found = self.lock().get(&handle).cloned();
        found
            .filter(|stored| stored.client == *client && !stored.is(Stage::Gone))
            .ok_or(StoreError::Find(handle))
    }

    /// How far an upload has come. That counts as a use.
    ///
    /// # Errors
    /// No such upload of this client.
    pub fn status(&self, handle: Uuid, client: &ClientKey) -> Result<StoredStatus, StoreError> {
        let stored = self.of(handle, client)?;
        stored.used.store(self.now(), Ordering::SeqCst);
        Ok(stored.status())
    }

    /// Removes an upload that no job has taken.
    ///
    /// # Errors
    /// No such upload of this client.
    pub fn delete(&self, handle: Uuid, client: &ClientKey) -> Result<StoredStatus, StoreError> {
        let stored = self.of(handle, client)?;
        let status = stored.status();
        self.discard(&stored);
        Ok(status)
    }

    /// An upload that a job could take.
    ///
    /// # Errors
    /// The reason why no job can.
    pub fn find(&self, handle: Uuid, client: &ClientKey) -> Result<Arc<Stored>, String> {
        let stored = self.of(handle, client).map_err(|e| e.to_string())?;
        if stored.is(Stage::Open) {
            return Err(format!("upload {handle} is not complete: send the rest of it first"));
        }
        Ok(stored)
    }

    /// Takes uploads for one job: all of them, or none. It never waits.
    ///
    /// # Errors
    /// One of them is taken already, or gone.
    pub fn take(&self, uploads: &[Arc<Stored>]) -> Result<Vec<Claim>, String> {
        for (at, stored) in uploads.iter().enumerate() {
            if !stored.step(Stage::Complete, Stage::Taken) {
                for taken in &uploads[..at] {
                    taken.step(Stage::Taken, Stage::Complete);
                }
                return Err(format!("upload {} was used by another job: send it again", stored.handle));
            }
        }
        Ok(uploads.iter().map(|stored| self.claim(stored.clone())).collect())
    }

    fn claim(&self, stored: Arc<Stored>) -> Claim {
        Claim { stored, removals: self.removals.clone() }
    }

    /// Gives a waiting job of an earlier daemon the uploads that it had taken.
    ///
    /// # Errors
    /// The first one that is gone.
    pub fn adopt(&self, handles: &[String]) -> Result<Vec<Claim>, String> {
        let index = self.lock();
        let find = |text: &String| Uuid::parse_str(text).ok().and_then(|handle| index.get(&handle).cloned());
        let taken = |stored: &Arc<Stored>| stored.step(Stage::Complete, Stage::Taken);
        let adopt = |text: &String| find(text).filter(taken).map(|stored| self.claim(stored));
        handles.iter().map(|text| adopt(text).ok_or_else(|| format!("upload {text} is gone"))).collect()
    }

    /// Begins an upload: its directory and manifest are on disk when this returns.
    ///
    /// # Errors
    /// The handle is known, a bound is reached, or the disk refuses.
    pub(super) fn begin(
        &self,
        handle: Uuid,
        client: ClientKey,
        uploads: &[(Upload, u64)],
    ) -> Result<Arc<Stored>, StoreError> {
        let entries: Vec<Entry> = uploads.iter().map(|(upload, bytes)| Entry::new(upload, *bytes)).collect();
        let manifest = Manifest { version: 1, client: client.clone(), entries };
        let path = self.dir.join(handle.to_string());
        let failed = |source: io::Error| StoreError::Write { path: path.clone(), source };
        let text = serde_json::to_vec(&manifest).map_err(|e| failed(e.into()))?;
        let stored = Arc::new(self.stored(handle, client, &manifest.entries, text.len() as u64));
        self.admit(&stored)?;
        let made = || -> io::Result<()> {
            fs::DirBuilder::new().mode(0o700).create(&stored.dir)?;
            create(&stored.file("manifest"))?.write_all(&text)?;
            create(&stored.file("data"))?.sync_all()?;
            File::open(&stored.dir)?.sync_all()
        };
        made().map_err(|source| {
            self.discard(&stored);
            failed(source)
        })?;
        Ok(stored)
    }

    /// Counts a new upload, if the bounds allow it.
    fn admit(&self, new: &Arc<Stored>) -> Result<(), StoreError> {
        let mut index = self.lock();
        if index.contains_key(&new.handle) {
            return Err(StoreError::Begin(new.handle));
        }
        let own = index.values().filter(|stored| stored.client == new.client);
        let (own_count, own_bytes) = own.fold((0, 0u64), |(n, bytes), stored| (n + 1, bytes + stored.cost));
        let bytes: u64 = index.values().map(|stored| stored.cost).sum();
        let StoreLimits { total, client, .. } = self.limits;
        let refused = if new.cost > client {
            format!("the upload has {} bytes, one client may have {client} (uploads.clientLimit)", new.cost)
        } else if own_bytes.saturating_add(new.cost) > client {
            format!(
                "this client has {own_bytes} bytes of uploads that no job has used, {client} are allowed \
                 (uploads.clientLimit); use or delete them"
            )
        } else if bytes.saturating_add(new.cost) > total {
            format!(
                "the node holds {bytes} bytes of uploads, {total} are allowed (uploads.limit); try again later"
            )
        } else if own_count >= MOST_OF_CLIENT || index.len() >= MOST {
            format!(
                "{own_count} uploads of this client and {} of all wait for jobs, {MOST_OF_CLIENT} and {MOST} are \
                 allowed; use or delete them",
                index.len()
            )
        } else {
            index.insert(new.handle, new.clone());
            return Ok(());
        };
        Err(StoreError::Bound(refused))
    }

    /// Makes a call the only one that writes to an upload, and returns its number.
    pub(super) fn go_on(&self, handle: Uuid, client: &ClientKey) -> Result<(Arc<Stored>, u64), StoreError> {
        let stored = self.of(handle, client)?;
        if !stored.is(Stage::Open) {
            return Err(StoreError::Begin(handle));
        }
        let call = stored.calls.fetch_add(1, Ordering::SeqCst) + 1;
        Ok((stored, call))
    }

    /// Notes progress of a call, unless another one has taken its place.
    pub(super) fn progress(
        &self,
        stored: &Stored,
        call: u64,
        received: Option<u64>,
    ) -> Result<(), StoreError> {
        if !stored.is(Stage::Open) || stored.calls.load(Ordering::SeqCst) != call {
            return Err(StoreError::Continue(stored.handle));
        }
        if let Some(received) = received {
            stored.received.store(received, Ordering::SeqCst);
        }
        stored.used.store(self.now(), Ordering::SeqCst);
        Ok(())
    }

    /// Makes an upload complete; that is on disk when this returns.
    pub(super) fn complete(&self, stored: &Stored) -> Result<StoredStatus, StoreError> {
        let path = stored.file("complete");
        let mark = || create(&path)?.sync_all().and_then(|()| File::open(&stored.dir)?.sync_all());
        mark().map_err(|source| StoreError::Write { path: path.clone(), source })?;
        if !stored.step(Stage::Open, Stage::Complete) {
            return Err(StoreError::Continue(stored.handle));
        }
        stored.used.store(self.now(), Ordering::SeqCst);
        Ok(stored.status())
    }

    /// Where the contents of an upload are.
    pub(super) fn data(stored: &Stored) -> PathBuf {
        stored.file("data")
    }

    /// Has an upload removed that no job has.
    pub(super) fn discard(&self, stored: &Stored) {
        if stored.step(Stage::Open, Stage::Gone) || stored.step(Stage::Complete, Stage::Gone) {
            // The thread lives as long as the store.
            let _ = self.removals.send(stored.handle);
        }
    }

    /// Removes one upload, or looks for those that nobody uses.
    fn remove_old(&self, wanted: Option<Uuid>) {
        let Some(handle) = wanted else {
            let lifetime = u64::try_from(self.limits.lifetime.as_millis()).unwrap_or(u64::MAX);
            let now = self.now();
            let all: Vec<Arc<Stored>> = self.lock().values().cloned().collect();
            let is_old =
                |stored: &&Arc<Stored>| now.saturating_sub(stored.used.load(Ordering::SeqCst)) > lifetime;
            for stored in all.iter().filter(is_old) {
                self.discard(stored);
            }
            return;
        };
        let path = self.dir.join(handle.to_string());
        log_refusal(fs::remove_dir_all(&path), &path);
        // Its bytes count until they are gone.
        self.lock().remove(&handle);
    }
}

/// The next upload to remove; `Some(None)`: the pause is over; `None`: the store is gone.
fn next(queue: &Receiver<Uuid>, pause: Duration) -> Option<Option<Uuid>> {
    match queue.recv_timeout(pause) {
        Ok(handle) => Some(Some(handle)),
        Err(RecvTimeoutError::Timeout) => Some(None),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn log_refusal(removed: io::Result<()>, path: &Path) {
    match removed {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            diag::limited!(Level::Warn, "cannot remove an upload", path = path.display(), error = why);
        }
        _ => {}
    }
}

/// The first paths, as many as are kept in memory.
fn shown(entries: &[Entry]) -> Vec<String> {
    let mut room = SHOWN;
    let mut shown: Vec<String> = Vec::new();
    for entry in entries {
        let path = entry.shown();
        match room.checked_sub(path.len() + 2) {
            Some(left) => room = left,
            None => {
                shown.push(format!("... and {} more", entries.len() - shown.len()));
                break;
            }
        }
        shown.push(path);
    }
    shown
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
