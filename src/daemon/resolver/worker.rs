//! The thread that owns the two processes and the way to front.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::name_servers::NameServers;
use super::processes::{GROUP, Places, Processes, router_name};
use super::sockets;
use super::table::Table;
use crate::cgroup::{CgroupTree, Removal};
use crate::daemon::companion::Backoff;
use crate::diag;
use crate::resolver::protocol::{Denial, FromFront, LONGEST, ToFront};
use crate::resolver::{Packets, hello};
use crate::sys::pidfd;

/// How long front has for its first word, for room in its socket, and for its end.
const PATIENCE: Duration = Duration::from_secs(3);
/// Until the kernel may have let go of a process.
const MOMENT: Duration = Duration::from_millis(5);
/// How soon a broken way is made anew.
const AGAIN: Duration = Duration::from_millis(50);

/// A request to the thread.
#[derive(Debug)]
pub(super) enum Order {
    /// Jobs have this router.
    Router(OwnedFd),
    /// All jobs of an earlier daemon are known.
    Open,
    /// The way to front is broken or full.
    Mend,
    /// The daemon ends; `true`: jobs go on, and so do the processes.
    Stop(bool),
}

/// The parts that the thread is made of.
pub(super) struct Parts {
    /// The jobs that front is to know.
    pub(super) table: Arc<Table>,
    /// Requests of other threads.
    pub(super) orders: Receiver<Order>,
    /// Is readable when there are some.
    pub(super) wake: Arc<OwnedFd>,
    /// The groups of the jobs.
    pub(super) tree: Arc<CgroupTree>,
    /// The directory `<dataDir>/run`, which holds the sockets.
    pub(super) run_dir: PathBuf,
    /// The user id of the processes.
    pub(super) user: u32,
    /// The private ranges that the configuration opens.
    pub(super) opened: Vec<(Ipv4Addr, u8)>,
    /// Takes the denials that the processes report.
    pub(super) report: Box<dyn Fn(Denial) + Send>,
}

/// The thread's state.
pub(super) struct Worker {
    parts: Parts,
    places: Places,
    servers: NameServers,
    router: Option<OwnedFd>,
    open: bool,
    processes: Option<Processes>,
    link: Option<Arc<Packets>>,
    backoff: Backoff,
    start_at: Option<Instant>,
}

impl Worker {
    /// A thread that has no router yet.
    pub(super) fn new(parts: Parts) -> Self {
        let places = Places::new(&parts.run_dir);
        let (router, processes, link, start_at) = Default::default();
        let (servers, backoff) = (NameServers::new(), Backoff::new());
        Worker { parts, places, servers, router, open: false, processes, link, backoff, start_at }
    }

    /// Works until the daemon ends.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            while let Ok(order) = self.parts.orders.try_recv() {
                match order {
                    Order::Router(router) => {
                        (self.router, self.start_at) = (Some(router), Some(Instant::now()))
                    }
                    Order::Open => self.open = true,
                    Order::Mend => {}
                    Order::Stop(goes_on) => return self.stop(goes_on),
                }
            }
            if self.servers.look() {
                self.tell_host();
            }
            self.watch();
            let now = Instant::now();
            if self.open && self.router.is_some() && self.start_at.is_some_and(|at| at <= now) {
                self.begin(now);
            }
        }
    }

    /// Waits for whatever comes first.
    fn wait(&self) {
        let mut fds = vec![PollFd::new(&*self.parts.wake, PollFlags::IN)];
        fds.extend(self.servers.events().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.link.as_ref().map(|link| PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)));
        let both = self.processes.iter().flat_map(|processes| &processes.both);
        fds.extend(both.map(|process| PollFd::new(&process.pidfd, PollFlags::IN)));
        let due = self.start_at.filter(|_| self.open && self.router.is_some());
        let left = due.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        if let Err(why) = poll(&mut fds, left.as_ref())
            && why != rustix::io::Errno::INTR
        {
            diag::limited!(Level::Error, "the resolver thread cannot wait", error = why);
        }
        let _ = rustix::io::read(&*self.parts.wake, &mut [0; 8]);
    }

    /// Looks at the processes and hears what front says.
    fn watch(&mut self) {
        if let Some(how) = self.processes.as_ref().and_then(Processes::ended) {
            let lived = self.processes.take().map_or(Duration::ZERO, |processes| processes.since.elapsed());
            self.disconnect();
            self.later(lived, "the resolver of jobs' names has ended", &how);
        }
        if self.link.is_some() && !self.hear() {
            self.disconnect();
        }
        // A job was not told of.
        if self.link.is_some() && !self.parts.table.is_connected() {
            self.synchronise();
        }
    }

    /// Hears what front says; `false`: it is gone, or says what is no message.
    fn hear(&self) -> bool {
        let mut buffer = vec![0; LONGEST];
        loop {
            let Some(link) = &self.link else { return false };
            match link.receive(&mut buffer).map(|bytes| bytes.map(FromFront::decode)) {
                Ok(None) => return true,
                Ok(Some(Ok(FromFront::Denied(denial)))) => (self.parts.report)(denial),
                Ok(Some(Ok(FromFront::Reported(number)))) => self.parts.table.denials_heard(number),
                Ok(Some(Ok(FromFront::Hello(_)))) => {}
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
    }

    fn disconnect(&mut self) {
        self.parts.table.connect(None);
        self.link = None;
        self.start_at.get_or_insert(Instant::now() + AGAIN);
    }

    fn later(&mut self, lived: Duration, what: &'static str, why: &dyn std::fmt::Display) {
        let wait = self.backoff.after(lived);
        self.start_at = Some(Instant::now() + wait);
        diag::event!(Level::Error, what, reason = why, nextStart = format!("{wait:?}"));
    }

    /// Finds the processes of an earlier daemon, or starts them.
    fn begin(&mut self, now: Instant) {
        self.start_at = None;
        if self.link.is_none() {
            self.connect(now);
        }
        self.parts.table.settle();
    }

    fn connect(&mut self, now: Instant) {
        let found = self.find();
        let is_new = found.is_none();
        let link = found.map_or_else(|| self.start(), Ok);
        match link {
            Ok(link) => {
                self.link = Some(Arc::new(link));
                self.synchronise();
                if self.link.is_some() {
                    let what =
                        if is_new { "started the resolver of jobs' names" } else { "took over the resolver" };
                    diag::event!(Level::Info, what, waited = format!("{:?}", now.elapsed()));
                }
            }
            Err(why) => {
                if let Some(processes) = self.processes.take() {
                    processes.kill();
                }
                self.later(Duration::ZERO, "cannot start the resolver of jobs' names", &why);
            }
        }
    }

    /// The way to processes that live, if they are of this version and of this router. Others are ended.
    fn find(&mut self) -> Option<Packets> {
        let wanted = self.router.as_ref().and_then(|router| router_name(router.as_fd()).ok())?;
        if let Ok(link) = sockets::connect_to(&self.places.socket) {
            if greeting(&link).is_ok_and(|said| said == hello(&wanted)) {
                return Some(link);
            }
            if ToFront::Stop.encode().is_some_and(|stop| link.send(&stop).is_ok()) {
                await_end(&link);
            }
        }
        if let Some(processes) = self.processes.take() {
            processes.kill();
        }
        self.places.end_left();
        None
    }

    fn start(&mut self) -> io::Result<Packets> {
        let router = self.router.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let processes = Processes::start(router.as_fd(), &self.places, self.parts.user)?;
        processes.set_apart(&self.parts.tree);
        let link = sockets::connect_to(&self.places.socket);
        let said = link.and_then(|link| greeting(&link).map(|_| link));
        // It may have said why it cannot.
        let said = said.map_err(|why| processes.ended().map_or(why, io::Error::other));
        self.processes = Some(processes);
        said
    }

    fn tell_host(&self) {
        let message = ToFront::Host(self.servers.known().to_vec(), self.parts.opened.clone());
        if let (Some(link), Some(record)) = (&self.link, message.encode()) {
            // Where there is no room, the next synchronisation tells it.
            if link.send(&record).is_err() {
                self.parts.table.connect(None);
            }
        }
    }

    /// Tells front everything.
    fn synchronise(&mut self) {
        let Some(link) = self.link.clone() else { return };
        self.parts.table.connect(Some(link.clone()));
        self.tell_host();
        let told = self.parts.table.addresses().into_iter().all(|address| {
            self.parts.table.tell(&link, address)
                || (has_room(&link) && self.parts.table.tell(&link, address))
        });
        let synced = ToFront::Synced.encode().unwrap_or_default();
        let done = told && (link.send(&synced).is_ok() || (has_room(&link) && link.send(&synced).is_ok()));
        if !done {
            self.disconnect();
        }
    }

    fn stop(mut self, goes_on: bool) {
        self.parts.table.connect(None);
        if goes_on {
            return;
        }
        if let Some(link) = self.link.take()
            && ToFront::Stop.encode().is_some_and(|stop| link.send(&stop).is_ok())
        {
            await_end(&link);
        }
        if let Some(processes) = self.processes.take() {
            for process in &processes.both {
                // Pin ends when front has.
                let _ = poll(
                    &mut [PollFd::new(&process.pidfd, PollFlags::IN)],
                    Timespec::try_from(PATIENCE).ok().as_ref(),
                );
                pidfd::kill_and_reap(process.pidfd.as_fd());
            }
        }
        self.places.end_left();
        self.remove_group();
    }

    /// The kernel may need a moment to let go of the last process.
    fn remove_group(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.parts.tree.remove_program(GROUP) {
                Ok(Removal::Busy) if Instant::now() < deadline => pause(MOMENT),
                Ok(_) => return,
                Err(why) => {
                    return diag::event!(Level::Warn, "cannot remove the resolver's group", error = why);
                }
            }
        }
    }
}

fn pause(time: Duration) {
    let _ = poll(&mut [], Timespec::try_from(time).ok().as_ref());
}

fn is_ready(link: &Packets, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(link.as_fd(), flags)];
    poll(&mut fds, Timespec::try_from(PATIENCE).ok().as_ref()).is_ok_and(|ready| ready > 0)
}

fn has_room(link: &Packets) -> bool {
    is_ready(link, PollFlags::OUT)
}

/// Front's first word.
fn greeting(link: &Packets) -> io::Result<String> {
    if !is_ready(link, PollFlags::IN) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = vec![0; LONGEST];
    match link.receive(&mut buffer)?.map(FromFront::decode) {
        Some(Ok(FromFront::Hello(said))) => Ok(said),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits for the end of a front that has its order to end; messages from it are lost.
fn await_end(link: &Packets) {
    let mut buffer = vec![0; LONGEST];
    while is_ready(link, PollFlags::IN) && link.receive(&mut buffer).is_ok() {}
}
