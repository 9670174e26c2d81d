//! `metrics:`, the endpoint for Prometheus.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The section `metrics:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Address and port of `/metrics`, on loopback unless `tls`; empty: none, and nothing is counted.
    pub listen: String,
    /// Serves it by TLS with the node's certificate, to whoever has a certificate of the node's CA.
    pub tls: bool,
    /// Has series for each running job.
    #[serde(rename = "perJob")]
    pub per_job: bool,
    /// Most running jobs with series of their own, 1..10000.
    #[serde(rename = "perJobMax")]
    pub per_job_max: u32,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: String::new(), tls: false, per_job: false, per_job_max: 200 }
    }
}

impl Metrics {
    /// The address to listen at; `None`: none.
    ///
    /// # Errors
    /// No address and port, or one that other hosts reach.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self.listen.parse().map_err(|_| {
            format!("metrics.listen: \"{}\" is no address with a port, as 127.0.0.1:9100", self.listen)
        })?;
        if !address.ip().is_loopback() && !self.tls {
            return Err(format!(
                "metrics.listen: {address} can be reached by others, and /metrics asks for no certificate; \
                 set metrics.tls: true, or use 127.0.0.1 or [::1]"
            ));
        }
        Ok(Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_served_on_loopback_alone() {
        let address = |listen: &str| Metrics { listen: listen.into(), ..Metrics::default() }.address();
        assert_eq!(address(""), Ok(None));
        assert_eq!(address("127.0.0.1:9100").unwrap().unwrap().port(), 9100);
        assert!(address("[::1]:0").unwrap().is_some());
        for (listen, why) in [("0.0.0.0:9100", "others"), ("10.0.0.1:1", "others"), ("9100", "no address")] {
            assert!(address(listen).unwrap_err().contains(why), "{listen}");
        }
        let open = Metrics { listen: "0.0.0.0:9100".into(), tls: true, ..Metrics::default() };
        assert!(open.address().unwrap().is_some());
    }
}
