//! `persist.storage.cloudwatch:`, history in CloudWatch of AWS.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::values::section;

/// The days that PutRetentionPolicy takes.
const DAYS: [i32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// The days without a setting.
const USUAL_DAYS: i32 = 7;
/// Dimensions that a metric may have, less JobID and NodeID.
const DIMENSIONS: usize = 28;
/// Most letters of a log group's name.
const GROUP_NAME: usize = 512;

/// The section `persist.storage.cloudwatch:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudWatch {
    /// The region; empty: as the environment or the instance says, else us-east-1.
    pub region: String,
    /// Another address of the service, such as a test server; empty: that of the region.
    pub endpoint: String,
    /// Log groups are `<log_group_prefix>/<nodeId>/jobs`.
    pub log_group_prefix: String,
    /// Namespace of the metrics.
    pub metric_namespace: String,
    /// Dimensions of each metric beside JobID and NodeID, at most 28.
    #[serde(deserialize_with = "section")]
    pub metric_dimensions: BTreeMap<String, String>,
    /// Events of one request, 1..10000.
    pub log_batch_size: u32,
    /// Metrics of one request, 1..1000.
    pub metric_batch_size: u32,
    /// MiB of local files, 1..1048576: jobs that run, and a cache of others, whose oldest ones go.
    pub cache_size_mb: u32,
    /// Days that CloudWatch keeps logs, one of the values that it knows; 0: 7 days, -1: for ever.
    pub log_retention_days: i32,
}

impl Default for CloudWatch {
    fn default() -> Self {
        Self {
            region: String::new(),
            endpoint: String::new(),
            log_group_prefix: "/joblet".into(),
            metric_namespace: "Joblet/Jobs".into(),
            metric_dimensions: BTreeMap::new(),
            log_batch_size: 100,
            metric_batch_size: 20,
            cache_size_mb: 1024,
            log_retention_days: 7,
        }
    }
}

impl CloudWatch {
    /// The name of a node's log group.
    pub fn group(&self, node: &str) -> String {
        format!("{}/{node}/jobs", self.log_group_prefix)
    }

    /// Days that CloudWatch keeps logs; `None`: for ever.
    pub fn retention_days(&self) -> Option<i32> {
        match self.log_retention_days {
            -1 => None,
            0 => Some(USUAL_DAYS),
            days => Some(days),
        }
    }

    /// Checks the section for this node, by the limits of the API references of CloudWatch and CloudWatch Logs.
    ///
    /// # Errors
    /// The key that AWS would refuse, and the values that it takes.
    pub fn check(&self, node: &str) -> Result<(), String> {
        let range = |key: &str, value: u32, most: u32| match value {
            value if (1..=most).contains(&value) => Ok(()),
            value => refuse(key, &format!("{value} is out of range 1..{most}")),
        };
        range("log_batch_size", self.log_batch_size, 10_000)?;
        range("metric_batch_size", self.metric_batch_size, 1000)?;
        range("cache_size_mb", self.cache_size_mb, 1 << 20)?;
        self.check_group(node)?;
        self.check_place()?;
        self.check_dimensions()
    }

    fn check_group(&self, node: &str) -> Result<(), String> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/#".contains(&b));
        if node.is_empty() {
            return Err(
                "persist.storage.type: cloudwatch needs server.nodeId, which names this node's log group"
                    .into(),
            );
        }
        if !plain(node) {
            let error = "server.nodeId may have letters, digits and . _ - / # only, because it is part of a log group's name";
            return Err(error.into());
        }
        if !plain(&self.log_group_prefix) || self.group(node).len() > GROUP_NAME {
            return refuse(
                "log_group_prefix",
                "a log group's name has letters, digits and . _ - / #, at most 512",
            );
        }
        if self.log_group_prefix.trim_start_matches('/').starts_with("aws/") {
            return refuse("log_group_prefix", "groups below aws/ belong to AWS");
        }
        let days = self.log_retention_days;
        if days != -1 && days != 0 && !DAYS.contains(&days) {
            let known = DAYS.map(|days| days.to_string()).join(", ");
            return refuse(
                "log_retention_days",
                &format!("{days} is none of -1 (for ever), 0 (7 days), {known}"),
            );
        }
        Ok(())
    }

    fn check_place(&self) -> Result<(), String> {
        if !self.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return refuse("region", &format!("{:?} is no name such as eu-central-1", self.region));
        }
        let endpoint = &self.endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return refuse("endpoint", "an address begins with https:// or http://");
        }
        let namespace = &self.metric_namespace;
        if !is_printable(namespace, 255) || namespace.starts_with(':') || namespace.starts_with("AWS/") {
            let rule =
                "a namespace has 1 to 255 ASCII letters, and begins neither with a colon nor with AWS/";
            return refuse("metric_namespace", rule);
        }
        Ok(())
    }

    fn check_dimensions(&self) -> Result<(), String> {
        let key = "metric_dimensions";
        if self.metric_dimensions.len() > DIMENSIONS {
            return refuse(key, &format!("more than {DIMENSIONS} entries"));
        }
        for (name, value) in &self.metric_dimensions {
            if name == "JobID" || name == "NodeID" {
                return refuse(key, &format!("each metric has {name} already"));
            }
            if !is_printable(name, 255) || !is_printable(value, 1024) || name.starts_with(':') {
                return refuse(key, &format!("{name:?} is no name and value that CloudWatch takes"));
            }
        }
        Ok(())
    }
}

/// Whether a text has one letter or more, all of them ASCII that can be seen.
fn is_printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !text.trim().is_empty()
}

fn refuse(key: &str, why: &str) -> Result<(), String> {
    Err(format!("persist.storage.cloudwatch.{key}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut CloudWatch)) -> String {
        let mut cloud = CloudWatch::default();
        change(&mut cloud);
        cloud.check("node-1").unwrap_err()
    }

    #[test]
    fn cloudwatch_defaults_pass_and_make_the_documented_group() {
        let cloud = CloudWatch::default();
        cloud.check("node-1").unwrap();
        assert_eq!(cloud.group("node-1"), "/joblet/node-1/jobs");
        assert_eq!(cloud.retention_days(), Some(7));
        assert!(cloud.check("").unwrap_err().contains("needs server.nodeId"));
        assert!(cloud.check("a b").unwrap_err().contains("server.nodeId"));
    }

    #[test]
    fn a_retention_that_aws_refuses_is_refused_with_the_list() {
        assert!(
            refused(|c| c.log_retention_days = 8).contains("8 is none of -1 (for ever), 0 (7 days), 1, 3, 5")
        );
        for (days, kept) in [(-1, None), (0, Some(7)), (1, Some(1)), (3653, Some(3653))] {
            let cloud = CloudWatch { log_retention_days: days, ..CloudWatch::default() };
            cloud.check("n").unwrap();
            assert_eq!(cloud.retention_days(), kept);
        }
    }

    #[test]
    fn sizes_and_names_beyond_the_limits_of_aws_are_refused() {
        assert!(
            refused(|c| c.log_batch_size = 10_001).contains("log_batch_size: 10001 is out of range 1..10000")
        );
        assert!(refused(|c| c.metric_batch_size = 0).contains("metric_batch_size"));
        assert!(refused(|c| c.log_group_prefix = "/a b".into()).contains("log_group_prefix"));
        assert!(refused(|c| c.log_group_prefix = "/aws/x".into()).contains("belong to AWS"));
        assert!(refused(|c| c.metric_namespace = "AWS/EC2".into()).contains("metric_namespace"));
        assert!(refused(|c| c.endpoint = "localhost:5000".into()).contains("endpoint"));
        assert!(refused(|c| c.region = "Frankfurt".into()).contains("region"));
    }

    #[test]
    fn dimensions_that_aws_refuses_are_refused() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert!(refused(|c| c.metric_dimensions = one("JobID", "x")).contains("has JobID already"));
        assert!(refused(|c| c.metric_dimensions = one("Env", " ")).contains("\"Env\""));
        assert!(refused(|c| c.metric_dimensions = one(":a", "x")).contains("\":a\""));
        let many = (0..29).map(|n| (format!("d{n}"), "v".to_owned())).collect();
        assert!(refused(|c| c.metric_dimensions = many).contains("more than 28"));
    }
}
