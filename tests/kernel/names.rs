//! The resolver's two processes in a router of the test's own: what jobs hear, what goes out, and what is opened.

use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use joblet::network::rules::RESOLVER;
use joblet::resolver::Packets;
use joblet::resolver::message::{Answer, Record, code, kind};
use joblet::resolver::protocol::{Asker, Denial, FromFront, ToFront};
use joblet::sys::netlink::{Family, Socket};
use joblet::sys::pidfd::kill_and_reap;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, socketpair,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::lab::{Job, Lab, PORT, Reach};
use crate::helper::name_server::{NameServer, ask, ask_bytes, ask_tcp, question};
use crate::helper::network::{Namespace, has_program};
use crate::helper::skip::is_root;
use crate::helper::wait::{PATIENCE, eventually, holds};

const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const USER: &str = "1879048191";

/// Both processes, and the daemon's end of the way to them.
struct Resolver {
    front: OwnedFd,
    pin: OwnedFd,
    daemon: Packets,
    _dir: tempfile::TempDir,
}

fn spawn(role: &str, given: &[BorrowedFd<'_>]) -> OwnedFd {
    let mut actions = PosixSpawnFileActions::init().unwrap();
    let copies: Vec<OwnedFd> =
        given.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 20).unwrap()).collect();
    for (copy, number) in copies.iter().zip(3..) {
        actions.add_dup2(copy.as_raw_fd(), number).unwrap();
    }
    let words = ["joblet-resolver", role, USER, "router"].map(|word| CString::new(word).unwrap());
    let attributes = PosixSpawnAttr::init().unwrap();
    let program = env!("CARGO_BIN_EXE_joblet-resolver");
    let pid = posix_spawn(program, &actions, &attributes, &words, &[] as &[CString]).unwrap();
    pidfd_open(Pid::from_raw(pid.as_raw()).unwrap(), PidfdFlags::empty()).unwrap()
}

impl Resolver {
    fn start(lab: &Lab) -> Resolver {
        let dir = tempfile::tempdir().unwrap();
        let path = SocketAddrUnix::new(dir.path().join("s")).unwrap();
        let packets =
            || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let listener = packets();
        bind(&listener, &path).unwrap();
        listen(&listener, 8).unwrap();
        let router = Namespace::of(lab.router.as_fd());
        let (udp, tcp, links, filter) = router.run(|| {
            let (links, filter) = (Socket::open(Family::Route), Socket::open(Family::Netfilter));
            let udp = UdpSocket::bind((RESOLVER, 53)).unwrap();
            // As the daemon does: one job's burst is no loss for another one.
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&udp, 8 << 20).unwrap();
            (udp, TcpListener::bind((RESOLVER, 53)).unwrap(), links.unwrap(), filter.unwrap())
        });
        let (fronts, pins) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (pin, front) = lab.host.run(|| {
            let pin = spawn("pin", &[pins.as_fd(), filter.as_fd()]);
            let given = [udp.as_fd(), tcp.as_fd(), listener.as_fd(), fronts.as_fd(), links.as_fd()];
            (pin, spawn("front", &given))
        });
        let daemon = packets();
        connect(&daemon, &path).unwrap();
        rustix::io::ioctl_fionbio(&daemon, true).unwrap();
        let resolver = Resolver { front, pin, daemon: Packets::new(daemon), _dir: dir };
        let FromFront::Hello(said) = resolver.hear() else { panic!("no greeting") };
        assert!(said.ends_with("@router"), "{said}");
        let opened = vec![([10, 1, 0, 0].into(), 16)];
        resolver.tell(&ToFront::Host(vec![(SERVER, 53).into()], opened));
        resolver
    }

    fn tell(&self, message: &ToFront) {
        self.daemon.send(&message.encode().unwrap()).unwrap();
    }

    fn hear(&self) -> FromFront {
        let mut buffer = vec![0; 4096];
        eventually("front says something", || {
            let record = self.daemon.receive(&mut buffer).unwrap()?;
            Some(FromFront::decode(record).unwrap())
        })
    }

    fn denial(&self) -> Denial {
        match self.hear() {
            FromFront::Denied(denial) => denial,
            other => panic!("{other:?}"),
        }
    }

    /// Tells of a job, with a list or without, and has the router know of the list.
    fn add(&self, lab: &Lab, job: &Job, name: &str, list: Option<&[&str]>) {
        let lease = &job.lease;
        if list.is_some() {
            lab.in_router(&format!("nft add element inet joblet listed {{ {} }}", lease.address));
        }
        let network =
            lab.router.config().networks.iter().find(|network| network.name == lease.network).unwrap();
        self.tell(&ToFront::Job(Box::new(Asker {
            address: lease.address,
            range: (lease.range.first(), lease.range.prefix()),
            together: network.together,
            inner: network.inner,
            ipv6: lease.ipv6,
            names: vec![format!("job-{:08x}", lease.wire), format!("{:08x}", lease.wire), name.to_owned()],
            list: list.map(|list| list.iter().map(|entry| (*entry).to_owned()).collect()),
        })));
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        for process in [&self.front, &self.pin] {
            kill_and_reap(process.as_fd());
        }
    }
}

fn asks(job: &Job, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
    let answer =
        job.namespace.run(|| ask(RESOLVER, name, kind)).unwrap_or_else(|| panic!("{name}: no answer"));
    (answer.code, answer.records.iter().filter_map(Record::ipv4).collect())
}

fn ready() -> bool {
    is_root() && has_program("ip") && has_program("nft")
}

#[test]
fn jobs_know_their_own_network_and_the_host_name_servers() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let server = NameServer::start(&lab.outside, SERVER, SERVER);
    let (web, db, other, inner) = (lab.job("bridge"), lab.job("bridge"), lab.job("lab"), lab.job("inner"));
    let resolver = Resolver::start(&lab);
    for (job, name) in [(&web, "web"), (&db, "db"), (&other, "db"), (&inner, "in")] {
        resolver.add(&lab, job, name, None);
    }
    resolver.tell(&ToFront::Synced);
    let nobody = (code::NXDOMAIN, vec![]);
    let host_name = format!("job-{:08x}", db.lease.wire);
    for name in ["db", "DB.joblet", &host_name] {
        assert_eq!(asks(&web, name, kind::A), (code::NOERROR, vec![db.lease.address]), "{name}");
    }
    assert_eq!(asks(&other, "db", kind::A), (code::NOERROR, vec![other.lease.address]));
    assert_eq!(asks(&other, &host_name, kind::A), nobody);
    let [a, b, c, d] = db.lease.address.octets();
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let named = web.namespace.run(|| ask(RESOLVER, &reverse, kind::PTR)).unwrap();
    assert_eq!((named.code, named.records.len()), (code::NOERROR, 1));
    assert_eq!(asks(&other, &reverse, kind::PTR), nobody);
    assert_eq!(server.heard(), [""; 0], "names of jobs are never sent on");

    assert_eq!(asks(&web, "www.example.org", kind::A), (code::NOERROR, vec![SERVER]));
    assert_eq!(asks(&web, "forged.example.org", kind::A), (code::NOERROR, vec![SERVER]), "not 6.6.6.6");
    assert_eq!(asks(&web, "nobody.example.org", kind::A), nobody);
    assert_eq!(asks(&web, "www.example.org", kind::AAAA), (code::NOERROR, vec![]));
    assert_eq!(asks(&inner, "www.example.org", kind::A), nobody, "its network has no outside");
    let big = web.namespace.run(|| ask(RESOLVER, "big.example.org", kind::TXT)).unwrap();
    assert!(big.truncated && big.records.is_empty());
    let big = web.namespace.run(|| ask_tcp(RESOLVER, "big.example.org", kind::TXT));
    assert_eq!((big.truncated, big.records.len()), (false, 30));
    let heard = server.heard();
    assert!(!heard.iter().any(|asked| asked.ends_with(" 28")), "{heard:?}");

    // The job is gone, and so is its name.
    resolver.tell(&ToFront::Forget(db.lease.address));
    assert_eq!(asks(&web, "db", kind::A), nobody);
    let unknown = db.namespace.run(|| ask(RESOLVER, "www.example.org", kind::A)).unwrap();
    assert_eq!(unknown.code, code::SERVFAIL, "nobody knows this job");
}

#[test]
fn listed_job_gets_and_reaches_what_its_list_names() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let server = NameServer::start(&lab.outside, SERVER, SERVER);
    let (job, narrow) = (lab.job("bridge"), lab.job("bridge"));
    let resolver = Resolver::start(&lab);
    resolver.add(&lab, &job, "job", Some(&["*.example.org"]));
    resolver.add(&lab, &narrow, "narrow", Some(&[&format!("cdn.example.org:{PORT}")]));
    resolver.tell(&ToFront::Synced);
    assert_ne!(job.tcp(SERVER), Reach::Arrives, "before its name is asked for");
    for (name, kind) in [("evil.org", kind::A), ("secret.evil.org", kind::TXT), ("a.b.evil.org", 10)] {
        let answer = job.namespace.run(|| ask_bytes(RESOLVER, &question(name, kind), PATIENCE)).unwrap();
        assert_eq!(Answer::read(&answer).unwrap().code, code::NXDOMAIN);
        assert!(answer.ends_with(&[0, 15, 0, 2, 0, 15]), "blocked, says {answer:?}");
        let denial = resolver.denial();
        let expected = Denial { address: job.lease.address, name: name.to_owned(), kind, count: 1 };
        assert_eq!(denial, expected);
    }
    // An address of the host's network, under a name that is listed.
    assert_eq!(asks(&job, "moved.example.org", kind::A), (code::NOERROR, vec![]));
    assert_eq!(resolver.denial().name, "moved.example.org");
    assert_eq!(lab.in_router("nft list set inet joblet egress | grep -c expires || true").trim(), "0");
    let heard = server.heard();
    assert_eq!(heard, ["moved.example.org 1"], "nothing of other names goes out");

    // The door is open when the answer is there.
    assert_eq!(asks(&job, "www.example.org", kind::A), (code::NOERROR, vec![SERVER]));
    assert_eq!(job.tcp(SERVER), Reach::Arrives);
    assert_ne!(narrow.tcp(SERVER), Reach::Arrives, "opened for the other one");
    assert_eq!(asks(&narrow, "cdn.example.org", kind::A), (code::NOERROR, vec![SERVER]), "by the asked name");
    assert_eq!(narrow.tcp(SERVER), Reach::Arrives);
    let pins = lab.in_router("nft list set inet joblet egress");
    for (job, port) in [(&job, 0), (&narrow, PORT)] {
        let pin = format!("{} . {SERVER} . tcp . {port}", job.lease.address);
        assert!(pins.contains(&pin), "{pin} is not in {pins}");
    }
    for (name, kind) in [("www.example.org", 255), ("www.example.org", 10)] {
        assert_eq!(asks(&job, name, kind), (code::NOERROR, vec![]), "{kind}");
        assert_eq!(resolver.denial().kind, kind);
    }
    server.heard();
    // A job with a list asks nobody else.
    let other = job.namespace.run(|| ask_bytes(SERVER, &question("www.example.org", 1), PATIENCE));
    assert!(other.is_some(), "it may reach that address, which a listed name led to");
    assert_eq!(narrow.namespace.run(|| ask_bytes(SERVER, &question("www.example.org", 1), PATIENCE)), None);
}

#[test]
fn without_its_processes_only_jobs_without_a_list_have_names() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let server = NameServer::start(&lab.outside, SERVER, SERVER);
    lab.router.follow(lab.uplink.addresses().unwrap(), Some(SERVER)).unwrap();
    let (free, listed) = (lab.job("bridge"), lab.job("bridge"));
    let resolver = Resolver::start(&lab);
    resolver.add(&lab, &free, "free", None);
    resolver.add(&lab, &listed, "listed", Some(&["www.example.org"]));
    resolver.tell(&ToFront::Synced);
    for job in [&free, &listed] {
        assert_eq!(asks(job, "www.example.org", kind::A), (code::NOERROR, vec![SERVER]));
    }
    assert_eq!(asks(&free, "free", kind::A), (code::NOERROR, vec![free.lease.address]));
    kill_and_reap(resolver.pin.as_fd());
    let ends = || {
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
        let front = rustix::process::WaitId::PidFd(resolver.front.as_fd());
        holds(rustix::process::waitid(front, options).unwrap().is_some())
    };
    eventually("front ends with pin", ends);
    server.heard();
    assert_eq!(
        asks(&free, "www.example.org", kind::A),
        (code::NOERROR, vec![SERVER]),
        "by the router's rule"
    );
    assert_eq!(server.heard().len(), 1);
    let nothing = listed.namespace.run(|| ask_bytes(RESOLVER, &question("www.example.org", 1), PATIENCE));
    assert_eq!((nothing, server.heard().len()), (None, 0), "and not for long: it is refused");
    // Another one takes its place.
    let resolver = Resolver::start(&lab);
    resolver.add(&lab, &listed, "listed", Some(&["www.example.org"]));
    resolver.add(&lab, &free, "free", None);
    resolver.tell(&ToFront::Synced);
    assert_eq!(asks(&listed, "www.example.org", kind::A), (code::NOERROR, vec![SERVER]));
    assert_eq!(asks(&free, "free", kind::A), (code::NOERROR, vec![free.lease.address]));
}

/// The median of so many questions, in microseconds.
fn median(job: &Namespace, server: Ipv4Addr, name: &str, times: usize) -> u128 {
    job.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((server, 53)).unwrap();
        // As a C library does: a datagram may be lost, and then its answer is late.
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let question = question(name, kind::A);
        let ask = || {
            let begin = Instant::now();
            let answered = (0..5).any(|_| {
                socket.send(&question).unwrap();
                socket.recv(&mut [0; 1500]).is_ok()
            });
            assert!(answered, "five questions for {name} are lost");
            begin.elapsed().as_micros()
        };
        let mut taken: Vec<u128> = (0..times).map(|_| ask()).collect();
        taken.sort_unstable();
        taken[times / 2]
    })
}

#[test]
fn flood_and_garbage_of_a_job_do_not_delay_another() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let _server = NameServer::start(&lab.outside, SERVER, SERVER);
    let (quiet, loud) = (lab.job("bridge"), lab.job("bridge"));
    let resolver = Resolver::start(&lab);
    resolver.add(&lab, &quiet, "quiet", None);
    resolver.add(&lab, &loud, "loud", None);
    resolver.tell(&ToFront::Synced);
    let direct = median(&lab.host, SERVER, "www.example.org", 100);
    let before = median(&quiet.namespace, RESOLVER, "www.example.org", 100);
    println!("a question: {direct} us direct, {before} us through the resolver");
    let end = Instant::now() + Duration::from_secs(2);
    let (during, sent) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            loud.namespace.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((RESOLVER, 53)).unwrap();
                let silent = question("silent.example.org", kind::A);
                let mut sent = 0u64;
                while Instant::now() < end {
                    // Questions that nobody answers, and bytes that are none: pointers to themselves, cut-off names.
                    let mut garbage = silent.clone();
                    let at = (sent % garbage.len() as u64) as usize;
                    garbage[at] = 0xc0;
                    let _ = socket.send(&silent);
                    let _ = socket.send(&garbage);
                    let _ = socket.send(&garbage[..at]);
                    sent += 3;
                }
                sent
            })
        });
        (median(&quiet.namespace, RESOLVER, "www.example.org", 150), flood.join().unwrap())
    });
    println!("{during} us beside {sent} questions of another job");
    assert!(during <= 20 * before.max(200), "{during} us, {before} us before");
    assert_eq!(asks(&quiet, "quiet", kind::A), (code::NOERROR, vec![quiet.lease.address]));
}
