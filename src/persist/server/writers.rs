//! The loop's writers: their connections, and what they send as bytes.

use std::io;
use std::time::Instant;

use log::Level;
use mio::{Interest, Token};

use super::Server;
use crate::diag;
use crate::job::JobId;
use crate::persist::PersistError;
use crate::persist::connection::{Connection, peer_uid};
use crate::persist::foreign::Piece;
use crate::persist::frame::Frame;
use crate::persist::lane::Task;

impl Server {
    pub(super) fn accept(&mut self) {
        self.waits = false;
        loop {
            if self.connections.len() >= self.bounds.connections {
                self.waits = true;
                return;
            }
            let (mut socket, _) = match self.given.output.accept() {
                Ok(accepted) => accepted,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(why) => {
                    self.waits = true;
                    return diag::limited!(Level::Error, "cannot accept a writer", error = why);
                }
            };
            let Some(uid) = peer_uid(&socket).filter(|uid| *uid == 0 || *uid == self.given.owner) else {
                diag::limited!(Level::Warn, "a writer without the right to write was refused");
                continue;
            };
            let token = Token(self.next);
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(why) = self.poll.registry().register(&mut socket, token, interest) {
                diag::limited!(Level::Error, "cannot watch a writer", error = why);
                continue;
            }
            self.connections.insert(token, Connection::new(socket, uid, self.bounds.message));
            self.again.push_back(token);
        }
    }

    /// Reads and writes on a connection that may be ready.
    pub(super) fn serve(&mut self, token: Token, now: Instant) {
        let stalls = self.senders.stall(token);
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if stalls {
            return connection.stall();
        }
        let mut received = Vec::new();
        let read = connection.link().flush().and_then(|()| connection.read(&mut received, now));
        for message in received {
            self.handle(token, message, now);
        }
        match read {
            Ok(true) => self.again.push_back(token),
            Ok(false) => {}
            Err(why) => self.close_connection(token, &why),
        }
    }

    pub(super) fn close_connection(&mut self, token: Token, why: &PersistError) {
        let Some(mut connection) = self.connections.remove(&token) else { return };
        let _ = self.poll.registry().deregister(connection.link().socket());
        match why {
            PersistError::Link(why) if why.kind() == io::ErrorKind::UnexpectedEof => {}
            why => diag::limited!(Level::Warn, "closing a writer's connection", error = why),
        }
        // Its jobs stay: what it told of them is stored all the same, and a new connection goes on with them.
        self.owners.retain(|_, owner| *owner != token);
        self.dropped.retain(|job, _| self.owners.contains_key(job));
        for job in self.senders.close(token) {
            self.janitor.forget(job);
            self.lane(job).send(Task::Close(job));
        }
    }

    pub(super) fn close_late(&mut self, now: Instant) {
        let is_late = |connection: &Connection| connection.deadline().is_some_and(|at| at <= now);
        let late: Vec<Token> =
            self.connections.iter().filter(|(_, c)| is_late(c)).map(|(token, _)| *token).collect();
        for token in late {
            self.close_connection(token, &PersistError::Frame("its message does not end".into()));
        }
    }

    /// Stores what a writer sends as bytes, unless the job's spool is here or its history is deleted.
    pub(super) fn take_piece(&mut self, token: Token, frame: Frame) {
        let piece = match Piece::of(frame) {
            Ok(piece) => piece,
            Err(why) => return self.close_connection(token, &why),
        };
        let job = piece.job;
        let is_kept = self.jobs.has(job) || self.dropped.contains_key(&job);
        self.counters.foreign();
        if is_kept || !self.senders.admit(job, token) {
            self.counters.thrown();
            return diag::limited!(Level::Warn, "output of another writer is thrown away", jobId = job);
        }
        if piece.is_acknowledged {
            self.owners.insert(job, token);
        }
        self.janitor.knows(job);
        self.send_piece(piece);
    }

    pub(super) fn send_piece(&mut self, piece: Piece) {
        self.senders.sent(piece.size());
        self.lane(piece.job).send(Task::Piece(piece));
    }

    /// The bytes of a writer could not be stored. It sends them again on a new connection, or they are lost.
    pub(super) fn sender_failed(&mut self, job: JobId) {
        self.lane(job).send(Task::Close(job));
        match self.owners.get(&job).copied() {
            Some(token) => self.close_connection(token, &PersistError::Frame("it cannot be stored".into())),
            None => self.counters.thrown(),
        }
    }
}
