//! Egress lists: what a networked job may reach outside its network. Pure: no kernel, no clock.
//!
//! ```text
//! example.org          this name, all ports          10.1.0.0/16          these addresses, all ports
//! *.github.com:443     all names below, this port    1.2.3.4:5432         this address, this port
//! *                    every name                    [2001:db8::/32]:443  IPv6, with a port in this form
//! !secret.example.org  not this one                  preset:pypi          a list with a name ([`preset`])
//! ```
//!
//! **A list allows what it names, and nothing else.** A denial wins over whatever allows, in any order. A name gives the
//! addresses that the node's resolver finds for it, and only those; an address without a name must be in a range. Private
//! ranges stay closed to jobs whatever a list says, unless the node's configuration opens them.
//!
//! A list is kept as the text of its entries, in one spelling: names in lower case, without the root's dot.

mod entry;
mod prefix;
pub mod preset;
#[cfg(test)]
mod tests;
mod window;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use entry::{Entry, Target};
pub use prefix::Prefix;
pub use window::Window;

/// Entries of one list, as they are written.
pub const MOST_ENTRIES: usize = 256;
/// Longest entry in bytes: a name with everything around it.
pub const LONGEST_ENTRY: usize = 264;
/// Windows of one list: ranges cut at each other's ends, once for each port.
pub const MOST_WINDOWS: usize = 1024;
/// The only entry of a list from which the last entry was taken: it allows nothing.
const NOTHING: &str = "!*";
/// In front of the name of a list that has one.
pub const PRESET: &str = "preset:";

/// The cause for which a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The text is no entry.
    #[error("egress entry {text}: {why}")]
    Entry {
        /// The text, shortened and quoted.
        text: String,
        /// The reason, and what to write.
        why: String,
    },
    /// There is no such preset.
    #[error("egress preset {name} does not exist; there are {known}", known = preset::names())]
    Preset {
        /// The name, shortened and quoted.
        name: String,
    },
    /// The list is too long.
    #[error("an egress list has at most {MOST_ENTRIES} entries, and this one has {0}")]
    TooMany(usize),
    /// The ranges meet too often.
    #[error(
        "the ranges of an egress list make {0} pieces, at most {MOST_WINDOWS} are allowed; write fewer ranges within others, or fewer ports"
    )]
    TooManyWindows(usize),
    /// The node lets no job have this entry.
    #[error("egress entry {entry} is beyond what this node allows; network.egress.maximum is {maximum}")]
    Beyond {
        /// The entry that is refused.
        entry: String,
        /// The node's maximum, shortened.
        maximum: String,
    },
    /// The entry allows what the node denies, unless the list denies it too.
    #[error("egress entry {entry} contains what this node denies; add {denial} to the list")]
    ContainsDenied {
        /// The entry that is refused.
        entry: String,
        /// The node's denial, as an entry.
        denial: String,
    },
    /// The list has no such entry.
    #[error("the egress list has no entry {entry}; it is {list}")]
    Absent {
        /// The entry that was to be taken out.
        entry: String,
        /// The list, shortened.
        list: String,
    },
}

/// Ports of an allowed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// All of TCP and UDP.
    All,
    /// These, in order.
    These(Vec<u16>),
}

/// The answer to: may the job reach this name?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// At these ports.
    Allowed(Ports),
    /// An entry denies it.
    Denied,
    /// No entry speaks of it.
    Unlisted,
}

/// A list in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct List {
    written: Vec<String>,
    entries: Vec<Entry>,
}

impl List {
    /// Reads a list, one entry a text. An entry that is there twice counts once.
    ///
    /// # Errors
    /// The first entry that is wrong, and what to write; or too many.
    pub fn parse(texts: &[String]) -> Result<List, EgressError> {
        if texts.len() > MOST_ENTRIES {
            return Err(EgressError::TooMany(texts.len()));
        }
        let mut list = List::default();
        texts.iter().try_for_each(|text| list.push(text))?;
        let windows = list.windows().len() + list.denied_windows().len();
        if windows > MOST_WINDOWS { Err(EgressError::TooManyWindows(windows)) } else { Ok(list) }
    }

    fn push(&mut self, text: &str) -> Result<(), EgressError> {
        let (written, entries) = read(text)?;
        if self.written.contains(&written) {
            return Ok(());
        }
        if self.written.len() == MOST_ENTRIES {
            return Err(EgressError::TooMany(MOST_ENTRIES + 1));
        }
        self.written.push(written);
        self.entries.extend(entries);
        Ok(())
    }

    /// The entries as texts, presets by their name.
    pub fn texts(&self) -> &[String] {
        &self.written
    }

    /// The list with these entries added and then those taken out. An added entry replaces its own denial and the other way
    /// round. When the last one is taken out, the list allows nothing.
    ///
    /// # Errors
    /// As [`List::parse`]; or an entry to be taken out is not there.
    pub fn changed(&self, add: &[String], remove: &[String]) -> Result<List, EgressError> {
        let mut texts = self.written.clone();
        for text in add {
            let (written, _) = read(text)?;
            let opposite = written.strip_prefix('!').map_or_else(|| format!("!{written}"), str::to_owned);
            texts.retain(|text| *text != opposite && text != NOTHING);
            texts.push(written);
        }
        for text in remove {
            let (written, _) = read(text)?;
            let before = texts.len();
            texts.retain(|text| *text != written);
            if texts.len() == before {
                let list = summary(&texts);
                return Err(EgressError::Absent { entry: written, list });
            }
        }
        if texts.is_empty() {
            texts.push(NOTHING.to_owned());
        }
        List::parse(&texts)
    }

    /// Whether the list allows a name, at this port or (`None`) at any.
    pub fn allows_name(&self, name: &str, port: Option<u16>) -> Verdict {
        let name = entry::plain(name);
        let matching = || self.entries.iter().filter(|entry| entry.matches_name(&name));
        if matching().any(|entry| entry.denies) {
            return Verdict::Denied;
        }
        let mut ports: Vec<Option<u16>> = matching().map(|entry| entry.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let all = ports.first() == Some(&None);
        match port {
            _ if ports.is_empty() => Verdict::Unlisted,
            Some(port) if all || ports.contains(&Some(port)) => Verdict::Allowed(Ports::These(vec![port])),
            Some(_) => Verdict::Unlisted,
            None if all => Verdict::Allowed(Ports::All),
            None => Verdict::Allowed(Ports::These(ports.into_iter().flatten().collect())),
        }
    }

    /// Allowed ranges with their port; `None`: all ports of TCP and UDP. They may overlap.
    pub fn ranges(&self) -> impl Iterator<Item = (Prefix, Option<u16>)> {
        self.bare(false)
    }

    /// Denied ranges with their port. Neither a name nor an allowed range opens them.
    pub fn denied_ranges(&self) -> impl Iterator<Item = (Prefix, Option<u16>)> {
        self.bare(true)
    }

    /// [`List::ranges`] of both families, cut so that they meet nowhere.
    pub fn windows(&self) -> Vec<Window> {
        Self::cut(self.ranges())
    }

    /// The ranges and ports that denials close, as [`List::denied_ranges`] gives them.
    pub fn denied_windows(&self) -> Vec<Window> {
        Self::cut(self.denied_ranges())
    }

    fn cut(ranges: impl Iterator<Item = (Prefix, Option<u16>)>) -> Vec<Window> {
        let (four, six): (Vec<_>, Vec<_>) = ranges.partition(|(range, _)| range.first().is_ipv4());
        [window::windows(&four), window::windows(&six)].concat()
    }

    fn bare(&self, denies: bool) -> impl Iterator<Item = (Prefix, Option<u16>)> {
        let chosen = self.entries.iter().filter(move |entry| entry.denies == denies);
        chosen.filter_map(|entry| entry.range().map(|range| (range, entry.port)))
    }

    /// Whether the list denies the address at all ports, also where a name leads to it.
    pub fn denies_address(&self, address: IpAddr) -> bool {
        self.denied_ranges().any(|(range, port)| port.is_none() && range.contains(address))
    }

    /// Whether the list allows the address by a range.
    pub fn allows_address(&self, address: IpAddr, port: u16) -> bool {
        let holds = |(range, only): (Prefix, Option<u16>)| {
            range.contains(address) && only.is_none_or(|only| only == port)
        };
        !self.denied_ranges().any(holds) && self.ranges().any(holds)
    }

    /// Checks that the list allows nothing beyond another one.
    ///
    /// # Errors
    /// The first entry that goes beyond it.
    pub fn within(&self, maximum: &List) -> Result<(), EgressError> {
        for text in &self.written {
            let (_, entries) = read(text)?;
            for entry in entries.iter().filter(|entry| !entry.denies) {
                if !maximum.entries.iter().any(|most| !most.denies && most.covers(entry)) {
                    let entry =
                        if text.starts_with(PRESET) { format!("{text} ({entry})") } else { text.clone() };
                    return Err(EgressError::Beyond { entry, maximum: summary(&maximum.written) });
                }
                let denials = maximum.entries.iter().filter(|most| most.denies && most.meets(entry));
                for denial in denials {
                    if !self.entries.iter().any(|own| own.denies && own.covers(denial)) {
                        let denial = denial.to_string();
                        return Err(EgressError::ContainsDenied { entry: text.clone(), denial });
                    }
                }
            }
        }
        Ok(())
    }
}

/// An entry in its one spelling, and what it stands for.
fn read(text: &str) -> Result<(String, Vec<Entry>), EgressError> {
    let refuse = |why: String| EgressError::Entry { text: entry::shown(text), why };
    if text.len() > LONGEST_ENTRY {
        return Err(refuse(format!("it has {} bytes, at most {LONGEST_ENTRY} are allowed", text.len())));
    }
    if text.is_empty() {
        return Err(refuse("it is empty; leave it out".into()));
    }
    if let Some(name) = text.strip_prefix(PRESET) {
        let known = preset::entries(name).ok_or_else(|| EgressError::Preset { name: entry::shown(name) })?;
        let entries =
            known.iter().map(|text| Entry::parse(text)).collect::<Result<_, _>>().map_err(refuse)?;
        return Ok((text.to_owned(), entries));
    }
    if text.strip_prefix('!').is_some_and(|rest| rest.starts_with(PRESET)) {
        return Err(refuse("a preset is not denied as a whole; deny its names".into()));
    }
    let entry = Entry::parse(text).map_err(refuse)?;
    Ok((entry.to_string(), vec![entry]))
}

/// The first entries of a list, for an error.
fn summary(texts: &[String]) -> String {
    const SHOWN: usize = 12;
    let first = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match texts.len().checked_sub(SHOWN) {
        None | Some(0) if first.is_empty() => "empty".into(),
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}

impl TryFrom<Vec<String>> for List {
    type Error = EgressError;

    fn try_from(texts: Vec<String>) -> Result<Self, EgressError> {
        List::parse(&texts)
    }
}

impl From<List> for Vec<String> {
    fn from(list: List) -> Self {
        list.written
    }
}
