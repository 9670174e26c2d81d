//! The egress lists of running jobs, and what jobs were refused.
//!
//! [`Egress`] is shared: a spawner puts a list into force before the payload runs, the inspection thread changes it, the
//! sampler has the last look at the end. Everything goes by the address of a job, because that is what the router and the
//! resolver know. So an address of which anything is left in the router comes back to the loop only when the keeper
//! ([`keeper`]) has removed it: the next job of that address would have the list of this one.
//!
//! While jobs have a network, the keeper looks at the router's ledger every second. It counts new entries, and
//! tells the job of them in `/run/joblet/denials` ([`note`]). [`reasons`] has the words.
//!
//! The two locks are apart: the loop takes the one of the jobs, when a job ends. Under that one nobody talks to the kernel or
//! puts words together, and who takes in what the router shows holds it for [`PIECE`] entries of one job at a time.

mod change;
pub(super) mod keeper;
mod note;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use change::EgressChange;
use note::{Note, Told};
use reasons::Listed;

use super::provision::Wiring;
use crate::job::egress::List;
use crate::job::{Denial, Denials, JobId};
use crate::network::denials::{Entry, Look, Row, Tally, Target};
use crate::network::{EgressSets, Lease, NetworkError, RouterConfig};
use crate::sys::clock::{monotonic_ns, now_ns};

/// Names of one job that are counted each for itself.
const MOST_NAMES: usize = 1000;
/// Entries of the ledger that are taken in while the loop waits. A job may have tens of thousands.
const PIECE: usize = 256;

/// The lists of jobs, and what was refused.
#[derive(Debug)]
pub(super) struct Egress {
    sets: Mutex<Option<EgressSets>>,
    jobs: Mutex<BTreeMap<Ipv4Addr, Refused>>,
    /// `<dataDir>/run/denials`, with the file of each job.
    notes: PathBuf,
}

/// A job with a network.
#[derive(Debug)]
pub(super) struct Watched {
    /// The job's identity.
    pub(super) id: JobId,
    /// The name of its network.
    pub(super) network: String,
    /// Its list in force.
    pub(super) list: Option<Arc<List>>,
    /// Whether it builds a runtime, so that its list is the node's.
    pub(super) is_build: bool,
    /// How much it was refused, for its status.
    pub(super) counted: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Refused {
    job: Watched,
    tally: Tally,
    names: BTreeMap<Arc<str>, Name>,
    uncounted_names: u64,
    note: Note,
    // Something may be in the router although nothing of it was seen here.
    adopted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    first_ns: i64,
    count: u64,
}

/// The facts behind the words about a refusal. The words are put together without the lock.
#[derive(Debug, Clone)]
struct Terms {
    id: JobId,
    network: String,
    list: Option<Arc<List>>,
    is_build: bool,
}

/// The refusals of a job until now, to be put into words.
#[derive(Debug)]
struct Seen {
    terms: Terms,
    targets: Vec<(Target, Row)>,
    names: Vec<(Arc<str>, Name)>,
    uncounted: u64,
}

impl Egress {
    /// No job has a list. `notes` holds the files that tell jobs what they were refused.
    pub(super) fn new(notes: PathBuf) -> Self {
        Egress { sets: Mutex::default(), jobs: Mutex::default(), notes }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Refused>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the router's sets; `None` where there is no router.
    fn with_sets<T>(
        &self,
        wiring: &Wiring,
        act: impl FnOnce(&mut EgressSets) -> Result<T, NetworkError>,
    ) -> Result<Option<T>, NetworkError> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.is_none() {
            *sets = wiring.open_filter()?.map(EgressSets::new);
        }
        sets.as_mut().map(act).transpose()
    }

    /// Puts the list of a job into force before its payload runs.
    ///
    /// # Errors
    /// The kernel's refusal: the job must not start.
    pub(super) fn begin(&self, wiring: &Wiring, address: Ipv4Addr, job: Watched) -> Result<(), String> {
        let list = job.list.clone();
        self.insert(address, job, false);
        let Some(list) = list else { return Ok(()) };
        match self.with_sets(wiring, |sets| sets.begin(address, &list)) {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err("there is no router for its egress list".to_owned()),
            Err(why) => Err(why.to_string()),
        }
    }

    /// Goes on with a job of an earlier daemon. Its list is in the router, unless a change of it was under way.
    ///
    /// # Errors
    /// The kernel's refusal; what is in the router stays in force.
    pub(super) fn adopt(&self, wiring: &Wiring, address: Ipv4Addr, job: Watched) -> Result<(), NetworkError> {
        let list = job.list.clone();
        self.insert(address, job, true);
        let Some(list) = list else { return Ok(()) };
        self.with_sets(wiring, |sets| sets.change(address, &list, false)).map(drop)
    }

    fn insert(&self, address: Ipv4Addr, job: Watched, adopted: bool) {
        let note = Note::new(self.note_of(job.id), adopted);
        let (tally, names) = (Tally::default(), BTreeMap::new());
        self.jobs().insert(address, Refused { job, tally, names, uncounted_names: 0, note, adopted });
    }

    /// The file that tells a job what it was refused.
    pub(super) fn note_of(&self, id: JobId) -> PathBuf {
        self.notes.join(id.to_string())
    }

    /// Makes that file, and a mount of it for the job.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn make_note(&self, id: JobId) -> Result<OwnedFd, String> {
        let path = self.note_of(id);
        note::make(&path).map_err(|why| format!("cannot make {}: {why}", path.display()))
    }

    /// Changes the list of a job that runs.
    ///
    /// # Errors
    /// The kernel's refusal; the list in force stays.
    pub(super) fn change(
        &self,
        wiring: &Wiring,
        address: Ipv4Addr,
        list: &Arc<List>,
        forget_names: bool,
    ) -> Result<(), NetworkError> {
        self.with_sets(wiring, |sets| sets.change(address, list, forget_names))?;
        if let Some(refused) = self.jobs().get_mut(&address) {
            refused.job.list = Some(list.clone());
        }
        Ok(())
    }

    /// Whether jobs are watched.
    pub(super) fn is_busy(&self) -> bool {
        !self.jobs().is_empty()
    }

    /// Looks at the ledger, and counts what is new.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn look(&self, wiring: &Wiring) -> Result<(), NetworkError> {
        let Some(entries) = self.with_sets(wiring, EgressSets::denials)? else { return Ok(()) };
        let look = Look { wall_ns: now_ns(), monotonic_ns: monotonic_ns() };
        let config = wiring.router_config();
        self.take_in(&entries, look, |terms, target, row| terms.target(target, row, &config));
        Ok(())
    }

    /// Counts the entries of a look, and tells jobs of those that are new.
    fn take_in(&self, entries: &[Entry], look: Look, words: impl Fn(&Terms, &Target, &Row) -> Denial) {
        let mut by_job: BTreeMap<Ipv4Addr, Vec<&Entry>> = BTreeMap::new();
        entries.iter().for_each(|entry| by_job.entry(entry.job).or_default().push(entry));
        for (address, entries) in by_job {
            let mut beyond = 0;
            for piece in entries.chunks(PIECE) {
                let Some((terms, new)) = self.count(address, piece, look, &mut beyond) else { continue };
                let told = new.iter().map(|(target, row)| Told::new(&words(&terms, target, row)));
                self.note(address, terms.id, told.collect());
            }
        }
    }

    /// Counts entries of one job; those that it is to be told of.
    fn count(
        &self,
        address: Ipv4Addr,
        entries: &[&Entry],
        look: Look,
        beyond: &mut u64,
    ) -> Option<(Terms, Vec<(Target, Row)>)> {
        let mut jobs = self.jobs();
        let refused = jobs.get_mut(&address)?;
        let new = refused.tally.add(entries.iter().copied(), look, beyond);
        refused.count();
        (!new.is_empty() && !refused.note.is_full()).then(|| (refused.terms(), new))
    }

    /// Has lines written for a job, unless its address has gone to another one.
    fn note(&self, address: Ipv4Addr, id: JobId, told: Vec<Told>) {
        let mut jobs = self.jobs();
        if let Some(refused) = jobs.get_mut(&address).filter(|refused| refused.job.id == id) {
            told.into_iter().for_each(|told| refused.note.add(told));
        }
    }

    /// The resolver has refused a name.
    pub(super) fn name_refused(&self, address: Ipv4Addr, name: &str, count: u64) {
        if let Some((terms, first)) = self.count_name(address, name, count) {
            self.note(address, terms.id, vec![Told::new(&terms.name(name, &first))]);
        }
    }

    /// Counts a name that was refused; what the job is to be told, if it is a new one.
    fn count_name(&self, address: Ipv4Addr, name: &str, count: u64) -> Option<(Terms, Name)> {
        let mut jobs = self.jobs();
        let refused = jobs.get_mut(&address)?;
        let mut new = None;
        if let Some(known) = refused.names.get_mut(name) {
            known.count = known.count.saturating_add(count);
        } else if refused.names.len() < MOST_NAMES {
            let first = Name { first_ns: now_ns(), count };
            refused.names.insert(name.into(), first);
            new = Some((refused.terms(), first));
        } else {
            refused.uncounted_names = refused.uncounted_names.saturating_add(count);
        }
        refused.count();
        new
    }

    /// The destinations that a job was refused until now. The resolver is heard and the ledger looked at first. Not for the
    /// loop.
    pub(super) fn denials(&self, wiring: &Wiring, address: Ipv4Addr) -> Result<Denials, NetworkError> {
        // Names are refused to jobs with a list only.
        if self.jobs().get(&address).is_some_and(|refused| refused.job.list.is_some()) {
            wiring.resolver().await_denials();
        }
        self.look(wiring)?;
        let config = wiring.router_config();
        let seen = self.jobs().get(&address).map(Refused::seen);
        Ok(seen.map(|seen| seen.in_words(&config)).unwrap_or_default())
    }

    /// Writes what is new to the files of jobs.
    fn tell(&self) {
        // Written without the lock: a disk may hang.
        let due: Vec<_> = self.jobs().values_mut().filter_map(|refused| refused.note.due()).collect();
        due.into_iter().for_each(note::Due::write);
    }

    /// A job has given its address back. Whether nothing of it is in the router, so that the address is free.
    pub(super) fn leave(&self, address: Ipv4Addr) -> bool {
        let left = self.jobs().remove(&address);
        left.is_none_or(|refused| {
            let counted = refused.tally.packets() > 0 || !refused.names.is_empty();
            !refused.adopted && refused.job.list.is_none() && !counted
        })
    }

    /// Removes what is in the router of jobs that are gone.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn clear(&self, wiring: &Wiring, gone: &[Lease]) -> Result<(), NetworkError> {
        let gone: BTreeSet<Ipv4Addr> = gone.iter().map(|lease| lease.address).collect();
        self.with_sets(wiring, |sets| sets.clear(|address| gone.contains(&address))).map(drop)
    }

    /// Removes what an earlier daemon left in the router of jobs that are not watched.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn clear_others(&self, wiring: &Wiring) -> Result<(), NetworkError> {
        let watched: BTreeSet<Ipv4Addr> = self.jobs().keys().copied().collect();
        self.with_sets(wiring, |sets| sets.clear(|address| !watched.contains(&address))).map(drop)
    }

    /// Whether the router has the list of a job.
    pub(super) fn is_listed(&self, wiring: &Wiring, address: Ipv4Addr) -> Result<bool, NetworkError> {
        Ok(self.with_sets(wiring, |sets| sets.is_listed(address))?.unwrap_or(false))
    }
}

impl Refused {
    fn count(&self) {
        let names =
            self.names.values().fold(self.uncounted_names, |sum, name| sum.saturating_add(name.count));
        self.job.counted.store(self.tally.packets().saturating_add(names), Ordering::Relaxed);
    }

    fn terms(&self) -> Terms {
        let Watched { id, network, list, is_build, .. } = &self.job;
        Terms { id: *id, network: network.clone(), list: list.clone(), is_build: *is_build }
    }

    /// A copy without words: at most as many rows as [`MOST_NAMES`] and the tally have room for.
    fn seen(&self) -> Seen {
        Seen {
            terms: self.terms(),
            targets: self.tally.rows().map(|(target, row)| (*target, *row)).collect(),
            names: self.names.iter().map(|(name, seen)| (name.clone(), *seen)).collect(),
            uncounted: self.tally.uncounted().saturating_add(self.uncounted_names),
        }
    }
}

impl Terms {
    fn of_list(&self) -> Listed<'_> {
        Listed { list: self.list.as_deref(), is_build: self.is_build }
    }

    fn name(&self, name: &str, seen: &Name) -> Denial {
        let (rule, allow) = reasons::of_name(name, &self.of_list());
        Denial {
            name: name.to_owned(),
            address: None,
            port: 53,
            protocol: "dns".into(),
            count: seen.count,
            first_ns: seen.first_ns,
            rule,
            allow,
        }
    }

    fn target(&self, target: &Target, row: &Row, config: &RouterConfig) -> Denial {
        let (rule, allow) = reasons::of_target(target, &self.network, &self.of_list(), config);
        Denial {
            name: String::new(),
            address: Some(target.address),
            port: target.port,
            protocol: reasons::protocol(target.protocol),
            count: row.packets(),
            first_ns: row.first_ns,
            rule,
            allow,
        }
    }
}

impl Seen {
    /// The rows as replies show them, the first refused first.
    fn in_words(self, config: &RouterConfig) -> Denials {
        let Seen { terms, targets, names, uncounted } = self;
        let targets = targets.iter().map(|(target, row)| terms.target(target, row, config));
        let names = names.iter().map(|(name, seen)| terms.name(name, seen));
        let mut rows: Vec<Denial> = targets.chain(names).collect();
        rows.sort_by_key(|row| row.first_ns);
        Denials { rows, uncounted }
    }
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
