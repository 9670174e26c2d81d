//! One thing that the child does before it becomes the job, as data.
//!
//! A new step is a variant here, an arm in `child.rs`, and a place in `plan.rs`. Every step isolates the job: when one
//! fails the job does not start, and its sentence tells the client which and why.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::capability::Capabilities;
use super::spec::WireSpec;
use crate::init_abi::slot;

/// One step of the child, in the order of the plan.
#[derive(Debug)]
pub enum Step<'a> {
    /// A descriptor table of the child's own, with nothing but these.
    OwnDescriptors {
        /// The lowest descriptor that stays.
        first: i32,
        /// The highest descriptor that stays.
        last: i32,
    },
    /// Every signal back to its default action (ignored ones survive clone3 and execve(2)).
    ResetSignals,
    /// A session of its own: no terminal of the daemon reaches the job, and the daemon's scheduling group (sched(7),
    /// autogroup) is not the job's.
    Session,
    /// Nice value 0 and no I/O priority (setpriority(2), ioprio_set(2)): those of the daemon would be the job's.
    Priority,
    /// The file mode creation mask 022.
    Umask,
    /// A network namespace that an earlier job left clean.
    JoinNetwork(BorrowedFd<'a>),
    /// Loopback of the new network namespace up.
    LoopbackUp,
    /// A wire into the router.
    Wire(WireSpec<'a>),
    /// A new overlay.
    Overlay {
        /// The files behind it, for the sentence.
        what: Cow<'a, str>,
        /// The mount point.
        at: &'a CStr,
        /// The mount options, as text.
        options: &'a CStr,
        /// Whether it has an upper layer, and is not read-only.
        writable: bool,
    },
    /// The files of a mount with the ids inside of a user namespace as those outside: what belongs to root on disk belongs
    /// to root of the job.
    MapIds {
        /// The mount, over which the one with other ids goes.
        at: &'a CStr,
        /// The user namespace.
        ids: BorrowedFd<'a>,
    },
    /// A copy of a mount, or of a directory of one, with the mounts below it.
    Bind {
        /// The files behind it, for the sentence.
        what: Cow<'a, str>,
        /// The mount or directory to copy.
        from: &'a CStr,
        /// The mount point.
        at: &'a CStr,
    },
    /// A directory made a mount in which device nodes work.
    Devices {
        /// The path of the directory.
        at: &'static CStr,
    },
    /// A mount moved over the root directory, and that as the root.
    EnterRoot {
        /// The mount to enter.
        at: &'static CStr,
    },
    /// A new filesystem: type, where, `MS_*` flags, options.
    Mount {
        /// The file system's type.
        kind: &'static CStr,
        /// The mount point in the job.
        at: &'static CStr,
        /// The `MS_*` flags of mount(2).
        flags: u64,
        /// The mount options, as text.
        options: CString,
    },
    /// A detached mount put in place.
    Place {
        /// The mount (fsmount(2)).
        mount: BorrowedFd<'a>,
        /// The name of the mount, for the sentence.
        what: &'static str,
        /// Where it goes.
        at: &'static CStr,
    },
    /// A path hidden under a bind of another.
    Hide {
        /// The path whose file covers it.
        under: &'static CStr,
        /// The path to hide.
        at: CString,
    },
    /// A directory hidden under a bind of an empty one: a file system of its own would cost four times as much.
    HideDirectory {
        /// The directory to hide.
        at: CString,
    },
    /// A path bound onto itself, read-only.
    ReadOnly {
        /// The path to make read-only.
        at: CString,
    },
    /// A new directory in which everybody in the job may make files.
    Directory {
        /// The path in the job.
        at: &'static CStr,
    },
    /// A new directory in which nobody in the job may make files.
    OwnDirectory {
        /// The path in the job.
        at: &'static CStr,
    },
    /// A new file that nobody in the job may write.
    NewFile {
        /// The path in the job.
        at: &'static CStr,
        /// The text of the file.
        text: CString,
    },
    /// A few bytes into a file, which must exist.
    Write {
        /// The bytes to write.
        text: &'static CStr,
        /// The file to write.
        at: &'static CStr,
    },
    /// A setting of the new network namespace, by way of the host's procfs: the file shows the namespace of its writer.
    Setting {
        /// The root of the host's procfs.
        proc: BorrowedFd<'a>,
        /// The file below it.
        file: &'static CStr,
        /// The bytes to write.
        value: &'static CStr,
    },
    /// Host name of the job.
    Hostname(CString),
    /// Descriptors 0 to 9 in place, all others closed.
    Descriptors([BorrowedFd<'a>; slot::COUNT]),
    /// The job's own /dev/null as descriptor 0, the inode of which no other job has.
    StandardInput,
    /// Soft and hard limit of one resource (setrlimit(2)).
    Rlimit {
        /// The resource's number (`RLIMIT_*`).
        resource: u32,
        /// Its name, for the sentence.
        name: &'static str,
        /// The soft limit, in the resource's unit.
        soft: u64,
        /// The hard limit, in the resource's unit.
        hard: u64,
    },
    /// No supplementary groups.
    ClearGroups,
    /// The leased user namespace; entered late, so that the job can undo none of the mounts.
    JoinUser(BorrowedFd<'a>),
    /// A uid and gid of that namespace.
    BecomeUser {
        /// Their number inside.
        id: u32,
    },
    /// Bounding set emptied but for `keep`, and these alone permitted and effective. Where none is kept, the securebits are
    /// locked. Entering a user namespace refills all sets, so this comes after it.
    DropCapabilities {
        /// Those that stay.
        keep: Capabilities,
    },
    /// No new privileges by execve(2) (`PR_SET_NO_NEW_PRIVS`).
    NoNewPrivileges,
    /// The system call policy.
    Seccomp(&'a [libc::sock_filter]),
    /// joblet-init, with the seconds that it lingers.
    Exec {
        /// The number of seconds, decimal.
        linger_s: &'a CStr,
    },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::OwnDescriptors { .. } => write!(f, "take a descriptor table of its own"),
            Step::ResetSignals => write!(f, "reset signal actions"),
            Step::Session => write!(f, "lead a session of its own, without a terminal"),
            Step::Priority => write!(f, "take nice value 0 and the default I/O priority"),
            Step::Umask => write!(f, "set umask 022"),
            Step::JoinNetwork(_) => write!(f, "join a clean network namespace"),
            Step::LoopbackUp => write!(f, "bring the loopback interface up"),
            Step::Wire(wire) => write!(f, "connect to {}", wire.what),
            Step::Overlay { what, writable: true, .. } => {
                write!(f, "show {what} through an overlay of the job's own, with a layer that it may write")
            }
            Step::Overlay { what, .. } => write!(f, "show {what} through an overlay of the job's own"),
            Step::MapIds { at, .. } => {
                write!(f, "map the owners of files in {} to the job's ids", at.to_string_lossy())
            }
            Step::Bind { what, .. } => write!(f, "show {what}"),
            Step::Devices { .. } => write!(f, "allow device nodes in /dev"),
            Step::EnterRoot { .. } => write!(f, "enter the root"),
            Step::Mount { kind, at, options, .. } => {
                write!(
                    f,
                    "mount {} at {} ({})",
                    kind.to_string_lossy(),
                    at.to_string_lossy(),
                    options.to_string_lossy()
                )
            }
            Step::Place { what, at, .. } => write!(f, "mount {what} at {}", at.to_string_lossy()),
            Step::Hide { at, .. } | Step::HideDirectory { at } => write!(f, "hide {}", at.to_string_lossy()),
            Step::ReadOnly { at } => write!(f, "make {} read-only", at.to_string_lossy()),
            Step::Directory { at } | Step::OwnDirectory { at } => {
                write!(f, "make the directory {}", at.to_string_lossy())
            }
            Step::NewFile { at, .. } => write!(f, "make the file {}", at.to_string_lossy()),
            Step::Write { text, at } => {
                write!(f, "write {} to {}", text.to_string_lossy(), at.to_string_lossy())
            }
            Step::Setting { file, value, .. } => {
                write!(f, "write {} to /proc/{}", value.to_string_lossy(), file.to_string_lossy())
            }
            Step::Hostname(name) => write!(f, "set hostname {}", name.to_string_lossy()),
            Step::Descriptors(fds) => {
                write!(
                    f,
                    "keep {} descriptors and close the rest",
                    fds.iter().filter(|d| d.as_raw_fd() >= 0).count()
                )
            }
            Step::StandardInput => write!(f, "open /dev/null as standard input"),
            Step::Rlimit { name, soft, hard, .. } => write!(f, "set limit {name} to {soft}/{hard}"),
            Step::ClearGroups => write!(f, "drop supplementary groups"),
            Step::JoinUser(_) => write!(f, "join the leased user namespace"),
            Step::BecomeUser { id } => write!(f, "become uid {id} and gid {id} of the user namespace"),
            Step::DropCapabilities { keep } if keep.is_empty() => write!(f, "drop all capabilities"),
            Step::DropCapabilities { keep } => {
                write!(f, "drop all capabilities but {} inside the user namespace", keep.names())
            }
            Step::NoNewPrivileges => write!(f, "set no_new_privs"),
            Step::Seccomp(filter) => {
                write!(f, "install the system call policy ({} instructions)", filter.len())
            }
            Step::Exec { .. } => write!(f, "execute joblet-init"),
        }
    }
}
