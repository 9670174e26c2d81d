//! A dry run of [`CgroupTree::discover`](super::CgroupTree::discover) for checks of a host: it makes, moves and enables
//! nothing.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags};

use super::files::Group;
use super::tree::{inside, levels, own_of};
use super::{CgroupError, ControllerSet, Placement, Why, locate};
use crate::job::Controller;

/// How the groups of this host look to a daemon that would start in [`Placement::self_cgroup`].
#[derive(Debug)]
pub struct Survey {
    /// The daemon's own group.
    pub own: PathBuf,
    /// The group below which it would make its tree.
    pub parent: PathBuf,
    /// Whether its own group is the root of the hierarchy, which has no `cgroup.kill` and may hold processes
    /// beside controllers.
    pub is_root: bool,
    /// Processes in its own group that are not the daemon.
    pub others: usize,
    /// Controllers by which jobs could not be limited, and why.
    pub missing: Vec<(Controller, Why)>,
    /// Why no group can be made there, if so.
    pub refused: Option<String>,
    /// A group other than the root can be killed as a whole; `None`: there is no such group to look at.
    pub has_kill: Option<bool>,
}

/// Looks at the groups; `daemon` is the process that counts as the daemon itself.
///
/// # Errors
/// No cgroup v2, or a base directory outside of it.
pub fn survey(placement: &Placement<'_>, daemon: u32) -> Result<Survey, CgroupError> {
    let (mount, own) = locate::own_group(placement.mountinfo, placement.self_cgroup)?;
    let own = own_of(own);
    let parent = match placement.base_dir {
        Some(base) => inside(base, &mount.point)?,
        None => own.clone(),
    };
    let open =
        |path: &Path| Group::open(path).map_err(|source| CgroupError::Read { file: path.to_owned(), source });
    let group = open(&own)?;
    let is_root = !group.has("cgroup.type");
    let inhabitants = group.read_optional("cgroup.procs")?.unwrap_or_default();
    let me = daemon.to_string();
    let others = inhabitants.lines().filter(|pid| *pid != me).count();
    let mut found = Survey {
        is_root,
        others,
        missing: Vec::new(),
        refused: None,
        has_kill: (!is_root).then(|| group.has("cgroup.kill")),
        own,
        parent,
    };
    // A group that does not exist yet gets the controllers that the lowest existing one can pass on.
    for level in levels(&found.own, &found.parent).into_iter().filter(|level| level.is_dir()) {
        let group = open(&level)?;
        found.look_at(&group, level == mount.point, placement.wanted)?;
    }
    let named: ControllerSet = found.missing.iter().map(|(controller, _)| *controller).collect();
    let left_out = ControllerSet::all().without(placement.wanted).without(named);
    found.missing.extend(left_out.iter().map(|controller| (controller, Why::NotConfigured)));
    found.missing.sort_by_key(|(controller, _)| *controller as u8);
    Ok(found)
}

impl Survey {
    fn look_at(&mut self, group: &Group, is_mount: bool, wanted: ControllerSet) -> Result<(), CgroupError> {
        let here = ControllerSet::read(&group.read_optional("cgroup.controllers")?.unwrap_or_default());
        let path = || group.path.clone();
        for controller in wanted.without(here).iter() {
            let why = if is_mount { Why::NotInKernel } else { Why::NotDelegated { group: path() } };
            self.note(controller, why);
        }
        let passed = ControllerSet::read(&group.read_optional("cgroup.subtree_control")?.unwrap_or_default());
        let new = here.and(wanted).without(passed);
        let writable =
            rustix::fs::accessat(&group.dir, "cgroup.subtree_control", Access::WRITE_OK, AtFlags::EACCESS);
        for controller in new.iter() {
            if group.path == self.own && !self.is_root && self.others > 0 {
                self.note(controller, Why::Inhabited { group: path() });
            } else if let Err(errno) = writable {
                self.note(controller, Why::Refused { group: path(), errno: errno.to_string() });
            }
        }
        let may_make = rustix::fs::accessat(&group.dir, ".", Access::WRITE_OK, AtFlags::EACCESS);
        self.refused = may_make.err().map(|errno| format!("{}: {errno}", group.path.display()));
        Ok(())
    }

    /// The first reason for a controller counts.
    fn note(&mut self, controller: Controller, why: Why) {
        if !self.missing.iter().any(|(of, _)| *of == controller) {
            self.missing.push((controller, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A mount with a service's group: `controllers` at the root, passed on to the service as `delegated`.
    fn host(controllers: &str, delegated: &str, procs: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("joblet.service");
        fs::create_dir(&group).unwrap();
        for (file, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", delegated),
            ("joblet.service/cgroup.controllers", delegated),
            ("joblet.service/cgroup.subtree_control", ""),
            ("joblet.service/cgroup.type", "domain\n"),
            ("joblet.service/cgroup.procs", procs),
            ("joblet.service/cgroup.kill", ""),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let mountinfo = format!("30 24 0:26 / {} rw - cgroup2 c rw\n", dir.path().display());
        (dir, mountinfo)
    }

    fn look(mountinfo: &str, group: &str, wanted: &str) -> Survey {
        let placement = Placement {
            mountinfo,
            self_cgroup: &format!("0::{group}\n"),
            base_dir: None,
            name: "joblet-test",
            wanted: ControllerSet::read(wanted),
        };
        survey(&placement, 7).unwrap()
    }

    const ALL: &str = "cpuset cpu io memory hugetlb pids";

    #[test]
    fn lone_delegated_service_lacks_nothing_and_nothing_is_changed() {
        let (dir, mountinfo) = host(ALL, ALL, "7\n");
        let found = look(&mountinfo, "/joblet.service", ALL);
        assert_eq!((found.missing.len(), found.others, found.has_kill), (0, 0, Some(true)));
        assert_eq!(
            look(&mountinfo, "/joblet.service/joblet-main", ALL).own,
            dir.path().join("joblet.service")
        );
        let group = dir.path().join("joblet.service");
        assert_eq!(fs::read_to_string(group.join("cgroup.subtree_control")).unwrap(), "");
        assert_eq!(fs::read_dir(&group).unwrap().count(), 5);
    }

    #[test]
    fn missing_controller_is_reported_with_its_reason() {
        let (dir, mountinfo) = host("cpu memory", "cpu", "7\n");
        let missing = look(&mountinfo, "/joblet.service", "cpu memory io").missing;
        let group = dir.path().join("joblet.service");
        assert!(
            missing.contains(&(Controller::Memory, Why::NotDelegated { group: group.clone() })),
            "{missing:?}"
        );
        assert!(missing.contains(&(Controller::Pids, Why::NotConfigured)), "{missing:?}");
        assert!(!missing.iter().any(|(of, _)| *of == Controller::Cpu), "{missing:?}");
        // A controller that the mount itself lacks is missing in every group.
        let missing = look(&mountinfo, "/", "cpu memory io").missing;
        assert!(missing.contains(&(Controller::Io, Why::NotInKernel)), "{missing:?}");
    }

    #[test]
    fn a_group_with_other_processes_cannot_pass_controllers_on() {
        let (dir, mountinfo) = host(ALL, ALL, "7\n8\n9\n");
        let found = look(&mountinfo, "/joblet.service", ALL);
        assert_eq!((found.others, found.missing.len()), (2, 5));
        let group = dir.path().join("joblet.service");
        assert!(found.missing.iter().all(|(_, why)| *why == Why::Inhabited { group: group.clone() }));
    }
}
