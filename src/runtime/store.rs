//! The runtimes of a node: found, installed and removed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{CWD, RenameFlags, Timespec, Timestamps, UTIME_OMIT, renameat_with};

use super::description::{Description, FILE, MAX_TEXT, Requirements};
use super::error::{RuntimeError, disk};
use super::layer::LayerDigest;
use super::sharing::Sharing;
use super::staging::{self, Staging};
use super::tree;
use crate::job::runtime::{RuntimeId, RuntimeName, RuntimeSpec, Version, Wanted};

/// Most versions of runtimes of a node.
const MOST: usize = 1024;
/// Most candidates that an error names.
const SHOWN: usize = 10;
const LAYERS: &str = ".layers/sha256";
const STAGING: &str = ".staging";
const LEAVING: &str = ".leaving";

/// The number of the next installation that is read.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// One version of a runtime that is installed.
#[derive(Debug)]
pub struct Runtime {
    /// Its name and version.
    pub id: RuntimeId,
    /// The directory with its `runtime.yml` and its files.
    pub dir: PathBuf,
    /// Its name and version.
    pub description: Description,
    /// The text of its `runtime.yml`.
    pub text: String,
    /// Tells one installation of this version from another, as long as the daemon lives.
    pub generation: u64,
    used: Arc<()>,
    own_bytes: OnceLock<u64>,
    last_used_ns: AtomicI64,
}

impl Runtime {
    /// Jobs that have it, or wait to have it.
    pub fn uses(&self) -> usize {
        Arc::strong_count(&self.used) - 1
    }

    /// When a job had it last, ns since the epoch; `None`: none ever had it.
    pub fn last_used_ns(&self) -> Option<i64> {
        Some(self.last_used_ns.load(Relaxed)).filter(|at| *at > 0)
    }

    /// Notes that a job has it now. It is kept in the time of modification of its directory.
    pub fn note_use(&self, now_ns: i64) {
        self.last_used_ns.store(now_ns, Relaxed);
        let now = Timespec { tv_sec: now_ns / 1_000_000_000, tv_nsec: now_ns % 1_000_000_000 };
        let times =
            Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: now };
        // Only a date for people: the next use brings another.
        let _ = rustix::fs::utimensat(CWD, &self.dir, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    }

    /// Bytes on disk of its own files. The first call looks at all of them, so none is made on the event loop.
    pub fn own_bytes(&self) -> u64 {
        *self.own_bytes.get_or_init(|| tree::bytes(&self.dir))
    }
}

/// The right of a job to its runtime. It counts as long as it lives.
#[derive(Debug, Clone)]
#[must_use]
pub struct Use {
    runtime: Arc<Runtime>,
    _counted: Arc<()>,
}

impl Use {
    /// The runtime that is measured.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Layers that stay, whether a runtime names them or not.
#[derive(Debug)]
#[must_use]
pub struct LayerHold {
    inner: Arc<Inner>,
    digests: Vec<LayerDigest>,
}

impl Drop for LayerHold {
    fn drop(&mut self) {
        let mut catalog = self.inner.lock();
        for digest in &self.digests {
            if let Some(count) = catalog.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    catalog.held.remove(digest);
                }
            }
        }
    }
}

/// The result of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The versions that are gone.
    pub ids: Vec<RuntimeId>,
    /// Bytes on disk of them, and of the layers that nobody has any more.
    pub freed_bytes: u64,
}

/// All runtimes of a node. Any thread may use it; what touches the disk says so.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    catalog: Mutex<Catalog>,
    /// Held by whoever removes layers, or holds some: what is held is not removed.
    layers: Mutex<()>,
}

/// The knowledge that needs no disk. Nothing waits for the disk under its lock, because the event loop takes it.
#[derive(Debug, Default)]
struct Catalog {
    runtimes: BTreeMap<RuntimeId, Arc<Runtime>>,
    /// Versions that are being installed or removed.
    changing: BTreeSet<RuntimeId>,
    held: BTreeMap<LayerDigest, usize>,
    layer_bytes: BTreeMap<LayerDigest, u64>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_layers(&self) -> MutexGuard<'_, ()> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: &RuntimeId) -> PathBuf {
        self.base.join(id.name.as_str()).join(id.version.as_str())
    }

    fn layer(&self, digest: &LayerDigest) -> PathBuf {
        self.base.join(LAYERS).join(digest.hex())
    }
}

impl Store {
    /// The runtimes below `base`. A broken one is left as it is and not offered; its fault is returned in words. Call
    /// [`Store::clean`] next, on a thread that may take its time.
    ///
    /// # Errors
    /// A directory that cannot be made or read.
    pub fn open(base: &Path) -> Result<(Store, Vec<String>), RuntimeError> {
        for below in [STAGING, LEAVING, LAYERS] {
            let dir = base.join(below);
            disk(fs::create_dir_all(&dir), "make", &dir)?;
        }
        let inner = Inner { base: base.to_owned(), catalog: Mutex::default(), layers: Mutex::default() };
        let store = Store { inner: Arc::new(inner) };
        // It may be much: `clean` removes it.
        let staging = base.join(STAGING);
        let half_made = base.join(LEAVING).join(uuid::Uuid::new_v4().to_string());
        disk(fs::rename(&staging, &half_made), "move aside", &staging)?;
        disk(fs::create_dir(&staging), "make", &staging)?;
        let findings = store.rescan()?;
        Ok((store, findings))
    }

    /// Removes what an earlier daemon left half made, and layers that no runtime names and nobody holds. Failures are
    /// returned in words. It may take long.
    pub fn clean(&self) -> Vec<String> {
        let findings = staging::clear(&self.inner.base.join(LEAVING));
        let there = fs::read_dir(self.inner.base.join(LAYERS)).into_iter().flatten().flatten();
        let digest = |entry: fs::DirEntry| format!("sha256:{}", entry.file_name().to_str()?).parse().ok();
        self.remove_layers(there.filter_map(digest).collect());
        findings
    }

    /// Looks for runtimes that somebody has put into place by hand. The fault of a broken one is returned in words. Touches
    /// the disk.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn rescan(&self) -> Result<Vec<String>, RuntimeError> {
        let base = &self.inner.base;
        let mut findings = Vec::new();
        for entry in disk(fs::read_dir(base), "read", base)?.flatten() {
            let Some(name) = entry.file_name().to_str().and_then(|name| name.parse::<RuntimeName>().ok())
            else {
                continue;
            };
            if entry.path().join(FILE).exists() {
                let path = entry.path();
                findings.push(format!(
                    "{} is not below a version: move it to {name}/VERSION/{FILE}",
                    path.join(FILE).display()
                ));
            }
            for version in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let version = version.file_name().to_str().and_then(|text| text.parse::<Version>().ok());
                let Some(version) = version else { continue };
                let id = RuntimeId { name: name.clone(), version };
                let is_known = {
                    let catalog = self.inner.lock();
                    catalog.runtimes.contains_key(&id) || catalog.changing.contains(&id)
                };
                if is_known {
                    continue;
                }
                match self.read(&id, &self.inner.place(&id)) {
                    Ok(runtime) => drop(self.inner.lock().runtimes.insert(id, Arc::new(runtime))),
                    Err(why) => findings.push(why.to_string()),
                }
            }
        }
        Ok(findings)
    }

    /// A new directory for something that is to be published. Touches the disk.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn stage(&self) -> Result<Staging, RuntimeError> {
        Staging::make(&self.inner.base.join(STAGING))
    }

    /// Puts a runtime into place: the directory must have a `runtime.yml` of this name and version, and everything that it
    /// names. With `replace` it takes the place of the same version, if no job has that. Touches the disk.
    ///
    /// # Errors
    /// It is there and is not to be replaced, or in use; it is incomplete; the file system's refusal. Nothing has
    /// changed then.
    pub fn publish(
        &self,
        staging: Staging,
        id: &RuntimeId,
        replace: bool,
    ) -> Result<Arc<Runtime>, RuntimeError> {
        let read = self.read(id, staging.path())?;
        if !read.description.requirements.suit_this_host() {
            let wanted = read.description.requirements.architectures.join(" and ");
            return Err(RuntimeError::Architecture { id: id.clone(), wanted });
        }
        let _layers = self.hold_layers(&read.description.layers);
        self.check_layers(&read.description)?;
        let old = self.begin(id, replace)?;
        let moved = self.move_in(staging, id, old.is_some());
        let mut catalog = self.inner.lock();
        catalog.changing.remove(id);
        let runtime = match &moved {
            Ok(_) => Some(Arc::new(Runtime { dir: self.inner.place(id), ..read })),
            Err(_) => old.clone(),
        };
        catalog.runtimes.extend(runtime.clone().map(|runtime| (id.clone(), runtime)));
        drop(catalog);
        // The old one's files go here, and the layers that it alone had.
        let leaving = moved?;
        drop(leaving);
        self.remove_layers(old.iter().flat_map(|old| old.description.layers.clone()).collect());
        runtime.ok_or_else(|| RuntimeError::Exists(id.clone()))
    }

    /// Takes the version out of the catalog for a change, if there may be one. The one that is replaced is returned.
    fn begin(&self, id: &RuntimeId, replace: bool) -> Result<Option<Arc<Runtime>>, RuntimeError> {
        let mut catalog = self.inner.lock();
        if catalog.changing.contains(id) {
            return Err(RuntimeError::Exists(id.clone()));
        }
        match catalog.runtimes.get(id).map(|old| old.uses()) {
            Some(_) if !replace => return Err(RuntimeError::Exists(id.clone())),
            Some(jobs) if jobs > 0 => return Err(RuntimeError::InUse { id: id.clone(), jobs }),
            None if catalog.runtimes.len() >= MOST => return Err(RuntimeError::Full(MOST)),
            _ => {}
        }
        catalog.changing.insert(id.clone());
        Ok(catalog.runtimes.remove(id))
    }

    /// The step on the disk; the other directory, which is to be removed, if there was one.
    fn move_in(&self, staging: Staging, id: &RuntimeId, replaces: bool) -> Result<Staging, RuntimeError> {
        let (base, place) = (&self.inner.base, self.inner.place(id));
        let parent = base.join(id.name.as_str());
        disk(fs::create_dir_all(&parent), "make", &parent)?;
        // Everything that it names is on the disk before it has its name.
        let root = disk(File::open(base), "open", base)?;
        disk(rustix::fs::syncfs(&root), "write", base)?;
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        disk(renameat_with(CWD, staging.path(), CWD, &place, flags), "rename the new runtime to", &place)?;
        for dir in [&parent, base] {
            disk(File::open(dir).and_then(|dir| dir.sync_all()), "write", dir)?;
        }
        if replaces {
            return Ok(staging);
        }
        let dir = base.join(STAGING);
        staging.forget();
        Ok(Staging::vacant(&dir))
    }

    /// Removes one version, or all versions of a name. Touches the disk.
    ///
    /// # Errors
    /// There is none, a job has one of them, or the file system's refusal.
    pub fn remove(&self, name: &RuntimeName, version: Option<&Version>) -> Result<Removed, RuntimeError> {
        let leaving = self.withdraw(name, version)?;
        let mut removed = Removed { ids: Vec::new(), freed_bytes: 0 };
        let mut refusal = None;
        let mut layers = BTreeSet::new();
        for runtime in leaving {
            let bytes = runtime.own_bytes();
            let moved = self.move_out(&runtime.id);
            let mut catalog = self.inner.lock();
            catalog.changing.remove(&runtime.id);
            match moved {
                Ok(aside) => {
                    drop(catalog);
                    drop(aside);
                    removed.freed_bytes += bytes;
                    removed.ids.push(runtime.id.clone());
                    layers.extend(runtime.description.layers.iter().cloned());
                }
                Err(why) => {
                    catalog.runtimes.insert(runtime.id.clone(), runtime);
                    refusal.get_or_insert(why);
                }
            }
        }
        // Fails as long as there are other versions.
        let _ = fs::remove_dir(self.inner.base.join(name.as_str()));
        removed.freed_bytes += self.remove_layers(layers);
        refusal.map_or(Ok(removed), Err)
    }

    /// Takes versions that no job has out of the catalog, all or none.
    fn withdraw(
        &self,
        name: &RuntimeName,
        version: Option<&Version>,
    ) -> Result<Vec<Arc<Runtime>>, RuntimeError> {
        let mut catalog = self.inner.lock();
        let is_meant =
            |id: &RuntimeId| id.name == *name && version.is_none_or(|version| id.version == *version);
        let meant: Vec<Arc<Runtime>> =
            catalog.runtimes.values().filter(|runtime| is_meant(&runtime.id)).cloned().collect();
        if meant.is_empty() {
            let version = version.map_or(Wanted::Latest, |version| Wanted::Exactly(version.clone()));
            let spec = RuntimeSpec { name: name.clone(), version };
            return Err(RuntimeError::Unknown { candidates: catalog.near(name), spec });
        }
        if let Some(used) = meant.iter().find(|runtime| runtime.uses() > 0) {
            return Err(RuntimeError::InUse { id: used.id.clone(), jobs: used.uses() });
        }
        for runtime in &meant {
            catalog.runtimes.remove(&runtime.id);
            catalog.changing.insert(runtime.id.clone());
        }
        Ok(meant)
    }

    fn move_out(&self, id: &RuntimeId) -> Result<Staging, RuntimeError> {
        let (base, place) = (&self.inner.base, self.inner.place(id));
        let aside = Staging::vacant(&base.join(STAGING));
        disk(fs::rename(&place, aside.path()), "move aside", &place)?;
        let parent = base.join(id.name.as_str());
        disk(File::open(&parent).and_then(|dir| dir.sync_all()), "write", &parent)?;
        Ok(aside)
    }

    /// Keeps these layers, whether they are there already or are to be published: none of them is removed as long as the value
    /// lives. Take it before looking whether a layer is there. May wait for the disk.
    pub fn hold_layers(&self, digests: &[LayerDigest]) -> LayerHold {
        let _removals = self.inner.lock_layers();
        let mut catalog = self.inner.lock();
        for digest in digests {
            *catalog.held.entry(digest.clone()).or_default() += 1;
        }
        LayerHold { inner: self.inner.clone(), digests: digests.to_vec() }
    }

    /// Gives layers up that were held for a runtime which does not come to be: those that no runtime names are removed.
    /// Touches the disk.
    pub fn give_up(&self, held: LayerHold) {
        let layers = held.digests.iter().cloned().collect();
        drop(held);
        self.remove_layers(layers);
    }

    /// The directory of a layer, if it is there. Touches the disk.
    pub fn layer(&self, digest: &LayerDigest) -> Option<PathBuf> {
        Some(self.inner.layer(digest)).filter(|path| path.is_dir())
    }

    /// Gives an unpacked layer its name; `false`: it was there already, and this one is removed. Its files are on the
    /// disk only when a runtime that names it is published. Touches the disk.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn publish_layer(&self, staging: Staging, digest: &LayerDigest) -> Result<bool, RuntimeError> {
        let place = self.inner.layer(digest);
        match renameat_with(CWD, staging.path(), CWD, &place, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => Ok(false),
            renamed => {
                disk(renamed, "rename the new layer to", &place)?;
                staging.forget();
                Ok(true)
            }
        }
    }

    /// Removes those of these layers that no runtime names and nobody holds; the bytes that they had.
    fn remove_layers(&self, layers: BTreeSet<LayerDigest>) -> u64 {
        if layers.is_empty() {
            return 0;
        }
        let _removals = self.inner.lock_layers();
        // Both at one moment: what is published has been held before. Compared without the lock, for which the loop waits.
        let (runtimes, held) = {
            let catalog = self.inner.lock();
            let runtimes: Vec<Arc<Runtime>> = catalog.runtimes.values().cloned().collect();
            (runtimes, catalog.held.clone())
        };
        let named = sharing(&runtimes);
        let is_unused = |one: &LayerDigest| !named.has(one) && !held.contains_key(one);
        let unused: Vec<LayerDigest> = layers.into_iter().filter(is_unused).collect();
        let mut freed = 0;
        for digest in unused {
            let bytes = self.layer_bytes(&digest);
            let aside = Staging::vacant(&self.inner.base.join(STAGING));
            if fs::rename(self.inner.layer(&digest), aside.path()).is_ok() {
                freed += bytes;
                self.inner.lock().layer_bytes.remove(&digest);
            }
        }
        freed
    }

    fn layer_bytes(&self, digest: &LayerDigest) -> u64 {
        if let Some(bytes) = self.inner.lock().layer_bytes.get(digest) {
            return *bytes;
        }
        let bytes = tree::bytes(&self.inner.layer(digest));
        self.inner.lock().layer_bytes.insert(digest.clone(), bytes);
        bytes
    }

    /// Which layers several runtimes have. It counts through all of them: once for a list.
    pub fn sharing(&self) -> Sharing {
        sharing(&self.list())
    }

    /// Bytes on disk of a runtime with all its layers, and those among them that other runtimes have too, by the
    /// [`Sharing`] of all of them. The first call looks at all files, so none is made on the event loop.
    pub fn sizes(&self, runtime: &Runtime, sharing: &Sharing) -> (u64, u64) {
        let mine: BTreeSet<&LayerDigest> = runtime.description.layers.iter().collect();
        let (mut all, mut shared) = (runtime.own_bytes(), 0);
        for digest in mine {
            let bytes = self.layer_bytes(digest);
            all += bytes;
            shared += if sharing.is_shared(digest, &runtime.id) { bytes } else { 0 };
        }
        (all, shared)
    }

    /// The directories of its layers, top to bottom.
    pub fn layer_dirs(&self, runtime: &Runtime) -> Vec<PathBuf> {
        runtime.description.layers.iter().rev().map(|digest| self.inner.layer(digest)).collect()
    }

    /// All versions of all runtimes, by name and version.
    pub fn list(&self) -> Vec<Arc<Runtime>> {
        self.inner.lock().runtimes.values().cloned().collect()
    }

    /// The runtime that a text of a client names.
    ///
    /// # Errors
    /// There is none, or the highest version is not one.
    pub fn find(&self, spec: &RuntimeSpec) -> Result<Arc<Runtime>, RuntimeError> {
        self.inner.lock().find(spec).cloned()
    }

    /// The same for a job: as long as the value lives, the version stays.
    ///
    /// # Errors
    /// See [`Store::find`]; or it is made for other processors.
    pub fn take(&self, spec: &RuntimeSpec) -> Result<Use, RuntimeError> {
        let catalog = self.inner.lock();
        let runtime = catalog.find(spec)?.clone();
        let Requirements { architectures, .. } = &runtime.description.requirements;
        if !runtime.description.requirements.suit_this_host() {
            return Err(RuntimeError::Architecture {
                id: runtime.id.clone(),
                wanted: architectures.join(" and "),
            });
        }
        Ok(Use { _counted: runtime.used.clone(), runtime })
    }

    /// Reads what a directory has, and looks whether the files that it names are there.
    fn read(&self, id: &RuntimeId, dir: &Path) -> Result<Runtime, RuntimeError> {
        let path = dir.join(FILE);
        let meta = disk(fs::symlink_metadata(&path), "read", &path)?;
        if !meta.is_file() || meta.len() > MAX_TEXT as u64 {
            let why = format!("it is no file, or has more than {} KiB", MAX_TEXT >> 10);
            return Err(RuntimeError::Description { path, why });
        }
        let text = disk(fs::read_to_string(&path), "read", &path)?;
        let description = Description::parse(&text, &path)?;
        if description.id() != *id {
            return Err(RuntimeError::Misplaced {
                found: Box::new(description.id()),
                wanted: Box::new(id.clone()),
            });
        }
        for mount in &description.mounts {
            let source = dir.join(&mount.source);
            disk(tree::open_beneath(dir, &mount.source), "find, without following links,", &source)?;
        }
        let used = disk(fs::metadata(dir), "read", dir)?;
        // Until its first use the directory is not newer than the file in it.
        let is_used = used.mtime() > meta.mtime().saturating_add(1);
        let at = used.mtime().saturating_mul(1_000_000_000).saturating_add(used.mtime_nsec());
        Ok(Runtime {
            id: id.clone(),
            dir: dir.to_owned(),
            description,
            text,
            generation: GENERATION.fetch_add(1, Relaxed),
            used: Arc::default(),
            own_bytes: OnceLock::new(),
            last_used_ns: AtomicI64::new(if is_used { at } else { 0 }),
        })
    }

    fn check_layers(&self, description: &Description) -> Result<(), RuntimeError> {
        match description.layers.iter().find(|digest| self.layer(digest).is_none()) {
            Some(missing) => Err(RuntimeError::NoLayer(missing.to_string())),
            None => Ok(()),
        }
    }
}

fn sharing(runtimes: &[Arc<Runtime>]) -> Sharing {
    Sharing::of(runtimes.iter().map(|runtime| (&runtime.id, runtime.description.layers.as_slice())))
}

impl Catalog {
    fn find(&self, spec: &RuntimeSpec) -> Result<&Arc<Runtime>, RuntimeError> {
        let unknown = || RuntimeError::Unknown { spec: spec.clone(), candidates: self.near(&spec.name) };
        let version = match &spec.version {
            Wanted::Exactly(version) => version,
            Wanted::Latest => {
                let of_name = self.runtimes.keys().filter(|id| id.name == spec.name);
                let highest = of_name.clone().max().ok_or_else(unknown)?;
                let equal = |id: &&RuntimeId| id.version.precedence(&highest.version) == Ordering::Equal;
                let candidates: Vec<RuntimeId> = of_name.filter(equal).cloned().collect();
                if candidates.len() > 1 {
                    return Err(RuntimeError::Ambiguous { spec: spec.clone(), candidates });
                }
                &highest.version
            }
        };
        let id = RuntimeId { name: spec.name.clone(), version: version.clone() };
        self.runtimes.get(&id).ok_or_else(unknown)
    }

    /// Versions of this name, else of names of the same language, else of all.
    fn near(&self, name: &RuntimeName) -> Vec<RuntimeId> {
        let language = |name: &RuntimeName| name.as_str().split('-').next().unwrap_or_default().to_owned();
        let wanted = language(name);
        let tests: [&dyn Fn(&RuntimeName) -> bool; 3] =
            [&|other| other == name, &|other| language(other) == wanted, &|_| true];
        let like = |is: &dyn Fn(&RuntimeName) -> bool| -> Vec<RuntimeId> {
            self.runtimes.keys().filter(|id| is(&id.name)).take(SHOWN).cloned().collect()
        };
        tests.into_iter().map(like).find(|found| !found.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
