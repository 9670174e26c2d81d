//! Pressure stall information: the share of time in which a cgroup waited (the kernel's `psi.rst`).

use serde::{Deserialize, Serialize};

/// Waiting time in percent of the last 10, 60 and 300 seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Percent of the last 10 seconds in which some process waited.
    pub pressure_some_10: f64,
    /// Percent of the last 60 seconds in which some process waited.
    pub pressure_some_60: f64,
    /// Percent of the last 300 seconds in which some process waited.
    pub pressure_some_300: f64,
    /// Percent of the last 10 seconds in which all processes that were not idle waited. `cpu.pressure` has it since
    /// Linux 5.13; 0 before.
    pub pressure_full_10: f64,
    /// Percent of the last 60 seconds in which all waited, as above.
    pub pressure_full_60: f64,
    /// Percent of the last 300 seconds in which all waited, as above.
    pub pressure_full_300: f64,
}

/// Reads `cpu.pressure`, `memory.pressure` or `io.pressure`; `None` without the line `some`.
pub fn pressure(text: &str) -> Option<Pressure> {
    let [pressure_some_10, pressure_some_60, pressure_some_300] = averages(text, "some")?;
    let [pressure_full_10, pressure_full_60, pressure_full_300] = averages(text, "full").unwrap_or_default();
    Some(Pressure {
        pressure_some_10,
        pressure_some_60,
        pressure_some_300,
        pressure_full_10,
        pressure_full_60,
        pressure_full_300,
    })
}

fn averages(text: &str, kind: &str) -> Option<[f64; 3]> {
    let rest = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let value = |name: &str| {
        let word = rest.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        word.parse::<f64>().ok().filter(|percent| percent.is_finite())
    };
    Some([value("avg10")?, value("avg60")?, value("avg300")?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_lines_are_read_and_the_second_may_be_missing() {
        let some = "some avg10=1.50 avg60=0.25 avg300=0.01 total=123\n";
        let old = pressure(some).unwrap();
        assert_eq!((old.pressure_some_10, old.pressure_some_60, old.pressure_some_300), (1.5, 0.25, 0.01));
        assert_eq!(old.pressure_full_10, 0.0);
        let new = pressure(&format!("{some}full avg10=100.00 avg60=2.00 avg300=3.00 total=9\n")).unwrap();
        assert_eq!((new.pressure_full_10, new.pressure_full_300), (100.0, 3.0));
        for bad in
            ["", "full avg10=1 avg60=1 avg300=1", "some avg10=1 avg60=1", "some avg10=inf avg60=1 avg300=1"]
        {
            assert_eq!(pressure(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_averages_come_back(a in 0u32..10_000, b in 0u32..10_000, c in 0u32..10_000) {
            let [x, y, z] = [a, b, c].map(|n| f64::from(n) / 100.0);
            let read = pressure(&format!("some avg10={x:.2} avg60={y:.2} avg300={z:.2} total=1\n")).unwrap();
            prop_assert_eq!([read.pressure_some_10, read.pressure_some_60, read.pressure_some_300], [x, y, z]);
        }

        #[test]
        fn any_text_is_read_or_refused_but_never_a_panic(text in ".*\n?(some|full) avg10=.* avg60=.*") {
            let _ = pressure(&text);
        }
    }
}
