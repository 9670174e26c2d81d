//! Writing into directories that others prepared, or change meanwhile.

use super::*;
use crate::upload::{LinkRoots, check};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory to write into, beside another one that must stay as it is.
struct Place {
    dir: tempfile::TempDir,
    work: File,
}

const OUTSIDE: &str = "the host's";

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::create_dir(dir.path().join("host")).unwrap();
        fs::write(dir.path().join("host/passwd"), OUTSIDE).unwrap();
        let work = File::open(dir.path().join("work")).unwrap();
        Place { dir, work }
    }

    fn work(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("work").join(path)
    }

    fn host(&self) -> std::path::PathBuf {
        self.dir.path().join("host")
    }

    fn write(&self, uploads: &[Upload]) -> Result<Written, UploadError> {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        write_beneath(self.work.as_fd(), uploads, uid.as_raw(), gid.as_raw())
    }

    fn assert_host_unchanged(&self) {
        assert_eq!(fs::read_dir(self.host()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(self.host().join("passwd")).unwrap(), OUTSIDE);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
    }
}

fn file(path: &str, content: &str) -> Upload {
    Upload { path: path.into(), content: content.into(), ..Upload::default() }
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_and_directories_are_written_with_their_modes() {
    let place = Place::new();
    let uploads = [
        file("plain", "1"),
        Upload { mode: 0o755, ..file("bin/run.sh", "22") },
        Upload { mode: 0o6777, ..file("setuid", "") },
        Upload { path: "private".into(), mode: 0o40700, is_directory: true, ..Upload::default() },
        Upload { path: "a/b/empty".into(), is_directory: true, ..Upload::default() },
        file("private/inside", "333"),
    ];
    check(&uploads, &LinkRoots::default()).unwrap();
    assert_eq!(place.write(&uploads).unwrap(), Written { files: 4, bytes: 6 });
    assert_eq!(fs::read_to_string(place.work("private/inside")).unwrap(), "333");
    let modes = ["plain", "bin", "bin/run.sh", "setuid", "private", "a", "a/b", "a/b/empty"];
    assert_eq!(
        modes.map(|path| mode_of(&place.work(path))),
        [0o644, 0o755, 0o755, 0o777, 0o700, 0o755, 0o755, 0o755]
    );
}

#[test]
fn everything_written_belongs_to_the_job() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to give files away");
        return;
    }
    let place = Place::new();
    let directory = Upload { path: "d".into(), is_directory: true, ..Upload::default() };
    write_beneath(place.work.as_fd(), &[file("p/q/f", "x"), directory], 1_879_048_192, 1_879_048_193)
        .unwrap();
    for path in ["p", "p/q", "p/q/f", "d"] {
        let meta = fs::metadata(place.work(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1_879_048_192, 1_879_048_193), "{path}");
    }
}

#[test]
fn a_later_file_of_the_same_path_replaces_the_earlier() {
    let place = Place::new();
    let second = Upload { mode: 0o600, ..file("f", "2") };
    place.write(&[Upload { mode: 0o755, ..file("f", "first") }, second]).unwrap();
    assert_eq!(fs::read_to_string(place.work("f")).unwrap(), "2");
    assert_eq!(mode_of(&place.work("f")), 0o600);
}

#[test]
fn symlinks_in_the_way_are_refused() {
    let place = Place::new();
    symlink(place.host(), place.work("out")).unwrap();
    symlink("../host", place.work("relative")).unwrap();
    symlink(".", place.work("inside")).unwrap();
    symlink(place.host().join("passwd"), place.work("leaf")).unwrap();
    symlink("/proc/self/cwd", place.work("magic")).unwrap();
    let directory = |path: &str| Upload { path: path.into(), is_directory: true, ..Upload::default() };
    for bad in ["out/x", "out/passwd", "relative/x", "inside/x", "leaf", "out", "magic/x", "out/a/b/c"] {
        for upload in [file(bad, "evil"), directory(bad)] {
            let error = place.write(&[upload]).unwrap_err();
            assert!(matches!(error, UploadError::Write { .. }), "{bad}: {error}");
            assert!(error.to_string().contains(&format!("\"{bad}\"")), "{error}");
        }
        place.assert_host_unchanged();
    }
}

#[test]
fn links_are_made_as_sent_and_never_followed() {
    let place = Place::new();
    let link = |path: &str, target: &str| Upload { target: Some(target.into()), ..file(path, "") };
    let host = place.host().display().to_string();
    // The rule of targets is not looked at here: even these are only made.
    let sent =
        [("tool/bin", "../lib/x"), ("out", host.as_str()), ("f", "first"), ("f", "second"), ("loop", "loop")];
    let uploads: Vec<_> = sent.iter().map(|(path, target)| link(path, target)).collect();
    assert_eq!(place.write(&uploads).unwrap(), Written::default());
    for (path, target) in [sent[0], sent[1], sent[3], sent[4]] {
        assert_eq!(fs::read_link(place.work(path)).unwrap(), Path::new(target));
    }
    for behind in ["out/x", "out/passwd", "f", "loop/x"] {
        assert!(place.write(&[file(behind, "evil")]).is_err(), "{behind}");
    }
    assert!(place.write(&[link("out/x", "y")]).is_err() && place.write(&[link("tool", "y")]).is_err());
    place.assert_host_unchanged();
}

#[test]
fn names_that_are_not_utf_8_are_written_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let name = b"caf\xe9/\xff\xfe";
    place.write(&[Upload { path: name.to_vec(), ..file("", "bytes") }]).unwrap();
    let path = place.dir.path().join("work").join(std::ffi::OsStr::from_bytes(name));
    assert_eq!(fs::read_to_string(path).unwrap(), "bytes");
}

#[test]
fn unchecked_paths_do_not_leave_the_directory_either() {
    let place = Place::new();
    let absolute = place.host().join("x").display().to_string();
    for bad in ["../host/x", "..", "a/../../host/x", "/etc/joblet-test", absolute.as_str(), "", "."] {
        assert!(check(&[file(bad, "evil")], &LinkRoots::default()).is_err());
        assert!(place.write(&[file(bad, "evil")]).is_err(), "{bad:?}");
    }
    place.assert_host_unchanged();
}

#[test]
fn hard_link_in_the_way_is_replaced_and_its_other_name_kept() {
    let place = Place::new();
    fs::hard_link(place.host().join("passwd"), place.work("f")).unwrap();
    place.write(&[file("f", "new")]).unwrap();
    assert_eq!(fs::read_to_string(place.work("f")).unwrap(), "new");
    place.assert_host_unchanged();
}

#[test]
fn fifos_and_directories_in_the_way_are_refused_at_once() {
    let place = Place::new();
    rustix::fs::mkfifoat(CWD, place.work("fifo"), Mode::RWXU).unwrap();
    fs::create_dir(place.work("dir")).unwrap();
    for bad in ["fifo", "dir", "fifo/x"] {
        assert!(place.write(&[file(bad, "x")]).is_err(), "{bad}");
    }
}

#[test]
fn directory_swapped_for_a_symlink_meanwhile_leads_nowhere() {
    let place = Place::new();
    let (real, link) = (place.work("a"), place.work("link"));
    fs::create_dir(&real).unwrap();
    symlink(place.host(), &link).unwrap();
    let done = AtomicBool::new(false);
    let (mut through, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Until both were seen often, so that the race took place; a bound in case one never comes.
        for n in 0..200_000 {
            match place.write(&[file(&format!("a/f{}", n % 7), "evil"), file("a/passwd", "evil")]) {
                Ok(_) => through += 1,
                Err(_) => refused += 1,
            }
            if through > 200 && refused > 200 {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(through > 0 && refused > 0, "{through} written, {refused} refused");
    place.assert_host_unchanged();
}

#[test]
fn full_directory_error_gives_the_upload_size_and_the_quota() {
    let place = Place::new();
    let uploads = [file("a", "12345"), file("b", "678")];
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let text = explain(place.work.as_fd(), 8, 2, &uploads[1], errno.into()).to_string();
        assert!(text.starts_with("/work is full: 8 bytes of uploads, quota "), "{text}");
    }
    let other = explain(place.work.as_fd(), 8, 2, &uploads[1], Errno::IO.into()).to_string();
    assert!(other.starts_with("cannot write upload \"b\" below /work: "), "{other}");
}
