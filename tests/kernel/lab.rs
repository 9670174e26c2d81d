//! A host, an outside and jobs, each a namespace of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use joblet::job::NetRate;
use joblet::network::ipv6::image;
use joblet::network::router::{Definition, Router};
use joblet::network::uplink::Uplink;
use joblet::network::{Lease, Leases, Range, RouterConfig, rules, wire};
use joblet::sys::netlink::batch::Batch;
use joblet::sys::netlink::link::{Born, Link, set_up};
use joblet::sys::netlink::{Family, Socket};
use joblet::sys::nftables::{self, set::ElementState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::helper::network::{Namespace, add_ipv6, host_and_outside};

/// The port that everybody serves.
pub const PORT: u16 = 8080;
pub fn network(name: &str, range: Range, together: bool, inner: bool) -> Definition {
    Definition { name: name.to_owned(), range, together, inner }
}

/// Four networks, and 10.1.0.0/16 opened.
pub fn config() -> RouterConfig {
    let range = |text: &str| text.parse::<Range>().unwrap();
    RouterConfig {
        networks: vec![
            network("bridge", range("172.20.0.0/16"), true, false),
            network("isolated", range("172.21.0.0/16"), false, false),
            network("lab", range("10.50.0.0/16"), true, false),
            network("inner", range("10.60.0.0/16"), true, true),
        ],
        allowed: vec![range("10.1.0.0/16")],
        ..RouterConfig::default()
    }
}

pub struct Lab {
    pub host: Namespace,
    pub outside: Namespace,
    /// The server of the outside.
    pub sink: Sink,
    pub router: Router,
    pub uplink: Uplink,
    links: Socket,
    leases: Leases,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(|_| {})
    }

    /// The same with IPv6, which the administrator forwards already: every kernel can that.
    pub fn with_ipv6() -> Lab {
        Lab::of(true, |host| drop(host.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")))
    }

    /// The same after a change of the host.
    pub fn with(change: impl FnOnce(&Namespace)) -> Lab {
        Lab::of(false, change)
    }

    /// The same with IPv6 or without.
    pub fn of(ipv6: bool, change: impl FnOnce(&Namespace)) -> Lab {
        let (host, outside) = host_and_outside();
        if ipv6 {
            add_ipv6((&host, &outside));
        }
        change(&host);
        let (router, uplink) = host.run(|| {
            let (mut router, mut uplink) = (Router::make(config()).unwrap(), Uplink::open().unwrap());
            router.connect(&mut uplink).unwrap();
            assert_eq!(uplink.lacks_ipv6().unwrap().is_none(), ipv6);
            if ipv6 {
                router.give_ipv6(&mut uplink).unwrap();
            }
            uplink.mend().unwrap();
            router.follow(uplink.addresses().unwrap(), None).unwrap();
            (router, uplink)
        });
        let mut leases = Leases::default();
        for network in &router.config().networks {
            leases.add(&network.name, network.range).unwrap();
        }
        let (links, sink) = (router.open_links().unwrap(), Sink::open(&outside));
        Lab { host, outside, sink, router, uplink, links, leases }
    }

    /// A job in a network: a namespace with a wire.
    pub fn job(&mut self, network: &str) -> Job {
        let lease = self.leases.lease(network).unwrap();
        let lease = Lease { ipv6: self.router.has_ipv6(), ..lease };
        let namespace = Namespace::new();
        let name = format!("job-{:08x}", lease.wire);
        let mut wire =
            wire::wire(&name, &lease, Born::Namespace(namespace.as_fd()), 1500, NetRate::default());
        self.links.talk(&mut wire.router).unwrap();
        namespace.run(|| {
            let mut socket = Socket::open(Family::Route).unwrap();
            let mut batch = Batch::default();
            set_up(&mut batch, Link::Index(1));
            socket.talk(&mut batch.confirm()).unwrap();
            socket.talk(&mut wire.inside).unwrap();
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        });
        Job { namespace, lease }
    }

    /// Gives a job's wire an address of another network.
    pub fn renew(&mut self, job: &mut Job, network: &str) {
        let new = self.leases.renew(&job.lease, network).unwrap();
        let mut wire = wire::renewal(Some(&job.lease), &new, None);
        self.links.talk(&mut wire.router).unwrap();
        joblet::network::router::links_of(job.namespace.as_fd()).unwrap().talk(&mut wire.inside).unwrap();
        self.leases.release_address(&job.lease);
        job.lease = new;
    }

    pub fn mend(&mut self) {
        let Lab { host, uplink, .. } = self;
        host.run(|| uplink.mend().unwrap());
    }

    /// The host's side as another daemon sees it.
    pub fn reopen_uplink(&mut self) {
        self.uplink = self.host.run(|| Uplink::open().unwrap());
        if self.router.has_ipv6() {
            let Lab { host, uplink, router, .. } = self;
            host.run(|| router.give_ipv6(uplink).unwrap());
        }
    }

    /// Whether something had to be mended.
    pub fn keep(&mut self) -> bool {
        let Lab { host, uplink, .. } = self;
        host.run(|| uplink.keep().unwrap())
    }

    /// The end of the daemon, without a job.
    pub fn end(&mut self) {
        let Lab { host, uplink, router, links, .. } = self;
        host.run(|| uplink.remove().unwrap());
        // Another router in the place of the one that goes.
        *router = Router::make(RouterConfig::default()).unwrap();
        *links = router.open_links().unwrap();
    }

    pub fn in_router(&self, command: &str) -> String {
        Namespace::of(self.router.as_fd()).shell(command)
    }

    pub fn denials(&self) -> Vec<ElementState> {
        let mut socket = self.router.open_filter().unwrap();
        nftables::elements(&mut socket, rules::TABLE, &rules::DENIALS).unwrap()
    }
}

pub struct Job {
    pub namespace: Namespace,
    pub lease: Lease,
}

/// The result of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It came there.
    Arrives,
    /// The sender heard of it: an ICMP message.
    Refused(i32),
    /// Nobody heard anything for a while.
    Silent,
    /// The sender's own kernel refused to send it.
    Unsent(i32),
}

impl Reach {
    pub fn letter(self) -> char {
        match self {
            Reach::Arrives => 'y',
            // The same answer in IPv4 and in IPv6.
            Reach::Refused(libc::EHOSTUNREACH | libc::EACCES) => 'n',
            Reach::Refused(_) => '?',
            Reach::Silent => '-',
            Reach::Unsent(_) => 's',
        }
    }
}

impl Job {
    pub fn reach(&self, to: impl Into<IpAddr>, sinks: &[&Sink]) -> [Reach; 3] {
        reach(&self.namespace, to, sinks)
    }

    pub fn tcp(&self, to: impl Into<IpAddr>) -> Reach {
        let to = to.into();
        self.namespace.run(|| tcp(to))
    }

    /// Its address of IPv6.
    pub fn ipv6(&self) -> Ipv6Addr {
        assert!(self.lease.ipv6);
        image(self.lease.address)
    }

    pub fn datagram_from<A: Into<IpAddr>>(&self, source: A, to: A) -> std::io::Result<usize> {
        let (source, to) = (source.into(), to.into());
        self.namespace.run(|| UdpSocket::bind((source, 0))?.send_to(b"forged", (to, PORT)))
    }
}

/// TCP, UDP and ICMP from a namespace to an address, at which one of the sinks may be.
pub fn reach(from: &Namespace, to: impl Into<IpAddr>, sinks: &[&Sink]) -> [Reach; 3] {
    let to = to.into();
    // Each at once: the kernel tells of a refused TCP connection over IPv6 only when it has tried a second time.
    let tcp = || from.run(|| tcp(to));
    std::thread::scope(|scope| {
        let tcp = scope.spawn(tcp);
        let [udp, icmp] = datagrams(from, to, sinks);
        [tcp.join().unwrap(), udp, icmp]
    })
}

/// UDP and ICMP alone.
pub fn datagrams(from: &Namespace, to: impl Into<IpAddr>, sinks: &[&Sink]) -> [Reach; 2] {
    let to = to.into();
    // A datagram may be lost in a flood of another test.
    fn tried(send: impl Fn() -> Reach) -> Reach {
        (0..3).map(|_| send()).find(|reach| *reach != Reach::Silent).unwrap_or(Reach::Silent)
    }
    from.run(|| [tried(|| udp(to, sinks)), tried(|| icmp(to))])
}

/// Long enough for a packet on a busy machine; short, because silence takes all of it.
const PATIENCE: Duration = Duration::from_secs(1);

fn tcp(to: IpAddr) -> Reach {
    let to = SocketAddr::new(to, PORT);
    // A first packet that is lost in a flood of another test comes again after a second.
    match TcpStream::connect_timeout(&to, 3 * PATIENCE) {
        Ok(_) => Reach::Arrives,
        Err(why) => match why.raw_os_error() {
            Some(libc::EACCES) if to.is_ipv6() => Reach::Refused(libc::EACCES),
            Some(errno @ (libc::EACCES | libc::ENETUNREACH | libc::EINVAL)) => Reach::Unsent(errno),
            Some(errno) => Reach::Refused(errno),
            None => Reach::Silent,
        },
    }
}

fn udp(to: IpAddr, sinks: &[&Sink]) -> Reach {
    datagram(&UdpSocket::bind((any(to), 0)).unwrap(), to, sinks)
}

/// Any address of the same family.
fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A datagram of a new connection, and its socket, which keeps the connection's port taken.
pub fn held_datagram(to: impl Into<IpAddr>, sink: &Sink) -> (UdpSocket, Reach) {
    let to = to.into();
    let socket = UdpSocket::bind((any(to), 0)).unwrap();
    let reach = datagram(&socket, to, &[sink]);
    (socket, reach)
}

fn datagram(socket: &UdpSocket, to: IpAddr, sinks: &[&Sink]) -> Reach {
    if let Err(why) = socket.connect((to, PORT)).and_then(|()| socket.send(b"x").map(drop)) {
        return Reach::Unsent(why.raw_os_error().unwrap_or(0));
    }
    let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
    fds.extend(sinks.iter().map(|sink| PollFd::new(&sink.udp, PollFlags::IN)));
    poll(&mut fds, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap();
    if let Some(why) = socket.take_error().unwrap() {
        return Reach::Refused(why.raw_os_error().unwrap_or(0));
    }
    if sinks.iter().any(|sink| sink.hears(Duration::ZERO)) { Reach::Arrives } else { Reach::Silent }
}

fn icmp(to: IpAddr) -> Reach {
    let (family, protocol, echo) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
    };
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol)).unwrap();
    let sent = rustix::net::connect(&socket, &SocketAddr::new(to, 0))
        .and_then(|()| rustix::net::send(&socket, &[echo, 0, 0, 0, 0, 0, 0, 1], SendFlags::empty()));
    if let Err(why) = sent {
        return Reach::Unsent(why.raw_os_error());
    }
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    if poll(&mut fds, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap() == 0 {
        return Reach::Silent;
    }
    match rustix::net::recv(&socket, &mut [0; 64], RecvFlags::DONTWAIT) {
        Ok(_) => Reach::Arrives,
        Err(why) => Reach::Refused(why.raw_os_error()),
    }
}

/// A server of TCP and UDP on every address of a namespace.
pub struct Sink {
    _tcp: TcpListener,
    udp: UdpSocket,
}

impl Sink {
    pub fn open(namespace: &Namespace) -> Sink {
        namespace.run(|| {
            // The rules cover both families, where there are both.
            let all =
                |six| if six { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
            let udp = UdpSocket::bind((all(true), PORT)).or_else(|_| UdpSocket::bind((all(false), PORT)));
            let udp = udp.unwrap();
            let own = udp.local_addr().unwrap().ip();
            Sink { _tcp: TcpListener::bind((own, PORT)).unwrap(), udp }
        })
    }

    /// Whether a datagram comes in time.
    pub fn hears(&self, within: Duration) -> bool {
        let mut fds = [PollFd::new(&self.udp, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::try_from(within).unwrap())).unwrap() > 0;
        ready && self.udp.recv_from(&mut [0; 64]).is_ok()
    }
}
