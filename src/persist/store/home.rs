//! The file systems on which the trees of history lie. A tree whose file system is unmounted shows the empty directory
//! below: what is written there is out of sight when the file system is back, and counts as stored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::names::Kind;
use super::{Layout, StoreError};

/// The devices of both trees when the store was made; unknown are those of trees that were not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Homes {
    logs: Option<u64>,
    metrics: Option<u64>,
}

fn device(tree: &Path) -> Option<u64> {
    fs::metadata(tree).ok().map(|meta| meta.dev())
}

/// The device on which a tree is, or on which it would be made.
fn place(tree: &Path) -> Option<u64> {
    tree.ancestors().find_map(device)
}

impl Homes {
    /// The devices of these trees now.
    pub(super) fn of(layout: &Layout) -> Homes {
        Homes { logs: device(&layout.logs), metrics: device(&layout.metrics) }
    }

    /// Fails where the tree of a job's directory is on another file system by now. One that was removed is made anew.
    ///
    /// # Errors
    /// [`StoreError::Moved`].
    pub(super) fn check(self, kind: Kind, dir: &Path) -> Result<(), StoreError> {
        let home = if kind == Kind::Samples { self.metrics } else { self.logs };
        let Some(tree) = dir.parent() else { return Ok(()) };
        match (home, place(tree)) {
            (Some(home), Some(now)) if home != now => Err(StoreError::Moved { path: tree.to_owned() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_on_another_file_system_is_refused_and_a_new_one_is_not() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::below(base.path());
        fs::create_dir(&layout.logs).unwrap();
        let homes = Homes::of(&layout);
        let job = layout.logs.join("job");
        homes.check(Kind::Stdout, &job).unwrap();
        homes.check(Kind::Samples, &layout.metrics.join("job")).unwrap();
        // /proc is a file system of its own.
        let refused = homes.check(Kind::Stderr, Path::new("/proc/self")).unwrap_err();
        assert!(matches!(refused, StoreError::Moved { .. }), "{refused}");
        homes.check(Kind::Samples, Path::new("/proc/self")).unwrap();
        // The directory that is made anew would be on the other one.
        assert!(homes.check(Kind::Stdout, Path::new("/proc/gone/logs/job")).is_err());
        fs::remove_dir(&layout.logs).unwrap();
        homes.check(Kind::Stdout, &job).unwrap();
    }
}
