//! Standard input of jobs and of commands in them: whole, once, waited for, across daemons, and refused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{CallOption, RpcStatusCode, WriteFlags};
use joblet::pb::joblet::attach_req::Message as Ask;
use joblet::pb::joblet::attach_res::Message as Told;
use joblet::pb::joblet::{AttachOpen, AttachReq, ExecRef, InputData, StartExecReq};
use joblet::pb::joblet_grpc::SessionServiceClient;
use openssl::sha::sha256;

use crate::helper::daemon::TestDaemon;
use crate::helper::rnx::{Output, Running};
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{eventually, holds};

/// Bytes without a pattern that a lost or doubled block could hide in.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(count.div_ceil(8)).flatten().take(count).collect()
}

fn sum(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "  -\n"
}

/// Runs rnx with this as its standard input, to its end.
#[track_caller]
fn fed(d: &TestDaemon, args: &[&str], input: &[u8]) -> Output {
    let (running, mut stdin) = Running::fed(&mut d.rnx_command(args));
    let input = input.to_vec();
    // A program that reads no more is no failure.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let out = running.finish();
    writer.join().unwrap();
    out
}

/// Whether a file below a directory holds these bytes.
fn is_in_a_file(dir: &Path, wanted: &[u8]) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => is_in_a_file(&entry.path(), wanted),
        Ok(kind) if kind.is_file() => {
            let text = fs::read(entry.path()).unwrap_or_default();
            text.windows(wanted.len()).any(|window| window == wanted)
        }
        _ => false,
    })
}

#[test]
fn input_comes_whole_and_once_and_ends() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let all: Vec<u8> = (0..=255).collect();
    let many = bytes(3_000_001);
    for input in [&b""[..], &all] {
        let out = fed(&d, &["job", "exec", "-i", &id, "cat"], input);
        assert_eq!((out.code, out.stdout.as_slice()), (0, input), "{}", out.stderr);
        let out = fed(&d, &["job", "run", "-qfi", "cat"], input);
        assert_eq!((out.code, out.stdout.as_slice()), (0, input), "{}", out.stderr);
    }
    assert_eq!(fed(&d, &["job", "exec", "-i", &id, "sha256sum"], &many).ok(), sum(&many));
    assert_eq!(fed(&d, &["job", "run", "-qfi", "sha256sum"], &many).ok(), sum(&many));

    let file = d.dir().join("secret-input");
    fs::write(&file, "planted-input\n").unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(d.rnx(["job", "exec", "--stdin", path, &id, "wc", "-c"]).ok(), "14\n");
    assert_eq!(d.rnx(["job", "run", "-qf", "--stdin", path, "wc", "-c"]).ok(), "14\n");
    fs::remove_file(&file).unwrap();
    assert!(!is_in_a_file(d.dir(), b"planted-input"));
    // rnx sends all, and returns.
    let job = fed(&d, &["job", "run", "-qi", "sha256sum"], &many).id();
    d.until_status(&job, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &job]).ok(), sum(&many));
    // Reopened for reading, never for writing.
    let out =
        fed(&d, &["job", "exec", "-i", &id, "sh", "-c", "cat < /dev/stdin; echo no > /dev/stdin"], b"yes");
    assert!(out.code != 0 && out.text() == "yes" && out.stderr.contains("ermission"), "{out:?}");
    let missing = d.rnx(["job", "run", "--stdin", "/no-such", "cat"]);
    assert!(missing.exits(125).is_empty() && missing.stderr.contains("/no-such"));
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

#[test]
fn program_that_reads_no_more_ends_its_input() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let many = bytes(20_000_000);
    let out = fed(&d, &["job", "exec", "-i", &id, "head", "-c", "5"], &many);
    assert_eq!((out.code, out.stdout.as_slice()), (0, &many[..5]), "{}", out.stderr);
    // Closed early, while the command goes on.
    let script = "exec <&-; until [ -e /work/go ]; do sleep 0.02; done; echo on";
    let (running, mut stdin) =
        Running::fed(&mut d.rnx_command(["job", "exec", "-i", &id, "bash", "-c", script]));
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&many);
    });
    d.rnx(["job", "exec", &id, "touch", "/work/go"]).ok();
    assert_eq!(running.finish().ok(), "on\n");
    writer.join().unwrap();

    // One that never reads stops its client, and is stopped itself.
    let (running, mut stdin) = Running::fed(&mut d.rnx_command(["job", "run", "-qfi", "sleep", "1000"]));
    let writer = thread::spawn(move || stdin.write_all(&bytes(20_000_000)).is_err());
    let job = eventually("the job runs", || {
        let all = d.rnx(["job", "list", "--json"]).json();
        let all = all["jobs"].as_array().or(all.as_array()).cloned().unwrap_or_default();
        let found = all.iter().find(|job| job["uuid"] != id.as_str() && job["status"] == "RUNNING")?;
        found["uuid"].as_str().map(str::to_owned)
    });
    assert!(!writer.is_finished());
    d.rnx(["job", "stop", &job]).ok();
    running.finish().exits(143);
    assert!(writer.join().unwrap());
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

/// Feeds rnx some MiB, with a kill of the daemon after each; what the program in the job has made of it.
fn across_kills(mut d: TestDaemon, args: &[&str], kills: usize) -> (TestDaemon, Output, Vec<u8>) {
    let (running, mut stdin) = Running::fed(&mut d.rnx_command(args));
    // With 200 kills 1 GiB in all.
    let part = bytes(if kills > 100 { 5_400_007 } else { 1_300_007 });
    let mut all = Vec::new();
    for kill in 0..=kills {
        // In two halves, of which one is under way when the daemon dies.
        let (first, second) = part.split_at(700_000 + kill);
        stdin.write_all(first).unwrap();
        let sent = second.to_vec();
        let writer = thread::spawn(move || {
            stdin.write_all(&sent).unwrap();
            stdin
        });
        if kill < kills {
            d = d.crash().start();
        }
        stdin = writer.join().unwrap();
        all.extend(&part);
    }
    drop(stdin);
    (d, running.finish(), all)
}

#[test]
fn input_survives_kills_of_the_daemon_byte_for_byte() {
    needs!(is_root(), "needs root");
    let mut d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let (next, out, all) = across_kills(d, &["job", "exec", "-i", &id, "sha256sum"], 3);
    d = next;
    assert_eq!(out.ok(), sum(&all), "{}", out.stderr);
    let kills = soak::rounds(3, 200);
    let (next, out, all) = across_kills(d, &["job", "run", "-qi", "sha256sum"], kills);
    d = next;
    d.until_status(&out.id(), "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &out.id()]).ok(), sum(&all));
    // The client has sent the end, and no daemon lives when the program reads it.
    let script = "until [ -e /work/read ]; do sleep 0.02; done; wc -c";
    let job = fed(&d, &["job", "run", "-qi", "bash", "-c", script], &bytes(600_000)).id();
    let node = d.crash();
    crate::helper::gate::open(&job, "read");
    let d = node.start();
    d.until_status(&job, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &job]).ok().trim(), "600000");
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

#[test]
fn input_has_one_client_no_gap_and_a_bound() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let sessions = |node: &str| {
        let (identity, ca) = d.identity(node);
        SessionServiceClient::new(d.channel(&identity, &ca))
    };
    let (admin, viewer) = (sessions("default"), sessions("viewer"));
    let start = |stdin| {
        let request = StartExecReq {
            uuid: id.clone(),
            command: "sleep".into(),
            args: vec!["1000".into()],
            stdin,
            ..StartExecReq::default()
        };
        admin.start_exec(&request).unwrap().exec
    };
    let (with, without) = (start(true), start(false));
    let asked =
        |message| (AttachReq { message: Some(message), ..AttachReq::default() }, WriteFlags::default());
    let open = |exec: &str, take_over| {
        let at = ExecRef { uuid: id.clone(), exec: exec.into(), ..ExecRef::default() };
        asked(Ask::Open(AttachOpen { at: Some(at).into(), input: true, take_over, ..AttachOpen::default() }))
    };
    let data = |offset, data| asked(Ask::Data(InputData { offset, data, ..InputData::default() }));
    let call = |client: &SessionServiceClient, exec: &str, take_over| {
        let (mut to, mut from) = client.attach_opt(CallOption::default()).unwrap();
        let _ = block_on(to.send(open(exec, take_over)));
        let first = block_on(from.next()).unwrap().map(|answer| answer.message);
        (to, from, first)
    };
    let code = |error: grpcio::Error| match error {
        grpcio::Error::RpcFailure(status) => status.code(),
        other => panic!("{other}"),
    };
    assert_eq!(code(call(&viewer, &with, false).2.unwrap_err()), RpcStatusCode::PERMISSION_DENIED);
    assert_eq!(code(call(&admin, &without, false).2.unwrap_err()), RpcStatusCode::FAILED_PRECONDITION);
    assert_eq!(code(call(&admin, "", false).2.unwrap_err()), RpcStatusCode::FAILED_PRECONDITION);

    let (mut to, mut from, first) = call(&admin, &with, false);
    assert!(matches!(first.unwrap(), Some(Told::Opened(opened)) if opened.input_offset == 0));
    assert_eq!(code(call(&admin, &with, false).2.unwrap_err()), RpcStatusCode::FAILED_PRECONDITION);
    let (mut to_second, mut from_second, first) = call(&admin, &with, true);
    assert!(matches!(first.unwrap(), Some(Told::Opened(_))));
    assert!(matches!(block_on(from.next()).unwrap().unwrap().message, Some(Told::InputTaken(_))));
    let _ = block_on(to.close());

    // The program does not read: its pipe and the window are full, and then nothing more is accepted.
    let (mut sent, mut accepted) = (0, 0);
    let chunk = vec![7; 64 << 10];
    let most = (1 << 20) + (64 << 10);
    while sent < most {
        block_on(to_second.send(data(sent as u64, chunk.clone()))).unwrap();
        sent += chunk.len();
        match block_on(from_second.next()).unwrap().unwrap().message {
            Some(Told::InputAck(bytes)) => accepted = bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted as usize, most);
    block_on(to_second.send(data(sent as u64, chunk))).unwrap();
    let (mut to_third, mut from_third, first) = call(&admin, &with, true);
    assert!(matches!(first.unwrap(), Some(Told::Opened(opened)) if opened.input_offset == most as u64));
    block_on(to_third.send(data(most as u64 + 1, vec![1]))).unwrap();
    assert_eq!(code(block_on(from_third.next()).unwrap().unwrap_err()), RpcStatusCode::INVALID_ARGUMENT);
    drop((to, from, to_second, from_second, to_third, from_third, admin, viewer));
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

#[test]
fn client_that_dies_ends_no_input() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let script = "head -c 6; echo; exec cat";
    let (mut running, mut stdin) =
        Running::fed(&mut d.rnx_command(["job", "exec", "-i", &id, "bash", "-c", script]));
    stdin.write_all(b"first\n").unwrap();
    eventually("it has read what was sent", || holds(running.printed() >= 6));
    running.kill();
    drop((running, stdin));
    let listed = || d.status(&id)["execs"].as_array().cloned().unwrap_or_default();
    assert_eq!(listed()[0]["status"], "RUNNING");
    let exec = listed()[0]["exec"].as_str().unwrap().to_owned();
    let (identity, ca) = d.identity("default");
    let client = SessionServiceClient::new(d.channel(&identity, &ca));
    let (mut to, mut from) = client.attach_opt(CallOption::default()).unwrap();
    let at = ExecRef { uuid: id.clone(), exec: exec.clone(), ..ExecRef::default() };
    let open = AttachOpen { at: Some(at).into(), input: true, take_over: true, ..AttachOpen::default() };
    let asked =
        |message| (AttachReq { message: Some(message), ..AttachReq::default() }, WriteFlags::default());
    block_on(to.send(asked(Ask::Open(open)))).unwrap();
    let opened = block_on(from.next()).unwrap().unwrap().message;
    assert!(matches!(opened, Some(Told::Opened(opened)) if opened.input_offset == 6));
    // From the beginning: what is known is passed over.
    let whole = InputData { data: b"first\nsecond\n".to_vec(), ..InputData::default() };
    block_on(to.send(asked(Ask::Data(whole)))).unwrap();
    block_on(to.send(asked(Ask::Eof(true)))).unwrap();
    while let Some(Ok(_)) = block_on(from.next()) {}
    eventually("the command has ended", || holds(listed()[0]["status"] == "COMPLETED"));
    let stdout = d.dir().join("execs").join(&id).join(&exec).join("stdout");
    assert_eq!(fs::read_to_string(stdout).unwrap(), "first\n\nsecond\n");
    drop((to, from, client));
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}
