//! The jobs that the resolver knows, and the way to tell it of a change at once.
//!
//! A start tells front before the payload runs, on the thread that starts it: one record, which never waits. When the way
//! is broken or full, the thread `resolver` tells everything anew.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::resolver::Packets;
use crate::resolver::protocol::{Asker, ToFront};

/// The facts that the front process is to know.
#[derive(Debug, Default)]
struct Known {
    jobs: BTreeMap<Ipv4Addr, Asker>,
    link: Option<Arc<Packets>>,
    /// Front knows everything, or does not start: there is nothing to wait for.
    settled: bool,
    /// The number of requests for front's denials, and the last such request that it has answered.
    asked: u64,
    reported: u64,
    /// A request was not answered in time: nobody waits again until front speaks.
    overdue: bool,
}

/// The jobs, shared by the threads that start and end them. Bounded by the wires of a router.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Known>, Condvar);

impl Known {
    /// Sends a message; whether it went.
    fn send(&mut self, message: &ToFront) -> bool {
        let Some(link) = &self.link else { return true };
        let sent = message.encode().is_some_and(|record| link.send(&record).is_ok());
        if !sent {
            self.link = None;
        }
        sent
    }
}

impl Table {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Knows a job, in place of the one that had its address; whether front knows it too, or will from the thread.
    pub(super) fn insert(&self, job: Asker) -> bool {
        let mut known = self.known();
        known.jobs.insert(job.address, job.clone());
        known.send(&ToFront::Job(Box::new(job)))
    }

    /// Gives a job another list; as [`Table::insert`].
    pub(super) fn set_list(&self, address: Ipv4Addr, list: Option<Vec<String>>) -> bool {
        let mut known = self.known();
        let Some(job) = known.jobs.get_mut(&address) else { return true };
        job.list = list;
        let job = job.clone();
        known.send(&ToFront::Job(Box::new(job)))
    }

    /// Forgets a job; as [`Table::insert`].
    pub(super) fn remove(&self, address: Ipv4Addr) -> bool {
        let mut known = self.known();
        known.jobs.remove(&address).is_none() || known.send(&ToFront::Forget(address))
    }

    /// There is nothing to wait for any more.
    pub(super) fn settle(&self) {
        self.known().settled = true;
        self.1.notify_all();
    }

    /// Waits so long at most until front knows everything, or does not start.
    pub(super) fn await_settled(&self, bound: Duration) {
        let waited = self.1.wait_timeout_while(self.known(), bound, |known| !known.settled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The addresses of all jobs.
    pub(super) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.known().jobs.keys().copied().collect()
    }

    /// Tells front of a job as it is now, over this way; `false`: the way has no room.
    pub(super) fn tell(&self, link: &Packets, address: Ipv4Addr) -> bool {
        // Under the lock, so that a change that comes meanwhile goes after it.
        let known = self.known();
        let Some(job) = known.jobs.get(&address) else { return true };
        let record = ToFront::Job(Box::new(job.clone())).encode();
        // A job that cannot be told is not known there, and its questions fail.
        record.is_none_or(|record| link.send(&record).is_ok())
    }

    /// Has front tell its denials, and waits so long at most until all that it knew before are heard; as [`Table::insert`].
    pub(super) fn await_denials(&self, bound: Duration) -> bool {
        let mut known = self.known();
        if known.link.is_none() || known.overdue {
            return true;
        }
        known.asked += 1;
        let number = known.asked;
        if !known.send(&ToFront::Report(number)) {
            return false;
        }
        let waits = |known: &mut Known| known.link.is_some() && known.reported < number;
        let (mut known, waited) =
            self.1.wait_timeout_while(known, bound, waits).unwrap_or_else(PoisonError::into_inner);
        known.overdue |= waited.timed_out();
        true
    }

    /// Front has told all denials before this request.
    pub(super) fn denials_heard(&self, number: u64) {
        let mut known = self.known();
        known.reported = known.reported.max(number.min(known.asked));
        known.overdue = false;
        self.1.notify_all();
    }

    /// Takes this way for changes from now on.
    pub(super) fn connect(&self, link: Option<Arc<Packets>>) {
        let mut known = self.known();
        (known.link, known.overdue) = (link, false);
        self.1.notify_all();
    }

    /// Whether changes go anywhere.
    pub(super) fn is_connected(&self) -> bool {
        self.known().link.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn job(last: u8) -> Asker {
        let (address, range) = ([10, 0, 0, last].into(), ([10, 0, 0, 0].into(), 24));
        let names = vec![format!("job-{last}")];
        Asker { address, range, together: true, inner: false, ipv6: false, names, list: None }
    }

    #[test]
    fn changes_are_told_at_once_and_a_full_way_is_given_up() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let (ours, theirs) = (Arc::new(Packets::new(ours)), Packets::new(theirs));
        let table = Table::default();
        assert!(table.insert(job(1)), "nobody hears yet");
        table.connect(Some(ours.clone()));
        assert!(table.insert(job(2)) && table.set_list([10, 0, 0, 1].into(), Some(vec!["a.org".into()])));
        assert!(table.remove([10, 0, 0, 2].into()) && table.remove([10, 0, 0, 9].into()));
        let mut buffer = vec![0; 4096];
        let mut next = || theirs.receive(&mut buffer).unwrap().map(|bytes| ToFront::decode(bytes).unwrap());
        assert_eq!(next(), Some(ToFront::Job(Box::new(job(2)))));
        let listed = Asker { list: Some(vec!["a.org".into()]), ..job(1) };
        assert_eq!(next(), Some(ToFront::Job(Box::new(listed.clone()))));
        assert_eq!(next(), Some(ToFront::Forget([10, 0, 0, 2].into())));
        assert_eq!(next(), None);
        // A caller that waits for denials is woken by the answer to this request or a later one, and once at most by none.
        assert!(
            table.await_denials(Duration::from_millis(1)) && table.await_denials(Duration::from_secs(3600))
        );
        assert_eq!(
            (next(), next()),
            (Some(ToFront::Report(1)), None),
            "nobody waits twice for a front that hangs"
        );
        table.denials_heard(1);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| table.await_denials(Duration::from_secs(3600)));
            while next() != Some(ToFront::Report(2)) {}
            table.denials_heard(2);
            assert!(waits.join().unwrap());
        });
        assert!((0..100_000).any(|_| !table.insert(job(3))), "the way is full");
        assert!(!table.is_connected());
        assert_eq!(table.addresses().len(), 2);
    }
}
