//! The loop's end of a store beyond this host: the way there, and the way back.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Sender;
use mio::Token;

use super::PersistError;
use super::fetch::{FetchRequest, Fetcher};
use super::janitor::{Janitor, StoreTask};
use super::lane::LaneEvent;
use super::remote::{RemoteFigures, RemoteStore};
use super::store::LocalStore;
use super::upload::Uploads;
use crate::job::JobId;
use crate::sys::mailbox::Mailbox;

/// Both ways, and who waits on the way back.
#[derive(Debug)]
pub(super) struct Beyond {
    /// The way there.
    pub(super) uploads: Uploads,
    /// The way back.
    pub(super) fetcher: Fetcher,
    /// The connections that wait for a job, as many as the daemon lets wait.
    readers: HashMap<JobId, Vec<Token>>,
    store_tasks: Sender<StoreTask>,
    remote: Arc<dyn RemoteStore>,
}

impl Beyond {
    /// Starts the threads of both ways. Events go into the mailbox.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        remote: Arc<dyn RemoteStore>,
        store: &LocalStore,
        janitor: &Janitor,
        store_tasks: Sender<StoreTask>,
        events: &Mailbox<LaneEvent>,
    ) -> Result<Beyond, PersistError> {
        Ok(Beyond {
            uploads: Uploads::start(remote.clone(), store, events)?,
            fetcher: Fetcher::start(remote.clone(), store, janitor, &store_tasks, events)?,
            readers: HashMap::new(),
            store_tasks,
            remote,
        })
    }

    /// Has a job fetched for whoever is on this connection.
    ///
    /// # Errors
    /// Too many jobs wait, in words.
    pub(super) fn fetch(&mut self, token: Token, request: FetchRequest) -> Result<(), String> {
        if !self.readers.contains_key(&request.job) && !self.fetcher.ask(request) {
            return Err("too many jobs are being fetched; try again".to_owned());
        }
        self.readers.entry(request.job).or_default().push(token);
        Ok(())
    }

    /// The connections that wait for a job, which is there now or cannot be.
    pub(super) fn readers(&mut self, job: JobId) -> Vec<Token> {
        self.readers.remove(&job).unwrap_or_default()
    }

    /// Rows that are on their way there, and the work of the store.
    pub(super) fn figures(&self) -> (u64, RemoteFigures) {
        (self.uploads.waiting_rows(), self.remote.figures())
    }

    /// A job is there whole: its local files may go.
    pub(super) fn completed(&self) {
        // The janitor ends behind the loop.
        let _ = self.store_tasks.send(StoreTask::Shrink);
    }
}
