//! A real node in one line: `let d = TestDaemon::start();` sets up certificates and configuration in a directory of its
//! own, starts `joblet`, and waits for its READY. When it goes out of scope, the test stops the daemon, which must exit with
//! 0 and must leave nothing behind.

use super::certificates::{Authority, Identity};
use super::rnx::{Output, Running};
use super::wait::{self, eventually, holds};
use super::{network::default_network, profile, residue, vessel};
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU16, Ordering};
use std::time::Duration;

/// The path of the daemon under test, which cargo builds before any test runs.
pub const JOBLET: &str = env!("CARGO_BIN_EXE_joblet");
/// The path of the history process under test.
pub const PERSIST: &str = env!("CARGO_BIN_EXE_persist");
/// The path of the program that answers names, under test.
pub const RESOLVER: &str = env!("CARGO_BIN_EXE_joblet-resolver");
/// The path of the client under test.
pub const RNX: &str = env!("CARGO_BIN_EXE_rnx");

/// A running node with everything around it.
pub struct TestDaemon {
    node: Node,
    child: Child,
    notified: UnixDatagram,
    base: BTreeMap<String, usize>,
    stopped: bool,
    /// The history process, while the test keeps it from its work; else 0.
    held: AtomicI32,
}

/// The directory of a node: certificates, configuration, state. It can be started, killed and started again.
pub struct Node {
    /// The daemon's binary.
    pub program: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    uids: Range<u32>,
    _claim: UnixDatagram,
}

impl Node {
    /// Sets up a node in a directory of its own.
    pub fn set_up() -> Node {
        // Directly below /tmp: sockets below it need short names.
        let dir =
            tempfile::Builder::new().prefix("joblet-test.").tempdir().expect("a directory for the node");
        let (port, claim) = free_port();
        let out = Command::new(JOBLET)
            .args(["setup", "--dir"])
            .arg(dir.path())
            .args(["--host", "localhost", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--enforcement", "best-effort"])
            .env_clear()
            .output()
            .expect("joblet can be executed");
        assert!(out.status.success(), "joblet setup: {}", String::from_utf8_lossy(&out.stderr));
        let uids = profile::ids(port);
        let node = Node { program: JOBLET.into(), dir, port, uids: uids.clone(), _claim: claim };
        profile::configure(&node, &uids);
        vessel::configure(&node);
        node.set("server.address", "127.0.0.1");
        node.set("network.default_network", default_network());
        // Also where this host's /tmp has project quotas: tests look at images.
        node.set("volumes.backend", "image");
        // Jobs that a test leaves running must not outlive the test.
        node.set("joblet.onShutdown", "stop");
        node
    }

    /// The directory given to `joblet setup`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file that the daemon reads.
    pub fn config(&self) -> PathBuf {
        self.dir().join("joblet-config.yml")
    }

    /// Changes one key of the configuration, given as `section.key`.
    pub fn set(&self, key: &str, value: impl Into<Value>) {
        let text = fs::read_to_string(self.config()).expect("setup wrote the configuration");
        let mut root: Value = serde_yaml::from_str(&text).expect("setup wrote YAML");
        let mut place = &mut root;
        for part in key.split('.') {
            if place.is_null() {
                *place = Value::Mapping(serde_yaml::Mapping::new());
            }
            let map = place.as_mapping_mut().unwrap_or_else(|| panic!("{key}: not a section"));
            place = map.entry(Value::from(part)).or_insert(Value::Null);
        }
        *place = value.into();
        fs::write(self.config(), serde_yaml::to_string(&root).expect("YAML is YAML"))
            .expect("writing our own file");
    }

    /// The command that starts the daemon, with a clean environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--foreground")
            .arg("--config")
            .arg(self.config())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// The node's own certificate authority, which setup keeps below `ca/`.
    pub fn authority(&self) -> Authority {
        let pems: Vec<Vec<u8>> =
            residue::files(&self.dir().join("ca")).iter().map(|f| fs::read(f).unwrap()).collect();
        let with = |mark: &str| {
            let found = pems.iter().find(|p| String::from_utf8_lossy(p).contains(mark));
            found.unwrap_or_else(|| panic!("no {mark} below ca/"))
        };
        Authority::from_pem(with("BEGIN CERTIFICATE"), with("PRIVATE KEY"))
    }

    /// The file that gets the daemon's standard output and error.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("daemon.log")
    }

    /// The text of the daemon's log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Starts the daemon without waiting for READY.
    pub fn spawn(&self) -> Child {
        self.logging().spawn().expect("joblet can be executed")
    }

    fn logging(&self) -> Command {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log_path()).expect("the log");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        command
    }

    /// Starts the daemon (again) and waits until it says READY.
    pub fn start(self) -> TestDaemon {
        self.start_with(|_| {})
    }

    /// Starts the daemon with a changed command (environment, limits), and waits until it says READY.
    pub fn start_with(self, change: impl FnOnce(&mut Command)) -> TestDaemon {
        let ready = self.dir().join("notify");
        let _ = fs::remove_file(&ready);
        let socket = UnixDatagram::bind(&ready).expect("a socket for READY");
        let mut command = self.logging();
        command.env("NOTIFY_SOCKET", &ready);
        change(&mut command);
        let mut child = command.spawn().expect("joblet can be executed");
        if let Err(why) = wait_for_ready(&socket, &mut child) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon {why}; its log:\n{}", self.log());
        }
        let mut daemon = TestDaemon {
            node: self,
            child,
            notified: socket,
            base: BTreeMap::new(),
            stopped: false,
            held: AtomicI32::new(0),
        };
        // gRPC makes some descriptors at its first call and keeps them.
        daemon.rnx(["job", "list"]).ok();
        if default_network() != "none" && !daemon.rnx(["job", "list"]).text().contains("RUNNING") {
            // The first job with a network has the router's sockets opened, which are kept. A daemon that has jobs of an
            // earlier one has them already, and perhaps no slot.
            daemon.run(["true"]).ok();
        }
        daemon.await_warm_sandboxes();
        daemon.base = eventually_quiet(daemon.pid());
        daemon
    }
}

impl Drop for Node {
    /// A test that fails while no daemon lives would leave its jobs on the host for good.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for process in residue::processes_of(&self.uids) {
            if let Some(pid) = process.split(' ').next().and_then(|pid| pid.parse().ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        }
    }
}

impl TestDaemon {
    /// Sets up a node and starts its daemon.
    pub fn start() -> TestDaemon {
        Node::set_up().start()
    }

    /// The same, with keys of the configuration changed.
    pub fn with<V: Into<Value>, const N: usize>(keys: [(&str, V); N]) -> TestDaemon {
        let node = Node::set_up();
        for (key, value) in keys {
            node.set(key, value);
        }
        node.start()
    }

    /// The directory of the node.
    pub fn dir(&self) -> &Path {
        self.node.dir()
    }

    /// The configuration file of the node.
    pub fn config(&self) -> PathBuf {
        self.node.config()
    }

    /// Changes one key of the configuration file; the daemon sees it at its next reload or start.
    pub fn set(&self, key: &str, value: impl Into<Value>) {
        self.node.set(key, value);
    }

    /// The daemon's process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The process id of the daemon's history process; waits until there is one.
    pub fn history(&self) -> i32 {
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "persist")
        };
        eventually("the history process lives", || residue::children_of(self.pid()).into_iter().find(is_it))
    }

    /// Keeps the history process from its work, so that output stays in the spool, until the daemon ends.
    pub fn hold_history(&self) {
        let pid = self.history();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGSTOP).unwrap();
        self.held.store(pid, Ordering::SeqCst);
    }

    /// Lets the history process work again.
    pub fn release_history(&self) {
        let pid = self.held.swap(0, Ordering::SeqCst);
        if pid > 0 {
            // It may be gone, with the daemon.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGCONT);
        }
    }

    /// The resident memory of the daemon, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon lives");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("the kernel tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// The TCP port on which the daemon listens.
    pub fn port(&self) -> u16 {
        self.node.port
    }

    /// The text of the daemon's log so far.
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// Waits until the log has these words: a separate thread of the daemon writes the log.
    #[track_caller]
    pub fn until_logged(&self, words: &str) {
        let said = wait::within(wait::PATIENCE, || holds(self.log().contains(words)));
        assert!(said.is_some(), "the daemon did not say {words:?}, but:\n{}", self.log());
    }

    /// The host user ids from which its jobs lease theirs.
    pub fn uids(&self) -> Range<u32> {
        self.node.uids.clone()
    }

    /// A command `rnx` with this node's configuration and nothing of our environment.
    pub fn rnx_command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(RNX);
        command.env_clear().env("HOME", self.dir()).env("PATH", "/usr/bin:/bin").current_dir(self.dir());
        command.arg("--config").arg(self.dir().join("rnx-config.yml")).args(args);
        command
    }

    /// Runs `rnx` as administrator and waits for it.
    #[track_caller]
    pub fn rnx<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        Running::start(&mut self.rnx_command(args)).finish()
    }

    /// Starts `rnx` in the background.
    pub fn rnx_spawn<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(&mut self.rnx_command(args))
    }

    /// Runs a job to its end and returns its output; `args` are the arguments behind `job run -q --follow`.
    #[track_caller]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        if vessel::has_builds() {
            return vessel::run(self, args.into_iter().map(|a| a.as_ref().to_owned()).collect());
        }
        let all =
            ["job", "run", "-q", "--follow"].map(std::ffi::OsString::from).into_iter().chain(profile::flag());
        self.rnx(all.chain(args.into_iter().map(|a| a.as_ref().to_owned())))
    }

    /// Starts a job and returns its id.
    #[track_caller]
    pub fn submit<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let all = ["job", "run", "-q"].map(std::ffi::OsString::from).into_iter().chain(profile::flag());
        let out = self.rnx(all.chain(args.into_iter().map(|a| a.as_ref().to_owned())));
        out.ok();
        out.id()
    }

    /// The status of a job as JSON.
    #[track_caller]
    pub fn status(&self, id: &str) -> serde_json::Value {
        let out = self.rnx(["--json", "job", "status", id]);
        out.ok();
        out.json()
    }

    /// Waits until the job has this status.
    #[track_caller]
    pub fn until_status(&self, id: &str, wanted: &str) {
        eventually(&format!("job {id} is {wanted}"), || holds(self.status(id)["status"] == wanted));
    }

    /// The certificate and key of a role (`default`: administrator, `viewer`) and the authority's certificate, from
    /// `rnx-config.yml`.
    pub fn identity(&self, node: &str) -> (Identity, Vec<u8>) {
        let text = fs::read_to_string(self.dir().join("rnx-config.yml")).expect("setup wrote it");
        let root: Value = serde_yaml::from_str(&text).expect("setup wrote YAML");
        let part = |name: &str| {
            let value = root["nodes"][node][name].as_str();
            value.unwrap_or_else(|| panic!("rnx-config.yml has no nodes.{node}.{name}")).as_bytes().to_vec()
        };
        (Identity { cert: part("cert"), key: part("key") }, part("ca"))
    }

    /// The node's own certificate authority.
    pub fn authority(&self) -> Authority {
        self.node.authority()
    }

    /// A gRPC channel to the node with this identity, trusting this authority.
    pub fn channel(&self, identity: &Identity, ca: &[u8]) -> grpcio::Channel {
        let credentials = grpcio::ChannelCredentialsBuilder::new()
            .root_cert(ca.to_vec())
            .cert(identity.cert.clone(), identity.key.clone())
            .build();
        let env = std::sync::Arc::new(grpcio::EnvBuilder::new().cq_count(1).build());
        grpcio::ChannelBuilder::new(env)
            .enable_http_proxy(false)
            .max_receive_message_len(64 << 20)
            .set_credentials(credentials)
            .connect(&format!("localhost:{}", self.port()))
    }

    /// A JobService client that acts as this node of `rnx-config.yml`.
    pub fn client(&self, node: &str) -> joblet::pb::joblet_grpc::JobServiceClient {
        let (identity, ca) = self.identity(node);
        joblet::pb::joblet_grpc::JobServiceClient::new(self.channel(&identity, &ca))
    }

    /// The API as another administrator uses it, with a certificate of their own: another client for every limit.
    pub fn other_client(&self) -> joblet::pb::joblet_grpc::JobServiceClient {
        let (_, ca) = self.identity("default");
        let identity = self.authority().issue(&super::certificates::Recipe::client("admin"));
        joblet::pb::joblet_grpc::JobServiceClient::new(self.channel(&identity, &ca))
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal)
            .expect("signalling our own child");
    }

    /// Makes the daemon reload its configuration, waits until it has, and returns its messages to the service manager.
    #[track_caller]
    pub fn reload(&self) -> String {
        self.signal(nix::sys::signal::Signal::SIGHUP);
        let (mut told, mut buffer) = (String::new(), [0; 4096]);
        eventually("the daemon is READY again", || {
            if let Ok(n) = self.notified.recv(&mut buffer) {
                told.push_str(&String::from_utf8_lossy(&buffer[..n]));
                told.push('\n');
            }
            holds(told.lines().any(|l| l == "READY=1"))
        });
        told
    }

    /// Runs `joblet` with these arguments and waits for it.
    #[track_caller]
    pub fn joblet<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(JOBLET);
        Running::start(command.args(args).env_clear().current_dir(self.dir())).finish()
    }

    /// Kills the daemon as a crash would, and returns the node, which can be started again.
    pub fn crash(mut self) -> Node {
        self.release_history();
        self.child.kill().expect("killing our own child");
        self.child.wait().expect("waiting for our own child");
        self.into_node()
    }

    /// Stops the daemon, which may leave jobs behind, and returns the node.
    pub fn leave(mut self) -> Node {
        self.release_history();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status =
            eventually("the daemon ends", || self.child.try_wait().expect("waiting for our own child"));
        assert!(status.success(), "the daemon ended with {status}; its log:\n{}", self.log());
        self.into_node()
    }

    /// Leaves the daemon, which was sent a signal, to its end, and returns the node.
    pub fn abandon(mut self) -> Node {
        let here = Command::new("true").spawn().expect("a program to put in its place");
        let mut child = std::mem::replace(&mut self.child, here);
        std::thread::spawn(move || child.wait());
        self.child.wait().expect("waiting for our own child");
        self.into_node()
    }

    fn into_node(mut self) -> Node {
        self.stopped = true;
        // The node is moved out; the rest drops without effect.
        let program = PathBuf::new();
        let (dir, _claim) = (tempfile::tempdir().unwrap(), UnixDatagram::unbound().unwrap());
        let nothing = Node { program, dir, port: 0, uids: 0..0, _claim };
        std::mem::replace(&mut self.node, nothing)
    }

    /// Stops the daemon and checks all promises about its end.
    pub fn stop(mut self) {
        self.finish();
    }

    /// Waits until the warm sandboxes are ready, or could not be made.
    fn await_warm_sandboxes(&self) {
        let config = fs::read_to_string(self.config()).expect("the configuration");
        let wanted =
            config.lines().find_map(|line| line.trim().strip_prefix("warmSandboxes: ")?.parse().ok());
        let (warm, pid) = (wanted.unwrap_or(WARM_SANDBOXES), self.pid());
        // The second joblet-init belongs to a warm sandbox in the making.
        let counts = [("/memfd:exec-request (deleted)", warm), ("/memfd:joblet-init (deleted)", 1)];
        eventually("the warm sandboxes are ready", || {
            let now = residue::descriptors(pid);
            let made = counts.iter().all(|(kind, wanted)| now.get(*kind).unwrap_or(&0) == wanted);
            // The last warm sandbox has its order before the rest.
            let made = made && residue::waits(pid, "pool");
            holds(made || self.log().contains("cannot create a warm sandbox"))
        });
    }

    fn finish(&mut self) {
        self.stopped = true;
        self.release_history();
        let jobs = self.jobs();
        let busy = self.rnx(["job", "list", "--json"]);
        let leak = (busy.code == 0 && !busy.text().contains("RUNNING")).then(|| self.leak()).flatten();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status =
            eventually("the daemon ends", || self.child.try_wait().expect("waiting for our own child"));
        assert!(status.success(), "the daemon ended with {status}; its log:\n{}", self.log());
        assert_eq!(leak, None, "the daemon leaks descriptors");
        self.assert_nothing_is_left(&jobs);
    }

    /// The ids of all jobs whose output the daemon keeps.
    fn jobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir().join("spool")).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Takes the descriptors that the daemon has now for those that it keeps: it has made its router by now.
    pub fn keep_descriptors(&mut self) {
        self.base = eventually_quiet(self.pid());
    }

    /// The differences between the daemon's descriptors now and at the start.
    fn leak(&self) -> Option<String> {
        let mut now = BTreeMap::new();
        let back = wait::within(wait::PATIENCE, || {
            now = residue::descriptors(self.pid());
            holds(now.iter().all(|(kind, n)| n <= self.base.get(kind).unwrap_or(&0)))
        });
        back.is_none().then(|| format!("{:?} at start, {now:?} now", self.base))
    }

    fn assert_nothing_is_left(&self, jobs: &[String]) {
        let uids = self.uids();
        let gone = wait::within(Duration::from_secs(5), || holds(residue::processes_of(&uids).is_empty()));
        assert!(gone.is_some(), "processes of jobs are left: {:?}", residue::processes_of(&uids));
        assert_eq!(residue::mounts_below(self.dir()), Vec::<String>::new(), "mounts are left on the host");
        assert_eq!(residue::files(&self.dir().join("run")), Vec::<PathBuf>::new(), "files are left in run/");
        for job in jobs {
            assert_eq!(
                residue::processes_in_cgroup(job),
                Vec::<String>::new(),
                "processes of job {job} are left"
            );
        }
        assert_eq!(residue::group_of(self.dir()), None, "the daemon's own cgroup is left");
        if let Some(mount) = residue::cgroup2_mount() {
            let left =
                residue::directories(&mount, &|name| jobs.iter().any(|job| name.contains(job.as_str())));
            assert_eq!(left, Vec::<PathBuf>::new(), "cgroups of jobs are left");
        }
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if !std::thread::panicking() {
            self.finish();
            return;
        }
        // The test has failed already: end the daemon and show its log.
        self.release_history();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        if wait::within(Duration::from_secs(10), || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        eprintln!("--- the daemon's log ---\n{}--- end of the daemon's log ---", self.log());
    }
}

/// The default of `joblet.warmSandboxes`.
const WARM_SANDBOXES: usize = 8;

/// Waits for the datagram READY=1; the error describes what came instead.
fn wait_for_ready(socket: &UnixDatagram, child: &mut Child) -> Result<(), String> {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a valid timeout");
    let mut buffer = [0; 4096];
    let answer = wait::within(wait::PATIENCE, || {
        if let Ok(n) = socket.recv(&mut buffer)
            && String::from_utf8_lossy(&buffer[..n]).lines().any(|l| l == "READY=1")
        {
            return Some(Ok(()));
        }
        let ended = child.try_wait().expect("waiting for our own child")?;
        Some(Err(format!("ended before it was ready ({ended})")))
    });
    answer.unwrap_or_else(|| Err("did not say READY=1".to_owned()))
}

/// The daemon's descriptors once the connection of the last call is gone.
fn eventually_quiet(pid: i32) -> BTreeMap<String, usize> {
    let mut last = residue::descriptors(pid);
    let mut same = 0;
    eventually("the daemon's descriptors stay the same", || {
        let now = residue::descriptors(pid);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        holds(same == 20)
    });
    last
}

/// A port below the range from which the kernel takes ports for outgoing connections, so that no other program gets it between
/// our check and the daemon's bind. Another test program that searches at the same time sees our claim: a name among the
/// abstract sockets, which belong to the same network namespace.
fn free_port() -> (u16, UnixDatagram) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).expect("below 10000");
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let name = SocketAddr::from_abstract_name(format!("joblet-test-port-{port}")).expect("a short name");
        let Ok(claim) = UnixDatagram::bind_addr(&name) else { continue };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, claim);
        }
    }
}
