//! The requests to the loop ([`request`]), and one file for the work that each of them causes.
//!
//! A handler reads owners and answers at once, or notes facts about a job and leaves its answer with the job's waiters.
//! The API's side of a request stands in `api/service/job.rs` and `api/convert/`, the client's in
//! `rnx/command/`.

mod built_tree;
mod cancel;
mod cancel_workflow;
mod delete;
mod deleted;
mod denials;
mod egress;
mod exec;
mod explain;
mod feed;
mod fetch;
mod figures;
mod forward;
mod gpu;
mod gpu_view;
mod input;
mod list;
mod list_workflows;
mod logs;
mod metrics;
mod network;
mod pause;
mod pause_state;
pub(super) mod request;
mod run;
mod run_workflow;
mod runtime;
mod runtime_view;
mod security;
mod sender;
mod status;
mod stop;
mod volume;
mod volume_view;
mod work;
mod work_view;
mod workflow_status;

use super::core::Core;
use super::lifecycle;

pub(super) use egress::on_changed as on_egress_changed;
pub(super) use feed::feed_workflows;
pub(super) use gpu::on_fact as on_gpu_fact;
pub(super) use run_workflow::SEALED;

pub use request::{
    Answer, BuildJob, Command, CommandError, Deleted, Draft, EgressWish, Explained, JobPage, LogSource,
    NetworkJobView, NetworkView, NewWorkflow, Page, QUEUE, Removed, SampleSource, StoredFiles,
};

pub use crate::gpu::{Board as GpuBoard, Seen as SeenGpu};
pub use built_tree::BuiltTree;
pub use gpu_view::GpusView;
pub use pause_state::PauseState;
pub use runtime_view::{RuntimeView, RuntimesRemoved};
pub use sender::CommandSender;
pub use volume_view::{OpenVolume, UsageView, VolumeJobView, VolumeView};
pub use work_view::OpenWork;

pub use super::install::{
    BuildEvent, BuildRequest, BuiltRuntime, Caller, Gone, ImportPiece, ImportRequest, ImportedRuntime,
    InstallEvent, InstallRequest, InstalledRuntime, Installer, Origin,
};
pub use super::workflows::view::{NodeView, WorkflowPage, WorkflowQuery, WorkflowView};
pub use crate::runtime::Recipe;
pub use crate::state::workflow::{Defaults, NodeRecord};

/// Carries one command out. An answer whose client is gone is dropped. It leaves facts about jobs for the loop to step.
pub(super) fn handle(core: &mut Core, command: Command) {
    match command {
        Command::Run { spec, uploads, stored, answer } => {
            run::handle(core, *spec, uploads, stored, answer);
        }
        Command::Explain { spec, uploads, stored, answer } => {
            explain::handle(core, spec, &uploads, &stored, answer);
        }
        Command::Status { job, answer } => status::handle(core, &job, answer),
        Command::Security { job, answer } => security::handle(core, &job, answer),
        Command::List { page, answer } => list::handle(core, &page, answer),
        Command::Stop { job, grace, answer } => stop::handle(core, &job, grace, answer),
        Command::Cancel { job, answer } => cancel::handle(core, &job, answer),
        Command::Delete { job, answer } => delete::handle(core, &job, answer),
        Command::DeleteAll { answer } => delete::handle_all(core, answer),
        Command::Forward { job, answer } => forward::handle(core, &job, answer),
        Command::Logs { job, exec, answer } if exec.is_empty() => logs::handle(core, &job, answer),
        Command::Logs { job, exec, answer } => drop(answer.send(exec::source(core, &job, &exec))),
        Command::StartExec { job, spec, answer } => lifecycle::start_exec(core, &job, *spec, answer),
        Command::GetExec { job, exec, answer } => drop(answer.send(exec::find(core, &job, &exec))),
        Command::ListExecs { job, answer } => drop(answer.send(exec::list(core, &job))),
        Command::SignalExec { job, exec, signal, answer } => {
            let _ = answer.send(lifecycle::signal_exec(core, &job, &exec, signal));
        }
        Command::OpenInput { job, exec, answer } => drop(answer.send(input::find(core, &job, &exec))),
        Command::ChangeEgress { job, change, answer } => egress::handle(core, &job, *change, answer),
        Command::Denials { job, answer } => denials::handle(core, &job, answer),
        Command::Samples { job, answer } => metrics::handle(core, &job, answer),
        Command::RunWorkflow { workflow, answer } => run_workflow::handle(core, *workflow, answer),
        Command::Workflow { workflow, answer } => workflow_status::handle(core, &workflow, answer),
        Command::Workflows { query, answer } => list_workflows::handle(core, &query, answer),
        Command::CancelWorkflow { workflow, answer } => cancel_workflow::handle(core, &workflow, answer),
        Command::CreateNetwork { name, cidr, internal, answer } => {
            network::create(core, name, &cidr, internal, answer);
        }
        Command::RemoveNetwork { name, answer } => network::remove(core, &name, answer),
        Command::ListNetworks { answer } => network::list(core, answer),
        Command::GetNetwork { name, answer } => network::get(core, &name, answer),
        Command::CreateVolume { name, kind, bytes, answer } => {
            volume::create(core, name, kind, bytes, answer);
        }
        Command::RemoveVolume { name, answer } => volume::remove(core, &name, answer),
        Command::ListVolumes { answer } => volume::list(core, answer),
        Command::OpenVolume { name, answer } => volume::open(core, &name, answer),
        Command::OpenWork { job, answer } => drop(answer.send(work::find(core, &job))),
        Command::GetVolume { name, answer } => volume::get(core, &name, answer),
        Command::ResizeVolume { name, bytes, answer } => volume::resize(core, &name, bytes, answer),
        Command::Pause { job, paused, answer } => pause::handle(core, &job, paused, answer),
        Command::SetTimeout { job, left, answer } => pause::set_timeout(core, &job, left, answer),
        Command::ListGpus { answer } => drop(answer.send(Ok(gpu::view(core)))),
        Command::ResetGpu { gpu, answer } => gpu::reset(core, &gpu, answer),
        Command::Figures { answer } => figures::handle(core, answer),
        Command::ListRuntimes { answer } => core.supply.runtimes().list(answer),
        Command::GetRuntime { runtime, answer } => core.supply.runtimes().show(&runtime, answer),
        Command::TestRuntime { spec, answer } => runtime::test(core, *spec, answer),
        Command::Build { spec, files, answer } => runtime::build(core, *spec, files, answer),
        Command::RemoveRuntime { runtime, all, answer } => runtime::remove(core, runtime, all, answer),
    }
}
