//! Network namespaces of a test's own. Nothing of the host's network is touched, and nothing remains.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Output};

use joblet::sys::netlink::batch::Batch;
use joblet::sys::netlink::link::{Born, Pair, add_pair};
use joblet::sys::netlink::{Family, Socket};
use joblet::sys::thread::{join_network, unshare_network};

thread_local! {
    /// The network of jobs that ask for none. In the host's own network no test's daemon may have jobs with one: it would
    /// make joblet0 there.
    static NETWORK: Cell<&'static str> = const { Cell::new("none") };
}

/// Runs `act` with nodes whose jobs have this network unless they ask for another. The calling thread must be in a network
/// namespace of the test's own.
pub fn with_network<T>(network: &'static str, act: impl FnOnce() -> T) -> T {
    let before = NETWORK.replace(network);
    let done = act();
    NETWORK.set(before);
    done
}

/// The network of jobs that ask for none, for nodes that this thread sets up, and in a process of [`run_again`] every one.
pub fn default_network() -> &'static str {
    match (NETWORK.get(), std::env::var(VARIABLE)) {
        ("none", Ok(network)) => network.leak(),
        (network, _) => network,
    }
}

/// Says to a process of [`run_again`] which network its jobs have.
const VARIABLE: &str = "JOBLET_TEST_NETWORK";

/// Whether this is a process of [`run_again`].
pub fn is_run_again() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs a test of this program in a process of its own in this namespace. A test that calls gRPC itself needs that: the
/// threads of gRPC are those of the whole process, and have the network of the one that was first.
pub fn run_again(host: &Namespace, network: &str, test: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Its standard output is the test's own report.
    command.args(["--exact", test, "--nocapture"]).env(VARIABLE, network);
    let out = host.run(|| command.output().unwrap());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{test} in its own network:\n{said}");
}

/// A network namespace, which lasts as long as this value or a process in it.
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new one, with a loopback interface that is down.
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare_network().unwrap();
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        });
        Namespace(made.join().unwrap())
    }

    /// The namespace behind a descriptor.
    pub fn of(fd: BorrowedFd<'_>) -> Self {
        Namespace(fd.try_clone_to_owned().unwrap())
    }

    /// Runs `act` on a thread in this namespace. Programs that it starts are in there too.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                join_network(self.0.as_fd()).unwrap();
                act()
            });
            inside.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// Runs a command in this namespace and returns its standard output.
    pub fn shell(&self, command: &str) -> String {
        let output = self.try_shell(command);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The same for a command that may fail.
    pub fn try_shell(&self, command: &str) -> Output {
        self.run(|| Command::new("sh").args(["-c", command]).output().unwrap())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Addresses that the outside has: a host of the internet, metadata of clouds, private and shared ones.
const OUTSIDE_ADDRESSES: [&str; 6] =
    ["8.8.8.8", "169.254.169.254", "168.63.129.16", "10.9.9.9", "10.1.1.1", "100.64.0.1"];

/// The same of IPv6: a host of the internet, metadata of clouds, a unique local one, and ways to translate to IPv4.
const OUTSIDE_IPV6: [&str; 7] =
    ["2600::8", "fd00:ec2::254", "fd99::9", "2001:db8::9", "64:ff9b::808:808", "2002:808:808::8", "fec0::9"];

/// Gives IPv6 to [`host_and_outside`]: the host is 2600:f::2, and its default route leads to the outside.
pub fn add_ipv6((host, outside): (&Namespace, &Namespace)) {
    outside.shell("ip -6 address add 2600:f::1/64 dev down0 nodad");
    for address in OUTSIDE_IPV6 {
        outside.shell(&format!("ip -6 address add {address}/128 dev lo nodad"));
    }
    host.shell("ip -6 address add 2600:f::2/64 dev up0 nodad; ip -6 route add default via 2600:f::1 dev up0");
}

/// Whether this kernel has IPv6.
pub fn has_ipv6() -> bool {
    std::fs::exists("/proc/sys/net/ipv6").unwrap()
}

/// A namespace that plays the host, 203.0.113.2, and one that plays the outside, which its default route leads to.
pub fn host_and_outside() -> (Namespace, Namespace) {
    let (host, outside) = (Namespace::new(), Namespace::new());
    let pair = Pair {
        name: "down0",
        index: None,
        group: 0,
        up: true,
        peer: "up0",
        peer_index: None,
        born: Born::Namespace(host.as_fd()),
        mac: [2, 0, 0, 0, 0, 9],
        mtu: 1500,
    };
    outside.run(|| {
        let mut batch = Batch::default();
        add_pair(&mut batch, &pair);
        Socket::open(Family::Route).unwrap().talk(&mut batch.confirm()).unwrap();
    });
    outside.shell("ip link set lo up; ip address add 203.0.113.1/24 dev down0");
    for address in OUTSIDE_ADDRESSES {
        outside.shell(&format!("ip address add {address}/32 dev lo"));
    }
    for namespace in [&host, &outside] {
        namespace.shell("echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range");
    }
    host.shell(
        "ip link set lo up; ip link set up0 up; ip address add 203.0.113.2/24 dev up0;
         ip route add default via 203.0.113.1; echo 0 >/proc/sys/net/ipv4/ip_forward",
    );
    (host, outside)
}

/// The router of a daemon: the one namespace among its descriptors in which joblet0 is a bridge.
pub fn router_of(daemon: i32) -> Namespace {
    let all = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().flatten();
    let namespaces = all.map(|entry| entry.path()).filter(|path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:"))
    });
    let opened = namespaces.filter_map(|path| File::open(path).ok()).map(|file| Namespace(file.into()));
    let is_router = |namespace: &Namespace| {
        namespace.try_shell("ip -details link show joblet0 | grep -q ' bridge '").status.success()
    };
    opened.into_iter().find(is_router).expect("the daemon has a router")
}

/// Whether a program can be found.
pub fn has_program(name: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {name}")]).output().is_ok_and(|o| o.status.success())
}

/// Lines without leading and trailing spaces, for comparisons.
pub fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}
