//! `security:`, the certificates of the server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::pem::pem_file;
use crate::config::permissions::Holds;
use crate::config::{ConfigError, values};
use crate::job::Secret;

/// The section `security:`. Three PEM texts, all required at the start, and a path. Where the configuration names
/// files instead of texts, this struct holds the texts of these files.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Security {
    /// The server's certificate, with its chain if it has one.
    pub server_cert: String,
    /// Its private key.
    #[serde(with = "values::secret")]
    pub server_key: Secret,
    /// The CA that clients' certificates must come from.
    pub ca_cert: String,
    /// A file with the CA's list of revoked certificates, absolute; absent: nothing is revoked.
    pub revocation_list: Option<PathBuf>,
}

impl Security {
    /// Replaces paths by the texts of their files.
    pub(super) fn read_files(&mut self) -> Result<(), ConfigError> {
        for (key, value) in [("serverCert", &mut self.server_cert), ("caCert", &mut self.ca_cert)] {
            if let Some(text) = pem_file(key, value, Holds::Trust)? {
                *value = text;
            }
        }
        if let Some(text) = pem_file("serverKey", self.server_key.expose(), Holds::Key)? {
            self.server_key = Secret::new(text);
        }
        Ok(())
    }
}
