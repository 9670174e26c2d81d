//! The driver's files in jobs with GPUs: a library, a program and a CUDA of ours stand for the vendor's, outside the usual places.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gpus::node_among;
use super::security::{layer, layers};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::image::{Layer, Packing, layout};
use crate::helper::skip::is_root;
use crate::helper::wait::eventually;

/// A constructor tells that the library was loaded.
const LIBRARY: &str = "#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { write(1, \"driver loaded\\n\", 14); }
";

/// The files of a host: libraries in a directory of their own with links to it, a program, and CUDA.
fn host(dir: &Path) -> (PathBuf, PathBuf) {
    let (own, links, bin) = (dir.join("nvidia/lib64"), dir.join("links"), dir.join("nvidia/bin"));
    for dir in [&own, &links, &bin, &dir.join("cuda-12/bin")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(dir.join("driver.c"), LIBRARY).unwrap();
    for (file, name) in [("libcuda.so.580.1", "libcuda.so.1"), ("libother.so.1.2", "libother.so.1")] {
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", &format!("-Wl,-soname,{name}"), "-o"])
            .args([own.join(file), dir.join("driver.c")])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cc is needed: apt-get install build-essential");
        symlink(own.join(file), links.join(name)).unwrap();
    }
    fs::write(bin.join("nvidia-smi"), "#!/bin/sh\necho smi of the host\n").unwrap();
    fs::set_permissions(bin.join("nvidia-smi"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("cuda-12/version"), "cuda of the host\n").unwrap();
    symlink("cuda-12", dir.join("cuda")).unwrap();
    fs::write(dir.join("ld.so.conf"), format!("{}\n", links.display())).unwrap();
    let cached = Command::new("/sbin/ldconfig")
        .arg("-X")
        .arg("-C")
        .arg(dir.join("ld.so.cache"))
        .arg("-f")
        .arg(dir.join("ld.so.conf"))
        .status();
    assert!(cached.is_ok_and(|status| status.success()), "ldconfig is needed");
    (bin, dir.join("ld.so.cache"))
}

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    // It lives as long as the test process: the node's own directory is not known before.
    let dir = dir.keep();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let (bin, cache) = host(&dir);
    let node = node_among(
        "",
        &format!("{}:", bin.display()),
        &format!("mount --bind {} /etc/ld.so.cache", cache.display()),
    );
    node.set("gpu.cuda_paths", vec!["/no/cuda".to_owned(), dir.join("cuda").display().to_string()]);
    node.set("filesystem.allowedMounts", vec!["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"]);
    node
}

/// An image with a shell of glibc.
fn import(d: &TestDaemon) {
    let read = |path: &str| fs::read(path).unwrap();
    let libc = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let files = Layer::new()
        .directory("bin")
        .directory("lib64")
        .file("bin/sh", &read("/bin/dash"))
        .file("bin/cat", &read("/bin/cat"))
        .file("bin/ls", &read("/bin/ls"))
        .file("lib64/ld-linux-x86-64.so.2", &read("/lib64/ld-linux-x86-64.so.2"))
        .file("lib64/libc.so.6", &read(libc.unwrap()));
    let path = d.dir().join("image.tar");
    fs::write(&path, layout(&[files], r#"{"Env":["LD_LIBRARY_PATH=/lib64"]}"#, Packing::Gzip)).unwrap();
    d.rnx(["runtime", "import", "image", path.to_str().unwrap()]).ok();
}

/// Finds everything by the names that programs use, and tries to change it.
const LOOK: &str = "LD_PRELOAD=libcuda.so.1 cat /dev/null; nvidia-smi; cat $CUDA_HOME/version; \
                    echo x 2>/dev/null >/run/joblet/gpu/lib/libcuda.so.1 || echo refused; \
                    for n in /run/joblet/gpu/*/*; do echo ${n##*/}; done; echo $LD_LIBRARY_PATH";

fn check(said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    for wanted in ["driver loaded", "smi of the host", "cuda of the host", "refused", "libcuda.so.580.1"] {
        assert!(lines.contains(&wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("libother"), "a library that is none of the driver's: {said}");
}

#[test]
fn loader_finds_the_driver_in_every_root_and_start() {
    needs!(is_root() && Path::new("/bin/dash").exists(), "needs root, and dash");
    let node = node();
    node.set("joblet.warmSandboxes", 1);
    let d = node.start();
    import(&d);
    // Where a job of the same kind ran before, a warm sandbox may be ready.
    let image = ["--gpu=1", "--runtime=image"];
    let written = ["--gpu=1", "--runtime=image", "--writable"];
    for flags in [&["--gpu=1"][..], &["--gpu=1"], &["--gpu=2"], &image, &written] {
        let said = d.run([flags, &["sh", "-c", LOOK]].concat()).ok();
        check(&said);
        let is_image = flags.len() > 1;
        assert_eq!(said.contains("/lib64:/run/joblet/gpu/lib"), is_image, "{said}");
    }
    // A job without GPUs has none of it.
    let said = d.run(["sh", "-c", "ls /run/joblet; LD_PRELOAD=libcuda.so.1 cat /dev/null"]);
    assert!(!said.text().contains("driver loaded") && !said.text().contains("gpu"), "{}", said.text());
    // With it the root goes that the daemon keeps for it.
    d.rnx(["runtime", "remove", "image"]).ok();
    d.stop();
}

#[test]
fn files_of_the_driver_are_read_back_as_one_wall() {
    needs!(is_root(), "needs root");
    let d = node().start();
    let plan = d.rnx(["job", "run", "--explain", "--gpu=1", "true"]).text();
    let sentence =
        "show the driver's libraries, nvidia-smi, CUDA of the host below /run/joblet/gpu, read-only";
    assert!(plan.lines().any(|line| line == sentence), "{plan}");
    let id = d.submit(["--gpu=1", "sleep", "1000"]);
    d.until_status(&id, "RUNNING");
    let (_, layers) = eventually("it is looked at", || Some(layers(&d, &id)));
    let broken: Vec<_> = layers.iter().filter(|l| l["ok"] == false && l["unenforced"] != true).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    for place in ["mount /run/joblet/gpu", "mount /run/joblet/gpu/cuda", "mount /dev"] {
        assert_eq!(layer(&layers, place)["ok"], true, "{place}");
    }
    d.stop();
}
