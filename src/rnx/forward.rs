//! One connection of this host that is carried to a port of a job: one call, and a thread for each way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{ClientDuplexReceiver, ClientDuplexSender, WriteFlags};
use rustix::net::sockopt::set_socket_linger;

use super::error::{Error, Result};
use super::server::Server;
use crate::pb::joblet::{ForwardOpen, ForwardReq, ForwardRes, forward_req, forward_res};

/// Most bytes of one message, as the server takes them.
const CHUNK: usize = 64 << 10;
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;

/// Where connections go.
pub(crate) struct Forward {
    /// The node of the job.
    pub(crate) server: &'static Server,
    /// The job's id.
    pub(crate) uuid: String,
    /// The port inside.
    pub(crate) port: u16,
    /// On ::1 inside.
    pub(crate) v6: bool,
}

impl Forward {
    /// Carries a connection until both of its sides have ended.
    ///
    /// # Errors
    /// The job's port could not be reached, or the connection broke. This side has been reset then.
    pub(crate) fn carry(&self, stream: TcpStream) -> Result<()> {
        let carried = self.try_carry(&stream);
        if carried.is_err() {
            // So that a reader here does not take it for a whole answer.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
        carried
    }

    fn try_carry(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let (mut to_job, mut from_job) = self.server.forward()?;
        let open = ForwardOpen {
            uuid: self.uuid.clone(),
            port: self.port.into(),
            v6: self.v6,
            ..ForwardOpen::default()
        };
        // A call that the server has ended already says why to its reader.
        let _ = block_on(to_job.send((message(forward_req::Message::Open(open)), WriteFlags::default())));
        match self.next(&mut from_job)? {
            Some(forward_res::Message::Opened(_)) => {}
            _ => return Err(Error::Follow("the server did not open the connection".to_owned().into())),
        }
        let local = stream.try_clone()?;
        let upward = move || send(local, to_job);
        let upward = thread::Builder::new().name("upward".into()).stack_size(STACK).spawn(upward)?;
        let downward = self.receive(stream, &mut from_job);
        if downward.is_err() {
            // It may wait for this side.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = upward.join();
        downward
    }

    /// The server's next message; none at the end of the call.
    fn next(&self, from_job: &mut ClientDuplexReceiver<ForwardRes>) -> Result<Option<forward_res::Message>> {
        match block_on(from_job.next()) {
            Some(Ok(message)) => Ok(message.message),
            Some(Err(why)) => Err(self.server.explain(why)),
            None => Ok(None),
        }
    }

    fn receive(&self, mut stream: &TcpStream, from_job: &mut ClientDuplexReceiver<ForwardRes>) -> Result<()> {
        while let Some(message) = self.next(from_job)? {
            match message {
                forward_res::Message::Data(bytes) => stream.write_all(&bytes)?,
                forward_res::Message::HalfClose(_) => ignore_gone(stream.shutdown(Shutdown::Write))?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A side that is gone already needs no word.
fn ignore_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(why) if why.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

fn message(message: forward_req::Message) -> ForwardReq {
    ForwardReq { message: Some(message), ..ForwardReq::default() }
}

/// Sends what comes from this host until its end. A call that has ended takes nothing more, and its reader knows why.
fn send(mut stream: TcpStream, mut to_job: ClientDuplexSender<ForwardReq>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let message = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => message(forward_req::Message::Data(buffer[..read].to_vec())),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return to_job.cancel(),
        };
        if block_on(to_job.send((message, WriteFlags::default()))).is_err() {
            return;
        }
    }
    let end = message(forward_req::Message::HalfClose(true));
    if block_on(to_job.send((end, WriteFlags::default()))).is_ok() {
        let _ = block_on(to_job.close());
    }
}
