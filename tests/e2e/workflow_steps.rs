//! The daemon is killed between any two steps of a job's start and of its end: strace(1) kills it before a chosen call of a
//! chosen thread. Every job of the workflow runs once, and what it leaves for the next one arrives.

use crate::helper::daemon::Node;
use crate::helper::tracer::{self, Tracer};
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::until;
use crate::helper::{TestDaemon, soak};
use grpcio::CallOption;
use joblet::pb::joblet::{GetWorkflowStatusRequest, RunWorkflowRequest};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// The jobs that have to run.
const JOBS: [&str; 2] = ["first", "second"];

/// A thread of the daemon, one of its calls, and the number of that call from the request on: it is not made any more.
type Step = (&'static str, &'static str, usize);

/// The steps that matter, in their order.
const STEPS: [Step; 7] = [
    // The start of the first job is not written down, and is written down but not given to joblet-init.
    ("spawner", "pwrite64", 1),
    ("spawner", "pwrite64", 2),
    // Its end is seen; its files are half taken; they are kept, and the loop does not know.
    ("outputs", "openat", 1),
    ("outputs", "rename,renameat,renameat2", 1),
    ("outputs", "write", 2),
    // Records: the workflow, starts and ends.
    ("state", "fdatasync", 3),
    ("state", "fdatasync", 5),
];

/// Calls whose every number is tried in the tier soak.
const CALLS: [(&str, &str); 11] = [
    ("spawner", "pwrite64"),
    ("spawner", "write"),
    ("spawner", "openat"),
    ("outputs", "openat"),
    ("outputs", "fsync"),
    ("outputs", "write"),
    ("state", "pwrite64"),
    ("state", "fdatasync"),
    ("output", "write"),
    ("cleanup", "rename,renameat,renameat2"),
    ("cleanup", "unlink,unlinkat"),
];

/// Files of the host that jobs read: the kernel tells how often each was opened.
struct Marks {
    dir: tempfile::TempDir,
    watch: OwnedFd,
}

impl Marks {
    fn new() -> Marks {
        let dir = tempfile::Builder::new().prefix("joblet-marks.").tempdir_in("/srv").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        for job in JOBS {
            fs::write(dir.path().join(job), "").unwrap();
        }
        // With the ends: the kernel joins equal events that follow each other.
        inotify::add_watch(&watch, dir.path(), WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE).unwrap();
        Marks { dir, watch }
    }

    /// How often each file was opened since the last call.
    fn opened(&self) -> BTreeMap<String, usize> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
        let mut found = BTreeMap::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|_| event.events().contains(inotify::ReadFlags::OPEN)) {
                *found.entry(name).or_default() += 1;
            }
        }
        found
    }

    /// A job that leaves a file, a job that gets it, and one that is not needed.
    fn workflow(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "jobs:\n  \
             first: {{command: sh, args: [-c, 'cat {dir}/first; echo made >part'], outputs: [part]}}\n  \
             second: {{command: sh, args: [-c, 'cat {dir}/second part'], inputs: {{first: [part]}}, requires: [first]}}\n  \
             unneeded: {{command: 'true', requires: ['first=FAILED OR second=FAILED']}}\n"
        )
    }
}

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

/// Kills the daemon at a step of a workflow, and checks the workflow under the next one; whether it was killed.
fn survives(d: TestDaemon, marks: &Marks, (thread, call, number): Step, round: usize) -> (TestDaemon, bool) {
    let step = format!("kill before {call} number {number} of {thread}");
    let pid = d.pid();
    let change = format!("signal=SIGKILL:when={number}");
    let tracer = Tracer::attach_threads(pid, Some(thread), &d.dir().join("strace"), call, &change);
    let request = RunWorkflowRequest {
        workflow: "flow.yaml".into(),
        yamlContent: marks.workflow(),
        request_id: format!("round-{round}"),
        ..Default::default()
    };
    let client = d.client("default");
    let acknowledged = client.run_workflow_opt(&request, bounded()).map(|reply| reply.workflowUuid);
    let is_over = |id: &str| {
        let asked = GetWorkflowStatusRequest { workflowUuid: id.into(), ..Default::default() };
        let answer = client.get_workflow_status_opt(&asked, bounded());
        answer.is_ok_and(|answer| !answer.workflow.completedAt.is_none())
    };
    let alive = || fs::metadata(format!("/proc/{pid}/exe")).is_ok();
    eventually("the daemon is killed, or the workflow is over", || {
        holds(!alive() || acknowledged.as_ref().is_ok_and(|id| is_over(id)))
    });
    let killed = !alive();
    drop((tracer, client));
    let d = d.crash().start();
    let again = d.client("default").run_workflow_opt(&request, bounded()).unwrap().workflowUuid;
    assert!(acknowledged.as_ref().is_ok_and(|id| *id == again) || acknowledged.is_err(), "{step}");
    let flow = until(&d, &again, "COMPLETED");
    assert_eq!(flow.all(), ["first COMPLETED", "second COMPLETED", "unneeded CANCELED"], "{step}");
    for job in JOBS {
        assert_eq!(flow.job(job)["attempts"], 1, "{step}: {job}");
    }
    assert_eq!(flow.log(&d, "second"), "made\n", "{step}");
    let once: BTreeMap<String, usize> = JOBS.map(|job| (job.to_owned(), 1)).into();
    assert_eq!(marks.opened(), once, "{step}: each job ran once");
    println!("{step}: {}", if killed { "killed" } else { "not reached" });
    (d, killed)
}

#[test]
fn kill_at_each_step_of_a_job_runs_it_once_and_keeps_its_files() {
    needs!(tracer::is_there(), "strace is not installed");
    let marks = Marks::new();
    let node = Node::set_up();
    node.set("filesystem.extraMounts", vec![marks.dir.path().display().to_string()]);
    let mut d = node.start();
    let mut steps: Vec<Step> = STEPS.to_vec();
    let numbers = soak::rounds(0, 12);
    steps.extend(CALLS.iter().flat_map(|(thread, call)| (1..=numbers).map(|n| (*thread, *call, n))));
    let mut reached = 0;
    for (round, step) in steps.iter().enumerate() {
        let (next, killed) = survives(d, &marks, *step, round);
        d = next;
        reached += usize::from(killed);
    }
    println!("{reached} kills");
    assert!(reached >= 5, "only {reached} steps were reached");
    d.stop();
}
