//! Uploads that several jobs share: those of a workflow, whose files come with its request or ahead of it.

use std::fs;
use std::io::{self, Write};

use uuid::Uuid;

use super::entry::Entry;
use super::{Claim, ClientKey, Store, StoreError, Stored, Upload, UploadError, Wanted};

impl Stored {
    /// Bytes of the contents that a job wants.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn bytes_of(&self, wanted: &Wanted<'_>) -> Result<u64, UploadError> {
        if let Wanted::All = wanted {
            return Ok(self.size());
        }
        let entries = self.paths()?;
        Ok(entries.iter().filter(|(path, _)| wanted.has(path)).map(|(_, bytes)| bytes).sum())
    }

    /// The paths of all entries, with the bytes of their contents.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn paths(&self) -> Result<Vec<(Vec<u8>, u64)>, UploadError> {
        let lost = |source| UploadError::TakeBack { path: Store::data(self), source };
        let (entries, _) = self.open().map_err(lost)?;
        let path = |entry: Entry| (entry.bytes, entry.into_upload(Vec::new()).path);
        Ok(entries.into_iter().map(path).map(|(bytes, path)| (path, bytes)).collect())
    }
}

impl Store {
    /// Stores files that came with a request, and takes them for it. Waits for the disk.
    ///
    /// # Errors
    /// A bound is reached, or the disk refuses; nothing is kept then.
    pub fn keep(&self, client: ClientKey, uploads: Vec<Upload>) -> Result<Vec<Claim>, StoreError> {
        let sized: Vec<(Upload, u64)> = uploads
            .into_iter()
            .map(|upload| {
                let bytes = upload.content.len() as u64;
                (upload, bytes)
            })
            .collect();
        let stored = self.begin(Uuid::new_v4(), client, &sized)?;
        let path = Store::data(&stored);
        let write = || -> io::Result<()> {
            let mut data = fs::OpenOptions::new().write(true).open(&path)?;
            sized.iter().try_for_each(|(upload, _)| data.write_all(&upload.content))?;
            data.sync_all()
        };
        let written = write().map_err(|source| StoreError::Write { path: path.clone(), source });
        let kept = written.and_then(|()| self.complete(&stored)).inspect_err(|_| self.discard(&stored));
        kept?;
        // Nobody else knows its handle.
        self.take(&[stored]).map_err(StoreError::Bound)
    }
}
