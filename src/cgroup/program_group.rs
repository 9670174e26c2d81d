//! The group of a program that the node runs for its jobs: beside the jobs' own, so that it outlives a daemon as they do and is no
//! part of its unit, with limits of its own.

use std::path::Path;

use super::files::Group;
use super::removal::{Removal, remove};
use super::{CgroupError, CgroupTree};
use crate::job::Controller;

/// Such a group.
#[derive(Debug)]
pub struct ProgramGroup(Group);

impl CgroupTree {
    /// Makes the group of a program, or finds it, and limits its memory (bytes) and its processes as far as there are
    /// controllers.
    ///
    /// # Errors
    /// It cannot be made, or a file does not take its limit.
    pub fn program(&self, name: &str, memory: u64, processes: u32) -> Result<ProgramGroup, CgroupError> {
        let group = Group::make(&self.path().join(name))?;
        let limits = [
            (Controller::Memory, "memory.max", memory),
            (Controller::Pids, "pids.max", u64::from(processes)),
        ];
        for (controller, file, value) in limits {
            if self.controllers().contains(controller) {
                group.write(file, &value.to_string())?;
            }
        }
        Ok(ProgramGroup(group))
    }

    /// Removes the group of a program that has ended, if there is one.
    ///
    /// # Errors
    /// Anything but "busy".
    pub fn remove_program(&self, name: &str) -> Result<Removal, CgroupError> {
        remove(&self.path().join(name))
    }
}

impl ProgramGroup {
    /// Moves a process in. The kernel waits until no other process forks or ends, some milliseconds, so this is nothing for a
    /// start of a job.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn take_in(&self, pid: i32) -> Result<(), CgroupError> {
        self.0.write("cgroup.procs", &pid.to_string())
    }

    /// The directory of the group.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{ControllerSet, Placement};
    use std::fs;

    #[test]
    fn group_of_a_program_has_the_limits_that_controllers_keep() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("joblet-1/names");
        for place in [dir.path().to_owned(), dir.path().join("joblet-1"), group.clone()] {
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("cgroup.controllers"), "memory").unwrap();
            fs::write(place.join("cgroup.subtree_control"), "memory").unwrap();
        }
        for file in ["memory.max", "pids.max", "cgroup.procs"] {
            fs::write(group.join(file), "").unwrap();
        }
        let tree = CgroupTree::discover(&Placement {
            mountinfo: &format!("30 24 0:26 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display()),
            self_cgroup: "0::/\n",
            base_dir: None,
            name: "joblet-1",
            wanted: ControllerSet::all(),
        });
        let made = tree.unwrap().program("names", 1 << 20, 8).unwrap();
        made.take_in(77).unwrap();
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(
            (read("memory.max"), read("pids.max"), read("cgroup.procs")),
            ("1048576".into(), "".into(), "77".into())
        );
    }
}
