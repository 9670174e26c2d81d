//! Uploads whose paths lead outside of the work directory.

use crate::helper::profile::has_containers;
use crate::helper::{TestDaemon, residue};
use joblet::pb::joblet::{FileUpload, RunJobRequest};

fn upload(path: &str) -> FileUpload {
    FileUpload { path: path.to_owned(), content: b"hostile".to_vec(), mode: 0o644, ..Default::default() }
}

fn run(
    d: &TestDaemon,
    uploads: Vec<FileUpload>,
) -> Result<joblet::pb::joblet::RunJobResponse, grpcio::Error> {
    let args = vec!["-c".to_owned(), "find . | sort".to_owned()];
    let profile = if has_containers() { "container" } else { "" }.to_owned();
    let request = RunJobRequest { command: "sh".to_owned(), args, uploads, profile, ..Default::default() };
    d.client("default").run_job(&request)
}

#[test]
pub(super) fn path_out_of_work_is_refused_by_name_and_nothing_is_written() {
    let d = TestDaemon::with([("joblet.warmSandboxes", 0)]);
    let long = format!("{}x", "x/".repeat(2100));
    for bad in ["../x", "/etc/joblet-test", "a/../../x", "a/..", "..", "..\\x", "", "x\0y", &long] {
        let error = run(&d, vec![upload("fine"), upload(bad)]).expect_err(&format!("{bad:?} was taken"));
        let grpcio::Error::RpcFailure(status) = error else { panic!("{bad:?}: {error}") };
        assert_eq!(status.code(), grpcio::RpcStatusCode::INVALID_ARGUMENT, "{bad:?}: {}", status.message());
        // The message shows the path escaped, and leaves out an empty one.
        let shown = bad.split('\0').next().unwrap().escape_debug().to_string();
        let names = bad.len() > 100 || status.message().contains(&shown);
        assert!(names, "does not name {bad:?}: {}", status.message());
    }
    assert!(!std::path::Path::new("/etc/joblet-test").exists());
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]", "nothing of it may become a job");
    assert_eq!(residue::run_files(d.dir()), Vec::<std::path::PathBuf>::new());
}

#[test]
pub(super) fn file_cannot_be_a_directory_too_and_the_last_duplicate_wins() {
    let d = TestDaemon::start();
    let clash = run(&d, vec![upload("a"), upload("a/b")]);
    if let Ok(started) = &clash {
        // The daemon finds this while it writes: the job failed and never ran.
        d.until_status(&started.jobUuid, "FAILED");
    }
    let twice = vec![
        FileUpload { content: b"first".to_vec(), ..upload("f") },
        FileUpload { content: b"second".to_vec(), ..upload("f") },
    ];
    let request = RunJobRequest {
        command: "cat".to_owned(),
        args: vec!["f".to_owned()],
        uploads: twice,
        ..Default::default()
    };
    let id = d.client("default").run_job(&request).unwrap().jobUuid;
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "second");
}

#[test]
fn odd_but_harmless_paths_stay_below_work() {
    let d = TestDaemon::start();
    let odd = vec![upload("x\\y"), upload("...."), upload("a b/c\nd"), upload("ä")];
    let id = run(&d, odd).unwrap().jobUuid;
    let text = d.rnx(["job", "log", &id]).ok();
    assert!(text.contains("./x\\y\n") && text.contains("./....\n") && text.contains("./ä\n"), "{text}");
}

#[test]
fn go_file_modes_are_masked_and_no_mode_is_a_sane_one() {
    let d = TestDaemon::start();
    let uploads = vec![
        FileUpload { mode: 0x8000_0000 | 0o755, isDirectory: true, content: Vec::new(), ..upload("dir") },
        FileUpload { mode: 0o4755, ..upload("setuid") },
        FileUpload { mode: 0, ..upload("zero") },
    ];
    let args =
        vec!["-c".to_owned(), "%a %n".to_owned(), "dir".to_owned(), "setuid".to_owned(), "zero".to_owned()];
    let request = RunJobRequest { command: "stat".to_owned(), args, uploads, ..Default::default() };
    let id = d.client("default").run_job(&request).unwrap().jobUuid;
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "755 dir\n755 setuid\n644 zero\n");
}

#[test]
fn rnx_sends_no_symlink_that_leads_out_of_the_tree() {
    let d = TestDaemon::start();
    let tree = d.dir().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let secret = d.dir().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    std::os::unix::fs::symlink(&secret, tree.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", tree.join("relative")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", tree.join("system")).unwrap();
    std::fs::write(tree.join("file"), "x").unwrap();
    // The last one stays a link, to a file that the job does not have.
    let out = d.run(["--upload-dir=tree", "sh", "-c", "ls; cat system 2>/dev/null"]);
    assert_eq!((out.code, out.text().as_str()), (1, "file\nsystem\n"), "{}", out.stderr);
    for link in ["absolute", "relative"] {
        let warning = format!("warning: left out {link}: a symlink that leads out of the directory");
        assert!(out.stderr.contains(&warning), "{}", out.stderr);
    }
}

#[test]
pub(super) fn links_and_odd_names_of_a_tree_arrive_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let d = TestDaemon::start();
    let tree = d.dir().join("tree");
    std::fs::create_dir_all(tree.join("node_modules/.bin")).unwrap();
    std::fs::create_dir(tree.join("node_modules/tool")).unwrap();
    std::fs::write(tree.join("node_modules/tool/cli.js"), "#!/bin/sh\necho tool\n").unwrap();
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tree.join("node_modules/tool/cli.js"), runs).unwrap();
    let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, tree.join(path)).unwrap();
    link("../tool/cli.js", "node_modules/.bin/tool");
    link("/bin/sh", "shell");
    link("node_modules/tool", "short");
    link("missing", "dangling");
    std::fs::write(tree.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "odd").unwrap();
    let script =
        "node_modules/.bin/tool; readlink node_modules/.bin/tool shell dangling; ./shell -c 'cat caf*'; pwd";
    // The working directory is behind a link, which only the job follows.
    for flags in [&["--upload-dir=tree"][..], &["--upload-dir=tree", "--schedule=1s"]] {
        let out = d.run(flags.iter().copied().chain(["sh", "-c", script]));
        assert_eq!(out.ok(), "tool\n../tool/cli.js\n/bin/sh\nmissing\nodd/work\n", "{}", out.stderr);
        assert_eq!(out.stderr, "");
    }
    assert_eq!(d.run(["--upload-dir=tree", "--workdir=short", "./cli.js"]).ok(), "tool\n");
    assert_eq!(d.run(["--upload=tree", "sh", "-c", "tree/node_modules/.bin/tool"]).ok(), "tool\n");
}

#[test]
pub(super) fn link_out_of_work_is_refused_by_name() {
    let d = TestDaemon::start();
    for (path, target) in
        [("l", "/root/x"), ("l", "../x"), ("a/l", "../../x"), ("l", "/usr/../etc/shadow"), ("l", "/")]
    {
        let link = FileUpload { symlink_target: target.into(), content: Vec::new(), ..upload(path) };
        let error = run(&d, vec![link]).expect_err(target);
        let grpcio::Error::RpcFailure(status) = error else { panic!("{target}: {error}") };
        assert_eq!(status.code(), grpcio::RpcStatusCode::INVALID_ARGUMENT);
        let why = status.message();
        assert!(why.contains(&format!("\"{path}\"")) && why.contains(&format!("\"{target}\"")), "{why}");
    }
    // Nothing is written behind a link of the same request.
    let link = FileUpload { symlink_target: "/tmp".into(), content: Vec::new(), ..upload("l") };
    assert!(run(&d, vec![link, upload("l/joblet-test-behind")]).is_err());
    assert!(!std::path::Path::new("/tmp/joblet-test-behind").exists());
}
