//! The walls around a job in mode bridge are those of mode none: the same tests, under a daemon whose jobs have a network
//! unless they ask for none.

use super::{security, walls};
use crate::helper::daemon::TestDaemon;
use crate::helper::network::{has_program, host_and_outside, with_network};
use crate::helper::programs;
use crate::helper::skip::is_root;

#[test]
fn walls_stand_around_jobs_with_a_network_too() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    let tests = [
        walls::files_and_devices_of_the_host_cannot_be_read_written_or_made,
        walls::the_root_holds_no_mount_of_the_host_and_nothing_propagates,
        walls::a_job_has_no_capability_and_cannot_gain_one,
        walls::only_three_streams_are_open_and_namespaces_are_the_jobs_own,
        walls::forbidden_system_calls_answer_eperm_or_enosys,
        walls::running_programs_cannot_be_overwritten,
        walls::job_can_kill_no_process_but_its_own,
        walls::classic_ways_out_of_a_root_lead_nowhere,
        security::every_layer_of_a_running_job_is_read_back_as_promised,
    ];
    host.run(|| with_network("bridge", || tests.iter().for_each(|test| test())));
}

#[test]
pub(super) fn hostile_job_in_bridge_gets_nowhere() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.run(|| with_network("bridge", hostile_job));
}

pub(super) fn hostile_job() {
    let mut d = TestDaemon::start();
    let hostile = programs::job("hostile.py").display().to_string();
    let out = d.run(["--upload", &hostile, "python3", "hostile.py"]);
    assert_eq!(out.code, 0, "something that it tried worked, or it did not run: {}", out.text());
    d.keep_descriptors();
    d.stop();
}
