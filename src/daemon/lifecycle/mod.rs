//! The steps of a job's life: what the loop does because of an effect of the pure step. A step changes owners, and may
//! leave facts for the loop to step next; it never steps them itself. Events of workers, timers and descriptors come in
//! here too (`on_...`), and become facts.

mod exec_takeover;
mod execs;
mod finishing;
pub(super) mod first_process;
mod forgetting;
mod half_started;
mod pausing;
mod pooling;
mod recording;
mod running;
mod shutdown;
mod standing;
mod starting;
pub(super) mod takeover;
mod waiting;
mod workflow_takeover;
mod workflows;

use super::core::Core;
use crate::job::JobId;
use crate::job::state::Effect;

pub(super) use execs::{
    drain_exec, end_stuck_exec, kill_exec, on_exec_done, on_exec_event, on_exec_output, on_exec_report,
    on_exec_timeout, on_over_limit, on_pipe_held, signal_exec, start_exec,
};
pub(super) use finishing::{collect_late, on_collected, on_evidence, on_tree_taken};
pub(super) use forgetting::{expire, forget_some, forget_then, measure};
pub(super) use pausing::{change_timeout, on_frozen, on_pause_over, on_timeout, pause, ran_for, resume};
pub(super) use pooling::{
    discard_of_network, discard_of_runtime, expect_jobs, on_created, refill_if_quiet, take_warm,
};
pub(super) use recording::{answer_starters, on_recorded, save};
pub(super) use running::{kill_after, on_init_event, on_output_complete, on_report_event};
pub(super) use shutdown::{begin as begin_shutdown, end_holders, is_idle};
pub(super) use standing::{grant_slots, leave_queues};
pub(super) use starting::{cold_sandbox, end_stuck, hand_over, on_started};
pub(super) use waiting::{enqueue, on_due, on_staged, put_aside, wait_for_time};
pub(super) use workflows::save_workflow;

/// Carries one effect out.
pub(super) fn act(core: &mut Core, id: JobId, effect: Effect) {
    match effect {
        Effect::Enqueue => {
            workflows::on_job_due(core, id);
            waiting::enqueue(core, id);
        }
        Effect::Start => starting::start(core, id),
        Effect::Save => drop(recording::save(core, id)),
        Effect::AnnounceRunning => running::announce(core, id),
        Effect::Terminate => running::terminate(core, id),
        Effect::Kill => running::kill(core, id),
        Effect::CollectOutput => finishing::collect_output(core, id),
        Effect::Finish => finishing::finish(core, id),
    }
}
