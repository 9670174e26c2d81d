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

    /// The rates of a node's configuration; 0 is no limit.
    ///
    /// # Errors
    /// A rate that is too low or too high.
    pub fn of_node(up: u64, down: u64) -> Result<Self, InvalidField> {
        for (key, given) in [("network.rate.up", up), ("network.rate.down", down)] {
            if given != 0 && !(LEAST..=MOST).contains(&given) {
                let why =
                    format!("{key}: {given} is out of range {LEAST}..{MOST} bytes a second; 0 is no limit");
                return Err(InvalidField::new(why));
            }
        }
        Ok(NetRate { up, down })
    }

    /// The rates of a job on a node with these, which it has where it asks for none.
    ///
    /// # Errors
    /// It asks for more.
    pub fn within(self, node: NetRate) -> Result<Self, InvalidField> {
        let way = |field: &str, key: &str, asked: u64, node: u64| match (asked, node) {
            (0, _) => Ok(node),
            (asked, node) if node != 0 && asked > node => Err(InvalidField::new(format!(
                "{field} {asked} is above {key} of this node, {node} bytes a second"
            ))),
            _ => Ok(asked),
        };
        let up = way("net_rate_up", "network.rate.up", self.up, node.up)?;
        let down = way("net_rate_down", "network.rate.down", self.down, node.down)?;
        Ok(NetRate { up, down })
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
    fn rate_of_the_node_is_the_default_and_the_maximum() {
        let rate = |up, down| NetRate { up, down };
        let node = rate(4096, 0);
        for (asked, given) in
            [(rate(0, 0), node), (rate(2048, 1 << 30), rate(2048, 1 << 30)), (rate(4096, 0), node)]
        {
            assert_eq!(asked.within(node), Ok(given));
        }
        let said = rate(4097, 0).within(node).unwrap_err().0;
        assert_eq!(said, "net_rate_up 4097 is above network.rate.up of this node, 4096 bytes a second");
        assert!(rate(1, 1 << 20).within(rate(0, 1024)).unwrap_err().0.starts_with("net_rate_down"));
        assert_eq!(NetRate::of_node(0, 1024), Ok(rate(0, 1024)));
        assert!(NetRate::of_node(1, 0).unwrap_err().0.starts_with("network.rate.up: 1 is out of range"));
    }

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
