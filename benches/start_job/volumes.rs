//! Starts of jobs with a volume beside starts without one, on a real node with warm sandboxes.

use std::path::Path;

use crate::figures::Sample;
use crate::networks::pause;
use crate::node::{Client, Node};
use crate::ways::Way;

pub const CONDITION: &str = "first, volumes";
pub const NONE: &str = "joblet, gRPC, no volume";
pub const IMAGE: &str = "joblet, gRPC, a volume on disk";
pub const MEMORY: &str = "joblet, gRPC, a volume in memory";
pub const FOUR: &str = "joblet, gRPC, four volumes on disk";

/// The node with its volumes, and the ways to start a job on it.
pub struct WithVolumes {
    _node: Node,
    client: Client,
    payload: String,
}

impl WithVolumes {
    pub fn start(payload: &Path) -> WithVolumes {
        let node = Node::start(payload, false);
        for name in ["a", "b", "c", "d"] {
            node.create_volume(name, "filesystem");
        }
        node.create_volume("m", "memory");
        let payload = payload.to_str().expect("a plain path").to_owned();
        WithVolumes { client: node.client(), _node: node, payload }
    }

    fn once(&self, volumes: &[&str]) -> Sample {
        pause();
        self.client.once_with(&self.payload, volumes)
    }

    /// Each way waits until warm sandboxes are there.
    pub fn ways(&self) -> Vec<Way<'_>> {
        vec![
            Way { name: NONE, run: Box::new(|| self.once(&[])) },
            Way { name: IMAGE, run: Box::new(|| self.once(&["a"])) },
            Way { name: MEMORY, run: Box::new(|| self.once(&["m"])) },
            Way { name: FOUR, run: Box::new(|| self.once(&["a", "b", "c", "d"])) },
        ]
    }
}
