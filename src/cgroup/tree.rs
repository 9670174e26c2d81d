//! The groups above the jobs' own: found or made, with controllers enabled for the groups below.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use super::files::Group;
use super::processes::{Share, most_processes, share};
use super::removal::{is_busy, names_of_groups, removal, remove, rmdir};
use super::{CgroupError, ControllerSet, Disk, JobCgroup, Removal, Unenforced, Why, device, limits, locate};
use crate::job::limits::CoreSet;
use crate::job::{Controller, DeviceNode, Enforcement, JobId, Layer, Limits};

/// The daemon's own leaf below its group.
const MAIN: &str = "joblet-main";
/// Before a job's id in the name of its group.
const JOB: &str = "job-";
/// Where the kernel lists the cores that are online.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The inputs that decide where the groups are made.
#[derive(Debug, Clone)]
pub struct Placement<'a> {
    /// The text of /proc/self/mountinfo.
    pub mountinfo: &'a str,
    /// The text of /proc/self/cgroup.
    pub self_cgroup: &'a str,
    /// `cgroup.baseDir`, where configured; made where it does not exist.
    pub base_dir: Option<&'a Path>,
    /// The name of the group that holds the jobs' groups, such as `joblet-1a2b3c4d`, a hash of dataDir: of this daemon alone, and
    /// the same after a restart.
    pub name: &'a str,
    /// The controllers of `cgroup.enableControllers`.
    pub wanted: ControllerSet,
}

/// The state of a job's group, from [`CgroupTree::read_back`].
#[derive(Debug)]
pub struct GroupState {
    /// The limits, each compared with the value written.
    pub layers: Vec<Layer>,
    /// The processes in the group, by their numbers on the host.
    pub processes: Vec<i32>,
}

/// The group that holds the jobs' groups.
#[derive(Debug)]
pub struct CgroupTree {
    group: Group,
    controllers: ControllerSet,
    missing: Vec<(Controller, Why)>,
    most_processes: u32,
    /// Why no program decides about the devices of jobs; `None`: one does.
    unguarded: Option<String>,
    programs: device::Programs,
}

impl CgroupTree {
    /// Makes the tree of this process, from /proc/self, and limits the processes of all jobs together. See
    /// [`CgroupTree::discover`].
    ///
    /// # Errors
    /// As [`CgroupTree::discover`]; also when /proc cannot be read, or the limit cannot be written.
    pub fn of_this_process(
        base_dir: Option<&Path>,
        name: &str,
        wanted: ControllerSet,
    ) -> Result<CgroupTree, CgroupError> {
        let read = |file: &str| {
            fs::read_to_string(file).map_err(|source| CgroupError::Read { file: file.into(), source })
        };
        let (mountinfo, self_cgroup) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let mut tree = CgroupTree::discover(&Placement {
            mountinfo: &mountinfo,
            self_cgroup: &self_cgroup,
            base_dir,
            name,
            wanted,
        })?;
        tree.limit_processes(most_processes()?)?;
        tree.unguarded = tree.programs.guard(tree.group.dir.as_fd(), &[]).err().map(|why| why.to_string());
        Ok(tree)
    }

    /// Limits the processes of all jobs together, where the controller is.
    fn limit_processes(&mut self, most: u32) -> Result<(), CgroupError> {
        self.most_processes = most;
        if self.controllers.contains(Controller::Pids) {
            self.group.write("pids.max", &most.to_string())?;
        }
        Ok(())
    }

    /// How many jobs may run, of at most `jobs`, and how many processes each may have, where no group limits the
    /// processes of all of them together; `None` where one does.
    pub fn share(&self, jobs: u32) -> Option<Share> {
        (!self.controllers.contains(Controller::Pids)).then(|| share(self.most_processes, jobs))
    }

    /// Makes the tree, or finds it as the last daemon left it, and enables the available controllers.
    ///
    /// It touches our own group, the groups from there (or from the nearest existing group above
    /// `base_dir`) down to the tree, and no others. The daemon itself moves into `joblet-main` where its
    /// group must pass controllers on: a group other than the root has processes or controllers, not both.
    ///
    /// # Errors
    /// No cgroup v2, a base directory outside of it, or groups that cannot be made. A controller that is
    /// missing is no error here: [`CgroupTree::enforce`] reports it.
    pub fn discover(placement: &Placement<'_>) -> Result<CgroupTree, CgroupError> {
        let (mount, own) = locate::own_group(placement.mountinfo, placement.self_cgroup)?;
        let own = own_of(own);
        let parent = match placement.base_dir {
            Some(base) => inside(base, &mount.point)?,
            None => own.clone(),
        };
        let above = levels(&own, &parent);
        let mut why = Vec::new();
        for level in &above {
            let group = Group::make(level)?;
            pass_on(&group, *level == own, level == &mount.point, placement.wanted, &mut why)?;
        }
        let group = Group::make(&parent.join(placement.name))?;
        pass_on(&group, false, false, placement.wanted, &mut why)?;

        let enabled = group.read_optional("cgroup.subtree_control")?.unwrap_or_default();
        let controllers = ControllerSet::read(&enabled).and(placement.wanted);
        let missing = ControllerSet::all().without(controllers).iter().map(|controller| {
            let first = why.iter().find(|(of, _)| *of == controller).map(|(_, why)| why.clone());
            (controller, first.unwrap_or(Why::NotConfigured))
        });
        let unguarded = Some("this tree was not asked to".to_owned());
        let (most_processes, programs) = (u32::MAX, device::Programs::default());
        Ok(CgroupTree { controllers, missing: missing.collect(), group, most_processes, unguarded, programs })
    }

    /// The directory of the tree.
    pub fn path(&self) -> &Path {
        &self.group.path
    }

    /// The controllers by which jobs can be limited.
    pub fn controllers(&self) -> ControllerSet {
        self.controllers
    }

    /// The controllers by which jobs cannot be limited, and why.
    pub fn missing(&self) -> &[(Controller, Why)] {
        &self.missing
    }

    /// Whether a job's limits can be kept: the limits that will not be in force, for its status.
    ///
    /// A limit on block devices is kept where its controller is, also for a job that sees no disk.
    ///
    /// # Errors
    /// Strict enforcement and a limit without controller: the first of them, with advice.
    pub fn enforce(&self, limits: &Limits, mode: Enforcement) -> Result<Vec<Unenforced>, CgroupError> {
        let unenforced = limits::beyond(limits, self.controllers).into_iter().map(|(controller, limit)| {
            let why = self.missing.iter().find(|(of, _)| *of == controller).map(|(_, why)| why.clone());
            Unenforced { limit, controller, why: why.unwrap_or(Why::NotConfigured) }
        });
        let mut unenforced = unenforced.collect::<Vec<_>>();
        match mode {
            Enforcement::Strict if !unenforced.is_empty() => {
                Err(CgroupError::Enforce(unenforced.swap_remove(0)))
            }
            _ => Ok(unenforced),
        }
    }

    /// Makes a job's group with its limits in force, for CLONE_INTO_CGROUP. `disks` are those that the job
    /// can reach. Limits without controller are left out: ask [`CgroupTree::enforce`] first.
    ///
    /// # Errors
    /// The group exists or cannot be made, or a file does not take its limit; then no group remains.
    pub fn create(&self, id: JobId, limits: &Limits, disks: &[Disk]) -> Result<JobCgroup, CgroupError> {
        let path = self.job_path(id);
        let made = fs::create_dir(&path).and_then(|()| Group::open(&path));
        let group = made.map_err(|source| CgroupError::MakeGroup { path: path.clone(), source })?;
        if let Err(error) = limits::apply(&group, limits, disks, self.controllers) {
            // It is empty, so removal works; otherwise the next daemon's cleanup removes it.
            let _ = remove(&path);
            return Err(error);
        }
        Ok(JobCgroup::new(id, group))
    }

    /// Changes the limits of a job's group, which must have none that `limits` does not name
    /// ([`Limits::covers`]).
    ///
    /// # Errors
    /// A file does not take its limit.
    pub fn limit(&self, job: &JobCgroup, limits: &Limits, disks: &[Disk]) -> Result<(), CgroupError> {
        limits::apply(job.group(), limits, disks, self.controllers)
    }

    /// The writes of [`CgroupTree::create`] for these limits, one sentence a file.
    pub fn settings(&self, limits: &Limits, disks: &[Disk]) -> Vec<String> {
        limits::sentences(limits, disks, self.controllers)
    }

    /// Why no program decides about the devices of jobs, so that their mount namespaces alone do; `None`: one does.
    pub fn unguarded(&self) -> Option<&str> {
        self.unguarded.as_deref()
    }

    /// Lets the processes of a job's group open these devices too. Without a program for all jobs nothing forbids it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn allow_devices(&self, job: &JobCgroup, nodes: &[DeviceNode]) -> Result<(), CgroupError> {
        if self.unguarded.is_some() {
            return Ok(());
        }
        self.programs
            .guard(job.dir_fd(), nodes)
            .map_err(|source| CgroupError::AllowDevices { group: job.path().to_owned(), source })
    }

    /// Whether the program for devices decides in a job's group, which has these beside those of every job.
    ///
    /// # Errors
    /// The group is gone.
    pub fn read_devices(&self, id: JobId, nodes: &[DeviceNode]) -> Result<Layer, CgroupError> {
        let path = self.job_path(id);
        let group = Group::open(&path).map_err(|source| CgroupError::Read { file: path, source })?;
        Ok(device::read_back(group.dir.as_fd(), nodes, self.unguarded()))
    }

    /// Compares the files of a job's group with the values written to them, and lists the limits that are not enforced.
    ///
    /// # Errors
    /// The group is gone, or a file cannot be read.
    pub fn read_back(&self, id: JobId, limits: &Limits, disks: &[Disk]) -> Result<GroupState, CgroupError> {
        let path = self.job_path(id);
        let group = Group::open(&path).map_err(|source| CgroupError::Read { file: path, source })?;
        let mut layers = limits::read_back(&group, limits, disks, self.controllers)?;
        let missing = self.enforce(limits, Enforcement::BestEffort)?;
        // Without its controller RLIMIT_NPROC still bounds the number of processes.
        let missing = missing.into_iter().filter(|missing| missing.controller != Controller::Pids);
        layers.extend(missing.map(|Unenforced { limit, controller, why }| {
            Layer::unenforced(format!("{}.max", controller.name()), limit, why)
        }));
        let processes = group.read("cgroup.procs")?.lines().filter_map(|pid| pid.parse().ok()).collect();
        Ok(GroupState { layers, processes })
    }

    /// The group that an earlier daemon made for a job; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be opened.
    pub fn reopen(&self, id: JobId) -> Result<Option<JobCgroup>, CgroupError> {
        let path = self.job_path(id);
        match Group::open(&path) {
            Ok(group) => Ok(Some(JobCgroup::new(id, group))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CgroupError::MakeGroup { path, source }),
        }
    }

    /// The jobs that have groups in the tree, in no order: for the cleanup at start.
    ///
    /// # Errors
    /// The tree cannot be listed.
    pub fn leftovers(&self) -> Result<Vec<JobId>, CgroupError> {
        let names = names_of_groups(self.path());
        let names = names.map_err(|source| CgroupError::Read { file: self.path().to_owned(), source })?;
        Ok(names.iter().filter_map(|name| JobId::parse(name.to_str()?.strip_prefix(JOB)?)).collect())
    }

    /// The cores that jobs can run on: the tree's, without the cpuset controller all that are online.
    ///
    /// # Errors
    /// The kernel's list cannot be read.
    pub fn cores(&self) -> Result<CoreSet, CgroupError> {
        const FILE: &str = "cpuset.cpus.effective";
        let (file, text) = match self.group.read_optional(FILE)? {
            Some(text) => (self.path().join(FILE), text),
            None => {
                let file = PathBuf::from(ONLINE);
                let text = fs::read_to_string(&file);
                (file.clone(), text.map_err(|source| CgroupError::Read { file, source })?)
            }
        };
        CoreSet::parse(text.trim()).map_err(|e| CgroupError::Read { file, source: io::Error::other(e.0) })
    }

    /// Removes the tree when the daemon ends and no job is left. The groups above it stay.
    ///
    /// # Errors
    /// Anything but "busy".
    pub fn remove(&self) -> Result<Removal, CgroupError> {
        match rmdir(self.path()) {
            Err(e) if is_busy(&e) => Ok(Removal::Busy),
            other => removal(self.path(), other),
        }
    }

    fn job_path(&self, id: JobId) -> PathBuf {
        self.path().join(format!("{JOB}{id}"))
    }
}

/// The daemon's group, given the one that its process is in: a daemon that starts anew, or that systemd put
/// there (DelegateSubgroup=), is in its leaf already.
pub(super) fn own_of(group: PathBuf) -> PathBuf {
    match group.file_name() {
        Some(leaf) if leaf == MAIN => group.parent().map_or(group.clone(), Path::to_owned),
        _ => group,
    }
}

/// Slices that the unit of the jobs has stood in: now, and up to version 0.1.
const SLICES: [&str; 2] = ["joblet.slice", "system.slice"];

/// The group of a unit, also where systemd has it in another slice than the configuration says. After an upgrade the unit
/// changes its slice when it is started next, and the configuration stays.
fn unit_place(base: PathBuf, mount: &Path) -> PathBuf {
    let in_slice = SLICES.iter().any(|slice| base.parent() == Some(&mount.join(slice)));
    let unit = base.file_name().filter(|name| Path::new(name).extension().is_some_and(|e| e == "service"));
    let Some(unit) = unit.filter(|_| in_slice && !base.exists()) else { return base };
    let elsewhere = SLICES.iter().map(|slice| mount.join(slice).join(unit)).find(|path| path.exists());
    elsewhere.unwrap_or(base)
}

/// The base directory, if it lies in the mount. Comparing whole components keeps `/sys/fs/cgroupx` out.
pub(super) fn inside(base: &Path, mount: &Path) -> Result<PathBuf, CgroupError> {
    let plain = base.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain && base.starts_with(mount) {
        return Ok(unit_place(base.components().collect(), mount));
    }
    Err(CgroupError::Place { path: base.to_owned(), mount: mount.to_owned() })
}

/// The groups from ours down to `parent`; where it is not below ours, from the nearest one that exists.
pub(super) fn levels(own: &Path, parent: &Path) -> Vec<PathBuf> {
    let top = parent.ancestors().find(|group| *group == own || (!parent.starts_with(own) && group.is_dir()));
    let mut levels: Vec<PathBuf> = Vec::new();
    for group in parent.ancestors() {
        levels.push(group.to_owned());
        if Some(group) == top {
            break;
        }
    }
    levels.reverse();
    levels
}

/// Lets the groups below `group` use its controllers, one by one. The reason for a missing one goes to `why`,
/// the first reason for a controller first.
fn pass_on(
    group: &Group,
    is_own: bool,
    is_mount_root: bool,
    wanted: ControllerSet,
    why: &mut Vec<(Controller, Why)>,
) -> Result<(), CgroupError> {
    let here = ControllerSet::read(&group.read_optional("cgroup.controllers")?.unwrap_or_default());
    let path = || group.path.clone();
    for controller in wanted.without(here).iter() {
        let absent = if is_mount_root { Why::NotInKernel } else { Why::NotDelegated { group: path() } };
        why.push((controller, absent));
    }
    let passed = ControllerSet::read(&group.read_optional("cgroup.subtree_control")?.unwrap_or_default());
    let new = here.and(wanted).without(passed);
    // Only the root of the whole hierarchy has no type, and it may have processes beside controllers.
    if is_own && !new.is_empty() && group.has("cgroup.type") && !step_aside(group)? {
        why.extend(new.iter().map(|controller| (controller, Why::Inhabited { group: path() })));
        return Ok(());
    }
    for controller in new.iter() {
        if let Err(e) = group.try_write("cgroup.subtree_control", &format!("+{}", controller.name())) {
            why.push((controller, Why::Refused { group: path(), errno: e.to_string() }));
        }
    }
    Ok(())
}

/// Moves the daemon, and nobody else, from its group into a leaf below. False when others live there too:
/// they are not ours to move.
fn step_aside(own: &Group) -> Result<bool, CgroupError> {
    let me = std::process::id().to_string();
    let inhabitants = own.read("cgroup.procs")?;
    if inhabitants.lines().any(|pid| pid != me) {
        return Ok(false);
    }
    if !inhabitants.is_empty() {
        Group::make(&own.path.join(MAIN))?.write("cgroup.procs", &me)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
