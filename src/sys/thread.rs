//! What one thread may change about itself alone.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Gives the calling thread an own root, working directory and umask (`CLONE_FS`), which setns(2) into a
/// mount namespace demands.
pub fn unshare_fs() -> io::Result<()> {
    // SAFETY: CLONE_FS changes the calling thread's fs_struct only; no Rust object refers to it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Moves the calling thread into a fresh copy of its mount namespace (and an own fs_struct).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the flags touch the calling thread's namespaces and fs_struct only, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Joins a mount namespace; the thread must have its own fs_struct ([`unshare_fs`]).
pub fn join_mounts(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).map_err(io::Error::from)
}
