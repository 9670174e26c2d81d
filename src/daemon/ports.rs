//! The ways to ports of jobs ([`crate::forward`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use log::Level;

use super::core::Core;
use super::provision::Network;
use crate::diag;
use crate::forward::Listen;
use crate::job::JobId;

/// Has connections to the published ports of a job that has a process carried into it. The job may listen on its loopback or
/// on its address.
pub(super) fn publish(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let (Some(run), Some(ports)) = (&job.run, &mut job.held.ports) else { return };
    let network = match ports.network(id, run.init.as_fd(), run.pid) {
        Ok(network) => network,
        Err(why) => {
            diag::event!(Level::Error, "cannot publish the ports of a job", jobId = id, error = why);
            return;
        }
    };
    let own = job.held.network.as_ref().and_then(Network::lease).map(|lease| IpAddr::V4(lease.address));
    let inside = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().chain(own);
    for (port, socket) in ports.held() {
        diag::event!(
            Level::Info,
            "port of a job is published",
            jobId = id,
            address = port.host(),
            jobPort = port.job_port
        );
        core.supply.ports().relay().listen(Listen {
            network: network.clone(),
            socket: socket.clone(),
            targets: inside.clone().map(|address| SocketAddr::new(address, port.job_port)).collect(),
        });
    }
}
