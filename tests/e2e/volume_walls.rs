//! Hostile jobs and their volumes, images and files, each in both profiles: what a job fills, what owners and bits in a volume
//! give it, links in the place of what every job has, and files on their way into a job.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use joblet::runtime::{LayerDigest, RuntimeId, Store};
use serde_json::Value;

use super::volumes::{create, has_images, images, loop_devices, sh};
use super::{images as of_images, uploads, volume_files};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::profile::{has_containers, with_containers};
use crate::helper::programs::job;
use crate::helper::skip::static_busybox;
use crate::helper::wait::{eventually, holds};

/// The owners of files in volumes: that of jobs with one id, and those of a container's users behind it.
const OWNERS: std::ops::Range<u32> = 2_147_352_576..2_147_352_576 + 65_536;

fn in_both_profiles(case: fn()) {
    case();
    with_containers(case);
}

#[test]
fn full_volume_is_that_of_its_jobs_in_both_profiles() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    in_both_profiles(fill);
}

fn fill() {
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    let script = job("fill.py").display().to_string();
    let out = d.run(["--volume=data", "--upload", &script, "python3", "fill.py", "/volumes/data"]);
    out.ok();
    let found = out.json();
    let end = |what: &str| (found[what][0].as_u64().unwrap(), found[what][1].as_str().unwrap());
    let (mebibytes, errno) = end("bytes /volumes/data");
    assert!((1..=16).contains(&mebibytes) && errno == "ENOSPC", "{found}");
    let (inodes, errno) = end("inodes /volumes/data");
    assert!((100..10_000).contains(&inodes) && errno == "ENOSPC", "{found}");
    assert_eq!((end("sparse"), end("fallocate").0), ((0, "EFBIG"), 0), "{found}");
    let (depth, errno) = end("depth");
    assert!(depth > 100 && ["ENOSPC", ""].contains(&errno), "{found}");
    // All of it in the image, whose size is the volume's.
    let image = fs::metadata(images(&d).join("data.img")).unwrap();
    assert!(image.len() == 16 << 20 && image.blocks() * 512 <= 17 << 20, "{image:?}");
    // The next job removes what is left, whoever it is, and then there is room.
    let seen = sh(&d, &["data"], "cd /volumes/data && rm -rf d && echo again >f && cat f && ls");
    assert_eq!(seen, "again\nf");
    d.rnx(["volume", "remove", "data"]).ok();
    eventually("no loop device is left", || holds(loop_devices(&images(&d)).is_empty()));
    d.stop();
}

/// Runs a script as root of the host where the image is mounted, in a mount namespace of its own; what it prints.
fn on_the_host(image: &Path, script: &str) -> String {
    let at = tempfile::tempdir().unwrap();
    let script = format!("mount -o loop \"$0\" \"$1\" && cd \"$1\" && {script}");
    let mut command = Command::new("unshare");
    let out = command.args(["--mount", "sh", "-c", &script]).arg(image).arg(at.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn bits_and_owners_of_a_volume_give_nothing_in_both_profiles() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    in_both_profiles(grant);
}

/// The attempts of a job on a volume, and on the files that root of the host has left in there.
const GRANTS: &str =
    "cd /volumes/data; mkdir d; chmod 6777 d; touch d/f; cp /usr/bin/id d/id; chmod 6755 d/id d/f
    try() { \"$@\" >/dev/null 2>&1 && echo done: $* || echo refused: $*; }
    $drop d/id -u; $drop hosts/id -u; touch hosts/new; chmod g+s hosts/new 2>/dev/null; touch d/new
    try mknod d/dev c 1 3; try chattr +i d/f; try chattr +a d/f; try dd if=hosts/zero bs=1 count=1
    try dd if=/dev/zero of=hosts/null bs=1 count=1; try chown 0:0 hosts/id; try rm -f hosts/kept
    python3 - <<'.'
import os
for name in ('security.capability', 'trusted.x'):
    try: os.setxattr('d/f', name, b'\\1\\0\\0\\2' + bytes(16)); print('done:', name)
    except OSError: print('refused:', name)
.
    grep -h CapEff /proc/self/status; grep ' /volumes/data ' /proc/self/mountinfo";

fn grant() {
    let d = TestDaemon::start();
    create(&d, "data", "16MB");
    let image = images(&d).join("data.img");
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(image.parent().unwrap()).is_empty()));
    let prepare = "mkdir -m 2777 hosts && mknod -m 666 hosts/zero c 1 5 && mknod -m 666 hosts/null c 1 3 && \
                   cp /usr/bin/id hosts && chmod 6755 hosts/id && echo x >hosts/kept && chmod 1777 hosts && \
                   chmod g+s hosts && chattr +i hosts/kept";
    on_the_host(&image, prepare);
    let d = node.start();
    // A container's root has many users; a job with one id is another user than root.
    let (user, drop, id) = if has_containers() {
        ("root", "setpriv --reuid=9 --regid=9 --clear-groups", "9")
    } else {
        ("job", "", "1000")
    };
    let drop = format!("drop={drop}");
    let out = d.run(["--volume=data", "--user", user, "-e", &drop, "sh", "-c", GRANTS]);
    let said = out.ok();
    assert!(said.starts_with(&format!("{id}\n{id}\n")) && !said.contains("done:"), "{said}");
    assert_eq!(said.matches("refused:").count(), 9, "{said}");
    let capabilities = if has_containers() { "00000000000405fb" } else { "0000000000000000" };
    assert!(said.contains(capabilities) && said.contains("rw,nosuid,nodev"), "{said}");
    let node = d.leave();
    eventually("nothing is mounted", || holds(loop_devices(image.parent().unwrap()).is_empty()));
    let found = on_the_host(&image, "chattr -i hosts/kept; find . -printf '%U %G %m %y %p\\n'");
    let hosts = ["./lost+found", "./hosts", "./hosts/zero", "./hosts/null", "./hosts/id", "./hosts/kept"];
    let mut made = 0;
    for line in found.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (uid, gid): (u32, u32) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        if hosts.contains(&words[4]) {
            assert_eq!(uid, 0, "{line}");
            continue;
        }
        // The group of a directory with the setgid bit is that of what is made in there, without the bit.
        assert!(OWNERS.contains(&uid) && (OWNERS.contains(&gid) || words[4] == "./hosts/new"), "{line}");
        assert!(["f", "d"].contains(&words[3]) && (gid != 0 || !words[2].starts_with('2')), "{line}");
        made += 1;
    }
    assert!(made >= 5, "{found}");
    let d = node.start();
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

/// An image of busybox in which the directories that every job has are links.
fn install_links(dir: &Path, name: &str, to: &str, digit: &str) {
    let store = Store::open(&dir.join("runtimes")).unwrap().0;
    let digest: LayerDigest = format!("sha256:{}", digit.repeat(64)).parse().unwrap();
    let hold = store.hold_layers(std::slice::from_ref(&digest));
    let layer = store.stage().unwrap();
    fs::create_dir(layer.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", layer.path().join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "test", "grep", "stat", "echo"] {
        symlink("busybox", layer.path().join("bin").join(applet)).unwrap();
    }
    for own in ["dev", "proc", "sys", "tmp", "work", "run", "volumes", "etc", "var"] {
        symlink(to, layer.path().join(own)).unwrap();
    }
    store.publish_layer(layer, &digest).unwrap();
    let staging = store.stage().unwrap();
    let text = format!("name: {name}\nversion: 1.0.0\nlayers: ['{digest}']\n");
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &format!("{name}@1.0.0").parse::<RuntimeId>().unwrap(), false).unwrap();
    drop(hold);
}

#[test]
fn links_of_images_and_volumes_lead_nowhere_in_both_profiles() {
    needs!(has_images() && static_busybox(), "needs root, loop devices, mke2fs and a static busybox");
    in_both_profiles(lead_astray);
}

fn lead_astray() {
    let node = Node::set_up();
    let bait = node.dir().join("bait");
    fs::create_dir(&bait).unwrap();
    let ways = ["/etc", "..", bait.to_str().unwrap()];
    for (way, digit) in ways.iter().zip(["a", "b", "c"]) {
        install_links(node.dir(), &format!("links-{digit}"), way, digit);
    }
    let d = node.start();
    create(&d, "data", "16MB");
    for digit in ["a", "b", "c"] {
        let script = format!(
            "for d in dev proc sys tmp work run volumes etc var; do test -d /$d -a ! -L /$d || echo $d is a link; done
             stat -c %t:%T /dev/null; stat -f -c %T /proc /dev/pts /volumes/data; echo {digit} >/volumes/data/{digit}; cat /volumes/data/*"
        );
        let runtime = format!("--runtime=links-{digit}");
        let seen = d.run([&runtime, "--volume=data", "sh", "-c", &script]).ok();
        let parts: Vec<&str> = seen.lines().collect();
        assert_eq!(parts[..4], ["1:3", "proc", "devpts", "ext2/ext3"], "{digit}: {seen}");
        assert_eq!(parts.last(), Some(&digit), "{seen}");
    }
    assert_eq!(fs::read_dir(&bait).unwrap().count(), 0, "nothing was made behind a link");
    // A job changes the volume while others with it begin, in a directory that leads to their /proc the next moment.
    let villain = "import os, ctypes\nos.chdir('/volumes/data')\nos.mkdir('d')\nos.symlink('/proc/self', 'l')\nc = ctypes.CDLL(None)\n\
                   open('ready', 'w').close()\nwhile not os.path.exists('/work/stop'): c.renameat2(-100, b'd', -100, b'l', 2)\n";
    let id = d.submit(["--volume=data", "python3", "-c", villain]);
    eventually("it swaps", || holds(sh(&d, &["data"], "ls /volumes/data").contains("ready")));
    let look = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/self/attr/current 2>/dev/null; stat -f -c %T /proc; pwd -P";
    for _ in 0..15 {
        let out = d.run(["--volume=data", "--workdir=/volumes/data/d", "sh", "-c", look]);
        if out.code != 0 {
            // Neither the directory nor the link was there for a moment, or what it led to is closed.
            assert!(out.text().is_empty() && out.stderr.contains("/volumes/data/d"), "{}", out.stderr);
            continue;
        }
        let seen = out.text();
        for part in ["NoNewPrivs:\t1\nSeccomp:\t2\n", "\nproc\n"] {
            assert!(seen.contains(part), "{part:?}: {seen}");
        }
        let place = seen.lines().last().unwrap();
        // It is the directory under either name, or the process itself.
        assert!(
            ["/volumes/data/d", "/volumes/data/l"].contains(&place) || place.starts_with("/proc/"),
            "{seen}"
        );
    }
    gate::open(&id, "stop");
    d.until_status(&id, "COMPLETED");
    let status: Value = d.status(&id);
    assert_eq!(status["exitCode"], 0, "{status}");
    d.rnx(["volume", "remove", "data"]).ok();
    for digit in ["a", "b", "c"] {
        d.rnx(["runtime", "remove", &format!("links-{digit}")]).ok();
    }
    d.stop();
}

#[test]
fn hostile_files_are_refused_around_containers_too() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let tests = [
        uploads::path_out_of_work_is_refused_by_name_and_nothing_is_written,
        uploads::file_cannot_be_a_directory_too_and_the_last_duplicate_wins,
        uploads::links_and_odd_names_of_a_tree_arrive_as_they_are,
        uploads::link_out_of_work_is_refused_by_name,
        volume_files::job_that_swaps_links_gets_no_file_of_the_host_copied,
        of_images::hostile_and_damaged_images_leave_nothing_behind,
        of_images::jobs_run_in_an_imported_image_of_many_layers,
    ];
    with_containers(|| tests.iter().for_each(|test| test()));
}
