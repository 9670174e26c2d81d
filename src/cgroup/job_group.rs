//! One job's group: its accounting, and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::files::Group;
use super::stat::{self, CpuStat, MemoryEvents};
use super::{CgroupError, Removal, removal};
use crate::job::JobId;

/// A job's group. Dropping it closes the descriptor and leaves the group: only the daemon removes groups.
#[derive(Debug)]
pub struct JobCgroup {
    id: JobId,
    group: Group,
}

impl JobCgroup {
    pub(super) fn new(id: JobId, group: Group) -> Self {
        JobCgroup { id, group }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// A second descriptor of the same group, for another thread to read it by.
    ///
    /// # Errors
    /// The daemon has no descriptor left.
    pub fn try_clone(&self) -> io::Result<JobCgroup> {
        Ok(JobCgroup { id: self.id, group: self.group.try_clone()? })
    }

    /// The id of the job that owns the group.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Path of the group's directory.
    pub fn path(&self) -> &Path {
        &self.group.path
    }

    /// The group's directory as clone3 takes it with CLONE_INTO_CGROUP.
    pub fn dir_fd(&self) -> BorrowedFd<'_> {
        self.group.dir.as_fd()
    }

    /// Kills every process in the group, those being forked included (`cgroup.kill`, Linux 5.14), and lifts
    /// its CPU limit: to die takes processor time, and a throttled process waits for its share of it. A group
    /// that is gone has none.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match self.group.try_write("cgroup.kill", "1") {
            Err(e) if is_gone(&e) && !self.group.path.exists() => Ok(()),
            Err(source) => Err(CgroupError::Kill { group: self.group.path.clone(), source }),
            Ok(()) => {
                // No process in it gets to another instruction of its own. Without the controller: no file.
                let _ = self.group.try_write("cpu.max", "max");
                Ok(())
            }
        }
    }

    /// Has every process of the group stop where it is, or go on (`cgroup.freeze`, Linux 5.2). The kernel is not done when
    /// this returns: [`JobCgroup::is_frozen`] tells when it is.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let word = if frozen { "1" } else { "0" };
        self.group
            .try_write("cgroup.freeze", word)
            .map_err(|source| CgroupError::Freeze { group: self.group.path.clone(), source })
    }

    /// Whether every process of the group stands still.
    ///
    /// # Errors
    /// `cgroup.events` cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        self.group.read("cgroup.events").map(|text| stat::frozen(&text).unwrap_or(false))
    }

    /// Whether the group is to stand still, by whoever wrote it last.
    ///
    /// # Errors
    /// `cgroup.freeze` cannot be read.
    pub fn is_to_freeze(&self) -> Result<bool, CgroupError> {
        self.group.read("cgroup.freeze").map(|text| text.trim() == "1")
    }

    /// Whether processes live in the group, zombies not counted.
    ///
    /// # Errors
    /// `cgroup.events` cannot be read.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        self.group.read("cgroup.events").map(|text| stat::populated(&text).unwrap_or(false))
    }

    /// The processes in the group, by their numbers on the host.
    ///
    /// # Errors
    /// `cgroup.procs` cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let text = self.group.read("cgroup.procs")?;
        Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Events at the memory limit; `None` without the memory controller.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn memory_events(&self) -> Result<Option<MemoryEvents>, CgroupError> {
        Ok(self.group.read_optional("memory.events")?.and_then(|text| stat::memory_events(&text)))
    }

    /// Most memory in use at one time, in bytes; `None` without the memory controller or before Linux 5.19.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn peak_memory(&self) -> Result<Option<u64>, CgroupError> {
        Ok(self.group.read_optional("memory.peak")?.and_then(|text| text.trim().parse().ok()))
    }

    /// CPU time; the kernel counts it with and without the cpu controller.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn cpu_stat(&self) -> Result<Option<CpuStat>, CgroupError> {
        Ok(self.group.read_optional("cpu.stat")?.and_then(|text| stat::cpu_stat(&text)))
    }

    /// User and system time of all processes, ended ones included.
    ///
    /// # Errors
    /// As [`JobCgroup::cpu_stat`].
    pub fn cpu_time(&self) -> Result<Option<Duration>, CgroupError> {
        Ok(self.cpu_stat()?.map(|stat| stat.usage))
    }

    /// Removes the group and any groups below it. A group that is gone counts as removed.
    ///
    /// # Errors
    /// Anything but "busy".
    pub fn remove(&self) -> Result<Removal, CgroupError> {
        removal::remove(&self.group.path)
    }
}

/// Whether a read or write of a file failed because the group was removed.
fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::NODEV.raw_os_error()) || errno == Some(Errno::NOENT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn job_with(files: &[(&str, &str)]) -> (tempfile::TempDir, JobCgroup) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job");
        fs::create_dir(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        let group = Group::open(&path).unwrap();
        (dir, JobCgroup::new(JobId::random(), group))
    }

    #[test]
    fn accounting_of_controllers_that_are_not_there_is_absent() {
        let (_dir, job) = job_with(&[("cpu.stat", "usage_usec 7\nuser_usec 3\nsystem_usec 4\n")]);
        assert_eq!(job.memory_events().unwrap(), None);
        assert_eq!(job.peak_memory().unwrap(), None);
        assert_eq!(job.cpu_time().unwrap(), Some(Duration::from_micros(7)));
    }

    #[test]
    fn accounting_is_read_from_the_groups_files() {
        let (_dir, job) = job_with(&[
            ("memory.peak", "4096\n"),
            ("memory.events", "low 0\nhigh 0\nmax 2\noom 1\noom_kill 3\noom_group_kill 1\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        assert_eq!(job.peak_memory().unwrap(), Some(4096));
        assert!(job.memory_events().unwrap().unwrap().killed());
        assert!(job.is_populated().unwrap());
    }

    #[test]
    fn freezing_writes_a_wish_and_reads_its_effect() {
        let (dir, job) = job_with(&[("cgroup.freeze", "0\n"), ("cgroup.events", "populated 1\nfrozen 0\n")]);
        assert!(!job.is_to_freeze().unwrap());
        job.freeze(true).unwrap();
        assert!(job.is_to_freeze().unwrap() && !job.is_frozen().unwrap());
        fs::write(dir.path().join("job/cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(job.is_frozen().unwrap());
    }

    #[test]
    fn killing_writes_cgroup_kill_and_lets_the_dying_run() {
        let (dir, job) = job_with(&[("cgroup.kill", ""), ("cpu.max", "")]);
        job.kill().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("job/cpu.max")).unwrap(), "max");
        assert_eq!(fs::read_to_string(dir.path().join("job/cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn a_group_that_is_gone_is_killed_and_removed() {
        let (dir, job) = job_with(&[]);
        assert!(job.kill().is_err(), "a group without cgroup.kill cannot be trusted to be empty");
        assert_eq!(job.remove().unwrap(), Removal::Done);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(job.remove().unwrap(), Removal::Done);
        job.kill().unwrap();
    }
}
