//! The kernel made safe: the only room besides `sandbox/child.rs` and joblet-init where `unsafe` may appear.
//!
//! Each file wraps calls that neither rustix nor nix offers as safe ones: `clone3` on an own stack, `unshare` of
//! one thread, `mount_setattr`, the number of open descriptors, loop devices, programs that decide about devices, the growth of an ext4, namespaces of a pidfd, project quotas, options of netlink sockets, user namespaces, probes
//! that change nothing, inherited descriptors, filters of system calls, gRPC on a socket of ours, the vendor's libraries about GPUs, an exit without exit handlers, writing dirty pages
//! ahead. `mailbox`, `clock`, `removal`, `nftables` and the messages of `netlink` need no `unsafe`. A wrapper is safe or it is
//! `unsafe fn` with its preconditions; nothing is "usually fine".

#![allow(unsafe_code)]

pub mod bpf;
pub mod clock;
pub mod clone;
pub mod cuda;
pub mod descriptors;
pub mod exit;
pub mod ext4;
pub mod grpc;
pub mod inherited;
pub mod loop_device;
pub mod mailbox;
pub mod mount;
pub mod netlink;
pub mod nftables;
pub mod nvml;
pub mod nvml_figures;
pub mod pidfd;
pub mod probe;
pub mod quota;
pub mod raw;
pub mod removal;
pub mod seccomp;
pub mod thread;
pub mod user_namespace;
pub mod writeback;

pub use exit::exit_now;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!(
    "joblet runs on Linux x86_64: the child's system calls and the seccomp policy are written for it"
);
