//! One entry of a list: a name, names below one, or a range of addresses, with a port or without, allowed or denied.

use std::fmt;
use std::net::IpAddr;

use super::prefix::Prefix;

/// Longest name (RFC 1035, without the root's dot) and longest label.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Characters of a longer text that an error shows.
const SHOWN: usize = 100;

/// The destinations that an entry speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// This name, in lower case.
    Name(String),
    /// All names below this one, at any depth, and not itself.
    Below(String),
    /// Every name that there is.
    EveryName,
    /// Addresses, asked for by no name.
    Range(Prefix),
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Whether it denies.
    pub denies: bool,
    /// The destinations that the entry names.
    pub target: Target,
    /// The only port; `None`: all ports.
    pub port: Option<u16>,
}

impl Entry {
    /// Reads an entry that is no preset.
    ///
    /// # Errors
    /// The reason, as a clause that says what to write.
    pub fn parse(text: &str) -> Result<Entry, String> {
        let (denies, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        if let Some(bad) = rest.chars().find(|c| c.is_whitespace() || c.is_control() || *c == ',') {
            return Err(format!("it has a {:?} in it; entries are separated by commas without blanks", bad));
        }
        if !rest.is_ascii() {
            return Err(
                "only ASCII names are taken; write the name as the resolver asks for it (xn--...)".into()
            );
        }
        if rest.contains("://") || (rest.contains('/') && !rest.contains(|c: char| c.is_ascii_digit())) {
            return Err("it is a URL; write the name of the host alone, or with :PORT".into());
        }
        let (target, port) = target_and_port(rest)?;
        if denies && port.is_some() && !matches!(target, Target::Range(_)) {
            return Err("a denied name is denied for all ports; leave the port out".into());
        }
        Ok(Entry { denies, target, port })
    }

    /// Whether the entry speaks of this name, which is in lower case without a dot at its end.
    pub fn matches_name(&self, name: &str) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Below(parent) => is_below(name, parent),
            Target::EveryName => true,
            Target::Range(_) => false,
        }
    }

    /// The range, where the entry speaks of addresses.
    pub fn range(&self) -> Option<Prefix> {
        if let Target::Range(range) = self.target { Some(range) } else { None }
    }

    /// Whether every destination of `other` is one of this entry's; allowed or denied does not count.
    pub fn covers(&self, other: &Entry) -> bool {
        let target = match (&self.target, &other.target) {
            (Target::Range(own), Target::Range(other)) => own.covers(*other),
            (Target::Range(_), _) | (_, Target::Range(_)) => false,
            (Target::EveryName, _) => true,
            (Target::Name(own), Target::Name(other)) => own == other,
            (Target::Below(parent), Target::Name(name)) => is_below(name, parent),
            (Target::Below(own), Target::Below(other)) => own == other || is_below(other, own),
            (Target::Name(_) | Target::Below(_), _) => false,
        };
        target && (self.port.is_none() || self.port == other.port)
    }

    /// Whether the entries have a destination in common.
    pub fn meets(&self, other: &Entry) -> bool {
        let target = match (&self.target, &other.target) {
            (Target::Range(own), Target::Range(other)) => own.overlaps(*other),
            (Target::Range(_), _) | (_, Target::Range(_)) => false,
            (Target::EveryName, _) | (_, Target::EveryName) => true,
            (Target::Name(own), _) => other.matches_name(own),
            (_, Target::Name(other)) => self.matches_name(other),
            (Target::Below(own), Target::Below(other)) => {
                own == other || is_below(own, other) || is_below(other, own)
            }
        };
        target && (self.port.is_none() || other.port.is_none() || self.port == other.port)
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn target_and_port(text: &str) -> Result<(Target, Option<u16>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (range, rest) = rest.split_once(']').ok_or("a '[' has no ']'")?;
        let port = match rest {
            "" => None,
            rest => Some(port(rest.strip_prefix(':').ok_or("behind ']' stands :PORT or nothing")?)?),
        };
        return match range.parse::<Prefix>()? {
            range if range.first().is_ipv6() => Ok((Target::Range(range), port)),
            range => Err(format!("brackets are for IPv6; write {range} or {range}:PORT")),
        };
    }
    // Without brackets an address of IPv6 has no port: its last group would look like one.
    if text.matches(':').count() > 1 {
        return Ok((
            Target::Range(
                text.parse::<Prefix>()
                    .map_err(|why| format!("{why}; a port of IPv6 is written [ADDRESS]:PORT"))?,
            ),
            None,
        ));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => (text, None),
    };
    if host.contains('/') || host.parse::<IpAddr>().is_ok() {
        return Ok((Target::Range(host.parse()?), port));
    }
    Ok((name(host)?, port))
}

fn port(digits: &str) -> Result<u16, String> {
    let number = digits.parse::<u16>().ok().filter(|number| *number > 0);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number.filter(|_| plain).ok_or_else(|| "the port is no number from 1 to 65535".into())
}

fn name(text: &str) -> Result<Target, String> {
    if text == "*" {
        return Ok(Target::EveryName);
    }
    let lower = plain(text);
    let (below, name) = lower.strip_prefix("*.").map_or((false, &*lower), |parent| (true, parent));
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err("a name has 1 to 253 characters".into());
    }
    if name.contains('*') {
        return Err("'*' stands in front only, as in *.example.org".into());
    }
    for label in name.split('.') {
        check_label(label)?;
    }
    // Resolvers take 127.1, 0x7f000001 and 017700000001 for addresses.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err("it is neither a name nor an address; an IPv4 address has four numbers to 255".into());
    }
    Ok(if below { Target::Below(name.to_owned()) } else { Target::Name(name.to_owned()) })
}

/// A name as it is compared: in lower case, without the root's dot.
pub(super) fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() || label.len() > LONGEST_LABEL {
        return Err("between the dots of a name stand 1 to 63 characters".into());
    }
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("a name has letters, digits, '-', '_' and dots only".into());
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("no part of a name begins or ends with '-'".into());
    }
    Ok(())
}

/// A text of somebody else as an error shows it.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", short.escape_debug())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denies {
            f.write_str("!")?;
        }
        match (&self.target, self.port) {
            (Target::Name(name), _) => f.write_str(name)?,
            (Target::Below(name), _) => write!(f, "*.{name}")?,
            (Target::EveryName, _) => f.write_str("*")?,
            (Target::Range(range), Some(_)) if range.first().is_ipv6() => write!(f, "[{range}]")?,
            (Target::Range(range), _) => write!(f, "{range}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
