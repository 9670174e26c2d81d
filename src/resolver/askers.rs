//! The jobs that ask, and what becomes of a question by its name alone: pure, without a socket.
//!
//! A job knows the names of its own network: `job-<id8>`, `<id8>` and what `--name` says, each also with `.joblet` behind
//! it. Names below `joblet` and names of one label are never sent on: they are of this host or of nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Question, Record, code, extended, kind};
use super::name::Name;
use super::protocol::{Asker, within};
use crate::job::egress::{List, Ports, Verdict};
use crate::network::ipv6::{image, of_image};

/// The domain of all jobs.
const DOMAIN: &str = "joblet";
/// Addresses of one answer: several jobs may have one name.
const MOST_ADDRESSES: usize = 16;

/// A network, by its first address and its prefix.
type Range = (Ipv4Addr, u8);

/// A job that the daemon has named.
#[derive(Debug)]
pub(super) struct Job {
    range: Range,
    together: bool,
    inner: bool,
    ipv6: bool,
    names: Vec<String>,
    /// Destinations that it may reach; `None`: everything outside.
    pub(super) list: Option<List>,
}

/// The jobs that ask.
#[derive(Debug, Default)]
pub(super) struct Askers {
    jobs: BTreeMap<Ipv4Addr, Job>,
    names: BTreeMap<(Range, String), Vec<Ipv4Addr>>,
}

/// The fate of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// We know the answer: its code, its records, and why it is not a better one.
    Ours(u8, Vec<Record>, Option<u16>),
    /// The job may not have the answer; it is counted.
    Denied(u8),
    /// The name server knows, and its answer goes to the job as it is.
    Forward,
    /// The name server knows, and of its answer the job gets what its list allows, at these ports.
    Look(Ports),
}

impl Askers {
    /// Takes a job, in place of the one that had its address. A list that is none allows nothing.
    pub(super) fn insert(&mut self, asker: Asker) {
        self.remove(asker.address);
        let Asker { address, range, together, inner, ipv6, names, list } = asker;
        for name in &names {
            self.names.entry((range, name.clone())).or_default().push(address);
        }
        let list = list.map(|texts| List::parse(&texts).unwrap_or_default());
        self.jobs.insert(address, Job { range, together, inner, ipv6, names, list });
    }

    /// Forgets a job.
    pub(super) fn remove(&mut self, address: Ipv4Addr) {
        let Some(job) = self.jobs.remove(&address) else { return };
        for name in job.names {
            let key = (job.range, name);
            if let Some(addresses) = self.names.get_mut(&key) {
                addresses.retain(|other| *other != address);
                if addresses.is_empty() {
                    self.names.remove(&key);
                }
            }
        }
    }

    /// The job of an address.
    pub(super) fn get(&self, address: Ipv4Addr) -> Option<&Job> {
        self.jobs.get(&address)
    }

    /// Addresses of all jobs.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.jobs.keys().copied()
    }

    /// Decides on a question of the job with this address; `None`: there is no such job.
    pub(super) fn decide(&self, address: Ipv4Addr, question: &Question) -> Option<Decision> {
        let job = self.jobs.get(&address)?;
        let name = question.name.to_string();
        let own = self.own(address, job, question, &name);
        Some(own.unwrap_or_else(|| beyond(job, question.kind, &name)))
    }

    /// The answer to a question that is about this host or its jobs.
    fn own(&self, address: Ipv4Addr, job: &Job, question: &Question, name: &str) -> Option<Decision> {
        let ours = |code, records| Some(Decision::Ours(code, records, None));
        if let Some(asked) = reverse(name, job.ipv6) {
            let other = self.jobs.get(&asked).filter(|other| sees((address, job), (asked, other)));
            let pointer = |other: &Job| Name::of(&format!("{}.{DOMAIN}", other.names.first()?));
            return match other.and_then(pointer) {
                Some(pointer) if question.kind == kind::PTR => {
                    ours(code::NOERROR, vec![Record::pointer(&question.name, &pointer)])
                }
                Some(_) => ours(code::NOERROR, vec![]),
                None if self.jobs.values().any(|job| within(job.range, asked)) => {
                    ours(code::NXDOMAIN, vec![])
                }
                None => None,
            };
        }
        if name == "localhost" || name.ends_with(".localhost") {
            let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            return ours(code::NOERROR, addresses(question, own.into_iter()));
        }
        let below = name.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let label = below.unwrap_or(name);
        if below.is_none() && (name.contains('.') || name.is_empty()) {
            return None;
        }
        let named = self.names.get(&(job.range, label.to_owned()));
        let seen = |other: &Ipv4Addr| {
            let other = (*other, self.jobs.get(other)?);
            sees((address, job), other).then_some(other.0)
        };
        let found: Vec<Ipv4Addr> =
            named.into_iter().flatten().filter_map(seen).take(MOST_ADDRESSES).collect();
        if found.is_empty() {
            return ours(code::NXDOMAIN, vec![]);
        }
        let images =
            found.iter().filter(|other| job.ipv6 && self.jobs.get(other).is_some_and(|other| other.ipv6));
        let images = images.map(|address| IpAddr::V6(image(*address)));
        ours(
            code::NOERROR,
            addresses(question, found.iter().map(|address| IpAddr::V4(*address)).chain(images)),
        )
    }
}

/// Whether a job knows the names of another one.
fn sees((own, job): (Ipv4Addr, &Job), (other, of): (Ipv4Addr, &Job)) -> bool {
    own == other || (job.together && job.range == of.range)
}

/// The addresses of the kind that the question is for; other records of ours do not exist.
fn addresses(question: &Question, found: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let records = found.map(|address| Record::address(&question.name, address));
    records.filter(|record| record.kind == question.kind).collect()
}

/// The IPv4 address that a name of the reverse tree speaks of, where it has IPv6 also by its image.
fn reverse(name: &str, ipv6: bool) -> Option<Ipv4Addr> {
    if let Some(name) = name.strip_suffix(".ip6.arpa") {
        let mut number = 0;
        let digits = name.split('.').rev().map(|digit| {
            let value = digit.chars().next().filter(|_| digit.len() == 1)?.to_digit(16)?;
            number = number << 4 | u128::from(value);
            Some(())
        });
        let all = digits.collect::<Option<Vec<_>>>()?.len() == 32;
        return of_image(number.into()).filter(|_| all && ipv6);
    }
    let mut octets: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.split('.').collect();
    octets.reverse();
    octets.join(".").parse().ok()
}

/// The fate of a question about the outside.
fn beyond(job: &Job, kind: u16, name: &str) -> Decision {
    // A program that asks for both kinds of addresses waits for the slower answer.
    let useless = kind == kind::AAAA && !job.ipv6;
    let nothing = |why| Decision::Ours(code::NOERROR, vec![], why);
    if job.inner {
        // A name server outside would hear what the job has to say.
        return Decision::Ours(code::NXDOMAIN, vec![], Some(extended::BLOCKED));
    }
    let Some(list) = &job.list else {
        return if useless { nothing(None) } else { Decision::Forward };
    };
    let Verdict::Allowed(ports) = list.allows_name(name, None) else {
        return Decision::Denied(code::NXDOMAIN);
    };
    match kind {
        kind::AAAA if useless => nothing(None),
        // They carry addresses of their own, which the job could not reach; without them it asks for A.
        kind::HTTPS | kind::SVCB => nothing(Some(extended::FILTERED)),
        kind::A
        | kind::AAAA
        | kind::CNAME
        | kind::MX
        | kind::SRV
        | kind::TXT
        | kind::PTR
        | kind::NS
        | kind::SOA
        | kind::CAA => Decision::Look(ports),
        _ => Decision::Denied(code::NOERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: Range = (Ipv4Addr::new(10, 50, 0, 0), 24);
    const OTHER: Range = (Ipv4Addr::new(10, 60, 0, 0), 24);
    const ALONE: Range = (Ipv4Addr::new(172, 21, 0, 0), 16);
    const SIX: Range = (Ipv4Addr::new(172, 20, 0, 0), 16);

    fn question(name: &str, kind: u16) -> Question {
        let bytes = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], Name::of(name).unwrap().bytes()].concat();
        Question::read(&[&bytes[..], &kind.to_be_bytes(), &[0, 1]].concat()).unwrap()
    }

    fn job(address: [u8; 4], range: Range, names: &[&str], list: Option<&[&str]>) -> Asker {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Asker {
            address: address.into(),
            range,
            together: range != ALONE,
            inner: range == OTHER,
            ipv6: range == SIX,
            names: texts(names),
            list: list.map(texts),
        }
    }

    fn askers() -> Askers {
        let mut askers = Askers::default();
        for job in [
            job([10, 50, 0, 2], LAB, &["job-aaaaaaaa", "aaaaaaaa", "db"], None),
            job([10, 50, 0, 3], LAB, &["job-bbbbbbbb", "bbbbbbbb", "web"], None),
            job(
                [10, 50, 0, 4],
                LAB,
                &["job-cccccccc", "cccccccc", "web"],
                Some(&["example.org", "*.lib.org:443"]),
            ),
            job([10, 60, 0, 2], OTHER, &["job-dddddddd", "dddddddd", "db"], None),
            job([172, 21, 0, 2], ALONE, &["job-eeeeeeee", "eeeeeeee"], None),
            job([172, 21, 0, 3], ALONE, &["job-ffffffff", "ffffffff"], None),
        ] {
            askers.insert(job);
        }
        askers
    }

    /// The code and the addresses of an answer of ours.
    fn asks(askers: &Askers, from: [u8; 4], name: &str) -> (u8, Vec<Ipv4Addr>) {
        match askers.decide(from.into(), &question(name, kind::A)) {
            Some(Decision::Ours(code, records, _)) => {
                (code, records.iter().filter_map(Record::ipv4).collect())
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn names_are_those_of_the_own_network() {
        let askers = askers();
        let found = |address: [u8; 4]| (code::NOERROR, vec![address.into()]);
        let nobody = (code::NXDOMAIN, vec![]);
        for name in ["job-aaaaaaaa", "aaaaaaaa", "db", "DB.joblet", "job-AAAAAAAA.joblet"] {
            assert_eq!(asks(&askers, [10, 50, 0, 3], name), found([10, 50, 0, 2]), "{name}");
            assert_ne!(asks(&askers, [10, 60, 0, 2], name), found([10, 50, 0, 2]), "{name}");
        }
        assert_eq!(asks(&askers, [10, 60, 0, 2], "db"), found([10, 60, 0, 2]));
        assert_eq!(asks(&askers, [10, 60, 0, 2], "job-aaaaaaaa"), nobody);
        for name in ["nobody", "nobody.joblet", "a.b.joblet", "joblet"] {
            assert_eq!(asks(&askers, [10, 50, 0, 2], name), nobody, "{name}");
        }
        let both = vec![[10, 50, 0, 3].into(), [10, 50, 0, 4].into()];
        assert_eq!(asks(&askers, [10, 50, 0, 2], "web"), (code::NOERROR, both));
        // Apart from each other, a job knows itself.
        assert_eq!(asks(&askers, [172, 21, 0, 2], "job-eeeeeeee"), found([172, 21, 0, 2]));
        assert_eq!(asks(&askers, [172, 21, 0, 2], "job-ffffffff"), nobody);
        assert_eq!(asks(&askers, [172, 21, 0, 2], "localhost"), found([127, 0, 0, 1]));
        assert_eq!(askers.decide([10, 50, 0, 9].into(), &question("db", kind::A)), None);
    }

    #[test]
    fn addresses_have_names_within_their_network() {
        let askers = askers();
        let ask = |from: [u8; 4], name| askers.decide(from.into(), &question(name, kind::PTR));
        let Some(Decision::Ours(code::NOERROR, records, None)) =
            ask([10, 50, 0, 3], "2.0.50.10.in-addr.arpa")
        else {
            panic!("no name");
        };
        let expected = Name::of("job-aaaaaaaa.joblet").unwrap();
        assert_eq!((records[0].kind, &records[0].data[..]), (kind::PTR, expected.bytes()));
        let nobody = Some(Decision::Ours(code::NXDOMAIN, vec![], None));
        assert_eq!(ask([10, 60, 0, 2], "2.0.50.10.in-addr.arpa"), nobody, "of another network");
        assert_eq!(ask([10, 50, 0, 2], "77.0.50.10.in-addr.arpa"), nobody, "of nobody");
        assert_eq!(ask([10, 50, 0, 2], "8.8.8.8.in-addr.arpa"), Some(Decision::Forward));
        assert_eq!(ask([10, 50, 0, 4], "8.8.8.8.in-addr.arpa"), Some(Decision::Denied(code::NXDOMAIN)));
    }

    #[test]
    fn lists_decide_by_the_name_that_was_asked_for() {
        let askers = askers();
        let listed = |name, kind| askers.decide([10, 50, 0, 4].into(), &question(name, kind)).unwrap();
        assert_eq!(listed("example.org", kind::A), Decision::Look(Ports::All));
        assert_eq!(listed("a.b.lib.org", kind::A), Decision::Look(Ports::These(vec![443])));
        assert_eq!(listed("example.org", kind::AAAA), Decision::Ours(code::NOERROR, vec![], None));
        for (name, kind, code) in [
            ("evil.org", kind::A, code::NXDOMAIN),
            ("evil.org", kind::AAAA, code::NXDOMAIN),
            ("evil.org", kind::TXT, code::NXDOMAIN),
            ("sub.example.org", kind::A, code::NXDOMAIN),
            ("lib.org", kind::A, code::NXDOMAIN),
            ("example.org", 10, code::NOERROR),  // NULL
            ("example.org", 255, code::NOERROR), // ANY
            ("example.org", 252, code::NOERROR), // AXFR
        ] {
            assert_eq!(listed(name, kind), Decision::Denied(code), "{name} {kind}");
        }
        let inner = askers.decide([10, 60, 0, 2].into(), &question("example.org", kind::A));
        assert_eq!(inner, Some(Decision::Ours(code::NXDOMAIN, vec![], Some(extended::BLOCKED))));
        let free = |name, kind| askers.decide([10, 50, 0, 2].into(), &question(name, kind)).unwrap();
        assert_eq!(free("evil.org", 10), Decision::Forward);
        assert_eq!(free("evil.org", kind::AAAA), Decision::Ours(code::NOERROR, vec![], None));
    }

    #[test]
    fn jobs_with_ipv6_have_names_and_answers_of_it() {
        let mut askers = askers();
        askers.insert(job([172, 20, 0, 5], SIX, &["job-11111111", "web"], None));
        askers.insert(job([172, 20, 0, 6], SIX, &["job-22222222"], Some(&["*.lib.org:443"])));
        let ask =
            |from: [u8; 4], name: &str, kind| askers.decide(from.into(), &question(name, kind)).unwrap();
        let found = |decision| -> Vec<IpAddr> {
            match decision {
                Decision::Ours(code::NOERROR, records, None) => {
                    records.iter().filter_map(Record::ip).collect()
                }
                other => panic!("{other:?}"),
            }
        };
        let own: Vec<IpAddr> = vec![image([172, 20, 0, 5].into()).into()];
        assert_eq!(found(ask([172, 20, 0, 6], "web", kind::AAAA)), own);
        assert_eq!(found(ask([172, 20, 0, 6], "web", kind::A)), [IpAddr::from([172, 20, 0, 5])]);
        assert_eq!(found(ask([172, 20, 0, 6], "localhost", kind::AAAA)), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert!(found(ask([10, 50, 0, 2], "db", kind::AAAA)).is_empty(), "without IPv6");
        let digits: String =
            image([172, 20, 0, 5].into()).octets().iter().map(|b| format!("{b:02x}")).collect();
        let reversed =
            |digits: &str| digits.chars().rev().map(|d| format!("{d}.")).collect::<String>() + "ip6.arpa";
        let Decision::Ours(code::NOERROR, records, None) =
            ask([172, 20, 0, 6], &reversed(&digits), kind::PTR)
        else {
            panic!("no name");
        };
        assert_eq!(records[0].data, Name::of("job-11111111.joblet").unwrap().bytes());
        for other in [&digits[1..], &digits.replace("fd6a", "fd6b")] {
            assert_eq!(ask([172, 20, 0, 5], &reversed(other), kind::PTR), Decision::Forward, "{other}");
        }
        assert_eq!(ask([172, 20, 0, 5], "example.org", kind::AAAA), Decision::Forward);
        let these = Ports::These(vec![443]);
        assert_eq!(ask([172, 20, 0, 6], "a.lib.org", kind::AAAA), Decision::Look(these));
        assert_eq!(ask([172, 20, 0, 6], "evil.org", kind::AAAA), Decision::Denied(code::NXDOMAIN));
    }

    #[test]
    fn jobs_that_are_gone_have_no_names() {
        let mut askers = askers();
        askers.remove([10, 50, 0, 3].into());
        assert_eq!(asks(&askers, [10, 50, 0, 2], "web").1, [Ipv4Addr::new(10, 50, 0, 4)]);
        askers.insert(job([10, 50, 0, 4], LAB, &["job-cccccccc"], None));
        assert_eq!(asks(&askers, [10, 50, 0, 2], "web").0, code::NXDOMAIN);
        for address in askers.addresses().collect::<Vec<_>>() {
            askers.remove(address);
        }
        assert!(askers.names.is_empty() && askers.jobs.is_empty());
    }
}
