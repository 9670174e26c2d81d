//! The messages of rtnetlink(7) about the queue of an interface, as far as they limit its rate: a token bucket, tbf(8).

use super::batch::{Batch, attribute, u32_at};

/// Message types (linux/rtnetlink.h).
const NEWQDISC: u16 = 36;
const GETQDISC: u16 = 38;
/// Flags: make it, and it must be new; make it, or change the one that is there; everything.
const NEW: u16 = 0x400 | 0x200;
const PUT: u16 = 0x400 | 0x100;
const DUMP: u16 = 0x300;

/// Attributes of a queue (linux/rtnetlink.h), and of a token bucket (linux/pkt_sched.h).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BUCKET_PARAMETERS: u16 = 1;
const BUCKET_RATE: u16 = 4;
const BUCKET_BURST: u16 = 6;

/// The place of the one queue of an interface (linux/pkt_sched.h, TC_H_ROOT), and the number that it gets, 1:0.
const ROOT: u32 = u32::MAX;
const HANDLE: u32 = 0x1_0000;
/// Frames have the length that they have: no cells of ATM.
const ETHERNET: u8 = 1;
/// Where the rate and the queue stand in `struct tc_tbf_qopt`, of 36 bytes: two of `struct tc_ratespec`, then the numbers.
const PARAMETERS: usize = 36;
const LINK_LAYER: usize = 1;
const RATE: usize = 8;
const LIMIT: usize = 24;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second that pass in the long run.
    pub rate: u64,
    /// Bytes that pass at once after a pause.
    pub burst: u32,
    /// Bytes that wait; more is dropped.
    pub limit: u32,
}

/// The fixed part of a message about a queue, `struct tcmsg`.
fn queue(index: u32, handle: u32, parent: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&handle.to_ne_bytes());
    fixed[12..16].copy_from_slice(&parent.to_ne_bytes());
    fixed
}

/// Limits the rate at which an interface sends, which has no limit yet.
pub fn add_bucket(batch: &mut Batch, index: u32, bucket: &Bucket) {
    write_bucket(batch, NEW, index, bucket);
}

/// Limits the rate at which an interface sends, instead of the limit that [`add_bucket`] gave it, if any.
pub fn put_bucket(batch: &mut Batch, index: u32, bucket: &Bucket) {
    write_bucket(batch, PUT, index, bucket);
}

fn write_bucket(batch: &mut Batch, flags: u16, index: u32, bucket: &Bucket) {
    let mut parameters = [0; PARAMETERS];
    parameters[LINK_LAYER] = ETHERNET;
    // A rate that does not fit stands in an attribute of its own.
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parameters[RATE..RATE + 4].copy_from_slice(&rate.to_ne_bytes());
    parameters[LIMIT..LIMIT + 4].copy_from_slice(&bucket.limit.to_ne_bytes());
    batch.message(NEWQDISC, flags, &queue(index, HANDLE, ROOT), |a| {
        a.text(KIND, "tbf");
        a.nest(OPTIONS, |a| {
            a.bytes(BUCKET_PARAMETERS, &parameters);
            a.u32(BUCKET_BURST, bucket.burst);
            if bucket.rate >= u64::from(u32::MAX) {
                a.bytes(BUCKET_RATE, &bucket.rate.to_ne_bytes());
            }
        });
    });
}

/// Asks for the queues of all interfaces; [`bucket_of`] reads them.
pub fn get_queues() -> Batch {
    let mut batch = Batch::default();
    batch.message(GETQDISC, DUMP, &queue(0, 0, 0), |_| {});
    batch
}

/// The rate of the token bucket of an interface, in bytes a second, from an entry of an answer; `None` where the entry is
/// about another interface or another queue.
pub fn bucket_of(kind: u16, body: &[u8], index: u32) -> Option<u64> {
    let rest = body.get(20..).filter(|_| kind == NEWQDISC && u32_at(body, 4) == Some(index))?;
    let name = attribute(rest, KIND)?;
    let options = attribute(rest, OPTIONS).filter(|_| name == b"tbf\0")?;
    let wide = attribute(options, BUCKET_RATE).and_then(|rate| rate.try_into().ok());
    let narrow = || Some(u64::from(u32_at(attribute(options, BUCKET_PARAMETERS)?, RATE)?));
    wide.map(u64::from_ne_bytes).or_else(narrow)
}

#[cfg(test)]
mod tests {
    use super::super::batch::hex;
    use super::*;

    /// Buckets as the kernel took them; `tc qdisc show` showed what was meant.
    #[test]
    fn buckets_are_these_bytes() {
        let mut batch = Batch::default();
        add_bucket(&mut batch, 2, &Bucket { rate: 1_250_000, burst: 25_000, limit: 150_000 });
        add_bucket(&mut batch, 3, &Bucket { rate: 5_000_000_000, burst: 4 << 20, limit: 8 << 20 });
        let expected = "
            60000000 2400 0106 01000000 00000000  00000000 02000000 00000100 ffffffff 00000000
            08000100 74626600
            34000280
              28000100 00010000 00000000 d0121300  00000000 00000000 00000000  f0490200 00000000 00000000
              08000600 a8610000
            6c000000 2400 0506 02000000 00000000  00000000 03000000 00000100 ffffffff 00000000
            08000100 74626600
            40000280
              28000100 00010000 00000000 ffffffff  00000000 00000000 00000000  00008000 00000000 00000000
              08000600 00004000
              0c000400 00f2052a01000000";
        assert_eq!(batch.confirm().numbered(1), hex(expected));
    }

    #[test]
    fn rates_are_read_back() {
        for rate in [1024, 1_250_000, u64::from(u32::MAX), 5_000_000_000] {
            let mut batch = Batch::default();
            add_bucket(&mut batch, 7, &Bucket { rate, burst: 1, limit: 1 });
            let bytes = batch.numbered(1).to_vec();
            assert_eq!(bucket_of(NEWQDISC, &bytes[16..], 7), Some(rate));
            assert_eq!((bucket_of(NEWQDISC, &bytes[16..], 8), bucket_of(1, &bytes[16..], 7)), (None, None));
        }
    }

    proptest::proptest! {
        #[test]
        fn queues_of_any_bytes_are_read_or_left(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)
        ) {
            let _ = bucket_of(NEWQDISC, &bytes, 0);
        }
    }
}
