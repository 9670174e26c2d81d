//! The daemon's side of the resolver: its two processes, and what front is to know.
//!
//! ```text
//!   spawner, loop --job starts, ends, gets a list--> table --one record at once--> front
//!   thread resolver: starts both processes, or finds those of an earlier daemon;
//!                    tells everything anew; reads /etc/resolv.conf; <--DENIED-- front
//!   sampler, at the end of a job with a list --REPORT--> front: what it has not told yet
//! ```
//!
//! The processes are started when there is a router, that is with the first networked sandbox, and outlive a daemon that is
//! killed. The next one finds front by its socket in the run directory, and keeps it when its version and its router are the
//! same; else, and when it does not hear, both are ended and started anew. They have a group of their own beside the jobs',
//! because the daemon's ends with its unit. Where they cannot be started, jobs without a
//! list still have names by the router's own rule ([`network::rules`](crate::network::rules)), and jobs with one have none.
//!
//! A start never waits here: it sends one record ([`table`]). Front reads that before the first question of the job.

mod layer;
mod name_servers;
mod processes;
mod sockets;
mod table;
mod worker;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::Level;
use rustix::event::{EventfdFlags, eventfd};

use self::processes::GROUP;
use self::table::Table;
use self::worker::{Order, Parts, Worker};
use super::DaemonError;
use crate::cgroup::CgroupTree;
use crate::config::daemon::DaemonConfig;
use crate::diag;
use crate::job::egress::List;
use crate::job::{JobId, Layer};
use crate::network::router::Definition;
use crate::network::rules::RESOLVER;
use crate::network::{Lease, Range};
use crate::resolver::protocol::{Asker, Denial};

/// How long the first networked job waits for the processes, which take some 10 ms.
const FIRST_START: Duration = Duration::from_secs(2);
/// How long the end of a job waits for names that it was refused. Front answers in some ten microseconds.
const DENIALS: Duration = Duration::from_secs(1);

/// The way to the resolver, for every thread.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Resolver {
    table: Arc<Table>,
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    user: u32,
}

/// The thread, before it is started.
#[derive(Debug)]
pub(in crate::daemon) struct Unstarted {
    table: Arc<Table>,
    orders: Receiver<Order>,
    wake: Arc<OwnedFd>,
    user: u32,
}

impl Resolver {
    /// A way to a thread that is not started yet.
    ///
    /// # Errors
    /// The system's refusal.
    pub(in crate::daemon) fn new(config: &DaemonConfig) -> Result<(Self, Unstarted), DaemonError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let failed =
            |why: rustix::io::Errno| DaemonError::Loop { doing: "make an eventfd", source: why.into() };
        let (table, wake) = (Arc::new(Table::default()), Arc::new(wake.map_err(failed)?));
        // A handful: one for each router, and one for each time that front does not keep up.
        let (orders, inbox) = unbounded();
        // The id in front of those of jobs.
        let user = config.process.subid_base - 1;
        let unstarted = Unstarted { table: table.clone(), orders: inbox, wake: wake.clone(), user };
        Ok((Resolver { table, orders, wake, user }, unstarted))
    }

    fn order(&self, order: Order) {
        // The thread is gone only when the daemon is.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Jobs have this router now.
    pub(in crate::daemon) fn serve(&self, router: BorrowedFd<'_>) {
        match router.try_clone_to_owned() {
            Ok(router) => self.order(Order::Router(router)),
            Err(why) => {
                diag::event!(Level::Error, "jobs have no resolver: cannot copy a descriptor", error = why)
            }
        }
    }

    /// Whether front answers, and the number of jobs that it knows.
    pub(in crate::daemon) fn figures(&self) -> (bool, u64) {
        (self.table.is_connected(), self.table.addresses().len() as u64)
    }

    /// Waits for a moment until the first processes answer: a job that starts before them finds no name. Not for the loop.
    pub(in crate::daemon) fn await_start(&self) {
        self.table.await_settled(FIRST_START);
    }

    /// All jobs of an earlier daemon are known: front may be told.
    pub(in crate::daemon) fn open(&self) {
        self.order(Order::Open);
    }

    /// Makes a job known, before its payload runs: its host name, its `--name`, and its list, if it has one.
    pub(in crate::daemon) fn add(
        &self,
        id: JobId,
        name: &str,
        (lease, network): (&Lease, &Definition),
        list: Option<&List>,
    ) {
        let short = id.short().to_string();
        let mut names = vec![format!("job-{short}"), short];
        names.extend(own_name(name));
        let asker = Asker {
            address: lease.address,
            range: (lease.range.first(), lease.range.prefix()),
            together: network.together,
            inner: network.inner,
            ipv6: lease.ipv6,
            names,
            list: list.map(|list| list.texts().to_vec()),
        };
        self.mend_unless(self.table.insert(asker));
    }

    /// Gives a job that runs another list; `None`: it reaches everything outside.
    pub(in crate::daemon) fn set_list(&self, address: Ipv4Addr, list: Option<&List>) {
        let list = list.map(|list| list.texts().to_vec());
        self.mend_unless(self.table.set_list(address, list));
    }

    /// Waits for a moment until all names are counted that jobs were refused before. Not for the loop.
    pub(in crate::daemon) fn await_denials(&self) {
        self.mend_unless(self.table.await_denials(DENIALS));
    }

    /// Forgets a job that has ended.
    pub(in crate::daemon) fn forget(&self, address: Ipv4Addr) {
        self.mend_unless(self.table.remove(address));
    }

    /// The limits around the processes that answer a job's questions, read back from the kernel. `tree`: the groups of the
    /// jobs.
    pub(in crate::daemon) fn read_back(&self, run_dir: &Path, tree: &Path) -> Layer {
        layer::read_back(Path::new("/proc"), run_dir, self.user, &tree.join(GROUP))
    }

    /// A sentence of `--explain`.
    pub(in crate::daemon) fn explain(&self, tree: &Path) -> String {
        let group = tree.join(GROUP);
        format!(
            "make the job's names known to the resolver at {RESOLVER}: two processes of id {} in {}",
            self.user,
            group.display()
        )
    }

    fn mend_unless(&self, told: bool) {
        if !told {
            self.order(Order::Mend);
        }
    }

    /// Ends the processes, unless jobs go on; and the thread.
    pub(in crate::daemon) fn stop(&self, jobs_go_on: bool) {
        self.order(Order::Stop(jobs_go_on));
    }
}

impl Unstarted {
    /// Starts the thread. `report` takes names that jobs were refused.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(in crate::daemon) fn start(
        self,
        (run_dir, tree): (PathBuf, Arc<CgroupTree>),
        opened: &[Range],
        report: impl Fn(Denial) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let Unstarted { table, orders, wake, user } = self;
        let opened = opened.iter().map(|range| (range.first(), range.prefix())).collect();
        let parts = Parts { table, orders, wake, tree, run_dir, user, opened, report: Box::new(report) };
        let thread = std::thread::Builder::new().name("resolver".into());
        let started = thread.spawn(move || Worker::new(parts).run());
        started.map_err(|source: io::Error| DaemonError::Thread { name: "resolver", source })
    }
}

/// A job's own name as one of DNS: one label. A name that looks like those of jobs, or that means something else, is none.
fn own_name(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let short = name.strip_prefix("job-").unwrap_or(&name);
    let is_id = short.len() == 8 && short.bytes().all(|b| b.is_ascii_hexdigit());
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let ends = name.starts_with('-') || name.ends_with('-');
    let usual = (1..=63).contains(&name.len()) && plain && !ends;
    (usual && !is_id && !["localhost", "joblet"].contains(&name.as_str())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_are_labels_that_mean_nothing_else() {
        for (name, expected) in [
            ("db", Some("db")),
            ("My-DB_2", Some("my-db_2")),
            ("", None),
            ("two words", None),
            ("a.b", None),
            ("-a", None),
            ("localhost", None),
            ("joblet", None),
            ("deadbeef", None),
            ("job-DEADBEEF", None),
            ("job-dead", Some("job-dead")),
            ("ä", None),
        ] {
            assert_eq!(own_name(name).as_deref(), expected, "{name}");
        }
        assert_eq!(own_name(&"x".repeat(64)), None);
    }
}
