//! Readers of a flood whose spool is released under them.

use futures_util::StreamExt;
use joblet::pb::joblet::{DataChunk, GetJobLogsReq, OutputStream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::history::{has_jq, until_complete};
use super::history_faults::{ROUNDS, check, flood, numbers};
use crate::helper::daemon::Node;
use crate::helper::soak;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

/// The bytes of both streams, in order: stdout, stderr.
type Both = [Vec<u8>; 2];

/// Fails unless the chunks follow each other without a gap from the first one of the job on.
#[track_caller]
pub(super) fn joined(chunks: &[DataChunk]) -> Both {
    let mut both = Both::default();
    let mut last = 0;
    for chunk in chunks.iter().filter(|chunk| chunk.wait_reason.is_empty()) {
        assert_eq!((chunk.seq, chunk.lost_bytes), (last + 1, 0), "a hole or a double");
        last = chunk.seq;
        both[usize::from(chunk.stream == OutputStream::OUTPUT_STREAM_STDERR.into())]
            .extend_from_slice(&chunk.payload);
    }
    both
}

/// The output that one call reads until the job ends or, without following, until there is no more.
fn read(d: &TestDaemon, id: &str, follow: bool) -> Both {
    let request = GetJobLogsReq { uuid: id.to_owned(), no_follow: !follow, ..Default::default() };
    let client = d.client("default");
    let stream = client.get_job_logs(&request).unwrap();
    let chunks: Vec<DataChunk> = futures_executor::block_on(stream.map(Result::unwrap).collect());
    joined(&chunks)
}

#[test]
fn readers_of_a_released_flood_see_no_zeros_and_no_holes() {
    needs!(has_jq(), "jq is not installed");
    let node = Node::set_up();
    node.set("joblet.jobSpoolLimit", "1MiB");
    node.set("persist.storage.local.commit_interval", "10ms");
    let d = node.start();
    let id = flood(&d);
    let want = [numbers(0, ROUNDS * 10_000), numbers(0, ROUNDS * 1000)];
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..3).map(|_| scope.spawn(|| read(&d, &id, true))).collect();
        let reader = scope.spawn(|| {
            for round in 0..soak::rounds(40, 1000) {
                let got = read(&d, &id, false);
                assert!(want[0].starts_with(&got[0]) && want[1].starts_with(&got[1]), "round {round}");
            }
        });
        // History is taken away from them meanwhile.
        kill(Pid::from_raw(d.history()), Signal::SIGKILL).unwrap();
        for follower in followers {
            assert!(follower.join().unwrap() == want, "a follower read something else");
        }
        reader.join().unwrap();
    });
    check(&d, &id);
    assert!(read(&d, &id, true) == want, "history has something else");
}

/// As many streams of one client as it may have open, from one thread: each takes chunks and compares them, and keeps none.
#[test]
fn crowd_of_readers_of_a_released_flood_misses_nothing() {
    let node = Node::set_up();
    node.set("joblet.jobSpoolLimit", "1MiB");
    node.set("grpc.maxConcurrentStreams", 2000);
    let d = node.start();
    let id = flood(&d);
    let want = [numbers(0, ROUNDS * 10_000), numbers(0, ROUNDS * 1000)];
    let client = d.client("default");
    let request = GetJobLogsReq { uuid: id.clone(), ..Default::default() };
    let readers = (0..soak::rounds(24, 1000)).map(|_| {
        let mut stream = client.get_job_logs(&request).unwrap();
        let want = &want;
        async move {
            let (mut at, mut last) = ([0; 2], 0);
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.unwrap();
                if !chunk.wait_reason.is_empty() {
                    continue;
                }
                assert_eq!((chunk.seq, chunk.lost_bytes), (last + 1, 0), "a hole or a double");
                last = chunk.seq;
                let place = usize::from(chunk.stream == OutputStream::OUTPUT_STREAM_STDERR.into());
                let rest = &want[place][at[place]..];
                assert!(rest.starts_with(&chunk.payload), "bytes differ behind {}", at[place]);
                at[place] += chunk.payload.len();
            }
            at
        }
    });
    let ends = futures_executor::block_on(futures_util::future::join_all(readers));
    let all = [want[0].len(), want[1].len()];
    assert!(ends.iter().all(|at| *at == all), "{ends:?}");
}

#[test]
fn spool_of_a_long_flood_holds_only_what_history_lacks() {
    use std::os::unix::fs::MetadataExt;
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "64MiB")]);
    let id = d.submit(["sh", "-c", "seq 4000000; while [ ! -e /tmp/go ]; do sleep 0.05; done"]);
    let spool = d.dir().join("spool").join(&id);
    let size = numbers(1, 4_000_001).len() as u64;
    let stat = || std::fs::metadata(spool.join("stdout")).unwrap();
    eventually("all of it is written", || holds(stat().len() == size));
    // Less than 4 MiB, and less than 256 rows of 16 KiB behind those, are released with more alone; an extent more.
    eventually("its bytes have left the disk", || holds(stat().blocks() * 512 < (8 << 20) + (64 << 10)));
    assert!(read(&d, &id, false)[0] == numbers(1, 4_000_001), "the output differs");
    d.rnx(["job", "stop", &id]).ok();
    until_complete(&d, &id);
    eventually("the spool is gone", || holds(!spool.join("stdout").exists()));
}
