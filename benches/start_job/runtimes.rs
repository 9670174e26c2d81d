//! Starts of jobs in the roots of runtimes beside starts in the host's root, on real nodes: with warm sandboxes, then without, and
//! beside crun and podman with the same files.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use joblet::runtime::{LayerDigest, RuntimeId, Store};

use crate::figures::Sample;
use crate::launch::Launch;
use crate::networks::pause;
use crate::node::{Client, Node};
use crate::peers;
use crate::ways::Way;

pub const CONDITION: &str = "first, runtimes";
pub const NOT_WARM: &str = "first, runtimes, no warm sandbox";
pub const HOST: &str = "joblet, gRPC, the host's root";
pub const PARTS: &str = "joblet, gRPC, parts over the host's root";
pub const IMAGE: &str = "joblet, gRPC, an image of five layers";
pub const WRITABLE: &str = "joblet, gRPC, the same image, writable";
pub const FIRST_USE: &str = "joblet, gRPC, an image that no job had for a while";

/// Versions of the image: more than the daemon keeps roots, so that the next one is always made anew.
const VERSIONS: usize = 24;
const LAYERS: usize = 5;
/// The program in the image.
const PROGRAM: &str = "/payload";

/// A node with its runtimes, and the ways to start a job on it.
pub struct WithRuntimes {
    _node: Node,
    runtimes: tempfile::TempDir,
    client: Client,
    payload: String,
    next: Cell<usize>,
}

impl WithRuntimes {
    /// `is_warm`: the node keeps sandboxes warm.
    pub fn start(payload: &Path, is_warm: bool) -> WithRuntimes {
        let runtimes = tempfile::Builder::new().prefix("joblet-bench.").tempdir().expect("a directory");
        install(runtimes.path(), payload);
        let node = Node::start_runtimes(payload, runtimes.path(), is_warm);
        let (client, payload) = (node.client(), payload.to_str().expect("a plain path").to_owned());
        WithRuntimes { _node: node, runtimes, client, payload, next: Cell::new(0) }
    }

    fn once(&self, program: &str, runtime: &str) -> Sample {
        pause();
        self.client.once_in_root(program, runtime, false)
    }

    fn writable(&self) -> Sample {
        pause();
        self.client.once_in_root(PROGRAM, "image@1.0.0", true)
    }

    /// crun and podman with a writable overlay of the image's layers, where they are installed.
    pub fn peers(&self, dir: &Path) -> Vec<Way<'static>> {
        let layers = self.runtimes.path().join(".layers/sha256");
        let layers: Vec<_> = (0..LAYERS).map(|n| layers.join(format!("{n:064x}"))).collect();
        let found = [peers::find_image(dir, &layers, PROGRAM), peers::find_engine(dir, &layers, PROGRAM)];
        let way = |peer: peers::Peer| {
            let mut launch = Launch::new(&peer.order(0));
            let run = move || {
                pause();
                launch.run()
            };
            Way { name: peer.name, run: Box::new(run) }
        };
        found.into_iter().flatten().map(way).collect()
    }

    /// Each way waits until warm sandboxes are there, and the pool has those of the last jobs.
    pub fn ways(&self) -> Vec<Way<'_>> {
        vec![
            Way { name: HOST, run: Box::new(|| self.once(&self.payload, "")) },
            Way { name: PARTS, run: Box::new(|| self.once(&self.payload, "parts")) },
            Way { name: IMAGE, run: Box::new(|| self.once(PROGRAM, "image@1.0.0")) },
            Way { name: WRITABLE, run: Box::new(|| self.writable()) },
        ]
    }

    /// Jobs of a node without warm sandboxes, and each time another version of the image.
    pub fn cold_ways(&self) -> Vec<Way<'_>> {
        let first_use = || {
            let version = 1 + self.next.replace((self.next.get() + 1) % VERSIONS);
            self.once(PROGRAM, &format!("image@1.0.{version}"))
        };
        let mut ways = self.ways();
        ways.push(Way { name: FIRST_USE, run: Box::new(first_use) });
        ways
    }
}

/// One runtime over the host's root, and an image in many versions that share their layers.
fn install(base: &Path, payload: &Path) {
    let (store, _) = Store::open(base).expect("a store");
    let publish = |id: String, rest: &str, staging: joblet::runtime::Staging| {
        let id: RuntimeId = id.parse().expect("an id");
        let text = format!("name: {}\nversion: {}\n{rest}", id.name, id.version);
        fs::write(staging.path().join("runtime.yml"), text).expect("a description");
        store.publish(staging, &id, false).expect("it is installed");
    };
    let staging = store.stage().expect("a directory");
    fs::create_dir(staging.path().join("files")).expect("a directory");
    publish("parts@1.0.0".into(), "base: host\nmounts: [{source: files, target: /opt/files}]\n", staging);
    let digest = |n: usize| -> LayerDigest { format!("sha256:{n:064x}").parse().expect("a digest") };
    let digests: Vec<LayerDigest> = (0..LAYERS).map(digest).collect();
    let hold = store.hold_layers(&digests);
    for (n, digest) in digests.iter().enumerate() {
        let staging = store.stage().expect("a directory");
        fs::write(staging.path().join(format!("file-{n}")), "").expect("a file");
        if n == 0 {
            let program = staging.path().join(PROGRAM.trim_start_matches('/'));
            fs::copy(payload, &program).expect("the program");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        store.publish_layer(staging, digest).expect("a layer");
    }
    let list: Vec<String> = digests.iter().map(|digest| format!("'{digest}'")).collect();
    for version in 0..=VERSIONS {
        let rest = format!("layers: [{}]\n", list.join(", "));
        publish(format!("image@1.0.{version}"), &rest, store.stage().expect("a directory"));
    }
    drop(hold);
}
