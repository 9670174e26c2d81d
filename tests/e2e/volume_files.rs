//! Files that are copied into volumes and out of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::volumes::{create, has_images, images, loop_devices, refused, sh};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::soak;
use crate::helper::wait::{eventually, holds};

/// The entries of a tree: each path with its kind, mode, size, link and the first bytes of a file, sorted.
fn picture(root: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(root.join(&at)).unwrap() {
            let path = at.join(entry.unwrap().file_name());
            let meta = root.join(&path).symlink_metadata().unwrap();
            let name = path.as_os_str().as_bytes().escape_ascii().to_string();
            let (mode, time) = (meta.permissions().mode() & 0o777, (meta.mtime(), meta.mtime_nsec()));
            if meta.is_symlink() {
                seen.push(format!("{name} -> {}", fs::read_link(root.join(&path)).unwrap().display()));
            } else if meta.is_dir() {
                seen.push(format!("{name}/ {mode:o} {time:?}"));
                open.push(path);
            } else if meta.len() < 1 << 20 {
                let content = fs::read(root.join(&path)).unwrap();
                seen.push(format!("{name} {mode:o} {time:?} {}", content.escape_ascii()));
            } else {
                seen.push(format!("{name} {mode:o} {time:?} {}", meta.len()));
            }
        }
    }
    seen.sort();
    seen
}

/// So many bytes without a block of zeros, and without a repetition that a file system could share.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    (0..bytes / 8).flat_map(|_| next().to_be_bytes()).collect()
}

fn cp(d: &TestDaemon, args: &[&str]) -> crate::helper::rnx::Output {
    d.rnx(["cp"].iter().chain(args))
}

/// A directory with a bit of everything that can be copied.
fn odd_tree(root: &Path) {
    fs::create_dir_all(root.join("a/empty")).unwrap();
    fs::write(root.join("a/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("a/run"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(root.join("a").join(OsStr::from_bytes(b"\xff\n-")), "odd").unwrap();
    fs::write(root.join("none"), "").unwrap();
    symlink("a/run", root.join("link")).unwrap();
    symlink("/etc/passwd", root.join("out")).unwrap();
    symlink("..", root.join("a/up")).unwrap();
    fs::set_permissions(root.join("a/empty"), fs::Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn trees_come_into_a_volume_and_out_of_it_as_they_are() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "64MB");
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    odd_tree(&tree);
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = |path: &Path| path.display().to_string();
    let out = cp(&d, &[&text(&tree), "data:"]);
    assert!(out.code == 0 && out.stderr.contains("tree/fifo is not copied: it is a FIFO"), "{}", out.stderr);
    fs::remove_file(tree.join("fifo")).unwrap();
    // A job finds them as its own, and no link was followed.
    let script = "cd /volumes/data && stat -c %u:%a tree tree/a/run && readlink tree/out && ls -A . && find tree | wc -l";
    let seen = sh(&d, &["data"], script);
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["0:755", "0:751", "/etc/passwd", "tree", "10"]);
    let back = here.path().join("back");
    fs::create_dir(&back).unwrap();
    cp(&d, &["data:tree", &text(&back)]).ok();
    assert_eq!(picture(&back.join("tree")), picture(&tree));
    assert_eq!(fs::read_dir(&back).unwrap().count(), 1, "no part is left");
    // Under another name, what is in it, single files, and over what is there.
    cp(&d, &["data:tree/a/run", &text(&back.join("run2"))]).ok();
    assert_eq!(fs::read(back.join("run2")).unwrap(), b"#!/bin/sh\n");
    fs::write(here.path().join("run"), "new").unwrap();
    cp(&d, &[&text(&here.path().join("run")), "data:tree/a"]).ok();
    cp(&d, &[&format!("{}/.", text(&tree)), "data:x/y/"]).ok();
    let seen = sh(&d, &["data"], "cat /volumes/data/tree/a/run; echo; ls -A /volumes/data/x/y");
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["new", "a", "link", "none", "out"]);
    let copied = d.rnx(["--json", "cp", "data:", &text(&back.join("all"))]).json();
    assert!(copied["entries"].as_u64().unwrap() > 15 && back.join("all/x/y/a/up").is_symlink(), "{copied}");
    for (args, part) in [
        (&["data:gone", "/tmp"][..], "cannot open \"gone\""),
        (&["data:link2/x", "/tmp"], "No such file"),
        (&["data:tree/link/x", "/tmp"], "never followed"),
        (&["data:tree/a/up/none", "/tmp"], "never followed"),
        (&["data:../x", "/tmp"], "has no .."),
        (&["/etc/passwd", "data:tree/a/up/x"], "never followed"),
        (&["/etc/passwd", "data:new/x"], "make its directory first"),
        (&["/etc/passwd", "data:.joblet-parts/x"], "parts of files"),
        (&["/etc/passwd", "gone:"], "volume \"gone\" does not exist"),
        (&["/gone", "data:"], "cannot copy /gone"),
        (&["data:x", "data:y"], "one side must be a volume"),
        (&["/etc/passwd", "/tmp"], "one side must be a volume"),
        (&["data:"], "say what to copy"),
    ] {
        refused(&cp(&d, args), &[part]);
    }
    for args in [["data:none", "/tmp"], ["/etc/passwd", "data:"]] {
        refused(&d.rnx(["--node", "viewer", "cp"].iter().chain(&args)), &["not allowed"]);
    }
    assert_eq!(sh(&d, &["data"], "ls -A /volumes/data"), "tree\nx");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn thousands_of_files_and_no_device_come_and_go() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    // A volume has a file for each 16 KiB: enough for the long loop.
    create(&d, "data", "2GB");
    let here = tempfile::tempdir().unwrap();
    let (tree, back) = (here.path().join("tree"), here.path().join("back"));
    let (dirs, each) = (soak::rounds(20, 1000), 100);
    for dir in 0..dirs {
        let dir = tree.join(dir.to_string());
        fs::create_dir_all(&dir).unwrap();
        (0..each).for_each(|file| fs::write(dir.join(file.to_string()), file.to_string()).unwrap());
    }
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let null = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::S_IRWXU;
    let has_device =
        nix::sys::stat::mknod(&tree.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, null).is_ok();
    let out = cp(&d, &[&tree.display().to_string(), "data:"]);
    assert!(out.code == 0 && out.stderr.contains("tree/socket is not copied"), "{}", out.stderr);
    assert!(!has_device || out.stderr.contains("tree/null is not copied"), "{}", out.stderr);
    drop(socket);
    // A job puts things in the way that would wait, or lead to the host.
    let script = "cd /volumes/data/tree; find . -type f | wc -l; mkfifo fifo; ln -s /dev/zero 0/zero; ln -s fifo 0/wait";
    assert_eq!(sh(&d, &["data"], script), (dirs * each).to_string());
    let out = cp(&d, &["data:tree", &back.display().to_string()]);
    assert!(out.code == 0 && out.stderr.contains("fifo is not copied"), "{}", out.stderr);
    for (dir, file) in (0..dirs).flat_map(|dir| (0..each).map(move |file| (dir, file))) {
        let content = fs::read_to_string(back.join(format!("{dir}/{file}"))).unwrap();
        assert_eq!(content, file.to_string(), "{dir}/{file}");
    }
    assert_eq!(fs::read_link(back.join("0/zero")).unwrap(), Path::new("/dev/zero"));
    assert_eq!(fs::read_dir(&back).unwrap().count(), dirs, "neither socket, device nor FIFO");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn sparse_files_stay_sparse_and_a_full_volume_says_so() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "24MB");
    let here = tempfile::tempdir().unwrap();
    let (sparse, back) = (here.path().join("sparse"), here.path().join("back"));
    let file = File::create_new(&sparse).unwrap();
    let size = (4 << 30) + 5;
    file.set_len(size).unwrap();
    for at in [1 << 20, 3 << 30, size - 1] {
        file.write_all_at(b"here", at).unwrap();
    }
    let size = size + 3;
    cp(&d, &[&sparse.display().to_string(), "data:"]).ok();
    let script =
        "cd /volumes/data; stat -c %s sparse; test $(stat -c %b sparse) -lt 2000 && tail -c 4 sparse";
    assert_eq!(sh(&d, &["data"], script), format!("{size}\nhere"));
    cp(&d, &["data:sparse", &back.display().to_string()]).ok();
    let meta = fs::metadata(&back).unwrap();
    assert!(meta.len() == size && meta.blocks() < 2000, "{} bytes in {} blocks", meta.len(), meta.blocks());
    let mut bytes = [0; 4];
    File::open(&back).unwrap().read_exact_at(&mut bytes, 3 << 30).unwrap();
    assert_eq!(&bytes, b"here");
    // A file that does not fit leaves nothing under its name, and files that are there stay.
    let large = here.path().join("large");
    fs::write(&large, noise(40 << 20)).unwrap();
    refused(
        &cp(&d, &[&large.display().to_string(), "data:"]),
        &["No space left on device", "rnx volume resize"],
    );
    assert_eq!(sh(&d, &["data"], "cd /volumes/data; ls -A; stat -c %s sparse"), format!("sparse\n{size}"));
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}

#[test]
fn cut_copy_goes_on_after_a_crash_of_the_daemon() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let node = Node::set_up();
    let d = node.start();
    create(&d, "data", "512MB");
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for n in 0..300 {
        fs::write(tree.join(format!("a{n:03}")), format!("{n}")).unwrap();
    }
    fs::write(tree.join("big"), noise(200 << 20)).unwrap();
    fs::write(tree.join("last"), "last").unwrap();
    let source = tree.display().to_string();
    let call = d.rnx_spawn(["cp", &source, "data:"]);
    // A part of the large file is there.
    let part = "find /volumes/data/.joblet-parts -size +8M 2>/dev/null | grep -q . && echo there || true";
    eventually("a part of the file has come", || holds(sh(&d, &["data:ro"], part) == "there"));
    let d = d.crash().start();
    let out = call.finish();
    assert!(out.code == 0, "{}", out.stderr);
    let script = "cd /volumes/data; ls -A . | tr '\\n' ' '; ls tree | wc -l; cat tree/a299 tree/last; sha256sum <tree/big";
    let seen = sh(&d, &["data:ro"], script);
    let digest = openssl::sha::sha256(&fs::read(tree.join("big")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(seen, format!("tree 302\n299last{digest}  -"));
    // The same the other way.
    let back = here.path().join("back");
    fs::create_dir(&back).unwrap();
    let call = d.rnx_spawn(["cp", "data:tree", &back.display().to_string()]);
    eventually("a part of the file has come", || {
        let parts = fs::read_dir(back.join(".joblet-parts")).into_iter().flatten().flatten();
        holds(parts.filter_map(|part| part.metadata().ok()).any(|meta| meta.len() > 8 << 20))
    });
    let d = d.crash().start();
    let out = call.finish();
    assert!(out.code == 0, "{}", out.stderr);
    assert_eq!(
        picture(&back),
        picture(here.path()).into_iter().filter(|line| line.starts_with("tree")).collect::<Vec<_>>()
    );
    assert!(fs::read(back.join("tree/big")).unwrap() == fs::read(tree.join("big")).unwrap());
    d.rnx(["volume", "remove", "data"]).ok();
    eventually("no loop device is left", || holds(loop_devices(&images(&d)).is_empty()));
    d.stop();
}

#[test]
pub(super) fn job_that_swaps_links_gets_no_file_of_the_host_copied() {
    needs!(has_images(), "needs root, loop devices and mke2fs");
    let d = TestDaemon::start();
    create(&d, "data", "32MB");
    let here = tempfile::tempdir().unwrap();
    let secret = here.path().join("secret");
    fs::write(&secret, "of the host").unwrap();
    let canary = here.path().join("canary");
    fs::create_dir(&canary).unwrap();
    // A directory and a link to one of the host take each other's place, as fast as a job can.
    let villain = format!(
        "import os,ctypes\nos.chdir('/volumes/data')\nos.makedirs('d');open('d/secret','w').write('of the job')\n\
         os.symlink('{}','l')\nc=ctypes.CDLL(None)\nopen('ready','w').close()\n\
         while not os.path.exists('/work/stop'):\n  c.renameat2(-100,b'd',-100,b'l',2)\n",
        here.path().display()
    );
    let id = d.submit(["--volume", "data", "python3", "-c", &villain]);
    eventually("it swaps", || {
        holds(!sh(&d, &["data"], "ls /volumes/data/ready 2>/dev/null || true").is_empty())
    });
    let back = here.path().join("back");
    fs::create_dir(&back).unwrap();
    let file = here.path().join("file");
    fs::write(&file, "copied").unwrap();
    let mut came = 0;
    for _ in 0..30 {
        let out = cp(&d, &["data:d/secret", &back.display().to_string()]);
        if out.code == 0 {
            came += 1;
            assert_eq!(fs::read(back.join("secret")).unwrap(), b"of the job");
        }
        let _ = cp(&d, &[&file.display().to_string(), "data:d/canary/"]);
        cp(&d, &["data:", &back.join("all").display().to_string()]);
        if !back.join("all/d").is_symlink() && back.join("all/d/secret").exists() {
            assert_eq!(fs::read(back.join("all/d/secret")).unwrap(), b"of the job");
        }
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "nothing came to the host");
    assert!(came > 0, "it was the job's file sometimes");
    gate::open(&id, "stop");
    d.until_status(&id, "COMPLETED");
    d.rnx(["volume", "remove", "data"]).ok();
    d.stop();
}
