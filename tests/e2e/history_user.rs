//! History as people use it: every option of `rnx job log` and `rnx job metrics` finds in it what it found in the spool.

use std::fs;

use futures_util::StreamExt;
use joblet::pb::persist::QueryLogsRequest;

use super::history::{answer, logs, queries, until_complete};
use super::history_disk::missing;
use super::history_faults::{ROUNDS, flood, numbers};
use crate::helper::daemon::{Node, PERSIST};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate};

/// The output of each of these commands: bytes, and notes.
fn answers(d: &TestDaemon, id: &str, since: &str) -> Vec<(String, Vec<u8>, String)> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let (until, after) = (format!("--until={since}"), format!("--since={since}"));
    for options in [
        &[][..],
        &["--stream=stderr"],
        &["--stream=stdout", "-t"],
        &["--tail=0"],
        &["--tail=1"],
        &["--tail=137", "-t"],
        &["--tail=100000", "--stream=stderr"],
        &["--filter=77"],
        &["--filter=no such text"],
        &["--filter=9", "--tail=5"],
        &["--filter=9", "--tail=50", "--stream=stderr"],
        &[&after],
        &[&until],
        &[&after, "--tail=3"],
        &[&until, "--tail=3", "--filter=1"],
        &["--json", "--tail=20"],
    ] {
        let words = ["job", "log", "--no-follow"].iter().chain(options).map(ToString::to_string);
        all.push(words.chain([id.to_owned()]).collect());
    }
    for options in [
        &[][..],
        &["--aggregate=max"],
        &["--aggregate=avg", "--interval=1s"],
        &["--aggregate=min", "--json"],
        &["--aggregate=sum"],
        &[&after, "--json"],
        &[&until],
        &["--json"],
    ] {
        let words = ["job", "metrics"].iter().chain(options).map(ToString::to_string);
        all.push(words.chain([id.to_owned()]).collect());
    }
    all.into_iter()
        .map(|words| {
            let out = d.rnx(&words);
            (format!("{} -> {}", words.join(" "), out.code), out.stdout, out.stderr)
        })
        .collect()
}

#[track_caller]
fn assert_same(was: &[(String, Vec<u8>, String)], now: &[(String, Vec<u8>, String)], when: &str) {
    for (was, now) in was.iter().zip(now) {
        assert_eq!((&was.0, &was.2), (&now.0, &now.2), "{when}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        assert!(was.1 == now.1, "{when}: {}\n{}\n---\n{}", was.0, text(&was.1), text(&now.1));
    }
}

#[test]
fn every_option_finds_in_history_what_it_found_in_the_spool() {
    let node = Node::set_up();
    let d = node.start();
    d.hold_history();
    let id = flood(&d);
    d.until_status(&id, "COMPLETED");
    // A time in the middle of the output.
    let lines = d.rnx(["job", "log", "--no-follow", "-t", "--stream=stderr", &id]).text();
    let middle =
        lines.lines().nth(20_000).unwrap().split(' ').next().unwrap().trim_matches(['[', ']']).to_owned();
    let spool = answers(&d, &id, &middle);
    assert!(
        spool.iter().all(|(words, ..)| words.ends_with("-> 0")),
        "{:?}",
        spool.iter().map(|a| (&a.0, &a.2)).collect::<Vec<_>>()
    );
    d.release_history();
    until_complete(&d, &id);
    assert_same(&spool, &answers(&d, &id, &middle), "in history");
    let d = d.crash().start();
    assert_same(&spool, &answers(&d, &id, &middle), "after a restart");
    // History alone knows the job.
    let node = d.leave();
    for entry in fs::read_dir(node.dir()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("state.db") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fs::remove_dir_all(node.dir().join("spool")).unwrap();
    let d = node.start();
    assert_same(&spool, &answers(&d, &id, &middle), "without the job's record");
}

#[test]
fn jobs_keep_their_mode_when_history_is_switched_off_and_on() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let script = |name: &str| {
        format!("seq 1000; {}; seq 1000 2000; {}; echo {name}", gate::wait_for("off"), gate::wait_for("end"))
    };
    let kept = d.submit(["sh", "-c", &script("kept")]);
    let shown = |d: &TestDaemon, id: &str| d.rnx(["job", "log", "--no-follow", id]).stdout;
    eventually("it has printed", || holds(shown(&d, &kept) == numbers(1, 1001)));
    let node = d.leave();
    node.set("ipc.enabled", false);
    let d = node.start();
    gate::open(&kept, "off");
    let both = [numbers(1, 1001), numbers(1000, 2001)].concat();
    eventually("it has printed more", || holds(shown(&d, &kept) == both));
    let live = d.submit(["sh", "-c", &script("live")]);
    gate::open(&live, "off");
    eventually("it has printed", || holds(shown(&d, &live) == both));
    let node = d.leave();
    node.set("ipc.enabled", true);
    let d = node.start();
    assert!(shown(&d, &kept) == both && shown(&d, &live) == both);
    gate::open(&kept, "end");
    gate::open(&live, "end");
    d.until_status(&kept, "COMPLETED");
    d.until_status(&live, "COMPLETED");
    until_complete(&d, &kept);
    let all = [both, b"kept\n".to_vec()].concat();
    assert!(shown(&d, &kept) == all, "{}", String::from_utf8_lossy(&shown(&d, &kept)));
    assert!(!logs(&d, &live).exists(), "live output is kept");
    d.rnx(["job", "log", "--no-follow", &live]).ok();
}

#[test]
fn calls_read_on_while_the_history_process_is_killed() {
    let d = TestDaemon::start();
    let id = flood(&d);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let want = [numbers(0, ROUNDS * 10_000), numbers(0, ROUNDS * 1000)]
        .map(|bytes| bytes.len())
        .iter()
        .sum::<usize>();
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| d.rnx(["job", "log", "--no-follow", &id]).stdout.len())).collect();
        let pid = nix::unistd::Pid::from_raw(d.history());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), want);
        }
    });
}

/// The query socket is the daemon's: a query that the process dies in fails, and the next one waits for the next process.
#[test]
fn query_fails_when_the_process_dies_and_the_next_one_is_whole() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "seq 3000000"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let query = QueryLogsRequest { job_id: id.clone(), ..Default::default() };
    let client = queries(&d);
    let mut lines = client.query_logs(&query).unwrap();
    let first = futures_executor::block_on(lines.next()).unwrap().unwrap();
    assert!(first.content.starts_with(b"1\n2\n"));
    let pid = nix::unistd::Pid::from_raw(d.history());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    // Part of it is on its way already.
    let rest: Vec<_> = futures_executor::block_on(lines.collect());
    assert!(rest.last().is_some_and(Result::is_err), "it ends as if it were whole");
    let whole = eventually("a query is answered", || answer(queries(&d).query_logs(&query)).ok());
    let bytes: Vec<u8> = whole.into_iter().flat_map(|line| line.content).collect();
    assert!(bytes == numbers(1, 3_000_001), "the output differs");
}

#[test]
fn flipped_bit_is_found_by_check_and_read_as_an_exact_gap() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "seq 300000"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let (file, all) = (logs(&d, &id).join("stdout.log.gz"), numbers(1, 300_001));
    let check = || {
        let mut command = std::process::Command::new(PERSIST);
        let out = command.arg("--check").arg(&file).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("1988895 bytes, 300000 lines"), "{said}");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("1 problems"), "{said}");
    let out = d.rnx(["job", "log", "--no-follow", &id]);
    let gap = missing(&out.stderr);
    assert!(gap > 0 && out.stdout.len() + gap == all.len(), "{gap} and {}: {}", out.stdout.len(), out.stderr);
    let same = out.stdout.iter().zip(&all).take_while(|(a, b)| a == b).count();
    assert!(out.stdout[same..] == all[same + gap..], "what follows the gap differs");
}
