//! The templates of runtimes: made when a job needs one, kept while jobs keep coming.
//!
//! A template costs a mount namespace and a small tmpfs. So it is made at the first use on the thread that starts the job, kept for
//! [`IDLE`] after the last one, and at most [`MOST`] are kept: a runtime that nobody uses costs nothing. A job that needs
//! a template while another one makes it waits for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use super::error::SandboxError;
use super::rootfs::Template;
use super::runtime_root::{RuntimeRoot, build};
use crate::diag;

/// How long a template is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(600);
/// Most templates that are kept; beyond them the one goes that was used first.
const MOST: usize = 16;

/// Templates by root.
#[derive(Debug, Default)]
pub(super) struct Roots {
    kept: Mutex<HashMap<RuntimeRoot, Arc<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    used: Mutex<Instant>,
    template: Mutex<Option<Arc<Template>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Roots {
    /// The template of a root, made now if there is none, from that of the host.
    pub(super) fn get(&self, root: &RuntimeRoot, host: &Template) -> Result<Arc<Template>, SandboxError> {
        let (kept, leaving) = self.entry(root, Instant::now());
        // The kernel takes their mounts apart here, under no lock.
        drop(leaving);
        let mut template = lock(&kept.template);
        if let Some(template) = &*template {
            return Ok(template.clone());
        }
        let built = build(host, root)?;
        for note in &built.notes {
            diag::event!(Level::Warn, "jobs do not see a path as asked", runtime = root.name, reason = note);
        }
        Ok(template.insert(Arc::new(built)).clone())
    }

    /// Whether there is a template of this root. It does not wait for one that is being made.
    pub(super) fn has(&self, root: &RuntimeRoot) -> bool {
        let kept = lock(&self.kept);
        kept.get(root).is_some_and(|kept| kept.template.try_lock().is_ok_and(|template| template.is_some()))
    }

    /// Lets the templates of these roots go.
    pub(super) fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        let leaving: Vec<_> = lock(&self.kept).extract_if(|root, _| is_gone(&root.name)).collect();
        drop(leaving);
    }

    /// Lets templates go that nobody has used for some minutes; the number of those that are left.
    pub(super) fn forget_idle(&self, now: Instant) -> usize {
        let (leaving, left) = {
            let mut kept = lock(&self.kept);
            (take_idle(&mut kept, now), kept.len())
        };
        drop(leaving);
        left
    }

    /// The entry of a root, and those that give way.
    fn entry(&self, root: &RuntimeRoot, now: Instant) -> (Arc<Kept>, Vec<Arc<Kept>>) {
        let mut kept = lock(&self.kept);
        let mut leaving = take_idle(&mut kept, now);
        if let Some(entry) = kept.get(root) {
            *lock(&entry.used) = now;
            return (entry.clone(), leaving);
        }
        if kept.len() >= MOST {
            let oldest =
                kept.iter().min_by_key(|(_, entry)| *lock(&entry.used)).map(|(root, _)| root.clone());
            leaving.extend(oldest.and_then(|root| kept.remove(&root)));
        }
        let entry = Arc::new(Kept { used: Mutex::new(now), template: Mutex::default() });
        kept.insert(root.clone(), entry.clone());
        (entry, leaving)
    }
}

fn take_idle(kept: &mut HashMap<RuntimeRoot, Arc<Kept>>, now: Instant) -> Vec<Arc<Kept>> {
    let is_idle =
        |_: &RuntimeRoot, entry: &mut Arc<Kept>| now.saturating_duration_since(*lock(&entry.used)) > IDLE;
    kept.extract_if(is_idle).map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_and_idle_templates_give_way() {
        let roots = Roots::default();
        let root = |n: usize| RuntimeRoot {
            name: format!("r{n}@1.0.0"),
            generation: 0,
            over_host: true,
            layers: Vec::new(),
            mounts: Vec::new(),
        };
        let begin = Instant::now();
        let at = |s: usize| begin + Duration::from_secs(s as u64);
        for n in 0..MOST {
            assert!(roots.entry(&root(n), at(n)).1.is_empty());
        }
        let first = roots.entry(&root(0), at(MOST)).0;
        assert_eq!(roots.entry(&root(99), at(MOST)).1.len(), 1);
        assert!(Arc::ptr_eq(&first, &roots.entry(&root(0), at(MOST)).0), "the one that was used last stays");
        assert_eq!(lock(&roots.kept).len(), MOST);
        assert_eq!(roots.entry(&root(7), at(MOST + 700)).1.len(), MOST);
        assert_eq!(lock(&roots.kept).len(), 1);
    }
}
