//! Commands of `rnx` beyond one request and one answer: names for jobs, waiting, filters, and a person at a terminal.

use crate::helper::daemon::RNX;
use crate::helper::programs::source;
use crate::helper::rnx::{Output, Running};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate, soak};
use std::process::Command;

/// Runs rnx on a terminal and types keys when certain words have appeared.
pub(super) fn at_a_terminal(d: &TestDaemon, typed: &[(&str, &str)], args: &[&str]) -> Output {
    let script = source("tests/clients/terminal.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args(typed.iter().flat_map(|(words, keys)| [words, keys])).arg("--");
    command.arg(RNX).arg("--config").arg(d.dir().join("rnx-config.yml")).args(args);
    command.env_clear().env("TERM", "xterm").env("HOME", d.dir()).env("PATH", "/usr/bin:/bin");
    Running::start(&mut command).finish()
}

#[test]
fn job_is_found_by_id_id_prefix_name_or_last() {
    let d = TestDaemon::start();
    assert_eq!(d.rnx(["job", "status", "@last"]).code, 5, "there is none yet");
    let first = d.submit(["--name", "nightly", "true"]);
    // This name could be the beginning of an id.
    let second = d.submit(["--name", "cafe-babe", "true"]);
    for (word, id) in [
        (first.as_str(), &first),
        (&first[..8], &first),
        ("nightly", &first),
        ("cafe-babe", &second),
        ("@last", &second),
    ] {
        let out = d.rnx(["job", "status", "--json", word]);
        out.ok();
        assert_eq!(out.json()["uuid"], **id, "{word}");
        assert_eq!(
            d.rnx(["--node", "viewer", "job", "status", "--json", word]).json()["uuid"],
            **id,
            "{word}"
        );
    }
    d.until_status("@last", "COMPLETED");
    assert_eq!(d.rnx(["job", "log", "nightly"]).ok(), "");
    let third = d.submit(["--name", "nightly", "sleep", "1000"]);
    let both = d.rnx(["job", "stop", "nightly"]);
    assert_eq!(both.code, 5);
    for id in [&first, &third] {
        assert!(both.stderr.contains(&id[..8]), "the candidates are listed: {}", both.stderr);
    }
    assert_eq!(d.status(&third)["status"], "RUNNING", "nothing is done to either");
    assert_eq!(d.rnx(["job", "stop", "@last"]).field("ID"), third);
    for word in ["morning", "NIGHTLY", "@first", "beef"] {
        let out = d.rnx(["job", "status", word]);
        assert_eq!(out.code, 5);
        assert!(out.stderr.contains(&format!("job not found: {word}")), "{}", out.stderr);
    }
    // Too short for the beginning of an id, but not for a name.
    let short = d.submit(["--name", "abc", "true"]);
    assert_eq!(d.rnx(["job", "status", "abc"]).field("Id"), short);
    let cut = d.rnx(["job", "status", "abd"]);
    assert!(cut.code == 2 && cut.stderr.contains("at least 4 characters"), "{}", cut.stderr);
    d.rnx(["job", "delete", "cafe-babe"]).ok();
    assert_eq!(d.rnx(["job", "status", &second]).code, 5);
}

#[test]
fn a_wait_ends_with_the_code_of_the_first_job_that_failed() {
    let d = TestDaemon::start();
    let gate = |code: &str| d.submit(["sh", "-c", &format!("echo much; sleep 1000 & wait; exit {code}")]);
    let (good, bad, worse) =
        (d.submit(["true"]), d.submit(["sh", "-c", "exit 3"]), d.submit(["sh", "-c", "exit 4"]));
    let out = d.rnx(["job", "wait", &good, &worse, &bad]);
    assert_eq!(
        out.exits(4),
        format!(
            "{good} COMPLETED ExitCode: 0 Reason: exited\n{worse} FAILED ExitCode: 4 Reason: exited\n\
             {bad} FAILED ExitCode: 3 Reason: exited\n"
        )
    );
    assert_eq!(d.rnx(["job", "wait", &good]).code, 0);
    // The wait for a running job ends with the job.
    let long = gate("0");
    let waiting = d.rnx_spawn(["job", "wait", &good, &long]);
    let told = d.rnx_spawn(["job", "wait", "--any", "--json", &long, &gate("0")]);
    let given_up = d.rnx(["job", "wait", "--timeout", "200ms", &good, &long]);
    assert_eq!(given_up.code, 7, "{}", given_up.stderr);
    assert!(given_up.stderr.contains(&format!("not ended within 200ms: {} (RUNNING)", &long[..8])));
    d.rnx(["job", "stop", &long]).ok();
    let waited = waiting.finish();
    assert_eq!(waited.code, 143);
    assert_eq!(waited.stderr.trim(), format!("rnx: job {} was stopped", &long[..8]));
    let told = told.finish();
    assert_eq!((told.code, &told.json()[0]["uuid"]), (143, &long.as_str().into()));
    assert_eq!(told.json().as_array().map(Vec::len), Some(1));
    d.rnx(["job", "stop", "@last"]).ok();
    // The command waits for no job when one of its words names none.
    assert_eq!(d.rnx(["job", "wait", &good, "nobody"]).code, 5);
    assert_eq!(d.rnx(["job", "wait"]).code, 2);
}

#[test]
fn rnx_says_in_one_line_why_a_job_did_not_end_by_itself() {
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1MiB"), ("joblet.spoolPolicy", "kill")]);
    let told = |flags: &[&str], command: &[&str]| {
        let out = d.rnx([&["job", "run", "--follow"], flags, command].concat());
        let id = d.status("@last")["uuid"].as_str().unwrap()[..8].to_owned();
        let lines: Vec<&str> = out.stderr.lines().filter(|l| l.starts_with("rnx: ")).collect();
        let line = lines.concat().replace(&id, "ID");
        assert_eq!(d.rnx(["job", "wait", "@last"]).code, out.code, "waiting has the same code");
        let waited = d.rnx(["job", "wait", "@last"]).stderr.replace(&id, "ID");
        assert_eq!(waited.trim(), line, "and the same line");
        (out.code, line)
    };
    let line = |code: i32, text: &str| (code, text.to_owned());
    assert_eq!(told(&[], &["true"]), line(0, ""));
    assert_eq!(told(&[], &["sh", "-c", "exit 7"]), line(7, ""));
    assert_eq!(
        told(&[], &["sh", "-c", "kill -SEGV $$"]),
        line(139, "rnx: job ID killed by signal 11 (SIGSEGV)")
    );
    assert_eq!(
        told(&["--timeout", "100ms"], &["sleep", "1000"]),
        line(124, "rnx: job ID ran longer than its timeout of 100ms")
    );
    let (code, text) = told(&[], &["no-such-program"]);
    assert_eq!(code, 127);
    assert!(text.starts_with("rnx: job ID failed to start: cannot execute \"no-such-program\": "), "{text}");
    assert_eq!(
        told(&[], &["sh", "-c", "yes"]),
        line(153, "rnx: job ID wrote more output than joblet.jobSpoolLimit allows (1MiB)")
    );
    assert_eq!(d.status("@last")["reason"], "output_limit");
}

#[test]
fn a_list_can_be_of_some_statuses_of_a_name_and_of_so_many() {
    let d = TestDaemon::start();
    let done = d.submit(["--name", "a", "true"]);
    let failed = d.submit(["--name", "b", "false"]);
    let running = d.submit(["--name", "a", "sleep", "1000"]);
    d.until_status(&failed, "FAILED");
    d.until_status(&done, "COMPLETED");
    let list = |flags: &[&str]| -> Vec<String> {
        let out = d.rnx([&["job", "list", "-o", "json"], flags].concat());
        out.ok();
        let jobs = out.json();
        jobs.as_array().unwrap().iter().map(|j| j["uuid"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&["--status=running,failed"]), [failed.clone(), running.clone()]);
    assert_eq!(list(&["--status=RUNNING", "--status", "COMPLETED"]), [done.clone(), running.clone()]);
    assert_eq!(list(&["--name=a"]), [done.clone(), running.clone()]);
    assert_eq!(list(&["--name=a", "--limit=1"]), std::slice::from_ref(&done));
    assert_eq!(list(&["--limit=2"]), [done, failed]);
    assert_eq!(list(&["--status=RUNNING", "--name=b"]), [""; 0]);
    let wrong = d.rnx(["job", "list", "--status=DONE"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("DONE"), "{}", wrong.stderr);
    assert_eq!(d.rnx(["job", "list", "--limit=0"]).code, 2);
    d.rnx(["job", "stop", &running]).ok();
}

#[test]
fn ctrl_c_leaves_the_job_alone_and_says_how_to_come_back() {
    let d = TestDaemon::start();
    let script = "echo ready; sleep 1000";
    let out = at_a_terminal(&d, &[("ready", "\\x03")], &["job", "run", "--follow", "sh", "-c", script]);
    let shown = out.exits(130);
    let id = d.rnx(["job", "list", "-o", "json"]).json()[0]["uuid"].as_str().unwrap().to_owned();
    let hint = format!("See it again: rnx job log {0}   Stop it: rnx job stop {0}", &id[..8]);
    assert!(shown.contains("the job goes on") && shown.contains(&hint), "{shown}");
    assert_eq!(d.status(&id)["status"], "RUNNING");
    assert_eq!(at_a_terminal(&d, &[("ready", "\\x03")], &["job", "log", &id]).code, 130);
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
    let later = ["job", "run", "--follow", "--schedule", "1d", "true"];
    let shown = at_a_terminal(&d, &[("ScheduledTime", "\\x03")], &later).exits(130);
    let id = d.rnx(["job", "cancel", "@last"]).field("ID");
    assert!(shown.contains(&format!("Before it starts: rnx job cancel {}", &id[..8])), "{shown}");
}

#[test]
fn queued_job_shows_its_wait_reason_and_its_queue_position() {
    let d = TestDaemon::with([("joblet.maxConcurrentJobs", 1)]);
    let running = d.submit(["sleep", "1000"]);
    let first = d.rnx(["job", "run", "--name", "first", "true"]);
    let second = d.rnx(["job", "run", "--name", "second", "true"]);
    let reason = "waits for a place: joblet.maxConcurrentJobs are running";
    for (job, place) in [(&first, 1), (&second, 2)] {
        let id = job.id();
        assert!(job.text().starts_with("Job queued:\n"), "{job:?}");
        assert_eq!(job.field("Status"), "INITIALIZING");
        let status = d.rnx(["job", "status", &id]);
        assert_eq!(
            (status.field("Queue Position"), status.field("Wait Reason")),
            (place.to_string(), reason.into())
        );
        let line =
            format!("{id} INITIALIZING StartTime: N/A Command: true (queue position {place}: {reason})\n");
        let list = d.rnx(["job", "list"]).ok();
        assert!(list.contains(&line), "{list}");
        assert_eq!(d.status(&id)["queuePosition"], place);
    }
    let later = d.submit(["--schedule", "1d", "true"]);
    assert!(d.rnx(["job", "list"]).ok().contains(" Command: true (waits for its time)\n"));
    d.rnx(["job", "cancel", &later]).ok();
    let waiting = d.rnx_spawn(["job", "wait", "first", "second"]);
    d.rnx(["job", "stop", &running]).ok();
    assert_eq!(waiting.finish().code, 0);
    let done = d.rnx(["job", "status", "second"]).ok();
    assert!(!done.contains("Queue Position") && !done.contains("Wait Reason"), "{done}");
}

#[test]
fn second_ctrl_c_ends_rnx_when_its_stderr_is_blocked() {
    let d = TestDaemon::start();
    // rnx cannot print the hint: the pipe behind stderr is full, and no reader drains it.
    let script = r#"
import fcntl, os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it
r, w = os.pipe()
fcntl.fcntl(w, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    while True: os.write(w, b"x" * 512)
except BlockingIOError: pass
fcntl.fcntl(w, fcntl.F_SETFL, 0)
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=w)
assert p.stdout.readline() == b"ready\n"
p.send_signal(signal.SIGINT)
def of(task, file):  # proc(5); "" of a thread that has ended
    try: return open(f"/proc/{p.pid}/task/{task}/{file}").read()
    except OSError: return ""
def writes(task):  # the number of the call it is in, then its arguments
    return of(task, "syscall").startswith("1 0x2 ")
def has_first(task):  # before it has it, a second one would be lost in the first
    mask = [line.split()[1] for line in of(task, "status").splitlines() if line.startswith("SigBlk:")]
    return of(task, "comm") == "interrupt\n" and mask and not int(mask[0], 16) >> (signal.SIGINT - 1) & 1
end = time.monotonic() + 60
while True:
    tasks = os.listdir(f"/proc/{p.pid}/task")
    if any(map(writes, tasks)) and any(map(has_first, tasks)): break
    assert time.monotonic() < end, "it does not write"
    time.sleep(0.01)
assert p.poll() is None
p.send_signal(signal.SIGINT)
print(p.wait(60))
"#;
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script, RNX, "--config"]).arg(d.dir().join("rnx-config.yml"));
    command.args(["job", "run", "-q", "--follow", "sh", "-c", "echo ready; sleep 1000"]);
    command.env_clear().env("HOME", d.dir()).env("PATH", "/usr/bin:/bin");
    let out = Running::start(&mut command).finish();
    assert_eq!(out.ok().trim(), "-2", "SIGINT's default action: {}", out.stderr);
    assert_eq!(d.status("@last")["status"], "RUNNING");
    d.rnx(["job", "stop", "@last"]).ok();
}

#[test]
fn ctrl_c_that_the_caller_ignores_ends_no_rnx() {
    let d = TestDaemon::start();
    let script = r#"
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for "rnx ... &" in a script
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
assert p.stdout.readline() == b"ready\n"
p.send_signal(signal.SIGINT)
print(p.wait(), p.stdout.read().decode())
"#;
    let job = ["job", "run", "-q", "--follow", "sh", "-c", "echo ready; sleep 1; echo over"];
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script, RNX, "--config"]).arg(d.dir().join("rnx-config.yml")).args(job);
    command.env_clear().env("HOME", d.dir()).env("PATH", "/usr/bin:/bin");
    let out = Running::start(&mut command).finish();
    assert_eq!(out.ok().trim(), "0 over", "{}", out.stderr);
}

#[test]
fn invalid_schedule_is_refused_by_rnx_without_a_call() {
    let d = TestDaemon::start();
    for text in ["soon", "0s", "366d", "2026-02-30T10:00", "2h30"] {
        let out = d.rnx(["job", "run", "--schedule", text, "true"]);
        assert_eq!(out.code, 125);
        assert!(out.stderr.contains(&format!("invalid value {text:?} for --schedule")), "{}", out.stderr);
    }
    eventually("no job came of it", || holds(d.rnx(["job", "list", "--json"]).text().trim() == "[]"));
}

#[test]
fn an_upload_shows_its_progress_on_a_terminal_and_nowhere_else() {
    let d = TestDaemon::start();
    let file = d.dir().join("large.bin");
    std::fs::write(&file, vec![7; 8_000_000]).unwrap();
    let file = file.display().to_string();
    let run = ["job", "run", "--wait", "--upload", &file, "cksum", "large.bin"];
    let shown = at_a_terminal(&d, &[("Sending", "")], &run).ok();
    let bar = "Reading  [########################]  100 %  8.0 of 8.0 MB";
    assert!(shown.contains(bar) && shown.contains("Sending  8.0 MB, 0 s so far"), "{shown:?}");
    let left = shown.rsplit("\r\u{1b}[K").next().unwrap();
    assert!(left.starts_with("Job started:"), "the line goes away: {left:?}");
    let quiet = at_a_terminal(&d, &[], &[&run[..2], &["-q"], &run[2..]].concat()).ok();
    let json = at_a_terminal(&d, &[], &[&["--json"], &run[..]].concat()).ok();
    let piped = d.rnx(run);
    piped.ok();
    for text in [quiet, json, piped.text(), piped.stderr] {
        assert!(!text.contains("Reading") && !text.contains("Sending"), "{text}");
    }
}

#[test]
fn scheduled_job_shows_its_time_and_is_canceled_or_awaited() {
    let d = TestDaemon::start();
    let file = d.dir().join("input.txt");
    std::fs::write(&file, "kept until the start\n").unwrap();
    let later = d.rnx(["job", "run", "--schedule", "1day 2h", "--name", "later", "sleep", "1"]);
    assert!(later.ok().starts_with("Job scheduled:\nID: "), "{}", later.text());
    assert_eq!(later.field("Status"), "SCHEDULED");
    let at: jiff::Timestamp = later.field("ScheduledTime").parse().unwrap();
    let waits = at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((26 * 3600 - 60..=26 * 3600).contains(&waits), "{waits}");
    let line = d.rnx(["job", "list"]).ok();
    assert!(
        line.contains(&format!("SCHEDULED StartTime: {} Command: sleep 1", later.field("ScheduledTime"))),
        "{line}"
    );
    assert_eq!(d.rnx(["job", "status", "later"]).field("Scheduled At"), later.field("ScheduledTime"));
    // The job is not running: rnx cancels it once instead of stopping it.
    let stopped = d.rnx(["job", "stop", "later"]);
    assert_eq!(stopped.code, 6, "{}", stopped.stderr);
    let canceled = d.rnx(["job", "cancel", "later"]);
    assert!(canceled.ok().starts_with("Job canceled successfully:\nID: "), "{}", canceled.text());
    assert_eq!((canceled.field("ID"), canceled.field("Status")), (later.id(), "CANCELED".to_owned()));
    canceled.field("CanceledAt").parse::<jiff::Timestamp>().unwrap();
    let again = d.rnx(["job", "cancel", "later"]);
    assert!(again.code == 6 && again.stderr.contains("not scheduled"), "{}", again.stderr);
    assert_eq!(d.rnx(["job", "wait", "later"]).code, 125, "it never ran");
    // A job that is scheduled soon runs soon, with the files that its request uploaded.
    let begun = jiff::Timestamp::now();
    let file = file.display().to_string();
    let soon = [
        "job",
        "run",
        "--follow",
        "--schedule",
        "1s",
        "--upload",
        &file,
        "sh",
        "-c",
        "cat input.txt; exit 3",
    ];
    let out = d.rnx(soon);
    assert_eq!(out.exits(3), "kept until the start\n");
    assert!(jiff::Timestamp::now().duration_since(begun).as_millis() >= 1000);
    let running = d.submit(["sleep", "1000"]);
    let refused = d.rnx(["job", "cancel", &running]);
    assert!(refused.code == 6 && refused.stderr.contains(&format!("rnx job stop {}", &running[..8])));
    d.rnx(["job", "stop", &running]).ok();
}

#[test]
fn a_time_without_an_offset_is_that_of_the_clients_clock() {
    let d = TestDaemon::start();
    // Summer from the last of March to the last of October, in every year.
    let scheduled = |time: &str| {
        let mut command = d.rnx_command(["job", "run", "--schedule", time, "true"]);
        Running::start(command.env("TZ", "CET-1CEST,J90/2,J304/3")).finish()
    };
    let year = jiff::Zoned::now().year() + 1;
    for (time, utc) in [
        ("01-15T15:00", "01-15T14:00:00Z"),
        ("07-15 15:00:30", "07-15T13:00:30Z"),
        ("07-15T15:00:00Z", "07-15T15:00:00Z"),
        ("07-15T15:00:00-08:30", "07-15T23:30:00Z"),
    ] {
        let (time, utc) = (format!("{year}-{time}"), format!("{year}-{utc}"));
        assert_eq!(scheduled(&time).field("ScheduledTime"), utc, "{time}");
        assert_eq!(d.status("@last")["scheduledTime"], utc);
        d.rnx(["job", "cancel", "@last"]).ok();
    }
    let gap = scheduled(&format!("{year}-03-31T02:30"));
    assert!(gap.code == 125 && gap.stderr.contains("clocks are put forward"), "{}", gap.stderr);
    let past = scheduled("2001-01-01T00:00");
    assert!(past.stderr.contains("2000-12-31T23:00:00Z is past: the job starts at once"), "{}", past.stderr);
    d.until_status(&past.id(), "COMPLETED");
}

#[test]
fn a_request_that_is_sent_again_gives_the_job_that_it_gave() {
    let d = TestDaemon::start();
    let run = |id: &str| d.rnx(["job", "run", "-q", "--request-id", id, "sleep", "1000"]).id();
    let first = run("nightly-2026-11-22");
    assert_eq!(run("nightly-2026-11-22"), first);
    let second = run("nightly-2026-11-23");
    assert_ne!(second, first);
    assert_eq!(d.rnx(["job", "list", "--json"]).json().as_array().map(Vec::len), Some(2));
    for id in [&first, &second] {
        d.rnx(["job", "stop", id]).ok();
    }
}

#[test]
fn a_watch_goes_on_when_the_daemon_is_killed_and_started_again() {
    let d = TestDaemon::start();
    let done = d.submit(["true"]);
    // Lasts as long as the daemons take to come back.
    let script = "i=0; until [ -e /work/enough ]; do i=$((i + 1)); echo line $i; \
                  [ $((i % 20)) = 0 ] && sleep 0.1; done; exit 5";
    let follow = d.rnx_spawn(["job", "run", "-q", "--follow", "sh", "-c", script]);
    eventually("it has begun", || holds(follow.printed() > 100));
    let id = d.status("@last")["uuid"].as_str().unwrap().to_owned();
    let wait = d.rnx_spawn(["job", "wait", &done, &id]);
    eventually("the first of them is told", || holds(wait.printed() > 0));
    let log = d.rnx_spawn(["job", "log", &id]);
    let some = d.rnx_spawn(["job", "log", "--filter=7", &id]);
    let tail = d.rnx_spawn(["job", "log", "--tail=3", &id]);
    let quiet = d.rnx_spawn(["job", "log", "--json", "--stream=stderr", "--since=1h", &id]);
    let samples = d.rnx_spawn(["job", "metrics", "--json", &id]);
    eventually("its first sample is told", || holds(samples.printed() > 0));
    let all = [&follow, &log, &some, &tail];
    eventually("the log is read", || holds(all.iter().all(|one| one.printed() > 100)));
    let mut d = d;
    for _ in 0..2 {
        let printed = all.map(|one| one.printed());
        d = d.crash().start();
        eventually("it goes on", || holds(all.iter().zip(printed).all(|(one, n)| one.printed() > n)));
    }
    gate::open(&id, "enough");
    let (followed, waited) = (follow.finish(), wait.finish());
    let text = followed.exits(5);
    let wanted: String = (1..=text.lines().count()).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text, wanted, "every byte once");
    assert!(followed.stderr.contains("waiting for it to come back"), "{}", followed.stderr);
    let lines =
        format!("{done} COMPLETED ExitCode: 0 Reason: exited\n{id} FAILED ExitCode: 5 Reason: exited\n");
    assert_eq!(waited.exits(5), lines);
    assert_eq!(log.finish().exits(0), wanted);
    let sevens: String = wanted.split_inclusive('\n').filter(|line| line.contains('7')).collect();
    assert_eq!(some.finish().exits(0), sevens, "every line once");
    let tail = tail.finish().exits(0);
    assert!(wanted.ends_with(&tail), "{tail}");
    assert_eq!(quiet.finish().exits(0), "");
    let stored = d.rnx(["job", "metrics", "--json", &id]).ok();
    assert_eq!(samples.finish().exits(0), stored, "every sample once");
    d.stop();
}

#[test]
fn start_by_a_killed_client_happens_once_or_not_at_all() {
    let d = TestDaemon::start();
    let file = d.dir().join("input.bin");
    std::fs::write(&file, vec![7; 2_000_000]).unwrap();
    let file = file.display().to_string();
    // At many points of its life, from its first instruction to after its answer.
    let starts = soak::rounds(40, 400);
    for n in 0..starts {
        let request = format!("request-{n}");
        let run = ["job", "run", "-q", "--request-id", &request, "--upload", &file, "true"];
        let mut client = d.rnx_spawn(run);
        let (looks, mut seen) = (n % 20, 0);
        eventually("the client has lived a while", || {
            seen += 1;
            holds(seen > looks)
        });
        client.kill();
        drop(client);
        // Whatever happened to the first request, the second one gets the only job.
        let id = d.rnx(run).id();
        if n % 10 == 0 {
            assert_eq!(d.rnx(run).id(), id);
        }
    }
    let jobs = d.rnx(["job", "list", "--json"]).json();
    assert_eq!(jobs.as_array().map(Vec::len), Some(starts), "a job for each request");
    eventually("all of them are over", || {
        holds(
            d.rnx(["job", "list", "--status=COMPLETED", "--json"]).json()
                == d.rnx(["job", "list", "--json"]).json(),
        )
    });
}
