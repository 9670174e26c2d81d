//! A job's output back from CloudWatch, exactly and in order, for a caller or into local files.

use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::Row;
use crate::persist::store::{LocalStore, Packer};

use super::backoff::Stop;
use super::call::Page;
use super::error::{CloudError, Kind};
use super::job::stream_name;
use super::pages::{Fetched, Pages};
use super::remote::{Attempts, Remote};

/// Bytes of fetched output after which they are made durable.
const COMMIT: u64 = 4 * 1024 * 1024;
/// The level of compression: the files are a copy and need not be small.
const LEVEL: u32 = 1;

impl Remote {
    /// Reads all output of a job into a local store. Rows of an earlier fetch are skipped.
    pub(super) fn fetch_into(
        &self,
        job: JobId,
        local: &LocalStore,
        stop: &Stop,
    ) -> Result<Fetched, CloudError> {
        let (mut files, mut packer) = (local.job(job)?, Packer::new());
        let mut last = files.resume().through;
        let found = self.fetch(job, stop, |row, bytes| {
            files.stage(&row, bytes, &mut packer, LEVEL)?;
            last = last.max(row.sequence);
            if files.stage.staged_bytes() > COMMIT {
                files.commit(last, &mut packer, LEVEL)?;
            }
            Ok::<_, CloudError>(())
        })?;
        files.commit(last, &mut packer, LEVEL)?;
        Ok(found)
    }

    /// Reads all output of a job and hands its rows over in the order of their sequences, with offsets that count the
    /// bytes that are there.
    pub(super) fn fetch<E: From<CloudError>>(
        &self,
        job: JobId,
        stop: &Stop,
        take: impl FnMut(Row, &[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let mut pages = Pages::new(&self.notes, job)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.fetch_stream(stream, job, &mut pages, stop)?;
        }
        pages.hand_over(take)
    }

    fn fetch_stream(
        &self,
        stream: Stream,
        job: JobId,
        pages: &mut Pages,
        stop: &Stop,
    ) -> Result<(), CloudError> {
        let name = stream_name(job, stream);
        let action = format!("read the log stream {name}");
        let mut token: Option<String> = None;
        loop {
            let read = || match self.aws.get_events(stop, &self.group, &name, token.clone()) {
                // A stream that never had output does not exist.
                Err(failure) if failure.kind == Kind::Missing => Ok(Page::default()),
                other => other,
            };
            let page = self.insist(&action, &mut Attempts::few(), stop, read)?;
            pages.add(stream, page.messages)?;
            // The end is the token that was sent; a page before it may be empty.
            if page.next.is_none() || page.next == token {
                return Ok(());
            }
            token = page.next;
        }
    }
}
