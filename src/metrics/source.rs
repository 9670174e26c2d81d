//! The reader of a job's numbers: the files below its cgroup's descriptor, and /proc of its processes.
//!
//! A cgroup may vanish and processes may end while they are read: a number that cannot be read then is absent. The id of
//! an ended process may belong to another one before its files are read. The kernel assigns ids in turn, so that takes a
//! full round of them within microseconds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::group::{self, value};
use super::pressure::{Pressure, pressure};
use super::proc::{self, Doing};
use super::sample::{Cpu, Io, Memory, Network, Process, Walk};

/// Most processes of one job that are read one by one, a quarter of the default limit: each costs some ten
/// microseconds. A job with more has their number from `pids.current`, and numbers that only processes have are absent.
pub const PROCESSES: usize = 1024;
/// Most bytes of a file that are read: `cgroup.procs` of 4096 processes has 32 KiB.
const LONGEST: u64 = 1 << 20;
/// Processes whose limit of open files is read. The limit is inherited; the second process is the command.
const LIMITS_READ: usize = 2;
/// Most descriptors that are counted one by one in a sample, on kernels before 6.2.
const DESCRIPTORS: usize = 1 << 16;

/// The numbers that were read at one moment.
#[derive(Debug, Default, PartialEq)]
pub struct Readings {
    /// Use of the processor.
    pub cpu: Option<Cpu>,
    /// Use of memory.
    pub memory: Option<Memory>,
    /// Use of block devices.
    pub io: Option<Io>,
    /// Use of the network.
    pub network: Option<Network>,
    /// Processes and threads.
    pub process: Option<Process>,
}

/// The files of one job: one descriptor, and a second one where the job has a network of its own.
#[derive(Debug)]
pub struct Source {
    group: OwnedFd,
    network: Option<File>,
}

/// A buffer for a file's text that is reused for every file.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Source {
    /// Opens a job's cgroup, and the network of its PID 1 if that process lives and has its own.
    ///
    /// # Errors
    /// The cgroup cannot be opened; it may be gone.
    pub fn open(path: &Path, pid: i32) -> io::Result<Source> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let group = rustix::fs::open(path, flags, Mode::empty())?;
        let mut source = Source { group, network: None };
        source.network = own_network(pid).filter(|_| source.has(pid));
        Ok(source)
    }

    /// Reads every number that has a source.
    pub fn read(&self, scratch: &mut Scratch) -> Readings {
        let crowd = self.text(scratch, "cgroup.procs", |text| group::processes(text).collect::<Vec<_>>());
        let crowd = crowd.map(|pids| walk(&pids, scratch));
        Readings {
            cpu: self.cpu(scratch),
            memory: self.memory(scratch).or_else(|| self.memory_of(crowd.flatten(), scratch)),
            io: self.io(scratch),
            network: self.network(scratch),
            process: self.process(crowd, scratch),
        }
    }

    /// The job's processes; none, where they cannot be read.
    pub fn processes(&self, scratch: &mut Scratch) -> Vec<i32> {
        self.text(scratch, "cgroup.procs", |text| group::processes(text).collect()).unwrap_or_default()
    }

    /// Whether the process is in the cgroup: only then its id is still that of the job's PID 1.
    fn has(&self, pid: i32) -> bool {
        self.text(&mut Scratch::default(), "cgroup.procs", |text| group::processes(text).any(|p| p == pid))
            .unwrap_or(false)
    }

    fn cpu(&self, scratch: &mut Scratch) -> Option<Cpu> {
        let ([usage_usec, user_usec, system_usec], throttling) =
            self.text(scratch, "cpu.stat", group::cpu_stat).flatten()?;
        let pressure = self.pressure(scratch, "cpu.pressure");
        Some(Cpu { usage_usec, user_usec, system_usec, throttling, pressure, ..Cpu::default() })
    }

    fn memory(&self, scratch: &mut Scratch) -> Option<Memory> {
        let current = self.number(scratch, "memory.current")?;
        let max = self.number(scratch, "memory.max");
        let events = |text: &str| (value(text, "oom"), value(text, "oom_kill"));
        let (oom_events, oom_kill) = self.text(scratch, "memory.events", events).unwrap_or_default();
        Some(Memory {
            current,
            max,
            peak: self.number(scratch, "memory.peak"),
            usage_percent: max.filter(|max| *max > 0).map(|max| current as f64 / max as f64 * 100.0),
            kinds: self.text(scratch, "memory.stat", group::memory_stat).unwrap_or_default(),
            oom_events,
            oom_kill,
            pressure: self.pressure(scratch, "memory.pressure"),
        })
    }

    /// The memory without its controller: the sum over the processes. A job of which no process is left has none.
    fn memory_of(&self, crowd: Option<(Walk, [u64; 3])>, scratch: &mut Scratch) -> Option<Memory> {
        let (walk, [anon, mapped, shared]) = crowd?;
        let current = anon.saturating_add(mapped).saturating_add(shared);
        // The kernel did not tell of those that are there.
        if current == 0 && walk.threads > 0 {
            return None;
        }
        let mut memory = Memory { current, ..Memory::default() };
        memory.kinds.anon = Some(anon);
        memory.kinds.file_mapped = Some(mapped);
        memory.kinds.shmem = Some(shared);
        memory.pressure = self.pressure(scratch, "memory.pressure");
        Some(memory)
    }

    fn io(&self, scratch: &mut Scratch) -> Option<Io> {
        let (devices, total) = self.text(scratch, "io.stat", group::io_stat)?;
        Some(Io { devices, total, rates: None, pressure: self.pressure(scratch, "io.pressure") })
    }

    fn network(&self, scratch: &mut Scratch) -> Option<Network> {
        let file = self.network.as_ref()?;
        scratch.0.clear();
        let mut block = [0; 4096];
        loop {
            match file.read_at(&mut block, scratch.0.len() as u64).ok()? {
                0 => break,
                _ if scratch.0.len() as u64 > LONGEST => return None,
                n => scratch.0.extend_from_slice(&block[..n]),
            }
        }
        proc::net_dev(&String::from_utf8_lossy(&scratch.0))
    }

    fn process(&self, crowd: Option<Option<(Walk, [u64; 3])>>, scratch: &mut Scratch) -> Option<Process> {
        let walk = crowd?.map(|(walk, _)| walk);
        Some(Process {
            current: self.number(scratch, "pids.current").or(walk.map(|walk| walk.threads)),
            max: self.number(scratch, "pids.max"),
            events: self.text(scratch, "pids.events", |text| value(text, "max")).flatten(),
            walk,
        })
    }

    fn pressure(&self, scratch: &mut Scratch, file: &str) -> Option<Pressure> {
        self.text(scratch, file, pressure).flatten()
    }

    fn number(&self, scratch: &mut Scratch, file: &str) -> Option<u64> {
        self.text(scratch, file, group::number).flatten()
    }

    fn text<T>(&self, scratch: &mut Scratch, file: &str, read: impl FnOnce(&str) -> T) -> Option<T> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.group.as_fd(), file, flags, Mode::empty()).ok()?;
        scratch.fill(File::from(fd)).map(|text| read(&text))
    }
}

impl Scratch {
    fn fill(&mut self, file: File) -> Option<std::borrow::Cow<'_, str>> {
        self.0.clear();
        file.take(LONGEST).read_to_end(&mut self.0).ok()?;
        Some(String::from_utf8_lossy(&self.0))
    }
}

/// The interfaces of a process in another network namespace than ours. The descriptor keeps the namespace, and with it
/// the numbers, when the process is gone.
fn own_network(pid: i32) -> Option<File> {
    let namespace = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|m| (m.dev(), m.ino()));
    let pid = pid.to_string();
    if namespace(&pid)? == namespace("self")? {
        return None;
    }
    File::open(format!("/proc/{pid}/net/dev")).ok()
}

/// Reads each process; `None` when there are too many.
fn walk(pids: &[i32], scratch: &mut Scratch) -> Option<(Walk, [u64; 3])> {
    if pids.len() > PROCESSES {
        return None;
    }
    let (mut walk, mut resident, mut budget) = (Walk::default(), [0u64; 3], DESCRIPTORS);
    let counted = fs::metadata("/proc/self/fd").is_ok_and(|fds| fds.len() > 0);
    for (n, pid) in pids.iter().enumerate() {
        let read = |file: &str| File::open(format!("/proc/{pid}/{file}")).ok();
        // The process has ended since the list was read.
        let Some(status) = read("status").and_then(|file| proc::status(&scratch.fill(file)?)) else {
            continue;
        };
        walk.threads += status.threads;
        *match status.doing {
            Doing::Running => &mut walk.running,
            Doing::Sleeping => &mut walk.sleeping,
            Doing::Stopped => &mut walk.stopped,
            Doing::Zombie => &mut walk.zombie,
        } += 1;
        for (sum, more) in resident.iter_mut().zip(status.resident) {
            *sum = sum.saturating_add(more);
        }
        walk.open_fds += descriptors(*pid, counted, &mut budget);
        if n < LIMITS_READ {
            let limit = read("limits").and_then(|file| proc::max_open_files(&scratch.fill(file)?));
            walk.max_fds = walk.max_fds.max(limit.unwrap_or(0));
        }
    }
    Some((walk, resident))
}

/// The number of open descriptors of a process. Since Linux 6.2 it is the size of the directory.
fn descriptors(pid: i32, counted: bool, budget: &mut usize) -> u64 {
    let path = format!("/proc/{pid}/fd");
    if counted {
        return fs::metadata(path).map_or(0, |fds| fds.len());
    }
    let listed = fs::read_dir(path).map_or(0, |fds| fds.take(*budget).count());
    *budget -= listed;
    listed as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory that looks like a group with these files.
    pub(in crate::metrics) fn group_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        dir
    }

    fn read(files: &[(&str, &str)]) -> Readings {
        let dir = group_with(files);
        let own = std::process::id().cast_signed();
        Source::open(dir.path(), own).unwrap().read(&mut Scratch::default())
    }

    const CPU: (&str, &str) = ("cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\n");
    const PRESSURE: &str = "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n";

    #[test]
    fn host_without_controllers_gives_only_what_it_can_measure() {
        let own = std::process::id().to_string();
        let read =
            read(&[CPU, ("cgroup.procs", &own), ("memory.pressure", PRESSURE), ("io.pressure", PRESSURE)]);
        let cpu = read.cpu.unwrap();
        assert_eq!((cpu.usage_usec, cpu.throttling, cpu.pressure), (9, None, None));
        let memory = read.memory.unwrap();
        assert!(memory.current >= 4096 && memory.kinds.anon.is_some(), "{memory:?}");
        assert_eq!((memory.max, memory.peak, memory.kinds.slab, memory.oom_kill), (None, None, None, None));
        assert_eq!(memory.pressure.unwrap().pressure_some_60, 2.0);
        let process = read.process.unwrap();
        let walk = process.walk.unwrap();
        assert!(walk.threads > 0 && walk.open_fds > 2 && walk.max_fds > 2, "{walk:?}");
        assert_eq!(walk.running + walk.sleeping, 1);
        assert_eq!((process.current, process.max, process.events), (Some(walk.threads), None, None));
        assert_eq!((read.io, read.network), (None, None), "our own network is the host's");
    }

    #[test]
    fn host_with_controllers_gives_every_reading() {
        let read = read(&[
            CPU,
            ("cgroup.procs", ""),
            ("memory.current", "512\n"),
            ("memory.max", "2048\n"),
            ("memory.peak", "1024\n"),
            ("memory.stat", "anon 100\nfile 7\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
            ("io.pressure", PRESSURE),
            ("pids.current", "0\n"),
            ("pids.max", "max\n"),
            ("pids.events", "max 3\n"),
        ]);
        let memory = read.memory.unwrap();
        assert_eq!((memory.max, memory.peak, memory.usage_percent), (Some(2048), Some(1024), Some(25.0)));
        assert_eq!((memory.kinds.anon, memory.oom_events, memory.oom_kill), (Some(100), Some(2), Some(1)));
        let io = read.io.unwrap();
        assert_eq!((io.devices["8:0"].read_ops, io.total.discard_ops, io.pressure.is_some()), (3, 6, true));
        let process = read.process.unwrap();
        assert_eq!((process.current, process.max, process.events), (Some(0), None, Some(3)));
        assert_eq!(process.walk, Some(Walk::default()), "no process is left, so the sums are zero");
    }

    #[test]
    fn last_sample_without_a_controller_has_memory() {
        let memory = read(&[CPU, ("cgroup.procs", "")]).memory.unwrap();
        assert_eq!((memory.current, memory.kinds.anon, memory.kinds.slab), (0, Some(0), None));
        // Without a list of processes nothing is known.
        assert_eq!(read(&[CPU]).memory, None);
    }

    #[test]
    fn too_many_processes_are_counted_but_not_inspected() {
        let many = "1\n".repeat(PROCESSES + 1);
        let read = read(&[("cgroup.procs", &many), ("pids.current", "2000\n"), ("pids.max", "4096\n")]);
        assert_eq!(
            read.process,
            Some(Process { current: Some(2000), max: Some(4096), ..Process::default() })
        );
        assert_eq!((read.memory, read.cpu), (None, None));
    }

    #[test]
    fn vanished_cgroup_gives_no_readings() {
        let dir = group_with(&[CPU]);
        let source = Source::open(dir.path(), 1).unwrap();
        let path = dir.path().to_owned();
        drop(dir);
        assert_eq!(source.read(&mut Scratch::default()), Readings::default());
        assert!(Source::open(&path, 1).is_err());
    }
}
