//! The walls around a build of a runtime are those of every job: the same tests, with a build as the vessel.
//!
//! Wishes that a build cannot have are not here, because there is nothing to try: a directory to begin in, a user, a profile (a
//! build is always `strict`), a terminal, volumes, GPUs, published ports, and a time to start. Files of the host's root are
//! read-only for it as for others (`builds.rs`), its network is in `builds.rs` too.

use super::{appetite, bridged_walls, confinement, security, walls};
use crate::helper::TestDaemon;
use crate::helper::network::{has_program, host_and_outside, with_network};
use crate::helper::skip::is_root;
use crate::helper::vessel::as_builds;
use crate::helper::{eventually, gate};

#[test]
fn walls_stand_around_builds_too() {
    let tests = [
        walls::files_and_devices_of_the_host_cannot_be_read_written_or_made,
        walls::the_root_holds_no_mount_of_the_host_and_nothing_propagates,
        walls::a_job_has_no_capability_and_cannot_gain_one,
        walls::only_three_streams_are_open_and_namespaces_are_the_jobs_own,
        walls::job_without_a_network_has_only_loopback_and_reaches_no_one,
        walls::forbidden_system_calls_answer_eperm_or_enosys,
        walls::running_programs_cannot_be_overwritten,
        walls::job_can_kill_no_process_but_its_own,
        walls::classic_ways_out_of_a_root_lead_nowhere,
        walls::a_job_is_scheduled_like_everybody,
    ];
    as_builds(|| tests.iter().for_each(|test| test()));
}

#[test]
fn builds_are_confined_as_jobs_are() {
    let tests = [
        confinement::terminals_and_the_console_are_the_jobs_own,
        confinement::sockets_of_the_host_cannot_be_reached,
        confinement::nested_sandbox_works_unless_it_needs_a_user_namespace,
        confinement::job_has_no_interface_on_which_to_forge_packets,
        appetite::resources_that_a_job_uses_up_are_its_own,
    ];
    as_builds(|| tests.iter().for_each(|test| test()));
}

#[test]
fn hostile_build_in_bridge_gets_nowhere() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    let tests = [
        walls::files_and_devices_of_the_host_cannot_be_read_written_or_made,
        walls::the_root_holds_no_mount_of_the_host_and_nothing_propagates,
        bridged_walls::hostile_job,
    ];
    host.run(|| with_network("bridge", || as_builds(|| tests.iter().for_each(|test| test()))));
}

#[test]
fn every_layer_of_a_running_build_is_read_back_as_promised() {
    let d = TestDaemon::with([("runtime.build.network", "none")]);
    let dir = d.dir().join("package");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("setup.sh"), format!("{}; exit 1", gate::wait_for("seen"))).unwrap();
    let client = d.rnx_spawn(["runtime", "install", "app", "--from", dir.to_str().unwrap()]);
    let id = eventually("the build runs", || {
        let list = d.rnx(["--json", "job", "list", "--status", "running"]).json();
        list[0]["uuid"].as_str().or(list[0]["id"].as_str()).map(str::to_owned)
    });
    let (code, all) = security::layers(&d, &id);
    let broken: Vec<_> = all.iter().filter(|one| one["ok"] != true && one["unenforced"] != true).collect();
    assert!(code == 0 && broken.is_empty(), "{broken:#?}");
    // No directory but /work, /tmp and that of its runtime can be written.
    for name in ["capabilities", "no_new_privs", "seccomp", "mount /", "mount /work", "mount /opt/runtime"] {
        assert_eq!(security::layer(&all, name)["ok"], true);
    }
    gate::open(&id, "seen");
    assert!(client.finish().stderr.contains("exit code 1"));
}
