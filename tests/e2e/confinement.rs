//! Attacks by the host's files or by other users of the host, and attempts of a job on its own files, filters and network.
//! The isolation is the same for every way to start a job.

use crate::helper::daemon::Node;
use crate::helper::rnx::Running;
use crate::helper::{TestDaemon, residue};
use grpcio::RpcStatusCode;
use joblet::pb::joblet::{FileUpload, GetJobStatusReq, RunJobRequest};
use std::collections::HashMap;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes `command` run in a separate mount namespace, which `script` changes first.
fn in_doctored_host(command: &mut Command, script: &str) {
    let joblet = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut doctored = Command::new("unshare");
    let then = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
    doctored.args(["--mount", "--propagation", "private", "sh", "-c", &then]).arg(joblet).args(args);
    doctored.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    if let Some(dir) = command.get_current_dir() {
        doctored.current_dir(dir);
    }
    *command = doctored;
}

/// A /dev with six genuine nodes, and its path before it is mounted over the host's.
fn honest_devices(node: &Node) -> String {
    let dev = node.dir().join("dev");
    let nodes = ["null 1 3", "zero 1 5", "full 1 7", "random 1 8", "urandom 1 9", "tty 5 0"]
        .map(|node| {
            let (name, numbers) = node.split_once(' ').unwrap();
            format!("mknod -m 666 {}/{name} c {numbers}", dev.display())
        })
        .join("\n");
    format!("mkdir -p {0}\nmount -t tmpfs tmpfs {0}\n{nodes}\n", dev.display())
}

/// The message of a daemon that does not start on a host changed by this script.
fn refusal(node: &Node, script: &str) -> String {
    let mut command = node.command();
    in_doctored_host(&mut command, script);
    let out = Running::start(&mut command).finish();
    assert_ne!(out.code, 0, "it started: {script}");
    out.text() + &out.stderr
}

#[test]
fn false_null_device_stops_the_daemon_and_changes_nothing() {
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let node = Node::set_up();
    let dev = node.dir().join("dev");
    let cover = format!("mount --rbind {0} /dev", dev.display());
    for fake in [
        // CVE-2025-31133: the file over masked files would be the one that is worth most to a job.
        "ln -s /proc/sys/kernel/core_pattern",
        "ln -s zero",
        "touch",
        "mkdir",
        "mkfifo",
        "mknod -m 666 X c 1 1 && mv X",
    ] {
        let at = dev.join("null");
        let script = format!("{}rm {1}\n{fake} {1}\n{cover}", honest_devices(&node), at.display());
        let text = refusal(&node, &script);
        assert!(text.contains("/dev/null: it is not the character device 1:3"), "{fake}: {text}");
    }
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    // The same without a fake node.
    let script = honest_devices(&node) + &cover;
    let d = node.start_with(|command| redoctor(command, &script));
    assert_eq!(d.run(["sh", "-c", "echo x >/dev/null; wc -c < /dev/null"]).ok(), "0\n");
}

/// As [`in_doctored_host`], with the environment and the streams that the helper has set up.
fn redoctor(command: &mut Command, script: &str) {
    let envs: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    in_doctored_host(command, script);
    command.envs(envs);
}

#[test]
fn a_proc_that_is_no_procfs_stops_the_daemon() {
    let node = Node::set_up();
    let fake = node.dir().join("fake");
    // The directory resembles procfs in every file that the daemon checks.
    let script = format!(
        "mkdir -p {0}\nmount -t tmpfs tmpfs {0}\nmkdir -p {0}/self/fd {0}/sys/kernel\nmount --bind {0} /proc",
        fake.display()
    );
    let text = refusal(&node, &script);
    assert!(text.contains("/proc"), "{text}");
}

#[test]
fn a_root_with_the_hosts_proc_or_devices_in_it_is_refused() {
    // Neither directly nor by another name; other roots cannot be supplied yet.
    let node = Node::set_up();
    for place in ["/", "/proc", "/dev", "/dev/shm", "/proc/sys", "/tmp", "/work/x"] {
        node.set("filesystem.allowedMounts", serde_yaml::to_value(["/usr", place]).unwrap());
        let out = Running::start(&mut node.command()).finish();
        assert!(out.code != 0 && out.stderr.contains("filesystem.allowedMounts"), "{place}: {}", out.stderr);
    }
    // The daemon repeats a link in the job's root and does not follow it on the host: there it leads to the job's files.
    let place = tempfile::Builder::new().prefix("joblet-links.").tempdir_in("/srv").unwrap();
    let dir = place.path();
    for (name, to) in
        [("proc", "/proc"), ("etc", "/etc/shadow"), ("root", "/root"), ("self", node.dir().to_str().unwrap())]
    {
        symlink(to, dir.join(name)).unwrap();
    }
    let at = |name: &str| dir.join(name).display().to_string();
    let mut mounts: Vec<String> = ["/usr", "/bin", "/lib", "/lib64"].map(str::to_owned).into();
    mounts.extend(["proc", "etc", "root", "self"].map(at));
    node.set("filesystem.allowedMounts", serde_yaml::to_value(mounts).unwrap());
    let d = node.start();
    let script = format!(
        "cmp {0}/sys/kernel/hostname /proc/sys/kernel/hostname && echo same; cat {1}; ls {2}/ {3}/; echo over",
        at("proc"),
        at("etc"),
        at("root"),
        at("self")
    );
    assert_eq!(d.run(["sh", "-c", &script]).text(), "same\nover\n");
}

#[test]
pub(super) fn terminals_and_the_console_are_the_jobs_own() {
    let d = TestDaemon::start();
    // No path that another user could have linked: the job's own instance, and no console.
    let script = "readlink /dev/ptmx; ls -A /dev/pts; [ -e /dev/console ] || echo no console; \
                  stat -f -c %T /dev/pts; ln -sf /proc/sys /dev/pts/0 2>/dev/null || echo no link; \
                  python3 -c 'import os; print(os.ttyname(os.openpty()[1]))'";
    let text = d.run(["sh", "-c", script]).ok();
    assert_eq!(text, "pts/ptmx\nptmx\nno console\ndevpts\nno link\n/dev/pts/0\n");
}

#[test]
pub(super) fn sockets_of_the_host_cannot_be_reached() {
    let d = TestDaemon::start();
    let run = tempfile::Builder::new().prefix("joblet-canary.").tempdir_in("/run").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(run.path(), open).unwrap();
    let mut places = vec![run.path().join("bus"), d.dir().join("canary.sock")];
    let listeners: Vec<UnixListener> = places.iter().map(|at| UnixListener::bind(at).unwrap()).collect();
    let name = format!("joblet-canary-{}", d.port());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let of_no_place = UnixListener::bind_addr(&address).unwrap();
    UnixStream::connect_addr(&address).expect("the control: the host reaches it");
    UnixStream::connect(&places[0]).expect("the control: the host reaches it");
    for usual in
        ["/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/docker.sock", "/run/systemd/private"]
    {
        places.push(usual.into());
    }
    let script = "import socket, sys, errno\n\
                  for at in sys.argv[1:]:\n \
                   at = at.replace('@', '\\0')\n \
                   try: socket.socket(socket.AF_UNIX).connect(at); print('reached', at)\n \
                   except OSError as e: print(errno.errorcode[e.errno])\n";
    let mut args =
        vec!["/usr/bin/python3".to_owned(), "-c".to_owned(), script.to_owned(), format!("@{name}")];
    args.extend(places.iter().map(|at| at.display().to_string()));
    let text = d.run(&args).ok();
    let answers: Vec<&str> = text.lines().collect();
    assert_eq!(answers[0], "ECONNREFUSED", "the abstract one: {text}");
    assert!(answers[1..].iter().all(|a| ["ENOENT", "EACCES", "ENOTDIR"].contains(a)), "{text}");
    assert_eq!(answers.len(), 1 + places.len());
    drop((listeners, of_no_place));
}

#[test]
fn changes_that_a_job_makes_to_its_files_grant_no_rights() {
    let d = TestDaemon::start();
    // Special bits, foreign owners, attributes and capabilities, each with its result.
    let script = "mkdir d; chmod 6777 d; touch d/f; cp /usr/bin/id d/id; chmod 6755 d/id d/f; d/id -u
        try() { \"$@\" 2>/dev/null && echo done: $1 || echo refused: $1; }
        try chown 1:1 d/f; try mknod d/dev c 1 3; try chattr +i d/f; try chattr +a d/f
        python3 - <<'.'
import os
for name in ('security.capability', 'trusted.x', 'system.posix_acl_access'):
    try: os.setxattr('d/f', name, b'\\1\\0\\0\\2' + bytes(16)); print('done:', name)
    except OSError: print('refused:', name)
.
        grep ' /work ' /proc/self/mountinfo | grep -o nosuid; echo ready; sleep 1000";
    let job = d.submit(["sh", "-c", script]);
    let said = crate::helper::eventually("the job has tried everything", || {
        let text = fs::read_to_string(d.dir().join("spool").join(&job).join("stdout")).unwrap_or_default();
        text.contains("ready").then_some(text)
    });
    for refused in ["chown", "mknod", "chattr", "security.capability", "trusted.x", "system.posix_acl_access"]
    {
        assert!(said.contains(&format!("refused: {refused}")), "{refused}: {said}");
    }
    assert!(said.starts_with("0\n") && !said.contains("done:") && said.contains("nosuid"), "{said}");
    // Seen from the host, all of it belongs to the job's leased id.
    let pid = residue::processes_of(&d.uids()).iter().find(|p| p.ends_with(" sh")).cloned().unwrap();
    let work = format!("/proc/{}/root/work", pid.split(' ').next().unwrap());
    for name in ["", "/d", "/d/f", "/d/id"] {
        let meta = fs::symlink_metadata(format!("{work}{name}")).unwrap();
        assert!(d.uids().contains(&meta.uid()) && d.uids().contains(&meta.gid()), "{name}: {meta:?}");
    }
    d.rnx(["job", "stop", &job]).ok();
}

#[test]
fn directories_that_another_user_prepared_are_refused() {
    // All paths of the daemon are below dataDir. A user who can write there could redirect them.
    let canary = tempfile::tempdir().unwrap();
    for name in ["run", "spool", "work"] {
        let node = Node::set_up();
        symlink(canary.path(), node.dir().join(name)).unwrap();
        let out = Running::start(&mut node.command()).finish();
        assert_ne!(out.code, 0, "{name} is a link to another directory");
        assert!(out.stderr.contains(&format!("/{name}")), "{}", out.stderr);
    }
    let node = Node::set_up();
    let open = node.dir().join("data");
    fs::create_dir(&open).unwrap();
    node.set("dataDir", open.to_str().unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let out = Running::start(&mut node.command()).finish();
    assert!(out.code != 0 && out.stderr.contains("others may write into it"), "{}", out.stderr);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&open, Some(65534), Some(65534)).unwrap();
    let out = Running::start(&mut node.command()).finish();
    assert!(out.code != 0 && out.stderr.contains("it belongs to somebody else"), "{}", out.stderr);
    assert_eq!(residue::files(canary.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn nothing_is_written_below_tmp_while_jobs_run() {
    let d = TestDaemon::start();
    let names = || -> Vec<_> { fs::read_dir("/tmp").unwrap().flatten().map(|e| e.file_name()).collect() };
    let before = names();
    let job = d.submit(["sleep", "1000"]);
    let after = names();
    let new: Vec<_> =
        after.iter().filter(|n| !before.contains(n) && n.to_string_lossy().contains(&job[..8])).collect();
    assert!(new.is_empty(), "{new:?}");
    // No descriptor of the daemon leads to a file there, dataDir excepted.
    for entry in fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().flatten() {
        let Ok(to) = fs::read_link(entry.path()) else { continue };
        assert!(!to.starts_with("/tmp") || to.starts_with(d.dir()), "{}", to.display());
    }
    d.rnx(["job", "stop", &job]).ok();
}

#[test]
pub(super) fn nested_sandbox_works_unless_it_needs_a_user_namespace() {
    let d = TestDaemon::start();
    // Landlock and seccomp as a browser uses them, each really in force afterwards.
    let script = "import ctypes, os, struct, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    done = libc.syscall(*args)
    return done if done >= 0 else errno.errorcode[ctypes.get_errno()]
open('before', 'w').close()
ruleset = call(444, struct.pack('Q', 2), 8, 0)
print('landlock', call(446, ruleset, 0))
try: open('after', 'w')
except PermissionError: print('in force')
# getppid(2) returns ENOMEM: ld nr; jeq 110; ret errno; ret allow.
program = struct.pack('HBBI' * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 110, 6, 0, 0, 0x5000c, 6, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(program)
print('seccomp', call(317, 1, 0, struct.pack('HxxxxxxQ', 4, ctypes.addressof(buffer))))
print(call(110))
print('user', call(272, 0x10000000))";
    let text = d.run(["/usr/bin/python3", "-c", script]).ok();
    assert_eq!(text, "landlock 0\nin force\nseccomp 0\nENOMEM\nuser EPERM\n");
    let out = d.run(["unshare", "--user", "--map-root-user", "true"]);
    assert!(out.code != 0 && out.stderr.contains("Operation not permitted"), "{}", out.stderr);
    if Path::new("/usr/bin/bwrap").exists() {
        let out = d.run(["bwrap", "--ro-bind", "/", "/", "true"]);
        assert!(out.code != 0 && out.text().is_empty() && !out.stderr.is_empty(), "{}", out.stderr);
    }
}

#[test]
pub(super) fn job_has_no_interface_on_which_to_forge_packets() {
    let d = TestDaemon::start();
    // No interface but the loopback, no raw sockets, no change of the interfaces.
    let script = "import socket, struct, fcntl, errno
def tell(name, deed):
    try: print(name, deed())
    except OSError as e: print(name, errno.errorcode[e.errno])
print(*(name for _, name in socket.if_nameindex()))
tell('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x300))
tell('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
tell('icmp', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = struct.pack('16sh', b'lo', 0x149)
tell('promiscuous', lambda: fcntl.ioctl(plain, 0x8914, flags))
tell('address', lambda: fcntl.ioctl(plain, 0x8916, struct.pack('16sHH4s8x', b'lo', 2, 0, bytes([10, 0, 0, 1]))))
tell('transparent', lambda: plain.setsockopt(socket.SOL_IP, 19, 1))
tell('elsewhere', lambda: plain.sendto(b'x', ('192.0.2.1', 9)))
tell('broadcast', lambda: (plain.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1), plain.sendto(b'x', ('255.255.255.255', 9))))";
    let text = d.run(["/usr/bin/python3", "-c", script]).ok();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("lo"));
    for line in lines {
        let (name, answer) = line.split_once(' ').unwrap();
        let fine = match name {
            "elsewhere" | "broadcast" => answer == "ENETUNREACH",
            _ => ["EPERM", "EACCES", "EAFNOSUPPORT"].contains(&answer),
        };
        assert!(fine, "{line}");
    }
}

/// All facts about the isolation that a job can read from inside.
const LOOK: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Cpus_allowed_list|NSpid)' /proc/self/status; \
    cat /proc/self/limits; umask; ls -A / /dev /etc; \
    cut -d' ' -f5- /proc/self/mountinfo; ls /proc/self/fd | wc -l; for n in pid mnt ipc uts net user cgroup; \
    do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";

/// The reports of two jobs without intended differences: the inodes of their namespaces (each its own, by kind), the sizes
/// that follow from their limits, the devices of their own file systems, and their time slices.
fn normal(text: &str) -> String {
    let blank = |line: &str, mark: &str| match line.split_once(mark) {
        Some((left, right)) => {
            let digits = right.find(|c: char| !c.is_ascii_hexdigit() && c != 'k').unwrap_or(right.len());
            format!("{left}{mark}*{}", &right[digits..])
        }
        None => line.to_owned(),
    };
    let marks = ["size=", "nr_inodes=", ":[", "uid=", "gid="];
    text.lines().map(|l| marks.iter().fold(l.to_owned(), |l, m| blank(&l, m)) + "\n").collect()
}

fn ask() -> RunJobRequest {
    RunJobRequest { command: "sh".into(), args: vec!["-c".into(), LOOK.into()], ..Default::default() }
}

fn pair(name: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn every_way_to_start_a_job_gives_the_same_sandbox() {
    // With warm sandboxes (used up meanwhile), without any, and in network namespaces of earlier jobs.
    let with = every_way_has_the_same_walls(&TestDaemon::start());
    let without = every_way_has_the_same_walls(&TestDaemon::with([("joblet.warmSandboxes", 0)]));
    assert_eq!(with, without);
    let reused = every_way_has_the_same_walls(&TestDaemon::with([("network.reuseNamespaces", true)]));
    assert_eq!(with, reused);
}

/// A time that is still in the future when the daemon reads the request.
fn soon() -> String {
    (jiff::Timestamp::now() + std::time::Duration::from_millis(500)).to_string()
}

/// The jobs' reports about their isolation, which must all be equal.
fn every_way_has_the_same_walls(d: &TestDaemon) -> String {
    let file = FileUpload { path: "dir/file".into(), content: b"x".to_vec(), ..Default::default() };
    let upload = file.clone();
    let ways: Vec<(&str, RunJobRequest)> = vec![
        ("plain", ask()),
        ("none", RunJobRequest { network: "none".into(), ..ask() }),
        ("named", RunJobRequest { name: "a name".into(), ..ask() }),
        ("environment", RunJobRequest { environment: pair("JOBLET", "1"), ..ask() }),
        ("secret", RunJobRequest { secret_environment: pair("LD_BIND_NOW", "1"), ..ask() }),
        ("uploads", RunJobRequest { uploads: vec![file.clone()], ..ask() }),
        ("directory", RunJobRequest { uploads: vec![file], workDir: "dir".into(), ..ask() }),
        ("small", RunJobRequest { maxMemory: 64, maxCpu: 50, ..ask() }),
        ("large", RunJobRequest { maxMemory: 1024, maxIobps: 1 << 20, ..ask() }),
        ("short", RunJobRequest { timeout: "5m".into(), ..ask() }),
        ("asked twice", RunJobRequest { request_id: "the-same".into(), ..ask() }),
        ("scheduled", RunJobRequest { schedule: soon(), ..ask() }),
        ("scheduled with files", RunJobRequest { schedule: soon(), uploads: vec![upload], ..ask() }),
    ];
    let client = d.client("default");
    // Many at once and many in a row: warm sandboxes are used up and made again.
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.extend(ways.iter().map(|(way, request)| (*way, client.run_job(request).unwrap().jobUuid)));
    }
    let mut first = None;
    for (way, job) in &jobs {
        let request = GetJobStatusReq { uuid: job.clone(), ..Default::default() };
        crate::helper::eventually("the job has looked", || {
            crate::helper::wait::holds(client.get_job_status(&request).unwrap().status == "COMPLETED")
        });
        let text = d.rnx(["job", "log", job]).text();
        for space in text.lines().filter(|l| l.contains(":[")) {
            let host = fs::read_link(format!("/proc/self/ns/{}", space.split(':').next().unwrap())).unwrap();
            assert_ne!(Some(space), host.to_str(), "{way}: the host's own");
        }
        let normal = normal(&text);
        let first = first.get_or_insert_with(|| normal.clone());
        assert_eq!(*first, normal, "{way} differs from plain");
    }
    let first = first.unwrap();
    assert!(first.contains("Seccomp:\t2\n"), "the look saw something: {first}");
    first
}

#[test]
fn unsupported_way_to_start_is_refused_not_run_less_isolated() {
    let d = TestDaemon::start();
    let client = d.client("default");
    for (what, request) in [
        ("missing runtime", RunJobRequest { runtime: "python-3.11".into(), ..ask() }),
        ("missing volume", RunJobRequest { volumes: vec!["data".into()], ..ask() }),
        ("gpu", RunJobRequest { gpu_count: 1, ..ask() }),
        ("missing network", RunJobRequest { network: "lab".into(), ..ask() }),
        ("host", RunJobRequest { network: "host".into(), ..ask() }),
        ("job type", RunJobRequest { environment: pair("JOB_TYPE", "runtime-build"), ..ask() }),
        ("CI mode", RunJobRequest { environment: pair("JOBLET_CI_MODE", "true"), ..ask() }),
        ("place", RunJobRequest { workDir: "/proc/1/root".into(), ..ask() }),
    ] {
        let refused = client.run_job(&request);
        let Err(grpcio::Error::RpcFailure(status)) = refused else { panic!("{what} was taken") };
        let codes = match what {
            // Nobody has made it, or the node gives none.
            "missing network" | "missing volume" | "missing runtime" | "gpu" => {
                &[RpcStatusCode::FAILED_PRECONDITION][..]
            }
            _ => &[
                RpcStatusCode::UNIMPLEMENTED,
                RpcStatusCode::PERMISSION_DENIED,
                RpcStatusCode::INVALID_ARGUMENT,
            ],
        };
        assert!(codes.contains(&status.code()) || what == "place", "{what}: {}", status.message());
    }
}
