//! Jobs of workflows in their turn: they are submitted as jobs of clients are, when their condition holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::{shortage, submit};
use crate::daemon::core::Core;
use crate::daemon::workflows::{Flow, child};
use crate::job::state::State;
use crate::sys::clock::now_ns;

/// Jobs that one turn of the loop submits at most; it goes on in the next turn, which comes at once.
const SLICE: usize = 64;
/// Time to the next try where the node has too little of something.
const AGAIN: Duration = Duration::from_millis(200);

/// Submits jobs whose condition holds, as many as there is room for and one turn does; `true`: there are more.
pub(in crate::daemon) fn feed_workflows(core: &mut Core) -> bool {
    if !core.workflows.is_ready() {
        return false;
    }
    core.ledger.collect();
    let has_more = feed(core);
    core.ledger.send_collected();
    has_more
}

fn feed(core: &mut Core) -> bool {
    let mut room = core.workflows.room();
    for _ in 0..SLICE {
        if core.shutdown.has_begun() || !core.workflows.is_ready() || room == 0 {
            return false;
        }
        if shortage(core, true).is_some() {
            core.clock.feed_again(Instant::now() + AGAIN);
            return false;
        }
        // One that waits for its time takes no room.
        room -= usize::from(submit_next(core));
    }
    true
}

/// Submits the next job; whether it waits for a slot now.
fn submit_next(core: &mut Core) -> bool {
    let Some((serial, next)) = core.workflows.next(now_ns()) else { return false };
    let Some(entry) = core.workflows.get(serial) else { return false };
    let Some(plan) = entry.flow().map(Flow::plan) else { return false };
    let (mut spec, refused) = child::request(plan, &entry.record().defaults, entry.record().id, &next);
    spec.client = entry.record().client;
    let claims = if spec.upload_paths.is_empty() { Arc::default() } else { entry.claims().clone() };
    let id = submit(core, spec, claims, refused);
    let scheduled = core.jobs.get(id).is_some_and(|job| job.state == State::Scheduled);
    if let Some(flow) = core.workflows.get_mut(serial).and_then(|entry| entry.flow_mut()) {
        flow.submitted(next.place, id, scheduled);
    }
    core.workflows.look_at(serial);
    !scheduled
}
