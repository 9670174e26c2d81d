//! Bytes of jobs that are over: their output and samples on disk, and their records in memory and in the database.
//!
//! Beyond a limit, the client that keeps most loses its oldest job, again and again. So one client's flood ages out its
//! own history and nobody else's.

use std::collections::{BTreeMap, HashMap};

use crate::job::{ClientId, JobId};

/// The values of `state.retention.bytes` and `state.retention.recordBytes`.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct KeptLimits {
    /// Bytes of output and samples.
    pub(in crate::daemon) output: u64,
    /// Bytes of records.
    pub(in crate::daemon) records: u64,
}

/// The place of a job in the order of ends: its end and its serial.
pub(in crate::daemon) type End = (Option<i64>, u64);

/// The bytes that are kept of finished jobs.
#[derive(Debug)]
pub(in crate::daemon) struct Kept {
    output: Budget,
    records: Budget,
}

#[derive(Debug)]
struct Budget {
    key: &'static str,
    limit: u64,
    all: u64,
    clients: HashMap<ClientId, Share>,
}

#[derive(Debug, Default)]
struct Share {
    bytes: u64,
    jobs: BTreeMap<End, (JobId, u64)>,
}

impl Kept {
    /// Nothing is kept.
    pub(in crate::daemon) fn new(limits: KeptLimits) -> Self {
        let budget = |key, limit| Budget { key, limit, all: 0, clients: HashMap::new() };
        Kept {
            output: budget("state.retention.bytes", limits.output),
            records: budget("state.retention.recordBytes", limits.records),
        }
    }

    /// Counts the record of a job that is over.
    pub(in crate::daemon) fn add_record(&mut self, client: ClientId, end: End, id: JobId, bytes: u64) {
        self.records.add(client, end, id, bytes);
    }

    /// Counts its output, when somebody has measured it.
    pub(in crate::daemon) fn add_output(&mut self, client: ClientId, end: End, id: JobId, bytes: u64) {
        self.output.add(client, end, id, bytes);
    }

    /// A job is forgotten.
    pub(in crate::daemon) fn remove(&mut self, client: ClientId, end: End) {
        self.output.remove(client, end);
        self.records.remove(client, end);
    }

    /// The output and the records that are kept, with a word and the limit of each.
    pub(in crate::daemon) fn used(&self) -> [(&'static str, u64, u64); 2] {
        [
            ("kept_output", self.output.all, self.output.limit),
            ("kept_records", self.records.all, self.records.limit),
        ]
    }

    /// The next job that must go, and the limit that is exceeded; `None` within the limits.
    pub(in crate::daemon) fn surplus(&self) -> Option<(JobId, &'static str)> {
        self.output.surplus().or_else(|| self.records.surplus())
    }
}

impl Budget {
    fn add(&mut self, client: ClientId, end: End, id: JobId, bytes: u64) {
        self.remove(client, end);
        if bytes > 0 {
            let share = self.clients.entry(client).or_default();
            share.jobs.insert(end, (id, bytes));
            share.bytes += bytes;
            self.all += bytes;
        }
    }

    fn remove(&mut self, client: ClientId, end: End) {
        let Some(share) = self.clients.get_mut(&client) else { return };
        let Some((_, bytes)) = share.jobs.remove(&end) else { return };
        share.bytes -= bytes;
        self.all -= bytes;
        if share.jobs.is_empty() {
            self.clients.remove(&client);
        }
    }

    fn surplus(&self) -> Option<(JobId, &'static str)> {
        if self.all <= self.limit {
            return None;
        }
        let most = self.clients.values().max_by_key(|share| share.bytes)?;
        most.jobs.values().next().map(|(id, _)| (*id, self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forget(kept: &mut Kept, jobs: &mut Vec<(ClientId, End, JobId)>) -> Vec<(u64, &'static str)> {
        let mut gone = Vec::new();
        while let Some((id, key)) = kept.surplus() {
            let at = jobs.iter().position(|(_, _, other)| *other == id).unwrap();
            let (client, end, _) = jobs.remove(at);
            kept.remove(client, end);
            gone.push((end.1, key));
        }
        gone
    }

    #[test]
    fn client_that_keeps_most_loses_its_oldest_jobs_first() {
        let mut kept = Kept::new(KeptLimits { output: 100, records: 1000 });
        let (quiet, loud) = (ClientId::new(1), ClientId::new(2));
        let mut jobs = Vec::new();
        let mut add = |kept: &mut Kept, client, serial: u64, bytes| {
            let (end, id) = ((Some(serial.cast_signed()), serial), JobId::random());
            kept.add_record(client, end, id, 1);
            kept.add_output(client, end, id, bytes);
            jobs.push((client, end, id));
            jobs.clone()
        };
        add(&mut kept, quiet, 1, 30);
        add(&mut kept, loud, 2, 40);
        add(&mut kept, loud, 3, 0);
        let mut all = add(&mut kept, loud, 4, 20);
        assert_eq!(forget(&mut kept, &mut all), []);
        let mut all = add(&mut kept, loud, 5, 60);
        let key = "state.retention.bytes";
        assert_eq!(forget(&mut kept, &mut all), [(2, key), (4, key)], "a job without output stays");
        assert_eq!((kept.output.all, kept.records.all), (90, 3));
    }

    #[test]
    fn records_have_a_limit_of_their_own_and_are_counted_once() {
        let mut kept = Kept::new(KeptLimits { output: 100, records: 10 });
        let (client, end, id) = (ClientId::default(), (None, 1), JobId::random());
        kept.add_record(client, end, id, 8);
        kept.add_record(client, end, id, 10);
        assert_eq!(kept.surplus(), None);
        kept.add_record(client, (Some(1), 2), JobId::random(), 1);
        assert_eq!(kept.surplus(), Some((id, "state.retention.recordBytes")));
        kept.remove(client, end);
        kept.remove(client, end);
        assert_eq!((kept.surplus(), kept.records.all), (None, 1));
    }
}
