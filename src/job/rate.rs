//! The rate of a job's network.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// Lowest rate: below it a packet of full size would wait for more than a second.
const LEAST: u64 = 1024;
/// Highest rate, a terabyte a second: what the token bucket computes with stays far from an overflow.
const MOST: u64 = 1 << 40;

/// Bytes a second that a job may send and receive; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetRate {
    /// From the job.
    pub up: u64,
    /// To the job.
    pub down: u64,
}

impl NetRate {
    /// The rates of a request; 0 is not given.
    ///
    /// # Errors
    /// A rate that is negative, too low or too high.
    pub fn new(up: i64, down: i64) -> Result<Self, InvalidField> {
        let rate = |field: &str, given: i64| match u64::try_from(given) {
            Ok(0) => Ok(0),
            Ok(rate) if (LEAST..=MOST).contains(&rate) => Ok(rate),
            _ => Err(InvalidField::new(format!(
                "invalid {field} {given}: {LEAST} to {MOST} bytes a second, or 0 for no limit"
            ))),
        };
        Ok(NetRate { up: rate("net_rate_up", up)?, down: rate("net_rate_down", down)? })
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == NetRate::default()
    }
}

impl fmt::Display for NetRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way =
            |rate: u64| if rate == 0 { "no limit".to_owned() } else { format!("{rate} bytes a second") };
        write!(f, "{} up, {} down", way(self.up), way(self.down))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_within_their_bounds() {
        assert_eq!(NetRate::new(0, 0).map(|rate| rate.is_unlimited()), Ok(true));
        let rate = NetRate::new(1024, 1 << 40).unwrap();
        assert_eq!(rate.to_string(), "1024 bytes a second up, 1099511627776 bytes a second down");
        for (up, down, field) in
            [(-1, 0, "net_rate_up"), (1023, 0, "net_rate_up"), (0, (1 << 40) + 1, "net_rate_down")]
        {
            assert!(
                NetRate::new(up, down).unwrap_err().0.starts_with(&format!("invalid {field}")),
                "{up} {down}"
            );
        }
    }
}
