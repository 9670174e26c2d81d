//! An exit of the process without exit handlers.

/// Flushes nothing, runs no exit handler, ends the process.
///
/// A process that used gRPC with OpenSSL and returns from `main` aborts now and then: OpenSSL's exit handler
/// runs while gRPC's detached threads still end. Flush standard output yourself before.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition and does not return.
    unsafe { libc::_exit(code) }
}
