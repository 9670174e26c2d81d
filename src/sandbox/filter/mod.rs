//! Which system calls a job may make.
//!
//! The other layers (namespaces, a late user namespace, no capabilities, read-only mounts) already refuse
//! most of the calls that this filter refuses. The filter is a second layer in front of them: a flaw in a seldom
//! used corner of the kernel is of no use to a job that cannot reach the corner. It is the same for every
//! job of a profile, but for the owner that a file may get; nothing else a user sends changes it. The profile `container`
//! has exactly two rules more: any owner, and chroot(2).
//!
//! * `policy` is data: one row for each run of call numbers, in the kernel's order, with the reason beside
//!   every refusal. A call without a row fails with ENOSYS, so that a newer kernel opens nothing by itself and
//!   C libraries fall back to their ways before the call existed.
//! * `verdict` reads a policy the plain way, row by row. The tests compare the program with it.
//! * `compile` turns a policy into classic BPF: architecture, then a balanced binary search over ranges of
//!   numbers, then a decision tree over arguments. At installation the kernel emulates the program once for
//!   every call number, at about one microsecond for each executed instruction, so a job's start pays
//!   for depth; a linear chain as long as this policy costs a multiple of it.
//!
//! Errors are chosen for the caller's sake: ENOSYS where programs know how to do without the call
//! (`clone3`, `io_uring_setup`, key rings), EPERM where they would report a lack of privilege anyway,
//! EAFNOSUPPORT for address families, EINVAL for `splice` and its relatives, as for files that cannot be spliced. A program of another architecture is killed (SIGSYS): with every call
//! refused it could not even exit.
//!
//! Arguments: every argument looked at here, but the addresses in `sendfile` and `prlimit64`, is an `int` or `unsigned int` to the
//! kernel, which ignores the upper half of the register, and so must the filter (a filter that compared all 64 bits let
//! TIOCSTI through: CVE-2019-7303, CVE-2019-10063). The filter cannot read memory behind a pointer: that is why
//! `clone3`, whose flags stand there, does not exist for a job.

mod compile;
mod policy;

use crate::job::{Profile, User};

pub use policy::{JOB, JOB_OF_CONTAINER, JOB_OF_USER};

/// `AUDIT_ARCH_X86_64` of linux/audit.h: EM_X86_64 with the 64 bit and little endian marks.
pub const ARCH_X86_64: u32 = 0xc000_003e;

/// The kernel's reaction to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The call goes on to the kernel, which still applies every other check.
    Allow,
    /// The call is not made and fails with this errno (1..=4095).
    Errno(i32),
    /// The call is not made and returns 0, for programs whose wish is granted already.
    Pretend,
    /// The whole process ends with SIGSYS.
    KillProcess,
}

/// A question about the lower 32 bits of one argument, but for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// It equals this value.
    Is(u32),
    /// At least one of these bits is set.
    HasAny(u32),
    /// The bits under `mask` equal `value`.
    Field {
        /// Which bits are compared.
        mask: u32,
        /// The value to compare with; has no bit outside `mask`.
        value: u32,
    },
    /// The address is null, in all 64 bits: one whose lower half is zero is an address.
    IsNull,
}

/// The rule for one call: an action, or a decision tree over its arguments with actions at its leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whatever the arguments are.
    Do(Action),
    /// Depends on an argument.
    If {
        /// Which argument, 0..=5.
        arg: usize,
        /// The question about it.
        test: Test,
        /// The rule when the answer is yes.
        then: &'static Rule,
        /// The rule when the answer is no.
        otherwise: &'static Rule,
    },
}

/// One line of a policy: consecutive call numbers under one rule.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The number of the first name.
    pub first: u32,
    /// The kernel's names of the calls `first`, `first + 1`, and so on, separated by white space.
    pub names: &'static str,
    /// The rule for each of them.
    pub rule: Rule,
    /// Why; never empty where the rule refuses anything.
    pub reason: &'static str,
}

/// A whole policy.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The architecture (`AUDIT_ARCH_*`) that `rows` speaks of.
    pub arch: u32,
    /// The action for calls of any other architecture.
    pub foreign: Action,
    /// The action for call numbers without a row. Numbers of the x32 convention are among them: they
    /// come with the native architecture and bit 30 set, and no row reaches that far.
    pub unknown: Action,
    /// In ascending order, not overlapping.
    pub rows: &'static [Row],
}

impl Policy {
    /// How many calls each answer has, in words.
    pub fn summary(&self) -> String {
        let (mut allowed, mut refused, mut depends) = (0, 0, 0);
        for row in self.rows {
            let calls = row.end() - row.first;
            match row.rule {
                Rule::Do(Action::Allow) => allowed += calls,
                Rule::Do(_) => refused += calls,
                Rule::If { .. } => depends += calls,
            }
        }
        format!(
            "{allowed} calls allowed, {depends} by their arguments, {refused} refused; unknown ones do not exist (ENOSYS)"
        )
    }
}

impl Test {
    /// Answers the question for an argument as the register holds it.
    fn holds(self, argument: u64) -> bool {
        let low = argument as u32; // the truncation is the point: see the head of this room
        match self {
            Test::Is(value) => low == value,
            Test::HasAny(bits) => low & bits != 0,
            Test::Field { mask, value } => low & mask == value,
            Test::IsNull => argument == 0,
        }
    }
}

impl Rule {
    /// The action for these arguments.
    fn action(&self, args: &[u64; 6]) -> Action {
        match *self {
            Rule::Do(action) => action,
            Rule::If { arg, test, then, otherwise } => {
                if test.holds(args[arg]) {
                    then.action(args)
                } else {
                    otherwise.action(args)
                }
            }
        }
    }
}

impl Row {
    /// The first number that this row no longer covers.
    pub fn end(&self) -> u32 {
        let calls = self.names.split_ascii_whitespace().count();
        self.first + u32::try_from(calls).expect("a row is a few lines of names")
    }
}

/// The action of `policy` for one call, found the plain way.
pub fn verdict(policy: &Policy, nr: u32, arch: u32, args: &[u64; 6]) -> Action {
    if arch != policy.arch {
        return policy.foreign;
    }
    let row = policy.rows.iter().find(|row| (row.first..row.end()).contains(&nr));
    row.map_or(policy.unknown, |row| row.rule.action(args))
}

/// The program that answers as [`verdict`] does for this policy, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
pub fn code(policy: &Policy) -> Vec<libc::sock_filter> {
    compile::compile(policy)
}

/// The policy of jobs of a user and a profile.
pub const fn policy_of(user: User, profile: Profile) -> &'static Policy {
    match (profile, user) {
        (Profile::Strict, User::Root) => &JOB,
        (Profile::Strict, User::Job) => &JOB_OF_USER,
        (Profile::Container, _) => &JOB_OF_CONTAINER,
    }
}

/// The program for jobs of a user and a profile, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`. Build it once and keep it.
pub fn program(user: User, profile: Profile) -> Vec<libc::sock_filter> {
    code(policy_of(user, profile))
}
