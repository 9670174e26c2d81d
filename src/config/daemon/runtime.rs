//! `runtime:`, the roots of jobs other than the host's.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;
use crate::job::egress::{EgressError, List};

/// The section `runtime:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The directory of all runtimes, absolute; empty: `<dataDir>/runtimes`.
    pub base_path: PathBuf,
    /// The registry of installations that name none: `OWNER/REPOSITORY` of GitHub, or the URL of a directory with a
    /// `registry.json`.
    pub registry_url: String,
    /// Bytes of an image: of its archive, and of all its layers when they are unpacked.
    #[serde(with = "values::size")]
    pub max_image_bytes: u64,
    /// Files, directories and links of all layers of an image.
    pub max_image_entries: u64,
    /// Jobs that build runtimes.
    pub build: Build,
}

/// The part `runtime.build`: what a job may have that builds a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its network: `bridge`, `isolated`, `none`, or the name of one.
    pub network: String,
    /// The entries of its egress list, besides the host of `runtime.registry_url`. The lists of `network.egress` are
    /// for other jobs.
    pub allow: Vec<String>,
    /// MiB of memory, at most what any job may ask for; 0: that of a job which asks for none.
    pub memory: u32,
    /// Longest run, at most `joblet.jobTimeout`, and not zero.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
}

impl Default for Build {
    fn default() -> Self {
        Build {
            network: "bridge".to_owned(),
            allow: REGISTRIES.map(str::to_owned).to_vec(),
            memory: 2048,
            timeout: Duration::from_secs(3600),
        }
    }
}

/// The registries of packages that a build reaches where the configuration names none.
const REGISTRIES: [&str; 5] = ["preset:pypi", "preset:npm", "preset:debian", "preset:git", "preset:crates"];

impl Runtime {
    /// The egress list of a job that builds a runtime.
    ///
    /// # Errors
    /// The first entry of `build.allow` that is wrong, or too many.
    pub fn build_egress(&self) -> Result<List, EgressError> {
        let mut list = List::parse(&self.build.allow)?;
        if let Some(host) = host_of(&self.registry_url) {
            // A URL whose host is no entry is no registry either, which an installation from it says.
            list = list.changed(&[host], &[]).unwrap_or(list);
        }
        // A list without entries would be no list.
        if list.texts().is_empty() { List::parse(&["!*".to_owned()]) } else { Ok(list) }
    }
}

/// The host of a URL with its port, as an entry of an egress list; `None`: the text is no URL.
fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let usual = if scheme == "http" { 80 } else { 443 };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:{usual}") })
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime {
            base_path: PathBuf::new(),
            registry_url: "https://github.com/ehsaniara/joblet-runtimes".to_owned(),
            max_image_bytes: 10 << 30,
            max_image_entries: 1_000_000,
            build: Build::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_reaches_the_registries_and_what_is_allowed() {
        let list = |url: &str, allow: &[&str]| {
            let allow = allow.iter().map(|text| (*text).to_owned()).collect();
            let build = Build { allow, ..Build::default() };
            let runtime = Runtime { registry_url: url.to_owned(), build, ..Runtime::default() };
            runtime.build_egress().map(|list| list.texts().join(" ")).map_err(|why| why.to_string())
        };
        assert_eq!(list("owner/runtimes", &[]), Ok("!*".to_owned()));
        assert_eq!(list("https://r.example.com/a/b", &[]), Ok("r.example.com:443".to_owned()));
        assert_eq!(list("http://r.example.com", &["1.2.3.4"]), Ok("1.2.3.4 r.example.com:80".to_owned()));
        assert_eq!(list("https://r.example.com:8443/x", &["*"]), Ok("* r.example.com:8443".to_owned()));
        assert_eq!(list("https://[2600::8]/x", &[]), Ok("[2600::8]:443".to_owned()));
        assert_eq!(list("https:// /x", &["*"]), Ok("*".to_owned()));
        assert!(list("owner/runtimes", &["https://x"]).is_err());
        let usual = Runtime::default().build_egress().unwrap();
        assert_eq!(usual.texts()[..5], REGISTRIES);
        assert_eq!(usual.texts()[5..], ["github.com:443"]);
    }
}
