//! Volumes under a real daemon: files that outlive jobs and daemons, a size that holds, and nothing left behind.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use joblet::sys::loop_device;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::rnx::Output;
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::workflow;

/// Whether this host can make images and mount them.
pub(super) fn has_images() -> bool {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    is_root() && joblet::volume::has_formatter().is_some() && loop_device::attach(&file).is_ok()
}

/// Whether ids of a tmpfs can be mapped; the doctor tries it.
pub(super) fn has_memory(d: &TestDaemon) -> bool {
    let config = d.config();
    let findings = d.joblet(["doctor".as_ref(), "--json".as_ref(), "--config".as_ref(), config.as_os_str()]);
    let found = findings.text();
    let found: serde_json::Value = serde_json::from_str(&found).expect("the doctor prints JSON");
    let all = found.as_array().or_else(|| found["checks"].as_array()).expect("a list of findings").clone();
    all.iter().any(|finding| finding["check"] == "volumes.memory" && finding["status"] == "ok")
}

pub(super) fn images(d: &TestDaemon) -> PathBuf {
    d.dir().join("volumes")
}

/// The files of all volumes, sorted.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = entries.collect();
    found.sort();
    found
}

/// The loop devices whose files lie below this directory, by the paths that the kernel has of them.
pub(super) fn loop_devices(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").unwrap().flatten();
    let files = entries.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(dir.to_str().unwrap())).collect()
}

/// Whether the loop device of an image is one that goes by itself, and whether it does direct I/O.
fn loop_settings(image: &Path) -> (String, String) {
    let dirs = fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path().join("loop"));
    let of_image = |dir: &PathBuf| {
        fs::read_to_string(dir.join("backing_file")).is_ok_and(|file| Path::new(file.trim()) == image)
    };
    let found = dirs.into_iter().find(of_image).expect("a mounted image has a loop device");
    let read = |name| fs::read_to_string(found.join(name)).unwrap().trim().to_owned();
    (read("autoclear"), read("dio"))
}

#[track_caller]
pub(super) fn refused(out: &Output, parts: &[&str]) {
    assert_ne!(out.code, 0, "{}", out.text());
    for part in parts {
        assert!(out.stderr.contains(part), "{part:?} is not in {}", out.stderr);
    }
}

pub(super) fn create(d: &TestDaemon, name: &str, size: &str) {
    let made = d.rnx(["volume", "create", name, "--size", size]).ok();
    assert!(made.contains("Volume created successfully"), "{made}");
}

/// The output of a script in a job with these volumes.
#[track_caller]
pub(super) fn sh(d: &TestDaemon, volumes: &[&str], script: &str) -> String {
    let flags = volumes.iter().flat_map(|volume| ["--volume", volume]);
    d.run(flags.chain(["sh", "-c", script])).ok().trim().to_owned()
}

#[test]
fn files_of_a_volume_belong_to_each_job_that_has_it() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "32MB");
    // Root of one job makes a file, the user of another one finds it as its own, and the first one's again.
    sh(
        &d,
        &["data"],
        "cd /volumes/data && test -z \"$(ls -A)\" && echo one >f && chmod 600 f && mkdir dir && ln f dir/g",
    );
    let script = "cd /volumes/data && id -u && stat -c %u:%g f . && echo two >>f && chmod 400 f && rm dir/g && mv f dir";
    let seen = d.run(["--volume", "data", "--user", "job", "sh", "-c", script]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["1000", "1000:1000", "1000:1000"]);
    assert_eq!(sh(&d, &["data"], "stat -c %u /volumes/data/dir/f; cat /volumes/data/dir/f"), "0\none\ntwo");
    // No program there gets more rights, and no device node can be made.
    let script = "cd /volumes/data && cp /bin/true t && chmod 6755 t && grep /volumes/data /proc/self/mountinfo; \
                  mknod n c 1 3 2>&1; mkdir /volumes/other 2>&1; ./t && echo executed";
    let seen = sh(&d, &["data"], script);
    for part in ["nosuid,nodev", "Operation not permitted", "Read-only file system", "executed"] {
        assert!(seen.contains(part), "{part:?} is not in {seen}");
    }
    // A volume that is given to read cannot be written, whoever the job is.
    let script = "cat /volumes/data/dir/f; touch /volumes/data/new 2>&1; rm -f /volumes/data/t 2>&1; true";
    let seen = sh(&d, &["data:ro"], script);
    assert!(seen.starts_with("one\ntwo") && seen.matches("Read-only file system").count() == 2, "{seen}");
    let id = d.submit(["--volume", "data", "sleep", "100"]);
    d.until_status(&id, "RUNNING");
    assert_eq!(d.status(&id)["volumes"], serde_json::json!(["data"]));
    let shown = d.rnx(["--json", "volume", "inspect", "data"]).json();
    assert_eq!((&shown["jobs"], &shown["users"][0]["uuid"]), (&1.into(), &id.as_str().into()), "{shown}");
    let used = shown["usage"]["bytes"].as_u64().unwrap();
    assert!(shown["backend"] == "image" && (4096..1 << 20).contains(&used), "{shown}");
    assert!(shown["usage"]["files"].as_u64() < shown["usage"]["most_files"].as_u64(), "{shown}");
    assert_eq!(
        (&shown["users"][0]["status"], &shown["users"][0]["access"]),
        (&"RUNNING".into(), &"read-write".into())
    );
    let listed = d.rnx(["--json", "job", "list", "--status", "running"]).json();
    assert_eq!(listed[0]["volumes"], serde_json::json!(["data"]), "{listed}");
    let text = d.rnx(["volume", "inspect", "data"]).ok();
    assert!(text.contains("ACCESS") && text.contains(&id[..8]), "{text}");
    let layers = d.rnx(["--json", "job", "status", "--security", &id]).json();
    let layer = |name: &str| {
        let found = layers.as_array().unwrap().iter().find(|layer| layer["layer"] == name).cloned();
        found.unwrap_or_else(|| panic!("no layer {name} in {layers:#}"))
    };
    for name in ["mount /volumes", "mount /volumes/data"] {
        assert_eq!(layer(name)["ok"], true, "{}", layer(name));
    }
    let plan = d.rnx(["job", "run", "--explain", "--volume", "data:ro", "true"]).ok();
    assert!(plan.contains("attach the volume data at /volumes/data (read-only)"), "{plan}");
    refused(&d.rnx(["volume", "remove", "data"]), &["in use by 1 job"]);
    let listed = d.rnx(["--json", "volume", "list"]).json();
    assert_eq!(
        (&listed["volumes"][0]["jobs"], &listed["volumes"][0]["type"]),
        (&1.into(), &"filesystem".into())
    );
    d.rnx(["job", "stop", &id]).ok();
    eventually("no job has it any more", || holds(d.rnx(["volume", "remove", "data"]).code == 0));
    assert_eq!(files(&images(&d)), Vec::<String>::new());
    eventually("its loop device is gone", || holds(loop_devices(&images(&d)).is_empty()));
    refused(&d.run(["--volume", "data", "true"]), &["volume \"data\" does not exist"]);
    d.stop();
}

#[test]
fn volume_of_a_killed_daemon_is_the_same_for_the_next_one() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    create(&d, "data", "32MB");
    let script = format!(
        "cd /volumes/data; echo before >a; {}; cat b; echo after >c; {}",
        gate::wait_for("read"),
        gate::wait_for("end")
    );
    let id = d.submit(["--volume", "data", "sh", "-c", &script]);
    eventually("the job has written", || holds(sh(&d, &["data"], "cat /volumes/data/a || true") == "before"));
    let d = d.crash().start();
    refused(&d.rnx(["volume", "remove", "data"]), &["in use by 1 job"]);
    // Two file systems in one image would not see each other's files, and destroy both.
    assert_eq!(sh(&d, &["data"], "cat /volumes/data/a; echo new >/volumes/data/b"), "before");
    assert_eq!(loop_devices(&images(&d)).len(), 1);
    gate::open(&id, "read");
    eventually("the job has read and written", || {
        holds(sh(&d, &["data"], "cat /volumes/data/c 2>/dev/null || true") == "after")
    });
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &id]).ok().trim(), "new");
    // After its orderly end, as after a restart of the host, nothing of it is mounted, and the next one mounts it.
    let images = images(&d);
    let node = d.leave();
    eventually("the loop device is gone", || holds(loop_devices(&images).is_empty()));
    let d = node.start();
    assert_eq!(
        sh(&d, &["data"], "cat /volumes/data/a /volumes/data/b /volumes/data/c"),
        "before\nnew\nafter"
    );
    let node = d.leave();
    eventually("the loop device is gone", || holds(loop_devices(&images).is_empty()));
    let check = joblet::volume::has_formatter().unwrap().with_file_name("e2fsck");
    let checked = std::process::Command::new(check).arg("-fn").arg(images.join("data.img")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let d = node.start();
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn full_volume_refuses_its_jobs_and_gives_room_back() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "small", "16MB");
    create(&d, "other", "16MB");
    let fill = "dd if=/dev/urandom of=/volumes/small/f bs=64k 2>&1; stat -c %s /volumes/small/f; echo here >/volumes/other/f";
    let seen = sh(&d, &["small", "other"], fill);
    assert!(seen.contains("No space left on device"), "{seen}");
    let bytes: u64 = seen.lines().last().unwrap().parse().unwrap();
    assert!((8 << 20..16 << 20).contains(&bytes), "{bytes} bytes fit");
    let image = images(&d).join("small.img");
    // Its loop device goes with its last user, and passes by the host's page cache where the file system of the image can.
    let holder = d.submit(["--volume", "small:ro", "sleep", "1000"]);
    d.until_status(&holder, "RUNNING");
    let direct = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&image).is_ok();
    assert_eq!(loop_settings(&image), ("1".to_owned(), if direct { "1" } else { "0" }.to_owned()));
    d.rnx(["job", "stop", &holder]).ok();
    let on_disk = || fs::metadata(&image).unwrap().blocks() * 512;
    // Written through by the job's end at the latest, or soon after it.
    eventually("the image has the file", || {
        sh(&d, &["small"], "sync -f /volumes/small");
        holds(on_disk() > bytes)
    });
    assert!(on_disk() <= 17 << 20, "{}", on_disk());
    // Deleted files go back to the host, and their room to the next job.
    sh(&d, &["small"], "rm /volumes/small/f; sync -f /volumes/small");
    eventually("the host has the room again", || {
        sh(&d, &["small"], "sync -f /volumes/small");
        holds(on_disk() < bytes / 2)
    });
    assert_eq!(sh(&d, &["small", "other"], "echo again >/volumes/small/g; cat /volumes/other/f"), "here");
    for name in ["small", "other"] {
        d.rnx(["volume", "remove", name]).ok();
    }
    d.stop();
}

#[test]
fn volumes_that_cannot_be_are_refused_with_the_cause() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    sh(&d, &["data"], "echo kept >/volumes/data/f");
    let make = |name: &str, size: &str, kind: &str| {
        d.rnx(["volume", "create", name, "--size", size, "--type", kind])
    };
    for (name, size, kind, parts) in [
        ("data", "32MB", "filesystem", &["exists already", "nothing of it was changed"][..]),
        ("data", "32MB", "memory", &["exists already"]),
        ("a/b", "32MB", "filesystem", &["letters, digits"]),
        ("a-", "32MB", "filesystem", &["end with a letter"]),
        (&*"n".repeat(64), "32MB", "filesystem", &["1 to 63 characters"]),
        ("b", "1MB", "filesystem", &["too small", "at least 16MiB"]),
        ("b", "1KB", "memory", &["too small", "at least 1MiB"]),
        ("b", "8000TB", "filesystem", &["more than the host has"]),
        ("b", "8000TB", "memory", &["more than the host has"]),
        ("b", "much", "filesystem", &["cannot read \"much\" as a size"]),
        ("b", "32MB", "disk", &["invalid volume type"]),
    ] {
        refused(&make(name, size, kind), parts);
    }
    assert_eq!(sh(&d, &["data"], "cat /volumes/data/f"), "kept", "nothing of it was changed");
    refused(&d.rnx(["volume", "create", "b"]), &["--size is missing"]);
    for (volumes, part) in [
        (&["gone"][..], "volume \"gone\" does not exist"),
        (&["data", "data:ro"], "stands twice"),
        (&["data:rw"], "is no way to use it"),
        (&["../data"], "cannot be the name of a volume"),
    ] {
        let flags = volumes.iter().flat_map(|volume| ["--volume", volume]);
        refused(&d.run(flags.chain(["true"])), &[part]);
    }
    refused(&d.rnx(["volume", "remove", "gone"]), &["does not exist"]);
    refused(&d.rnx(["volume", "inspect", "gone"]), &["does not exist"]);
    let viewer = |args: &[&str]| d.rnx(["--node", "viewer"].iter().chain(args));
    viewer(&["volume", "list"]).ok();
    viewer(&["volume", "inspect", "data"]).ok();
    refused(&viewer(&["volume", "remove", "data"]), &["not allowed"]);
    refused(&viewer(&["volume", "create", "b", "--size", "16MB"]), &["not allowed"]);
    assert_eq!(files(&images(&d)), ["data.img"]);
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn job_whose_volume_cannot_be_mounted_does_not_start() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    for name in ["broken", "missing"] {
        create(&d, name, "16MB");
    }
    let images = images(&d);
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    let image = File::options().write(true).open(images.join("broken.img")).unwrap();
    image.write_all_at(&[0; 4096], 0).unwrap();
    drop(image);
    fs::remove_file(images.join("missing.img")).unwrap();
    // No volume of ours, and nothing of ours to remove.
    fs::write(images.join("alone.img"), "somebody's").unwrap();
    let d = node.start();
    for (name, parts) in [
        ("broken", &["volume \"broken\" cannot be mounted", "joblet volume check broken"][..]),
        ("missing", &["volume \"missing\" cannot be mounted", "missing.img is missing"]),
    ] {
        refused(&d.run(["--volume", name, "echo", "ran"]), parts);
        d.rnx(["volume", "remove", name]).ok();
    }
    refused(&d.rnx(["volume", "create", "alone", "--size", "16MB"]), &["move it away"]);
    assert_eq!(fs::read(images.join("alone.img")).unwrap(), b"somebody's");
    assert!(d.log().contains("no volume has "), "{}", d.log());
    fs::remove_file(images.join("alone.img")).unwrap();
    assert_eq!(loop_devices(&images), Vec::<String>::new());
    d.stop();
}

#[test]
fn kill_amid_changes_of_volumes_leaves_each_whole_or_none() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let mut node = Node::set_up();
    for round in 0..soak::rounds(4, 100) {
        let d = node.start();
        let images = images(&d);
        // Killed while one is made, one removed, and a job with a third started.
        let name = |what: &str| format!("{what}{round}");
        create(&d, &name("used"), "16MB");
        create(&d, &name("gone"), "16MB");
        let mut calls = [
            d.rnx_spawn(["volume", "create", &name("made"), "--size", "16MB"]),
            d.rnx_spawn(["volume", "remove", &name("gone")]),
            d.rnx_spawn(["job", "run", "--volume", &name("used"), "true"]),
        ];
        // No condition says where in a change the daemon is.
        pause(std::time::Duration::from_millis(8 * (round as u64 % 8)));
        node = d.crash();
        calls.iter_mut().for_each(|call| call.kill());
        let d = node.start();
        assert!(files(&images).iter().all(|file| file.ends_with(".img")), "{:?}", files(&images));
        let listed = d.rnx(["--json", "volume", "list"]).json();
        let listed: Vec<String> = listed["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["name"].as_str().unwrap().to_owned())
            .collect();
        let of_files: Vec<String> = files(&images).iter().map(|file| file.replace(".img", "")).collect();
        assert_eq!(listed, of_files, "what is listed is there, and nothing else");
        for name in &listed {
            assert_eq!(sh(&d, &[name], &format!("cd /volumes/{name} && echo x >f && cat f")), "x");
            eventually("no job has it", || holds(d.rnx(["volume", "remove", name]).code == 0));
        }
        eventually("no loop device is left", || holds(loop_devices(&images).is_empty()));
        assert_eq!(files(&images), Vec::<String>::new());
        node = d.leave();
    }
}

#[test]
fn volume_in_memory_is_shared_bounded_and_gone_with_its_daemon() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    needs!(has_memory(&d), "needs a tmpfs whose ids can be mapped (Linux 6.3)");
    let make = |d: &TestDaemon| d.rnx(["volume", "create", "m", "--size", "1MB", "--type", "memory"]).ok();
    make(&d);
    let fill = "dd if=/dev/zero of=/volumes/m/f bs=4k 2>&1; stat -c %s:%u /volumes/m/f";
    let seen = d.run(["--volume", "m", "--user", "job", "sh", "-c", fill]).ok();
    assert!(seen.contains("No space left on device") && seen.contains("1048576:1000"), "{seen}");
    assert_eq!(sh(&d, &["m"], "stat -c %u /volumes/m/f; rm /volumes/m/f; echo kept >/volumes/m/g"), "0");
    let script = format!("cat /volumes/m/g; {}; cat /volumes/m/g", gate::wait_for("end"));
    let id = d.submit(["--volume", "m:ro", "sh", "-c", &script]);
    assert_eq!(sh(&d, &["m"], "cat /volumes/m/g"), "kept");
    d.until_status(&id, "RUNNING");
    let d = d.crash().start();
    // Nobody else can get the content that an earlier daemon's job has; two volumes of one name would be worse than none.
    refused(&d.run(["--volume", "m", "true"]), &["volume \"m\" is in memory", "an earlier daemon"]);
    refused(&d.rnx(["volume", "remove", "m"]), &["in use by 1 job"]);
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "kept\nkept\n");
    assert_eq!(sh(&d, &["m"], "ls -A /volumes/m | wc -l"), "0");
    d.rnx(["volume", "remove", "m"]).ok();
    d.stop();
}

#[test]
fn jobs_of_a_workflow_share_volumes_that_exist() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    let flow = "jobs:\n  write: {command: sh, args: [-c, 'echo shared >/volumes/data/f'], volumes: [data]}\n  \
                read:\n    command: sh\n    args: [-c, 'grep shared /volumes/data/f && ! touch /volumes/data/g']\n    \
                volumes: ['data:ro']\n    requires:\n      - write: COMPLETED\n";
    let out = workflow::run(&d, &[], flow);
    refused(&out, &["job 'write'", "volume \"data\" does not exist"]);
    create(&d, "data", "16MB");
    // A job that is not submitted yet keeps its volume, which no other job has.
    create(&d, "later", "16MB");
    let script = gate::wait_for("go");
    let waits = format!(
        "jobs:\n  first: {{command: sh, args: [-c, '{script}']}}\n  second:\n    command: test\n    \
         args: [-d, /volumes/later]\n    volumes: [later]\n    requires:\n      - first: COMPLETED\n"
    );
    let id = workflow::start(&d, &waits);
    refused(&d.rnx(["volume", "remove", "later"]), &["in use by 1 job"]);
    let first = eventually("the first job runs", || {
        let jobs = d.rnx(["--json", "job", "list", "--workflow", &id]).json();
        let all = jobs.as_array().or_else(|| jobs["jobs"].as_array())?.clone();
        let running = all.iter().find(|job| job["status"] == "RUNNING")?;
        Some(running["uuid"].as_str().or_else(|| running["id"].as_str())?.to_owned())
    });
    gate::open(&first, "go");
    workflow::until(&d, &id, "COMPLETED");
    eventually("no job has it any more", || holds(d.rnx(["volume", "remove", "later"]).code == 0));
    workflow::finish(&d, flow, "COMPLETED");
    eventually("no job has it", || holds(d.rnx(["volume", "remove", "data"]).code == 0));
    d.stop();
}
