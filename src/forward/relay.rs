//! The thread that carries the bytes of all links.
//!
//! Events drive it: a socket is ready, a call has taken or put a chunk, a deadline is over. The link then gets a turn, which
//! moves at most one chunk each way. Jobs take turns, and the links of each job among themselves ([`Turns`]). Event is taken
//! in between turns, so that a crowd of busy links delays a new one by a few chunks.
//!
//! The inbox is bounded by what may be in it: for each link one "connect", one "moved", one answer of the dial thread, and
//! one "dropped"; for each job one "listen" a port and one "forget".

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use futures_channel::oneshot;
use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::CHUNK;
use super::call::{Call, Change};
use super::dial::{self, Answer, Dial};
use super::job_network::JobNetwork;
use super::link::{After, Link, Near, Recheck};
use super::permits::{LinkPermit, LinkPermits, NODE_LINKS};
use super::shared::{LinkError, Shared};
use super::socket::{Socket, accept};
use crate::diag;
use crate::job::JobId;
use crate::stream::turns::Turns;
use crate::sys::mailbox::{Inbox, Mailbox, mailbox};

/// How long a connection inside a job may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How long what an ended job has sent may take to reach a reader.
const DRAIN: Duration = Duration::from_secs(10);
/// Longest time between two checks whether the clients of calls may go on.
const RECHECK: Duration = Duration::from_secs(30);
/// How long a port waits where the process has no descriptor left for its connections.
const SHORTAGE: Duration = Duration::from_secs(1);
/// Event that may wait: far more than can exist.
const EVENTS: usize = 1 << 16;
/// Event that is taken in, and links that have a turn, before the other is looked at.
const AT_ONCE: usize = 64;
/// Connections of one port that are accepted in one turn.
const ACCEPTED: usize = 8;
/// The token of the waker. Others are numbers of links and ports, doubled.
const WAKE: Token = Token(0);

/// A connection that a call wants.
pub struct Connect {
    /// The job's network.
    pub network: Arc<JobNetwork>,
    /// The address inside: a loopback one.
    pub to: SocketAddr,
    /// Checks whether the client may go on; asked every 30 s, and after each change of trust.
    pub recheck: Recheck,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connect(to {} of {})", self.to, self.network.job())
    }
}

/// A port of the host whose connections go into a job.
#[derive(Debug)]
pub struct Listen {
    /// The job's network.
    pub network: Arc<JobNetwork>,
    /// The listening socket ([`bind`](super::bind)). Its owner ends it by shutdown(2).
    pub socket: Arc<OwnedFd>,
    /// Addresses inside, in the order in which they are tried.
    pub targets: Vec<SocketAddr>,
}

enum Event {
    Connect(u64, Connect, Arc<Shared>, LinkPermit),
    Listen(Listen),
    Moved(u64),
    Dropped(u64),
    Answer(Answer),
    Forget(JobId),
    Alarm(Instant, oneshot::Sender<()>),
    Recheck,
    EndCalls,
    Stop,
}

/// The handle of the relay thread.
#[derive(Clone)]
pub struct Relay {
    events: Mailbox<Event>,
    next: Arc<AtomicU64>,
    permits: LinkPermits,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// Starts the threads, from a thread in the host's network.
    ///
    /// # Errors
    /// The system refuses a thread or a descriptor.
    pub fn start() -> io::Result<Relay> {
        let poll = Poll::new()?;
        let (events, inbox) = mailbox(EVENTS, Arc::new(Waker::new(poll.registry(), WAKE)?));
        let relay = Relay { events, next: Arc::new(AtomicU64::new(1)), permits: LinkPermits::default() };
        let home = Arc::new(OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net")?));
        let (dials, _) = crossbeam_channel::bounded(0);
        let mut thread = RelayThread {
            poll,
            relay: relay.clone(),
            dials,
            home,
            links: HashMap::new(),
            ports: HashMap::new(),
            turns: Turns::default(),
            waiting: HashSet::new(),
            alarms: Vec::new(),
            recheck_at: Instant::now(),
            closed: false,
        };
        thread.start_dialing()?;
        std::thread::Builder::new().name("forward".into()).spawn(move || thread.run(&inbox))?;
        Ok(relay)
    }

    /// Opens a link for a call; [`Call::poll_opened`] tells when it is connected.
    ///
    /// # Errors
    /// The job or the node has as many links as it may have.
    pub fn connect(&self, wanted: Connect) -> Result<Call, LinkError> {
        let permit = self.permits.take(wanted.network.job())?;
        let (link, shared) = (self.number(), Arc::<Shared>::default());
        self.send(Event::Connect(link, wanted, shared.clone(), permit))?;
        let relay = self.clone();
        Ok(Call::new(link, shared, move |change| {
            let _ = relay.send(match change {
                Change::Moved => Event::Moved(link),
                Change::Gone => Event::Dropped(link),
            });
        }))
    }

    /// Carries the connections of a port of the host from now on, until its socket ends.
    pub fn listen(&self, listen: Listen) {
        let _ = self.send(Event::Listen(listen));
    }

    /// The links of a job end when what it has sent is delivered, or after 10 s. Its network has been closed before.
    pub fn forget(&self, job: JobId) {
        let _ = self.send(Event::Forget(job));
    }

    /// Is answered when the time is over.
    pub fn alarm(&self, after: Duration) -> oneshot::Receiver<()> {
        let (ring, alarm) = oneshot::channel();
        let _ = self.send(Event::Alarm(Instant::now() + after, ring));
        alarm
    }

    /// Ends the links of calls whose clients may not go on.
    pub fn recheck(&self) {
        let _ = self.send(Event::Recheck);
    }

    /// Ends the links of all calls, and refuses new ones.
    pub fn end_calls(&self) {
        let _ = self.send(Event::EndCalls);
    }

    /// Ends all connections and the thread.
    pub fn stop(&self) {
        let _ = self.send(Event::Stop);
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    fn send(&self, event: Event) -> Result<(), LinkError> {
        // It is full only if the thread is stuck, and then nothing is carried anyway.
        self.events.try_send(event).map_err(|_| LinkError::Closed)
    }
}

/// A port of the host.
struct Port {
    listen: Listen,
    /// Whether the poll said that connections wait.
    ready: bool,
    /// Waits until one of these is there again: a permit, or a descriptor.
    waits: bool,
}

struct RelayThread {
    poll: Poll,
    relay: Relay,
    dials: Sender<Dial>,
    home: Arc<OwnedFd>,
    links: HashMap<u64, Link>,
    ports: HashMap<u64, Port>,
    /// Links and ports that have something to do, by their jobs.
    turns: Turns<JobId>,
    /// Links and ports that have a turn, so that none has two.
    waiting: HashSet<u64>,
    alarms: Vec<(Instant, oneshot::Sender<()>)>,
    recheck_at: Instant,
    /// Whether calls are refused.
    closed: bool,
}

impl RelayThread {
    fn run(mut self, inbox: &Inbox<Event>) {
        let mut events = Events::with_capacity(256);
        let mut buffer = Box::new([0; CHUNK]);
        loop {
            if let Err(why) = self.poll.poll(&mut events, self.timeout())
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the relay of ports cannot wait", error = why);
            }
            for event in &events {
                self.note(event.token(), event.is_readable(), event.is_writable());
            }
            for taken in 0.. {
                if taken == AT_ONCE {
                    inbox.wake();
                    break;
                }
                match inbox.take() {
                    Some(Event::Stop) => return,
                    Some(event) => self.handle(event),
                    None => break,
                }
            }
            self.look_at_clock(Instant::now());
            for _ in 0..AT_ONCE {
                if !self.turn(&mut buffer) {
                    break;
                }
            }
        }
    }

    /// How long nothing may happen. Deadlines are few, and looked for only when nothing is to be done.
    fn timeout(&self) -> Option<Duration> {
        if !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let links = self.links.values().filter_map(|link| link.deadline);
        let calls = (!self.links.is_empty()).then_some(self.recheck_at);
        let ports = self.ports.values().any(|port| port.waits).then(|| Instant::now() + SHORTAGE);
        let alarms = self.alarms.iter().map(|(at, _)| *at);
        let first = links.chain(calls).chain(ports).chain(alarms).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Event of the poll: an even token is a link's far end or a port, an odd one a link's near end.
    fn note(&mut self, token: Token, readable: bool, writable: bool) {
        let (id, is_near) = (token.0 as u64 >> 1, token.0 & 1 == 1);
        if let Some(link) = self.links.get_mut(&id) {
            match (&mut link.near, &mut link.far) {
                (Near::Socket(near), _) if is_near => near.note(readable, writable),
                (_, Some(far)) if !is_near => far.note(readable, writable),
                _ => {}
            }
            self.give_turn(id);
        } else if let Some(port) = self.ports.get_mut(&id) {
            port.ready = true;
            self.give_turn(id);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connect(id, wanted, shared, permit) => self.connect(id, wanted, shared, permit),
            Event::Listen(listen) => self.listen(listen),
            Event::Moved(id) => self.give_turn(id),
            Event::Dropped(id) => {
                if let Some(link) = self.links.remove(&id) {
                    link.end(Err(LinkError::Reset));
                    self.has_room();
                }
            }
            Event::Answer(Answer::Dialed(id, socket)) => self.dialed(id, socket),
            Event::Answer(Answer::Stranded) => {
                diag::event!(Level::Error, "a thread could not leave a job's network; it ended");
                if let Err(why) = self.start_dialing() {
                    diag::event!(Level::Error, "cannot connect to ports of jobs any more", error = why);
                }
            }
            Event::Forget(job) => self.forget(job),
            Event::Alarm(at, ring) => {
                // Those of calls that are gone stay no longer than twice their number.
                if self.alarms.len() == self.alarms.capacity() {
                    self.alarms.retain(|(_, ring)| !ring.is_canceled());
                }
                self.alarms.push((at, ring));
            }
            Event::Recheck => self.recheck(),
            Event::EndCalls => {
                self.closed = true;
                self.end_calls(|_| Some(LinkError::Closed));
            }
            Event::Stop => {}
        }
    }

    /// Starts the thread that enters the networks of jobs.
    fn start_dialing(&mut self) -> io::Result<()> {
        // A link has one dial under way.
        let (dials, queue) = crossbeam_channel::bounded(2 * NODE_LINKS);
        let relay = self.relay.clone();
        self.dials = dials;
        dial::start(queue, self.home.clone(), move |answer| {
            let _ = relay.send(Event::Answer(answer));
        })
    }

    fn connect(&mut self, id: u64, wanted: Connect, shared: Arc<Shared>, permit: LinkPermit) {
        let Connect { network, to, recheck } = wanted;
        if self.links.is_empty() {
            self.recheck_at = Instant::now() + RECHECK;
        }
        // The client may have lost its permission since the caller checked it.
        let refused =
            if self.closed { Some(LinkError::Closed) } else { (!recheck()).then_some(LinkError::Untrusted) };
        let link = Link::new(network, Near::Call(recheck), shared, VecDeque::from([to]), permit);
        match refused {
            Some(why) => link.end(Err(why)),
            None => self.begin(id, link),
        }
    }

    /// Has the next address of a new link tried.
    fn begin(&mut self, id: u64, mut link: Link) {
        let Some(to) = link.targets.pop_front() else { return link.end(Err(LinkError::Refused)) };
        link.deadline = Some(Instant::now() + CONNECT);
        match self.dials.try_send(Dial { link: id, network: link.network.clone(), to }) {
            Ok(()) => drop(self.links.insert(id, link)),
            Err(why) => link.end(Err(LinkError::Dial(why.to_string()))),
        }
    }

    /// A link has a socket inside.
    fn dialed(&mut self, id: u64, socket: io::Result<std::net::TcpStream>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let far = socket.and_then(|socket| Socket::watch(socket, self.poll.registry(), token(id)));
        match far {
            Ok(far) => {
                link.far = Some(far);
                self.give_turn(id);
            }
            Err(why) => self.not_connected(id, &why),
        }
    }

    /// An address inside a job refused.
    fn not_connected(&mut self, id: u64, why: &io::Error) {
        let Some(mut link) = self.links.remove(&id) else { return };
        if why.kind() == io::ErrorKind::ConnectionRefused && !link.targets.is_empty() {
            link.far = None;
            return self.begin(id, link);
        }
        link.end(Err(LinkError::of_dial(why)));
        self.has_room();
    }

    fn listen(&mut self, listen: Listen) {
        let id = self.relay.number();
        let mut source = SourceFd(&listen.socket.as_raw_fd());
        match self.poll.registry().register(&mut source, token(id), Interest::READABLE) {
            Ok(()) => {
                self.ports.insert(id, Port { listen, ready: true, waits: false });
                self.give_turn(id);
            }
            Err(why) => diag::event!(
                Level::Error,
                "cannot watch a published port",
                jobId = listen.network.job(),
                error = why
            ),
        }
    }

    fn forget(&mut self, job: JobId) {
        self.ports.retain(|_, port| port.listen.network.job() != job);
        let until = Instant::now() + DRAIN;
        let of_job: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.network.job() == job).map(|(id, _)| *id).collect();
        for id in of_job {
            if let Some(link) = self.links.get_mut(&id) {
                link.deadline = Some(until);
            }
            self.give_turn(id);
        }
    }

    fn recheck(&mut self) {
        self.recheck_at = Instant::now() + RECHECK;
        self.end_calls(|recheck| (!recheck()).then_some(LinkError::Untrusted));
    }

    /// Ends the links of those calls for which there is a reason.
    fn end_calls(&mut self, why: impl Fn(&Recheck) -> Option<LinkError>) {
        let ended = self.links.iter().filter_map(|(id, link)| match &link.near {
            Near::Call(recheck) => Some((*id, why(recheck)?)),
            Near::Socket(_) => None,
        });
        for (id, why) in ended.collect::<Vec<_>>() {
            if let Some(link) = self.links.remove(&id) {
                link.end(Err(why));
            }
        }
        self.has_room();
    }

    fn look_at_clock(&mut self, now: Instant) {
        self.alarms.extract_if(.., |(at, _)| *at <= now).for_each(|(_, ring)| {
            let _ = ring.send(());
        });
        if now >= self.recheck_at && !self.links.is_empty() {
            self.recheck();
        }
        let is_late = |link: &Link| link.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self.links.iter().filter(|(_, link)| is_late(link)).map(|(id, _)| *id).collect();
        for id in late {
            let Some(link) = self.links.remove(&id) else { continue };
            let why = if link.network.is_closed() { LinkError::Ended } else { LinkError::TimedOut };
            link.end(Err(why));
            self.has_room();
        }
        let short: Vec<u64> = self.ports.iter().filter(|(_, port)| port.waits).map(|(id, _)| *id).collect();
        short.into_iter().for_each(|id| self.give_turn(id));
    }

    fn give_turn(&mut self, id: u64) {
        let link = self.links.get(&id).map(|link| link.network.job());
        let job = link.or_else(|| self.ports.get(&id).map(|port| port.listen.network.job()));
        if let Some(job) = job
            && self.waiting.insert(id)
        {
            self.turns.add(job, id);
        }
    }

    /// A link has ended: ports that waited for a permit look again.
    fn has_room(&mut self) {
        let waiting: Vec<u64> = self.ports.iter().filter(|(_, port)| port.waits).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.give_turn(id));
    }

    /// One turn of one link or port; whether there was any.
    fn turn(&mut self, buffer: &mut [u8; CHUNK]) -> bool {
        if self.turns.begin_slice().is_none() {
            return false;
        }
        if let Some(id) = self.turns.next_stream() {
            self.waiting.remove(&id);
            if self.links.contains_key(&id) {
                self.advance(id, buffer);
            } else {
                self.accept(id);
            }
        }
        self.turns.end_slice();
        true
    }

    fn advance(&mut self, id: u64, buffer: &mut [u8; CHUNK]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.is_open() {
            match link.far.as_ref().and_then(Socket::connected) {
                None => return,
                Some(Err(why)) => return self.not_connected(id, &why),
                Some(Ok(())) => link.open(),
            }
        }
        match link.advance(buffer) {
            After::Idle => {}
            After::Again => self.give_turn(id),
            After::Over(how) => {
                if let Some(link) = self.links.remove(&id) {
                    link.end(how);
                    self.has_room();
                }
            }
        }
    }

    /// Accepts some of the connections that wait at a port.
    fn accept(&mut self, id: u64) {
        for _ in 0..ACCEPTED {
            let Some(port) = self.ports.get_mut(&id).filter(|port| port.ready) else { return };
            let (job, listen) = (port.listen.network.job(), &port.listen);
            let Ok(permit) = self.relay.permits.take(job) else {
                port.waits = true;
                return;
            };
            match accept(&listen.socket) {
                Ok(Some(stream)) => {
                    port.waits = false;
                    let (network, targets) =
                        (listen.network.clone(), listen.targets.iter().copied().collect());
                    self.enter(stream, network, targets, permit);
                }
                Ok(None) => {
                    (port.ready, port.waits) = (false, false);
                    return;
                }
                // Its owner has ended it: there is no port any more.
                Err(why) if why.kind() == io::ErrorKind::InvalidInput => return drop(self.ports.remove(&id)),
                Err(why) => {
                    port.waits = true;
                    diag::limited!(
                        Level::Warn,
                        "cannot accept connections of a port",
                        jobId = job,
                        error = why
                    );
                    return;
                }
            }
        }
        self.give_turn(id);
    }

    /// Makes a link of an accepted connection.
    fn enter(
        &mut self,
        stream: std::net::TcpStream,
        network: Arc<JobNetwork>,
        targets: VecDeque<SocketAddr>,
        permit: LinkPermit,
    ) {
        let id = self.relay.number();
        let near = Token(token(id).0 | 1);
        match Socket::watch(stream, self.poll.registry(), near) {
            Ok(near) => {
                self.begin(id, Link::new(network, Near::Socket(near), Arc::default(), targets, permit))
            }
            Err(why) => diag::limited!(Level::Warn, "cannot watch a connection", error = why),
        }
    }
}

/// The token of a link's far end, or of a port.
fn token(id: u64) -> Token {
    Token((id << 1) as usize)
}
