//! The networks of the node: those of its modes, and those that clients make.
//!
//! A change goes through a thread of its own, because it asks the host for its routes, waits for the disk, and writes the
//! router's sets: first it is durable in `state.db`, then it is in the router. A daemon that is killed in between leaves
//! no difference for long: the next one makes the router's sets equal to the database.
//!
//! The loop decides beforehand, and takes a change in when it is made. A network that is being removed takes no job
//! any more, and one that is being made none yet.

mod built_in;
mod worker;

pub(super) use built_in::allowed;

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::command::{Answer, CommandError, NetworkView};
use super::provision::{Ipv6, Wiring};
use super::resolver::Resolver;
use super::standing_store::StandingStore;
use super::token::{Counter, Token};
use super::{DaemonError, provision::Node};
use crate::config::daemon::DaemonConfig;
use crate::job::{NetworkMode, NetworkName};
use crate::network::lease::{bridge_name, check_range};
use crate::network::router::Definition;
use crate::network::{Leases, NetworkError};
use crate::state::{NetworkChange, StoredNetwork};
use crate::sys::clock::now_ns;

/// Changes that may wait for the thread.
const QUEUE: usize = 64;

/// A network that a client made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Custom {
    stored: StoredNetwork,
    definition: Definition,
    standing: Standing,
}

/// How far a network of a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is being made.
    Making,
    /// It is there.
    There,
    /// It is being removed.
    Leaving,
}

/// The answer to whoever asked for a change.
#[derive(Debug)]
pub(super) enum ChangeAnswer {
    /// To the maker of a network.
    Made(Answer<NetworkView>),
    /// To its remover.
    Removed(Answer<()>),
}

/// The users of a network that is to be removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users {
    /// Jobs that have it, or wait to start in it.
    pub(super) jobs: usize,
    /// Jobs of workflows that are not submitted yet.
    pub(super) in_workflows: usize,
}

impl Users {
    /// Why the network stays; `None`: nobody uses it.
    fn sentence(self, name: &str) -> Option<String> {
        let all = self.jobs + self.in_workflows;
        let (number, them) = match all {
            0 => return None,
            1 => ("1 job".to_owned(), "it"),
            _ => (format!("{all} jobs"), "them"),
        };
        let (waiting, also) = match self.in_workflows {
            0 => (String::new(), ""),
            count => (format!(" ({count} still to be submitted by workflows)"), ", rnx workflow list"),
        };
        Some(format!(
            "network \"{name}\" is in use by {number}{waiting}; stop {them} first: rnx network inspect {name}{also}"
        ))
    }
}

/// A change for the thread.
#[derive(Debug)]
struct Task {
    change: NetworkChange,
    definition: Definition,
    answer: ChangeAnswer,
    under_way: Token,
}

/// A change that is made, or was refused.
#[derive(Debug)]
pub(super) struct Changed {
    change: NetworkChange,
    result: Result<(), CommandError>,
    answer: ChangeAnswer,
    _under_way: Token,
}

/// The networks, as they are when the daemon starts.
#[derive(Debug)]
pub(super) struct Known {
    built_in: Vec<Definition>,
    custom: BTreeMap<NetworkName, Custom>,
}

impl Known {
    /// The networks of the configuration and of the database.
    ///
    /// # Errors
    /// A range that is none, or that two of them share: the configuration has changed since.
    pub(super) fn new(config: &DaemonConfig, stored: Vec<StoredNetwork>) -> Result<Known, NetworkError> {
        let mut known = Known { built_in: built_in::built_in(config)?, custom: BTreeMap::new() };
        for stored in stored {
            let definition = built_in::definition(&stored)?;
            check_range(definition.range, &known.ranges())?;
            let custom = Custom { definition, standing: Standing::There, stored };
            known.custom.insert(custom.stored.name.clone(), custom);
        }
        Ok(known)
    }

    fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.built_in.iter().chain(self.custom.values().map(|custom| &custom.definition))
    }

    /// The ranges of all networks, with words for each.
    fn ranges(&self) -> Vec<(crate::network::Range, String)> {
        self.definitions().map(built_in::named).collect()
    }

    /// The addresses of all networks, all free.
    pub(super) fn addresses(&self) -> Result<Leases, NetworkError> {
        let mut leases = Leases::default();
        self.definitions().try_for_each(|network| leases.add(&network.name, network.range))?;
        Ok(leases)
    }

    /// The way from jobs to the outside, with all networks.
    pub(super) fn wiring(&self, config: &DaemonConfig, resolver: Resolver) -> Result<Wiring, NetworkError> {
        let router = built_in::router(config, self.definitions().cloned().collect())?;
        let wanted = config.network.ipv6 == crate::config::daemon::Ipv6::Auto;
        Ok(Wiring::new(router, resolver, Ipv6::new(wanted)))
    }
}

/// The loop's side: what networks there are, and which of them change.
#[derive(Debug)]
pub(super) struct Networks {
    known: Known,
    most: usize,
    tasks: Sender<Task>,
    under_way: Counter,
}

impl Networks {
    /// Starts the thread, which ends when this value is gone. `report` gets every change that it has made or refused.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        known: Known,
        most: usize,
        node: std::sync::Arc<Node>,
        store: StandingStore,
        report: impl Fn(Changed) + Send + 'static,
    ) -> Result<(Networks, JoinHandle<()>), DaemonError> {
        let (tasks, queue): (_, Receiver<Task>) = bounded(QUEUE);
        let work =
            move || queue.into_iter().for_each(|task| report(worker::carry_out(&node.wiring, &store, task)));
        let thread = std::thread::Builder::new().name("networks".into()).spawn(work);
        let thread = thread.map_err(|source| DaemonError::Thread { name: "networks", source })?;
        Ok((Networks { known, most, tasks, under_way: Counter::default() }, thread))
    }

    /// Changes that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.count()
    }

    /// Has a network made; an answer that cannot wait for it is given at once.
    pub(super) fn create(
        &mut self,
        name: NetworkName,
        cidr: &str,
        internal: bool,
        answer: Answer<NetworkView>,
    ) {
        match self.define(&name, cidr, internal) {
            Err(why) => drop(answer.send(Err(why))),
            Ok(custom) => {
                let change = NetworkChange { network: custom.stored.clone(), is_there: true };
                let definition = custom.definition.clone();
                match self.hand_over(change, definition, ChangeAnswer::Made(answer)) {
                    Ok(()) => drop(self.known.custom.insert(name, custom)),
                    Err(ChangeAnswer::Made(answer)) => drop(answer.send(Err(busy()))),
                    Err(ChangeAnswer::Removed(_)) => {}
                }
            }
        }
    }

    /// A new network, if there may be one of that name and range.
    fn define(&self, name: &NetworkName, cidr: &str, internal: bool) -> Result<Custom, CommandError> {
        let known = &self.known;
        let invalid =
            |why: NetworkError| CommandError::Invalid(format!("cannot create network \"{name}\": {why}"));
        if known.custom.contains_key(name) {
            return Err(CommandError::Exists(NetworkError::Exists(name.to_string()).to_string()));
        }
        if known.custom.len() >= self.most {
            return Err(CommandError::Exhausted(NetworkError::Full(self.most).to_string()));
        }
        let stored =
            StoredNetwork { name: name.clone(), cidr: cidr.to_owned(), internal, created_ns: now_ns() };
        let definition = built_in::definition(&stored).map_err(invalid)?;
        check_range(definition.range, &known.ranges()).map_err(invalid)?;
        let bridge = bridge_name(name.as_str());
        if let Some(other) = known.definitions().find(|other| bridge_name(&other.name) == bridge) {
            let text = format!(
                "cannot create network \"{name}\": its interface {bridge} would be that of network \"{}\"; choose \
                 another name",
                other.name
            );
            return Err(CommandError::Exists(text));
        }
        Ok(Custom { stored, definition, standing: Standing::Making })
    }

    /// Has a network removed that has these users.
    pub(super) fn remove(&mut self, name: &str, users: Users, answer: Answer<()>) {
        let custom = match self.removable(name, users) {
            Err(why) => return drop(answer.send(Err(why))),
            Ok(custom) => custom.clone(),
        };
        let change = NetworkChange { network: custom.stored, is_there: false };
        let name = change.network.name.clone();
        match self.hand_over(change, custom.definition, ChangeAnswer::Removed(answer)) {
            Ok(()) => self.stand(&name, Standing::Leaving),
            Err(ChangeAnswer::Removed(answer)) => drop(answer.send(Err(busy()))),
            Err(ChangeAnswer::Made(_)) => {}
        }
    }

    fn removable(&self, name: &str, users: Users) -> Result<&Custom, CommandError> {
        if self.known.built_in.iter().any(|network| network.name == name)
            || name.parse::<NetworkMode>().is_ok_and(|mode| !matches!(mode, NetworkMode::Custom(_)))
        {
            return Err(CommandError::WrongState(NetworkError::BuiltIn(name.to_owned()).to_string()));
        }
        let custom = self.known.custom.values().find(|custom| custom.stored.name.as_str() == name);
        let custom = custom.ok_or_else(|| unknown(name))?;
        if custom.standing != Standing::There {
            return Err(CommandError::WrongState(format!(
                "network \"{name}\" is being {}; try again",
                if custom.standing == Standing::Making { "made" } else { "removed" }
            )));
        }
        match users.sentence(name) {
            Some(why) => Err(CommandError::WrongState(why)),
            None => Ok(custom),
        }
    }

    fn hand_over(
        &self,
        change: NetworkChange,
        definition: Definition,
        answer: ChangeAnswer,
    ) -> Result<(), ChangeAnswer> {
        let task = Task { change, definition, answer, under_way: self.under_way.token() };
        self.tasks.try_send(task).map_err(|back| back.into_inner().answer)
    }

    fn stand(&mut self, name: &NetworkName, standing: Standing) {
        if let Some(custom) = self.known.custom.get_mut(name) {
            custom.standing = standing;
        }
    }

    /// Whether a job may have this network now.
    pub(super) fn takes_jobs(&self, mode: &NetworkMode) -> bool {
        match mode {
            NetworkMode::Custom(name) => {
                self.known.custom.get(name).is_some_and(|custom| custom.standing == Standing::There)
            }
            _ => true,
        }
    }

    /// The networks that are there, those of modes first.
    pub(super) fn list(&self) -> impl Iterator<Item = NetworkView> {
        let built_in = self.known.built_in.iter().map(|network| view(network, 0));
        let there = self.known.custom.values().filter(|custom| custom.standing == Standing::There);
        built_in.chain(there.map(|custom| view(&custom.definition, custom.stored.created_ns)))
    }

    /// Takes a change in: addresses are given of a network that is made, and of one that is removed no more.
    pub(super) fn take_in(&mut self, changed: Changed, addresses: &mut Leases) {
        let Changed { change, result, answer, .. } = changed;
        let name = &change.network.name;
        match (change.is_there, &result) {
            (true, Ok(())) => {
                self.stand(name, Standing::There);
                if let Some(custom) = self.known.custom.get(name) {
                    // It has no other: its name was taken since the change began.
                    let _ = addresses.add(name.as_str(), custom.definition.range);
                }
            }
            (true, Err(_)) | (false, Ok(())) => {
                self.known.custom.remove(name);
                addresses.remove(name.as_str());
            }
            (false, Err(_)) => self.stand(name, Standing::There),
        }
        match answer {
            ChangeAnswer::Removed(answer) => drop(answer.send(result)),
            ChangeAnswer::Made(answer) => {
                let made = self.list().find(|network| network.name == name.as_str());
                drop(answer.send(result.and_then(|()| made.ok_or_else(|| unknown(name.as_str())))));
            }
        }
    }
}

fn view(network: &Definition, created_ns: i64) -> NetworkView {
    NetworkView {
        name: network.name.clone(),
        range: network.range,
        bridge: bridge_name(&network.name),
        internal: network.inner,
        created_ns: Some(created_ns).filter(|ns| *ns > 0),
        jobs: 0,
    }
}

/// The refusal of a name that no network has.
pub(super) fn unknown(name: &str) -> CommandError {
    CommandError::Missing(NetworkError::Unknown(name.to_owned()).to_string())
}

fn busy() -> CommandError {
    CommandError::Exhausted(format!("{QUEUE} changes of networks wait already; try again"))
}
