//! A new daemon takes over the jobs of an earlier one.

use crate::helper::daemon::{JOBLET, Node, TestDaemon};
use crate::helper::gate;
use crate::helper::rnx::Running;
use crate::helper::wait::{eventually, holds};
use joblet::state::Stage;
use std::fs;
use std::path::PathBuf;

fn is(d: &TestDaemon, id: &str, state: &str) -> bool {
    d.status(id)["status"] == state
}

/// The number of bytes of standard output in the spool.
fn printed(d: &TestDaemon, id: &str) -> u64 {
    fs::metadata(d.dir().join("spool").join(id).join("stdout")).map_or(0, |meta| meta.len())
}

#[test]
fn running_job_survives_the_daemon_with_output_and_exit_code() {
    let node = Node::set_up();
    let d = node.start();
    // Lines while no daemon lives, and lines after the first read of the next daemon.
    let script = format!(
        "for i in $(seq 30); do echo line $i; sleep 0.05; done; {}; echo line 31; exit 7",
        gate::wait_for("go")
    );
    let id = d.submit(["sh", "-c", &script]);
    eventually("it has printed something", || holds(printed(&d, &id) > 0));
    let node = d.crash();
    let d = node.start();
    assert!(is(&d, &id, "RUNNING"), "{}", d.status(&id));
    gate::open(&id, "go");
    let log = d.rnx(["job", "log", &id]);
    let want: String = (1..=31).map(|i| format!("line {i}\n")).collect();
    assert_eq!(log.text(), want);
    eventually("it has ended", || holds(!is(&d, &id, "RUNNING")));
    let ended = d.status(&id);
    assert_eq!((&ended["status"], &ended["exitCode"]), (&"FAILED".into(), &7.into()), "{ended}");
    d.stop();
}

#[test]
fn job_that_ends_without_a_daemon_keeps_output_and_exit_code() {
    let node = Node::set_up();
    let d = node.start();
    let script = format!("{}; echo goodbye; echo worse >&2; exit 3", gate::wait_for("go"));
    let id = d.submit(["sh", "-c", &script]);
    let record = d.dir().join("run/exit").join(&id);
    let node = d.crash();
    gate::open(&id, "go");
    eventually("it has ended", || holds(fs::read(&record).is_ok_and(|block| block.starts_with(b"JBEXIT01"))));
    let d = node.start();
    eventually("it is over", || holds(!is(&d, &id, "RUNNING")));
    let ended = d.status(&id);
    assert_eq!((&ended["status"], &ended["exitCode"]), (&"FAILED".into(), &3.into()), "{ended}");
    assert_eq!(d.rnx(["job", "log", &id]).text(), "goodbye\nworse\n");
    d.stop();
}

#[test]
fn finished_job_survives_a_crash_unchanged_and_can_be_deleted() {
    let node = Node::set_up();
    let d = node.start();
    let id = d.submit(["--name", "kept", "--secret-env", "TOKEN=hidden", "sh", "-c", "echo out; exit 5"]);
    eventually("it has ended", || holds(is(&d, &id, "FAILED")));
    let before = d.status(&id);
    let node = d.crash();
    let d = node.start();
    assert_eq!(d.status(&id), before);
    assert_eq!(d.rnx(["job", "log", &id]).text(), "out\n");
    assert_eq!(d.rnx(["job", "delete", &id]).code, 0);
    let node = d.crash();
    let d = node.start();
    assert_eq!(d.rnx(["job", "status", &id]).code, 5);
    d.stop();
}

#[test]
fn job_stopped_after_a_restart_has_the_status_stopped() {
    let node = Node::set_up();
    let d = node.start();
    let id = d.submit(["sleep", "1000"]);
    let node = d.crash();
    let d = node.start();
    let out = d.rnx(["job", "stop", &id]);
    out.ok();
    let ended = d.status(&id);
    assert_eq!((&ended["status"], &ended["exitCode"]), (&"STOPPED".into(), &(-1).into()), "{ended}");
    d.stop();
}

#[test]
fn the_timeout_of_a_job_goes_on_over_a_restart() {
    let node = Node::set_up();
    let d = node.start();
    let id = d.submit(["--timeout", "3s", "sleep", "1000"]);
    let node = d.crash();
    let d = node.start();
    eventually("its time is over", || holds(is(&d, &id, "STOPPED")));
    let ended = d.status(&id);
    assert_eq!(ended["exit_reason"], "timeout", "{ended}");
    d.stop();
}

#[test]
fn daemon_shutdown_keeps_its_jobs_where_so_configured() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let id = d.submit(["sh", "-c", &format!("echo one; {}; echo two", gate::wait_for("go"))]);
    eventually("it has printed something", || holds(printed(&d, &id) > 0));
    let node = d.leave();
    let d = node.start();
    gate::open(&id, "go");
    assert_eq!(d.rnx(["job", "log", &id]).text(), "one\ntwo\n");
    eventually("it is over", || holds(is(&d, &id, "COMPLETED")));
    d.stop();
}

/// Changes every place where the job's id stands in the database.
fn damage(node: &Node, id: &str) {
    let path = node.dir().join("state.db");
    let mut bytes = fs::read(&path).unwrap();
    // Everywhere: earlier records of the job may still stand in unused parts of the file.
    let places = (0..bytes.len() - 36).filter(|at| bytes[*at..at + 36] == *id.as_bytes());
    for at in places.collect::<Vec<_>>() {
        bytes[at] ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
}

fn recover(node: &Node) -> String {
    let mut recover = std::process::Command::new(JOBLET);
    let recover = recover.env_clear().args(["recover", "--config"]).arg(node.config());
    Running::start(recover).finish().ok()
}

/// The copies of `name` that `joblet recover` kept aside in dataDir.
fn aside(node: &Node, name: &str) -> PathBuf {
    let mut names = fs::read_dir(node.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_it = |found: &str| found.starts_with(&format!("{name}.damaged-")) && !found.ends_with("-wal");
    node.dir().join(names.find(|found| is_it(&found.to_string_lossy())).unwrap())
}

#[test]
fn damaged_database_is_refused_and_recover_saves_readable_jobs() {
    let d = Node::set_up().start();
    let ids: Vec<String> = (0..5).map(|_| d.submit(["echo", "out"])).collect();
    for id in &ids {
        d.until_status(id, "COMPLETED");
    }
    let node = d.leave();
    damage(&node, &ids[1]);
    damage(&node, &ids[2]);
    fs::write(node.dir().join("spool").join(&ids[1]).join("record"), "half a rec").unwrap();
    let path = node.dir().join("state.db");
    let bytes = fs::read(&path).unwrap();
    let refused = Running::start(&mut node.command()).finish();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("checksum") && refused.stderr.contains("joblet recover"),
        "{}",
        refused.stderr
    );
    assert!(fs::read(&path).unwrap() == bytes, "nothing was changed");
    let told = recover(&node);
    assert!(told.starts_with("saved 3 jobs, rebuilt 1, lost 1; "), "{told}");
    assert!(told.contains("the output of 1 jobs without a record is in "), "{told}");
    let d = node.start();
    d.rnx(["job", "status", &ids[1]]).exits(5);
    for id in [&ids[0], &ids[2], &ids[3], &ids[4]] {
        assert!(is(&d, id, "COMPLETED"));
        assert_eq!(d.rnx(["job", "log", id]).text(), "out\n");
    }
    let node = d.leave();
    assert!(fs::read(aside(&node, "state.db")).unwrap() == bytes, "the damaged one is as it was");
    let spools = aside(&node, "spool");
    assert!(spools.join(&ids[1]).is_dir());
}

#[test]
fn recover_without_a_database_rebuilds_ended_and_running_jobs() {
    let d = Node::set_up().start();
    let failed = d.submit(["--name", "nightly", "sh", "-c", "echo bad; exit 7"]);
    d.until_status(&failed, "FAILED");
    let stopped = d.submit(["sleep", "1000"]);
    d.rnx(["job", "stop", &stopped]).ok();
    let runs = d.submit(["sh", "-c", "echo one; exec sleep 1000"]);
    eventually("it has printed", || holds(printed(&d, &runs) > 0));
    let before: Vec<_> = [&failed, &stopped].map(|id| d.status(id)).into();
    let written = |id: &str| d.dir().join("spool").join(id).join("record").exists();
    eventually("what is over stands beside its output", || holds(written(&failed) && written(&stopped)));
    let node = d.crash();
    fs::write(node.dir().join("state.db"), [b'x'; 5000]).unwrap();
    // Every page that was changed since the last checkpoint is in the log too.
    fs::remove_file(node.dir().join("state.db-wal")).unwrap();
    let told = recover(&node);
    assert!(told.starts_with("saved 0 jobs, rebuilt 3, lost an unknown number; "), "{told}");
    let d = node.start();
    assert_eq!([&failed, &stopped].map(|id| d.status(id)).to_vec(), before);
    assert_eq!(d.rnx(["job", "log", "nightly"]).text(), "bad\n");
    assert_eq!(d.status(&runs)["status"], "RUNNING");
    d.rnx(["job", "stop", &runs]).ok();
    assert_eq!(d.rnx(["job", "log", &runs]).text(), "one\n");
    d.submit(["true"]);
    d.stop();
}

fn killed_while_one_runs_and_one_waits() -> (Node, String, String) {
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 1);
    let d = node.start();
    let first = d.submit(["sleep", "1000"]);
    let second = d.submit(["sh", "-c", "echo started"]);
    (d.crash(), first, second)
}

/// The daemon was killed between the intent of a queued job, whose payload may run then, and the database's next commit.
#[test]
fn a_queued_job_whose_start_was_under_way_is_not_started_again() {
    let (node, first, second) = killed_while_one_runs_and_one_waits();
    let (database, mut records) = joblet::state::Database::open(node.dir()).unwrap();
    drop(database);
    let record = records.iter_mut().find(|record| record.id.to_string() == second).unwrap();
    assert_eq!(record.stage, Stage::Queued);
    record.stage = Stage::Active(None);
    let file = fs::File::create(node.dir().join("run/exit").join(&second)).unwrap();
    joblet::state::intent::put(&file, record).unwrap();
    let d = node.start();
    d.until_status(&second, "FAILED");
    assert_eq!(d.status(&second)["exit_reason"], "lost");
    d.rnx(["job", "stop", &first]).ok();
    assert_eq!(printed(&d, &second), 0);
    d.stop();
}

/// The daemon was killed when a spawner had a queued job and had not yet recorded its intent.
#[test]
fn queued_job_whose_start_did_not_reach_its_payload_waits_again() {
    let (node, first, second) = killed_while_one_runs_and_one_waits();
    let (mut database, mut records) = joblet::state::Database::open(node.dir()).unwrap();
    let record = records.iter_mut().find(|record| record.id.to_string() == second).unwrap();
    record.stage = Stage::Active(None);
    database.write(&[(record.serial, &*record)].into(), &[]).unwrap();
    drop(database);
    let d = node.start();
    assert_eq!(d.status(&second)["queuePosition"], 1, "{}", d.status(&second));
    d.rnx(["job", "stop", &first]).ok();
    d.until_status(&second, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &second]).text(), "started\n");
    d.stop();
}

#[test]
fn queued_job_without_its_files_fails_and_frees_its_position() {
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 1);
    let d = node.start();
    fs::write(d.dir().join("input"), "x").unwrap();
    let first = d.submit(["sleep", "1000"]);
    let input = d.dir().join("input").display().to_string();
    let second = d.submit(["--upload", &input, "true"]);
    let node = d.crash();
    fs::remove_file(node.dir().join("staged").join(&second)).unwrap();
    let d = node.start();
    d.until_status(&second, "FAILED");
    d.rnx(["job", "delete", &second]).ok();
    let third = d.submit(["true"]);
    assert_eq!(d.status(&third)["queuePosition"], 1);
    d.rnx(["job", "stop", &first]).ok();
    d.until_status(&third, "COMPLETED");
    d.stop();
}
