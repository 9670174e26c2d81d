//! The layer of `rnx job status --security` that says what stands around the two processes. They read what jobs send.

use std::fs;
use std::path::Path;

use rustix::event::{Timespec, poll};

use super::processes::Places;
use crate::job::{Layer, Verdict};
use crate::sys::pidfd;

const NAME: &str = "network.resolver";
/// The roles, in the order of the file, with the capabilities that each has: CAP_NET_ADMIN is number 12.
const ROLES: [(&str, u64); 2] = [("front", 0), ("pin", 1 << 12)];
/// How often a process that has other rights is looked at again: one that was started a moment ago has not given them up.
const LOOKS: usize = 40;
const BETWEEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 25_000_000 };

/// Compares the processes that run with what is promised of them. Where none runs, none does harm.
pub(super) fn read_back(proc: &Path, run_dir: &Path, user: u32, group: &Path) -> Layer {
    let mut layer = read_once(proc, run_dir, user, group);
    for _ in 0..LOOKS {
        if layer.verdict == Verdict::Kept {
            break;
        }
        let _ = poll(&mut [], Some(&BETWEEN));
        layer = read_once(proc, run_dir, user, group);
    }
    layer
}

fn read_once(proc: &Path, run_dir: &Path, user: u32, group: &Path) -> Layer {
    let name = group.file_name().unwrap_or_default();
    let promised =
        format!("front without a capability, pin with one, id {user}, filters, group {}", name.display());
    let numbers = fs::read_to_string(Places::new(run_dir).numbers).unwrap_or_default();
    let lines = numbers.lines().filter_map(|line| line.split_once(' '));
    let found: Vec<(String, bool)> = ROLES
        .into_iter()
        .zip(lines)
        .filter(|(_, (pid, birth))| {
            let birth_now = pid.parse().ok().and_then(pidfd::start_time);
            birth_now.is_some() && birth_now == birth.parse().ok()
        })
        .map(|((role, capabilities), (pid, _))| look(&proc.join(pid), role, capabilities, user, group))
        .collect();
    if found.is_empty() {
        return Layer::new(NAME, promised, "does not run", true);
    }
    let seen = found.iter().map(|(seen, _)| seen.as_str()).collect::<Vec<_>>().join("; ");
    Layer::new(NAME, promised, seen, found.iter().all(|(_, kept)| *kept))
}

/// One process in words, and whether it is as promised. One that ends meanwhile is.
fn look(process: &Path, role: &str, capabilities: u64, user: u32, group: &Path) -> (String, bool) {
    let read = |file: &str| fs::read_to_string(process.join(file));
    let (Ok(status), Ok(groups)) = (read("status"), read("cgroup")) else {
        return (format!("{role} has ended"), true);
    };
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    };
    let ids: Vec<&str> = field("Uid").split_whitespace().collect();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let (held, mode) = (field("CapPrm"), field("Seccomp"));
    let kept = ids.len() == 4
        && ids.iter().all(|id| id.parse() == Ok(user))
        && u64::from_str_radix(held, 16) == Ok(capabilities)
        && mode == "2"
        && !own.is_empty()
        && group.ends_with(own);
    let id = ids.first().unwrap_or(&"none");
    (format!("{role}: id {id}, capabilities {held}, seccomp mode {mode}, group /{own}"), kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_more_rights_or_elsewhere_are_not_as_promised() {
        let dir = tempfile::tempdir().unwrap();
        let group = Path::new("/sys/fs/cgroup/jobs/joblet-1/resolver");
        let look = |uid: &str, held: &str, mode: &str, own: &str| {
            let status = format!("Name:\tjoblet-resolver\nUid:\t{uid}\nCapPrm:\t{held}\nSeccomp:\t{mode}\n");
            fs::write(dir.path().join("status"), status).unwrap();
            fs::write(dir.path().join("cgroup"), format!("1:name=systemd:/x\n0::{own}\n")).unwrap();
            look(dir.path(), "pin", 1 << 12, 70_000, group).1
        };
        let (ids, one, own) = ("70000\t70000\t70000\t70000", "0000000000001000", "/jobs/joblet-1/resolver");
        assert!(look(ids, one, "2", own));
        assert!(!look("70000\t0\t70000\t70000", one, "2", own));
        assert!(!look(ids, "0000000000201000", "2", own));
        assert!(!look(ids, one, "0", own));
        assert!(!look(ids, one, "2", "/system.slice/joblet.service"));
        assert!(!look(ids, one, "2", "/"));
    }

    #[test]
    fn resolver_that_does_not_run_is_as_promised() {
        let dir = tempfile::tempdir().unwrap();
        let layer = read_back(Path::new("/proc"), dir.path(), 70_000, Path::new("/g/resolver"));
        assert!(layer.verdict == Verdict::Kept && layer.seen == "does not run", "{layer:?}");
    }
}
