//! `--user` and `process.defaultUser`: jobs that are an ordinary user inside.

use crate::helper::daemon::Node;
use crate::helper::residue::files;
use crate::helper::{TestDaemon, eventually};
use joblet::pb::joblet::RunJobRequest;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Ids, names, home and environment, and the owner of what the job finds and makes.
const WHO: &str =
    "id; whoami; echo $HOME $USER $LOGNAME; echo ~; touch new; stat -c '%n %u %g %U %G' . new given";

fn who(id: u32, name: &str) -> String {
    let owned = |file: &str| format!("{file} {id} {id} {name} {name}\n");
    format!(
        "uid={id}({name}) gid={id}({name}) groups={id}({name})\n{name}\n/work {name} {name}\n/work\n{}{}{}",
        owned("."),
        owned("new"),
        owned("given")
    )
}

#[test]
fn job_is_the_user_that_its_flag_names() {
    let d = TestDaemon::start();
    let given = d.dir().join("given");
    fs::write(&given, "x").unwrap();
    let upload = format!("--upload={}", given.display());
    for (flag, id, name) in [("--user=job", 1000, "job"), ("--user=root", 0, "root"), ("--quiet", 0, "root")]
    {
        assert_eq!(d.run([flag, &upload, "sh", "-c", WHO]).ok(), who(id, name), "{flag}");
    }
    let out = d.rnx(["job", "run", "--user=nobody", "true"]);
    assert_eq!(out.code, 125, "{}", out.stderr);
    assert!(out.stderr.contains("invalid user \"nobody\": root (uid 0"), "{}", out.stderr);
}

#[test]
fn configured_user_is_that_of_jobs_that_name_none() {
    let node = Node::set_up();
    node.set("process.defaultUser", "job");
    let d = node.start();
    assert_eq!(d.run(["id", "-u"]).ok(), "1000\n");
    assert_eq!(d.run(["--user=root", "id", "-u"]).ok(), "0\n");
    assert_eq!(d.status("@last")["user"], "root");
}

#[test]
fn user_is_shown_explained_and_read_back() {
    let d = TestDaemon::start();
    let plan = d.rnx(["job", "run", "--explain", "--user=job", "true"]).ok();
    for step in ["in which it alone exists, as 1000", "become uid 1000 and gid 1000 of the user namespace"] {
        assert!(plan.contains(step), "{plan}");
    }
    let id = d.submit(["--user=job", "sleep", "1000"]);
    assert_eq!(d.status(&id)["user"], "job");
    assert!(d.rnx(["job", "status", &id]).ok().contains("User: job\n"));
    let list = d.rnx(["job", "list", "--json"]).json();
    assert_eq!(list[0]["user"], "job");
    let out = d.rnx(["--json", "job", "status", "--security", &id]);
    assert_eq!(out.code, 0, "{}", out.text());
    let layers = out.json();
    let map = layers.as_array().unwrap().iter().find(|layer| layer["layer"] == "ids.uid_map").unwrap();
    assert!(map["seen"].as_str().unwrap().starts_with("1000 "), "{map}");
    d.rnx(["job", "stop", &id]).ok();
}

/// The first steps of initdb and others.
const REFUSES_ROOT: &str = "[ $(id -u) != 0 ] || { echo cannot be run as root >&2; exit 1; }; mkdir -m 700 data; \
    [ $(stat -c %u data) = $(id -u) ] && echo initialised";

#[test]
fn program_that_refuses_uid_0_runs_as_the_ordinary_user() {
    let d = TestDaemon::start();
    assert_eq!(d.run(["--user=root", "sh", "-c", REFUSES_ROOT]).code, 1);
    assert_eq!(d.run(["--user=job", "sh", "-c", REFUSES_ROOT]).ok(), "initialised\n");
}

#[test]
fn archive_of_other_owners_is_unpacked_by_the_ordinary_user() {
    let d = TestDaemon::start();
    let script = "echo x > f; tar cf a.tar --owner=somebody:4242 --group=some:4343 f; rm f; tar xf a.tar && \
        cp -a f g && stat -c '%n %u' f g";
    assert_eq!(d.run(["--user=job", "sh", "-c", script]).ok(), "f 1000\ng 1000\n");
}

#[test]
fn sandboxes_are_kept_ready_for_the_user_that_jobs_are() {
    let node = Node::set_up();
    node.set("joblet.warmSandboxes", 2);
    node.set("logging.level", "debug");
    let d = node.start();
    let client = d.client("default");
    let run = |user: &str| {
        let request = RunJobRequest { command: "true".into(), user: user.into(), ..Default::default() };
        client.run_job(&request).unwrap().jobUuid
    };
    // Sandboxes stand ready for root; jobs of the other user replace them, one by one.
    for user in ["job", "root"] {
        eventually("a job of this user starts in a sandbox that was ready", || {
            let id = run(user);
            d.until_status(&id, "COMPLETED");
            let log = d.log();
            let line = log.lines().find(|line| line.contains("job accepted") && line.contains(&id))?;
            line.contains("starts_warm").then_some(())
        });
    }
}

#[test]
fn job_of_the_ordinary_user_outlives_the_daemon_as_that_user() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let id = d.submit([
        "--user=job",
        "sh",
        "-c",
        "trap 'id -u; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    eventually("the job is ready", || {
        d.rnx(["job", "log", "--no-follow", &id]).text().contains("ready").then_some(())
    });
    let d = d.crash().start();
    assert_eq!(d.status(&id)["user"], "job");
    let out = d.rnx(["job", "status", "--security", &id]);
    assert_eq!(out.code, 0, "{}", out.text());
    d.rnx(["job", "stop", "--stop-grace=10s", &id]).exits(0);
    assert!(d.rnx(["job", "log", &id]).text().ends_with("1000\n"));
}

#[test]
fn files_of_the_ordinary_user_are_the_leased_ids_on_the_host() {
    let d = TestDaemon::start();
    let id = d.submit(["--user=job", "sh", "-c", "echo x > /work/mine; sleep 1000"]);
    let work = d.dir().join("work").join(&id);
    // Where /work is in memory there is nothing on the host's disk.
    if work.exists() {
        eventually("the file is there", || work.join("mine").exists().then_some(()));
        for file in files(&work) {
            assert!(d.uids().contains(&fs::metadata(&file).unwrap().uid()), "{}", file.display());
        }
    }
    d.rnx(["job", "stop", &id]).ok();
}
