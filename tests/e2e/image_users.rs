//! The user of an image, and `--user` of the names and numbers that a root knows.

use std::fs;

use serde_json::json;

use super::profiles::install_image;
use super::runtimes::refused;
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::profile::with_containers;
use crate::helper::skip::{is_root, static_busybox};
use crate::helper::workflow;

/// A node that allows containers, with an image whose user is this.
fn node(user: &str) -> Node {
    let node = with_containers(Node::set_up);
    install_image(node.dir(), user);
    node
}

/// The user of a job, its groups, and whether that is all.
const WHO: &str =
    "id; echo $HOME $USER $LOGNAME; stat -c '%u:%g' /work; cat /proc/self/status >/work/s && cat /data/table";

fn run(d: &TestDaemon, profile: &str, flags: &[&str], script: &str) -> String {
    let image = ["--runtime=database", profile];
    d.run(image.into_iter().chain(flags.iter().copied()).chain(["sh", "-c", script])).text()
}

#[test]
fn job_is_the_user_of_its_image_where_it_has_the_id() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let d = node("postgres").start();
    let container = |flags: &[&str], script: &str| run(&d, "--profile=container", flags, script);
    let postgres = "uid=999(postgres) gid=998(postgres)\n/data postgres postgres\n999:998\nrows\n";
    // Warm sandboxes are root's until their job is known.
    for _ in 0..3 {
        assert_eq!(container(&[], WHO), postgres);
    }
    assert_eq!(container(&["--user=999"], WHO), postgres);
    let root = container(&["--user=root"], WHO);
    assert!(
        root.starts_with("uid=0(root) gid=0(root)") && root.contains("\n/work root root\n0:0\n"),
        "{root}"
    );
    assert!(container(&["--user=job"], "id -u").starts_with("1000\n"));
    for (user, ids) in [
        ("postgres:0", "999 0 0"),
        ("1234", "1234 0 0"),
        ("65535:998", "65535 998 998"),
        ("root:998", "0 998 998"),
    ] {
        let script = "echo $(id -u) $(id -g) $(id -G); echo x >/work/own; stat -c %u /work/own";
        let text = container(&[&format!("--user={user}")], script);
        let uid = ids.split(' ').next().unwrap();
        assert_eq!(text, format!("{ids}\n{uid}\n"), "{user}");
    }
    // Its uploads, and no capability that leads back.
    fs::write(d.dir().join("given"), "x").unwrap();
    let script =
        "stat -c %u:%g given; echo more >>given && grep CapEff /proc/self/status; su -c id 2>&1 | head -n 1";
    let text = container(&["--upload=given", "--workdir=/work"], script);
    assert!(text.starts_with("999:998\nCapEff:\t0000000000000000\n") && !text.contains("uid=0"), "{text}");
    let id = d.submit(["--runtime=database", "--profile=container", "sleep", "1000"]);
    assert_eq!(d.status(&id)["user"], json!("postgres"));
    let layers = d.rnx(["--json", "job", "status", "--security", &id]).json();
    let broken: Vec<_> =
        layers.as_array().unwrap().iter().filter(|l| l["ok"] != true && l["unenforced"] != true).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    d.rnx(["job", "stop", &id]).ok();
    let flow = "jobs: {a: {runtime: database, profile: container, command: sh, args: [-c, 'id -un; echo x >out'], outputs: [out]}}";
    // Not in /data, which is the working directory of no job.
    assert_eq!(workflow::finish(&d, flow, "COMPLETED").log(&d, "a"), "postgres\n");
    d.rnx(["runtime", "remove", "database"]).ok();
    d.stop();
}

#[test]
fn user_that_a_root_or_a_profile_lacks_is_told() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let d = node("postgres").start();
    let strict = run(&d, "--profile=strict", &[], "id -u; cat /data/table 2>&1");
    assert!(strict.starts_with("0\n") && strict.contains("Permission denied"), "{strict}");
    let explain = |flags: &[&str]| {
        let all = ["job", "run", "--explain", "--runtime=database"];
        d.rnx(all.into_iter().chain(flags.iter().copied()).chain(["true"])).ok()
    };
    let plan = explain(&[]);
    assert!(
        plan.contains(
            "stay root: a job of the profile strict has one id, and is not the image's user \"postgres\""
        ),
        "{plan}"
    );
    let plan = explain(&["--profile=container"]);
    assert!(plan.contains("look the user postgres up in /etc/passwd and /etc/group of the root"), "{plan}");
    assert!(!explain(&["--user=root"]).contains("the image's user"));
    let refusal = |flags: &[&str], parts: &[&str]| {
        let all = ["job", "run", "--runtime=database"];
        refused(&d.rnx(all.into_iter().chain(flags.iter().copied()).chain(["true"])), parts);
    };
    refusal(
        &["--user=postgres"],
        &["invalid user \"postgres\"", "a job of the profile container can be any user"],
    );
    refusal(&["--profile=container", "--user=a b"], &["invalid user \"a b\""]);
    for (user, why) in [
        ("nobody", "its root's /etc/passwd has no user \"nobody\""),
        ("postgres:wheel", "has no group \"wheel\""),
        ("65536", "a job has the ids 0 to 65535, and not 65536"),
    ] {
        refusal(
            &["--profile=container", &format!("--user={user}")],
            &[&format!("cannot run as \"{user}\""), why],
        );
    }
    // Without a runtime it is the files that every job has.
    let text = d.run(["--profile=container", "--user=nobody", "id", "-un"]).ok();
    assert_eq!(text, "nobody\n");
    d.rnx(["runtime", "remove", "database"]).ok();
    d.stop();
}

#[test]
fn user_of_a_job_that_waits_outlives_the_daemon() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let d = node("999:998").start();
    let id = d.submit(["--runtime=database", "--profile=container", "--schedule=2s", "sh", "-c", "id -un"]);
    let d = d.crash().start();
    assert_eq!(d.status(&id)["user"], json!("999:998"));
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "postgres\n");
    d.rnx(["runtime", "remove", "database"]).ok();
    d.stop();
}
