//! The settings of a connection: address and identity, gathered from flags, environment, configuration and the
//! defaults of the API reference, in that order. No source is read without need: when the flags give every
//! setting, no configuration is opened.

use std::fs;
use std::path::Path;

use super::cli::Values;
use super::error::{Error, Result};
use crate::config::ConfigError;
use crate::config::client::{ClientConfig, Node};
use crate::config::search::Environment;
use crate::job::Secret;

/// The default address, from the API reference.
const DEFAULT_ADDRESS: &str = "localhost:50051";
const DEFAULT_PORT: u16 = 50051;
const DEFAULT_CERT: &str = "certs/client-cert.pem";
const DEFAULT_KEY: &str = "certs/client-key.pem";
const DEFAULT_CA: &str = "certs/ca-cert.pem";

/// Everything needed to open a channel.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Host name or IP address.
    pub(crate) host: String,
    /// TCP port, 1..65535.
    pub(crate) port: u16,
    /// Our certificate, PEM.
    pub(crate) cert: String,
    /// Its key, PEM.
    pub(crate) key: Secret,
    /// The CA that signed both sides, PEM.
    pub(crate) ca: String,
    /// Sentences for the person who wrote the configuration.
    pub(crate) warnings: Vec<String>,
}

/// One of the four settings, and how to name it in an error.
struct Wanted<'a> {
    flag: &'static str,
    variable: &'static str,
    what: &'static str,
    default: &'static str,
    of_node: &'a dyn Fn(&Node) -> String,
}

const NO_PLACE: &str = "rnx help config: where settings are looked for";

/// Gathers the settings.
pub(crate) fn settings(values: &Values, env: Environment<'_>) -> Result<Settings> {
    let mut gather = Gather::new(values, env)?;
    let address = gather.address();
    let cert = gather.pem(&Wanted {
        flag: "cert",
        variable: "JOBLET_CERT_PATH",
        what: "client certificate",
        default: DEFAULT_CERT,
        of_node: &|n| n.cert.clone(),
    })?;
    let key = gather.pem(&Wanted {
        flag: "key",
        variable: "JOBLET_KEY_PATH",
        what: "client private key",
        default: DEFAULT_KEY,
        of_node: &|n| n.key.expose().to_string(),
    })?;
    let ca = gather.pem(&Wanted {
        flag: "ca",
        variable: "JOBLET_CA_PATH",
        what: "CA certificate",
        default: DEFAULT_CA,
        of_node: &|n| n.ca.clone(),
    })?;
    let (host, port) = split_address(&address)?;
    Ok(Settings { host, port, cert, key: Secret::new(key), ca, warnings: gather.warnings })
}

/// The configuration, for commands that list it.
pub(crate) fn configuration(values: &Values) -> Result<crate::config::Loaded<ClientConfig>> {
    ClientConfig::load(values.last("config").as_deref().map(Path::new)).map_err(configure)
}

/// The name of the node that flags and environment ask for.
pub(crate) fn node_name(values: &Values, env: Environment<'_>) -> Option<String> {
    values.last("node").or_else(|| env("RNX_NODE"))
}

struct Gather<'a> {
    values: &'a Values,
    env: Environment<'a>,
    node: Option<Node>,
    /// Why there is no node.
    missing: Option<ConfigError>,
    warnings: Vec<String>,
}

impl<'a> Gather<'a> {
    fn new(values: &'a Values, env: Environment<'a>) -> Result<Self> {
        let mut gather = Gather { values, env, node: None, missing: None, warnings: Vec::new() };
        let all = [
            ("server", "JOBLET_SERVER"),
            ("cert", "JOBLET_CERT_PATH"),
            ("key", "JOBLET_KEY_PATH"),
            ("ca", "JOBLET_CA_PATH"),
        ];
        if all.iter().any(|(flag, variable)| gather.given(flag, variable).is_none()) {
            gather.open_configuration()?;
        }
        Ok(gather)
    }

    /// The flag, else the variable. With a node on the command line the variables of a shell profile do
    /// not count.
    fn given(&self, flag: &str, variable: &str) -> Option<String> {
        let by_env = || if self.values.last("node").is_some() { None } else { (self.env)(variable) };
        self.values.last(flag).or_else(by_env)
    }

    fn open_configuration(&mut self) -> Result<()> {
        let named = node_name(self.values, self.env);
        let loaded = match ClientConfig::load(self.values.last("config").as_deref().map(Path::new)) {
            Ok(loaded) => loaded,
            // The defaults of the API reference may do.
            Err(why @ (ConfigError::FindClientConfig | ConfigError::ReachClientConfig { .. }))
                if named.is_none() =>
            {
                self.missing = Some(why);
                return Ok(());
            }
            Err(e) => return Err(configure(e)),
        };
        let name = named.as_deref().map_or_else(|| loaded.config.default_node(), Ok).map_err(configure)?;
        let node = loaded.config.node(name).map_err(configure)?;
        self.node = Some(node.clone());
        self.warnings = loaded.warnings;
        Ok(())
    }

    fn address(&self) -> String {
        let of_node = || self.node.as_ref().map(|n| n.address.clone()).filter(|a| !a.is_empty());
        self.given("server", "JOBLET_SERVER").or_else(of_node).unwrap_or_else(|| DEFAULT_ADDRESS.into())
    }

    fn pem(&mut self, wanted: &Wanted<'_>) -> Result<String> {
        if let Some(path) = self.given(wanted.flag, wanted.variable) {
            return self.read(wanted, &path);
        }
        let Some(node) = &self.node else {
            // A file that cannot be looked at is named when it is read.
            if matches!(Path::new(wanted.default).try_exists(), Ok(false)) {
                return Err(match self.missing.take() {
                    Some(denied @ ConfigError::ReachClientConfig { .. }) => configure(denied),
                    _ => {
                        let text =
                            format!("neither a configuration nor {} exists; {NO_PLACE}", wanted.default);
                        configure(ConfigError::FindClientConfig).hint(text)
                    }
                });
            }
            return self.read(wanted, wanted.default);
        };
        let pem = (wanted.of_node)(node);
        if pem.is_empty() {
            let text = format!("the node of the configuration has no {}", wanted.what);
            return Err(Error::Configure(text.into()).hint(format!("give one with --{}", wanted.flag)));
        }
        Ok(pem)
    }

    fn read(&mut self, wanted: &Wanted<'_>, path: &str) -> Result<String> {
        let text = fs::read_to_string(path).map_err(|e| {
            let text = format!("cannot read the {} {path}: {e}", wanted.what);
            Error::Configure(text.into()).hint(format!("--{} and ${} name it", wanted.flag, wanted.variable))
        })?;
        if wanted.flag == "key" && open_to_others(Path::new(path)) {
            self.warnings
                .push(format!("{path} is a private key and others can read it; run: chmod 600 {path}"));
        }
        Ok(text)
    }
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> bool {
    false
}

fn configure(e: ConfigError) -> Error {
    let is_denied = match &e {
        ConfigError::ReachClientConfig { .. } => true,
        ConfigError::Read { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        _ => false,
    };
    let error = Error::Configure(e.to_string().into());
    if is_denied {
        error.hint("run rnx as a user who may read it, or name a file of your own with --config")
    } else {
        error
    }
}

/// `host:port`, `host`, `1.2.3.4:5`, `[::1]:5` or a bare IPv6 address.
fn split_address(address: &str) -> Result<(String, u16)> {
    let wrong = || {
        let text = format!("invalid server address {address:?}");
        Error::Configure(text.into()).hint("write host:port, for example localhost:50051 or [::1]:50051")
    };
    let unbracketed = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if unbracketed.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((unbracketed.to_string(), DEFAULT_PORT));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse().map_err(|_| wrong())?),
        Some(_) => return Err(wrong()),
        None => (address, DEFAULT_PORT),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let is_name =
        !bare.is_empty() && bare.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"/[]".contains(c));
    if !is_name || port == 0 || (bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err()) {
        return Err(wrong());
    }
    Ok((bare.to_string(), port))
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
