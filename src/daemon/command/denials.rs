//! GetDenials: what a job was refused. The ledger of a running job is read first, by the inspection thread.

use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::provision::Network;
use crate::job::{Denials, JobRef};

/// Answers from the record of a job that is over, or has the ledger read.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<Denials>) {
    let found = core.jobs.find(wanted).map(|job| {
        let address = job.held.network.as_ref().and_then(Network::lease).map(|lease| lease.address);
        (address.filter(|_| !job.state.is_finished()), job.reach.denials.clone())
    });
    let refused = core.streams.inspection().is_full();
    match (found, refused) {
        (Err(why), _) => drop(answer.send(Err(why))),
        (Ok((None, kept)), _) => {
            let _ = answer.send(Ok(kept.as_deref().cloned().unwrap_or_default()));
        }
        (Ok((Some(_), _)), Some(why)) => drop(answer.send(Err(CommandError::Exhausted(why)))),
        (Ok((Some(address), _)), None) => {
            let node = core.node.clone();
            core.streams.inspection().run(move || {
                let denials = node.egress.denials(&node.wiring, address);
                let _ = answer.send(denials.map_err(|why| CommandError::SetUp(why.to_string())));
            });
        }
    }
}
