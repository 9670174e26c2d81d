//! The thread that makes sockets in the networks of jobs.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::job_network::JobNetwork;
use super::socket;
use crate::sys::thread::join_network;

/// A connection to make.
#[derive(Debug)]
pub(super) struct Dial {
    /// The link that wants it.
    pub(super) link: u64,
    /// The way into the job.
    pub(super) network: Arc<JobNetwork>,
    /// The address inside.
    pub(super) to: SocketAddr,
}

/// Event of the thread.
#[derive(Debug)]
pub(super) enum Answer {
    /// The socket of a link, which may be on its way to its connection still.
    Dialed(u64, io::Result<TcpStream>),
    /// The thread cannot come back out of a job's network, and ends.
    Stranded,
}

/// Starts the thread. It must be started by a thread in the host's network, whose namespace `home` is.
///
/// # Errors
/// The system refuses another thread.
pub(super) fn start(
    queue: Receiver<Dial>,
    home: Arc<OwnedFd>,
    answer: impl Fn(Answer) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        for Dial { link, network, to } in queue {
            let (dialed, is_home) = dial(&network, to, &home);
            answer(Answer::Dialed(link, dialed));
            if !is_home {
                answer(Answer::Stranded);
                return;
            }
        }
    };
    std::thread::Builder::new().name("forward-dial".into()).spawn(run).map(drop)
}

/// Makes the socket; and whether the thread is in the host's network again.
fn dial(network: &JobNetwork, to: SocketAddr, home: &OwnedFd) -> (io::Result<TcpStream>, bool) {
    if network.is_closed() {
        return (Err(io::ErrorKind::NotConnected.into()), true);
    }
    let entered = network.namespace(home.as_fd()).and_then(join_network);
    if let Err(why) = entered {
        return (Err(why), true);
    }
    let connecting = socket::connect(to);
    let is_home = join_network(home.as_fd()).is_ok();
    // The job may have ended meanwhile, and another one may have its namespace soon: it is never spoken to.
    let connecting = if network.is_closed() { Err(io::ErrorKind::NotConnected.into()) } else { connecting };
    (connecting, is_home)
}
