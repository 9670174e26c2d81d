//! Uploads whose paths lead outside of the work directory.

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
    let request = RunJobRequest { command: "sh".to_owned(), args, uploads, ..Default::default() };
    d.client("default").run_job(&request)
}

#[test]
fn path_out_of_work_is_refused_by_name_and_nothing_is_written() {
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
    assert_eq!(residue::files(&d.dir().join("run")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn file_cannot_be_a_directory_too_and_the_last_duplicate_wins() {
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
    std::os::unix::fs::symlink("/etc/shadow", tree.join("link")).unwrap();
    std::fs::write(tree.join("file"), "x").unwrap();
    let out = d.run(["--upload-dir=tree", "sh", "-c", "find . -type f"]);
    assert_eq!(out.ok(), "./file\n");
    assert!(out.stderr.contains("link"), "no warning: {}", out.stderr);
}
