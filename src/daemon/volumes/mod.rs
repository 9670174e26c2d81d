//! The volumes of the node.
//!
//! A thread of its own makes and removes them, because it waits for a disk and for `mke2fs`. The loop decides beforehand
//! what it can without a look at disk or memory, and takes a change in when it is made. A volume that is being removed takes no job any more, and one that is
//! being made none yet.
//!
//! | making | a daemon that is killed behind this step leaves |
//! |---|---|
//! | the image, or the directory in its project, is made aside, and mounted once | what the next daemon removes, with the project's limits |
//! | the record is durable | a volume: the next daemon gives image or directory its name |
//! | the image or the directory gets its name | a volume |
//!
//! | resizing | likewise |
//! |---|---|
//! | the record with the new size is durable | a volume of the new size: its image grows, or its quota is set, when it is mounted next |
//! | image, loop device and file system have grown, while it is mounted, or the quota is set | a volume of the new size |
//!
//! | removing | likewise |
//! |---|---|
//! | the image or the directory goes aside | a volume: the next daemon gives it its name back |
//! | the record is gone, durably | what the next daemon removes, with the project's limits |
//! | it is removed, the limits of its project first | nothing |
//!
//! Another thread looks what the files of a volume take, because a disk may hang.

mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::Level;

use super::DaemonError;
use super::command::{Answer, CommandError, VolumeJobView, VolumeView};
use super::standing_store::StandingStore;
use super::token::{Counter, Token};
use crate::diag;
use crate::job::{VolumeKind, VolumeName, VolumeUse};
use crate::state::{StoredVolume, VolumeChange};
use crate::sys;
use crate::sys::clock::now_ns;
use crate::volume::{Store, Volume, VolumeError};

/// Changes that may wait for the thread.
const QUEUE: usize = 64;
/// Most volumes of a node. Each that is in use takes a loop device.
const MOST: usize = 256;

/// A volume that the loop knows.
#[derive(Debug)]
struct Known {
    stored: StoredVolume,
    volume: Arc<Volume>,
    standing: Standing,
    /// Jobs of earlier daemons that have it.
    inherited: Counter,
    /// Copies of its files that are under way.
    copies: Counter,
}

/// How far a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is being made.
    Making,
    /// It is there.
    There,
    /// It is there, and gets another size.
    Resizing,
    /// It is being removed.
    Leaving,
}

/// The answer to whoever asked for a change.
#[derive(Debug)]
enum ChangeAnswer {
    /// To the maker of a volume.
    Made(Answer<VolumeView>),
    /// To its remover.
    Removed(Answer<()>),
    /// To whoever gave it another size, with the old one.
    Resized(Answer<(VolumeView, u64)>),
}

impl ChangeAnswer {
    fn refuse(self, why: CommandError) {
        match self {
            ChangeAnswer::Made(answer) => drop(answer.send(Err(why))),
            ChangeAnswer::Removed(answer) => drop(answer.send(Err(why))),
            ChangeAnswer::Resized(answer) => drop(answer.send(Err(why))),
        }
    }
}

/// A change for the thread.
#[derive(Debug)]
struct Task {
    change: VolumeChange,
    volume: Arc<Volume>,
    answer: ChangeAnswer,
    under_way: Token,
}

/// A reply with one volume and its jobs.
type Shown = (VolumeView, Vec<VolumeJobView>);

/// A question for the room that the files of a volume take, with the rest of the reply.
#[derive(Debug)]
struct Look {
    volume: Arc<Volume>,
    shown: Shown,
    answer: Answer<Shown>,
}

impl Look {
    fn take(self) {
        let Look { volume, shown: (view, jobs), answer } = self;
        let _ = answer.send(Ok((VolumeView { usage: volume.usage(), ..view }, jobs)));
    }
}

/// A change that is made, or was refused.
#[derive(Debug)]
pub(super) struct Changed {
    change: VolumeChange,
    volume: Arc<Volume>,
    result: Result<(), CommandError>,
    answer: ChangeAnswer,
    _under_way: Token,
}

/// The loop's side: what volumes there are, and which of them change.
#[derive(Debug)]
pub(super) struct Volumes {
    store: Store,
    known: BTreeMap<VolumeName, Known>,
    is_on_disk: bool,
    tasks: Sender<Task>,
    looks: Sender<Look>,
    under_way: Counter,
}

impl Standing {
    /// Jobs can have it.
    fn is_there(self) -> bool {
        matches!(self, Standing::There | Standing::Resizing)
    }
}

impl Volumes {
    /// Ends what an earlier daemon left undone, and starts the threads, which end when this value is gone. `report` gets every change
    /// that is made or refused.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        store: Store,
        stored: Vec<StoredVolume>,
        records: StandingStore,
        report: impl Fn(Changed) + Send + 'static,
    ) -> Result<(Volumes, [JoinHandle<()>; 2]), DaemonError> {
        for finding in store.tidy(&stored.iter().map(|stored| &stored.name).collect::<Vec<_>>()) {
            diag::event!(Level::Warn, "volumes of an earlier daemon", reason = finding);
        }
        let known = stored.into_iter().map(|stored| {
            let known = known(&store, stored, Standing::There);
            (known.stored.name.clone(), known)
        });
        let known = known.collect();
        let (tasks, queue): (_, Receiver<Task>) = bounded(QUEUE);
        let (files, is_on_disk) = (store.clone(), records.is_on_disk());
        let work = move || {
            // The mounts of a volume in memory are copied from within their own namespace.
            if let Err(why) = sys::thread::unshare_fs() {
                diag::event!(Level::Error, "volumes in memory cannot be made", error = why);
            }
            for finding in files.sweep() {
                diag::event!(Level::Warn, "volumes of an earlier daemon", reason = finding);
            }
            queue.into_iter().for_each(|task| report(worker::carry_out(&files, &records, task)));
        };
        let (looks, asked) = bounded::<Look>(QUEUE);
        let threads =
            [spawn("volumes", work)?, spawn("volume-looks", move || asked.into_iter().for_each(Look::take))?];
        Ok((Volumes { store, known, is_on_disk, tasks, looks, under_way: Counter::default() }, threads))
    }

    /// Changes that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.count()
    }

    /// Has a volume made; an answer that cannot wait for it is given at once.
    pub(super) fn create(
        &mut self,
        name: VolumeName,
        kind: VolumeKind,
        bytes: u64,
        answer: Answer<VolumeView>,
    ) {
        let known = match self.define(name, kind, bytes) {
            Err(why) => return drop(answer.send(Err(why))),
            Ok(known) => known,
        };
        let name = known.stored.name.clone();
        let change = VolumeChange { volume: known.stored.clone(), is_there: true, old_bytes: None };
        match self.hand_over(&known, change, ChangeAnswer::Made(answer)) {
            Ok(()) => drop(self.known.insert(name, known)),
            Err(answer) => answer.refuse(busy()),
        }
    }

    /// A new volume, if there may be one of that name and size.
    fn define(&self, name: VolumeName, kind: VolumeKind, bytes: u64) -> Result<Known, CommandError> {
        if self.known.contains_key(&name) {
            return Err(CommandError::Exists(VolumeError::Exists(name).to_string()));
        }
        if self.known.len() >= MOST {
            return Err(CommandError::Exhausted(VolumeError::Full(MOST).to_string()));
        }
        let failed = |why: String| format!("cannot create volume \"{name}\": {why}");
        if kind.is_on_disk() && !self.is_on_disk {
            return Err(CommandError::WrongState(failed(
                "with state.backend: memory no later daemon would know it; set state.backend: sqlite, or use type memory"
                    .to_owned(),
            )));
        }
        let bytes = Store::size(kind, bytes).map_err(|why| CommandError::Invalid(failed(why.to_string())))?;
        // The thread finds a project, if there is to be one.
        let stored = StoredVolume { name, kind, bytes, created_ns: now_ns(), project: None };
        Ok(known(&self.store, stored, Standing::Making))
    }

    /// Has a volume removed that `jobs` jobs have.
    pub(super) fn remove(&mut self, name: &str, jobs: usize, answer: Answer<()>) {
        let known = match self.removable(name, jobs) {
            Err(why) => return drop(answer.send(Err(why))),
            Ok(known) => known,
        };
        let name = known.stored.name.clone();
        let change = VolumeChange { volume: known.stored.clone(), is_there: false, old_bytes: None };
        match self.hand_over(known, change, ChangeAnswer::Removed(answer)) {
            Ok(()) => self.stand(&name, Standing::Leaving),
            Err(answer) => answer.refuse(busy()),
        }
    }

    /// Has a volume given another size, also while jobs have it.
    pub(super) fn resize(&mut self, name: &str, bytes: u64, answer: Answer<(VolumeView, u64)>) {
        let (known, bytes) = match self.resizable(name, bytes) {
            Err(why) => return drop(answer.send(Err(why))),
            Ok(found) => found,
        };
        let (name, old) = (known.stored.name.clone(), known.stored.bytes);
        if bytes == old {
            return drop(answer.send(Ok((view(known), old))));
        }
        let volume = StoredVolume { bytes, ..known.stored.clone() };
        let change = VolumeChange { volume, is_there: true, old_bytes: Some(old) };
        match self.hand_over(known, change, ChangeAnswer::Resized(answer)) {
            Ok(()) => self.stand(&name, Standing::Resizing),
            Err(answer) => answer.refuse(busy()),
        }
    }

    /// A volume that can have so many bytes, and how many it gets for them.
    fn resizable(&self, name: &str, bytes: u64) -> Result<(&Known, u64), CommandError> {
        let known = self.settled(name)?;
        let failed = |why: String| format!("cannot resize volume \"{name}\": {why}");
        let StoredVolume { kind, bytes: had, .. } = known.stored;
        let bytes = Store::size(kind, bytes).map_err(|why| CommandError::Invalid(failed(why.to_string())))?;
        if !kind.can_shrink() && bytes < had {
            let why = VolumeError::Shrink { name: known.stored.name.clone(), bytes: had };
            return Err(CommandError::Invalid(failed(why.to_string())));
        }
        if let Some(why) = held_before(known) {
            return Err(CommandError::WrongState(failed(why)));
        }
        Ok((known, bytes))
    }

    /// A volume of which nothing changes just now.
    fn settled(&self, name: &str) -> Result<&Known, CommandError> {
        let known = self.known.values().find(|known| known.stored.name.as_str() == name);
        let known = known.ok_or_else(|| unknown(name))?;
        let doing = match known.standing {
            Standing::There => return Ok(known),
            Standing::Making => "made",
            Standing::Resizing => "resized",
            Standing::Leaving => "removed",
        };
        Err(CommandError::WrongState(format!("volume \"{name}\" is being {doing}; try again")))
    }

    fn removable(&self, name: &str, jobs: usize) -> Result<&Known, CommandError> {
        let known = self.settled(name)?;
        if known.copies.count() > 0 {
            return Err(CommandError::WrongState(format!(
                "files of volume \"{name}\" are being copied; wait for that, or end the rnx cp"
            )));
        }
        if jobs > 0 {
            let (number, them) =
                if jobs == 1 { ("1 job".to_owned(), "it") } else { (format!("{jobs} jobs"), "them") };
            return Err(CommandError::WrongState(format!(
                "volume \"{name}\" is in use by {number}; stop {them} first: rnx volume inspect {name}"
            )));
        }
        Ok(known)
    }

    fn hand_over(
        &self,
        known: &Known,
        change: VolumeChange,
        answer: ChangeAnswer,
    ) -> Result<(), ChangeAnswer> {
        let volume = known.volume.clone();
        let task = Task { change, volume, answer, under_way: self.under_way.token() };
        self.tasks.try_send(task).map_err(|back| back.into_inner().answer)
    }

    fn stand(&mut self, name: &VolumeName, standing: Standing) {
        if let Some(known) = self.known.get_mut(name) {
            known.standing = standing;
        }
    }

    /// Why a job cannot have one of these volumes now; `None` where it can have all.
    pub(super) fn lacks(&self, uses: &[VolumeUse]) -> Option<String> {
        uses.iter().find_map(|used| {
            let name = &used.name;
            let known = self.known.get(name).filter(|known| known.standing.is_there());
            let Some(known) = known else { return Some(VolumeError::Unknown(name.clone()).to_string()) };
            held_before(known)
        })
    }

    /// The volumes of a job that starts.
    ///
    /// # Errors
    /// See [`Volumes::lacks`].
    pub(super) fn of(&self, uses: &[VolumeUse]) -> Result<Vec<Arc<Volume>>, String> {
        self.lacks(uses).map_or(Ok(()), Err)?;
        Ok(uses.iter().filter_map(|used| Some(self.known.get(&used.name)?.volume.clone())).collect())
    }

    /// The directory of the volumes on disk, if one of these is such a volume that its job may write.
    pub(super) fn disk_of(&self, uses: &[VolumeUse]) -> Option<PathBuf> {
        let is_on_disk = |used: &VolumeUse| {
            let known = self.known.get(&used.name);
            known.is_some_and(|known| known.stored.kind.is_on_disk())
        };
        let found = uses.iter().any(|used| !used.read_only && is_on_disk(used));
        found.then(|| self.store.directory().to_owned())
    }

    /// A volume whose files are to be copied, and the token of the copy.
    ///
    /// # Errors
    /// It does not exist, or jobs of an earlier daemon have what is in it.
    pub(super) fn open(&self, name: &str) -> Result<(Arc<Volume>, Token), CommandError> {
        let known = self.known.values().find(|known| known.stored.name.as_str() == name);
        let known = known.filter(|known| known.standing.is_there()).ok_or_else(|| unknown(name))?;
        match held_before(known) {
            Some(why) => Err(CommandError::WrongState(why)),
            None => Ok((known.volume.clone(), known.copies.token())),
        }
    }

    /// A job of an earlier daemon has this volume, as long as the token lives.
    pub(super) fn inherit(&self, used: &VolumeUse) -> Option<Token> {
        Some(self.known.get(&used.name)?.inherited.token())
    }

    /// Answers with a volume and the room that its files take, or without the latter where too many ask at once.
    pub(super) fn show(&self, shown: Shown, answer: Answer<Shown>) {
        let Some(known) = self.known.get(&shown.0.name) else { return drop(answer.send(Ok(shown))) };
        let look = Look { volume: known.volume.clone(), shown, answer };
        if let Err(back) = self.looks.try_send(look) {
            let Look { shown, answer, .. } = back.into_inner();
            let _ = answer.send(Ok(shown));
        }
    }

    /// The volumes that are there.
    pub(super) fn list(&self) -> impl Iterator<Item = VolumeView> {
        self.known.values().filter(|known| known.standing.is_there()).map(view)
    }

    /// Takes a change in.
    pub(super) fn take_in(&mut self, changed: Changed) {
        let Changed { change, volume, result, answer, .. } = changed;
        let name = &change.volume.name;
        match (change.is_there, &result) {
            (true, Err(_)) if change.old_bytes.is_none() => drop(self.known.remove(name)),
            (false, Ok(())) => drop(self.known.remove(name)),
            (true, _) | (false, Err(_)) => self.stand(name, Standing::There),
        }
        if let (Ok(()), Some(_), Some(known)) = (&result, change.old_bytes, self.known.get_mut(name)) {
            known.stored.bytes = change.volume.bytes;
        }
        if let (Ok(()), ChangeAnswer::Made(_), Some(known)) = (&result, &answer, self.known.get_mut(name)) {
            (known.stored, known.volume) = (change.volume.clone(), volume);
        }
        match answer {
            ChangeAnswer::Removed(answer) => drop(answer.send(result)),
            ChangeAnswer::Made(answer) => {
                let made = self.known.get(name).map(view).ok_or_else(|| unknown(name.as_str()));
                drop(answer.send(result.and(made)));
            }
            ChangeAnswer::Resized(answer) => {
                let resized = self.known.get(name).map(view).ok_or_else(|| unknown(name.as_str()));
                let old = change.old_bytes.unwrap_or(change.volume.bytes);
                drop(answer.send(result.and(resized).map(|view| (view, old))));
            }
        }
    }
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DaemonError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|source| DaemonError::Thread { name, source })
}

fn known(store: &Store, stored: StoredVolume, standing: Standing) -> Known {
    let volume = Arc::new(store.volume(stored.name.clone(), stored.kind, stored.bytes, stored.project));
    Known { stored, volume, standing, inherited: Counter::default(), copies: Counter::default() }
}

/// Why a volume in memory has nothing for this daemon: jobs of an earlier one have it.
fn held_before(known: &Known) -> Option<String> {
    let (name, inherited) = (&known.stored.name, known.inherited.count());
    (!known.stored.kind.is_on_disk() && inherited > 0).then(|| {
        format!(
            "volume \"{name}\" is in memory, and {inherited} jobs of an earlier daemon have what was in it; it takes no \
             new jobs before they end, and is empty then"
        )
    })
}

fn view(known: &Known) -> VolumeView {
    let StoredVolume { name, kind, bytes, created_ns, .. } = known.stored.clone();
    let (path, backend) = (known.volume.path(), known.volume.backend());
    VolumeView { name, kind, bytes, path, backend, usage: None, created_ns, jobs: 0 }
}

/// The refusal of a name that no volume has.
pub(super) fn unknown(name: &str) -> CommandError {
    CommandError::Missing(format!("volume \"{name}\" does not exist; rnx volume list shows all"))
}

fn busy() -> CommandError {
    CommandError::Exhausted(format!("{QUEUE} changes of volumes wait already; try again"))
}
