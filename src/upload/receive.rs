//! One call that sends an upload, or the rest of one: from its chunks to the disk.
//!
//! A thread of its own does it, because it waits for the disk and for the client. It holds two chunks at most, and has
//! what it wrote synced every few megabytes: a flood of dirty pages would otherwise hold up the next fsync of others.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use openssl::sha::Sha256;
use uuid::Uuid;

use super::Upload;
use super::store::{ClientKey, Store, StoreError, Stored, StoredStatus};

/// Longest chunk in bytes.
pub const CHUNK: usize = 1 << 20;
/// Bytes that are written between two syncs.
const SYNC: u64 = 8 << 20;
/// Calls that send at one time, of all clients. Each has a thread.
const CALLS: usize = 64;

/// The start of a call.
#[derive(Debug)]
pub struct Start {
    /// The upload that is sent.
    pub handle: Uuid,
    /// The client that sends it.
    pub client: ClientKey,
    /// The entries of a new upload, already checked, with the sizes of their contents; `None` goes on with one.
    pub entries: Option<Vec<(Upload, u64)>>,
    /// Where the contents of the call begin.
    pub offset: u64,
}

/// A piece of a call.
#[derive(Debug)]
pub struct Piece {
    /// The next bytes of the contents.
    pub data: Vec<u8>,
    /// The digest of all contents, with the last piece.
    pub sha256: Option<[u8; 32]>,
}

/// The right to a thread, counted for as long as it lives.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

/// The threads of all calls.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<AtomicUsize>);

impl Places {
    /// A place for one call.
    ///
    /// # Errors
    /// All are in use.
    pub fn take(&self) -> Result<Place, StoreError> {
        let place = Place(self.0.clone());
        if self.0.fetch_add(1, Ordering::SeqCst) >= CALLS {
            return Err(StoreError::Bound(format!("{CALLS} uploads are being sent already; try again")));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes a whole call in. `ready` is called for each piece that may be sent. Without the last piece the upload stays as
/// it is, and another call may go on with it.
///
/// # Errors
/// The reason why the upload is not complete.
pub fn receive(
    store: &Store,
    start: Start,
    pieces: &Receiver<Piece>,
    mut ready: impl FnMut(),
) -> Result<StoredStatus, StoreError> {
    let mut call = Call::begin(store, start)?;
    ready();
    loop {
        ready();
        let piece = match pieces.recv_timeout(store.patience()) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => return Err(StoreError::Wait(call.stored.handle())),
            Err(RecvTimeoutError::Disconnected) => return Err(call.measure()),
        };
        call.append(&piece.data)?;
        if let Some(digest) = piece.sha256 {
            return call.finish(digest);
        }
    }
}

/// The writing end of an upload.
struct Call<'a> {
    store: &'a Store,
    stored: Arc<Stored>,
    number: u64,
    file: File,
    hash: Sha256,
    received: u64,
    synced: u64,
}

impl<'a> Call<'a> {
    fn begin(store: &'a Store, start: Start) -> Result<Self, StoreError> {
        let Start { handle, client, entries, offset } = start;
        if let Some(entries) = &entries {
            store.begin(handle, client.clone(), entries)?;
        }
        let (stored, number) = store.go_on(handle, &client)?;
        let path = Store::data(&stored);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let mut call = Call { store, stored, number, file, hash: Sha256::new(), received: 0, synced: 0 };
        // The call before may be in its last write.
        let stored = call.stored.clone();
        let _writer = stored.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A later call may have come first: the data is that call's, and this one must not cut it.
        call.store.progress(&call.stored, number, None)?;
        let received = call.file.metadata().map_err(failed)?.len();
        if offset > received {
            return Err(StoreError::Resume { handle, received, offset });
        }
        call.file.set_len(offset).map_err(failed)?;
        call.hash_again(offset).map_err(failed)?;
        call.store.progress(&call.stored, number, Some(offset))?;
        Ok(call)
    }

    /// Reads what is there into the digest.
    fn hash_again(&mut self, bytes: u64) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            self.file.read_exact(&mut block[..part])?;
            self.hash.update(&block[..part]);
            left -= part as u64;
        }
        (self.received, self.synced) = (bytes, bytes);
        Ok(())
    }

    fn append(&mut self, data: &[u8]) -> Result<(), StoreError> {
        let received = self.received + data.len() as u64;
        if received > self.stored.size() {
            self.received = received;
            return Err(self.measure());
        }
        let _writer = self.stored.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.progress(&self.stored, self.number, None)?;
        let mut write = || {
            self.file.write_all(data)?;
            if received - self.synced >= SYNC { self.file.sync_data() } else { Ok(()) }
        };
        write().map_err(|source| StoreError::Write { path: Store::data(&self.stored), source })?;
        if received - self.synced >= SYNC {
            self.synced = received;
        }
        self.hash.update(data);
        self.received = received;
        self.store.progress(&self.stored, self.number, Some(received))
    }

    fn measure(&self) -> StoreError {
        let (handle, size) = (self.stored.handle(), self.stored.size());
        StoreError::Measure { handle, received: self.received, size }
    }

    fn finish(self, digest: [u8; 32]) -> Result<StoredStatus, StoreError> {
        if self.received != self.stored.size() {
            return Err(self.measure());
        }
        let _writer = self.stored.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.progress(&self.stored, self.number, None)?;
        if self.hash.finish() != digest {
            self.store.discard(&self.stored);
            return Err(StoreError::Verify(self.stored.handle()));
        }
        let synced = self.file.sync_all();
        synced.map_err(|source| StoreError::Write { path: Store::data(&self.stored), source })?;
        self.store.complete(&self.stored)
    }
}
