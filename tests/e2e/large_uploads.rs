//! Uploads that come ahead of their job: as rnx sends them, and as hostile or unlucky clients do.

use crate::helper::daemon::Node;
use crate::helper::wait::{eventually, holds};
use crate::helper::{TestDaemon, residue};
use futures_executor::block_on;
use futures_util::SinkExt;
use grpcio::{CallOption, ClientCStreamReceiver, ClientCStreamSender, RpcStatusCode, WriteFlags};
use jiff::{Timestamp, ToSpan};
use joblet::pb::joblet::{
    FileUpload, RunJobRequest, RunJobResponse, UploadEntry, UploadReference, UploadRequest, UploadStatus,
};
use joblet::pb::joblet_grpc::UploadServiceClient;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

/// More than one request can hold.
const LARGE: u64 = 140 << 20;

/// An open call of Upload.
type Call = (ClientCStreamSender<UploadRequest>, ClientCStreamReceiver<UploadStatus>);

fn uploads(d: &TestDaemon) -> UploadServiceClient {
    let (identity, ca) = d.identity("default");
    UploadServiceClient::new(d.channel(&identity, &ca))
}

fn open(client: &UploadServiceClient) -> Call {
    client.upload_opt(CallOption::default().timeout(Duration::from_secs(60))).unwrap()
}

fn handle() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn file(path: &str, size: u64) -> UploadEntry {
    let file = FileUpload { path: path.into(), mode: 0o644, ..Default::default() };
    UploadEntry { file: Some(file).into(), size, ..Default::default() }
}

fn sha(bytes: &[u8]) -> Vec<u8> {
    openssl::sha::sha256(bytes).to_vec()
}

fn send(call: &mut Call, message: UploadRequest) {
    // A call that is refused meanwhile ends with its status.
    let _ = block_on(call.0.send((message, WriteFlags::default())));
}

#[track_caller]
fn finish(mut call: Call) -> Result<UploadStatus, (RpcStatusCode, String)> {
    let _ = block_on(call.0.close());
    block_on(call.1).map_err(|e| refusal(&e))
}

#[track_caller]
fn refusal(error: &grpcio::Error) -> (RpcStatusCode, String) {
    match error {
        grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => {
            (status.code(), status.message().to_owned())
        }
        other => panic!("{other}"),
    }
}

/// Sends one small upload as a whole.
fn put(d: &TestDaemon, path: &str, content: &[u8]) -> String {
    let handle = handle();
    let client = uploads(d);
    let mut call = open(&client);
    let entries = vec![file(path, content.len() as u64)];
    let message = UploadRequest {
        handle: handle.clone(),
        entries,
        data: content.to_vec(),
        sha256: sha(content),
        ..Default::default()
    };
    send(&mut call, message);
    let status = finish(call).unwrap();
    assert!(status.complete && status.handle == handle, "{status:?}");
    handle
}

fn run(
    d: &TestDaemon,
    handles: &[&str],
    change: impl FnOnce(&mut RunJobRequest),
) -> Result<RunJobResponse, (RpcStatusCode, String)> {
    let mut request = RunJobRequest {
        command: "sh".into(),
        args: vec!["-c".into(), "cat *".into()],
        upload_handles: handles.iter().map(|handle| (*handle).into()).collect(),
        ..Default::default()
    };
    change(&mut request);
    d.client("default").run_job(&request).map_err(|e| refusal(&e))
}

fn stored(d: &TestDaemon) -> Vec<PathBuf> {
    residue::files(&d.dir().join("uploads"))
}

fn until_nothing_is_stored(d: &TestDaemon) {
    eventually("no upload is left", || holds(stored(d).is_empty()));
}

/// A tree with a file larger than a request.
fn large_tree(d: &TestDaemon) {
    let tree = d.dir().join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    File::create(tree.join("large")).unwrap().set_len(LARGE).unwrap();
    fs::write(tree.join("small"), "small").unwrap();
    symlink("../small", tree.join("bin/link")).unwrap();
}

#[test]
fn tree_larger_than_a_request_is_streamed_in_little_memory() {
    let d = TestDaemon::start();
    large_tree(&d);
    let before = d.memory();
    let script = "stat -c %s large; cat bin/link; readlink bin/link";
    let out = d.run(["--upload-dir=tree", "sh", "-c", script]);
    assert_eq!(out.ok(), format!("{LARGE}\nsmall../small\n"), "{}", out.stderr);
    let grown = d.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "the daemon grew by {} MiB", grown >> 20);
    until_nothing_is_stored(&d);
    let out = d.rnx(["job", "run", "--explain", "--upload-dir=tree", "true"]);
    assert!(out.code == 125 && out.stderr.contains("larger than one may be"), "{}", out.stderr);
    // The /work of this job holds less: it fails with the sizes, and the files are gone too.
    let out = d.run(["--max-memory=128", "--upload-dir=tree", "true"]);
    assert!(out.code == 125 && out.stderr.contains("/work is full"), "{}", out.stderr);
    until_nothing_is_stored(&d);
}

#[test]
fn rnx_goes_on_with_an_upload_after_a_crash_of_the_daemon() {
    let mut d = TestDaemon::start();
    large_tree(&d);
    let args = ["job", "run", "-q", "--follow", "--upload-dir=tree", "sh", "-c", "sha256sum large small"];
    let rnx = d.rnx_spawn(args);
    let data = || stored(&d).into_iter().find(|path| path.ends_with("data"));
    eventually("the upload has come some way", || {
        holds(data().is_some_and(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 8 << 20)))
    });
    d = d.crash().start();
    let out = rnx.finish();
    let expected = sha(&vec![0; LARGE as usize]).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(out.ok().starts_with(&expected), "{}", out.text());
    assert!(out.stderr.contains("the upload goes on when it is back"), "{}", out.stderr);
    until_nothing_is_stored(&d);
}

#[test]
fn cut_upload_can_be_resumed_with_its_handle() {
    let d = TestDaemon::start();
    let (client, handle) = (uploads(&d), handle());
    let mut call = open(&client);
    let first = UploadRequest {
        handle: handle.clone(),
        entries: vec![file("a", 6)],
        data: b"123".to_vec(),
        ..Default::default()
    };
    send(&mut call, first);
    let reference = UploadReference { handle: handle.clone(), ..Default::default() };
    let received = || client.get_upload(&reference).map_or(0, |status| status.received);
    eventually("the first half is stored", || holds(received() == 3));
    drop(call);
    assert_eq!(run(&d, &[&handle], |_| ()).unwrap_err().0, RpcStatusCode::FAILED_PRECONDITION);
    let mut call = open(&client);
    let rest = UploadRequest {
        handle: handle.clone(),
        offset: 3,
        data: b"456".to_vec(),
        sha256: sha(b"123456"),
        ..Default::default()
    };
    send(&mut call, rest);
    assert!(finish(call).unwrap().complete);
    let id = run(&d, &[&handle], |_| ()).unwrap().jobUuid;
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "123456");
    assert_eq!(d.status(&id)["uploads"][0], "a");
    // A handle serves for one job.
    let (code, why) = run(&d, &[&handle], |_| ()).unwrap_err();
    assert!(code == RpcStatusCode::FAILED_PRECONDITION && why.contains(&handle), "{why}");
    until_nothing_is_stored(&d);
}

#[test]
fn same_request_with_a_used_handle_is_the_same_job() {
    let d = TestDaemon::start();
    let handle = put(&d, "a", b"once");
    let named = |request: &mut RunJobRequest| request.request_id = "one".into();
    let first = run(&d, &[&handle], named).unwrap().jobUuid;
    until_nothing_is_stored(&d);
    assert_eq!(run(&d, &[&handle], named).unwrap().jobUuid, first);
    // A request that is refused uses nothing up.
    let kept = put(&d, "a", b"twice");
    assert_eq!(
        run(&d, &[&kept], |request| request.command = " ".into()).unwrap_err().0,
        RpcStatusCode::INVALID_ARGUMENT
    );
    let id = run(&d, &[&kept], |_| ()).unwrap().jobUuid;
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "twice");
}

#[test]
fn waiting_job_keeps_its_uploads_over_a_crash_and_no_longer() {
    let mut d = TestDaemon::start();
    let (soon, never) = (put(&d, "a", b"soon"), put(&d, "a", b"never"));
    let at = |time: Timestamp| move |request: &mut RunJobRequest| request.schedule = time.to_string();
    let waits = run(&d, &[&never], at(Timestamp::now() + 1.hour())).unwrap().jobUuid;
    let id = run(&d, &[&soon], at(Timestamp::now() + 4.seconds())).unwrap().jobUuid;
    d = d.crash().start();
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "soon");
    assert!(!stored(&d).is_empty(), "the other job waits with its files");
    d.rnx(["job", "cancel", &waits]).ok();
    until_nothing_is_stored(&d);
}

#[test]
fn hostile_uploads_are_refused_by_name_and_leave_nothing() {
    let d = TestDaemon::start();
    let client = uploads(&d);
    let refused = |message: UploadRequest| {
        let mut call = open(&client);
        send(&mut call, message);
        finish(call).unwrap_err()
    };
    let new =
        |entry: UploadEntry| UploadRequest { handle: handle(), entries: vec![entry], ..Default::default() };
    let mut link = file("link", 0);
    link.file.as_mut().unwrap().symlink_target = "/root/.ssh".into();
    for (message, code, words) in [
        (new(file("../x", 1)), RpcStatusCode::INVALID_ARGUMENT, "../x"),
        (new(link), RpcStatusCode::INVALID_ARGUMENT, "link"),
        (new(file("a", u64::MAX)), RpcStatusCode::RESOURCE_EXHAUSTED, "uploads.clientLimit"),
        (
            UploadRequest { handle: "../../etc".into(), ..new(file("a", 1)) },
            RpcStatusCode::INVALID_ARGUMENT,
            "UUID",
        ),
        (
            UploadRequest { data: vec![0; (1 << 20) + 1], ..new(file("a", 9)) },
            RpcStatusCode::INVALID_ARGUMENT,
            "1048576",
        ),
        (
            UploadRequest { data: b"xy".to_vec(), ..new(file("a", 1)) },
            RpcStatusCode::INVALID_ARGUMENT,
            "announce",
        ),
        (
            UploadRequest { data: b"x".to_vec(), sha256: sha(b"y"), ..new(file("a", 1)) },
            RpcStatusCode::DATA_LOSS,
            "damaged",
        ),
        (UploadRequest { handle: handle(), ..Default::default() }, RpcStatusCode::NOT_FOUND, "not found"),
    ] {
        let (got, why) = refused(message);
        assert!(got == code && why.contains(words), "{words}: {got} {why}");
    }
    let viewer = {
        let (identity, ca) = d.identity("viewer");
        UploadServiceClient::new(d.channel(&identity, &ca))
    };
    assert_eq!(finish(open(&viewer)).unwrap_err().0, RpcStatusCode::PERMISSION_DENIED);
    let theirs = UploadReference { handle: handle(), ..Default::default() };
    assert_eq!(refusal(&viewer.get_upload(&theirs).unwrap_err()).0, RpcStatusCode::PERMISSION_DENIED);
    assert!(!fs::exists(d.dir().join("x")).unwrap());
    // One that was cut is kept for its client, until it is deleted.
    for left in fs::read_dir(d.dir().join("uploads")).unwrap().flatten() {
        let reference =
            UploadReference { handle: left.file_name().to_string_lossy().into(), ..Default::default() };
        let _ = client.delete_upload(&reference);
    }
    until_nothing_is_stored(&d);
}

#[test]
fn silent_uploaders_use_up_only_their_own_permits() {
    let node = Node::set_up();
    node.set("uploads.lifetime", "3s");
    let d = node.start();
    let client = uploads(&d);
    let mut silent: Vec<Call> = (0..8).map(|_| open(&client)).collect();
    for call in &mut silent {
        send(call, UploadRequest { handle: handle(), entries: vec![file("a", 9)], ..Default::default() });
    }
    eventually("all are there", || holds(stored(&d).len() == 16));
    let (code, why) = finish(open(&client)).unwrap_err();
    assert!(code == RpcStatusCode::RESOURCE_EXHAUSTED && why.contains("8 uploads open"), "{code} {why}");
    // Another client uploads, and this one's jobs start.
    let other = d.authority().issue(&crate::helper::certificates::Recipe::client("admin"));
    let other = UploadServiceClient::new(d.channel(&other, &d.identity("default").1));
    let mut call = open(&other);
    let whole = UploadRequest {
        handle: handle(),
        entries: vec![file("a", 1)],
        data: b"x".to_vec(),
        sha256: sha(b"x"),
        ..Default::default()
    };
    send(&mut call, whole);
    assert!(finish(call).unwrap().complete);
    assert_eq!(d.run(["echo", "fine"]).ok(), "fine\n");
    // They are given up after the lifetime of an upload, and what no job took goes too.
    for call in silent {
        let (code, why) = finish(call).unwrap_err();
        let given_up =
            [RpcStatusCode::DEADLINE_EXCEEDED, RpcStatusCode::ABORTED, RpcStatusCode::INVALID_ARGUMENT];
        assert!(given_up.contains(&code), "{code} {why}");
    }
    until_nothing_is_stored(&d);
}
