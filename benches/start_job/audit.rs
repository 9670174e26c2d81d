//! Starts of jobs on a real node that keeps an audit trail beside starts on one that keeps none.

use std::path::Path;

use crate::figures::Sample;
use crate::networks::pause;
use crate::node::{Client, Node};
use crate::ways::Way;

pub const CONDITION: &str = "first, audit";
pub const NONE: &str = "joblet, gRPC, no audit trail";
pub const KEPT: &str = "joblet, gRPC, an audit trail";

/// Both nodes.
pub struct Audited {
    _nodes: [Node; 2],
    without: Client,
    with: Client,
    payload: String,
}

impl Audited {
    pub fn start(payload: &Path) -> Audited {
        let nodes = [false, true].map(|audited| Node::start_audited(payload, audited));
        let payload = payload.to_str().expect("a plain path").to_owned();
        Audited { without: nodes[0].client(), with: nodes[1].client(), _nodes: nodes, payload }
    }

    fn once(&self, client: &Client) -> Sample {
        pause();
        client.once(&self.payload)
    }

    /// Each way waits until warm sandboxes are there.
    pub fn ways(&self) -> Vec<Way<'_>> {
        vec![
            Way { name: NONE, run: Box::new(|| self.once(&self.without)) },
            Way { name: KEPT, run: Box::new(|| self.once(&self.with)) },
        ]
    }
}
