//! The lists of jobs, as elements of the router's sets.
//!
//! A job with a list is an element of [`LISTED`], its ranges are elements of [`EGRESS_NETS`] and
//! [`EGRESS_DENIED`], and the addresses of its names come into [`EGRESS`] as it asks for them. Everything is
//! under the job's IPv4 address, which names it in IPv6 too, so that it must be gone before another job gets that address.

use std::net::{IpAddr, Ipv4Addr};

use super::denials::{self, Entry};
use super::egress::{List, Window};
use super::error::{NetworkError, changing};
use super::rules::{
    DENIALS, DENIALS6, EGRESS, EGRESS_DENIED, EGRESS_DENIED6, EGRESS_NETS, EGRESS_NETS6, EGRESS6, LISTED,
    LISTS, TABLE,
};
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
        let pins: &[_] = if forget_names { &[&EGRESS, &EGRESS6] } else { &[] };
        let sets = [&[&EGRESS_NETS, &EGRESS_DENIED, &EGRESS_NETS6, &EGRESS_DENIED6], pins].concat();
        self.remove(&sets, |other| other == job, |t| add(t, job, list))
    }

    /// Removes all that is there of jobs, their denials too. `gone` says of an address whether its job is gone.
    ///
    /// # Errors
    /// The kernel's refusal; everything stays.
    pub fn clear(&mut self, gone: impl Fn(Ipv4Addr) -> bool) -> Result<(), NetworkError> {
        self.remove(&[&LISTS[..], &[&DENIALS, &DENIALS6]].concat(), gone, |_| {})
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
    for (sets, windows) in [
        ([&EGRESS_NETS, &EGRESS_NETS6], list.windows()),
        ([&EGRESS_DENIED, &EGRESS_DENIED6], list.denied_windows()),
    ] {
        let (four, six): (Vec<_>, Vec<_>) = windows.iter().partition(|window| window.addresses.0.is_ipv4());
        t.add_elements(TABLE, sets[0], &ranges(job, &four));
        t.add_elements(TABLE, sets[1], &ranges(job, &six));
    }
}

fn ranges(job: Ipv4Addr, windows: &[&Window]) -> Vec<Element> {
    let key = |address: IpAddr, port: u16| {
        let address = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        [&job.octets()[..], &address, &port.to_be_bytes(), &[0, 0]].concat()
    };
    let of = |window: &&Window| {
        let ((first, last), ports) = (window.addresses, window.ports);
        Element::range(&key(first, ports.0), &key(last, ports.1))
    };
    windows.iter().map(of).collect()
}
