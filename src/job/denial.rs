//! The destinations that a job was refused.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Destinations that the record of a job keeps.
pub const MOST_KEPT: usize = 100;

/// A destination that a job was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The name, where the job asked for one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The address, where it sent packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port of TCP or UDP, else 0.
    pub port: u16,
    /// `tcp`, `udp`, `icmp`, a number of IANA, or `dns` for a question.
    pub protocol: String,
    /// Packets or questions.
    pub count: u64,
    /// The first of them, ns since the epoch.
    pub first_ns: i64,
    /// The rule that refused it.
    pub rule: String,
    /// The flag or setting that would allow it; empty where nothing does.
    pub allow: String,
}

/// All that a job was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denials {
    /// The destinations, the first refused first.
    pub rows: Vec<Denial>,
    /// Packets to destinations that have no row.
    pub uncounted: u64,
}

impl Denials {
    /// Packets and questions that were refused.
    pub fn total(&self) -> u64 {
        self.rows.iter().fold(self.uncounted, |sum, row| sum.saturating_add(row.count))
    }

    /// The rows with the most packets, as many as a record keeps.
    #[must_use]
    pub fn kept(mut self) -> Self {
        if self.rows.len() > MOST_KEPT {
            self.rows.sort_by_key(|row| std::cmp::Reverse(row.count));
            let rest = self.rows.split_off(MOST_KEPT);
            self.uncounted = rest.iter().fold(self.uncounted, |sum, row| sum.saturating_add(row.count));
            self.rows.sort_by_key(|row| row.first_ns);
        }
        self
    }

    /// Bytes of the texts.
    pub fn text_bytes(&self) -> usize {
        let bytes =
            |row: &Denial| row.name.len() + row.protocol.len() + row.rule.len() + row.allow.len() + 64;
        self.rows.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keeps_the_most_frequent_destinations_and_the_sum() {
        let row = |n: u64| Denial {
            name: format!("{n}.example"),
            address: None,
            port: 0,
            protocol: "dns".into(),
            count: n,
            first_ns: 1000 - n.cast_signed(),
            rule: String::new(),
            allow: String::new(),
        };
        let all = Denials { rows: (1..=150).map(row).collect(), uncounted: 5 };
        let total = all.total();
        let kept = all.kept();
        assert_eq!((kept.rows.len(), kept.total()), (MOST_KEPT, total));
        assert_eq!((kept.rows[0].count, kept.rows[99].count), (150, 51));
    }
}
