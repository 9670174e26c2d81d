//! The part of a name server's answer that a job with a list gets: pure.

use std::net::IpAddr;

use super::message::{Answer, Question, Record, kind};
use crate::job::egress::List;

/// Names that one name may stand for, one behind the other.
const LONGEST_CHAIN: usize = 16;

/// The part that the job gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Records of the name in the question, by way of those that it stands for.
    pub(super) records: Vec<Record>,
    /// The addresses among them, with the seconds that each may be kept.
    pub(super) addresses: Vec<(IpAddr, u32)>,
    /// Whether there were only addresses that the job may not have.
    pub(super) closed: bool,
}

/// Keeps the addresses to which the name in the question leads. An address for which `never` holds, or that the list
/// denies, is left out: a name that its owner moves to a private address is no way into the host's network. So are those
/// beyond `most`.
pub(super) fn keep(
    answer: &Answer,
    question: &Question,
    list: &List,
    most: usize,
    never: impl Fn(IpAddr) -> bool,
) -> Kept {
    let mut kept = Kept { records: Vec::new(), addresses: Vec::new(), closed: false };
    let mut owner = question.name.clone();
    for _ in 0..LONGEST_CHAIN {
        let alias = answer.records.iter().find(|r| r.kind == kind::CNAME && r.owner == owner);
        let Some((alias, name)) = alias.and_then(|record| Some((record, record.alias()?))) else { break };
        kept.records.push(alias.clone());
        if question.kind == kind::CNAME {
            return kept;
        }
        owner = name;
    }
    for record in answer.records.iter().filter(|r| r.kind == question.kind && r.owner == owner) {
        let Some(address) = record.ip() else {
            if ![kind::A, kind::AAAA].contains(&record.kind) {
                kept.records.push(record.clone());
            }
            continue;
        };
        if never(address) || list.denies_address(address) {
            kept.closed = true;
        } else if kept.addresses.len() < most {
            kept.addresses.push((address, record.ttl));
            kept.records.push(record.clone());
        }
    }
    kept.closed &= kept.addresses.is_empty();
    kept
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::resolver::name::Name;

    const MOST_ADDRESSES: usize = 16;

    fn record(owner: &str, kind: u16, data: &[u8]) -> Record {
        Record { owner: Name::of(owner).unwrap(), kind, ttl: 300, data: data.to_vec() }
    }

    fn alias(owner: &str, name: &str) -> Record {
        record(owner, kind::CNAME, Name::of(name).unwrap().bytes())
    }

    fn asked(kind: u16, records: Vec<Record>) -> Kept {
        let name = Name::of("example.org").unwrap();
        let bytes = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name.bytes(), &kind.to_be_bytes(), &[0, 1]];
        let question = Question::read(&bytes.concat()).unwrap();
        let list = List::parse(&["example.org".to_owned(), "!203.0.113.9".to_owned()]).unwrap();
        let never = crate::network::rules::is_never;
        keep(&Answer { code: 0, truncated: false, records }, &question, &list, MOST_ADDRESSES, never)
    }

    #[test]
    fn chain_of_names_is_followed_in_any_order() {
        let kept = asked(
            kind::A,
            vec![
                record("c.net", kind::A, &[203, 0, 113, 1]),
                record("stranger.net", kind::A, &[203, 0, 113, 2]),
                alias("b.net", "c.net"),
                alias("example.org", "b.net"),
                record("c.net", kind::TXT, b"\x01x"),
            ],
        );
        assert_eq!(kept.addresses, [(Ipv4Addr::new(203, 0, 113, 1).into(), 300)]);
        assert_eq!(kept.records.len(), 3);
        assert!(!kept.closed);
    }

    #[test]
    fn circle_of_names_ends() {
        let kept = asked(kind::A, vec![alias("example.org", "b.net"), alias("b.net", "example.org")]);
        assert!(kept.addresses.is_empty() && kept.records.len() <= 16);
    }

    #[test]
    fn private_and_denied_addresses_are_left_out() {
        let a = |octets: [u8; 4]| record("example.org", kind::A, &octets);
        let kept = asked(kind::A, vec![a([10, 0, 0, 1]), a([203, 0, 113, 1]), a([203, 0, 113, 9])]);
        assert_eq!(kept.addresses, [(Ipv4Addr::new(203, 0, 113, 1).into(), 300)]);
        assert!(!kept.closed && kept.records.len() == 1);
        let kept = asked(kind::A, vec![a([192, 168, 1, 1])]);
        assert!(kept.closed && kept.records.is_empty());
        let many = (0..100).map(|n| a([203, 0, 112, n])).collect();
        assert_eq!(asked(kind::A, many).addresses.len(), MOST_ADDRESSES);
        // An address of a wrong length is none.
        assert!(asked(kind::A, vec![record("example.org", kind::A, &[1, 2, 3])]).records.is_empty());
    }

    #[test]
    fn ipv6_addresses_are_kept_by_the_same_rules() {
        let aaaa =
            |text: &str| record("example.org", kind::AAAA, &text.parse::<Ipv6Addr>().unwrap().octets());
        let good: Ipv6Addr = "2600::8".parse().unwrap();
        let kept = asked(kind::AAAA, vec![aaaa("fd00:ec2::254"), aaaa("2600::8"), aaaa("::ffff:8.8.8.8")]);
        assert_eq!((kept.addresses, kept.records.len()), (vec![(good.into(), 300)], 1));
        let kept = asked(kind::AAAA, vec![aaaa("64:ff9b::8.8.8.8")]);
        assert!(kept.closed && kept.records.is_empty());
    }

    #[test]
    fn other_records_come_as_they_are() {
        let kept = asked(
            kind::TXT,
            vec![
                record("example.org", kind::TXT, b"\x01x"),
                record("example.org", kind::A, &[203, 0, 113, 1]),
            ],
        );
        assert_eq!((kept.records.len(), kept.addresses.len()), (1, 0));
    }
}
