//! Runtimes under a real daemon: jobs in their roots, versions that are held, and what is left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use joblet::runtime::{LayerDigest, RuntimeId, Store};
use serde_json::json;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::rnx::Output;
use crate::helper::skip::{is_root, static_busybox};
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow;

/// The store of a node whose daemon does not run.
pub(super) fn store(dir: &Path) -> Store {
    Store::open(&dir.join("runtimes")).unwrap().0
}

/// Installs a runtime that lies over the host's paths: one program below /opt/tools.
pub(super) fn install_tools(store: &Store, id: &str) {
    let id: RuntimeId = id.parse().unwrap();
    let staging = store.stage().unwrap();
    let bin = staging.path().join("files/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("hello"), format!("#!/bin/sh\necho hello from {id} $GREETING\n")).unwrap();
    fs::set_permissions(bin.join("hello"), fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!(
        "name: {}\nversion: {}\ndescription: Tools of a test\nlanguage: perl\nbase: host\n\
         mounts: [{{source: files, target: /opt/tools}}]\npackages: [hello]\n\
         environment: {{PATH_PREPEND: /opt/tools/bin, GREETING: world}}\n",
        id.name, id.version
    );
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &id, false).unwrap();
}

/// Installs an image of two layers with a command of its own.
pub(super) fn install_image(store: &Store, id: &str) {
    let id: RuntimeId = id.parse().unwrap();
    let digests: Vec<LayerDigest> =
        ["a", "b"].map(|one| format!("sha256:{}", one.repeat(64)).parse().unwrap()).into();
    let hold = store.hold_layers(&digests);
    for (digest, file) in digests.iter().zip(["lower", "upper"]) {
        let staging = store.stage().unwrap();
        let bin = staging.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        if file == "lower" {
            fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
            for name in ["sh", "cat", "ls", "pwd", "echo", "sleep", "test"] {
                symlink("busybox", bin.join(name)).unwrap();
            }
        }
        fs::create_dir(staging.path().join("app")).unwrap();
        fs::write(staging.path().join("app").join(file), format!("{file}\n")).unwrap();
        store.publish_layer(staging, digest).unwrap();
    }
    let staging = store.stage().unwrap();
    let text = format!(
        "name: {}\nversion: {}\nlayers: ['{}', '{}']\n\
         image: {{entrypoint: [/bin/sh, -c], cmd: ['pwd; cat lower upper; echo $A'], env: [A=of-the-image], working_dir: /app}}\n",
        id.name, id.version, digests[0], digests[1]
    );
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &id, false).unwrap();
    drop(hold);
}

fn node() -> Node {
    let node = Node::set_up();
    let store = store(node.dir());
    for id in ["tools@1.0.0", "tools@1.10.0", "tools@1.9.0"] {
        install_tools(&store, id);
    }
    node
}

#[track_caller]
pub(super) fn refused(out: &Output, parts: &[&str]) {
    assert_ne!(out.code, 0, "{}", out.text());
    for part in parts {
        assert!(out.stderr.contains(part), "{part:?} is not in {}", out.stderr);
    }
}

fn place(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("runtimes").join(id.replace('@', "/"))
}

#[test]
fn jobs_run_in_the_root_of_the_version_they_name() {
    needs!(is_root(), "needs root");
    let d = node().start();
    let hello = |name: &str| d.run(["--runtime", name, "hello"]).ok();
    assert_eq!(hello("tools"), "hello from tools@1.10.0 world\n");
    assert_eq!(hello("tools@1.9.0"), "hello from tools@1.9.0 world\n");
    assert_eq!(
        d.run(["--runtime", "tools", "-e", "GREETING=job", "hello"]).ok(),
        "hello from tools@1.10.0 job\n"
    );
    assert_eq!(
        d.run(["--runtime", "tools", "sh", "-c", "ls /opt; test -x /usr/bin/env && echo host"]).ok(),
        "tools\nhost\n"
    );
    // Without a runtime there is nothing of it.
    assert_eq!(
        d.run(["sh", "-c", "ls /opt 2>/dev/null; type hello >/dev/null 2>&1 || echo none"]).ok(),
        "none\n"
    );
    let id = d.submit(["--runtime", "tools", "sleep", "100"]);
    d.until_status(&id, "RUNNING");
    assert_eq!(d.status(&id)["runtime"], json!("tools@1.10.0"));
    let layers = d.rnx(["--json", "job", "status", "--security", &id]).json();
    let broken: Vec<_> = layers
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| layer["ok"] != true && layer["unenforced"] != true)
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    refused(&d.rnx(["runtime", "remove", "tools@1.10.0"]), &["in use by 1 job"]);
    refused(&d.rnx(["runtime", "remove", "tools"]), &["in use by 1 job"]);
    assert_eq!(d.rnx(["--json", "runtime", "info", "tools"]).json()["jobs"], json!(1));
    d.rnx(["job", "stop", &id]).ok();
    let plan = d.rnx(["job", "run", "--explain", "--runtime", "tools", "true"]).ok();
    assert!(plan.contains("show /opt/tools"), "{plan}");
    refused(
        &d.run(["--runtime", "tool", "true"]),
        &["runtime \"tool@latest\" is not installed", "tools@1.10.0"],
    );
    refused(&d.run(["--runtime", "tools@3.0.0", "true"]), &["tools@1.9.0"]);
    refused(&d.run(["--runtime", "../etc", "true"]), &["cannot be the name of a runtime"]);
    refused(
        &d.rnx(["job", "run", "--runtime", "tools"]),
        &["command is required: runtime \"tools@1.10.0\" has none"],
    );
    let removed = d.rnx(["--json", "runtime", "remove", "tools@1.10.0"]).json();
    assert!(removed["freed_bytes"].as_i64().unwrap() > 0, "{removed}");
    assert!(!place(&d, "tools@1.10.0").exists());
    assert_eq!(hello("tools"), "hello from tools@1.9.0 world\n");
    // Nothing of a runtime is kept open when it is gone.
    d.rnx(["runtime", "remove", "tools"]).ok();
    d.stop();
}

#[test]
fn image_brings_its_root_its_command_and_its_variables() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let node = Node::set_up();
    install_image(&store(node.dir()), "image@1.0.0");
    let d = node.start();
    assert_eq!(d.run(["--runtime", "image"]).ok(), "/app\nlower\nupper\nof-the-image\n");
    let seen = d.run([
        "--runtime",
        "image",
        "-e",
        "A=mine",
        "--workdir",
        "/work",
        "sh",
        "-c",
        "pwd; echo $A; ls /; ls /usr 2>&1; true",
    ]);
    let seen = seen.ok();
    assert!(
        seen.starts_with("/work\nmine\napp\nbin\ndev\netc\n") && seen.contains("/usr: No such file"),
        "{seen}"
    );
    let file = d.dir().join("input.txt");
    fs::write(&file, "from the client\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        d.run(["--runtime", "image", "--upload", file, "cat", "/work/input.txt"]).ok(),
        "from the client\n"
    );
    let hosts = d.run(["--runtime", "image", "sh", "-c", "cat /etc/hosts; hostname"]).ok();
    let name = hosts.lines().last().unwrap();
    assert!(name.starts_with("job-") && hosts.matches(name).count() > 1, "{hosts}");
    assert_eq!(d.rnx(["runtime", "test", "image"]).ok(), "Runtime 'image' works\n");
    let text = "jobs: {a: {runtime: image}, b: {runtime: image, command: sh, args: [-c, 'echo $A'], requires: [{a: COMPLETED}]}}";
    let flow = workflow::finish(&d, text, "COMPLETED");
    assert_eq!(flow.log(&d, "a"), "/app\nlower\nupper\nof-the-image\n");
    assert_eq!(flow.log(&d, "b"), "of-the-image\n");
    d.rnx(["runtime", "remove", "image"]).ok();
    let layers = d.dir().join("runtimes/.layers/sha256");
    assert_eq!(fs::read_dir(layers).unwrap().count(), 0, "layers go with the last runtime that has them");
    d.stop();
}

#[test]
fn runtimes_are_listed_shown_tested_and_validated() {
    needs!(is_root(), "needs root");
    let d = node().start();
    let listed = d.rnx(["--json", "runtime", "list"]).json();
    let versions: Vec<_> =
        listed["runtimes"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!(versions, ["1.0.0", "1.9.0", "1.10.0"]);
    let shown = d.rnx(["--json", "runtime", "info", "tools@1.9.0"]).json();
    for (key, value) in [
        ("language", json!("perl")),
        ("packages", json!(["hello"])),
        ("last_used", json!(null)),
        ("available", json!(true)),
        ("jobs", json!(0)),
        ("environment", json!({"GREETING": "world", "PATH_PREPEND": "/opt/tools/bin"})),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    assert!(shown["size_bytes"].as_i64().unwrap() > 0, "{shown}");
    let tested = d.rnx(["runtime", "test", "tools@1.9.0"]).ok();
    assert!(tested.starts_with("Runtime 'tools@1.9.0' works\n") && tested.contains("perl"), "{tested}");
    assert_ne!(d.rnx(["--json", "runtime", "info", "tools@1.9.0"]).json()["last_used"], json!(null));
    refused(&d.rnx(["runtime", "info", "other"]), &["is not installed"]);
    refused(&d.rnx(["runtime", "test", "other"]), &["is not installed"]);
    refused(&d.rnx(["runtime", "remove", "other"]), &["is not installed"]);
    refused(&d.rnx(["runtime", "remove", "../../etc"]), &["cannot be the name of a runtime"]);
    assert_eq!(d.rnx(["runtime", "validate", "python:3.11-ml"]).ok(), "python-3.11-ml@latest\n");
    refused(&d.rnx(["runtime", "validate", "Python"]), &["small letters"]);
    // One that somebody has put into place by hand.
    let copied = place(&d, "tools@2.0.0");
    fs::create_dir_all(copied.join("files/bin")).unwrap();
    let text = fs::read_to_string(place(&d, "tools@1.9.0").join("runtime.yml")).unwrap();
    fs::write(copied.join("runtime.yml"), text.replace("1.9.0", "2.0.0")).unwrap();
    assert!(d.rnx(["runtime", "list"]).ok().contains("2.0.0"));
    let removed = d.rnx(["runtime", "remove", "tools"]).ok();
    assert!(removed.contains("Runtime 'tools' removed successfully (all versions)\nFreed: "), "{removed}");
    assert_eq!(d.rnx(["runtime", "list"]).ok(), "No runtimes available.\n");
    d.stop();
}

#[test]
fn test_of_a_runtime_that_hangs_ends_and_says_so() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    // Less than the ten seconds that a test has otherwise.
    node.set("joblet.jobTimeout", "1s");
    let store = store(node.dir());
    install_tools(&store, "tools@1.0.0");
    let staging = store.stage().unwrap();
    let bin = staging.path().join("files");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("perl"), "#!/bin/sh\necho begun; exec sleep 1000\n").unwrap();
    fs::set_permissions(bin.join("perl"), fs::Permissions::from_mode(0o755)).unwrap();
    let text = "name: slow\nversion: 1.0.0\nlanguage: perl\nbase: host\n\
                mounts: [{source: files, target: /opt/slow}]\nenvironment: {PATH_PREPEND: /opt/slow}\n";
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &"slow@1.0.0".parse().unwrap(), false).unwrap();
    let d = node.start();
    let out = d.rnx(["runtime", "test", "slow"]);
    assert!(out.code != 0 && format!("{}{}", out.text(), out.stderr).contains("timeout"), "{out:?}");
    let list = d.rnx(["--json", "job", "list"]).json();
    assert!(list[0]["name"] == "runtime-test" && list[0]["status"] != "RUNNING", "{list}");
    assert!(d.rnx(["runtime", "test", "tools"]).code == 0);
    for name in ["slow", "tools"] {
        d.rnx(["runtime", "remove", name]).ok();
    }
    d.stop();
}

#[test]
fn waiting_job_keeps_its_version_through_a_crash() {
    needs!(is_root(), "needs root");
    let node = node();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let script = format!("{}; hello", gate::wait_for("end"));
    let running = d.submit(["--runtime", "tools@1.0.0", "sh", "-c", &script]);
    d.until_status(&running, "RUNNING");
    let waiting = d.submit(["--runtime", "tools@1.9.0", "--schedule", "1h", "hello"]);
    // As a daemon leaves things that is killed in the middle of an installation.
    let half_made = d.dir().join("runtimes/.staging/half-made");
    fs::create_dir_all(half_made.join("files")).unwrap();
    let d = d.crash().start();
    eventually("half-made things are gone", || {
        holds(fs::read_dir(d.dir().join("runtimes/.leaving")).unwrap().count() == 0 && !half_made.exists())
    });
    for version in ["1.0.0", "1.9.0"] {
        refused(&d.rnx(["runtime", "remove", &format!("tools@{version}")]), &["in use by 1 job"]);
    }
    refused(&d.rnx(["runtime", "remove", "tools"]), &["in use by 1 job"]);
    gate::open(&running, "end");
    d.until_status(&running, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &running]).ok(), "hello from tools@1.0.0 world\n");
    d.rnx(["job", "cancel", &waiting]).ok();
    d.rnx(["runtime", "remove", "tools"]).ok();
    assert_eq!(fs::read_dir(d.dir().join("runtimes/.staging")).unwrap().count(), 0);
    d.stop();
}

#[test]
fn job_whose_runtime_is_gone_fails_and_says_so() {
    needs!(is_root(), "needs root");
    let d = node().start();
    let waiting = d.submit(["--runtime", "tools@1.9.0", "--schedule", "1h", "hello"]);
    let flow = workflow::start(&d, "jobs: {a: {command: 'true', schedule: 1h, runtime: tools}}");
    refused(&d.rnx(["runtime", "remove", "tools@1.10.0"]), &["in use by 1 job"]);
    d.rnx(["workflow", "cancel", &flow]).ok();
    let gone = place(&d, "tools@1.9.0");
    let node = d.leave();
    fs::remove_dir_all(gone).unwrap();
    let d = node.start();
    assert_eq!(d.status(&waiting)["status"], json!("SCHEDULED"));
    d.rnx(["job", "cancel", &waiting]).ok();
    let text = "jobs: {a: {command: 'true', runtime: tools@1.9.0}}";
    refused(&workflow::run(&d, &[], text), &["job 'a': runtime \"tools@1.9.0\" is not installed"]);
    d.stop();
}

/// Lines of the mount tables of a daemon and of the processes below it.
fn mounts(d: &TestDaemon) -> usize {
    let children = format!("/proc/{0}/task/{0}/children", d.pid());
    let below = fs::read_to_string(children).unwrap();
    let pids = below.split_whitespace().map(str::to_owned).chain([d.pid().to_string()]);
    pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok())
        .map(|table| table.lines().count())
        .sum()
}

#[test]
fn hundred_idle_runtimes_cost_no_memory_and_no_mount() {
    needs!(is_root(), "needs root");
    let mut node = node();
    // One sandbox is warm before a job and behind it.
    node.set("joblet.warmSandboxes", 1);
    let mut found = Vec::new();
    for more in [0, 100] {
        let kept = store(node.dir());
        (0..more).for_each(|n| install_tools(&kept, &format!("more-{n}@1.0.0")));
        drop(kept);
        let d = node.start();
        assert_eq!(d.run(["--runtime", "tools@1.0.0", "hello"]).ok(), "hello from tools@1.0.0 world\n");
        assert_eq!(d.rnx(["runtime", "list"]).ok().lines().count(), 4 + more);
        let mut last = 0;
        eventually("a sandbox is warm again", || {
            let now = mounts(&d);
            let is_still = now == std::mem::replace(&mut last, now);
            holds(is_still)
        });
        found.push((d.memory(), last));
        node = d.leave();
    }
    let [(memory, mounts), (more_memory, more_mounts)] = found[..] else { unreachable!() };
    assert_eq!(more_mounts, mounts);
    let grown = more_memory.saturating_sub(memory);
    // The daemon keeps the description of each. The rest is the noise of an allocator.
    assert!(grown < 4 << 20, "{} KiB for 100 runtimes, of {}", grown >> 10, memory >> 10);
}
