//! The question whether the history process answers, and how its work goes.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grpcio::{CallOption, ChannelBuilder, EnvBuilder, Environment};
use rustix::event::{PollFd, PollFlags, poll};

use super::figures::Figures;
use crate::pb::persist::PingRequest;
use crate::pb::persist_grpc::PersistServiceClient;

/// Asks the process at a query socket whether it answers.
pub struct Probe {
    socket: PathBuf,
    environment: Arc<Environment>,
}

/// The result of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The process lives and answers.
    Given(Pulse),
    /// No answer in time, or a refusal, in words.
    None(String),
    /// The caller's descriptor became readable first.
    Interrupted,
}

/// How the work of the process goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Whether it can store output, as far as its last attempt tells.
    pub healthy: bool,
    /// Its numbers by their names ([`Figures::named`]).
    pub figures: HashMap<String, u64>,
}

impl Pulse {
    pub(super) fn new(healthy: bool, figures: &Figures) -> Pulse {
        let named = figures.named().into_iter();
        Pulse { healthy, figures: named.map(|(name, value)| (name.to_owned(), value)).collect() }
    }

    /// A number; 0 where the process has none of this name.
    pub fn figure(&self, name: &str) -> u64 {
        self.figures.get(name).copied().unwrap_or_default()
    }
}

impl Probe {
    /// Will ask at this socket.
    pub fn new(socket: &Path) -> Self {
        let environment = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("probe").build());
        Probe { socket: socket.to_owned(), environment }
    }

    /// Asks once, and waits so long at most, or until `interrupt` is readable. A listening socket takes connections before
    /// anybody lives behind it, so only an answer counts.
    pub fn ping(&self, bound: Duration, interrupt: impl AsFd) -> Answer {
        let (mine, done) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(why) => return Answer::None(why.to_string()),
        };
        let (socket, environment) = (self.socket.clone(), self.environment.clone());
        // The call itself cannot be interrupted, and outlives its bound in no case.
        let call = std::thread::Builder::new().name("probe".into()).spawn(move || {
            let _closes_at_the_end = done;
            ask(&socket, environment, bound)
        });
        let call = match call {
            Ok(call) => call,
            Err(why) => return Answer::None(why.to_string()),
        };
        let mut fds = [PollFd::new(&mine, PollFlags::IN), PollFd::new(&interrupt, PollFlags::IN)];
        // The call keeps its bound; a wait that fails is one for its end.
        let _ = poll(&mut fds, None);
        if fds[1].revents().contains(PollFlags::IN) {
            return Answer::Interrupted;
        }
        match call.join() {
            Ok(Ok(pulse)) => Answer::Given(pulse),
            Ok(Err(why)) => Answer::None(why),
            Err(_) => Answer::None("the question was not asked".into()),
        }
    }
}

fn ask(socket: &Path, environment: Arc<Environment>, bound: Duration) -> Result<Pulse, String> {
    // A connection of its own: one that failed would wait before it is tried again.
    let channel = ChannelBuilder::new(environment).enable_http_proxy(false);
    let channel = channel.connect(&format!("unix:{}", socket.display()));
    let client = PersistServiceClient::new(channel);
    let options = CallOption::default().timeout(bound).wait_for_ready(true);
    let answer = client.ping_opt(&PingRequest::new(), options).map_err(|why| why.to_string())?;
    Ok(Pulse { healthy: answer.healthy, figures: answer.figures })
}
