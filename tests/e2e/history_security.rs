//! History and those who must not write or read it: other users of the host, jobs themselves, and whoever finds its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use grpcio::{ChannelBuilder, EnvBuilder, RpcStatusCode};
use joblet::job::JobId;
use joblet::output::Stream;
use joblet::pb::persist::{DeleteJobRequest, QueryLogsRequest};
use joblet::pb::persist_grpc::PersistServiceClient;
use joblet::persist::frame::Frame;

use super::history::{answer, logs, queries, until_complete};
use crate::helper::daemon::Node;
use crate::helper::rnx::Running;
use crate::helper::{TestDaemon, residue};

/// A text that is nowhere else, and its base64 at each of the three places at which a record may cut it.
const SECRET: &str = "zq-planted-key-7731-of-history";
const ENCODED: [&str; 3] = [
    "enEtcGxhbnRlZC1rZXktNzczMS1vZi1oaXN0b3J5",
    "LXBsYW50ZWQta2V5LTc3MzEtb2YtaGlzdG9y",
    "cS1wbGFudGVkLWtleS03NzMxLW9mLWhpc3Rv",
];

/// The text of a file of history, inflated where it is gzip.
fn text_of(file: &Path) -> String {
    let out = Command::new("zcat").arg("--force").arg(file).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn planted_secret_is_in_no_file_of_history_and_in_no_log() {
    let node = Node::set_up();
    node.set("logging.level", "DEBUG");
    let d = node.start();
    let pair = format!("API_KEY={SECRET}");
    let script = "printf %s \"$API_KEY\" | wc -c; echo error >&2; cat /proc/self/environ | wc -c; sleep 1.2";
    let id = d.submit(["-s", &pair, "sh", "-c", script]);
    let failed = d.rnx(["job", "run", "-q", "-s", &pair, "/no/such/program"]).id();
    let printed = d.submit(["-s", &pair, "sh", "-c", "echo $API_KEY"]);
    d.until_status(&id, "COMPLETED");
    d.until_status(&printed, "COMPLETED");
    [&id, &printed, &failed].into_iter().for_each(|id| until_complete(&d, id));
    let look = |d: &TestDaemon| {
        let mut files = 0;
        for tree in ["logs", "metrics", "deleted"] {
            for file in residue::files(&d.dir().join(tree)) {
                files += 1;
                let text = text_of(&file);
                let has =
                    |text: &str| text.contains(SECRET) || ENCODED.iter().any(|part| text.contains(part));
                // Whatever a job prints is its output.
                let own = file == logs(d, &printed).join("stdout.log.gz");
                assert_eq!(has(&text), own, "{}", file.display());
            }
        }
        assert!(files >= 9, "{files} files");
        assert!(!d.log().contains(SECRET), "in the log");
    };
    look(&d);
    let d = d.crash().start();
    d.rnx(["job", "log", "--no-follow", &id]).ok();
    d.rnx(["job", "metrics", &id]).ok();
    look(&d);
}

/// The answer of the write socket to somebody with this user id, behind messages: the number of bytes, or a refusal.
fn heard_by(uid: u32, socket: &Path, messages: &[u8]) -> String {
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
try:
    s.connect(sys.argv[1])
    s.sendall(bytes.fromhex(sys.argv[2]))
    print(len(s.recv(100)))
except PermissionError:
    print('refused')
except ConnectionError:
    print(0)";
    let hex: String = messages.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]).arg(socket).arg(hex).uid(uid).gid(uid).current_dir("/").env_clear();
    let out = command.output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn writer_of_another_user_is_heard_by_nobody() {
    needs!(Path::new("/usr/bin/python3").exists(), "python3 is not installed");
    let d = TestDaemon::start();
    let run = d.dir().join("run");
    let socket = run.join("persist-ipc.sock");
    let job = JobId::random();
    let (stream, content) = (Stream::Stdout, b"forged".to_vec());
    let hello = Frame::Hello { boot_id: "b".into(), instance: "i".into() }.encode();
    let log = Frame::Log { version: 1, job, stream, time_ns: 1, sequence: 1, content };
    let messages = [hello.clone(), log.encode()].concat();
    // The directory keeps others out, and where somebody has opened it, the process does.
    assert_eq!(heard_by(65_534, &socket, &messages), "refused");
    for (path, mode) in [(d.dir(), 0o755), (&run, 0o755), (&socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(heard_by(65_534, &socket, &messages), "0");
    d.until_logged("a writer without the right to write was refused");
    assert!(heard_by(0, &socket, &hello).parse::<usize>().unwrap() > 0, "the daemon's own user is refused");
    assert!(!logs(&d, &job.to_string()).exists(), "a foreign user has written history");
    assert_eq!(d.run(["echo", "next"]).ok(), "next\n");
}

/// The variable with which a test runs itself as another user: the query socket, and a job.
const AS_MEMBER: &str = "JOBLET_TEST_AS_MEMBER";

/// The acts at the query socket that a member of the group may do.
fn act_as_member(socket: &str, id: &str) {
    let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
    let channel = ChannelBuilder::new(environment).connect(&format!("unix:{socket}"));
    let client = PersistServiceClient::new(channel);
    let query = QueryLogsRequest { job_id: id.to_owned(), ..Default::default() };
    let bytes: Vec<u8> =
        answer(client.query_logs(&query)).unwrap().into_iter().flat_map(|line| line.content).collect();
    assert_eq!(bytes, b"kept\n");
    let delete = DeleteJobRequest { job_id: id.to_owned(), ..Default::default() };
    for refused in [client.delete_job(&delete), client.delete_job_data(&delete)] {
        match refused {
            Err(grpcio::Error::RpcFailure(why)) => assert_eq!(why.code(), RpcStatusCode::PERMISSION_DENIED),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn member_of_the_group_reads_history_and_deletes_none() {
    if let Ok(place) = std::env::var(AS_MEMBER) {
        let (socket, id) = place.split_once(' ').unwrap();
        return act_as_member(socket, id);
    }
    let d = TestDaemon::with([("persist.server.group", "nogroup")]);
    let id = d.submit(["echo", "kept"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    fs::set_permissions(d.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    // Where the user can execute it.
    let program = d.dir().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let socket = d.dir().join("run/persist-grpc.sock");
    let mut member = Command::new(&program);
    member.args(["--exact", "e2e::history_security::member_of_the_group_reads_history_and_deletes_none"]);
    member.env(AS_MEMBER, format!("{} {id}", socket.display())).current_dir("/").uid(65_533).gid(65_534);
    let out = Running::start(&mut member).finish();
    assert!(out.text().contains("1 passed"), "{}{}", out.text(), out.stderr);
    assert_eq!(d.rnx(["job", "log", "--no-follow", &id]).text(), "kept\n");
    let delete = DeleteJobRequest { job_id: id.clone(), ..Default::default() };
    assert!(queries(&d).delete_job(&delete).unwrap().success);
    assert!(!logs(&d, &id).exists());
}
