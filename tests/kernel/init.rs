//! joblet-init's work while the daemon lives: it starts the payload, forwards signals, reaps children and reports the end.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use joblet::job::exit_file::{Begun, Defect};
use rustix::process::{Signal, pidfd_send_signal};

use crate::helper::skip::is_root;
use crate::job::{Bench, Finished, Order, Running, fill};

const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;

fn signal(running: &Running, signal: Signal) {
    pidfd_send_signal(running.started.init.pidfd.as_fd(), signal).unwrap();
}

#[test]
fn a_payload_runs_and_its_output_and_code_come_out() {
    needs!(is_root(), "needs root");
    let done = Bench::new().shell("echo $A; pwd; id -u; hostname; echo err >&2; exit 42");
    assert_eq!(done.stdout, "b\n/work\n0\njob-test\n", "{done:?}");
    assert_eq!(done.stderr, "err\n");
    assert_eq!(done.code, Some(42));
    let record = done.record.unwrap();
    assert_eq!((record.wait_status, record.begun, record.pid), (42 << 8, Begun::Executed, 2));
    assert!(record.started_ns > 0 && record.ended_ns > record.started_ns, "{record:?}");
    assert!(record.max_rss_kib > 100, "{record:?}");
}

#[test]
fn every_exit_code_is_recorded_as_it_was() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for code in [0, 1, 2, 42, 100, 124, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255] {
        let done = bench.run(&Order::program("life", &["exit", &code.to_string()]));
        assert_eq!((done.record.unwrap().wait_status, done.code), (code << 8, Some(code)));
    }
}

#[test]
fn every_signal_that_kills_is_recorded_as_it_was() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for number in 1..=64 {
        // Ignored by default: CHLD, CONT, URG, WINCH. Stopping: STOP; TSTP, TTIN and TTOU stop no process whose group
        // is orphaned, as a session leader's is whose parent has another session (setpgid(2)).
        let harmless = [17, 18, 20, 21, 22, 23, 28].contains(&number);
        if number == 19 {
            continue;
        }
        let done = bench.run(&Order::program("life", &["die", &number.to_string()]));
        let (wanted, code) = if harmless { (0, 0) } else { (number, 128 + number) };
        // Bit 0x80 would mean that a core was dumped.
        assert_eq!(
            (done.record.unwrap().wait_status & !0x80, done.code),
            (wanted, Some(code)),
            "signal {number}"
        );
    }
}

#[test]
fn signals_reach_the_payload_and_no_other() {
    needs!(is_root(), "needs root");
    let running = Bench::new();
    let running = (running.start(&Order::program("life", &["listen", "15"])), running);
    running.0.hear("ready");
    for (name, acknowledged) in [
        (Signal::HUP, "got 1"),
        (Signal::INT, "got 2"),
        (Signal::QUIT, "got 3"),
        (Signal::USR1, "got 10"),
        (Signal::USR2, "got 12"),
    ] {
        signal(&running.0, name);
        running.0.hear(acknowledged);
    }
    // These signals are not forwarded and do not end the first process.
    for other in [Signal::ALARM, Signal::PIPE, Signal::SEGV, Signal::WINCH] {
        signal(&running.0, other);
    }
    signal(&running.0, Signal::TERM);
    let done = running.0.finish();
    assert_eq!((done.stdout.as_str(), done.code), ("got 15\n", Some(0)));
}

#[test]
fn payload_that_ignores_term_lives_until_it_is_killed() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::program("life", &["deaf"]));
    running.hear("ready");
    signal(&running, Signal::TERM);
    assert_eq!(running.read_record(), None);
    std::fs::write(bench.ground.cgroup.join("cgroup.kill"), "1").unwrap();
    assert_eq!(running.wait().terminating_signal(), Some(9));
    assert_eq!(running.read_record(), None, "nobody was left to write it");
}

#[test]
fn orphans_are_reaped_while_the_payload_lives() {
    needs!(is_root(), "needs root");
    let done = Bench::new().run(&Order::program("life", &["orphans", "25"]));
    // The probe counts the first process and itself.
    assert_eq!((done.stdout.as_str(), done.code), ("2 processes left\n", Some(0)));
}

#[test]
fn processes_left_by_a_payload_are_killed_so_its_output_ends() {
    needs!(is_root(), "needs root");
    let done = Bench::new().run(&Order::program("life", &["leave", "10"]));
    assert_eq!((done.stdout.as_str(), done.code), ("left\n", Some(3)));
}

/// The beginning of an ELF header (elf(5)).
fn elf(class: u8, machine: u16) -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    header.extend(machine.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.resize(64, 0);
    header
}

/// A whole 32-bit program, which exits with 3.
fn elf32(machine: u16) -> Vec<u8> {
    const START: u32 = 0x0804_8000;
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 3, 0, 0, 0, 0xcd, 0x80]; // exit(3) by int 0x80
    let mut bytes = elf(1, machine);
    bytes.truncate(24);
    let sizes = 84 + code.len() as u32;
    bytes.extend([START + 84, 52, 0, 0].map(u32::to_le_bytes).concat());
    bytes.extend([52u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    bytes.extend([1, 0, START, START, sizes, sizes, 5, 4096].map(u32::to_le_bytes).concat());
    bytes.extend(code);
    bytes
}

/// A command with unusual files around it.
fn odd(argv: &[&str]) -> Order {
    let mut order = Order::new(argv);
    order.files = vec![
        ("plain", b"text".to_vec(), 0o644),
        ("no-elf", b"\x7fELF and then nothing".to_vec(), 0o755),
        ("no-bang", b"echo a script without its first line\n".to_vec(), 0o755),
        ("bad-bang", b"#!/no/such/shell\n".to_vec(), 0o755),
        ("crlf", b"#!/bin/sh\r\necho hi\r\n".to_vec(), 0o755),
        ("elf32", elf32(3), 0o755),
        ("elf-x32", elf32(62), 0o755),
        ("elf-arm64", elf(2, 183), 0o755),
        ("good", b"#!/bin/sh\necho \"$@\"\n".to_vec(), 0o755),
    ];
    order.links = vec![("loop", "loop"), ("nowhere", "/no/such/file")];
    order
}

fn failed(done: &Finished) -> (i32, i32) {
    let record = done.record.unwrap();
    assert_eq!(record.begun, Begun::NotExecuted, "{done:?}");
    assert_eq!(done.code, Some(record.wait_status >> 8));
    (record.wait_status >> 8, record.errno)
}

#[test]
fn commands_that_fail_to_exec_end_with_126_or_127_and_the_errno() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for (command, wanted) in [
        ("no-such-program", (127, ENOENT)),
        ("/no/such/program", (127, ENOENT)),
        ("./no-such-file", (127, ENOENT)),
        ("./nowhere", (127, ENOENT)),
        ("/usr/bin/true/x", (127, ENOTDIR)),
        ("/usr", (126, EACCES)),
        ("./plain", (126, EACCES)),
        ("./no-elf", (126, ENOEXEC)),
        ("./no-bang", (126, ENOEXEC)),
        ("./bad-bang", (126, ENOENT)),
        ("./loop", (126, ELOOP)),
    ] {
        let done = bench.run(&odd(&[command]));
        assert_eq!(failed(&done), wanted, "{command}");
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{command}");
    }
}

#[test]
fn program_that_cannot_be_executed_has_its_defect_recorded() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for (command, errno, defect) in [
        // The kernel would execute it, and the filter kill it at its first call.
        ("./elf32", ENOEXEC, Defect::Elf32),
        ("./elf-x32", ENOEXEC, Defect::Elf32),
        ("./elf-arm64", ENOEXEC, Defect::OtherMachine),
        ("./no-bang", ENOEXEC, Defect::NoFormat),
        ("./crlf", ENOENT, Defect::CarriageReturn),
        ("./bad-bang", ENOENT, Defect::NoInterpreter),
        ("./plain", EACCES, Defect::None),
        ("./no-such-file", ENOENT, Defect::None),
    ] {
        let done = bench.run(&odd(&[command]));
        let record = done.record.unwrap();
        assert_eq!(
            (record.begun, record.errno, record.defect),
            (Begun::NotExecuted, errno, defect),
            "{command}"
        );
    }
    // One in the PATH, too.
    let order = Order { environment: vec!["PATH=/usr/bin:/work".to_owned()], ..odd(&["elf32"]) };
    assert_eq!(bench.run(&order).record.unwrap().defect, Defect::Elf32);
}

#[test]
fn full_file_systems_are_recorded_for_a_payload_that_failed() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let fill = "head -c 4M /dev/zero >/tmp/f; head -c 40M /dev/zero >/work/f";
    for (script, full) in
        [(format!("{fill}; exit 1"), 0b0011), (format!("{fill}; exit 0"), 0), ("exit 1".to_owned(), 0)]
    {
        let record = bench.shell(&script).record.unwrap();
        assert_eq!((record.full, record.crowded), (full, 0), "{script}");
    }
}

#[test]
fn program_open_for_writing_is_retried_until_it_is_closed() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    // A child of another spawner can hold a copy of the descriptor by which the upload was written.
    let (writer, order) = {
        let mut order = Order::program("life", &["exit", "5"]);
        let work = bench.sandbox.work_tmpfs(16 << 20, bench.ground.uid).unwrap();
        fill(&work, &order);
        let path = format!("/proc/self/fd/{}/life", work.as_raw_fd());
        let writer = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        order.work = Some(work);
        (writer, order)
    };
    let running = bench.start(&order);
    assert_eq!(running.read_record(), None);
    drop(writer);
    assert_eq!(running.finish().code, Some(5));
}

#[test]
fn report_pipe_gives_the_errno_of_a_failed_exec_or_just_ends() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for (command, errno) in [("./no-elf", Some(ENOEXEC)), ("true", None)] {
        let running = bench.start(&odd(&[command]));
        let mut told = [0; 8];
        rustix::io::ioctl_fionbio(&running.started.init.report, false).unwrap();
        let length = rustix::io::read(&running.started.init.report, &mut told).unwrap();
        let number = (length > 0).then(|| i32::from_le_bytes(told[..4].try_into().unwrap()));
        assert_eq!(number, errno, "{command}");
        running.finish();
    }
}

#[test]
fn a_command_is_looked_up_in_the_path_of_its_own_environment() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let with_path = |path: &str, argv: &[&str]| {
        let mut order = odd(argv);
        order.environment = if path == "-" { vec![] } else { vec![format!("PATH={path}")] };
        bench.run(&order)
    };
    for (path, wanted) in [
        ("/nowhere:/work", Ok("a b\n")),
        // Empty parts are the working directory, as for execvp(3).
        ("", Ok("a b\n")),
        ("/nowhere:", Ok("a b\n")),
        (":/nowhere", Ok("a b\n")),
        // Files that may not be executed are passed over.
        ("/usr/bin:/etc/passwd:/work", Ok("a b\n")),
        ("/usr/bin", Err((127, ENOENT))),
    ] {
        let done = with_path(path, &["good", "a", "b"]);
        match wanted {
            Ok(text) => assert_eq!(done.stdout, text, "PATH={path}: {done:?}"),
            Err(end) => assert_eq!(failed(&done), end, "PATH={path}"),
        }
    }
    assert_eq!(with_path("-", &["true"]).code, Some(0), "without PATH there is a usual one");
    let done = with_path("/work", &["plain"]);
    assert_eq!(failed(&done), (126, EACCES), "a file that exists is remembered");
}

#[test]
fn joblet_init_does_nothing_when_it_is_not_the_first_process() {
    let done = Command::new(concat!(env!("OUT_DIR"), "/joblet-init")).args(["60", "/bin/echo", "x"]).output();
    let done = done.unwrap();
    assert_eq!((done.status.into_raw() >> 8, done.stdout.len()), (125, 0));
}
