//! The third guest with systemd: networks of jobs under the unit as shipped, beside real udevd, networkd, nftables and iptables
//! (`networks.sh`). The kernel of this guest alone has modules for networks.

use super::unit::image_with;
use std::path::Path;

fn image(out: &Path) -> Vec<String> {
    image_with(out, "outside")
}

in_guest! { GUEST, "unit_networks", alone: true, image:
    modules_that_doctor_names_are_all_that_networks_need
    rates_are_refused_by_name_until_the_kernel_has_them
    jobs_reach_the_outside_and_each_other_by_name_under_the_unit
    resolver_is_confined_and_goes_before_the_daemon
    sixty_jobs_are_no_event_for_the_host_and_joblet0_is_ours
    a_transfer_outlives_restart_crash_and_upgrade_whole
    flushed_rules_are_written_again_and_nothing_was_open
    chains_of_docker_are_passed_and_those_of_firewalld_are_named
    a_smaller_mtu_of_the_uplink_loses_no_byte
    a_clock_set_forward_and_back_ends_no_connection
    a_reboot_keeps_networks_and_modules_load_on_demand
}
