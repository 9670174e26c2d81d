//! The spool when its writer dies: splice(2) leaves each byte either in the file or in the pipe, and the next writer
//! continues there.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use joblet::job::{JobId, SpoolPolicy};
use joblet::output::spool::{CHUNK, HEADER, ROW, SpliceResult};
use joblet::output::{
    Collector, CollectorEvent, JobOutput, OutputReader, Release, SpoolLimits, SpoolWriter, Stream, Watermark,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::helper::eventually;
use crate::helper::skip::is_root;
use crate::helper::soak;

/// The environment variable that turns [`collector`] into a collector; its value is the path of the spool.
const COLLECTOR: &str = "JOBLET_TEST_COLLECTOR";

/// Moves its standard input into a new or an old spool until it is killed. It is a test so that the test program can execute
/// itself as a collector.
#[test]
fn collector() {
    let Ok(dir) = std::env::var(COLLECTOR) else { return };
    let pipe = std::io::stdin();
    let mut spool = open(Path::new(&dir));
    rustix::io::write(rustix::stdio::stderr(), b"\ncollecting\n").unwrap();
    loop {
        if spool.splice_from(&pipe, Stream::Stdout, 65_536, 1).unwrap() == SpliceResult::Empty {
            poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None).unwrap();
        }
    }
}

fn open(dir: &Path) -> SpoolWriter {
    if dir.exists() { SpoolWriter::reopen(dir).unwrap() } else { SpoolWriter::create(dir).unwrap() }
}

/// Writes successive numbers of eight bytes each until `stop`, then closes the pipe. Returns how many.
fn flood(pipe: OwnedFd, stop: &AtomicBool) -> u64 {
    let mut file = File::from(pipe);
    let mut next = 0u64;
    while !stop.load(Ordering::Relaxed) {
        // Not a divisor of a page: splices end in the middle of a number.
        let block: Vec<u8> = (next..next + 125).flat_map(u64::to_le_bytes).collect();
        file.write_all(&block).unwrap();
        next += 125;
    }
    next
}

/// Starts a collector, kills it after about `bytes` bytes, and returns when it is gone.
fn collect_and_be_killed(read: &OwnedFd, dir: &Path, bytes: u64) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::collector", "--nocapture", "--test-threads=1"])
        .env(COLLECTOR, dir)
        .stdin(Stdio::from(read.try_clone().unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "collecting"));
    eventually("the collector is in the middle of its work", || {
        fs::metadata(dir.join("stdout")).ok().filter(|meta| meta.len() >= bytes)
    });
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_killed_collector_loses_no_byte_of_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..soak::rounds(15, 500) as u64 {
        let spool = dir.path().join(round.to_string());
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stop = AtomicBool::new(false);
        let (written, rest) = std::thread::scope(|scope| {
            let flood = scope.spawn(|| flood(write, &stop));
            collect_and_be_killed(&read, &spool, round * 37_000);
            stop.store(true, Ordering::Relaxed);
            let mut rest = Vec::new();
            File::from(read.try_clone().unwrap()).read_to_end(&mut rest).unwrap();
            (flood.join().unwrap(), rest)
        });
        let mut all = fs::read(spool.join("stdout")).unwrap();
        let spooled = all.len() as u64;
        all.extend(rest);
        let wanted: Vec<u8> = (0..written).flat_map(u64::to_le_bytes).collect();
        assert!(all == wanted, "round {round}: {} bytes of {} came", all.len(), wanted.len());
        assert!(indexed(&spool, &wanted) <= spooled, "round {round}: a row without its bytes");
        fs::remove_dir_all(&spool).unwrap();
    }
}

/// The number of bytes that the index covers. Fails unless each of its rows is readable and right.
fn indexed(spool: &Path, wanted: &[u8]) -> u64 {
    let size = fs::metadata(spool.join("index")).unwrap().len();
    let rows = (size - HEADER.len() as u64) / ROW as u64;
    let mut reader = OutputReader::open(spool, None).unwrap();
    let mut at = 0;
    while let Some(chunk) = reader.next(rows).unwrap() {
        assert!(wanted[at..].starts_with(&chunk.bytes), "row {} is not what was written", chunk.sequence);
        at += chunk.bytes.len();
    }
    at as u64
}

#[test]
fn repeatedly_killed_collector_spools_all_bytes_once_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("job");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(write, &stop));
        for _ in 0..soak::rounds(15, 500) {
            let spooled = fs::metadata(dir.join("stdout")).map_or(0, |meta| meta.len());
            collect_and_be_killed(&read, &dir, spooled + 200_000);
        }
        stop.store(true, Ordering::Relaxed);
        // The last collector may live to the end.
        let mut spool = SpoolWriter::reopen(&dir).unwrap();
        while spool.splice_from(&read, Stream::Stdout, CHUNK, 1).unwrap() != SpliceResult::End {}
        flood.join().unwrap()
    });
    let wanted: Vec<u8> = (0..written).flat_map(u64::to_le_bytes).collect();
    assert_eq!(indexed(&dir, &wanted), wanted.len() as u64);
}

/// A child that a signal ends, and its pidfd.
fn sleeper() -> (Child, OwnedFd) {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    (child, pidfd_open(pid, PidfdFlags::empty()).unwrap())
}

#[test]
fn lingering_init_is_released_then_woken_when_pipes_are_spooled() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("job");
    drop(SpoolWriter::create(&dir).unwrap());
    let (told, drained) = crossbeam_channel::bounded(1);
    let limits = SpoolLimits { all: 1 << 30, job: 1 << 30, ring: 1 << 20, policy: SpoolPolicy::Block };
    let collector = Collector::start(limits, move |id, word| told.send((id, word)).unwrap()).unwrap();
    let [(out, out_end), (err, err_end)] =
        [(); 2].map(|()| pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap());
    rustix::io::write(&out_end, b"left in the pipe").unwrap();
    drop((out_end, err_end));
    let (init_end, control) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (mut init, pidfd) = sleeper();
    let id = JobId::random();
    let watermark = Watermark::new();
    collector.add(JobOutput {
        id,
        stdout: out,
        stderr: err,
        release: Some(Arc::new(Release { control: Arc::new(control), wake: Some(pidfd) })),
        spool: SpoolWriter::reopen(&dir).unwrap(),
        watermark: watermark.clone(),
    });
    assert_eq!(init.wait().unwrap().signal(), Some(libc::SIGUSR1), "woken");
    let mut byte = [0; 2];
    assert_eq!((rustix::io::read(&init_end, &mut byte).unwrap(), byte[0]), (1, b'R'), "released before that");
    assert_eq!(drained.recv().unwrap(), (id, CollectorEvent::OutputComplete));
    let chunk = OutputReader::open(&dir, None).unwrap().next(watermark.look().0).unwrap().unwrap();
    assert_eq!(chunk.bytes, b"left in the pipe");
    assert_eq!(collector.stop(), []);
}

/// A file system of a few pages in a directory of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> SmallDisk {
        let dir = tempfile::tempdir().unwrap();
        rustix::mount::mount("joblet-test", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=64k"))
            .unwrap();
        SmallDisk(dir)
    }

    fn grow(&self, kib: usize) {
        let size = CString::new(format!("size={kib}k")).unwrap();
        rustix::mount::mount_remount(self.0.path(), MountFlags::empty(), size).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_no_byte_and_no_row() {
    needs!(is_root(), "mounting needs root");
    let disk = SmallDisk::new();
    let dir = disk.0.path().join("job");
    let mut spool = SpoolWriter::create(&dir).unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let (mut wanted, mut refused, mut grown) = (Vec::new(), 0, false);
    // Small pieces: the index fills as much of the disk as the bytes, and is refused as often.
    for n in 0..6000u32 {
        let bytes = n.to_le_bytes();
        rustix::io::write(&write, &bytes[..1 + n as usize % 4]).unwrap();
        wanted.extend(&bytes[..1 + n as usize % 4]);
        loop {
            match spool.splice_from(&read, Stream::Stdout, CHUNK, 1) {
                Ok(SpliceResult::Moved(_)) => {}
                Ok(SpliceResult::Empty) => break,
                Ok(SpliceResult::End) => panic!("the pipe is open"),
                Err(why) => {
                    assert_eq!(why.raw_os_error(), Some(libc::ENOSPC));
                    refused += 1;
                    if refused % 7 == 0 {
                        disk.grow(64 + refused);
                        grown = true;
                    }
                }
            }
        }
    }
    assert!(grown, "the disk was never full");
    assert_eq!(indexed(&dir, &wanted), wanted.len() as u64);
}
