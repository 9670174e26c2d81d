//! The rates of change from one sample to the next.

use super::sample::{IoRates, Sample, Traffic};

/// The least distance of two samples from which a rate is computed, ns.
const LEAST: u64 = 1_000_000;

/// Fills the rates of `now` from the sample before. A rate stays absent where a counter went back or the two samples are
/// too close.
pub fn fill(now: &mut Sample, before: &Sample) {
    let Some(ns) = now.uptime_ns.checked_sub(before.uptime_ns).filter(|ns| *ns >= LEAST) else { return };
    let per_second = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 * 1e9 / ns as f64);
    // One microsecond in a second is a ten-thousandth of a percent.
    let percent = |now, before| per_second(now, before).map(|micros| micros / 1e4);
    if let (Some(now), Some(before)) = (&mut now.cpu, &before.cpu) {
        now.usage_percent = percent(now.usage_usec, before.usage_usec);
        if let (Some(after), Some(before)) = (now.throttling, before.throttling) {
            now.throttle_percent = percent(after.throttled_usec, before.throttled_usec);
        }
    }
    if let (Some(now), Some(before)) = (&mut now.io, &before.io) {
        now.rates = io_rates(&now.total, &before.total, per_second);
    }
    if let (Some(now), Some(before)) = (&mut now.network, &before.network) {
        now.rx_bps = per_second(now.total.rx_bytes, before.total.rx_bytes);
        now.tx_bps = per_second(now.total.tx_bytes, before.total.tx_bytes);
    }
}

fn io_rates(
    now: &Traffic,
    before: &Traffic,
    per_second: impl Fn(u64, u64) -> Option<f64>,
) -> Option<IoRates> {
    Some(IoRates {
        read_bps: per_second(now.read_bytes, before.read_bytes)?,
        write_bps: per_second(now.write_bytes, before.write_bytes)?,
        read_iops: per_second(now.read_ops, before.read_ops)?,
        write_iops: per_second(now.write_ops, before.write_ops)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::sample;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_the_increase_per_second() {
        let before = sample(0);
        let mut now = sample(2);
        now.cpu.as_mut().unwrap().usage_usec += 1_000_000;
        now.cpu.as_mut().unwrap().throttling.as_mut().unwrap().throttled_usec += 500_000;
        now.io.as_mut().unwrap().total.write_bytes += 8192;
        now.network.as_mut().unwrap().total.rx_bytes += 10;
        fill(&mut now, &before);
        let cpu = now.cpu.unwrap();
        assert_eq!((cpu.usage_percent, cpu.throttle_percent), (Some(50.0), Some(25.0)));
        assert_eq!(now.io.unwrap().rates.unwrap().write_bps, 4096.0);
        assert_eq!(now.network.unwrap().rx_bps, Some(5.0));
    }

    #[test]
    fn a_counter_that_went_back_has_no_rate() {
        let mut before = sample(0);
        before.cpu.as_mut().unwrap().usage_usec += 1;
        before.io.as_mut().unwrap().total.read_ops += 1;
        let mut now = sample(1);
        fill(&mut now, &before);
        assert_eq!(now.cpu.unwrap().usage_percent, None);
        assert_eq!(now.io.unwrap().rates, None);
        assert_eq!(now.network.unwrap().tx_bps, Some(0.0));
    }

    proptest! {
        #[test]
        fn rates_are_finite_and_never_negative(from in any::<u64>(), to in any::<u64>(), a in any::<u64>(), b in any::<u64>()) {
            let (mut before, mut now) = (sample(0), sample(0));
            (before.uptime_ns, now.uptime_ns) = (from, to);
            (before.cpu.as_mut().unwrap().usage_usec, now.cpu.as_mut().unwrap().usage_usec) = (a, b);
            fill(&mut now, &before);
            let rate = now.cpu.unwrap().usage_percent;
            prop_assert!(rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
            prop_assert!(rate.is_none() || (b >= a && to > from));
        }
    }
}
