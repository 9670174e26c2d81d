//! Volumes that get another size, and images that are damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::spool_limits::SmallDisk;
use super::volumes::{create, has_images, has_memory, images, loop_devices, refused, sh};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::skip::is_root;
use crate::helper::tracer::{self, Tracer};
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::{residue, soak};

const MIB: u64 = 1 << 20;

/// Bytes of the file system of a volume, as a job sees them.
fn seen_bytes(d: &TestDaemon, name: &str) -> u64 {
    let script = format!("stat -f -c '%b %S' /volumes/{name}");
    let seen = sh(d, &[name], &script);
    seen.split(' ').map(|number| number.parse::<u64>().unwrap()).product()
}

fn resize(d: &TestDaemon, name: &str, size: &str) -> String {
    d.rnx(["volume", "resize", name, "--size", size]).ok()
}

/// The size that the list shows.
fn listed_size(d: &TestDaemon, name: &str) -> String {
    let listed = d.rnx(["--json", "volume", "list"]).json();
    let all = listed["volumes"].as_array().unwrap();
    all.iter().find(|volume| volume["name"] == name).unwrap()["size"].as_str().unwrap().to_owned()
}

/// Whether the kernel lets us grow a file system that is mounted (capabilities(7), CAP_SYS_RESOURCE is the 24th).
fn may_grow_mounted() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << 24 != 0
}

#[test]
fn volume_grows_while_no_job_has_it_and_never_shrinks() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    sh(&d, &["data"], "echo kept >/volumes/data/f");
    assert_eq!(resize(&d, "data", "64MB"), "Volume 'data' resized from 16MiB to 64MiB\n");
    assert!((50 * MIB..=64 * MIB).contains(&seen_bytes(&d, "data")), "{}", seen_bytes(&d, "data"));
    assert_eq!(resize(&d, "data", "64MB"), "Volume 'data' has 64MiB already\n");
    refused(&d.rnx(["volume", "resize", "data", "--size", "16MB"]), &["has 64MiB", "cannot become smaller"]);
    refused(&d.rnx(["volume", "resize", "data", "--size", "8000TB"]), &["more than the host has"]);
    refused(&d.rnx(["volume", "resize", "gone", "--size", "64MB"]), &["does not exist"]);
    refused(&d.rnx(["volume", "resize", "data", "--size", "much"]), &["cannot read \"much\" as a size"]);
    refused(&d.rnx(["--node", "viewer", "volume", "resize", "data", "--size", "1GB"]), &["not allowed"]);
    if !may_grow_mounted() {
        let id = d.submit(["--volume", "data", "sleep", "100"]);
        d.until_status(&id, "RUNNING");
        let out = d.rnx(["volume", "resize", "data", "--size", "128MB"]);
        refused(&out, &["only while no job has it", "CAP_SYS_RESOURCE"]);
        assert_eq!(listed_size(&d, "data"), "64MiB");
        d.rnx(["job", "stop", &id]).ok();
    }
    // A large step needs new tables of the file system.
    resize(&d, "data", "3GB");
    let seen = seen_bytes(&d, "data");
    assert!((2900 * MIB..=3072 * MIB).contains(&seen), "{seen}");
    let image = images(&d).join("data.img");
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(image.parent().unwrap()).is_empty()));
    let check = joblet::volume::has_formatter().unwrap().with_file_name("e2fsck");
    let checked = std::process::Command::new(check).arg("-fn").arg(&image).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let d = node.start();
    assert_eq!((listed_size(&d, "data").as_str(), seen_bytes(&d, "data")), ("3GiB", seen));
    assert_eq!(sh(&d, &["data"], "cat /volumes/data/f"), "kept");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn volume_grows_under_a_running_job() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    needs!(may_grow_mounted(), "needs CAP_SYS_RESOURCE to grow a file system that is mounted");
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    let script = format!(
        "cd /volumes/data; echo kept >f; dd if=/dev/zero of=big bs=1M 2>&1; {}; dd if=/dev/zero of=big bs=1M count=40 \
         2>&1 && cat f && stat -c %s big",
        gate::wait_for("grown")
    );
    let id = d.submit(["--volume", "data", "sh", "-c", &script]);
    eventually("the volume is full", || {
        holds(d.rnx(["job", "log", "--no-follow", &id]).text().contains("No space left"))
    });
    assert_eq!(resize(&d, "data", "64MB"), "Volume 'data' resized from 16MiB to 64MiB\n");
    gate::open(&id, "grown");
    d.until_status(&id, "COMPLETED");
    let log = d.rnx(["job", "log", &id]).ok();
    assert!(log.ends_with(&format!("kept\n{}\n", 40 * MIB)), "{log}");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn kill_amid_a_resize_leaves_the_old_or_the_new_size() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let node = Node::set_up();
    let d = node.start();
    create(&d, "data", "16MB");
    sh(&d, &["data"], "echo kept >/volumes/data/f");
    let mut node = d.leave();
    let mut size = 16;
    for round in 0..soak::rounds(4, 100) {
        let d = node.start();
        let next = size + 16;
        let mut call = d.rnx_spawn(["volume", "resize", "data", "--size", &format!("{next}MB")]);
        // No condition says where in a change the daemon is.
        pause(std::time::Duration::from_millis(6 * (round as u64 % 8)));
        node = d.crash();
        call.kill();
        let d = node.start();
        let (listed, seen) = (listed_size(&d, "data"), seen_bytes(&d, "data"));
        assert!(
            [size, next].iter().any(|size| listed == format!("{size}MiB")),
            "{listed} is not {size} or {next}"
        );
        size = listed.strip_suffix("MiB").unwrap().parse().unwrap();
        assert!((size * MIB * 6 / 10..=size * MIB).contains(&seen), "{listed}, and a job sees {seen}");
        assert_eq!(sh(&d, &["data"], "cat /volumes/data/f"), "kept");
        node = d.leave();
    }
    // A daemon that was killed behind the record: the image still has its earlier size.
    let d = node.start();
    let images = images(&d);
    let image = images.join("data.img");
    node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    fs::copy(&image, images.join("earlier")).unwrap();
    let d = node.start();
    resize(&d, "data", "512MB");
    node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    fs::rename(images.join("earlier"), &image).unwrap();
    let d = node.start();
    let seen = seen_bytes(&d, "data");
    assert!((480 * MIB..=512 * MIB).contains(&seen), "{seen}");
    assert_eq!(sh(&d, &["data"], "cat /volumes/data/f"), "kept");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn volume_in_memory_shrinks_to_its_files_and_no_further() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    needs!(has_memory(&d), "needs a tmpfs whose ids can be mapped (Linux 6.3)");
    d.rnx(["volume", "create", "m", "--size", "4MB", "--type", "memory"]).ok();
    let script =
        format!("dd if=/dev/zero of=/volumes/m/f bs=1M count=3 2>/dev/null; {}", gate::wait_for("end"));
    let id = d.submit(["--volume", "m", "sh", "-c", &script]);
    eventually("the job has written", || {
        holds(sh(&d, &["m:ro"], "stat -c %s /volumes/m/f || true") == (3 * MIB).to_string())
    });
    refused(&d.rnx(["volume", "resize", "m", "--size", "2MB"]), &["cannot have 2MiB", "its files take more"]);
    assert_eq!((seen_bytes(&d, "m"), listed_size(&d, "m").as_str()), (4 * MIB, "4MiB"));
    resize(&d, "m", "8MB");
    assert_eq!(seen_bytes(&d, "m"), 8 * MIB);
    resize(&d, "m", "3MB");
    assert_eq!((seen_bytes(&d, "m"), listed_size(&d, "m").as_str()), (3 * MIB, "3MiB"));
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    d.rnx(["volume", "remove", "m"]).ok();
    d.stop();
}

#[test]
fn job_that_fails_above_a_full_host_disk_says_so() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let node = Node::set_up();
    let disk = SmallDisk::mount(&node, "volumes", "20m");
    let d = node.start();
    create(&d, "thin", "16MB");
    create(&d, "other", "16MB");
    sh(&d, &["other"], "cd /volumes/other; echo kept >f; sync f .");
    // Two files of 10 MiB do not fit into 20, with two file systems around them.
    let fill =
        |name: &str| format!("dd if=/dev/urandom of=/volumes/{name}/big bs=64k count=160 conv=fsync 2>&1");
    sh(&d, &["thin"], &fill("thin"));
    let id = d.submit(["--volume", "other", "sh", "-c", &fill("other")]);
    d.until_status(&id, "FAILED");
    let status = d.status(&id);
    assert_eq!(status["exitReason"], "disk_full", "{status:#}");
    assert!(status["message"].as_str().unwrap().contains("make room on it"), "{status:#}");
    // With room again all is as before, after a check where the kernel has found errors.
    disk.grow("64m");
    let images = images(&d);
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    let d = node.start();
    assert_eq!(
        sh(&d, &["other"], &format!("cat /volumes/other/f; ({}) >/dev/null && echo fits", fill("other"))),
        "kept\nfits"
    );
    for name in ["thin", "other"] {
        d.rnx(["volume", "remove", name]).ok();
    }
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    drop(disk);
    d.stop();
}

#[test]
fn killed_writer_and_finished_jobs_leave_a_volume_free() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "32MB");
    let script = "cd /volumes/data; echo first >a; while :; do dd if=/dev/zero of=b bs=64k count=200 2>/dev/null; mv b c; done";
    let id = d.submit(["--volume", "data", "sh", "-c", script]);
    eventually("it writes", || {
        holds(!sh(&d, &["data:ro"], "ls /volumes/data/c 2>/dev/null || true").is_empty())
    });
    d.rnx(["job", "stop", &id]).ok();
    d.until_status(&id, "STOPPED");
    assert_eq!(
        sh(&d, &["data"], "cd /volumes/data; cat a; stat -c %s c; rm -f b c; ls"),
        "first\n13107200\na"
    );
    // Records of ended jobs name it, and do not keep it.
    assert_eq!(d.status(&id)["volumes"], serde_json::json!(["data"]));
    eventually("no job has it", || holds(d.rnx(["volume", "remove", "data"]).code == 0));
    assert_eq!(d.status(&id)["volumes"], serde_json::json!(["data"]));
    // One of the same name is another one, and empty.
    create(&d, "data", "16MB");
    assert_eq!(sh(&d, &["data"], "ls -A /volumes/data"), "");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

/// Makes an image look as if the kernel had found errors in it, with a wrong count of free blocks.
fn damage_softly(image: &Path) {
    let debugfs = joblet::volume::has_formatter().unwrap().with_file_name("debugfs");
    for field in ["state 2", "free_blocks_count 5"] {
        let mut command = std::process::Command::new(&debugfs);
        command.args(["-w", "-R", &format!("set_super_value {field}")]).arg(image);
        assert!(command.output().unwrap().status.success());
    }
}

/// `s_state` of the superblock of an image.
fn state(image: &Path) -> u16 {
    let mut state = [0; 2];
    File::open(image).unwrap().read_exact_at(&mut state, 1024 + 0x3a).unwrap();
    u16::from_le_bytes(state)
}

#[test]
fn damaged_image_starts_no_job_until_a_check_repairs_it() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    for (name, size) in [("broken", "160MB"), ("asks", "16MB"), ("well", "16MB"), ("lost", "16MB")] {
        create(&d, name, size);
        sh(&d, &[name], &format!("echo kept >/volumes/{name}/f"));
    }
    let images = images(&d);
    let check = |d: &TestDaemon, what: &str| {
        let config = d.config();
        d.joblet([
            "volume".as_ref(),
            "check".as_ref(),
            what.as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
        ])
    };
    let out = check(&d, "well");
    assert!(out.code == 1 && out.text().contains("well: in use"), "{}", out.text());
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    let write = |name: &str, at: u64, bytes: &[u8]| {
        let image = File::options().write(true).open(images.join(format!("{name}.img"))).unwrap();
        image.write_all_at(bytes, at).unwrap();
    };
    // The superblock is gone, of which the larger image has a copy.
    write("broken", 0, &[0; 4096]);
    write("lost", 0, &[0; 4096]);
    damage_softly(&images.join("asks.img"));
    let d = node.start();
    for name in ["broken", "lost"] {
        let said = format!("joblet volume check {name}");
        refused(&d.run(["--volume", name, "echo", "ran"]), &["cannot be mounted", &said]);
    }
    assert_eq!(sh(&d, &["asks"], "cat /volumes/asks/f"), "kept");
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    assert_eq!(state(&images.join("asks.img")) & 2, 0, "it was checked before it was mounted");
    let config = node.config();
    let joblet = |args: &[&str]| {
        let mut command = std::process::Command::new(node.command().get_program());
        command.args(args).arg("--config").arg(&config).output().unwrap()
    };
    let out = joblet(&["volume", "check", "--all"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    for part in [
        "broken: it was damaged, and is repaired",
        "well: nothing is wrong",
        "lost: it is damaged",
        "asks: nothing is wrong",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let out = joblet(&["volume", "check", "broken", "well"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(
        (out.status.code(), text.as_str()),
        (Some(0), "broken: nothing is wrong\nwell: nothing is wrong\n")
    );
    assert_eq!(joblet(&["volume", "check"]).status.code(), Some(2));
    assert_eq!(joblet(&["volume", "check", "gone"]).status.code(), Some(1));
    let d = node.start();
    assert_eq!(sh(&d, &["broken"], "ls -A /volumes/broken; cat /volumes/broken/f"), "f\nkept");
    for name in ["broken", "asks", "well", "lost"] {
        d.rnx(["volume", "remove", name]).ok();
    }
    d.stop();
}

/// Whether a process has a child of this name.
fn has_child(pid: i32, name: &str) -> bool {
    let is_it = |child: &i32| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|found| found.trim() == name)
    };
    residue::children_of(pid).iter().any(is_it)
}

#[test]
fn check_that_outlives_its_daemon_keeps_others_off_the_image() {
    needs!(has_images() && tracer::is_there(), "needs root, loop devices, mke2fs and strace(1)");
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    sh(&d, &["data"], "echo kept >/volumes/data/f");
    let images = images(&d);
    let image = images.join("data.img");
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
    damage_softly(&image);
    let d = node.start();
    // Each look into the image takes so long that the daemon is killed amid the check.
    let path = image.to_str().unwrap();
    let slow = ["-P", path, "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=300000"];
    let tracer = Tracer::watch(d.pid(), &d.dir().join("strace"), &slow);
    let mut call = d.rnx_spawn(["job", "run", "--volume", "data", "true"]);
    let pid = d.pid();
    eventually("the image is being checked", || holds(has_child(pid, "e2fsck")));
    let node = d.crash();
    call.kill();
    let d = node.start();
    refused(
        &d.run(["--volume", "data", "true"]),
        &["\"data\" cannot be mounted: its image is being checked"],
    );
    drop(tracer);
    let seen = eventually("the check has ended", || {
        let out = d.run(["--volume", "data", "cat", "/volumes/data/f"]);
        (out.code == 0).then(|| out.text())
    });
    assert_eq!((seen.as_str(), state(&image) & 2), ("kept\n", 0));
    d.rnx(["volume", "remove", "data"]).ok();
    eventually("no loop device is left", || holds(loop_devices(&images).is_empty()));
    d.stop();
}

/// Calls of a thread of the daemon before which it is killed, while it mounts and attaches a volume or gives it another size.
const STEPS: [(&str, &str, u32); 9] = [
    ("spawner", "ioctl", 1),
    ("spawner", "fsopen", 1),
    ("spawner", "fsmount", 1),
    ("spawner", "mount_setattr", 1),
    ("spawner", "setns", 1),
    ("spawner", "move_mount", 1),
    ("volumes", "ftruncate", 1),
    ("volumes", "poll", 1),
    ("volumes", "fsync", 1),
];

#[test]
fn kill_at_steps_of_attach_and_resize_leaves_a_whole_volume() {
    needs!(has_images() && tracer::is_there(), "needs root, loop devices, mke2fs and strace(1)");
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    sh(&d, &["data"], "echo kept >/volumes/data/f");
    let (images, mut node, mut size, mut reached) = (images(&d), d.leave(), 16, 0);
    for (thread, call, number) in STEPS {
        eventually("nothing is mounted", || holds(loop_devices(&images).is_empty()));
        let d = node.start();
        let (pid, next) = (d.pid(), size + 16);
        let change = format!("signal=SIGKILL:when={number}");
        let tracer = Tracer::attach_threads(pid, Some(thread), &d.dir().join("strace"), call, &change);
        let bytes = format!("{next}MB");
        let mut client = if thread == "spawner" {
            d.rnx_spawn(["job", "run", "--follow", "--volume", "data", "cat", "/volumes/data/f"])
        } else {
            d.rnx_spawn(["volume", "resize", "data", "--size", &bytes])
        };
        let alive = || fs::metadata(format!("/proc/{pid}/exe")).is_ok();
        eventually("the daemon is killed, or the call is over", || holds(!alive() || client.is_over()));
        let step = format!("kill before {call} number {number} of {thread}");
        println!("{step}: {}", if alive() { "not reached" } else { "killed" });
        reached += usize::from(!alive());
        drop(tracer);
        client.kill();
        let d = d.crash().start();
        let listed = listed_size(&d, "data");
        assert!([size, next].iter().any(|size| listed == format!("{size}MiB")), "{step}: {listed}");
        size = listed.strip_suffix("MiB").unwrap().parse().unwrap();
        let seen = eventually("a check of the earlier daemon has ended", || {
            let out = d.run(["--volume", "data", "cat", "/volumes/data/f"]);
            (out.code == 0).then(|| out.text())
        });
        assert_eq!(seen, "kept\n", "{step}");
        let bytes = seen_bytes(&d, "data");
        assert!(
            (size * MIB * 6 / 10..=size * MIB).contains(&bytes),
            "{step}: {listed}, and {bytes} are seen"
        );
        let jobs = || d.rnx(["--json", "job", "list"]).text();
        let waits =
            |text: &str| ["RUNNING", "QUEUED", "PENDING", "STARTING"].iter().any(|w| text.contains(w));
        eventually("no job is left over", || holds(!waits(&jobs())));
        let left: Vec<_> = fs::read_dir(&images).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["data.img"], "{step}");
        node = d.leave();
    }
    assert!(reached >= 6, "only {reached} steps were reached");
    let d = node.start();
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}
