//! Processes of jobs that have a device open, by what /proc shows (proc(5)).
//!
//! A job's processes are all gone when its GPU is looked at. But a descriptor travels: a job that had passed one to another job over
//! a socket would leave that one a GPU which is the next job's. Processes of the host itself, such as nvidia-persistenced, have GPUs
//! open for good reasons. Jobs live in user namespaces of their own, by which they are recognised.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

/// A process that has the device open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The id of the process.
    pub pid: i32,
    /// The name of the process.
    pub name: String,
}

/// The first process in another user namespace than ours that has the character device `(major, minor)` open.
///
/// # Errors
/// /proc cannot be read, or not all of it until `deadline`.
pub fn holder(proc: &Path, device: (u32, u32), deadline: Instant) -> io::Result<Option<Holder>> {
    let own = user_namespace(proc, "self").ok_or(io::ErrorKind::NotFound)?;
    for entry in fs::read_dir(proc)? {
        let Some(process) = entry?.file_name().to_str().map(str::to_owned) else { continue };
        let Ok(pid) = process.parse::<i32>() else { continue };
        // One that has ended in between has nothing open.
        if user_namespace(proc, &process).is_none_or(|of| of == own) {
            continue;
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let dir = proc.join(&process);
        let open = fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
        if open.map(|entry| entry.path()).any(|path| is_device(&path, device)) {
            let name = fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
            return Ok(Some(Holder { pid, name }));
        }
    }
    Ok(None)
}

/// Whether a process is the host's own: it lives, in our user namespace.
pub fn is_of_host(proc: &Path, pid: u32) -> bool {
    match fs::metadata(proc.join(pid.to_string()).join("ns/user")) {
        Ok(found) => Some((found.dev(), found.ino())) == user_namespace(proc, "self"),
        // One that may do more than we may. Those of jobs may not: their user namespaces are ours (user_namespaces(7)).
        Err(why) => why.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// The id of a process, with its name where it has one.
pub fn process_name(proc: &Path, pid: u32) -> String {
    let id = pid.to_string();
    match fs::read_to_string(proc.join(&id).join("comm")) {
        Ok(name) => format!("{id} ({})", name.trim()),
        Err(_) => id,
    }
}

fn user_namespace(proc: &Path, process: &str) -> Option<(u64, u64)> {
    fs::metadata(proc.join(process).join("ns/user")).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether a descriptor is of this character device. A file system of the job's own is not asked, which could make us wait.
fn is_device(descriptor: &Path, device: (u32, u32)) -> bool {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE;
    statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, wanted).is_ok_and(|found| {
        FileType::from_raw_mode(found.stx_mode.into()) == FileType::CharacterDevice
            && (found.stx_rdev_major, found.stx_rdev_minor) == device
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// The process waits until the test closes its input.
    fn with_device(program: &[&str]) -> std::process::Child {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["sh", "-c", "exec 7</dev/full; echo there; read end"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn descriptor_in_another_user_namespace_is_found() {
        use std::io::{BufRead, BufReader};
        let end = || Instant::now() + Duration::from_secs(60);
        let full = (1, 7);
        let mut own = with_device(&["env"]);
        let mut line = String::new();
        BufReader::new(own.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mine = holder(Path::new("/proc"), full, end()).unwrap();
        assert!(mine.is_none_or(|found| found.pid != own.id().cast_signed()));
        let mut other = with_device(&["unshare", "--user"]);
        let mut line = String::new();
        let read = BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if read > 0 {
            let found = holder(Path::new("/proc"), full, end()).unwrap();
            assert_eq!(found.map(|found| found.pid), Some(other.id().cast_signed()));
            assert!(!is_of_host(Path::new("/proc"), other.id()));
        }
        assert!(is_of_host(Path::new("/proc"), own.id()) && !is_of_host(Path::new("/proc"), u32::MAX));
        for child in [&mut own, &mut other] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        assert!(holder(Path::new("/no/such"), full, end()).is_err());
    }
}
