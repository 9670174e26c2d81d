//! The spool when its writer dies: splice(2) leaves each byte either in the file or in the pipe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use joblet::output::spool::{HEADER, ROW, Spliced};
use joblet::output::{SpoolReader, SpoolWriter, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::helper::eventually;

/// The environment variable that turns [`collector`] into a collector: its spool.
const COLLECTOR: &str = "JOBLET_TEST_COLLECTOR";
const ROUNDS: u64 = 50;

/// Moves its standard input into a spool until it is killed. It is a test only so that the test program can execute
/// itself as it.
#[test]
fn collector() {
    let Ok(dir) = std::env::var(COLLECTOR) else { return };
    let pipe = std::io::stdin();
    let mut spool = SpoolWriter::create(Path::new(&dir)).unwrap();
    rustix::io::write(rustix::stdio::stderr(), b"\ncollecting\n").unwrap();
    loop {
        if spool.splice_from(&pipe, Stream::Stdout, 65_536, 1).unwrap() == Spliced::Empty {
            poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None).unwrap();
        }
    }
}

/// Numbers in a row, eight bytes each, until told to stop; ends the pipe.
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
    for round in 0..ROUNDS {
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

/// How many bytes the index speaks of; each of its rows must be readable and right.
fn indexed(spool: &Path, wanted: &[u8]) -> u64 {
    let size = fs::metadata(spool.join("index")).unwrap().len();
    let rows = (size - HEADER.len() as u64) / ROW as u64;
    let mut reader = SpoolReader::open(spool).unwrap();
    let mut at = 0;
    while let Some(chunk) = reader.next(rows).unwrap() {
        assert!(wanted[at..].starts_with(&chunk.bytes), "row {} is not what was written", chunk.sequence);
        at += chunk.bytes.len();
    }
    at as u64
}
