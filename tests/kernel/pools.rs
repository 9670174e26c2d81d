//! Pools of the kernel that jobs share with the host: who is charged, and how the policy gets its place in one of them.

use std::os::fd::AsFd;

use joblet::job::{Profile, User};
use joblet::sandbox::capability::Capabilities;
use joblet::sandbox::identity::make_namespace;
use joblet::sandbox::{Network, Root, SandboxSpec};
use joblet::sys::user_namespace::owner;

use crate::helper::skip::is_root;
use crate::job::{Bench, Order};

#[test]
fn user_namespace_of_a_job_belongs_to_the_jobs_id() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    for user in User::ALL {
        let namespace = make_namespace(bench.ground.uid, user).unwrap();
        assert_eq!(owner(namespace.as_fd()).unwrap(), bench.ground.uid);
    }
}

#[test]
fn job_has_small_pools_and_no_namespaces_of_its_own() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let done = bench.shell("cd /proc/sys/user; grep . *");
        for line in done.stdout.lines() {
            let (pool, size) = line.split_once(':').unwrap();
            let wanted = match pool {
                "max_inotify_instances" => 128,
                "max_inotify_watches" => 16_384,
                _ => 0,
            };
            assert_eq!(size.parse(), Ok(wanted), "{pool}");
        }
        assert!(done.stdout.contains("max_user_namespaces"), "{done:?}");
    }
}

#[test]
fn policy_is_compiled_before_the_child_leaves_root() {
    needs!(is_root(), "needs root");
    let (hostname, network, user) = ("job", Network::Own, User::Root);
    let (root, profile, writable, scratch_bytes) = (Root::Host, Profile::Strict, false, 1 << 20);
    let spec = SandboxSpec { hostname, scratch_bytes, pids: 64, network, user, root, profile, writable };
    let plan = Bench::new().sandbox.explain(spec).unwrap();
    let place = |step: &str| plan.iter().position(|line| line.starts_with(step)).unwrap();
    // From the user namespace on, a pool that jobs have filled (net.core.bpf_jit_limit) has no room for it.
    assert!(place("install the system call policy") < place("join the leased user namespace"), "{plan:#?}");
}

/// Enters its own user namespace, by a path and by a process.
const ENTER_AGAIN: &str = "import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
for fd in (os.open('/proc/self/ns/user', os.O_RDONLY), os.pidfd_open(os.getpid())):
    print(errno.errorcode[ctypes.get_errno()] if libc.setns(fd, 0x10000000) else 'entered')
print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])";

#[test]
fn entering_a_user_namespace_again_gives_a_job_nothing() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let done = bench.run(&Order::new(&["python3", "-c", ENTER_AGAIN]));
        let held = if bench.ground.profile.is_strict() { 0 } else { Capabilities::CONTAINER.bits() };
        assert_eq!(done.stdout, format!("EINVAL\nEINVAL\n{held:016x}\n"), "{done:?}");
    }
}
