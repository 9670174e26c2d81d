//! One isolated job without a daemon: the test plays the spawner and the loop.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use joblet::job::exit_file::ExitFile;
use joblet::job::{CONTAINER_IDS, Profile, User};
use joblet::sandbox::create::{SandboxConfig, exit_file_path, limits_of_all_ids};
use joblet::sandbox::identity::{make_namespace, make_whole_namespace};
use joblet::sandbox::work::Backing;
use joblet::sandbox::{
    Created, Credentials, ExecRequest, Network, Root, RuntimeMount, RuntimeRoot, Sandbox, SandboxError,
    SandboxParts, SandboxSpec,
};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::helper::residue::{cgroup2_mount, mounts_below, processes_of};
use crate::helper::wait::{PATIENCE, holds, within};
use crate::helper::{eventually, programs};

/// The first host id of the kernel tier; each of its processes has 64 ids, each ground has one.
const TEST_IDS: u32 = 1_900_000_000;
const IDS_OF_A_PROCESS: u32 = 64;
/// The first range of ids of the kernel tier, and how many there are; each process has 16, each ground of containers has one.
const TEST_RANGES: u32 = 0xa000_0000;
const RANGES: u32 = 0x5000;
const RANGES_OF_A_PROCESS: u32 = 16;

/// Processes that a job may have.
const PIDS: u32 = 64;
/// Bytes of /work, and of the layer over a root together with it.
pub const WORK_BYTES: u64 = 16 << 20;

/// The ground for the jobs of one test: a directory, a cgroup and host ids, all of them removed or free afterwards.
pub struct Ground {
    pub dir: PathBuf,
    pub cgroup: PathBuf,
    /// The first id, which is the only one of strict jobs.
    pub uid: u32,
    pub profile: Profile,
    _dir: tempfile::TempDir,
}

impl Ground {
    pub fn new() -> Ground {
        Ground::of(Profile::Strict)
    }

    pub fn of(profile: Profile) -> Ground {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("joblet-kernel.").tempdir().unwrap();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = |of_a_process: u32| std::process::id() * of_a_process + next % of_a_process;
        let name = dir.path().file_name().unwrap().to_string_lossy().replace('.', "-");
        let cgroup = cgroup2_mount().expect("a cgroup v2 mount").join(name);
        fs::create_dir(&cgroup).unwrap();
        Ground {
            dir: dir.path().to_owned(),
            cgroup,
            uid: match profile {
                Profile::Strict => TEST_IDS + own(IDS_OF_A_PROCESS),
                Profile::Container => TEST_RANGES + own(RANGES_OF_A_PROCESS) % RANGES * CONTAINER_IDS,
            },
            profile,
            _dir: dir,
        }
    }

    /// The ids of its jobs.
    pub fn ids(&self) -> std::ops::Range<u32> {
        self.uid..self.uid + self.profile.ids()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed already; its jobs must not outlive it.
            let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
            let _ = within(PATIENCE, || fs::remove_dir(&self.cgroup).ok());
            return;
        }
        eventually("the jobs' processes are gone", || holds(processes_of(&self.ids()).is_empty()));
        eventually("the test's cgroup is empty and removed", || fs::remove_dir(&self.cgroup).ok());
        assert_eq!(mounts_below(&self.dir), Vec::<String>::new());
    }
}

/// A sandbox that stands on a ground.
pub struct Bench {
    pub sandbox: Sandbox,
    pub ground: Ground,
    /// The root of jobs that name none, which they may write; `None`: the host's.
    pub image: Option<RuntimeRoot>,
}

/// The parts of a job; start from [`Order::new`] and change what the test is about.
pub struct Order {
    pub argv: Vec<String>,
    pub environment: Vec<String>,
    pub hostname: String,
    pub work_dir: String,
    pub user: User,
    /// Ids that joblet-init gives the payload.
    pub credentials: Option<Credentials>,
    pub files: Vec<(&'static str, Vec<u8>, u32)>,
    pub links: Vec<(&'static str, &'static str)>,
    /// These three replace the objects that the test makes otherwise.
    pub user_namespace: Option<OwnedFd>,
    pub work: Option<OwnedFd>,
    pub cgroup: Option<OwnedFd>,
    /// The root of a runtime, instead of the host's.
    pub root: Option<RuntimeRoot>,
    /// Whether the job may write it.
    pub writable: bool,
}

impl Order {
    pub fn new(argv: &[&str]) -> Order {
        Order {
            argv: argv.iter().map(|s| (*s).to_owned()).collect(),
            environment: vec!["PATH=/usr/bin:/bin".into(), "A=b".into()],
            hostname: "job-test".into(),
            work_dir: "/work".into(),
            user: User::Root,
            credentials: None,
            files: Vec::new(),
            links: Vec::new(),
            user_namespace: None,
            work: None,
            cgroup: None,
            root: None,
            writable: false,
        }
    }

    /// One of the programs of `tests/jobs`, as `./NAME ARGUMENT...`.
    pub fn program(name: &'static str, arguments: &[&str]) -> Order {
        let mut order = Order::new(arguments);
        order.argv.insert(0, format!("./{name}"));
        order.files.push((name, fs::read(programs::c(name)).unwrap(), 0o755));
        order
    }
}

/// A started job.
pub struct Running {
    pub started: Created,
    pub record: PathBuf,
}

/// The results of a finished job.
#[derive(Debug)]
pub struct Finished {
    pub record: Option<ExitFile>,
    pub stdout: String,
    pub stderr: String,
    /// The exit code of joblet-init, as its parent sees it.
    pub code: Option<i32>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::lingering(60)
    }

    /// The same for jobs of a profile.
    pub fn of(profile: Profile) -> Bench {
        let ground = Ground::of(profile);
        Bench { sandbox: sandbox(&ground.dir, 60), ground, image: None }
    }

    /// The same for jobs that may write their root, which is that of an image.
    pub fn writable(profile: Profile) -> Bench {
        let mut bench = Bench::of(profile);
        bench.image = Some(image_with_programs(&bench.ground.dir.join("image")));
        bench
    }

    /// One for each profile and each kind of root.
    pub fn everywhere() -> impl Iterator<Item = Bench> {
        Bench::each().chain(Profile::ALL.into_iter().map(Bench::writable))
    }

    /// One for each profile.
    pub fn each() -> impl Iterator<Item = Bench> {
        Profile::ALL.into_iter().map(Bench::of)
    }

    /// The same, with joblet-inits that wait this many seconds for a new daemon.
    pub fn lingering(seconds: u64) -> Bench {
        let ground = Ground::new();
        Bench { sandbox: sandbox(&ground.dir, seconds), ground, image: None }
    }

    /// Shows a directory of the host to all jobs.
    pub fn show(&mut self, path: &Path) {
        self.sandbox = sandbox_with(&self.ground.dir, 60, vec![path.to_owned()]);
    }

    /// Starts a job from a separate thread, as the daemon's spawner does.
    pub fn start(&self, order: &Order) -> Running {
        self.try_start(order).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn try_start(&self, order: &Order) -> Result<Running, SandboxError> {
        let ground = &self.ground;
        let root = order.root.as_ref().map(|root| (root, order.writable));
        let root = root.or(self.image.as_ref().map(|image| (image, true)));
        start_in(&self.sandbox, order, root, (ground.uid, ground.profile), &ground.cgroup, &ground.dir)
    }

    /// Starts a job and plays the daemon until it has ended.
    pub fn run(&self, order: &Order) -> Finished {
        self.start(order).finish()
    }

    /// Runs a shell script.
    pub fn shell(&self, script: &str) -> Finished {
        self.run(&Order::new(&["sh", "-c", script]))
    }
}

pub fn sandbox(dir: &Path, orphan_linger_s: u64) -> Sandbox {
    sandbox_with(dir, orphan_linger_s, Vec::new())
}

fn sandbox_with(dir: &Path, orphan_linger_s: u64, extra_mounts: Vec<PathBuf>) -> Sandbox {
    let config = SandboxConfig {
        mounts: None,
        extra_mounts,
        proc_pids_only: false,
        run_dir: dir.to_owned(),
        orphan_linger_s,
    };
    Sandbox::new(config).unwrap()
}

/// Files of an image, whose programs are the host's.
pub fn image_with_programs(layer: &Path) -> RuntimeRoot {
    fs::create_dir_all(layer.join("usr")).unwrap();
    fs::create_dir_all(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), layer.join(name)).unwrap();
    }
    fs::set_permissions(layer, Permissions::from_mode(0o755)).unwrap();
    let programs = RuntimeMount { dir: "/".into(), source: "usr".into(), target: "/usr".into() };
    RuntimeRoot {
        name: "image@1".into(),
        generation: 1,
        over_host: false,
        layers: vec![layer.to_owned()],
        mounts: vec![programs],
    }
}

/// Starts a job on a ground that may belong to another process.
pub fn start(
    sandbox: &Sandbox,
    order: &Order,
    ids: (u32, Profile),
    cgroup: &Path,
    dir: &Path,
) -> Result<Running, SandboxError> {
    let root = order.root.as_ref().map(|root| (root, order.writable));
    start_in(sandbox, order, root, ids, cgroup, dir)
}

fn start_in(
    sandbox: &Sandbox,
    order: &Order,
    root: Option<(&RuntimeRoot, bool)>,
    ids: (u32, Profile),
    cgroup: &Path,
    dir: &Path,
) -> Result<Running, SandboxError> {
    let id = uuid::Uuid::new_v4().to_string();
    let started = std::thread::scope(|scope| {
        scope.spawn(|| start_here(sandbox, order, root, &id, ids, cgroup)).join().unwrap()
    })?;
    Ok(Running { started, record: exit_file_path(dir, &id) })
}

fn start_here(
    sandbox: &Sandbox,
    order: &Order,
    root: Option<(&RuntimeRoot, bool)>,
    id: &str,
    (uid, profile): (u32, Profile),
    cgroup: &Path,
) -> Result<Created, SandboxError> {
    let namespace = match profile {
        Profile::Strict => make_namespace(uid, order.user)?,
        Profile::Container => make_whole_namespace(uid, &limits_of_all_ids(PIDS))?,
    };
    let template = root.map(|(root, _)| sandbox.root(root)).transpose()?;
    let (writable, root) =
        (root.is_some_and(|root| root.1), template.as_deref().map_or(Root::Host, Root::Runtime));
    let work = sandbox.work_tmpfs(WORK_BYTES, uid)?;
    let Backing { mount, work } = match writable {
        true => Backing::divide(work, uid, uid, root.shared()?)?,
        false => Backing::whole(work)?,
    };
    fill(&work, order);
    // Whoever the job is inside, root's files are its own.
    let of_root = make_namespace(uid, User::Root)?;
    let layer_ids = if profile.is_strict() { &of_root } else { &namespace };
    let cgroup: OwnedFd = File::open(cgroup).unwrap().into();
    let strings = |list: &[String]| list.iter().map(|s| CString::new(s.as_str()).unwrap()).collect();
    let walls = SandboxParts {
        id,
        spec: SandboxSpec {
            hostname: &order.hostname,
            scratch_bytes: 1 << 20,
            pids: PIDS,
            network: Network::Own,
            user: order.user,
            root,
            profile,
            writable,
        },
        work: or(order.work.as_ref(), &mount),
        layer_ids: layer_ids.as_fd(),
        user_namespace: or(order.user_namespace.as_ref(), &namespace),
        cgroup: or(order.cgroup.as_ref(), &cgroup),
    };
    let mut stack = sandbox.adopt_thread()?;
    let request = ExecRequest {
        argv: strings(&order.argv),
        environment: strings(&order.environment),
        work_dir: CString::new(order.work_dir.as_str()).unwrap(),
        credentials: order.credentials.clone(),
    };
    let started = sandbox.create(&mut stack, &walls);
    let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    assert_eq!(
        here,
        fs::read_link("/proc/self/ns/mnt").unwrap(),
        "the spawner is back among the host's mounts"
    );
    let started = started?;
    started.init.start(&request, false)?;
    Ok(started)
}

fn or<'a>(instead: Option<&'a OwnedFd>, good: &'a OwnedFd) -> BorrowedFd<'a> {
    instead.unwrap_or(good).as_fd()
}

/// Puts an order's files into its /work.
pub fn fill(work: &OwnedFd, order: &Order) {
    let root = PathBuf::from(format!("/proc/self/fd/{}", work.as_raw_fd()));
    for (name, bytes, mode) in &order.files {
        fs::write(root.join(name), bytes).unwrap();
        fs::set_permissions(root.join(name), Permissions::from_mode(*mode)).unwrap();
    }
    for (name, to) in &order.links {
        symlink(to, root.join(name)).unwrap();
    }
}

impl Running {
    /// Drains both pipes, releases joblet-init and reads its record.
    pub fn finish(self) -> Finished {
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(|| drain(&self.started.stderr));
            (drain(&self.started.stdout), stderr.join().unwrap())
        });
        self.release();
        let code = self.wait().exit_status();
        Finished { record: self.read_record(), stdout, stderr, code }
    }

    /// Tells joblet-init that everything has been read.
    pub fn release(&self) {
        rustix::io::write(&*self.started.init.control, b"R").unwrap();
    }

    /// Waits until joblet-init ends.
    pub fn wait(&self) -> WaitIdStatus {
        waitid(WaitId::PidFd(self.started.init.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap()
    }

    /// The exit record on disk, if it is complete.
    pub fn read_record(&self) -> Option<ExitFile> {
        ExitFile::decode(&fs::read(&self.record).unwrap())
    }

    /// Waits until the job's stdout has a line with exactly this word.
    pub fn hear(&self, word: &str) {
        while self.line() != word {}
    }

    /// The next line of the job's stdout.
    pub fn line(&self) -> String {
        rustix::io::ioctl_fionbio(&self.started.stdout, false).unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            let got = rustix::io::read(&self.started.stdout, &mut byte).unwrap();
            let said = || (String::from_utf8_lossy(&line).into_owned(), drain(&self.started.stderr));
            assert_eq!(got, 1, "the job ended; it said {:?}", said());
            line.extend(byte);
        }
        line.pop();
        String::from_utf8(line).unwrap()
    }
}

/// Everything in a pipe until its last writer has closed it.
pub fn drain(pipe: &OwnedFd) -> String {
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
    let mut text = String::new();
    File::from(pipe.try_clone().unwrap()).read_to_string(&mut text).unwrap();
    text
}
