//! bpf(2), as much of it as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` needs: load, attach to a group, query.
//!
//! Constants and layouts are those of linux/bpf.h (`union bpf_attr`, `struct bpf_prog_info`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::raw;

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_GET_FD_BY_ID: usize = 13;
const OBJ_GET_INFO_BY_FD: usize = 15;
const PROG_QUERY: usize = 16;
/// The type of a device program (`BPF_PROG_TYPE_CGROUP_DEVICE`).
const TYPE_DEVICE: u32 = 15;
/// Its place in a cgroup (`BPF_CGROUP_DEVICE`).
const ATTACH_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_OVERRIDE`: a group below may have another program instead.
const ALLOW_OVERRIDE: u32 = 1;
/// `BPF_F_QUERY_EFFECTIVE`: with those of groups above.
const EFFECTIVE: u32 = 1;
/// Most programs of a group that a query shows; a systemd unit and its slices have a few.
const MOST: usize = 64;

/// `PROG_LOAD` up to the name.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The arguments of `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The arguments of `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// The arguments of `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The arguments of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct InfoOf {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
}

/// The kernel's digest of the instructions of a program: equal programs have equal tags.
pub type Tag = [u8; 8];

/// Loads a program for devices, of instructions as the kernel's words of 64 bits (`struct bpf_insn`).
///
/// # Errors
/// EPERM: no CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN). EINVAL, ENOSYS: the kernel has no such programs. E2BIG,
/// EACCES: it does not take this one.
pub fn load_device_program(instructions: &[u64], name: &str) -> io::Result<OwnedFd> {
    let mut attr = Load {
        prog_type: TYPE_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    // With its NUL.
    attr.prog_name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    // SAFETY: the attribute is a whole one of this command; the instructions and the text it points to outlive the call.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel made this descriptor just now, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a program to a group, in place of one that was attached so before. A group below may have another instead.
///
/// # Errors
/// EPERM: a group above has one that allows none below it.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attach {
        target_fd: group.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_DEVICE,
        attach_flags: ALLOW_OVERRIDE,
    };
    // SAFETY: the attribute is a whole one of this command, without pointers; both descriptors are open.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// The tags of the programs that decide about devices in a group, those of groups above included.
///
/// # Errors
/// The kernel's refusal.
pub fn device_programs(group: BorrowedFd<'_>) -> io::Result<Vec<Tag>> {
    let mut ids = [0u32; MOST];
    let mut attr = Query {
        target_fd: group.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_DEVICE,
        query_flags: EFFECTIVE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST as u32,
        ..Query::default()
    };
    // SAFETY: the attribute is a whole one of this command, and `ids` has as many words as it says.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let found = ids.iter().take(attr.prog_cnt as usize);
    let open = |id: &u32| {
        let mut attr = ById { id: *id, ..ById::default() };
        // SAFETY: the attribute is a whole one of this command, without pointers.
        let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
        // SAFETY: the kernel made this descriptor just now, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    found.map(open).map(|program: io::Result<OwnedFd>| tag(&program?)).collect()
}

/// The tag of a program.
///
/// # Errors
/// The kernel's refusal.
pub fn tag(program: &OwnedFd) -> io::Result<Tag> {
    let mut info = Info::default();
    let mut attr = InfoOf {
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        info_len: size_of::<Info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: the attribute is a whole one of this command; `info` has as many bytes as it says, and outlives the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.tag)
}

/// One call. The descriptors that it makes are CLOEXEC (bpf(2)).
///
/// # Safety
/// `attr` is what the command wants, and its pointers hold for the call.
unsafe fn bpf<T>(command: usize, attr: &mut T) -> io::Result<usize> {
    let args = [command, std::ptr::from_mut(attr) as usize, size_of::<T>(), 0, 0, 0];
    // SAFETY: the caller vouches for the attribute, whose size is its own.
    let result = unsafe { raw::syscall(libc::SYS_bpf, args) };
    raw::errno(result).map_err(io::Error::from_raw_os_error)
}
