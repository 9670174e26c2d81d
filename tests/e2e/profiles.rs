//! `--profile container` and `process.idsPerJob`: users, owners and roots inside a job, the same walls around it, and ids that
//! nobody else has.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use joblet::runtime::{LayerDigest, RuntimeId, Store};

use super::volumes::{create, has_images, sh};
use super::{appetite, bridged_walls, confinement, security, walls};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::profile::with_containers;
use crate::helper::skip::{is_root, static_busybox};
use crate::helper::workflow;

/// The first id of a running job's map, and their number.
fn map_of(d: &TestDaemon, id: &str) -> (u32, u32) {
    let layers = d.rnx(["--json", "job", "status", "--security", id]);
    assert_eq!(layers.code, 0, "{}", layers.text());
    let layers = layers.json();
    let map =
        layers.as_array().unwrap().iter().find(|layer| layer["layer"] == "ids.uid_map").unwrap().clone();
    let words: Vec<u32> =
        map["seen"].as_str().unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
    (words[1], words[2])
}

#[test]
fn walls_stand_around_containers_too() {
    let tests = [
        walls::files_and_devices_of_the_host_cannot_be_read_written_or_made,
        walls::the_root_holds_no_mount_of_the_host_and_nothing_propagates,
        walls::only_three_streams_are_open_and_namespaces_are_the_jobs_own,
        walls::forbidden_system_calls_answer_eperm_or_enosys,
        walls::running_programs_cannot_be_overwritten,
        walls::job_can_kill_no_process_but_its_own,
        walls::classic_ways_out_of_a_root_lead_nowhere,
        security::every_layer_of_a_running_job_is_read_back_as_promised,
        bridged_walls::hostile_job,
    ];
    with_containers(|| tests.iter().for_each(|test| test()));
}

#[test]
fn containers_are_confined_as_jobs_are() {
    let tests = [
        walls::job_without_a_network_has_only_loopback_and_reaches_no_one,
        walls::a_job_is_scheduled_like_everybody,
        confinement::terminals_and_the_console_are_the_jobs_own,
        confinement::sockets_of_the_host_cannot_be_reached,
        confinement::nested_sandbox_works_unless_it_needs_a_user_namespace,
        confinement::job_has_no_interface_on_which_to_forge_packets,
    ];
    with_containers(|| tests.iter().for_each(|test| test()));
}

#[test]
fn resources_that_a_container_uses_up_are_its_own() {
    with_containers(appetite::resources_that_a_job_uses_up_are_its_own);
}

/// The tools that packages and start scripts use.
const TOOLS: &str = "set -e
    touch f; chown 999:998 f; stat -c '%u:%g' f
    mkdir -p d/sub; chown -R 33:33 d; stat -c %u:%g d/sub
    install -o 7 -g 8 -m 640 f g; stat -c '%u:%g %a' g
    setpriv --reuid=999 --regid=998 --groups=27 id -u
    setpriv --reuid=999 --regid=998 --clear-groups sh -c 'id -G; cat f; echo own >>f; ! cat g 2>/dev/null'
    setpriv --reuid=5 --regid=5 --clear-groups sleep 1000 & sleeper=$!
    until [ \"$(cat /proc/$sleeper/comm 2>&1)\" != setpriv ]; do :; done
    kill -9 $sleeper; wait $sleeper || echo killed $?
    tar -cf t.tar --owner=1234 --group=4321 f; rm f; tar -xf t.tar --same-owner; stat -c '%u:%g' f
    mkdir root; chroot root /none 2>&1 | grep -c 'No such file'
    python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", 80)); print(80)'";

#[test]
fn users_owners_and_roots_work_inside_a_container() {
    let d = with_containers(TestDaemon::start);
    let text = d.run(["--profile=container", "sh", "-c", TOOLS]).ok();
    let wanted =
        ["999:998", "33:33", "7:8 640", "999", "998", "killed 137", "1234:4321", "1", "80"].join("\n");
    assert_eq!(text.trim(), wanted);
    // The user of the flag is one of these, without capabilities, and has /work and its uploads.
    fs::write(d.dir().join("given"), "x").unwrap();
    let script = "id -u; grep CapEff /proc/self/status; stat -c %u . given; touch new; chown 0 new 2>/dev/null || echo no";
    let text = d.run(["--profile=container", "--user=job", "--upload=given", "sh", "-c", script]).ok();
    assert_eq!(text, "1000\nCapEff:\t0000000000000000\n1000\n1000\nno\n");
    // A strict job of the same node has one id, as ever.
    let text = d
        .run(["sh", "-c", "tr -s ' ' </proc/self/uid_map; chown 1 . 2>&1; setpriv --reuid=1 id 2>&1"])
        .text();
    assert!(text.contains(" 1\n") && text.matches("not permitted").count() == 1, "{text}");
}

#[test]
fn container_is_refused_where_the_node_does_not_allow_it() {
    let d = TestDaemon::start();
    let out = d.rnx(["job", "run", "--profile=container", "true"]);
    assert_ne!(out.code, 0);
    let words = "this node runs no jobs of the profile \"container\" (process.allowContainerProfile: false)";
    assert!(out.stderr.contains(words), "{}", out.stderr);
    let out = d.rnx(["job", "run", "--profile=docker", "true"]);
    assert!(out.stderr.contains("invalid profile \"docker\": strict (one id"), "{}", out.stderr);
    let text = "jobs: {a: {command: 'true', profile: container}}";
    let out = workflow::run(&d, &[], text);
    assert!(out.code != 0 && out.stderr.contains(words), "{}", out.stderr);
    let node = Node::set_up();
    node.set("process.allowContainerProfile", true);
    let out = node.command().arg("--check-config").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(!out.status.success() && said.contains("needs process.idsPerJob: 65536"), "{said}");
}

#[test]
fn profile_is_shown_explained_and_read_back() {
    let d = with_containers(TestDaemon::start);
    let plan = d.rnx(["job", "run", "--explain", "--profile=container", "true"]).ok();
    for step in [
        "lease 65536 host ids of ",
        "in which they alone exist, as 0 to 65535",
        "drop all capabilities but chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot inside",
    ] {
        assert!(plan.contains(step), "{step}: {plan}");
    }
    let id = d.submit(["--profile=container", "sleep", "1000"]);
    let strict = d.submit(["sleep", "1000"]);
    assert_eq!(
        (&d.status(&id)["profile"], &d.status(&strict)["profile"]),
        (&"container".into(), &"strict".into())
    );
    assert!(d.rnx(["job", "status", &id]).ok().contains("Profile: container\n"));
    let ((first, ids), (other, one)) = (map_of(&d, &id), map_of(&d, &strict));
    assert_eq!((ids, first % 65_536, one, other % 65_536), (65_536, 0, 1, 0));
    let text = d.rnx(["job", "status", "--security", &id]).ok();
    assert!(text.contains("00000000000405fb"), "{text}");
    let found = d.joblet(["doctor".as_ref(), "--config".as_ref(), d.config().as_os_str()]).text();
    assert!(
        found.lines().any(|line| line.contains("ids.container") && line.contains("64 ranges")),
        "{found}"
    );
    for id in [id, strict] {
        d.rnx(["job", "stop", &id]).ok();
    }
    // In turn, so that the sandboxes that were made ahead are often of the other kind.
    for turn in 0..12 {
        let (flag, ids) =
            if turn % 2 == 0 { ("--profile=container", "65536") } else { ("--profile=strict", "1") };
        let text = d.run([flag, "cat", "/proc/self/uid_map"]).ok();
        assert_eq!(text.split_whitespace().last(), Some(ids), "{text}");
    }
    let text = "jobs: {a: {command: sh, args: ['-c', 'cat /proc/self/uid_map'], profile: container}}";
    let flow = workflow::finish(&d, text, "COMPLETED");
    assert_eq!(flow.log(&d, "a").split_whitespace().last(), Some("65536"));
}

#[test]
fn jobs_of_an_earlier_daemon_keep_their_range_of_ids() {
    let node = with_containers(Node::set_up);
    node.set("joblet.onShutdown", "keep");
    node.set("joblet.warmSandboxes", 2);
    let d = node.start();
    let kept = d.submit([
        "--profile=container",
        "sh",
        "-c",
        "setpriv --reuid=9 --regid=9 --clear-groups sleep 1000",
    ]);
    let (first, _) = map_of(&d, &kept);
    let node = d.crash();
    let d = node.start();
    assert_eq!(map_of(&d, &kept), (first, 65_536));
    let others: Vec<String> = (0..4).map(|_| d.submit(["--profile=container", "sleep", "1000"])).collect();
    let firsts: BTreeSet<u32> = others.iter().map(|id| map_of(&d, id).0).chain([first]).collect();
    assert_eq!(firsts.len(), 5);
    for id in others {
        d.rnx(["job", "stop", &id]).ok();
    }
    // A daemon that leases single ids leaves out all of the range, and runs no container.
    let waiting = d.submit(["--profile=container", "--schedule=1s", "true"]);
    let node = d.leave();
    node.set("process.allowContainerProfile", false);
    node.set("process.idsPerJob", 1);
    node.set("process.subidCount", 16 * 65_536);
    let d = node.start();
    assert_eq!(map_of(&d, &kept), (first, 65_536));
    let single = d.submit(["sleep", "1000"]);
    let (id, ids) = map_of(&d, &single);
    assert!(ids == 1 && !(first..first + 65_536).contains(&id), "{id} is one of {first}");
    d.until_status(&waiting, "FAILED");
    let why = d.status(&waiting)["message"].to_string();
    assert!(why.contains("needs 65536 host ids; set process.idsPerJob: 65536"), "{why}");
    for id in [single, kept] {
        d.rnx(["job", "stop", &id]).ok();
    }
}

#[test]
fn volumes_keep_the_owners_of_a_containers_files() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = with_containers(TestDaemon::start);
    create(&d, "data", "32MB");
    // A program with the setuid bit is no way to root of the job, and not to the host's.
    let script = "cd /volumes/data; touch root; touch user; chown 999:998 user; chmod 600 user; stat -c %u:%g . root user; \
                  cp /usr/bin/id program; chmod 6755 program; setpriv --reuid=9 --regid=9 --clear-groups ./program -u; \
                  chattr +i program 2>&1 | grep -c 'not permitted'";
    let text = d.run(["--profile=container", "--volume=data", "sh", "-c", script]).ok();
    assert_eq!(text, "0:0\n0:0\n999:998\n9\n1\n");
    // Another container finds the same, and a strict job root's as its own, whoever it is.
    let script = "cd /volumes/data; stat -c %u:%g . root user; setpriv --reuid=999 --regid=998 --clear-groups cat user";
    let text = d.run(["--profile=container", "--volume=data", "sh", "-c", script]).ok();
    assert_eq!(text, "0:0\n0:0\n999:998\n");
    let seen = sh(&d, &["data"], "cd /volumes/data; stat -c %u . root user; cat user 2>&1; touch strict");
    assert_eq!(seen, "0\n0\n65534\ncat: user: Permission denied");
    let script = "cd /volumes/data; stat -c %u strict";
    assert_eq!(d.run(["--profile=container", "--volume=data", "sh", "-c", script]).ok(), "0\n");
    // On disk they belong to nobody of the host.
    let node = d.leave();
    let image = node.dir().join("volumes/data.img");
    let at = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -o loop,ro \"$0\" \"$1\" && stat -c '%n %u' \"$1\"/*"])
        .args([image.as_os_str(), at.path().as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&mounted.stdout).into_owned();
    for line in ["root 2147352576\n", "strict 2147352576\n", "user 2147353575\n"] {
        assert!(said.contains(line), "{line}: {said} {}", String::from_utf8_lossy(&mounted.stderr));
    }
}

/// Installs an image with a user of its own, to whom one directory belongs, and which its programs expect to be `user`. busybox has all of its programs.
pub(super) fn install_image(dir: &Path, user: &str) {
    let store = Store::open(&dir.join("runtimes")).unwrap().0;
    let digest: LayerDigest = format!("sha256:{}", "c".repeat(64)).parse().unwrap();
    let hold = store.hold_layers(std::slice::from_ref(&digest));
    let layer = store.stage().unwrap();
    let at = |path: &str| layer.path().join(path);
    for path in ["bin", "etc", "data"] {
        fs::create_dir(at(path)).unwrap();
    }
    fs::copy("/bin/busybox", at("bin/busybox")).unwrap();
    for name in ["sh", "cat", "id", "su", "stat", "sleep", "chown"] {
        symlink("busybox", at("bin").join(name)).unwrap();
    }
    fs::write(at("etc/passwd"), "root:x:0:0:root:/:/bin/sh\npostgres:x:999:998::/data:/bin/sh\n").unwrap();
    fs::write(at("etc/group"), "root:x:0:\npostgres:x:998:\n").unwrap();
    fs::write(at("data/table"), "rows\n").unwrap();
    for path in ["data/table", "data"] {
        chown(at(path), Some(999), Some(998)).unwrap();
    }
    fs::set_permissions(at("data"), Permissions::from_mode(0o700)).unwrap();
    store.publish_layer(layer, &digest).unwrap();
    let id: RuntimeId = "database@1.0.0".parse().unwrap();
    let staging = store.stage().unwrap();
    let text = format!(
        "name: database\nversion: 1.0.0\nlayers: ['{digest}']\nimage: {{cmd: [/bin/sh], user: '{user}'}}\n"
    );
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &id, false).unwrap();
    drop(hold);
}

#[test]
fn containers_have_the_users_of_an_image() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let node = with_containers(Node::set_up);
    install_image(node.dir(), "");
    let d = node.start();
    let script = "id -un; stat -c '%U:%G %a' /data; su postgres -c 'id -un; cat /data/table; id -G'; \
                  chown postgres /work; stat -c %u /work; chown 0 /data 2>&1";
    let image = ["--runtime=database", "--profile=container"];
    let text = d.run(image.into_iter().chain(["sh", "-c", script])).text();
    let wanted = "root\npostgres:postgres 700\npostgres\nrows\n998\n999\n\
                  chown: /data: Read-only file system\n";
    assert_eq!(text, wanted);
    let text =
        d.run(["--runtime=database", "sh", "-c", "cat /data/table 2>&1; su postgres -c id 2>&1; true"]).ok();
    assert!(text.contains("cat: can't open '/data/table': Permission denied"), "{text}");
    assert!(!text.contains("postgres)"), "{text}");
    // A warm sandbox of one runtime and profile is for such jobs alone; its walls are those of any container.
    for _ in 0..3 {
        let id = d.submit(image.into_iter().chain(["su", "postgres", "-c", "sleep 1000"]));
        assert_eq!(map_of(&d, &id).1, 65_536);
        d.rnx(["job", "stop", &id]).ok();
    }
    // Its template goes with it, and not some minutes later.
    d.rnx(["runtime", "remove", "database"]).ok();
}
