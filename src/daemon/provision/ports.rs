//! The ways into a job: its published ports, which are listening sockets of the host, and the network of the job, into which
//! the relay carries their connections and those of clients that forward.
//!
//! A port is listened on from before the job's start to its end, so a client that comes too early waits. A daemon that is
//! killed loses its sockets, and the next one listens again; a port that somebody else has taken meanwhile stays lost, and
//! the log says so. The sockets give their ports up as soon as they are released, whatever else holds them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::Level;
use rustix::net::{Shutdown, shutdown, sockopt};

use super::{Adoption, Asked, Kind, Named, Node};
use crate::diag;
use crate::forward::{JobNetwork, Relay, bind};
use crate::job::publish::Published;
use crate::job::{JobId, Layer};

/// The words of its step and of its layer.
const LISTEN: &str = "listen on";
const PUBLISHED: &str = "published";

/// The published ports of all jobs, and the relay of connections into jobs.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct PortTable {
    relay: Relay,
    owners: Arc<Mutex<Owners>>,
}

/// Ports with their jobs, as soon as those are known.
type Owners = HashMap<Published, Option<JobId>>;

impl PortTable {
    /// No port is published yet.
    pub(in crate::daemon) fn new(relay: Relay) -> Self {
        PortTable { relay, owners: Arc::default() }
    }

    /// The relay of connections into jobs.
    pub(in crate::daemon) fn relay(&self) -> &Relay {
        &self.relay
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens on these ports, on all or on none.
    ///
    /// # Errors
    /// The port that cannot be had, and why: its job, where it is one of ours.
    pub(in crate::daemon) fn bind(&self, wanted: &[Published]) -> Result<Option<Ports>, String> {
        let mut ports = self.none();
        for port in wanted {
            let socket = bind(port.host()).map_err(|why| self.refusal(port, &why))?;
            self.lock().insert(*port, None);
            ports.held.push((*port, Arc::new(socket)));
        }
        Ok(Some(ports).filter(|ports| !ports.held.is_empty()))
    }

    /// The ways into a job that has published nothing.
    pub(in crate::daemon) fn none(&self) -> Ports {
        Ports { held: Vec::new(), network: None, table: self.clone() }
    }

    fn refusal(&self, port: &Published, why: &io::Error) -> String {
        let owner = self.lock().iter().find(|(held, _)| held.collides_with(port)).and_then(|(_, job)| *job);
        match (why.kind(), owner) {
            (io::ErrorKind::AddrInUse, Some(job)) => {
                format!(
                    "port {} of the host is published by job {job} already; choose another one",
                    port.host()
                )
            }
            (io::ErrorKind::AddrInUse, None) => {
                format!("port {} of the host is in use already; choose another one", port.host())
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                format!("cannot listen on {}: the host has no such address", port.host())
            }
            _ => format!("cannot listen on {}: {why}", port.host()),
        }
    }
}

/// The published ports that a job holds, and the network behind them. Dropped, they are free at once, and nobody comes in any
/// more.
#[derive(Debug)]
pub(in crate::daemon) struct Ports {
    held: Vec<(Published, Arc<OwnedFd>)>,
    // As soon as somebody has asked for it.
    network: Option<Arc<JobNetwork>>,
    table: PortTable,
}

impl Ports {
    /// Notes the job that has them, for those who want the same.
    pub(in crate::daemon) fn belong_to(&self, job: JobId) {
        let mut table = self.table.lock();
        for (port, _) in &self.held {
            table.insert(*port, Some(job));
        }
    }

    /// The network of the job with this first process, made when it is first asked for.
    ///
    /// # Errors
    /// The daemon has no descriptor left.
    pub(in crate::daemon) fn network(
        &mut self,
        id: JobId,
        init: BorrowedFd<'_>,
        pid: i32,
    ) -> io::Result<Arc<JobNetwork>> {
        if let Some(network) = &self.network {
            return Ok(network.clone());
        }
        let init = init.try_clone_to_owned()?;
        Ok(self.network.insert(Arc::new(JobNetwork::new(id, init, pid))).clone())
    }

    /// The ports with their listening sockets.
    pub(in crate::daemon) fn held(&self) -> &[(Published, Arc<OwnedFd>)] {
        &self.held
    }

    /// The ports as the kernel shows them.
    pub(in crate::daemon) fn read_back(&self) -> Vec<Layer> {
        let layer = |(port, socket): &(Published, Arc<OwnedFd>)| {
            let name = format!("{PUBLISHED} {}", port.host());
            let (seen, kept) = match sockopt::socket_acceptconn(socket.as_ref()) {
                Ok(true) => (format!("listens for port {}", port.job_port), true),
                Ok(false) => ("does not listen".to_owned(), false),
                Err(why) => (why.to_string(), false),
            };
            Layer::new(name, format!("listens for port {}", port.job_port), seen, kept)
        };
        self.held.iter().map(layer).collect()
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        if let Some(network) = self.network.take() {
            network.close();
            self.table.relay.forget(network.job());
        }
        for (port, socket) in &self.held {
            // The relay has the socket too, for a moment: this ends it for both. It listens no more, and so another may.
            let _ = shutdown(socket.as_ref(), Shutdown::Both);
            self.table.lock().remove(port);
        }
    }
}

impl Kind for Ports {
    const NAME: &'static str = "ports";
    const STEP: Named = Ok(LISTEN);
    const LAYER: Named = Ok(PUBLISHED);

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let port = |port: &Published| {
            let all = matches!(port.address, address if IpAddr::is_unspecified(&address));
            let all = if all { ", reached from everywhere" } else { "" };
            format!("{LISTEN} {} of the host for port {} of the job{all}", port.host(), port.job_port)
        };
        asked.spec.publish.iter().map(port).collect()
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        let mut ports = from.supply.ports.none();
        for port in from.published {
            match bind(port.host()) {
                Ok(socket) => ports.held.push((*port, Arc::new(socket))),
                Err(why) => diag::event!(
                    Level::Error,
                    "a published port of a running job is lost",
                    jobId = from.id,
                    address = port.host(),
                    error = why
                ),
            }
        }
        ports.belong_to(from.id);
        Some(ports).filter(|ports| !ports.held.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn port_is_free_again_as_soon_as_it_is_released() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        let published = Published { address: Ipv4Addr::LOCALHOST.into(), port, job_port: 80 };
        let table = PortTable::new(Relay::start().unwrap());
        assert!(table.bind(&[published]).unwrap_err().contains("is in use already"));
        drop(free);
        let ports = table.bind(&[published]).unwrap().unwrap();
        let job = JobId::random();
        ports.belong_to(job);
        assert!(table.bind(&[published]).unwrap_err().contains(&format!("published by job {job}")));
        let relay = ports.held()[0].1.clone();
        assert!(ports.read_back().iter().all(|layer| layer.verdict == crate::job::Verdict::Kept));
        drop(ports);
        assert!(table.bind(&[published]).unwrap().is_some(), "although the relay has the socket still");
        assert!(table.lock().is_empty());
        drop(relay);
        assert!(table.bind(&[]).unwrap().is_none());
    }
}
