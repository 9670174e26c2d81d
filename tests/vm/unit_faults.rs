//! The second guest with systemd: the ends of the units, and faults around them. It runs beside the first one, because both
//! wait more than they compute and neither measures time.

use super::unit::image;

in_guest! { GUEST, "unit_faults", alone: false, image:
    a_node_that_is_to_stop_its_jobs_does_and_leaves_nothing
    stopping_the_jobs_unit_sends_term_and_ends_all_jobs
    outside_changes_to_job_cgroups_are_detected_or_repaired
    task_limit_refuses_new_jobs_by_name_and_keeps_running_ones
    a_full_disk_holds_jobs_up_and_loses_nothing
    power_cut_loses_running_jobs_by_name_and_keeps_all_others
    a_start_that_fails_says_why_in_the_journal
}
