//! The thread's part: everything about runtimes that touches the disk.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::Level;

use super::Task;
use crate::daemon::command::{CommandError, RuntimeView, RuntimesRemoved};
use crate::daemon::provision::Node;
use crate::diag;
use crate::job::runtime::{RuntimeSpec, Wanted};
use crate::runtime::{Removed, Runtime, RuntimeError, Sharing, Store};

/// How often it looks for roots that nobody uses.
const LOOK: Duration = Duration::from_secs(60);

/// Does one thing after another until the loop is gone.
pub(super) fn run(store: &Store, node: &Node, tasks: &Receiver<Task>) {
    for finding in store.clean() {
        diag::event!(Level::Warn, "runtimes of an earlier daemon", reason = finding);
    }
    loop {
        match tasks.recv_timeout(LOOK) {
            Ok(task) => carry_out(store, node, task),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        node.sandbox.forget_idle_roots(Instant::now());
    }
}

/// An answer whose client is gone is dropped.
fn carry_out(store: &Store, node: &Node, task: Task) {
    match task {
        Task::List(answer) => {
            if let Err(why) = store.rescan() {
                let _ = answer.send(Err(CommandError::SetUp(why.to_string())));
                return;
            }
            let sharing = store.sharing();
            let _ = answer.send(Ok(store.list().iter().map(|one| view(store, one, &sharing)).collect()));
        }
        Task::Show(runtime, answer) => {
            let _ = answer.send(Ok(view(store, &runtime, &store.sharing())));
        }
        Task::Forget(dir) => {
            let name = dir.display().to_string();
            node.sandbox.forget_roots(|other| other == name);
        }
        Task::Remove(spec, all, answer, under_way) => {
            let removed = remove(store, &spec, all);
            if let Ok(RuntimesRemoved { ids, .. }) = &removed {
                node.sandbox.forget_roots(|name| ids.iter().any(|id| id.to_string() == name));
            }
            drop(under_way);
            let _ = answer.send(removed);
        }
    }
}

fn remove(store: &Store, spec: &RuntimeSpec, all: bool) -> Result<RuntimesRemoved, CommandError> {
    let version = match &spec.version {
        Wanted::Exactly(version) => Some(version),
        Wanted::Latest => None,
    };
    let removed = store.remove(&spec.name, version).map_err(|why| match why {
        RuntimeError::Unknown { .. } => CommandError::Missing(why.to_string()),
        RuntimeError::InUse { .. } => CommandError::WrongState(why.to_string()),
        why => CommandError::SetUp(why.to_string()),
    })?;
    let Removed { ids, freed_bytes } = removed;
    Ok(RuntimesRemoved { ids, all, freed_bytes })
}

fn view(store: &Store, runtime: &Runtime, sharing: &Sharing) -> RuntimeView {
    let (bytes, shared_bytes) = store.sizes(runtime, sharing);
    let description = &runtime.description;
    RuntimeView {
        id: runtime.id.clone(),
        description: description.description.clone(),
        language: description.language.clone(),
        language_version: description.language_version.clone(),
        bytes,
        shared_bytes,
        packages: description.packages.clone(),
        libraries: description.libraries.clone(),
        is_available: description.requirements.suit_this_host(),
        architectures: description.requirements.architectures.clone(),
        wants_gpu: description.requirements.gpu,
        environment: description.environment.clone().into_iter().collect(),
        yaml: runtime.text.clone(),
        last_used_ns: runtime.last_used_ns(),
        jobs: runtime.uses(),
    }
}
