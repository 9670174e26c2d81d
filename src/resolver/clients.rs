//! Connections of jobs: questions over TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::flight::{Flight, Key};
use super::frames::{Frames, framed};

/// Connections at one time, and of one job.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 16;
/// Bytes of a question, and of answers that the job does not take.
const LONGEST: usize = 1024;
const MOST_WAITING: usize = 256 << 10;
/// Questions of one connection under way.
const UNDER_WAY: usize = 16;
/// How long a connection may be quiet.
const QUIET: Duration = Duration::from_secs(10);

/// A connection of a job.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    frames: Frames,
    out: Vec<u8>,
    under_way: usize,
    ended: bool,
}

/// The connections of jobs.
#[derive(Debug)]
pub(super) struct Clients {
    listener: TcpListener,
    flight: Flight<Client>,
}

impl Clients {
    /// Takes connections of a listener.
    pub(super) fn new(listener: TcpListener) -> Self {
        Clients { listener, flight: Flight::new(MOST, MOST_OF_ONE, 0) }
    }

    /// The listener, to be watched.
    pub(super) fn listener(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// Takes connections that wait. One for which there is no room is closed.
    pub(super) fn accept(&mut self, registry: &Registry, token: impl Fn(Key) -> Token, now: Instant) {
        while let Ok((stream, SocketAddr::V4(from))) = self.listener.accept() {
            let frames = Frames::new(LONGEST);
            let client = Client { stream, frames, out: Vec::new(), under_way: 0, ended: false };
            let Ok((key, _)) = self.flight.begin(*from.ip(), now + QUIET, client) else { continue };
            let Some((_, client)) = self.flight.get_mut(key) else { continue };
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut client.stream, token(key), interest).is_err() {
                self.flight.end(key);
            }
        }
    }

    /// The questions that have come over a connection, with the job's address. A connection that breaks a rule ends.
    pub(super) fn read(&mut self, key: Key, buffer: &mut [u8], now: Instant) -> Vec<(Ipv4Addr, Vec<u8>)> {
        let Some((job, client)) = self.flight.get_mut(key) else { return Vec::new() };
        let mut questions = Vec::new();
        let goes_on = client.flush().and_then(|()| client.read(buffer, &mut questions));
        if goes_on.is_err() || (client.ended && client.under_way == 0 && client.out.is_empty()) {
            self.flight.end(key);
        } else {
            self.flight.postpone(key, now + QUIET);
        }
        questions.into_iter().map(|question| (job, question)).collect()
    }

    /// Sends an answer over a connection, if it is still there.
    pub(super) fn answer(&mut self, key: Key, answer: &[u8]) {
        let Some((_, client)) = self.flight.get_mut(key) else { return };
        client.under_way = client.under_way.saturating_sub(1);
        client.out.extend(framed(answer));
        let sent = client.flush();
        if sent.is_err() || client.out.len() > MOST_WAITING || (client.ended && client.under_way == 0) {
            self.flight.end(key);
        }
    }

    /// Ends a connection.
    pub(super) fn end(&mut self, key: Key) {
        self.flight.end(key);
    }

    /// Ends connections that are quiet for too long; when to look again.
    pub(super) fn end_quiet(&mut self, now: Instant) -> Option<Instant> {
        while let Some((due, key)) = self.flight.first_due() {
            if due > now {
                return Some(due);
            }
            self.flight.end(key);
        }
        None
    }

    /// Ends the connections of a job.
    pub(super) fn forget(&mut self, job: Ipv4Addr) {
        for key in self.flight.of(job) {
            self.flight.end(key);
        }
    }
}

impl Client {
    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Takes questions while there is room for them; the rest stays in the socket or in `frames`.
    fn read(&mut self, buffer: &mut [u8], questions: &mut Vec<Vec<u8>>) -> io::Result<()> {
        loop {
            while self.under_way < UNDER_WAY {
                let Some(question) = self.frames.take().map_err(|_| io::ErrorKind::InvalidData)? else {
                    break;
                };
                self.under_way += 1;
                questions.push(question);
            }
            if self.under_way >= UNDER_WAY || self.ended {
                return Ok(());
            }
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.frames.push(&buffer[..length]),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
            }
        }
    }
}
