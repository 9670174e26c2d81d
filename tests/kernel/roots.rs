//! Roots of runtimes: what an image says about its own paths leads no mount astray, and the walls are those of every job.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use joblet::sandbox::{RuntimeMount, RuntimeRoot};

use crate::helper::skip::{is_root, static_busybox};
use crate::job::{Bench, Finished, Order};

/// A layer with a shell.
fn layer(dir: &Path, name: &str) -> PathBuf {
    let layer = dir.join(name);
    fs::create_dir_all(layer.join("bin")).unwrap();
    layer
}

fn with_shell(dir: &Path, name: &str) -> PathBuf {
    let layer = layer(dir, name);
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for applet in
        ["sh", "cat", "ls", "test", "readlink", "id", "stat", "touch", "mkdir", "echo", "head", "true"]
    {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    layer
}

fn image(layers: &[&Path]) -> RuntimeRoot {
    RuntimeRoot {
        name: "image@1.0.0".into(),
        generation: 1,
        over_host: false,
        layers: layers.iter().map(|layer| layer.to_path_buf()).collect(),
        mounts: Vec::new(),
    }
}

fn mount(dir: &Path, source: &str, target: &str) -> RuntimeMount {
    RuntimeMount { dir: dir.to_owned(), source: source.into(), target: target.into() }
}

fn sh(bench: &Bench, root: &RuntimeRoot, script: &str) -> Finished {
    sh_in(bench, root, script, false)
}

fn sh_in(bench: &Bench, root: &RuntimeRoot, script: &str, writable: bool) -> Finished {
    bench.run(&Order { root: Some(root.clone()), writable, ..Order::new(&["/bin/sh", "-c", script]) })
}

/// The mount points of a job and their types, without those that differ from kernel to kernel.
fn mounts(done: &Finished) -> BTreeMap<String, String> {
    let one = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = left.split(' ').nth(4)?;
        Some((at.to_owned(), right.split(' ').next()?.to_owned()))
    };
    done.stdout.lines().filter_map(one).filter(|(at, _)| !at.starts_with("/proc/")).collect()
}

#[test]
fn layers_of_an_image_are_one_read_only_root() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    for bench in Bench::each() {
        let dir = &bench.ground.dir;
        let (bottom, middle, top) = (with_shell(dir, "bottom"), layer(dir, "middle"), layer(dir, "top"));
        for (layer, file, text) in
            [(&bottom, "a", "1"), (&bottom, "gone", "1"), (&middle, "a", "2"), (&top, "c", "3")]
        {
            fs::write(layer.join(file), text).unwrap();
        }
        for (layer, file) in [(&bottom, "d/hidden"), (&middle, "d/shown")] {
            fs::create_dir_all(layer.join("d")).unwrap();
            fs::write(layer.join(file), "").unwrap();
        }
        let opaque = rustix::fs::setxattr(
            middle.join("d"),
            "trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        );
        opaque.unwrap();
        let whiteout = rustix::fs::makedev(0, 0);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
        rustix::fs::mknodat(rustix::fs::CWD, top.join("gone"), kind, mode, whiteout).unwrap();
        fs::create_dir_all(bottom.join("etc")).unwrap();
        fs::write(bottom.join("etc/os-release"), "ID=image\n").unwrap();
        fs::write(bottom.join("etc/hosts"), "of the image").unwrap();
        let script = "cat /a /c /etc/os-release; ls /gone 2>&1; ls /d; head -n 1 /etc/hosts; cat /etc/passwd | head -n 1; \
                      touch /x 2>&1; ls /usr 2>&1; cat /proc/self/mountinfo";
        let done = sh(&bench, &image(&[&top, &middle, &bottom]), script);
        for part in [
            "23ID=image",
            "/gone: No such file",
            "shown",
            "127.0.0.1",
            "root:x:0:0",
            "Read-only file system",
            "/usr: No such file",
        ] {
            assert!(done.stdout.contains(part), "{part:?} is not in {done:?}");
        }
        assert!(!done.stdout.contains("hidden") && !done.stdout.contains("of the image"), "{done:?}");
        assert_eq!(mounts(&done)["/"], "overlay");
    }
}

/// CVE-2019-19921, CVE-2021-30465, CVE-2023-27561 and CVE-2025-31133 led mounts of a runtime through links of its image.
#[test]
fn links_of_an_image_lead_no_mount_astray() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    for (bench, writable) in Bench::each().zip([false; 2]).chain(Bench::each().zip([true; 2])) {
        let dir = &bench.ground.dir;
        let sh = |bench: &Bench, root: &RuntimeRoot, script: &str| sh_in(bench, root, script, writable);
        let plain = mounts(&sh(&bench, &image(&[&with_shell(dir, "plain")]), "cat /proc/self/mountinfo"));
        for at in ["/dev", "/proc", "/tmp", "/work", "/run", "/dev/pts", "/dev/shm", "/sys/fs/cgroup"] {
            assert!(plain.contains_key(at), "{at} is not in {plain:?}");
        }
        let own = ["dev", "proc", "sys", "tmp", "work", "run", "volumes", "etc", "var"];
        let bait = dir.join("bait");
        fs::create_dir_all(bait.join("pts")).unwrap();
        for to in ["/etc", "..", "/bin", bait.to_str().unwrap(), "/nowhere"] {
            let layer = with_shell(dir, &format!("links-{}", to.replace('/', "-")));
            own.iter().for_each(|name| symlink(to, layer.join(name)).unwrap());
            let script = "cat /proc/self/mountinfo; for d in dev proc sys tmp work run volumes etc var; do \
                          test -d /$d -a ! -L /$d || echo $d is no directory; done; head -n 1 /etc/hosts >/dev/null || echo no hosts";
            let done = sh(&bench, &image(&[&layer]), script);
            assert_eq!(mounts(&done), plain, "{to}: {done:?}");
            assert!(
                !done.stdout.contains("is no directory") && !done.stdout.contains("no hosts"),
                "{to}: {done:?}"
            );
        }
        assert_eq!(fs::read_dir(&bait).unwrap().count(), 1, "nothing was made behind a link");
        // Within the directories, and files in the place of directories.
        let layer = with_shell(dir, "within");
        for below in ["dev", "etc", "var", "sys/fs", "proc"] {
            fs::create_dir_all(layer.join(below)).unwrap();
        }
        for (name, to) in [
            ("dev/null", "/etc/passwd"),
            ("dev/pts", "/etc"),
            ("dev/ptmx", "/proc/1/mem"),
            ("dev/console", "/proc/sysrq-trigger"),
            ("dev/fd", "/etc"),
            ("dev/shm", ".."),
            ("etc/hosts", "../../../../etc/passwd"),
            ("etc/resolv.conf", "/proc/self/environ"),
            ("etc/hostname", "/dev/null"),
            ("etc/mtab", "/"),
            ("var/empty", "/bin"),
            ("var/run", "/etc"),
            ("var/tmp", "/etc"),
            ("sys/fs/cgroup", "/etc"),
        ] {
            symlink(to, layer.join(name)).unwrap();
        }
        fs::write(layer.join("tmp"), "a file").unwrap();
        fs::write(layer.join("run"), "a file").unwrap();
        let script = "cat /proc/self/mountinfo; stat -c '%n %t:%T' /dev/null; readlink /etc/hosts; readlink /var/run; ls -A /var/empty";
        let done = sh(&bench, &image(&[&layer]), script);
        assert_eq!(mounts(&done), plain, "{done:?}");
        assert!(done.stdout.ends_with("/dev/null 1:3\n/run/hosts\n/run\n"), "{done:?}");
    }
}

#[test]
fn parts_of_a_runtime_lie_over_the_paths_of_the_host() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let dir = bench.ground.dir.join("runtime");
    fs::create_dir_all(dir.join("tools/bin")).unwrap();
    fs::write(dir.join("tools/bin/hello"), "#!/bin/sh\necho hello from $0\n").unwrap();
    fs::set_permissions(dir.join("tools/bin/hello"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("one.conf"), "one\n").unwrap();
    let over_host = RuntimeRoot {
        name: "tools@1.0.0".into(),
        generation: 1,
        over_host: true,
        layers: Vec::new(),
        mounts: vec![mount(&dir, "tools", "/opt/tools"), mount(&dir, "one.conf", "/opt/one.conf")],
    };
    let done = sh(
        &bench,
        &over_host,
        "/opt/tools/bin/hello; cat /opt/one.conf; touch /opt/tools/x 2>&1; ls /usr/bin/env",
    );
    assert!(done.stdout.starts_with("hello from /opt/tools/bin/hello\none\n"), "{done:?}");
    assert!(
        done.stdout.contains("Read-only file system") && done.stdout.ends_with("/usr/bin/env\n"),
        "{done:?}"
    );
    // The host's own root is as it was.
    assert!(bench.shell("ls /opt/tools 2>&1").stdout.contains("No such file"));
}

#[test]
fn mount_within_a_link_of_a_runtime_is_refused() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let dir = bench.ground.dir.join("runtime");
        fs::create_dir_all(dir.join("outer/real")).unwrap();
        fs::create_dir_all(dir.join("inner")).unwrap();
        symlink("/etc", dir.join("outer/link")).unwrap();
        symlink("inner", dir.join("elsewhere")).unwrap();
        let root = |mounts: Vec<RuntimeMount>| RuntimeRoot {
            name: "links@1.0.0".into(),
            generation: 1,
            over_host: true,
            layers: Vec::new(),
            mounts,
        };
        let outer = || mount(&dir, "outer", "/opt");
        let refused = |mounts: Vec<RuntimeMount>| {
            let order = Order { root: Some(root(mounts)), ..Order::new(&["true"]) };
            bench.try_start(&order).map(drop).expect_err("it does not start").to_string()
        };
        for (mounts, why) in [
            (vec![outer(), mount(&dir, "inner", "/opt/link")], "reached without links"),
            (vec![outer(), mount(&dir, "inner", "/opt/link/sub")], "reached without links"),
            (vec![outer(), mount(&dir, "inner", "/opt/missing")], "reached without links"),
            (vec![mount(&dir, "elsewhere", "/opt/x")], "show elsewhere"),
            (vec![mount(&dir, "../runtime/inner", "/opt/x")], "show ../runtime/inner"),
            (vec![mount(&dir, "inner", "/usr/no-such-place")], "reached without links"),
        ] {
            let said = refused(mounts);
            assert!(said.contains(why), "{why:?} is not in {said}");
        }
        let order = Order {
            root: Some(root(vec![outer(), mount(&dir, "inner", "/opt/real")])),
            ..Order::new(&["sh", "-c", "ls -d /opt/real"])
        };
        assert_eq!(bench.run(&order).stdout, "/opt/real\n");
    }
}

#[test]
fn walls_in_a_runtime_are_those_of_every_job() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let dir = bench.ground.dir.join("runtime");
        fs::create_dir_all(dir.join("files")).unwrap();
        let root = RuntimeRoot {
            name: "walls@1.0.0".into(),
            generation: 1,
            over_host: true,
            layers: Vec::new(),
            mounts: vec![mount(&dir, "files", "/opt/files")],
        };
        for chapter in ["self", "devices", "ways-out", "signals", "init"] {
            let order = Order::program("probe", &[chapter]);
            let plain = bench.run(&order);
            let inside = bench.run(&Order { root: Some(root.clone()), ..order });
            assert_eq!((inside.code, &inside.stdout), (plain.code, &plain.stdout), "{chapter}");
        }
    }
}
