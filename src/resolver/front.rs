//! The process front: one loop that waits for sockets and never for a job, a name server or the daemon.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::askers::{Askers, Decision};
use super::clients::Clients;
use super::daemon_link::DaemonLink;
use super::denials::Denials;
use super::flight::{Flight, Key};
use super::message::{Answer, Odd, Question, bare_error, code, extended};
use super::packets::Packets;
use super::pinning::{Order, Pins, addresses_for, decode_outcome};
use super::protocol::{ToFront, within};
use super::question::{From, State, Underway};
use super::sieve::{self, Kept};
use super::upstream::{Link, Servers};
use super::wires::Wires;
use crate::job::egress::Ports;
use crate::network::rules::is_never;

const UDP: Token = Token(0);
const TCP: Token = Token(1);
const LISTENER: Token = Token(2);
const DAEMON: Token = Token(3);
const PIN: Token = Token(4);
/// Tokens from here on are questions (even) and connections (odd).
const THINGS: usize = 16;

/// Questions under way, and of one job.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 128;
/// Questions that are read at a time.
const AT_ONCE: usize = 32;
/// How long a name server has, by the number of the try.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(1000), Duration::from_millis(1500), Duration::from_millis(2000)];
/// How long pin has. It answers in some microseconds.
const PIN_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are read at a time.
const BUFFER: usize = 16 << 10;
/// How long denials wait until the daemon hears of them.
const REPORT: Duration = Duration::from_millis(200);

fn question_token(key: Key) -> Token {
    Token(THINGS + 2 * key.number() as usize)
}

fn client_token(key: Key) -> Token {
    Token(THINGS + 2 * key.number() as usize + 1)
}

/// The sockets that the daemon gives to front.
#[derive(Debug)]
pub(super) struct Given {
    /// Bound in the router.
    pub(super) udp: UdpSocket,
    /// Listens in the router.
    pub(super) tcp: mio::net::TcpListener,
    /// Listens for the daemon.
    pub(super) listener: OwnedFd,
    /// Leads to pin.
    pub(super) pin: OwnedFd,
    /// Lists the router's addresses.
    pub(super) wires: Wires,
    /// The user of the daemon.
    pub(super) owner: u32,
    /// Its first word to a daemon.
    pub(super) hello: String,
}

/// The process that reads what jobs send.
pub(super) struct Front {
    poll: Poll,
    udp: UdpSocket,
    clients: Clients,
    daemon: DaemonLink,
    pin: Packets,
    askers: Askers,
    servers: Servers,
    opened: Vec<(Ipv4Addr, u8)>,
    questions: Flight<Underway>,
    pins: Pins,
    denials: Denials,
    report_at: Option<Instant>,
    /// Connections that have an answer and may have more questions.
    resumed: Vec<Key>,
    /// Questions may wait although no event tells of them.
    more: bool,
}

/// Why the process ends.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon wants it.
    Stopped,
    /// Pin is gone: the daemon starts both anew.
    PinIsGone,
    /// There is no daemon, and no job either.
    NobodyAsks,
}

impl Front {
    /// Watches the sockets.
    ///
    /// # Errors
    /// The system's refusal.
    pub(super) fn new(given: Given) -> io::Result<Front> {
        let Given { mut udp, tcp, listener, pin, wires, owner, hello } = given;
        let poll = Poll::new()?;
        let registry = poll.registry();
        let mut clients = Clients::new(tcp);
        registry.register(&mut udp, UDP, Interest::READABLE)?;
        registry.register(clients.listener(), TCP, Interest::READABLE)?;
        registry.register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        registry.register(&mut SourceFd(&pin.as_raw_fd()), PIN, Interest::READABLE)?;
        Ok(Front {
            poll,
            udp,
            clients,
            daemon: DaemonLink::new(listener, wires, (owner, hello), Instant::now()),
            pin: Packets::new(pin),
            askers: Askers::default(),
            servers: Servers::default(),
            opened: Vec::new(),
            questions: Flight::new(MOST, MOST_OF_ONE, 0),
            pins: Pins::default(),
            denials: Denials::default(),
            report_at: None,
            resumed: Vec::new(),
            more: false,
        })
    }

    /// Answers until nobody needs it.
    ///
    /// # Errors
    /// The system's refusal to wait.
    pub(super) fn run(&mut self) -> io::Result<End> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; BUFFER];
        loop {
            let timeout = self.timeout(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Err(why) if why.kind() != io::ErrorKind::Interrupted => return Err(why),
                _ => {}
            }
            if let Some(end) = self.turn(&events, &mut buffer) {
                return Ok(end);
            }
        }
    }

    fn timeout(&mut self, now: Instant) -> Option<Duration> {
        if self.more {
            return Some(Duration::ZERO);
        }
        let times = [
            self.questions.first_due().map(|(due, _)| due),
            self.clients.end_quiet(now),
            self.daemon.look_at(),
            self.report_at,
        ];
        times.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
    }

    fn turn(&mut self, events: &Events, buffer: &mut [u8]) -> Option<End> {
        let now = Instant::now();
        let mut asked = std::mem::take(&mut self.more);
        self.daemon.accept(self.poll.registry(), DAEMON);
        if let Some(end) = self.hear(now) {
            return Some(end);
        }
        for event in events {
            match event.token() {
                UDP => asked = true,
                TCP => self.clients.accept(self.poll.registry(), client_token, now),
                PIN if !self.take_outcomes(buffer) => return Some(End::PinIsGone),
                LISTENER | DAEMON | PIN => {}
                Token(n) => {
                    let key = Key::of(((n - THINGS) / 2) as u64);
                    if n % 2 == 0 { self.on_answer(key, buffer, now) } else { self.resumed.push(key) }
                }
            }
        }
        let stop = if self.daemon.is_synced() { self.take_questions(asked, buffer, now) } else { None };
        while let Some((_, key)) = self.questions.first_due().filter(|(due, _)| *due <= now) {
            self.on_time(key, now);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(now);
        }
        stop
    }

    /// Hears the daemon out.
    fn hear(&mut self, now: Instant) -> Option<End> {
        while let Some(message) = self.daemon.next(now) {
            match message {
                ToFront::Host(servers, opened) => {
                    self.servers.replace(servers);
                    self.opened = opened;
                }
                ToFront::Job(asker) => {
                    // The router may have fewer pins, by another list.
                    self.pins.forget(asker.address);
                    self.askers.insert(*asker);
                }
                ToFront::Forget(job) => self.forget(job),
                ToFront::Synced => {
                    let told = self.daemon.synced();
                    let all: Vec<Ipv4Addr> = self.askers.addresses().collect();
                    all.into_iter().filter(|job| !told.contains(job)).for_each(|job| self.forget(job));
                    // Questions wait since before.
                    self.more = true;
                    self.report_at.get_or_insert(now);
                }
                ToFront::Report(number) => {
                    self.report(now);
                    self.daemon.confirm(number);
                }
                ToFront::Stop => return Some(End::Stopped),
            }
        }
        self.daemon.is_over(now).then_some(End::NobodyAsks)
    }

    fn forget(&mut self, job: Ipv4Addr) {
        self.askers.remove(job);
        self.pins.forget(job);
        self.clients.forget(job);
        self.denials.forget(job);
        for key in self.questions.of(job) {
            self.questions.end(key);
        }
    }

    /// Takes questions that wait, then hears the daemon, then answers: it speaks of a job before that asks.
    fn take_questions(&mut self, asked: bool, buffer: &mut [u8], now: Instant) -> Option<End> {
        let mut questions = Vec::new();
        for key in std::mem::take(&mut self.resumed) {
            let read = self.clients.read(key, buffer, now);
            questions.extend(read.into_iter().map(|(job, bytes)| (From::Tcp(key), job, bytes)));
        }
        let mut left = if asked { AT_ONCE } else { 0 };
        while left > 0 {
            left -= 1;
            match self.udp.recv_from(buffer) {
                Ok((length, SocketAddr::V4(from))) => {
                    questions.push((From::Udp(from), *from.ip(), buffer[..length].to_vec()));
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                // An error of an earlier answer, whose job has gone.
                Ok(_) | Err(_) => {}
            }
            self.more |= left == 0;
        }
        let end = if questions.is_empty() { None } else { self.hear(now) };
        for (from, job, bytes) in questions {
            self.ask(from, job, &bytes, now);
        }
        end
    }

    fn ask(&mut self, from: From, job: Ipv4Addr, bytes: &[u8], now: Instant) {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Odd::Noise) => return self.pass_over(from),
            Err(Odd::Refused(id, code)) => return self.send(from, &bare_error(id, code)),
        };
        let answer = match self.askers.decide(job, &question) {
            None => question.refused(code::SERVFAIL, Some(extended::OTHER)),
            Some(Decision::Ours(code, records, why)) => {
                question.answer(code, &records, why, from.room(&question))
            }
            Some(Decision::Denied(code)) => {
                self.deny(job, &question, now);
                question.refused(code, Some(extended::BLOCKED))
            }
            Some(Decision::Forward) => return self.forward(from, job, question, None, now),
            Some(Decision::Look(ports)) => return self.forward(from, job, question, Some(ports), now),
        };
        self.send(from, &answer);
    }

    fn deny(&mut self, job: Ipv4Addr, question: &Question, now: Instant) {
        self.denials.add(job, question.name.to_string(), question.kind);
        self.report_at.get_or_insert(now + REPORT);
    }

    fn report(&mut self, now: Instant) {
        self.report_at = None;
        let daemon = &self.daemon;
        self.denials.tell(|denial| daemon.tell(denial));
        // Else the next daemon hears of them.
        if !self.denials.is_empty() && daemon.is_connected() {
            self.report_at = Some(now + REPORT);
        }
    }

    fn forward(&mut self, from: From, job: Ipv4Addr, question: Question, look: Option<Ports>, now: Instant) {
        let underway = Underway { question, from, look, tries: 0, state: State::Waiting };
        match self.questions.begin(job, now + PATIENCE[0], underway) {
            Ok((key, ended)) => {
                if let Some(ended) = ended {
                    self.fail(ended, extended::OTHER);
                }
                self.try_server(key, now);
            }
            Err(underway) => self.fail(underway, extended::OTHER),
        }
    }

    /// Asks the next name server, if there is one to try.
    fn try_server(&mut self, key: Key, now: Instant) {
        loop {
            let Some((_, underway)) = self.questions.get_mut(key) else { return };
            let next = PATIENCE.get(underway.tries).zip(self.servers.of_try(underway.tries));
            let Some((patience, (number, server))) = next else {
                let Some((_, underway)) = self.questions.end(key) else { return };
                return self.fail(underway, extended::NO_REACHABLE_AUTHORITY);
            };
            underway.tries += 1;
            let Some(id) = random_number() else { continue };
            let asked = underway.question.forwarded(id);
            let (tcp, token) = (underway.from.is_tcp(), question_token(key));
            if let Ok(link) = Link::ask(server, tcp, &asked, self.poll.registry(), token) {
                underway.state = State::Asked { link, id, server: number };
                self.questions.postpone(key, now + *patience);
                return;
            }
        }
    }

    /// A name server has said something.
    fn on_answer(&mut self, key: Key, buffer: &mut [u8], now: Instant) {
        loop {
            let Some((job, underway)) = self.questions.get_mut(key) else { return };
            let State::Asked { link, id, server } = &mut underway.state else { return };
            let (id, server) = (*id, *server);
            let bytes = match link.receive(buffer) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return,
                Err(_) => return self.try_server(key, now),
            };
            if !Answer::of(&bytes, id, &underway.question) {
                continue;
            }
            let unable = matches!(Answer::code_of(&bytes), code::SERVFAIL | code::REFUSED | code::NOTIMP);
            if unable && underway.tries < PATIENCE.len().min(self.servers.len()) {
                return self.try_server(key, now);
            }
            if !unable {
                self.servers.answers(server);
            }
            return self.give(key, job, &bytes, now);
        }
    }

    /// Gives a job the answer of a name server, or its part of it.
    fn give(&mut self, key: Key, job: Ipv4Addr, bytes: &[u8], now: Instant) {
        let Some((_, underway)) = self.questions.get_mut(key) else { return };
        let room = underway.from.room(&underway.question);
        let Some(ports) = underway.look.clone() else {
            let answer = underway.question.relayed(bytes, room);
            return self.finish(key, &answer);
        };
        let question = underway.question.clone();
        let list = self.askers.get(job).and_then(|job| job.list.as_ref());
        let (Some(list), Ok(answer)) = (list, Answer::read(bytes)) else {
            return self.finish(key, &question.refused(code::SERVFAIL, Some(extended::OTHER)));
        };
        if answer.truncated {
            return self.finish(key, &question.relayed(bytes, 0));
        }
        let opened = &self.opened;
        let is_opened = |address| match address {
            IpAddr::V4(address) => opened.iter().any(|range| within(*range, address)),
            IpAddr::V6(_) => false,
        };
        let never = |address| is_never(address) && !is_opened(address);
        let Kept { records, addresses, closed } =
            sieve::keep(&answer, &question, list, addresses_for(&ports), never);
        if closed {
            self.deny(job, &question, now);
            return self.finish(key, &question.answer(code::NOERROR, &[], Some(extended::FILTERED), room));
        }
        let given = question.answer(answer.code, &records, None, room);
        self.pin(key, job, &addresses, &ports, given, now);
    }

    /// Has the addresses of an answer pinned, and gives the answer when they are.
    fn pin(
        &mut self,
        key: Key,
        job: Ipv4Addr,
        addresses: &[(IpAddr, u32)],
        ports: &Ports,
        answer: Vec<u8>,
        now: Instant,
    ) {
        let places = match self.pins.wanted(job, addresses, ports, now) {
            Ok(places) if places.is_empty() => return self.finish(key, &answer),
            Ok(places) => places,
            Err(_) => return self.fail_key(key),
        };
        let order = Order { number: key.number(), places };
        if self.pin.send(&order.encode()).is_err() {
            return self.fail_key(key);
        }
        if let Some((_, underway)) = self.questions.get_mut(key) {
            underway.state = State::Pinned { answer, places: order.places, asked: now };
            self.questions.postpone(key, now + PIN_PATIENCE);
        }
    }

    /// Takes what pin says; `false`: it is gone.
    fn take_outcomes(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            let outcome = match self.pin.receive(buffer) {
                Ok(Some(bytes)) => decode_outcome(bytes),
                Ok(None) => return true,
                Err(_) => return false,
            };
            let Some((number, errno)) = outcome else { return false };
            let key = Key::of(number);
            let Some((_, underway)) = self.questions.get_mut(key) else { continue };
            let State::Pinned { answer, places, asked } =
                std::mem::replace(&mut underway.state, State::Waiting)
            else {
                continue;
            };
            if errno == 0 {
                self.pins.done(&places, asked);
                self.finish(key, &answer);
            } else {
                self.fail_key(key);
            }
        }
    }

    fn on_time(&mut self, key: Key, now: Instant) {
        match self.questions.get_mut(key).map(|(_, underway)| &underway.state) {
            Some(State::Asked { .. }) => self.try_server(key, now),
            _ => self.fail_key(key),
        }
    }

    fn finish(&mut self, key: Key, answer: &[u8]) {
        let Some((_, underway)) = self.questions.end(key) else { return };
        self.send(underway.from, answer);
    }

    fn fail_key(&mut self, key: Key) {
        if let Some((_, underway)) = self.questions.end(key) {
            self.fail(underway, extended::OTHER);
        }
    }

    fn fail(&mut self, underway: Underway, why: u16) {
        let Underway { question, from, .. } = underway;
        self.send(from, &question.refused(code::SERVFAIL, Some(why)));
    }

    fn send(&mut self, to: From, answer: &[u8]) {
        match to {
            // A job that does not read, or that has gone, loses its answers.
            From::Udp(to) => drop(self.udp.send_to(answer, SocketAddr::V4(to))),
            From::Tcp(key) => {
                self.clients.answer(key, answer);
                self.resumed.push(key);
                self.more = true;
            }
        }
    }

    /// Nobody waits for an answer.
    fn pass_over(&mut self, from: From) {
        if let From::Tcp(key) = from {
            self.clients.end(key);
        }
    }
}

/// A number that nobody can guess; `None`: the kernel gives none.
fn random_number() -> Option<u16> {
    let mut bytes = [0; 2];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (length == bytes.len()).then(|| u16::from_ne_bytes(bytes))
}
