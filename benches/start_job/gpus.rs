//! Starts of jobs with GPUs beside starts without, on a real node with warm sandboxes. The GPUs are those of the tests: a library in
//! the vendor's place (`tests/gpu/nvml.c`), harmless devices, and a file in the place of each of the driver's libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::figures::Sample;
use crate::networks::pause;
use crate::node::{Client, Node};
use crate::ways::Way;

pub const CONDITION: &str = "first, GPUs";
pub const NONE: &str = "joblet, gRPC, no GPU";
pub const ONE: &str = "joblet, gRPC, a GPU";
pub const TWO: &str = "joblet, gRPC, two GPUs";

/// Libraries of a driver: as many as that of a data centre has.
const LIBRARIES: usize = 30;

/// Puts devices, the linker's cache and the library into the mounts of the daemon, then becomes it.
const SCRIPT: &str = r#"exec unshare --mount --propagation private sh -ec '
    dir=$1; shift
    mount -t tmpfs -o mode=755 tmpfs "$dir"/dev
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$dir"/dev
    # No process of a job may have the node of a GPU open behind its end: numbers of devices that nobody opens.
    mknod -m 666 "$dir"/dev/nvidia4 c 1 7; mknod -m 666 "$dir"/dev/nvidia5 c 1 5
    for n in nvidiactl nvidia-uvm; do mknod -m 666 "$dir"/dev/$n c 1 3; done
    mkdir "$dir"/dev/pts "$dir"/dev/shm
    mount --rbind /dev/pts "$dir"/dev/pts; mount --rbind /dev/shm "$dir"/dev/shm
    ln -s pts/ptmx "$dir"/dev/ptmx; ln -s /proc/self/fd "$dir"/dev/fd
    mount --move "$dir"/dev /dev
    mount --bind "$dir"/ld.so.cache /etc/ld.so.cache
    LD_LIBRARY_PATH=$dir exec "$@"' sh "$0" "$@""#;

/// The node with its GPUs, and the ways to start a job on it.
pub struct WithGpus {
    _node: Node,
    _dir: tempfile::TempDir,
    client: Client,
    payload: String,
}

impl WithGpus {
    pub fn start(payload: &Path) -> WithGpus {
        let dir = tempfile::Builder::new().prefix("joblet-bench.").tempdir().expect("a directory");
        let at = dir.path();
        fs::create_dir_all(at.join("dev")).expect("a directory for devices");
        fs::create_dir_all(at.join("lib64")).expect("a directory for libraries");
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("our own directory");
        let library = at.join("libnvidia-ml.so.1");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/nvml.c");
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1", "-o"])
            .arg(&library)
            .arg(source));
        for number in 0..LIBRARIES {
            let name = format!("libnvidia-{number}.so.1");
            let soname = format!("-Wl,-soname,{name}");
            let empty = ["-shared", "-fPIC", "-nostdlib", &soname, "-x", "c", "/dev/null", "-o"];
            run(Command::new("cc").args(empty).arg(at.join("lib64").join(name)));
        }
        fs::write(at.join("ld.so.conf"), format!("{}/lib64\n", at.display())).expect("our own file");
        run(Command::new("/sbin/ldconfig")
            .arg("-X")
            .arg("-C")
            .arg(at.join("ld.so.cache"))
            .arg("-f")
            .arg(at.join("ld.so.conf")));
        let script = at.to_str().expect("a plain path");
        let node = Node::start_gpus(&["sh", "-c", SCRIPT, script], payload);
        let payload = payload.to_str().expect("a plain path").to_owned();
        WithGpus { client: node.client(), _node: node, _dir: dir, payload }
    }

    fn once(&self, number: i32) -> Sample {
        pause();
        self.client.once_with_gpus(&self.payload, number)
    }

    /// Each way waits until warm sandboxes are there.
    pub fn ways(&self) -> Vec<Way<'_>> {
        vec![
            Way { name: NONE, run: Box::new(|| self.once(0)) },
            Way { name: ONE, run: Box::new(|| self.once(1)) },
            Way { name: TWO, run: Box::new(|| self.once(2)) },
        ]
    }
}

fn run(command: &mut Command) {
    let done = command.stdout(std::process::Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "{command:?} fails; cc and ldconfig are needed");
}
