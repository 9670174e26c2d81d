//! A real node: `joblet setup`, the built daemon with mutual TLS, and a warm channel to it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use grpcio::{ChannelBuilder, ChannelCredentialsBuilder, EnvBuilder};
use joblet::pb::joblet::{GetJobLogsReq, RunJobRequest};
use joblet::pb::joblet_grpc::JobServiceClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_yaml::Value;

use crate::clock;
use crate::figures::Sample;
use crate::inside::mounts;

const JOBLET: &str = env!("CARGO_BIN_EXE_joblet");
const RNX: &str = env!("CARGO_BIN_EXE_rnx");
/// The longest time until a daemon is ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// A serving daemon, which ends when this value is dropped.
pub struct Node {
    dir: tempfile::TempDir,
    child: Child,
    /// The daemon: the child or its child.
    daemon: Pid,
    client: Client,
}

/// One connection to a node, for any number of threads.
#[derive(Clone)]
pub struct Client {
    jobs: JobServiceClient,
}

impl Node {
    /// `reuse`: network namespaces are used again.
    pub fn start(payload: &Path, reuse: bool) -> Node {
        Node::start_below(&[], payload, reuse)
    }

    /// A node whose daemon is the child of another command, which ends with the daemon.
    pub fn start_below(command: &[&str], payload: &Path, reuse: bool) -> Node {
        Node::start_with(command, payload, reuse, &[])
    }

    /// A node that keeps no sandbox warm.
    pub fn start_cold(payload: &Path) -> Node {
        Node::start_with(&[], payload, false, &[("joblet", "warmSandboxes", Value::from(0))])
    }

    /// A node with an audit trail or without one. Both may run at the same time.
    pub fn start_audited(payload: &Path, audited: bool) -> Node {
        let subid_base = if audited { 1_950_200_000 } else { 1_950_300_000 };
        let own = ("process", "subidBase", Value::from(subid_base));
        Node::start_with(&[], payload, false, &[("audit", "enabled", audited.into()), own])
    }

    /// A node with the runtimes of this directory.
    pub fn start_runtimes(payload: &Path, base: &Path, is_warm: bool) -> Node {
        let base = ("runtime", "base_path", Value::from(path(base)));
        let none = ("joblet", "warmSandboxes", Value::from(0));
        let more = if is_warm { vec![base] } else { vec![base, none] };
        Node::start_with(&[], payload, false, &more)
    }

    /// A node with pretended GPUs: `command` becomes the daemon, with the words behind it as arguments.
    pub fn start_gpus(command: &[&str], payload: &Path) -> Node {
        Node::start_with(command, payload, false, &[("gpu", "enabled", Value::from(true))])
    }

    fn start_with(command: &[&str], payload: &Path, reuse: bool, more: &[(&str, &str, Value)]) -> Node {
        let dir =
            tempfile::Builder::new().prefix("joblet-bench.").tempdir().expect("a directory for the node");
        let port = set_up(dir.path());
        let config = dir.path().join("joblet-config.yml");
        set(&config, "server", "address", "127.0.0.1");
        set(&config, "process", "subidBase", if reuse { 1_950_300_000 } else { 1_950_200_000 });
        set(&config, "joblet", "maxConcurrentJobs", 2000);
        set(&config, "network", "reuseNamespaces", reuse);
        // A benchmark changes nothing of the host's network.
        set(&config, "network", "default_network", "none");
        let mounts: Vec<Value> =
            mounts(payload).iter().map(|m| Value::from(m.to_str().expect("a plain path"))).collect();
        set(&config, "filesystem", "allowedMounts", mounts);
        for (section, key, value) in more {
            set(&config, section, key, value.clone());
        }
        let child = serve(command, dir.path(), &config);
        let client = connect(&dir.path().join("rnx-config.yml"), port);
        let own = child.id().cast_signed();
        // A command becomes the daemon, or has it as its child.
        let name = std::fs::read_to_string(format!("/proc/{own}/comm")).unwrap_or_default();
        let daemon =
            Pid::from_raw(if name.trim() == "joblet" { own } else { only_child(own).unwrap_or(own) });
        Node { dir, child, daemon, client }
    }

    /// The channel that is connected already.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes a small volume of this type.
    pub fn create_volume(&self, name: &str, kind: &str) {
        let config = self.dir.path().join("rnx-config.yml");
        let words = ["volume", "create", name, "--size", "16MB", "--type", kind];
        let made = Command::new(RNX).arg("--config").arg(config).args(words).stdout(Stdio::null()).status();
        assert!(made.expect("rnx can be executed").success(), "the volume cannot be made");
    }

    /// `rnx job run --wait true`, as a command.
    pub fn rnx(&self) -> Vec<String> {
        let config = self.dir.path().join("rnx-config.yml");
        let words = [RNX, "--config", path(&config), "job", "run", "--wait", "/usr/bin/true"];
        words.map(String::from).to_vec()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The log of a daemon that ended early has the reason, and the next call of a client failed.
        let _ = kill(self.daemon, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Client {
    /// Runs one job: accepted when the request is sent, started when its reply is there, ended when its log is.
    pub fn once(&self, program: &str) -> Sample {
        self.once_in(program, "")
    }

    /// The same in a network; the node's default where that is empty.
    pub fn once_in(&self, program: &str, network: &str) -> Sample {
        self.request(&RunJobRequest {
            command: program.into(),
            network: network.into(),
            ..Default::default()
        })
    }

    /// The same in a network with a rate each way.
    pub fn once_rated(&self, program: &str, network: &str) -> Sample {
        self.request(&RunJobRequest {
            command: program.into(),
            network: network.into(),
            net_rate_up: 1 << 30,
            net_rate_down: 1 << 30,
            ..Default::default()
        })
    }

    /// The same with these volumes, in the node's default network.
    pub fn once_with(&self, program: &str, volumes: &[&str]) -> Sample {
        self.request(&RunJobRequest {
            command: program.into(),
            volumes: volumes.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
    }

    /// The same in the root of a runtime; the host's where that is empty.
    pub fn once_in_root(&self, program: &str, runtime: &str, writable: bool) -> Sample {
        self.request(&RunJobRequest {
            command: program.into(),
            runtime: runtime.into(),
            writable,
            ..Default::default()
        })
    }

    /// The same for a job with so many GPUs.
    pub fn once_with_gpus(&self, program: &str, number: i32) -> Sample {
        self.request(&RunJobRequest { command: program.into(), gpu_count: number, ..Default::default() })
    }

    fn request(&self, request: &RunJobRequest) -> Sample {
        let accepted = clock::now();
        let reply = self.jobs.run_job(request).expect("the job starts");
        let started = clock::now();
        let request = GetJobLogsReq { uuid: reply.jobUuid, ..Default::default() };
        let mut stream = self.jobs.get_job_logs(&request).expect("the log can be read");
        let bytes = futures_executor::block_on(async {
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend(chunk.expect("the log ends well").payload);
            }
            bytes
        });
        let ended = clock::now();
        Sample { accepted, started, first: bytes.try_into().map_or(0, u64::from_ne_bytes), ended }
    }
}

/// The child of a process that has one.
fn only_child(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("our own child");
    text.trim().parse().ok()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Makes certificates and configuration; returns the port.
fn set_up(dir: &Path) -> u16 {
    // The port is free now, and no other program of the benchmark takes it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("loopback has free ports")
        .port();
    let done = Command::new(JOBLET)
        .args(["setup", "--dir", path(dir), "--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--enforcement", "best-effort"])
        .stdout(Stdio::null())
        .status();
    assert!(done.expect("joblet can be executed").success(), "joblet setup fails");
    port
}

fn set(config: &Path, section: &str, key: &str, value: impl Into<Value>) {
    let text = fs::read_to_string(config).expect("setup wrote the configuration");
    let mut root: Value = serde_yaml::from_str(&text).expect("setup wrote YAML");
    let map = root.as_mapping_mut().expect("a configuration is a mapping");
    let section = map.entry(section.into()).or_insert(Value::Null);
    if section.is_null() {
        *section = Value::Mapping(serde_yaml::Mapping::new());
    }
    section.as_mapping_mut().expect("a section is a mapping").insert(key.into(), value.into());
    fs::write(config, serde_yaml::to_string(&root).expect("YAML is YAML")).expect("writing our own file");
}

/// Starts the daemon and waits until it says READY.
fn serve(command: &[&str], dir: &Path, config: &Path) -> Child {
    let ready: PathBuf = dir.join("notify");
    let socket = UnixDatagram::bind(&ready).expect("a socket for READY");
    let log = fs::File::create(dir.join("daemon.log")).expect("the log");
    let daemon = [JOBLET, "--foreground", "--config", path(config)];
    let words: Vec<&str> = command.iter().copied().chain(daemon).collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("NOTIFY_SOCKET", &ready)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second descriptor"))
        .stderr(log)
        .spawn()
        .expect("joblet can be executed");
    socket.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    let mut word = [0; 4096];
    let ready = std::iter::from_fn(|| {
        socket.recv(&mut word).ok().map(|n| String::from_utf8_lossy(&word[..n]).into_owned())
    })
    .any(|said| said.lines().any(|line| line == "READY=1"));
    if !ready {
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
        panic!("the daemon is not ready; its log:\n{log}");
    }
    child
}

fn connect(config: &Path, port: u16) -> Client {
    let text = fs::read_to_string(config).expect("setup wrote it");
    let root: Value = serde_yaml::from_str(&text).expect("setup wrote YAML");
    let part = |name: &str| {
        let text = root["nodes"]["default"][name].as_str();
        text.expect("certificates are in it").as_bytes().to_vec()
    };
    let credentials =
        ChannelCredentialsBuilder::new().root_cert(part("ca")).cert(part("cert"), part("key")).build();
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let channel = ChannelBuilder::new(env)
        .override_ssl_target("joblet")
        .enable_http_proxy(false)
        .set_credentials(credentials)
        .connect(&format!("ipv4:127.0.0.1:{port}"));
    Client { jobs: JobServiceClient::new(channel) }
}
