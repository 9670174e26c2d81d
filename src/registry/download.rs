//! Fetching from a registry: HTTPS by the system's trust, with bounds on bytes and time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use openssl::sha::Sha256;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// The longest wait for a connection, an answer, or the whole of an index.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest download. An archive of 10 GiB takes 24 minutes at 60 Mbit/s.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of the largest index.
const INDEX: u64 = 4 << 20;
const CHUNK: usize = 128 << 10;

/// A way to one registry.
pub struct Downloads {
    agent: Agent,
}

impl Downloads {
    /// `is_plain`: http is taken beside https, because the node's configuration names such a registry.
    pub fn new(is_plain: bool) -> Downloads {
        // The certificates of the host: a registry behind an authority of the company's own works as it does for curl.
        let tls =
            TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .https_only(!is_plain)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_global(Some(LONGEST))
            .max_redirects(5);
        Downloads { agent: config.build().into() }
    }

    /// The text of an index.
    ///
    /// # Errors
    /// As a sentence.
    pub fn text(&self, url: &str) -> Result<String, String> {
        let mut answer = self.get(url)?;
        let read = answer.body_mut().with_config().limit(INDEX).read_to_string();
        read.map_err(|why| format!("cannot read {url}: {why}"))
    }

    /// Fetches an archive into a file, at most `most` bytes; its digest. `each` gets the bytes so far.
    ///
    /// # Errors
    /// As a sentence.
    pub fn file(
        &self,
        url: &str,
        to: &mut File,
        most: u64,
        mut each: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<[u8; 32], String> {
        let failed = |why: io::Error| format!("cannot fetch {url}: {why}");
        let mut answer = self.get(url)?;
        // One byte more than it may have.
        let mut body = answer.body_mut().with_config().limit(most.saturating_add(1)).reader();
        let (mut hash, mut got, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
        loop {
            let part = body.read(&mut buffer).map_err(failed)?;
            if part == 0 {
                return Ok(hash.finish());
            }
            got += part as u64;
            if got > most {
                return Err(format!("cannot fetch {url}: it has more than {most} bytes"));
            }
            hash.update(&buffer[..part]);
            to.write_all(&buffer[..part]).map_err(failed)?;
            each(got).map_err(failed)?;
        }
    }

    fn get(&self, url: &str) -> Result<ureq::http::Response<ureq::Body>, String> {
        self.agent.get(url).call().map_err(|why| format!("cannot fetch {url}: {why}"))
    }
}
