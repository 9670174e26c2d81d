//! A root that its job may write: all of it in a layer of the job's own, within one bound, and nothing of the layers below changes.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use joblet::job::{Layer, Profile, Verdict};
use rustix::process::{Signal, pidfd_send_signal};

use super::profiles::{broken, layers_of};
use crate::helper::programs::job;
use crate::helper::skip::is_root;
use crate::job::{Bench, Finished, Order, WORK_BYTES};

/// Everything of a tree that a job could change: names, kinds, owners, modes, sizes, times, attributes, targets, bytes.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut names = [0u8; 4096];
        let names = rustix::fs::llistxattr(&path, &mut names[..]).map(|end| names[..end].to_vec()).unwrap();
        let content = match meta.is_file() && meta.len() < 1 << 20 {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        let to = fs::read_link(&path).ok();
        let of =
            (meta.mode(), meta.uid(), meta.gid(), meta.len(), meta.nlink(), meta.mtime_nsec(), meta.rdev());
        all.insert(path.display().to_string(), format!("{of:?} {names:?} {content:?} {to:?}"));
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}

fn write(path: &Path, text: &str, owner: u32, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A bench whose image has files of root, of a user, and of no id that a job has.
fn bench(profile: Profile) -> (Bench, std::path::PathBuf) {
    let bench = Bench::writable(profile);
    let layer = bench.image.as_ref().unwrap().layers[0].clone();
    for (name, owner, mode) in [
        ("srv/root", 0, 0o600),
        ("srv/user", 999, 0o644),
        ("srv/beyond", 70_000, 0o644),
        ("srv/gone", 0, 0o644),
        ("dir/below", 0, 0o644),
        ("var/lib/state", 0, 0o644),
        ("etc/hosts", 0, 0o644),
    ] {
        write(&layer.join(name), name, owner, mode);
    }
    fs::hard_link(layer.join("srv/root"), layer.join("srv/linked")).unwrap();
    (bench, layer)
}

fn attack(bench: &Bench, arguments: &[&str]) -> (Finished, BTreeMap<String, String>) {
    let mut order = Order::new(&[&["python3", "layers.py"], arguments].concat());
    order.files.push(("layers.py", fs::read(job("layers.py")).unwrap(), 0o755));
    let done = bench.run(&order);
    assert_eq!(done.code, Some(0), "{done:?}");
    let pair = |line: &str| line.split_once(": ").map(|(what, answer)| (what.to_owned(), answer.to_owned()));
    let answers = done.stdout.lines().filter_map(pair).collect();
    (done, answers)
}

#[test]
fn root_is_written_by_its_job_and_by_no_other() {
    needs!(is_root(), "needs root");
    for profile in Profile::ALL {
        let (bench, layer) = bench(profile);
        let before = tree(&layer);
        let script = "set -e; cd /srv; echo more >>root; cat root; rm gone; mkdir -p new/deep; echo x >new/deep/file
            ln root second; echo again >>second; cat root; chmod 640 root; stat -c '%u %a %h' root
            echo 'x:x:1:1::/:/bin/sh' >>/etc/passwd; rm /etc/hosts; echo mine >/etc/hosts; cat /etc/hosts
            echo s >>/var/lib/state; touch /var/new /top; mv /dir /moved; ls /moved; ls / /srv | tr '\\n' ' '; ls /own 2>&1 || true";
        let done = bench.shell(script);
        assert_eq!(done.code, Some(0), "{done:?}");
        let seen = "srv/rootmore\nsrv/rootmore\nagain\n0 640 2\nmine\nbelow\n";
        assert!(done.stdout.starts_with(seen), "{done:?}");
        assert!(
            done.stdout.contains(" moved ") && done.stdout.contains("ls: cannot access '/own'"),
            "{done:?}"
        );
        // Another job of the same root finds it as the image has it.
        let next = bench
            .shell("cat /srv/root /srv/gone; wc -l </etc/passwd; ls -d /srv/new /top /moved 2>&1; ls /dir");
        assert!(
            next.stdout.starts_with("srv/rootsrv/gone1\n") && next.stdout.ends_with("below\n"),
            "{next:?}"
        );
        assert_eq!(next.stdout.matches("No such file").count(), 3, "{next:?}");
        assert_eq!(tree(&layer), before);
    }
}

#[test]
fn owners_in_a_writable_root_are_those_of_the_profile() {
    needs!(is_root(), "needs root");
    let script =
        "cd /srv; stat -c '%n %u:%g' root user beyond / /etc /var /srv; for f in root user beyond; do
        { echo x >>$f; } 2>&1; rm -f $f 2>&1; done; touch own; chown 33 own 2>&1; stat -c '%n %u' own; ls";
    let [strict, container] = Profile::ALL.map(|profile| {
        let (bench, layer) = bench(profile);
        let before = tree(&layer);
        let done = bench.shell(script).stdout;
        assert_eq!(tree(&layer), before);
        done
    });
    let own = "/ 0:0\n/etc 0:0\n/var 0:0\n/srv 0:0\n";
    assert!(
        strict.starts_with(&format!("root 0:0\nuser 65534:65534\nbeyond 65534:65534\n{own}")),
        "{strict}"
    );
    assert!(
        container.starts_with(&format!("root 0:0\nuser 999:999\nbeyond 65534:65534\n{own}")),
        "{container}"
    );
    // Files of an id that the job does not have are read, and neither written nor removed.
    for (text, denied) in [(&strict, 2), (&container, 1)] {
        assert_eq!(text.matches("Permission denied").count(), denied, "{text}");
        assert_eq!(text.matches("cannot remove").count(), denied, "{text}");
    }
    assert!(strict.ends_with("not permitted\nown 0\nbeyond\ngone\nlinked\nown\nuser\n"), "{strict}");
    assert!(container.ends_with("own 33\nbeyond\ngone\nlinked\nown\n"), "{container}");
}

#[test]
fn root_and_work_have_one_bound_in_bytes_and_files() {
    needs!(is_root(), "needs root");
    for profile in Profile::ALL {
        let (bench, layer) = bench(profile);
        // One that is larger than the bound, and one that only seems so.
        fs::write(layer.join("big"), vec![1; 2 * WORK_BYTES as usize]).unwrap();
        File::create(layer.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        fs::create_dir(layer.join("many")).unwrap();
        for number in 0..2 * WORK_BYTES / 4096 {
            fs::hard_link(layer.join("srv/gone"), layer.join(format!("many/{number}"))).unwrap();
        }
        let before = tree(&layer);
        let (done, got) = attack(&bench, &["fill"]);
        for (what, wanted) in [
            ("change a big file", "ENOSPC"),
            ("its bytes are given back", "0"),
            ("write without end", "ENOSPC"),
            ("work is full too", "ENOSPC"),
            ("room again", "done"),
            ("files without end", "ENOSPC"),
            ("no file in work", "ENOSPC"),
            ("links without end", "ENOSPC"),
            ("reserve without end", "ENOSPC"),
            ("directories without end", "ENOSPC"),
            ("whiteouts without end", "ENOSPC"),
        ] {
            assert_eq!(got.get(what).map(String::as_str), Some(wanted), "{profile:?} {what}: {done:?}");
        }
        let number = |what: &str| got[what].parse::<u64>().unwrap();
        assert!(number("bytes") <= WORK_BYTES && number("bytes") > WORK_BYTES / 2, "{done:?}");
        assert!(number("files") <= WORK_BYTES / 4096, "{done:?}");
        assert!(
            number("bytes of a sparse file") < 1 << 20 && number("bytes of a hole") < 1 << 20,
            "{done:?}"
        );
        assert!(number("deep") > 1000, "{done:?}");
        assert_eq!(tree(&layer), before);
    }
}

#[test]
fn attributes_and_whiteouts_of_overlayfs_are_out_of_reach() {
    needs!(is_root(), "needs root");
    for profile in Profile::ALL {
        let (bench, layer) = bench(profile);
        let before = tree(&layer);
        let (done, got) = attack(&bench, &["attributes"]);
        for (what, wanted) in [
            ("a whiteout of its own", "EPERM"),
            ("a device", "EPERM"),
            ("trusted.overlay.redirect", "EPERM"),
            ("trusted.overlay.opaque", "EPERM"),
            ("trusted.overlay.metacopy", "EPERM"),
            ("trusted.overlay.origin", "EPERM"),
            ("trusted.overlay.overlay.opaque", "EPERM"),
            ("attributes that show", "[]"),
            ("user.overlay means nothing", "below"),
            ("user.overlay leads nowhere", "0"),
            ("rename a directory of the image", "EXDEV"),
            ("rename a mount point", "EBUSY"),
            ("remove a mount point", "EBUSY"),
            ("change a device", "EROFS"),
            ("write to what hides /proc", "EROFS"),
            ("link across to work", "EXDEV"),
            ("the upper layer by its path", "ENOENT"),
            ("another overlay", "EPERM"),
            ("remount", "EPERM"),
            ("a file by its handle", "EPERM"),
            ("paths of the host", "[]"),
            ("flush", "done"),
        ] {
            assert_eq!(got.get(what).map(String::as_str), Some(wanted), "{profile:?} {what}: {done:?}");
        }
        assert_eq!(tree(&layer), before);
    }
}

#[test]
fn files_of_a_job_belong_to_its_ids_whatever_it_tries() {
    needs!(is_root(), "needs root");
    for profile in Profile::ALL {
        let (bench, layer) = bench(profile);
        let before = tree(&layer);
        let mut order = Order::new(&["python3", "layers.py", "owners"]);
        order.files.push(("layers.py", fs::read(job("layers.py")).unwrap(), 0o755));
        let attack = bench.start(&order);
        let mut refused = 0;
        let made = loop {
            let line = attack.line();
            if let Some(made) = line.strip_prefix("made: ") {
                break made.to_owned();
            }
            let (what, answer) = line.split_once(": ").unwrap();
            let may = what.ends_with(" away");
            let is_its = !profile.is_strict() || what.ends_with(" give f away");
            assert_eq!(answer == "done", may && is_its, "{profile:?} {line}");
            refused += usize::from(answer != "done");
        };
        assert!(refused >= 12, "{refused}");
        // While it lasts, as the host sees it.
        let root = format!("/proc/{}/root", attack.started.init.pid);
        for path in made.split(' ') {
            let path = format!("{root}{path}");
            let meta = fs::symlink_metadata(&path).unwrap();
            let ids = bench.ground.ids();
            assert!(ids.contains(&meta.uid()) && ids.contains(&meta.gid()), "{path}: {meta:?}");
            let mut value = [0u8; 64];
            assert!(rustix::fs::lgetxattr(&path, "security.capability", &mut value[..]).is_err(), "{path}");
        }
        assert_eq!(broken(&bench), Vec::new());
        assert_eq!(tree(&layer), before);
        pidfd_send_signal(&attack.started.init.pidfd, Signal::KILL).unwrap();
        attack.wait();
    }
}

#[test]
fn read_back_knows_which_root_may_be_written() {
    needs!(is_root(), "needs root");
    for mut bench in Profile::ALL.map(Bench::writable) {
        let running = bench.start(&Order::new(&["sleep", "1000"]));
        assert_eq!(broken(&bench), Vec::new());
        let image = bench.image.take();
        let found: Vec<Layer> =
            layers_of(&bench).into_iter().filter(|layer| layer.verdict == Verdict::Broken).collect();
        assert!(found.len() == 1 && found[0].name == "mount /", "{found:?}");
        bench.image = image;
        pidfd_send_signal(&running.started.init.pidfd, Signal::KILL).unwrap();
        running.wait();
    }
}
