//! A filter of system calls for this process (seccomp(2)).

use std::io;

use super::raw;

/// Installs a filter for the calling thread, which stays to its end and holds for what it starts. The process needs
/// `no_new_privs`, or CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's refusal: the program is none, for example.
pub fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    let args = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, &raw const program as usize, 0, 0, 0];
    // SAFETY: the program and its instructions live until the call returns; the kernel copies and only reads them.
    let result = unsafe { raw::syscall(libc::SYS_seccomp, args) };
    raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}
