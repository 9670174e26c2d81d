//! The rate of a wire: a token bucket at each end, which limits what that end sends. The router's end sends to the job, the
//! job's end sends from it. Before the interfaces are up they cost a tenth of what they cost later: a warm sandbox gets them
//! later where its job has another rate. The job cannot take them off: it has no rights over its own network.

use std::os::fd::BorrowedFd;

use super::error::{NetworkError, changing};
use crate::sys::netlink::batch::Batch;
use crate::sys::netlink::queue::{Bucket, add_bucket, bucket_of, get_queues};
use crate::sys::netlink::{Family, Socket};
use crate::sys::thread::{join_network, unshare_network};

/// The part of a second whose bytes may pass at once: a timer of the kernel comes late on a busy machine.
const AT_ONCE: u64 = 50;
/// The part of a second whose bytes may wait.
const WAITING: u64 = 5;
/// Fewest and most bytes that pass at once: some packets, and what is still a rate.
const BURST: (u64, u64) = (16 << 10, 8 << 20);
/// Fewest and most bytes that wait beside those: a packet of the largest size that the kernel makes, and a bound of memory.
const QUEUE: (u64, u64) = (64 << 10, 16 << 20);
/// The index of loopback in every namespace.
const LOOPBACK: u32 = 1;

/// The bucket for so many bytes a second; `None`: no limit.
pub fn bucket(rate: u64) -> Option<Bucket> {
    let bytes = |part: u64, (least, most): (u64, u64)| (rate / part).clamp(least, most) as u32;
    let burst = bytes(AT_ONCE, BURST);
    (rate > 0).then(|| Bucket { rate, burst, limit: burst + bytes(WAITING, QUEUE) })
}

/// Whether the kernel has token buckets, tried in a namespace of its own that goes at once.
///
/// # Errors
/// The kernel's refusal: it was built without sch_tbf, or may not load it.
pub fn probe() -> Result<(), NetworkError> {
    let probe = || {
        unshare_network().map_err(|source| NetworkError::Namespace { doing: "make a namespace", source })?;
        let mut batch = Batch::default();
        if let Some(bucket) = bucket(1 << 30) {
            add_bucket(&mut batch, LOOPBACK, &bucket);
        }
        let tried = Socket::open(Family::Route).and_then(|mut socket| socket.talk(&mut batch.confirm()));
        changing(tried, "limit the rate of a network (kernel module sch_tbf)")
    };
    std::thread::scope(|scope| {
        scope.spawn(probe).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The rate of an interface in the namespace of this socket, in bytes a second; `None`: it has no bucket.
///
/// # Errors
/// The kernel's refusal.
pub fn of(socket: &mut Socket, index: u32) -> Result<Option<u64>, NetworkError> {
    let found = socket.dump(&mut get_queues(), |kind, body| bucket_of(kind, body, index));
    Ok(changing(found, "read the rate of a network")?.first().copied())
}

/// The rate of an interface, read in its namespace: that at which a job sends.
///
/// # Errors
/// The namespace cannot be entered; the kernel's refusal.
pub fn inside(namespace: BorrowedFd<'_>, index: u32) -> Result<Option<u64>, NetworkError> {
    let look = || {
        join_network(namespace)
            .map_err(|source| NetworkError::Namespace { doing: "enter a job's network", source })?;
        of(&mut changing(Socket::open(Family::Route), "read the rate of a network")?, index)
    };
    std::thread::scope(|scope| {
        scope.spawn(look).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_some_packets_and_are_bounded() {
        assert_eq!(bucket(0), None);
        for (rate, burst, limit) in
            [(1024, 16 << 10, 80 << 10), (1 << 20, 20_971, 20_971 + 209_715), (1 << 40, 8 << 20, 24 << 20)]
        {
            assert_eq!(bucket(rate), Some(Bucket { rate, burst, limit }));
        }
    }
}
