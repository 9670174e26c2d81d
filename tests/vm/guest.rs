//! One boot of the guest, and one test for each line that its console must show.

use crate::helper::programs::{self, cache, source};
use crate::helper::rnx::Running;
use std::fs;
use std::process::Command;
use std::sync::{LazyLock, Once};

/// What one boot of the guest said on its console; the reason when there is no guest to boot.
static CONSOLE: LazyLock<Result<String, String>> = LazyLock::new(boot);

/// Every test of the guest, in the order in which it runs them.
const TESTS: &[&str] = &[
    "a_strict_node_starts_where_every_controller_is",
    "a_memory_hog_is_killed_and_the_reason_is_oom",
    "a_memory_hog_in_a_tmpfs_is_bounded_too",
    "a_processor_quota_is_kept_within_five_percent",
    "a_fork_bomb_ends_at_the_process_limit_and_a_stop_clears_it",
    "a_job_is_pinned_to_its_cores",
    "a_jobs_swap_is_forbidden_and_its_group_dies_together",
    "a_job_sees_no_cgroup_of_the_host",
    "a_work_directory_on_disk_ends_at_its_quota",
    "a_job_cannot_leave_the_quota_of_its_work_directory",
    "uploads_count_for_the_quota_of_a_work_directory",
    "a_jobs_files_are_gone_after_it_however_deep",
    "work_left_by_a_killed_daemon_is_removed_by_the_next",
    "a_node_started_from_a_login_takes_the_group_that_it_is_told",
    "nothing_is_left_when_the_daemon_ends",
];

fn boot() -> Result<String, String> {
    for (program, package) in [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("cpio", "cpio"),
        ("/bin/busybox", "busybox-static"),
        ("/usr/sbin/mke2fs", "e2fsprogs"),
    ] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        if !found.is_ok_and(|o| o.status.success()) {
            return Err(format!("{program} is missing (package {package}; tests/run.sh vm installs it)"));
        }
    }
    let out = tempfile::tempdir().expect("a directory for the image");
    let list = out.path().join("tests");
    fs::write(&list, TESTS.iter().map(|t| format!("TEST {t}\n")).collect::<String>())
        .expect("writing our own file");
    let mut image = Command::new("bash");
    image.arg(source("tests/vm/image.sh")).arg(cache().join("vm")).arg(out.path()).arg(&list);
    image.args([
        crate::helper::daemon::JOBLET,
        crate::helper::daemon::RNX,
        "/usr/sbin/mke2fs",
        "/usr/bin/chattr",
    ]);
    image.args(["hog_memory", "hog_cpu", "hog_processes"].map(programs::c));
    Running::start(&mut image).finish().ok();
    let mut qemu = Command::new("qemu-system-x86_64");
    // No KVM: a device that is present may still hang, and TCG boots in seconds.
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024",
        "-nographic",
        "-no-reboot",
        "-net",
        "none",
    ]);
    qemu.arg("-kernel").arg(out.path().join("vmlinuz")).arg("-initrd").arg(out.path().join("initramfs"));
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
    let console = Running::start(&mut qemu).finish_within(std::time::Duration::from_secs(600));
    Ok(console.text().replace('\r', ""))
}

fn judge(test: &str) {
    let name = test.rsplit("::").next().unwrap_or(test);
    assert!(TESTS.contains(&name), "{name} is not in the guest's list");
    let console = match &*CONSOLE {
        Ok(console) => console,
        Err(reason) => {
            crate::helper::skip::record(test, reason);
            return;
        }
    };
    if console.lines().any(|l| l == format!("PASS {name}")) {
        return;
    }
    let failed = console
        .lines()
        .find(|l| l.starts_with(&format!("FAIL {name}")))
        .unwrap_or("it did not come to this test");
    // Once is enough for a screen.
    static SHOWN: Once = Once::new();
    SHOWN.call_once(|| eprintln!("--- the guest's console\n{console}--- end of the guest's console"));
    panic!("{failed}");
}

/// A test that asks the console for its own name.
macro_rules! in_guest {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            judge(concat!(module_path!(), "::", stringify!($name)));
        }
    )*};
}

in_guest! {
    a_strict_node_starts_where_every_controller_is
    a_memory_hog_is_killed_and_the_reason_is_oom
    a_memory_hog_in_a_tmpfs_is_bounded_too
    a_processor_quota_is_kept_within_five_percent
    a_fork_bomb_ends_at_the_process_limit_and_a_stop_clears_it
    a_job_is_pinned_to_its_cores
    a_jobs_swap_is_forbidden_and_its_group_dies_together
    a_job_sees_no_cgroup_of_the_host
    a_work_directory_on_disk_ends_at_its_quota
    a_job_cannot_leave_the_quota_of_its_work_directory
    uploads_count_for_the_quota_of_a_work_directory
    a_jobs_files_are_gone_after_it_however_deep
    work_left_by_a_killed_daemon_is_removed_by_the_next
    a_node_started_from_a_login_takes_the_group_that_it_is_told
    nothing_is_left_when_the_daemon_ends
}
