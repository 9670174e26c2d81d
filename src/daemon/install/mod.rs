//! Installing runtimes: images, files of clients, archives of a registry.
//!
//! Whatever it is, it is made beneath `.staging` of the store and gets its name by one rename, or is removed. A call has a
//! thread, because it waits for its client, for the network and for the disk; the loop has no part in it. One name is
//! installed by one call at a time, and a node has few of them at once.
//!
//! | step | a daemon that is killed behind this step leaves |
//! |---|---|
//! | an archive is written, beneath `.staging` | a file that the next daemon removes |
//! | each missing layer of an image is unpacked there and gets its name | layers that no runtime names: the next daemon removes them |
//! | the runtime's own files are written there | the same |
//! | their directory gets its name and version | a runtime |
//!
//! [`import`] takes images, [`package`] files and archives, [`recipe`] recipes. Anything that has to be built
//! is built by a job ([`build`]), with the walls and limits of every job: nothing here executes a program.

mod build;
mod import;
mod package;
mod recipe;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command::CommandError;
use crate::config::daemon::Runtime as RuntimeConfig;
use crate::image::Limits;
use crate::job::runtime::{RuntimeId, RuntimeName, RuntimeSpec};
use crate::job::{JobId, JobSpec};
use crate::runtime::{RuntimeError, Store};
use crate::upload::Upload;

pub use build::{Caller, Gone};
pub use import::{ImportPiece, ImportRequest, ImportedRuntime};
pub use recipe::{BuildEvent, BuildRequest, BuiltRuntime};

/// Installations at one time, of all clients. Each has a thread.
const MOST: usize = 4;

/// The way to install runtimes, which any thread may use.
#[derive(Debug, Clone)]
pub struct Installer {
    store: Store,
    limits: Limits,
    /// The registry of requests that name none.
    registry: String,
    names: Arc<Mutex<HashSet<RuntimeName>>>,
}

/// A runtime that a client wants installed.
#[derive(Debug)]
pub struct InstallRequest {
    /// The name of the runtime, and its version where the request names one.
    pub spec: RuntimeSpec,
    /// The place of its files.
    pub origin: Origin,
    /// Whether it replaces the same version.
    pub replace: bool,
    /// The job that builds it, where its package is to be built: its limits, its network and its time.
    pub job: Box<JobSpec>,
}

/// The place of a runtime's files.
#[derive(Debug)]
pub enum Origin {
    /// They came with the request, already checked.
    Files(Vec<Upload>),
    /// A registry has them.
    Registry {
        /// The registry, as it was given; empty: that of the node's configuration.
        place: String,
        /// The branch of a repository; empty: main.
        branch: String,
    },
}

/// A report of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallEvent {
    /// It is at this step, from 1.
    Step {
        /// The number of the step.
        number: u32,
        /// The number of the last one.
        of: u32,
        /// The step in words.
        message: String,
    },
    /// Something to read.
    Log(Vec<u8>),
}

impl InstallEvent {
    fn step(number: u32, of: u32, message: String) -> InstallEvent {
        InstallEvent::Step { number, of, message }
    }
}

/// A runtime that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRuntime {
    /// Its name and version.
    pub id: RuntimeId,
    /// The directory of its files.
    pub path: PathBuf,
    /// The outcome in words.
    pub message: String,
    /// The registry that had it; empty: none.
    pub registry: String,
    /// The job that has built it, if one has.
    pub job: Option<JobId>,
}

impl Installer {
    /// Installs into a store.
    pub(super) fn new(store: Store, config: &RuntimeConfig) -> Installer {
        let limits = Limits { bytes: config.max_image_bytes, entries: config.max_image_entries };
        Installer { store, limits, registry: config.registry_url.clone(), names: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn below(base: &Path) -> Installer {
        let (store, _) = Store::open(base).expect("a directory of the test's own");
        Installer::new(store, &RuntimeConfig::default())
    }

    fn claim(&self, name: &RuntimeName) -> Result<Claim, CommandError> {
        let mut names = self.names();
        if names.contains(name) {
            let why = format!("runtime \"{name}\" is being installed already; try again when that is done");
            return Err(CommandError::WrongState(why));
        }
        if names.len() >= MOST {
            return Err(CommandError::Exhausted(format!(
                "{MOST} runtimes are being installed already; try again"
            )));
        }
        names.insert(name.clone());
        drop(names);
        Ok(Claim { installer: self.clone(), name: name.clone() })
    }

    fn names(&self) -> MutexGuard<'_, HashSet<RuntimeName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that nobody else installs as long as this lives.
#[derive(Debug)]
struct Claim {
    installer: Installer,
    name: RuntimeName,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.installer.names().remove(&self.name);
    }
}

/// A new file for the daemon alone.
fn scratch(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn refused(doing: &str, name: &RuntimeName, why: RuntimeError) -> CommandError {
    let text = format!("cannot {doing} runtime \"{name}\": {why}");
    match why {
        RuntimeError::Exists(_) => CommandError::Exists(text),
        RuntimeError::InUse { .. } | RuntimeError::Architecture { .. } => CommandError::WrongState(text),
        RuntimeError::Full(_) => CommandError::Exhausted(text),
        RuntimeError::Description { .. } | RuntimeError::Misplaced { .. } | RuntimeError::Digest(_) => {
            CommandError::Invalid(text)
        }
        _ => CommandError::SetUp(text),
    }
}
