//! How much of a job would survive the daemon now.

use std::sync::Arc;

use crate::upload::Claim;

/// The records of a job that were sent to the disk and are there, its inputs, and the uploads that must stay for them.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct Durability {
    // The number of records that were sent to the disk.
    version: u64,
    // The newest of them that is on disk; 0 where none is.
    durable: u64,
    // Whether the newest one could not be written.
    write_failed: bool,
    // Whether its inputs are being written to the staging directory.
    staging: bool,
    // Uploads that it has taken, until its payload runs.
    claims: Arc<Vec<Claim>>,
}

impl Durability {
    /// That of a job with a record on disk.
    pub(super) fn stored() -> Self {
        Durability { version: 1, durable: 1, ..Durability::default() }
    }

    /// The number of a record that is sent to the disk now.
    pub(in crate::daemon) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// There is no disk for records: the newest one is as good as on it.
    pub(in crate::daemon) fn is_in_memory(&mut self) {
        self.durable = self.version;
    }

    /// A record is on disk.
    pub(in crate::daemon) fn has(&mut self, version: u64) {
        (self.durable, self.write_failed) = (version, false);
    }

    /// A record cannot be written.
    pub(in crate::daemon) fn lacks(&mut self, version: u64) {
        self.write_failed |= self.version == version;
    }

    /// Whether any record is on disk.
    pub(in crate::daemon) fn is_durable(&self) -> bool {
        self.durable > 0
    }

    /// Whether the newest record is on disk.
    pub(super) fn is_newest_durable(&self) -> bool {
        self.durable == self.version
    }

    /// Whether the newest record could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.write_failed
    }

    /// Its inputs are being written, or are not any more.
    pub(in crate::daemon) fn set_staging(&mut self, is_under_way: bool) {
        self.staging = is_under_way;
    }

    /// Whether its inputs are being written.
    pub(in crate::daemon) fn is_staging(&self) -> bool {
        self.staging
    }

    /// Takes uploads, which stay until its payload runs.
    pub(in crate::daemon) fn claim(&mut self, claims: Arc<Vec<Claim>>) {
        self.claims = claims;
    }

    /// The uploads that it has taken.
    pub(in crate::daemon) fn claims(&self) -> &Arc<Vec<Claim>> {
        &self.claims
    }

    /// It needs its uploads no more.
    pub(in crate::daemon) fn give_claims_back(&mut self) {
        self.claims = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_an_older_record_is_none_of_the_newest() {
        let mut kept = Durability::default();
        let (first, second) = (kept.next_version(), kept.next_version());
        kept.lacks(first);
        assert!(!kept.has_failed() && !kept.is_durable());
        kept.lacks(second);
        assert!(kept.has_failed());
        // It stays so for as long as nothing is on disk.
        kept.lacks(first);
        assert!(kept.has_failed());
        kept.has(first);
        assert!(!kept.has_failed() && kept.is_durable() && !kept.is_newest_durable());
        kept.has(second);
        assert!(kept.is_newest_durable());
    }
}
