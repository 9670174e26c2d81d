//! A guest with a small Debian, in which systemd is PID 1 and runs the units of `systemd/`, which
//! `vendor-config/install.sh` installs (`unit.sh`).

use super::guest::{BOOT, disk, pack};
use crate::helper::daemon::{JOBLET, PERSIST, RESOLVER, RNX};
use crate::helper::programs::{c, cache};
use std::path::Path;

pub(super) fn image(out: &Path) -> Vec<String> {
    image_with(out, "hog_memory")
}

/// The same with another of the small programs of `tests/jobs`.
pub(super) fn image_with(out: &Path, small: &str) -> Vec<String> {
    let (cache, tests, small) = (cache().join("vm"), out.join("tests"), c(small));
    let [joblet, persist, resolver, rnx] = [JOBLET, PERSIST, RESOLVER, RNX].map(Path::new);
    pack("debian.sh", &[&cache, out, &tests, joblet, rnx, persist, resolver, &small]);
    let mut arguments = vec!["-kernel".to_owned(), out.join("vmlinuz").display().to_string()];
    arguments.extend(disk(&out.join("root.img"), "root"));
    // The disk is there again after the test that cuts the power.
    arguments.extend(["-action", "reboot=reset"].map(str::to_owned));
    let init = "init=/usr/lib/systemd/systemd systemd.unit=checks.service systemd.show_status=0";
    arguments.extend(["-append".to_owned(), format!("{BOOT} root=/dev/nvme0n1 rw {init}")]);
    arguments
}

in_guest! { GUEST, "unit", alone: false, image:
    the_installer_says_what_it_would_do_and_does_nothing
    the_installer_makes_a_node_from_nothing
    impossible_installation_is_refused_and_changes_nothing
    the_unit_is_up_when_the_daemon_listens
    units_verify_clean_and_daemon_has_only_needed_privileges
    a_job_has_its_limits_in_the_tree_that_systemd_delegates
    a_job_out_of_memory_does_not_end_the_unit
    journal_has_the_life_of_the_daemon_and_of_every_job
    reload_is_applied_and_ends_no_job_or_daemon
    jobs_and_their_limits_outlive_restarts_under_load
    jobs_outlive_a_crash_and_the_new_daemon_limits_as_before
    an_upgrade_replaces_the_programs_under_running_jobs
    unused_signals_do_no_harm_and_term_keeps_jobs_and_streams
    a_stop_is_clean_and_keeps_the_jobs_and_nothing_else
    uninstall_ends_jobs_and_keeps_data_and_purge_keeps_nothing
}
