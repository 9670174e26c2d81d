//! Other programs that run a command isolated, from Debian: `apt-get install crun runc bubblewrap podman` (unshare is util-linux).
//! Each runs the host's /usr/bin/true with the host's /usr read-only, as a command.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::statfs;
use serde_json::{Value, json};

use crate::launch::{Launch, Order};

/// The magic number of cgroup2 (statfs(2)).
const CGROUP2: i64 = 0x6367_7270;
/// The name of crun with an image.
pub const IN_IMAGE: &str = "crun, an overlay of the same layers";
/// The name of podman with an image.
pub const ENGINE: &str = "podman, an overlay of the same layers";
/// The name of crun with a bridge.
pub const BRIDGED: &str = "crun, bridge by ip";
const PATHS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A peer that runs on this host.
#[derive(Debug, Clone)]
pub struct Peer {
    pub name: &'static str,
    order: Order,
    /// The index of the argument with the container's name, where that must be unique.
    name_at: Option<usize>,
}

impl Peer {
    /// The command, for one thread of several.
    pub fn order(&self, thread: usize) -> Order {
        let mut order = self.order.clone();
        if let Some(at) = self.name_at {
            order.argv[at] = format!("joblet-bench-{}-{thread}", std::process::id());
        }
        order
    }
}

/// All peers that run on this host; the others are named on standard error.
pub fn find(dir: &Path) -> Vec<Peer> {
    let oci = Oci::new(dir, false);
    let command = |name, words: &[&str]| {
        let program = text(&program(name)?);
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(words.iter().copied()).collect();
        Some(Peer { name, order: Order::plain(&argv), name_at: None })
    };
    let peers = [
        ("unshare", command("unshare", &["-mpfiun", "--mount-proc", "/usr/bin/true"])),
        ("bwrap", command("bwrap", &BWRAP)),
        ("crun", oci.container("crun")),
        ("runc", oci.container("runc")),
    ];
    peers.into_iter().filter_map(|(name, peer)| runs(name, peer)).collect()
}

/// crun, and crun whose network namespace has an interface that ip(8) puts into a bridge. The bridge is made here, in the
/// network namespace of this process; the interfaces go with their namespaces.
pub fn find_networked(dir: &Path) -> Vec<Peer> {
    let plain = runs("crun", Oci::new(&dir.join("alone"), false).container("crun"));
    let Some(plain) = plain else { return Vec::new() };
    let bridge =
        "ip link add peers type bridge && ip address add 10.77.0.1/24 dev peers && ip link set peers up";
    let made = Command::new("sh").args(["-c", bridge]).status();
    assert!(made.is_ok_and(|status| status.success()), "no bridge can be made");
    let bridged = Oci::new(&dir.join("bridged"), true).container("crun").map(|mut peer| {
        let script = format!(
            "ip link add eth0 type veth peer name peer0 netns {pid} && ip link set lo up && \
             ip address add 10.77.0.2/24 dev eth0 && ip link set eth0 up && \
             nsenter --net=/proc/{pid}/ns/net ip link set peer0 master peers up && \
             ip route add default via 10.77.0.1 && exec \"$@\"",
            pid = std::process::id()
        );
        let words = ["/usr/bin/unshare", "--net", "/bin/sh", "-c", &script, "sh"].map(str::to_owned);
        let added = words.len();
        peer.order.argv.splice(0..0, words);
        Peer { name: BRIDGED, name_at: peer.name_at.map(|at| at + added), ..peer }
    });
    [Some(plain), runs(BRIDGED, bridged)].into_iter().flatten().collect()
}

/// crun with a root that is an overlay of these layers, bottom to top, with an upper layer of its own, mounted for each container as
/// engines do it. The program reports its first instruction.
pub fn find_image(dir: &Path, layers: &[PathBuf], program: &str) -> Option<Peer> {
    let oci = Oci::new(&dir.join("image"), false);
    let mut peer = oci.container("crun")?;
    let config = oci.bundle.join("config.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).ok()?).ok()?;
    spec["process"]["args"] = json!([program]);
    spec["root"]["readonly"] = json!(false);
    let mounts = spec["mounts"].as_array_mut()?;
    mounts.retain(|mount| mount["destination"] != "/usr");
    fs::write(&config, spec.to_string()).expect("the bundle can be written");
    let words = overlay(dir, layers, &oci.bundle.join("rootfs"));
    let added = words.len();
    peer.order.argv.splice(0..0, words);
    let name_at = peer.name_at.map(|at| at + added);
    let mut peer = runs(IN_IMAGE, Some(Peer { name: IN_IMAGE, name_at, ..peer }))?;
    peer.order.reports = true;
    Some(peer)
}

/// The words in front of a command whose mounts have an overlay of these layers in one place.
fn overlay(dir: &Path, layers: &[PathBuf], place: &Path) -> Vec<String> {
    let lowers: Vec<String> = layers.iter().rev().map(|layer| text(layer)).collect();
    let script = format!(
        "own={}/$$ && mkdir -p $own/upper $own/scratch && \
         mount -t overlay own -o lowerdir={},upperdir=$own/upper,workdir=$own/scratch {} && exec \"$@\"",
        text(dir),
        lowers.join(":"),
        text(place)
    );
    ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// podman in the same overlay, without network and cgroup, with a store of its own. The program reports its first instruction.
pub fn find_engine(dir: &Path, layers: &[PathBuf], image_program: &str) -> Option<Peer> {
    let order = program("podman").map(|podman| {
        let place = dir.join("engine/rootfs");
        fs::create_dir_all(&place).expect("a directory");
        let mut argv = overlay(dir, layers, &place);
        argv.push(text(&podman));
        let own = |name: &str, below: &str| [format!("--{name}"), text(&dir.join("engine").join(below))];
        argv.extend([own("root", "storage"), own("runroot", "run"), own("tmpdir", "tmp")].concat());
        argv.extend(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "run", "--rm"].map(str::to_owned));
        argv.extend(["--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024"].map(str::to_owned));
        // More needs CAP_SYS_RESOURCE.
        argv.extend(["--ulimit=nproc=1024:1024", "--rootfs"].map(str::to_owned));
        argv.extend([text(&place), image_program.to_owned()]);
        let join = Oci::new(&dir.join("engine"), false).join;
        Order { argv, namespaces: 0, join, reports: true }
    });
    runs(ENGINE, order.map(|order| Peer { name: ENGINE, order, name_at: None }))
}

/// The needs of OCI runtimes: a bundle, a place for their state, a view of cgroup v2.
struct Oci {
    bundle: PathBuf,
    state: PathBuf,
    has_bundle: bool,
    cgroup2: bool,
    join: Arc<Vec<OwnedFd>>,
}

impl Oci {
    fn new(dir: &Path, shares_network: bool) -> Oci {
        let cgroup2 = statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2);
        let (bundle, state) = (dir.join("bundle"), dir.join("state"));
        let has_bundle = write_bundle(&bundle, shares_network);
        let join = if cgroup2 { Arc::default() } else { Arc::new(cgroup2_view()) };
        Oci { bundle, state, has_bundle, cgroup2, join }
    }

    fn container(&self, name: &'static str) -> Option<Peer> {
        let program = program(name)?;
        let mut argv = vec![text(&program), "--root".into(), text(&self.state.join(name))];
        // crun's limits need CAP_SYS_RESOURCE on a host without cgroup v2; without a cgroup it is faster, if anything.
        if name == "crun" && !self.cgroup2 {
            argv.push("--cgroup-manager=disabled".to_owned());
        }
        argv.extend(["run".into(), "--bundle".into(), text(&self.bundle), String::new()]);
        let name_at = Some(argv.len() - 1);
        let order = Order { argv, namespaces: 0, join: self.join.clone(), reports: false };
        self.has_bundle.then_some(Peer { name, order, name_at })
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

/// bubblewrap's arguments: the host's programs, a /proc, a /dev and a /tmp, as a job of ours has them.
const BWRAP: [&str; 20] = [
    "--unshare-all",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "/usr/bin/true",
];

fn runs(name: &str, peer: Option<Peer>) -> Option<Peer> {
    let Some(peer) = peer else {
        eprintln!("{name} is not installed: it is not compared");
        return None;
    };
    // One that does not run reports nothing.
    if Launch::new(&Order { reports: false, ..peer.order(0) }).run().ended == 0 {
        eprintln!("{name} does not run here: it is not compared");
        return None;
    }
    Some(peer)
}

fn program(name: &str) -> Option<PathBuf> {
    PATHS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// An OCI bundle as `spec` makes it, with /usr of the host and without a terminal, and without a network namespace of its own
/// where it shares its caller's. False where no runtime can make one.
fn write_bundle(bundle: &Path, shares_network: bool) -> bool {
    let Some(maker) = program("runc").or_else(|| program("crun")) else { return false };
    let root = bundle.join("rootfs");
    for dir in ["usr", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).expect("the bundle can be written");
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        // A second run finds the bundle.
        let _ = symlink(Path::new("usr").join(link), root.join(link));
    }
    let config = bundle.join("config.json");
    let _ = fs::remove_file(&config);
    let made = Command::new(maker).arg("spec").current_dir(bundle).status();
    assert!(made.is_ok_and(|status| status.success()), "no bundle can be made");
    let text = fs::read_to_string(&config).expect("spec wrote it");
    let mut spec: Value = serde_json::from_str(&text).expect("spec wrote JSON");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/usr/bin/true"]);
    let usr = json!({"destination": "/usr", "source": "/usr", "type": "bind", "options": ["rbind", "ro"]});
    if shares_network {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("namespaces are a list");
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    spec["mounts"].as_array_mut().expect("mounts are a list").push(usr);
    fs::write(&config, spec.to_string()).expect("the bundle can be written");
    true
}

/// Mount and cgroup namespaces in which /sys/fs/cgroup is cgroup v2, as the OCI runtimes require it. The mounts of
/// the host do not change.
fn cgroup2_view() -> Vec<OwnedFd> {
    let script = "mount --make-rprivate / && mount -t cgroup2 none /sys/fs/cgroup && echo ready && read end";
    let mut holder = Command::new("unshare")
        .args(["-m", "-C", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed (util-linux)");
    let mut line = String::new();
    let out = holder.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("a pipe can be read");
    let open = |kind: &str| fs::File::open(format!("/proc/{}/ns/{kind}", holder.id())).map(OwnedFd::from);
    let namespaces = ["cgroup", "mnt"].iter().filter_map(|kind| open(kind).ok()).collect();
    // The descriptors keep the namespaces; the process reads the end of its input and ends.
    drop(holder.stdin.take());
    let _ = holder.wait();
    if line.is_empty() {
        eprintln!("there is no view of cgroup v2 for crun and runc");
    }
    namespaces
}
