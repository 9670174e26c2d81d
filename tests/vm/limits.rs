//! A guest with busybox alone, in which a strict node enforces every limit (`init`, `checks/`).

use super::guest::{BOOT, disk, pack};
use crate::helper::daemon::{JOBLET, PERSIST, RNX};
use crate::helper::programs::{c, cache, job};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOGS: [&str; 9] = [
    "hog_memory",
    "hog_cpu",
    "hog_processes",
    "hog_objects",
    "pools",
    "unfair",
    "neighbour",
    "disk_rate",
    "set_quota",
];

/// Programs that busybox lacks, or has with too few options.
const TOOLS: [&str; 8] = [
    "/usr/sbin/mke2fs",
    "/usr/bin/chattr",
    "/usr/sbin/filefrag",
    "/usr/sbin/dmsetup",
    "/usr/bin/setpriv",
    "/usr/bin/df",
    "/usr/bin/free",
    "/usr/bin/ps",
];
/// Disks for a look at the host. Sparse.
const MANY: u64 = 8;

/// `tests/jobs/parallelism.rs` compiled into `out`.
fn parallelism(out: &Path) -> PathBuf {
    let program = out.join("parallelism");
    let done = Command::new("rustc").arg("-o").args([&program, &job("parallelism.rs")]).status();
    assert!(done.expect("rustc is installed").success(), "parallelism.rs cannot be compiled");
    program
}

fn image(out: &Path) -> Vec<String> {
    let (hogs, parallelism) = (HOGS.map(c), parallelism(out));
    let (cache, tests) = (cache().join("vm"), out.join("tests"));
    let mut files: Vec<&Path> = vec![&cache, out, &tests];
    files.extend([JOBLET, PERSIST, RNX].map(Path::new));
    files.extend(TOOLS.map(Path::new));
    files.extend(hogs.iter().map(|hog| hog.as_path()));
    files.push(&parallelism);
    pack("image.sh", &files);
    let kernel = format!("-kernel {0}/vmlinuz -initrd {0}/initramfs -append", out.display());
    let mut arguments: Vec<String> = kernel.split(' ').map(str::to_owned).collect();
    arguments.push(format!("{BOOT} rdinit=/init"));
    arguments.extend(disk(&out.join("opt.img"), "opt"));
    arguments.extend(disk(&out.join("swap.img"), "swap"));
    arguments.extend(disk(&out.join("faults.img"), "faults"));
    for number in 1..=MANY {
        let (name, size) = (format!("many{number}"), (8 + number) << 20);
        let image = out.join(format!("{name}.img"));
        File::create(&image).and_then(|file| file.set_len(size)).expect("room for a sparse file");
        arguments.extend(disk(&image, &name));
    }
    arguments
}

in_guest! { GUEST, "limits", alone: true, image:
    a_strict_node_starts_where_every_controller_is
    the_doctor_finds_no_fault_on_a_strict_node
    limits_of_a_running_job_are_read_back_from_its_group
    a_node_put_into_a_job_from_outside_is_refused_by_its_group
    a_memory_hog_is_killed_and_the_reason_is_oom
    every_kind_of_memory_ends_as_oom_at_the_limit
    page_cache_fills_the_memory_limit_without_an_oom_kill
    many_children_under_a_small_limit_always_end_as_oom
    a_jobs_swap_is_forbidden_and_its_group_dies_together
    no_page_of_a_job_goes_to_swap
    a_processor_quota_is_kept_within_five_percent
    a_job_is_pinned_to_its_cores
    priority_affinity_and_threads_give_a_job_no_more_processor
    a_fork_bomb_ends_at_the_process_limit_and_a_stop_clears_it
    a_fork_bomb_does_not_double_the_latency_of_a_neighbour
    a_job_sees_its_own_limits_and_no_other_cgroup
    runtimes_size_themselves_by_the_limits_of_the_job
    a_work_directory_on_disk_ends_at_its_quota
    a_writable_root_on_disk_has_the_quota_of_work
    a_job_cannot_leave_the_quota_of_its_work_directory
    uploads_count_for_the_quota_of_a_work_directory
    disk_traffic_keeps_to_its_limit_in_both_directions
    memory_is_measured_with_its_peak_and_its_limit
    throttling_and_pressure_are_measured_under_a_processor_limit
    disk_traffic_is_measured_by_device
    processes_are_measured_with_their_limit
    host_with_eight_disks_is_shown_as_its_own_tools_show_it
    a_jobs_files_are_gone_after_it_however_deep
    job_that_fills_its_directories_fills_them_for_itself_alone
    objects_of_the_kernel_are_bounded_and_go_with_their_job
    emptied_pools_are_full_for_other_jobs_and_the_host
    a_full_pool_of_compiled_programs_stops_no_start
    jobs_that_fork_without_end_leave_the_host_its_forks
    work_on_disk_outlives_the_daemon_but_not_its_job
    node_started_from_a_login_uses_the_configured_cgroup
    strict_node_refuses_unenforceable_limits_with_a_remedy
    the_smallest_limits_let_a_job_run_or_say_why_not
    a_clock_that_is_set_starts_jobs_by_its_time_and_ends_none
    data_directory_gone_read_only_delays_jobs_and_loses_nothing
    data_directory_out_of_inodes_refuses_only_new_jobs
    data_directory_at_its_quota_delays_jobs_and_loses_nothing
    state_reported_after_a_failed_write_is_on_the_disk
    failed_disk_ends_no_job_and_a_restart_knows_reported_states
    history_waits_for_its_failed_disk_and_is_whole_when_it_is_back
    nothing_is_left_when_the_daemon_ends
}
