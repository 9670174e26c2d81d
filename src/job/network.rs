//! The network of a job: the word for it, the name of one that clients make, and the address that it has there.

use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::given_name::{self, text_of_name};
use super::publish::Published;
use super::{InvalidField, NetRate};

/// Words of modes, which no network has as its name.
const MODES: [NetworkMode; 4] =
    [NetworkMode::None, NetworkMode::Isolated, NetworkMode::Bridge, NetworkMode::Host];

/// The network that a job sees. Its word is stored, and stands in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetworkMode {
    /// An own network namespace with nothing but a loopback interface that is up.
    None,
    /// The outside, and no other job.
    Isolated,
    /// The outside, and the other jobs of this network.
    Bridge,
    /// A network that a client made: the other jobs of it, and the outside unless it is internal.
    Custom(NetworkName),
    /// The host's network; only where the configuration allows it.
    Host,
}

impl NetworkMode {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            NetworkMode::None => "none",
            NetworkMode::Isolated => "isolated",
            NetworkMode::Bridge => "bridge",
            NetworkMode::Custom(name) => name.as_str(),
            NetworkMode::Host => "host",
        }
    }

    /// Whether a job in it has an address and a wire of its own.
    pub fn is_wired(&self) -> bool {
        !matches!(self, NetworkMode::None | NetworkMode::Host)
    }

    /// Checks that a job in it can have an egress list.
    ///
    /// # Errors
    /// The job has no network of its own.
    pub fn check_egress(&self) -> Result<(), InvalidField> {
        if self.is_wired() {
            return Ok(());
        }
        let mode = self.as_str();
        let why = match self {
            NetworkMode::Host => "shares the network of the host, in which nothing is listed",
            _ => "reaches nothing outside anyway",
        };
        Err(InvalidField::new(format!(
            "egress needs a network of the job's own: in network \"{mode}\" it {why}; leave egress out, or \
             use network isolated or bridge"
        )))
    }

    /// Checks that a job in it can have this rate.
    ///
    /// # Errors
    /// There is a limit, and the job has no network of its own.
    pub fn check_rate(&self, rate: NetRate) -> Result<(), InvalidField> {
        if rate.is_unlimited() || self.is_wired() {
            return Ok(());
        }
        Err(InvalidField::new(format!(
            "fields \"net_rate_up\" and \"net_rate_down\" are for jobs with a network of their own; network \"{}\" has \
             no rate",
            self.as_str()
        )))
    }

    /// Checks that ports can be published for a job in it.
    ///
    /// # Errors
    /// There are some, and the job's ports are the host's.
    pub fn check_publish(&self, ports: &[Published]) -> Result<(), InvalidField> {
        if *self != NetworkMode::Host || ports.is_empty() {
            return Ok(());
        }
        Err(InvalidField::new(
            "field \"publish\" is for jobs with a network of their own: in network \"host\" ports are the host's",
        ))
    }
}

impl FromStr for NetworkMode {
    type Err = InvalidField;

    /// Reads the word on the wire: that of a mode, or the name of a network.
    fn from_str(word: &str) -> Result<Self, InvalidField> {
        match MODES.into_iter().find(|mode| mode.as_str() == word) {
            Some(mode) => Ok(mode),
            None => word.parse().map(NetworkMode::Custom),
        }
    }
}

impl TryFrom<String> for NetworkMode {
    type Error = InvalidField;

    fn try_from(word: String) -> Result<Self, InvalidField> {
        word.parse()
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> String {
        mode.as_str().to_owned()
    }
}

/// The name of a network that is not built in: 1 to 63 letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

text_of_name!(NetworkName);

impl FromStr for NetworkName {
    type Err = InvalidField;

    fn from_str(name: &str) -> Result<Self, InvalidField> {
        const THING: &str = "a network";
        if MODES.iter().any(|mode| mode.as_str() == name) {
            return Err(given_name::refuse(name, THING, "it is the name of a mode"));
        }
        given_name::check(name, THING)?;
        Ok(NetworkName(name.to_owned()))
    }
}

/// The address of a job in a network, and its wire. No two jobs have the same at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireLease {
    /// The network's name.
    pub network: String,
    /// The job's address.
    pub address: Ipv4Addr,
    /// The number of the wire in the router.
    pub wire: u16,
    /// Whether the wire has IPv6 too, by the image of the address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_networks_have_their_characters_and_no_mode() {
        for name in ["lab", "a", "team_1-x", "0", &"n".repeat(63)] {
            assert_eq!(name.parse::<NetworkName>().unwrap().as_str(), name);
        }
        for (name, why) in [
            ("", "1 to 63 characters"),
            (&*"n".repeat(64), "1 to 63 characters"),
            ("bridge", "the name of a mode"),
            ("none", "the name of a mode"),
            ("host", "the name of a mode"),
            ("isolated", "the name of a mode"),
            ("-a", "begin with a letter or a digit"),
            ("_a", "begin with a letter or a digit"),
            ("a/b", "letters, digits"),
            ("a b", "letters, digits"),
            ("lab\n", "letters, digits"),
            ("\u{e4}", "letters, digits"),
        ] {
            let said = name.parse::<NetworkName>().unwrap_err().0;
            assert!(said.contains(why) && said.contains("cannot be the name of a network"), "{name}: {said}");
        }
        assert!("x".repeat(1 << 20).parse::<NetworkName>().unwrap_err().0.len() < 200);
    }

    #[test]
    fn words_of_modes_and_names_are_stored_as_texts() {
        for word in ["none", "isolated", "bridge", "host", "lab"] {
            let mode: NetworkMode = word.parse().unwrap();
            let stored = serde_json::to_string(&mode).unwrap();
            assert_eq!(stored, format!("\"{word}\""), "as earlier versions stored it");
            assert_eq!(serde_json::from_str::<NetworkMode>(&stored).unwrap(), mode);
            assert_eq!(mode.is_wired(), !["none", "host"].contains(&word));
            assert_eq!(matches!(mode, NetworkMode::Custom(_)), word == "lab");
        }
        assert!(serde_json::from_str::<NetworkMode>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn words_never_panic(word in "\\PC{0,80}") {
            let mode = word.parse::<NetworkMode>();
            prop_assert!(mode.is_err() || mode.unwrap().as_str() == word);
        }
    }
}
