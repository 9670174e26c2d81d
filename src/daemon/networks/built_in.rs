//! The networks that modes have, and the router of the node, from its configuration.

use crate::config::daemon::DaemonConfig;
use crate::network::lease::check_range;
use crate::network::router::Definition;
use crate::network::{NetworkError, Range, RouterConfig};
use crate::state::StoredNetwork;

/// The networks that modes have.
pub(super) fn built_in(config: &DaemonConfig) -> Result<Vec<Definition>, NetworkError> {
    let network = |name: &str, range: &str, together| -> Result<Definition, NetworkError> {
        Ok(Definition { name: name.to_owned(), range: range.parse()?, together, inner: false })
    };
    let bridge = network("bridge", &config.network.networks.bridge.cidr, true)?;
    let isolated = network("isolated", &config.network.isolated_cidr, false)?;
    check_range(bridge.range, &[])?;
    check_range(isolated.range, &[named(&bridge)])?;
    Ok(vec![bridge, isolated])
}

/// The range of a network with the words for it.
pub(super) fn named(network: &Definition) -> (Range, String) {
    (network.range, format!("network \"{}\"", network.name))
}

/// A stored network as the router knows it.
pub(super) fn definition(stored: &StoredNetwork) -> Result<Definition, NetworkError> {
    let name = stored.name.as_str().to_owned();
    Ok(Definition { name, range: stored.cidr.parse()?, together: true, inner: stored.internal })
}

/// The private ranges that the configuration opens.
pub(in crate::daemon) fn allowed(config: &DaemonConfig) -> Result<Vec<Range>, NetworkError> {
    config.network.egress.allow.iter().map(|range| range.parse()).collect()
}

/// The router as the configuration wants it, with these networks.
pub(super) fn router(config: &DaemonConfig, networks: Vec<Definition>) -> Result<RouterConfig, NetworkError> {
    Ok(RouterConfig { networks, allowed: allowed(config)?, ..RouterConfig::default() })
}
