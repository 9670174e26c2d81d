//! The thread's part of a change: the host's routes, the disk, the router.

use log::Level;

use super::{Changed, Task};
use crate::daemon::command::CommandError;
use crate::daemon::provision::Wiring;
use crate::daemon::standing_store::StandingStore;
use crate::diag;
use crate::network::lease::check_range;
use crate::network::router::Definition;
use crate::network::uplink::Uplink;
use crate::state::NetworkChange;

/// Makes a change, or nothing of it.
pub(super) fn carry_out(wiring: &Wiring, store: &StandingStore, task: Task) -> Changed {
    let Task { change, definition, answer, under_way } = task;
    let result = if change.is_there {
        create(wiring, store, &change, definition)
    } else {
        remove(wiring, store, &change)
    };
    Changed { change, result, answer, _under_way: under_way }
}

fn create(
    wiring: &Wiring,
    store: &StandingStore,
    change: &NetworkChange,
    definition: Definition,
) -> Result<(), CommandError> {
    let name = &change.network.name;
    let failed = |why: String| CommandError::SetUp(format!("cannot create network \"{name}\": {why}"));
    let ranges = Uplink::open().and_then(|mut host| host.ranges()).map_err(|why| failed(why.to_string()))?;
    check_range(definition.range, &ranges)
        .map_err(|why| CommandError::Invalid(format!("cannot create network \"{name}\": {why}")))?;
    store.put(change.clone()).map_err(failed)?;
    wiring.add_network(definition).map_err(|why| {
        let undone = store.put(NetworkChange { is_there: false, ..change.clone() });
        failed(match undone {
            Ok(()) => why.to_string(),
            Err(also) => format!("{why}; and it may be there after a restart: {also}"),
        })
    })
}

fn remove(wiring: &Wiring, store: &StandingStore, change: &NetworkChange) -> Result<(), CommandError> {
    let name = &change.network.name;
    let failed = |why: String| CommandError::SetUp(format!("cannot remove network \"{name}\": {why}"));
    store.put(change.clone()).map_err(failed)?;
    // It is gone from the database, so the next daemon takes out what the router keeps of it.
    if let Err(why) = wiring.remove_network(name.as_str()) {
        diag::event!(Level::Warn, "the router keeps a removed network", network = name, error = why);
    }
    Ok(())
}
