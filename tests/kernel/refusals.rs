//! An isolation step that fails stops the job: the error names the step, and the job leaves nothing.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use joblet::job::exit_file::Begun;
use joblet::job::{Profile, User};

use crate::helper::residue::{files, processes_of};
use crate::helper::skip::is_root;
use crate::job::{Bench, Order};
use joblet::sandbox::{Network, Root, SandboxSpec};

fn plain_file(bench: &Bench) -> OwnedFd {
    File::create(bench.ground.dir.join("plain")).unwrap().into()
}

fn ok() -> Order {
    Order::new(&["true"])
}

/// Starts a job that cannot start and returns the error text.
fn refused(bench: &Bench, order: &Order) -> String {
    let Err(why) = bench.try_start(order) else { panic!("a job started behind a wall that was not there") };
    assert_eq!(processes_of(&bench.ground.ids()), Vec::<String>::new());
    assert_eq!(files(&bench.ground.dir.join("exit")), Vec::<std::path::PathBuf>::new());
    let processes = fs::read_to_string(bench.ground.cgroup.join("cgroup.procs")).unwrap();
    assert_eq!(processes, "");
    why.to_string()
}

#[test]
fn a_user_namespace_that_is_none_is_named() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let order = Order { user_namespace: Some(plain_file(&bench)), ..ok() };
    let why = refused(&bench, &order);
    assert!(
        why.starts_with("failed to create isolated environment: join the leased user namespace: Invalid"),
        "{why}"
    );
}

#[test]
fn a_host_name_that_is_too_long_is_named() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let why = refused(&bench, &Order { hostname: "x".repeat(70), ..ok() });
    let wanted =
        format!("failed to create isolated environment: set hostname {}: Invalid argument", "x".repeat(70));
    assert!(why.starts_with(&wanted), "{why}");
}

#[test]
fn working_directory_failure_is_reported_in_the_exit_file() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for (work_dir, errno) in [("/nowhere", libc::ENOENT), ("/etc/passwd", libc::ENOTDIR)] {
        let done = bench.run(&Order { work_dir: work_dir.into(), ..ok() });
        let record = done.record.unwrap();
        assert_eq!((record.begun, record.errno), (Begun::NotEntered, errno), "{work_dir}");
    }
}

#[test]
fn a_work_directory_that_is_no_mount_is_named() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let order = Order { work: Some(plain_file(&bench)), ..ok() };
    let why = refused(&bench, &order);
    assert!(
        why.starts_with("failed to create isolated environment: mount the work directory at /work: "),
        "{why}"
    );
}

#[test]
fn a_cgroup_that_is_none_stops_the_clone() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let order = Order { cgroup: Some(plain_file(&bench)), ..ok() };
    let why = refused(&bench, &order);
    let wanted = "failed to create isolated environment: clone the job's first process: ";
    assert!(why.starts_with(wanted), "{why}");
}

#[test]
fn arguments_that_no_exec_takes_are_refused_by_the_exec() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    // One string may have 128 KiB (execve(2)).
    let done = bench.run(&Order::new(&["true", &"x".repeat(200_000)]));
    let record = done.record.unwrap();
    assert_eq!((record.begun, record.errno), (Begun::NotExecuted, libc::E2BIG));
}

#[test]
fn job_starts_with_the_resources_of_one_that_failed_to_start() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    refused(&bench, &Order { hostname: "x".repeat(70), ..ok() });
    let done = bench.run(&ok());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn error_of_a_failed_step_is_its_line_in_the_explained_plan() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let hostname = "x".repeat(70);
    let (network, user) = (Network::Own, User::Root);
    let spec = SandboxSpec {
        hostname: &hostname,
        scratch_bytes: 1 << 20,
        pids: 64,
        network,
        user,
        root: Root::Host,
        profile: Profile::Strict,
        writable: false,
    };
    let plan = bench.sandbox.explain(spec).unwrap();
    let mut failed_at = Vec::new();
    for order in [
        Order { work: Some(plain_file(&bench)), ..ok() },
        Order { hostname: hostname.clone(), ..ok() },
        Order { user_namespace: Some(plain_file(&bench)), ..ok() },
    ] {
        let why = refused(&bench, &order);
        let said = why.strip_prefix("failed to create isolated environment: ").unwrap().to_owned();
        let step = plan.iter().position(|step| said.starts_with(&format!("{step}: ")));
        failed_at.push(step.unwrap_or_else(|| panic!("no step of the plan says: {said}\n{plan:#?}")));
    }
    // The three fail in the order in which the plan has their steps.
    assert!(failed_at.is_sorted(), "{failed_at:?}");
}
