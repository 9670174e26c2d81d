//! The runtimes of the node, the loop's side.
//!
//! The loop decides in memory which version a job gets, and gives the job a [`Use`] from its acceptance to its end. A
//! thread of its own looks at the disk: it measures runtimes, removes them, and clears up after an earlier daemon. It also lets
//! roots go that no job has asked for in a while.
//!
//! A version that a job has, or that a job of a workflow will have, is not removed. Warm sandboxes do not count: they are
//! given up.

mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use log::Level;

use super::DaemonError;
use super::command::{Answer, CommandError, RuntimeView, RuntimesRemoved};
use super::install::Installer;
use super::provision::Node;
use super::token::{Counter, Token};
use crate::config::daemon::DaemonConfig;
use crate::diag;
use crate::job::runtime::{RuntimeId, RuntimeSpec, Wanted};
use crate::job::{InvalidField, JobSpec, RunAs, User, UserName, spec};
use crate::runtime::{Base, Runtime, RuntimeError, Store, Use};
use crate::sandbox::{RuntimeMount, RuntimeRoot};

/// Questions and changes that may wait for the thread.
const QUEUE: usize = 64;
/// PATH of a job whose runtime has none.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Places in a job that builds a runtime, which are one directory of its /work: where packages put their runtimes, and where the
/// files of a description's runtime are for good.
pub(super) const BUILD_PLACES: [&str; 2] = ["/opt/joblet/runtimes", "/opt/runtime"];
/// The directory of /work behind these places.
pub(super) const BUILD_TREE: &str = "/work/runtime";
/// The place of the package in such a job.
pub(super) const PACKAGE_PLACE: &str = "/opt/joblet/package";
/// The empty directory of a build on which those places are made, and the directory of its package.
pub(super) const BUILD_PLACE: &str = "place";
pub(super) const BUILD_PACKAGE: &str = "package";

/// Something for the thread.
#[derive(Debug)]
enum Task {
    /// Measures all runtimes.
    List(Answer<Vec<RuntimeView>>),
    /// Measures a single runtime.
    Show(Arc<Runtime>, Answer<RuntimeView>),
    /// Lets the root of a build go.
    Forget(PathBuf),
    /// Removes versions of a runtime.
    Remove(RuntimeSpec, bool, Answer<RuntimesRemoved>, Token),
}

/// The loop's side: which version a job gets.
#[derive(Debug)]
pub(super) struct Runtimes {
    store: Store,
    tasks: Sender<Task>,
    under_way: Counter,
}

impl Runtimes {
    /// Finds what is installed below `base`, and starts the thread, which ends when this value is gone.
    ///
    /// # Errors
    /// The directory cannot be read; no thread.
    pub(super) fn start(base: &Path, node: Arc<Node>) -> Result<(Runtimes, JoinHandle<()>), DaemonError> {
        let (store, findings) = Store::open(base).map_err(DaemonError::Runtimes)?;
        for finding in findings {
            diag::event!(Level::Warn, "a runtime cannot be used", reason = finding);
        }
        let (tasks, queue) = bounded(QUEUE);
        let files = store.clone();
        let work = move || worker::run(&files, &node, &queue);
        let thread = std::thread::Builder::new().name("runtimes".into()).spawn(work);
        let thread = thread.map_err(|source| DaemonError::Thread { name: "runtimes", source })?;
        Ok((Runtimes { store, tasks, under_way: Counter::default() }, thread))
    }

    /// Removals that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.count()
    }

    /// The way to install more.
    pub(super) fn installer(&self, config: &DaemonConfig) -> Installer {
        Installer::new(self.store.clone(), &config.runtime)
    }

    /// Gives a job the version that it asks for, and completes its request with what that says: the version itself, the
    /// command, the working directory.
    ///
    /// # Errors
    /// There is no such version, or it has no command and the job none either.
    pub(super) fn complete(&self, job: &mut JobSpec) -> Result<Option<Use>, CommandError> {
        let Some(asked) = &job.runtime else { return Ok(None) };
        let found = self.store.take(asked).map_err(|why| CommandError::WrongState(why.to_string()))?;
        let runtime = found.runtime();
        check_writable(runtime, job.writable).map_err(CommandError::Invalid)?;
        job.runtime = Some(runtime.id.clone().into());
        if job.command.is_empty() {
            let mut words = runtime.description.command().into_iter();
            let none = || {
                let id = &runtime.id;
                CommandError::Invalid(format!("command is required: runtime \"{id}\" has none of its own"))
            };
            job.command = words.next().ok_or_else(none)?;
            job.args = words.collect();
        }
        if let Some(user) = user_of_image(runtime, job)? {
            (job.user, job.run_as) = (User::Root, RunAs::Known(user));
        }
        if job.work_dir.is_empty() {
            let image = runtime.description.image.as_ref().map_or("", |image| &image.working_dir);
            let wrong = |why: InvalidField| {
                CommandError::Invalid(format!("runtime \"{}\": {why}; give the job a workDir", runtime.id))
            };
            job.work_dir = spec::work_dir(image).map_err(wrong)?;
        }
        Ok(Some(found))
    }

    /// The user of the image of a job that is not that user: it has one id.
    pub(super) fn other_user(&self, job: &JobSpec) -> Option<String> {
        let runtime = self.store.find(job.runtime.as_ref()?).ok()?;
        let user = &runtime.description.image.as_ref()?.user;
        let is_other = job.profile.is_strict() && job.run_as.is_unnamed() && !user.is_empty();
        is_other.then(|| user.clone())
    }

    /// The command that tries a runtime: its interpreter says its version. One without a language, as images are, starts its
    /// shell.
    ///
    /// # Errors
    /// There is no such runtime.
    pub(super) fn test_command(
        &self,
        asked: Option<&RuntimeSpec>,
    ) -> Result<Vec<&'static str>, CommandError> {
        let Some(asked) = asked else {
            return Err(CommandError::Invalid("runtime name is required".to_owned()));
        };
        let runtime = self.store.find(asked).map_err(|why| CommandError::Missing(why.to_string()))?;
        Ok(match runtime.description.language.to_ascii_lowercase().as_str() {
            "python" => vec!["python3", "--version"],
            "java" => vec!["java", "-version"],
            "node" | "nodejs" | "javascript" => vec!["node", "--version"],
            "go" | "golang" => vec!["go", "version"],
            "rust" => vec!["rustc", "--version"],
            "ruby" => vec!["ruby", "--version"],
            "php" => vec!["php", "--version"],
            "perl" => vec!["perl", "--version"],
            _ => vec!["sh", "-c", ":"],
        })
    }

    /// The version of a job that an earlier daemon has accepted.
    pub(super) fn adopt(&self, job: &JobSpec) -> Option<Use> {
        self.store.take(job.runtime.as_ref()?).ok()
    }

    /// The root of a version; `None` where it is not there.
    pub(super) fn root(&self, version: &RuntimeSpec) -> Option<Arc<RuntimeRoot>> {
        Some(Arc::new(root(&*self.store.find(version).ok()?, &self.store)))
    }

    /// Whether this root is that of a version which is there.
    pub(super) fn has(&self, root: &RuntimeRoot) -> bool {
        let spec = root.name.parse::<RuntimeSpec>();
        let found = spec.ok().and_then(|spec| self.store.find(&spec).ok());
        found.is_some_and(|runtime| runtime.generation == root.generation)
    }

    /// The exact version that a text names now, for a job that may write its root or not.
    ///
    /// # Errors
    /// There is none, or none that can be written.
    pub(super) fn resolve(&self, asked: &RuntimeSpec, writable: bool) -> Result<RuntimeId, String> {
        let runtime = self.store.find(asked).map_err(|why| why.to_string())?;
        check_writable(&runtime, writable)?;
        Ok(runtime.id.clone())
    }

    /// Has all runtimes listed.
    pub(super) fn list(&self, answer: Answer<Vec<RuntimeView>>) {
        if let Err(Task::List(answer)) = self.hand_over(Task::List(answer)) {
            let _ = answer.send(Err(busy()));
        }
    }

    /// Has one runtime shown.
    pub(super) fn show(&self, asked: &RuntimeSpec, answer: Answer<RuntimeView>) {
        let runtime = match self.store.find(asked) {
            Ok(runtime) => runtime,
            Err(why @ RuntimeError::Ambiguous { .. }) => {
                return drop(answer.send(Err(CommandError::Invalid(why.to_string()))));
            }
            Err(why) => return drop(answer.send(Err(CommandError::Missing(why.to_string())))),
        };
        if let Err(Task::Show(_, answer)) = self.hand_over(Task::Show(runtime, answer)) {
            let _ = answer.send(Err(busy()));
        }
    }

    /// Has one version removed, or with `all` every version of the name, unless a job of a workflow is going to have it:
    /// `awaited` counts these.
    pub(super) fn remove(
        &self,
        asked: RuntimeSpec,
        all: bool,
        awaited: &HashMap<RuntimeId, usize>,
        answer: Answer<RuntimesRemoved>,
    ) {
        let exact = match &asked.version {
            Wanted::Exactly(version) => Some(version.clone()),
            // `NAME@latest` is one version too.
            Wanted::Latest if !all => match self.store.find(&asked) {
                Ok(runtime) => Some(runtime.id.version.clone()),
                Err(why) => return drop(answer.send(Err(CommandError::Missing(why.to_string())))),
            },
            Wanted::Latest => None,
        };
        let is_meant = |id: &RuntimeId| {
            id.name == asked.name && exact.as_ref().is_none_or(|version| id.version == *version)
        };
        if let Some((id, jobs)) = awaited.iter().find(|(id, _)| is_meant(id)) {
            let why = RuntimeError::InUse { id: id.clone(), jobs: *jobs };
            return drop(answer.send(Err(CommandError::WrongState(why.to_string()))));
        }
        let version = exact.map_or(Wanted::Latest, Wanted::Exactly);
        let task =
            Task::Remove(RuntimeSpec { name: asked.name, version }, all, answer, self.under_way.token());
        if let Err(Task::Remove(_, _, answer, _)) = self.hand_over(task) {
            let _ = answer.send(Err(busy()));
        }
    }

    /// Has the root let go of a job that has built a runtime. One that is not goes when nobody has used it for a while.
    pub(super) fn forget_build(&self, dir: &Path) {
        let _ = self.hand_over(Task::Forget(dir.to_owned()));
    }

    fn hand_over(&self, task: Task) -> Result<(), Task> {
        self.tasks.try_send(task).map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

/// Whether a job of this runtime can have a root that it writes, where it wants one.
fn check_writable(runtime: &Runtime, writable: bool) -> Result<(), String> {
    if writable && runtime.description.base == Base::Host {
        return Err(format!(
            "runtime \"{}\" lies over the host's files (base: host), which no job writes; choose one with base: none, as \
             images are, or run without writable",
            runtime.id
        ));
    }
    Ok(())
}

/// The user of the image, which a job of many ids is unless its client names another.
fn user_of_image(runtime: &Runtime, job: &JobSpec) -> Result<Option<UserName>, CommandError> {
    let user = runtime.description.image.as_ref().map_or("", |image| &image.user);
    if user.is_empty() || job.profile.is_strict() || !job.run_as.is_unnamed() {
        return Ok(None);
    }
    let wrong = |why: InvalidField| {
        CommandError::Invalid(format!("runtime \"{}\": {why}; give the job a user", runtime.id))
    };
    user.parse().map(Some).map_err(wrong)
}

fn busy() -> CommandError {
    CommandError::Exhausted(format!("{QUEUE} questions about runtimes wait already; try again"))
}

/// The root of a runtime, as sandboxes take it.
fn root(runtime: &Runtime, store: &Store) -> RuntimeRoot {
    let mount = |mount: &crate::runtime::Mount| RuntimeMount {
        dir: runtime.dir.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
    };
    RuntimeRoot {
        name: runtime.id.to_string(),
        generation: runtime.generation,
        over_host: runtime.description.base == Base::Host,
        layers: store.layer_dirs(runtime),
        mounts: runtime.description.mounts.iter().map(mount).collect(),
    }
}

/// Where a job that builds a runtime finds the directories of its build, which are below `dir`: what it was given, read-only, and
/// the places of what it makes. The spawner lets these lead into /work, which is bounded and the job's own.
pub(super) fn build_root(dir: &Path) -> RuntimeRoot {
    let mount = |source: &str, target: &str| RuntimeMount {
        dir: dir.to_owned(),
        source: source.into(),
        target: target.into(),
    };
    let places = BUILD_PLACES.iter().map(|target| mount(BUILD_PLACE, target));
    RuntimeRoot {
        name: dir.display().to_string(),
        generation: 0,
        over_host: true,
        layers: Vec::new(),
        mounts: places.chain([mount(BUILD_PACKAGE, PACKAGE_PLACE)]).collect(),
    }
}
