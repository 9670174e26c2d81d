//! The name of a layer: the digest of its uncompressed archive.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::RuntimeError;

/// The digest of a layer, `sha256:` and 64 hexadecimal digits (diffID of the OCI image specification).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerDigest(String);

impl LayerDigest {
    /// The 64 digits: the name of its directory below `.layers/sha256`.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for LayerDigest {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 64 || !hex.bytes().all(digits) {
            let shown: String = text.chars().take(80).collect();
            return Err(RuntimeError::Digest(shown.escape_debug().to_string()));
        }
        Ok(LayerDigest(hex.to_owned()))
    }
}

impl TryFrom<String> for LayerDigest {
    type Error = RuntimeError;

    fn try_from(text: String) -> Result<Self, RuntimeError> {
        text.parse()
    }
}

impl From<LayerDigest> for String {
    fn from(digest: LayerDigest) -> String {
        digest.to_string()
    }
}
