//! `rnx nodes`

use std::fmt::Write;

use serde::Serialize;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::connect::configuration;
use super::super::error::Result;
use super::super::out::Out;
use super::super::terminal::one_line;
use crate::config::client::ClientConfig;

/// `rnx nodes` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["nodes"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "List the nodes of the client configuration",
    about: "",
    examples: &["rnx nodes"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    name: &'a str,
    address: &'a str,
    node_id: &'a str,
    status: &'static str,
    default: bool,
}

/// Prints the nodes of the client configuration without a call to any of them.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let loaded = configuration(&invocation.values)?;
    for warning in &loaded.warnings {
        out.note(&format!("warning: {}", one_line(warning)));
    }
    if out.json { out.value(&json(&loaded.config)) } else { out.text(&text(&loaded.config)) }
}

/// `status` is that of the configuration: whether the node has all that a connection needs.
fn json(config: &ClientConfig) -> Vec<Listed<'_>> {
    let default = config.default_node().ok();
    let listed = config.nodes.iter().map(|(name, node)| Listed {
        name,
        address: &node.address,
        node_id: &node.node_id,
        status: if [node.address.as_str(), &node.cert, node.key.expose(), &node.ca].contains(&"") {
            "incomplete"
        } else {
            "configured"
        },
        default: Some(name.as_str()) == default,
    });
    listed.collect()
}

fn text(config: &ClientConfig) -> String {
    let mut text = String::from("Available nodes from configuration:\n");
    let default = config.default_node().ok();
    let masked = |pem: &str| if pem.is_empty() { "-" } else { "***" };
    for (name, node) in &config.nodes {
        let mark = if Some(name.as_str()) == default { "* " } else { "  " };
        let id = if node.node_id.is_empty() { "-".into() } else { one_line(&node.node_id) };
        let _ = writeln!(text, "{mark}{}", one_line(name));
        let _ = writeln!(text, "    Address: {}", one_line(&node.address));
        let _ = writeln!(text, "    Node ID: {id}");
        let _ = writeln!(text, "    Cert: {}", masked(&node.cert));
        let _ = writeln!(text, "    Key: {}", masked(node.key.expose()));
        let _ = writeln!(text, "    CA: {}", masked(&node.ca));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::client::Node;
    use crate::job::Secret;

    #[test]
    fn nodes_are_listed_without_their_keys() {
        let full = Node {
            address: "a:50051".into(),
            node_id: "n1".into(),
            cert: "CERT".into(),
            key: Secret::new("KEY"),
            ca: "CA".into(),
            is_default: false,
        };
        let bare = Node { address: "b:1".into(), ..Default::default() };
        let config = ClientConfig {
            nodes: [("default".into(), full), ("x".into(), bare)].into(),
            ..Default::default()
        };
        let expected = "Available nodes from configuration:\n\
            * default\n    Address: a:50051\n    Node ID: n1\n    Cert: ***\n    Key: ***\n    CA: ***\n\
            \x20 x\n    Address: b:1\n    Node ID: -\n    Cert: -\n    Key: -\n    CA: -\n";
        assert_eq!(text(&config), expected);
        let json = serde_json::to_value(json(&config)).unwrap();
        assert_eq!(json[0]["status"], "configured");
        assert_eq!(
            (json[1]["status"].as_str(), json[0]["default"].as_bool()),
            (Some("incomplete"), Some(true))
        );
        assert!(!json.to_string().contains("KEY"));
    }
}
