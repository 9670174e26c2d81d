//! The requests to the loop ([`request`]), and one file for the work that each of them causes.
//!
//! A handler reads owners and answers at once, or notes facts about a job and leaves its answer with the job's waiters.
//! The API's side of a request stands in `api/service/job.rs` and `api/convert/`, the client's in
//! `rnx/command/`.

mod cancel;
mod delete;
mod explain;
mod list;
mod logs;
mod metrics;
pub(super) mod request;
mod run;
mod security;
mod status;
mod stop;

use super::core::Core;

pub use request::{
    Answer, Command, CommandError, CommandSender, Deleted, Explained, JobPage, LogSource, Page, QUEUE,
    SampleSource, StoredFiles,
};

/// Carries one command out. An answer whose client is gone is dropped. It leaves facts about jobs for the loop to step.
pub(super) fn handle(core: &mut Core, command: Command) {
    match command {
        Command::Run { spec, uploads, stored, answer } => run::handle(core, *spec, uploads, stored, answer),
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
        Command::Logs { job, answer } => logs::handle(core, &job, answer),
        Command::Samples { job, answer } => metrics::handle(core, &job, answer),
    }
}
