//! GetJobStatus with `security`: what stands around a running job. The loop says which job it is and what was
//! promised; the inspection thread reads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::request::{Answer, CommandError};
use crate::cgroup::CgroupError;
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::daemon::provision::{Gpus, Network, Node, Ports};
use crate::daemon::runtimes::BUILD_PLACES;
use crate::job::{DeviceNode, JobId, JobRef, JobView, Layer, Limits, NetRate, NetworkMode, State};
use crate::network::Lease;
use crate::sandbox::security::{Promise, read_back};

/// Hands a running job to the worker that looks at it.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<(JobView, Vec<Layer>)>) {
    if let Some(why) = core.streams.inspection().is_full() {
        let _ = answer.send(Err(CommandError::Exhausted(why)));
        return;
    }
    let look = core.jobs.find(wanted).map(|job| (job.view(&core.slots), look(job, core.node.clone())));
    match look {
        Ok((view, Ok(look))) => core.streams.inspection().run(move || {
            let _ = answer.send(look.run(view));
        }),
        Ok((_, Err(why))) | Err(why) => {
            let _ = answer.send(Err(why));
        }
    }
}

/// A job that is to be looked at.
struct Look {
    // The pidfd of PID 1: while that lives, the numbers that we read are the job's.
    pidfd: OwnedFd,
    promise: Promise,
    // Its device nodes beside those of every job.
    devices: Vec<DeviceNode>,
    limits: Limits,
    // Its address and its wire.
    lease: Option<Lease>,
    // Whether it has an egress list.
    listed: bool,
    // The rate of that wire, where it has one.
    rate: Option<NetRate>,
    pid: i32,
    // Its published ports.
    ports: Vec<Layer>,
    // Its group and disks are those that the limits were written with.
    node: Arc<Node>,
}

fn look(job: &Job, node: Arc<Node>) -> Result<Look, CommandError> {
    let running = matches!(job.state, State::Running | State::StopRequested(_) | State::Stopping(_));
    let (Some(run), Some(identity), true) = (&job.run, &job.held.identity, running) else {
        return Err(not_running(job.id, job.status().as_str()));
    };
    let pidfd = run.init.as_fd().try_clone_to_owned();
    let pidfd =
        pidfd.map_err(|why| CommandError::Exhausted(format!("cannot look at job {}: {why}", job.id)))?;
    let devices = job.held.gpus.as_ref().map(Gpus::nodes).unwrap_or_default();
    let promise = Promise {
        host_id: identity.host_id(),
        user: job.spec.user,
        profile: job.spec.profile,
        own_network: job.spec.network != NetworkMode::Host,
        pids: job.spec.limits.pids,
        volumes: job.spec.volumes.clone(),
        writable: job.spec.writable,
        opened: if job.spec.build.is_some() { &BUILD_PLACES } else { &[] },
        devices: devices.iter().map(|node| node.name.clone()).collect(),
        gpus: job.held.gpus.as_ref().map(Gpus::addresses).unwrap_or_default(),
    };
    let lease = job.held.network.as_ref().and_then(Network::lease).cloned();
    let listed = job.reach.changed.is_some() || job.spec.egress.is_some();
    // Each is one question to the kernel.
    let ports = job.held.ports.iter().flat_map(Ports::read_back).collect();
    let rate = Some(job.spec.rate).filter(|rate| !rate.is_unlimited() && node.rates.is_ok());
    let (limits, pid) = (job.spec.limits.clone(), run.pid);
    Ok(Look { pidfd, promise, devices, limits, lease, listed, rate, pid, ports, node })
}

impl Look {
    /// Reads all layers back.
    fn run(self, view: JobView) -> Result<(JobView, Vec<Layer>), CommandError> {
        let gone = || not_running(view.id, view.status.as_str());
        match self.read(view.id) {
            // The numbers of a job that has ended meanwhile may be another process's.
            _ if has_ended(&self.pidfd) => Err(gone()),
            Err(why) if is_gone(&why) => Err(gone()),
            Err(why) => Err(CommandError::SetUp(format!("cannot read job {} back: {why}", view.id))),
            Ok(layers) => Ok((view, layers)),
        }
    }

    /// Whether the router has the job's list.
    fn egress(&self, lease: &Lease) -> Layer {
        const PROMISED: &str = "only what its list allows";
        let seen = self.node.egress.is_listed(&self.node.wiring, lease.address);
        let kept = matches!(seen, Ok(true));
        let words = match seen {
            Ok(true) => PROMISED.to_owned(),
            Ok(false) => "no list".to_owned(),
            Err(why) => why.to_string(),
        };
        Layer::new("network.egress", PROMISED, words, kept)
    }

    fn read(&self, id: JobId) -> io::Result<Vec<Layer>> {
        let Node { tree, disks, resolver, run_dir, .. } = &*self.node;
        let of_group = |why| match why {
            CgroupError::Read { source, .. } => source,
            why => io::Error::other(why),
        };
        let group = tree.read_back(id, &self.limits, disks).map_err(of_group)?;
        let mut layers = read_back(Path::new("/proc"), &group.processes, &self.promise)?;
        layers.extend(group.layers);
        layers.push(tree.read_devices(id, &self.devices).map_err(of_group)?);
        layers.extend(self.ports.iter().cloned());
        let rated = self.lease.as_ref().zip(self.rate);
        layers.extend(
            rated.map(|(lease, rate)| self.node.wiring.read_rate(lease, rate, self.pidfd.as_fd(), self.pid)),
        );
        layers.extend(self.lease.iter().flat_map(|lease| self.node.wiring.read_back(lease)));
        layers.extend(self.lease.iter().map(|_| resolver.read_back(run_dir, tree.path())));
        layers.extend(self.lease.iter().filter(|_| self.listed).map(|lease| self.egress(lease)));
        Ok(layers)
    }
}

fn not_running(id: JobId, status: &str) -> CommandError {
    CommandError::WrongState(format!("job is not running: {id} (current status: {status})"))
}

/// Whether an error means that the process or the group has gone.
fn is_gone(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw_os_error);
    // A process that ends has left its network before its pidfd says so: /proc/PID/net answers EINVAL then.
    let left = matches!(errno, Some(Errno::SRCH | Errno::NODEV | Errno::INVAL));
    why.kind() == io::ErrorKind::NotFound || left
}

/// A pidfd is readable when its process has ended (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
