//! Other programs that run a command isolated, from Debian: `apt-get install crun runc bubblewrap` (unshare is util-linux).
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
    let bundle = dir.join("bundle");
    let state = dir.join("state");
    let has_bundle = write_bundle(&bundle);
    let cgroup2 = statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2);
    let join: Arc<Vec<OwnedFd>> = if cgroup2 { Arc::default() } else { Arc::new(cgroup2_view()) };
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let container = |name, extra: &[&str]| {
        let program = program(name)?;
        let mut argv = vec![text(&program), "--root".into(), text(&state.join(name))];
        argv.extend(extra.iter().map(|word| (*word).to_owned()));
        argv.extend(["run".into(), "--bundle".into(), text(&bundle), String::new()]);
        let name_at = Some(argv.len() - 1);
        let order = Order { argv, namespaces: 0, join: join.clone(), reports: false };
        has_bundle.then_some(Peer { name, order, name_at })
    };
    let command = |name, words: &[&str]| {
        let program = text(&program(name)?);
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(words.iter().copied()).collect();
        Some(Peer { name, order: Order::plain(&argv), name_at: None })
    };
    // crun's limits need CAP_SYS_RESOURCE on a host without cgroup v2; without a cgroup it is faster, if anything.
    let no_group: &[&str] = if cgroup2 { &[] } else { &["--cgroup-manager=disabled"] };
    let peers = [
        ("unshare", command("unshare", &["-mpfiun", "--mount-proc", "/usr/bin/true"])),
        ("bwrap", command("bwrap", &BWRAP)),
        ("crun", container("crun", no_group)),
        ("runc", container("runc", &[])),
    ];
    peers.into_iter().filter_map(|(name, peer)| runs(name, peer)).collect()
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
    if Launch::new(&peer.order(0)).run().ended == 0 {
        eprintln!("{name} does not run here: it is not compared");
        return None;
    }
    Some(peer)
}

fn program(name: &str) -> Option<PathBuf> {
    PATHS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// An OCI bundle as `spec` makes it, with /usr of the host and without a terminal. False where no runtime can make one.
fn write_bundle(bundle: &Path) -> bool {
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
