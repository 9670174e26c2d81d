//! The controllers that limits need, and why one may be missing.

use std::fmt;
use std::path::PathBuf;

use crate::job::Controller;

/// All of them, in the order in which they are listed.
const ALL: [Controller; 5] =
    [Controller::Cpu, Controller::Memory, Controller::Io, Controller::Pids, Controller::Cpuset];

/// A set of controllers. Prints as the kernel does: names separated by blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControllerSet(u8);

impl ControllerSet {
    /// Every controller that a limit can need.
    pub fn all() -> Self {
        ALL.into_iter().collect()
    }

    /// Reads `cgroup.controllers` or `cgroup.subtree_control`; controllers we have no use for are skipped.
    pub fn read(text: &str) -> Self {
        ALL.into_iter()
            .filter(|controller| text.split_ascii_whitespace().any(|name| name == controller.name()))
            .collect()
    }

    /// Whether this controller is in the set.
    pub fn contains(self, controller: Controller) -> bool {
        self.0 & bit(controller) != 0
    }

    /// The controllers of the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        ALL.into_iter().filter(move |controller| self.contains(*controller))
    }

    /// The controllers that are in both sets.
    pub fn and(self, other: Self) -> Self {
        ControllerSet(self.0 & other.0)
    }

    /// The controllers of this set that are not in `other`.
    pub fn without(self, other: Self) -> Self {
        ControllerSet(self.0 & !other.0)
    }

    /// Whether no controller is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn bit(controller: Controller) -> u8 {
    1 << controller as u8
}

impl FromIterator<Controller> for ControllerSet {
    fn from_iter<I: IntoIterator<Item = Controller>>(controllers: I) -> Self {
        ControllerSet(controllers.into_iter().fold(0, |bits, controller| bits | bit(controller)))
    }
}

impl fmt::Display for ControllerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Controller::name).collect();
        f.write_str(&names.join(" "))
    }
}

/// Why jobs cannot be limited by a controller here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// `cgroup.enableControllers` does not list it.
    NotConfigured,
    /// The root of the v2 tree does not have it: not in the kernel, or taken by a v1 mount.
    NotInKernel,
    /// The group above does not pass it on to this one.
    NotDelegated {
        /// The group that lacks it.
        group: PathBuf,
    },
    /// Passing it on to the groups below was refused.
    Refused {
        /// The group that did not take `+name`.
        group: PathBuf,
        /// The kernel's answer.
        errno: String,
    },
    /// Passing it on is impossible while processes live in the group itself.
    Inhabited {
        /// The group with processes of its own.
        group: PathBuf,
    },
}

impl Why {
    /// The advice for an administrator.
    pub fn remedy(&self) -> String {
        match self {
            Why::NotConfigured => "add it to cgroup.enableControllers".to_owned(),
            Why::NotInKernel => {
                "boot with systemd.unified_cgroup_hierarchy=1 and cgroup_no_v1=all".to_owned()
            }
            Why::NotDelegated { .. } => "start joblet as a systemd service with Delegate=yes".to_owned(),
            Why::Refused { group, .. } => {
                format!("see whether `echo +name > {}/cgroup.subtree_control` works by hand", group.display())
            }
            Why::Inhabited { .. } => {
                "start joblet as a systemd service with Delegate=yes, alone in its group \
                                      (cgroups have controllers or processes, not both)"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NotConfigured => f.write_str("the configuration leaves it out"),
            Why::NotInKernel => f.write_str("cgroup v2 does not have it on this host"),
            Why::NotDelegated { group } => write!(f, "it is not delegated to {}", group.display()),
            Why::Refused { group, errno } => {
                write!(f, "{}/cgroup.subtree_control refused it: {errno}", group.display())
            }
            Why::Inhabited { group } => write!(f, "other processes live in {}", group.display()),
        }
    }
}

/// A limit that a job asked for and does not get. Prints as a clause for status and warnings, such as
/// "maxMemory 512 MB is not enforced: no memory controller, cgroup v2 does not have it on this host".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    /// The limit in the words of the request.
    pub limit: String,
    /// The controller that it needs.
    pub controller: Controller,
    /// The reason for its absence.
    pub why: Why,
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unenforced { limit, controller, why } = self;
        write!(f, "{limit} is not enforced: no {} controller, {why}", controller.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_and_print_the_kernels_words() {
        let set = ControllerSet::read("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(set, ControllerSet::all());
        let few = ControllerSet::read("memory cpu\n");
        assert_eq!(few.to_string(), "cpu memory");
        assert_eq!(set.without(few).to_string(), "io pids cpuset");
        assert_eq!(set.and(few), few);
        assert!(ControllerSet::read("hugetlb").is_empty());
        assert!(!ControllerSet::read("cpuset").contains(Controller::Cpu), "a prefix is not the name");
    }
}
