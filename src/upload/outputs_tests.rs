//! Trees that a hostile job leaves, and what becomes of them.

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Places {
    _dir: tempfile::TempDir,
    work: PathBuf,
    kept: PathBuf,
    next: PathBuf,
}

impl Places {
    fn new() -> Places {
        let dir = tempfile::tempdir().unwrap();
        let [work, kept, next] = ["work", "kept/0-0", "next"].map(|name| dir.path().join(name));
        fs::create_dir(&work).unwrap();
        fs::create_dir(&next).unwrap();
        Places { _dir: dir, work, kept, next }
    }

    fn collect(&self, paths: &[&str], most: u64) -> Result<u64, String> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        collect(File::open(&self.work).unwrap().as_fd(), &paths, &self.kept, &AtomicU64::new(most)).result
    }

    fn give(&self, wanted: &[&str], below: &str) -> Result<Written, UploadError> {
        let wanted: Vec<String> = wanted.iter().map(|path| (*path).to_owned()).collect();
        let owner = fs::metadata(&self.next).unwrap().uid();
        let input = Input { job: "a", from: self.kept.clone(), wanted: &wanted, below: below.into() };
        give(File::open(&self.next).unwrap().as_fd(), &input, owner)
    }
}

#[test]
fn files_and_modes_arrive_as_they_were_left() {
    let p = Places::new();
    fs::create_dir_all(p.work.join("data/deep")).unwrap();
    fs::write(p.work.join("data/deep/rows"), vec![7; 10_000]).unwrap();
    fs::write(p.work.join("data/empty"), "").unwrap();
    fs::write(p.work.join("tool"), "#!/bin/sh").unwrap();
    fs::set_permissions(p.work.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(p.work.join("other"), "not asked for").unwrap();
    assert_eq!(p.collect(&["./data/", "tool"], 1 << 20).unwrap(), 10_009);
    assert_eq!(kept_bytes(&p.kept), 10_009);
    let written = p.give(&["data", "tool"], "a/0").unwrap();
    assert_eq!((written.files, written.bytes), (3, 10_009));
    assert_eq!(fs::read(p.next.join("a/0/data/deep/rows")).unwrap(), vec![7; 10_000]);
    assert_eq!(fs::metadata(p.next.join("a/0/tool")).unwrap().mode() & 0o7777, 0o755);
    assert!(!p.next.join("a/0/other").exists());
    assert!(p.give(&["data/gone"], "").unwrap_err().to_string().contains("did not leave"));
    let manifest = fs::read_to_string(p.kept.join("manifest")).unwrap();
    let sha = openssl::sha::sha256(&[7; 10_000]).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(manifest.contains(&sha), "{manifest}");
}

#[test]
fn links_pipes_and_sockets_are_left_out_and_never_followed() {
    let p = Places::new();
    fs::create_dir(p.work.join("out")).unwrap();
    symlink("/etc/passwd", p.work.join("out/passwd")).unwrap();
    symlink("/etc", p.work.join("etc")).unwrap();
    symlink("../work", p.work.join("out/loop")).unwrap();
    mknodat(CWD, p.work.join("out/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(p.work.join("out/socket")).unwrap();
    fs::write(p.work.join("out/file"), "x").unwrap();
    assert_eq!(p.collect(&["out"], 1 << 20).unwrap(), 1);
    let manifest: Manifest = read(&p.kept).unwrap();
    let mut left = manifest.left_out.clone();
    left.sort();
    assert_eq!(left, ["out/loop", "out/passwd", "out/pipe", "out/socket"]);
    for bad in ["etc", "etc/passwd", "out/passwd"] {
        let why = p.collect(&[bad], 1 << 20).unwrap_err();
        assert!(why.contains("links are not followed"), "{bad}: {why}");
        let told = p.give(&[bad], "").unwrap_err().to_string();
        assert!(told.contains("links are not followed"), "the reason is kept: {told}");
    }
    assert!(p.collect(&["gone"], 1).unwrap_err().contains("is not there"));
}

#[test]
fn sparse_deep_and_countless_files_are_refused_unread() {
    let p = Places::new();
    File::create(p.work.join("sparse")).unwrap().set_len(4 << 40).unwrap();
    assert!(p.collect(&["sparse"], 1 << 30).unwrap_err().contains("workflow.maxOutputBytes"));
    let mut deep = p.work.join("deep");
    for _ in 0..70 {
        fs::create_dir(&deep).unwrap();
        deep = deep.join("d");
    }
    assert!(p.collect(&["deep"], 1 << 30).unwrap_err().contains("nested deeper"));
    fs::create_dir(p.work.join("many")).unwrap();
    for n in 0..=MOST_ENTRIES {
        File::create(p.work.join(format!("many/{n}"))).unwrap();
    }
    assert!(p.collect(&["many"], 1 << 30).unwrap_err().contains("files and directories"));
    assert_eq!(kept_bytes(&p.kept), 0);
}

#[test]
fn collection_that_was_not_finished_holds_nothing() {
    let p = Places::new();
    fs::write(p.work.join("f"), "half").unwrap();
    p.collect(&["f"], 10).unwrap();
    fs::remove_file(p.kept.join("manifest")).unwrap();
    assert!(p.give(&["f"], "").is_err());
    p.collect(&["f"], 10).unwrap();
    assert_eq!(p.give(&["f"], "").unwrap().bytes, 4);
}

#[test]
fn jobs_of_a_workflow_share_one_room() {
    let p = Places::new();
    fs::write(p.work.join("a"), "12345").unwrap();
    fs::write(p.work.join("b"), "1234567890").unwrap();
    let (work, room) = (File::open(&p.work).unwrap(), AtomicU64::new(12));
    let take = |paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        collect(work.as_fd(), &paths, &p.kept, &room)
    };
    assert_eq!((take(&["a"]).result, room.load(Ordering::SeqCst)), (Ok(5), 7));
    let none = take(&["a", "b"]);
    assert!(none.freed == 5 && none.result.is_err(), "{none:?}");
    assert_eq!(room.load(Ordering::SeqCst), 12, "what is not kept is given back");
    let other = p.kept.with_file_name("0-1");
    assert_eq!(collect(work.as_fd(), &["b".to_owned()], &other, &room).result, Ok(10));
    assert!(take(&["a"]).result.is_err());
}

/// A job that was tried three times took three times its bytes.
#[test]
fn later_attempt_counts_in_place_of_the_one_before() {
    let p = Places::new();
    fs::write(p.work.join("a"), "12345").unwrap();
    let (work, room) = (File::open(&p.work).unwrap(), AtomicU64::new(12));
    for attempt in 0..4 {
        let freed = if attempt == 0 { 0 } else { 5 };
        let taken = collect(work.as_fd(), &["a".to_owned()], &p.kept, &room);
        assert_eq!(taken, Collected { freed, result: Ok(5) });
        assert_eq!((room.load(Ordering::SeqCst), kept_bytes(&p.kept)), (7, 5));
    }
}
