//! `rnx-config.yml`: the nodes that a client knows, each with the certificates for it.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    ConfigError, Loaded, check,
    search::{self, Environment},
    values::{self, Version},
};
use crate::job::Secret;

/// The client's configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Version of the format. Another major version is used with a warning: a client harms only itself.
    #[serde(deserialize_with = "values::any_version")]
    pub version: Version,
    /// The nodes by name; [`ClientConfig::default_node`] is the one for a command line without `--node`.
    #[serde(deserialize_with = "values::section")]
    pub nodes: BTreeMap<String, Node>,
}

/// The address of one node and the certificate to present to it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// Whether a command line without `--node` means this node.
    pub is_default: bool,
    /// Address as `host:port`.
    pub address: String,
    /// The node's own name for itself; may be empty.
    pub node_id: String,
    /// The client's certificate, PEM.
    pub cert: String,
    /// Its private key, PEM.
    #[serde(with = "values::secret")]
    pub key: Secret,
    /// The CA of the node, PEM.
    pub ca: String,
}

impl ClientConfig {
    /// Finds and reads the file. A key that others can read is a warning: the client harms only itself.
    ///
    /// # Errors
    /// No file, a file that is wrong, no nodes in it.
    pub fn load(path: Option<&Path>) -> Result<Loaded<Self>, ConfigError> {
        Self::load_with(path, &search::process_environment)
    }

    fn load_with(path: Option<&Path>, env: Environment<'_>) -> Result<Loaded<Self>, ConfigError> {
        let path = search::client(path, env)?;
        let (file, text) = super::read(&path)?;
        let (config, tree) =
            super::parse::<Self>(&text, &[]).map_err(|why| ConfigError::Parse { path: path.clone(), why })?;
        if config.nodes.is_empty() {
            return Err(ConfigError::FindNodes { path });
        }
        let mut warnings = check::unread_keys(&tree, &known(), &[]);
        if !config.version.is_known() {
            let (shown, version) = (path.display(), &config.version);
            warnings.push(format!(
                "{shown} has version {version}; this rnx reads 3.x, and uses what it knows of it"
            ));
        }
        if let [first, second, ..] = config.marked()[..] {
            warnings
                .push(format!("the nodes {first} and {second} both have isDefault: true; rnx uses {first}"));
        }
        if config.nodes.values().any(|node| !node.key.expose().is_empty()) && open_to_others(&file) {
            let shown = path.display();
            warnings
                .push(format!("{shown} holds a private key and others can read it; run: chmod 600 {shown}"));
        }
        Ok(Loaded { config, path, warnings })
    }

    /// The name of the node for a command line that names none: the one with `isDefault: true`, else `default`,
    /// else the only one.
    ///
    /// # Errors
    /// Several nodes, and none of them is the default.
    pub fn default_node(&self) -> Result<&str, ConfigError> {
        let by_name = || self.nodes.get_key_value("default").map(|(name, _)| name.as_str());
        let only = || self.nodes.keys().next().filter(|_| self.nodes.len() == 1).map(String::as_str);
        let marked = self.marked().first().copied();
        marked
            .or_else(by_name)
            .or_else(only)
            .ok_or_else(|| ConfigError::FindDefaultNode { known: self.names() })
    }

    /// The names of the nodes that say that they are the default.
    fn marked(&self) -> Vec<&str> {
        self.nodes.iter().filter(|(_, node)| node.is_default).map(|(name, _)| name.as_str()).collect()
    }

    fn names(&self) -> String {
        self.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The node of this name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn node(&self, name: &str) -> Result<&Node, ConfigError> {
        let missing = || ConfigError::FindNode { name: name.into(), known: self.names() };
        self.nodes.get(name).ok_or_else(missing)
    }
}

#[cfg(unix)]
fn open_to_others(file: &std::fs::File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_: &std::fs::File) -> bool {
    false
}

/// Every key that is read, as a tree; the name of a node is free.
fn known() -> serde_yaml::Value {
    let any = ClientConfig { nodes: [("*".into(), Node::default())].into(), ..ClientConfig::default() };
    serde_yaml::to_value(any).expect("a tree of texts has no shape that YAML lacks")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(text: &str, mode: u32) -> Result<Loaded<ClientConfig>, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rnx-config.yml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        ClientConfig::load_with(Some(&path), &|_| None)
    }

    const TWO: &str = "version: \"3.0\"\nnodes:\n  default: {address: 'a:1', nodeId: n1, cert: C, key: K, ca: A}\n  \
                       viewer: {address: 'b:2'}\n";

    #[test]
    fn nodes_are_found_by_name() {
        let loaded = load(TWO, 0o600).unwrap();
        assert!(loaded.warnings.is_empty());
        assert_eq!(loaded.config.node("default").unwrap().key.expose(), "K");
        assert_eq!(loaded.config.node("viewer").unwrap().address, "b:2");
        let missing = loaded.config.node("prod").unwrap_err().to_string();
        assert_eq!(missing, "node 'prod' not found in configuration (there are: default, viewer)");
    }

    #[test]
    fn a_key_that_others_can_read_and_an_unknown_key_are_warnings() {
        let text = TWO.replace("nodeId", "nodeld");
        let warnings = load(&text, 0o644).unwrap().warnings;
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].ends_with("did you mean nodes.default.nodeId?"), "{}", warnings[0]);
        assert!(warnings[1].contains("chmod 600"));
    }

    #[test]
    fn a_file_without_nodes_is_refused() {
        for text in ["", "version: 3.0", "nodes:"] {
            assert!(
                load(text, 0o600).unwrap_err().to_string().starts_with("no nodes configured in /"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_file_of_another_major_version_warns_and_is_used() {
        for version in ["4.0", "\"2\"", "5"] {
            let loaded = load(&TWO.replace("\"3.0\"", version), 0o600).unwrap();
            assert_eq!(loaded.config.node("viewer").unwrap().address, "b:2");
            let wanted = format!("has version {}; this rnx reads 3.x", version.trim_matches('"'));
            assert!(
                loaded.warnings.len() == 1 && loaded.warnings[0].contains(&wanted),
                "{:?}",
                loaded.warnings
            );
        }
        assert!(load(&TWO.replace("3.0", "3.9"), 0o600).unwrap().warnings.is_empty());
    }

    #[test]
    fn the_default_node_is_marked_or_named_default_or_the_only_one() {
        let default = |nodes: &str| {
            let loaded = load(&format!("nodes: {{{nodes}}}"), 0o600).unwrap();
            (loaded.config.default_node().map(str::to_owned).map_err(|e| e.to_string()), loaded.warnings)
        };
        let (first, second) = ("a: {address: 'a:1'}", "b: {address: 'b:1', isDefault: true}");
        assert_eq!(default(&format!("{first}, default: {{}}, {second}")), (Ok("b".into()), vec![]));
        assert_eq!(default(&format!("{first}, default: {{}}")), (Ok("default".into()), vec![]));
        assert_eq!(default(first), (Ok("a".into()), vec![]));
        let none = default(&format!("{first}, c: {{}}")).0.unwrap_err();
        assert!(none.contains("(there are: a, c)") && none.contains("--node"), "{none}");
        let (name, warnings) = default(&format!("{second}, c: {{isDefault: true}}"));
        assert_eq!(name, Ok("b".into()));
        assert!(warnings[0].contains("b and c both have isDefault: true; rnx uses b"), "{warnings:?}");
    }

    #[test]
    fn the_reference_file_has_every_key_and_no_other() {
        let text = include_str!("../../vendor-config/rnx-config.yml");
        let (config, tree) = super::super::parse::<ClientConfig>(text, &[]).unwrap();
        assert_eq!(check::unread_keys(&tree, &known(), &[]), [""; 0]);
        assert!(config.node("default").is_ok());
        let written = check::paths(&tree);
        for key in check::paths(&known()) {
            assert!(written.contains(&key.replace('*', "default")), "{key} is missing");
        }
    }

    #[test]
    fn no_error_shows_a_key() {
        let text = "nodes: |\n  -----BEGIN PRIVATE KEY-----\n  c2VjcmV0\n";
        let error = load(text, 0o600).unwrap_err().to_string();
        assert!(error.contains("PEM block") && !error.contains("c2VjcmV0"), "{error}");
    }
}
