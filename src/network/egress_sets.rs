//! The lists of jobs, as elements of the router's sets.
//!
//! A job with a list is an element of [`LISTED`], its ranges are elements of [`EGRESS_NETS`] and
//! [`EGRESS_DENIED`], and the addresses of its names come into [`EGRESS`] as it asks for them. Everything is
//! under the job's address, so that it must be gone before another job gets that address. Lists speak of IPv4 here: jobs have
//! nothing else.

use std::net::{IpAddr, Ipv4Addr};

use super::denials::{self, Entry};
use super::egress::{List, Window};
use super::error::{NetworkError, changing};
use super::rules::{DENIALS, EGRESS, EGRESS_DENIED, EGRESS_NETS, LISTED, TABLE};
use crate::sys::netlink::Socket;
use crate::sys::nftables::set::{Element, ElementState, Set};
use crate::sys::nftables::{Transaction, elements};

/// Tries of a removal: an element that expires between the look and the removal makes the kernel refuse all of it.
const TRIES: u32 = 20;

/// The sets, over a socket of the router.
#[derive(Debug)]
pub struct EgressSets {
    filter: Socket,
}

impl EgressSets {
    /// The sets of the router that the socket is of ([`Router::open_filter`](super::Router::open_filter)).
    pub fn new(filter: Socket) -> Self {
        EgressSets { filter }
    }

    /// Puts a list into force for a job that has not begun and whose address nobody has had since [`EgressSets::clear`].
    ///
    /// # Errors
    /// The kernel's refusal; nothing of the list is in force then.
    pub fn begin(&mut self, job: Ipv4Addr, list: &List) -> Result<(), NetworkError> {
        let mut t = Transaction::default();
        add(&mut t, job, list);
        changing(t.commit(&mut self.filter), format!("put the egress list of {job} into force"))
    }

    /// Replaces the list of a job that runs, in one transaction. `forget_names`: the addresses of names go too, and come
    /// again when the job asks for the names that it may still reach.
    ///
    /// # Errors
    /// The kernel's refusal; the list in force stays.
    pub fn change(&mut self, job: Ipv4Addr, list: &List, forget_names: bool) -> Result<(), NetworkError> {
        let pins: &[_] = if forget_names { &[&EGRESS] } else { &[] };
        let sets = [&[&EGRESS_NETS, &EGRESS_DENIED], pins].concat();
        self.remove(&sets, |other| other == job, |t| add(t, job, list))
    }

    /// Removes all that is there of jobs, their denials too. `gone` says of an address whether its job is gone.
    ///
    /// # Errors
    /// The kernel's refusal; everything stays.
    pub fn clear(&mut self, gone: impl Fn(Ipv4Addr) -> bool) -> Result<(), NetworkError> {
        self.remove(&[&LISTED, &EGRESS, &EGRESS_NETS, &EGRESS_DENIED, &DENIALS], gone, |_| {})
    }

    /// The ledger of denials as it is now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn denials(&mut self) -> Result<Vec<Entry>, NetworkError> {
        denials::read(&mut self.filter)
    }

    /// Whether a job has a list in the router.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn is_listed(&mut self, job: Ipv4Addr) -> Result<bool, NetworkError> {
        let found = changing(elements(&mut self.filter, TABLE, &LISTED), "read the listed jobs")?;
        Ok(found.iter().any(|element| source(element) == Some(job)))
    }

    /// Removes the elements of some jobs from sets, and makes other changes with it.
    fn remove(
        &mut self,
        sets: &[&Set<'_>],
        whose: impl Fn(Ipv4Addr) -> bool,
        then: impl Fn(&mut Transaction),
    ) -> Result<(), NetworkError> {
        let mut tries = 0;
        loop {
            let mut t = Transaction::default();
            for set in sets {
                let found = changing(elements(&mut self.filter, TABLE, set), "read the lists of jobs")?;
                let theirs = found.iter().filter(|element| source(element).is_some_and(&whose));
                t.remove_elements(TABLE, set, &theirs.filter_map(ElementState::as_key).collect::<Vec<_>>());
            }
            then(&mut t);
            tries += 1;
            match t.commit(&mut self.filter) {
                Err(why) if why.errno() == Some(libc::ENOENT) && tries < TRIES => {}
                done => return changing(done, "change the lists of jobs"),
            }
        }
    }
}

/// The job that an element is of: its address begins every key.
fn source(element: &ElementState) -> Option<Ipv4Addr> {
    let first: [u8; 4] = element.key.get(..4)?.try_into().ok()?;
    Some(first.into())
}

fn add(t: &mut Transaction, job: Ipv4Addr, list: &List) {
    t.add_elements(TABLE, &LISTED, &[Element::key(&job.octets())]);
    t.add_elements(TABLE, &EGRESS_NETS, &ranges(job, &list.windows()));
    t.add_elements(TABLE, &EGRESS_DENIED, &ranges(job, &list.denied_windows()));
}

fn ranges(job: Ipv4Addr, windows: &[Window]) -> Vec<Element> {
    let of = |window: &Window| {
        let (IpAddr::V4(first), IpAddr::V4(last)) = window.addresses else { return None };
        let key = |address: Ipv4Addr, port: u16| {
            [&job.octets()[..], &address.octets(), &port.to_be_bytes(), &[0, 0]].concat()
        };
        Some(Element::range(&key(first, window.ports.0), &key(last, window.ports.1)))
    };
    windows.iter().filter_map(of).collect()
}
