//! `rnx-config.yml` as text: the nodes of one client, with its certificate and key.

use super::authority::Pair;

/// One client of one node.
pub(super) struct Client<'a> {
    /// Name of the node in the file.
    pub(super) name: &'a str,
    /// Where the node is, as `host:port`.
    pub(super) address: &'a str,
    /// The node's own id; may be empty.
    pub(super) node_id: &'a str,
    /// The client's certificate and key.
    pub(super) pair: &'a Pair,
    /// The certificate of the node's CA.
    pub(super) ca: &'a str,
}

/// The file for these clients, written by this command.
pub(super) fn text(command: &str, clients: &[Client<'_>]) -> String {
    let nodes = clients.iter().map(|client| {
        format!(
            "  {}:\n    address: {}\n    nodeId: {}\n{}{}{}",
            client.name,
            quoted(client.address),
            quoted(client.node_id),
            block(4, "cert", &client.pair.cert),
            block(4, "key", client.pair.key.expose()),
            block(4, "ca", client.ca),
        )
    });
    format!(
        "# Written by `{command}`. Holds private keys: whoever can read this file can use the node.\n\
         version: \"3.0\"\nnodes:\n{}",
        nodes.collect::<String>()
    )
}

/// A text as a YAML scalar: JSON's strings are YAML's.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A PEM text as a YAML literal block.
pub(super) fn block(indent: usize, key: &str, pem: &str) -> String {
    let mut out = format!("{:indent$}{key}: |\n", "");
    for line in pem.lines() {
        out += &format!("{:indent$}  {line}\n", "");
    }
    out
}
