//! Commands that run in running jobs beside their payloads: the loop's side.
//!
//! joblet-init is their parent ([`crate::sandbox::session`]). A command has a *room* below `<dataDir>/execs/<job>/`: its
//! spool, its exit file, and what the next daemon must know of it ([`room`]). One thread ([`worker`]) makes rooms, sends
//! orders and reads exit files; the loop watches two pipes of each command. A command has ended when its exit file is
//! written and its pipes were empty after that: a process that it left in the background keeps them open, and what that
//! writes still goes to the room. Its place in joblet-init is free when nobody can write any more.
//!
//! A daemon that dies takes nothing along: joblet-init keeps read ends of the pipes, and the next daemon takes the places
//! over by the numbers in the rooms.

mod order;
pub(super) mod room;
pub(super) mod worker;

pub(super) use order::{Found, JobExit, Pid1, Start, Task};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::Level;

use super::command::{Answer, CommandError};
use super::sources::Registered;
use super::token::{Counter, Token};
use crate::diag;
use crate::job::JobId;
use crate::job::exec::{ExecEnd, ExecId, ExecView, MOST_ENDED, MOST_OPEN};
use crate::output::Watermark;

/// Commands of all jobs that may be on their way to joblet-init at one time, and signals to them.
const MOST_ORDERS: usize = 256;

/// A command in a job, from its order on.
#[derive(Debug)]
pub(super) struct Exec {
    /// The identity of the command.
    pub(super) id: ExecId,
    /// Its number in the job, from 1.
    pub(super) number: u32,
    /// Its place in joblet-init, until it is forgotten there.
    pub(super) place: Option<u32>,
    /// The program that it runs.
    pub(super) command: String,
    /// Its arguments, without the program.
    pub(super) args: Vec<String>,
    /// Its working directory.
    pub(super) work_dir: String,
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
    /// Its start, ns since the epoch.
    pub(super) started_ns: i64,
    /// How far its output has come.
    pub(super) output: Arc<Watermark>,
    /// PID 1 of its job; `None` where the job was over when this daemon began.
    pub(super) pid1: Option<Arc<Pid1>>,
    /// The pipe that tells whether it was executed, until it has.
    pub(super) report: Option<Registered>,
    /// The pipe that tells that it has ended, until it has.
    pub(super) done: Option<Registered>,
    /// The call that waits until it was executed, and its right to be on its way.
    pub(super) starter: Option<(Answer<ExecView>, Token)>,
    /// Whether it was signalled for its timeout.
    pub(super) timed_out: bool,
    /// Its exit file, once it has ended and that was read; within, `None`: it has none.
    pub(super) record: Option<Found>,
    /// Whether everything is in its spool that was in its pipes at its end.
    pub(super) is_drained: bool,
    /// Whether nobody can write to its pipes any more.
    pub(super) is_closed: bool,
    /// Its end, ns since the epoch.
    pub(super) end: Option<(i64, ExecEnd)>,
}

impl Exec {
    /// A command that has an order and nothing else yet.
    pub(super) fn ordered(
        id: ExecId,
        note: &room::Note,
        output: Arc<Watermark>,
        pid1: Option<Arc<Pid1>>,
    ) -> Exec {
        Exec {
            id,
            number: note.number,
            place: Some(note.place),
            command: note.command.clone(),
            args: note.args.clone(),
            work_dir: note.work_dir.clone(),
            timeout: note.timeout,
            started_ns: note.started_ns,
            output,
            pid1,
            report: None,
            done: None,
            starter: None,
            timed_out: false,
            record: None,
            is_drained: false,
            is_closed: false,
            end: None,
        }
    }

    /// The command as clients see it.
    pub(super) fn view(&self, job: JobId) -> ExecView {
        ExecView {
            job,
            id: self.id,
            number: self.number,
            command: self.command.clone(),
            args: self.args.clone(),
            started_ns: self.started_ns,
            end: self.end.clone(),
            rows: self.output.look().0,
        }
    }
}

/// The commands of all jobs.
#[derive(Debug)]
pub(super) struct Execs {
    dir: PathBuf,
    tasks: Sender<Task>,
    /// By job, oldest first.
    lists: HashMap<JobId, Vec<Exec>>,
    jobs: HashMap<ExecId, JobId>,
    orders: Counter,
}

impl Execs {
    /// Commands with rooms below `dir`, through the thread that reads `tasks`.
    pub(super) fn new(dir: PathBuf, tasks: Sender<Task>) -> Self {
        Execs { dir, tasks, lists: HashMap::new(), jobs: HashMap::new(), orders: Counter::default() }
    }

    /// The directory with the rooms of a job.
    pub(super) fn of_job(&self, job: JobId) -> PathBuf {
        self.dir.join(job.to_string())
    }

    /// The directory with those of all jobs.
    pub(super) fn directory(&self) -> &Path {
        &self.dir
    }

    /// The room of a command.
    pub(super) fn room(&self, job: JobId, id: ExecId) -> PathBuf {
        self.of_job(job).join(id.to_string())
    }

    /// The job of a command.
    pub(super) fn job_of(&self, id: ExecId) -> Option<JobId> {
        self.jobs.get(&id).copied()
    }

    /// Whether a command has not ended.
    pub(super) fn is_open(&self, id: ExecId) -> bool {
        let list = self.jobs.get(&id).map(|job| self.list(*job));
        list.unwrap_or_default().iter().any(|exec| exec.id == id && exec.end.is_none())
    }

    /// Commands that have not ended.
    pub(super) fn open(&self) -> usize {
        self.lists.values().flatten().filter(|exec| exec.end.is_none()).count()
    }

    /// The commands of a job, oldest first.
    pub(super) fn list(&self, job: JobId) -> &[Exec] {
        self.lists.get(&job).map_or(&[], Vec::as_slice)
    }

    /// The command with this identity.
    pub(super) fn get_mut(&mut self, id: ExecId) -> Option<&mut Exec> {
        let job = self.jobs.get(&id)?;
        self.lists.get_mut(job)?.iter_mut().find(|exec| exec.id == id)
    }

    /// The command of a job with this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// There is none, or several.
    pub(super) fn find(&self, job: JobId, wanted: &str) -> Result<&Exec, CommandError> {
        let mut found = self.list(job).iter().filter(|exec| exec.id.to_string().starts_with(wanted));
        match (found.next().filter(|_| !wanted.is_empty()), found.next()) {
            (Some(exec), None) => Ok(exec),
            (Some(_), Some(_)) => Err(CommandError::Invalid(format!(
                "several commands of job {job} begin with {wanted:?}; give more of the id"
            ))),
            (None, _) => Err(CommandError::Missing(format!("command not found in job {job}: {wanted:?}"))),
        }
    }

    /// A right to send an order that a client asks for.
    ///
    /// # Errors
    /// Too many are on their way.
    pub(super) fn order(&self) -> Result<Token, CommandError> {
        if self.orders.count() >= MOST_ORDERS {
            return Err(CommandError::Exhausted(format!(
                "too many commands are being started in jobs: {MOST_ORDERS}; try again"
            )));
        }
        Ok(self.orders.token())
    }

    /// A free place of a job, and the number of its next command.
    ///
    /// # Errors
    /// No place is free.
    pub(super) fn place(&self, job: JobId) -> Result<(u32, u32), CommandError> {
        let list = self.list(job);
        let is_free = |place: &u32| !list.iter().any(|exec| exec.place == Some(*place));
        let number = list.last().map_or(0, |last| last.number) + 1;
        let free = (0..MOST_OPEN as u32).find(is_free).map(|place| (place, number));
        free.ok_or_else(|| {
            CommandError::Exhausted(format!(
                "job {job} runs {MOST_OPEN} commands, or their processes still have their output open; wait for one to end"
            ))
        })
    }

    /// Takes a command in.
    pub(super) fn add(&mut self, job: JobId, exec: Exec) {
        self.jobs.insert(exec.id, job);
        self.lists.entry(job).or_default().push(exec);
    }

    /// Lets the oldest ended commands of a job go that are too many; their rooms.
    #[must_use]
    pub(super) fn surplus(&mut self, job: JobId) -> Vec<PathBuf> {
        let list = self.list(job);
        let is_over = |exec: &Exec| exec.end.is_some() && exec.place.is_none();
        let surplus = list.iter().filter(|exec| is_over(exec)).count().saturating_sub(MOST_ENDED);
        let gone: Vec<ExecId> =
            list.iter().filter(|exec| is_over(exec)).take(surplus).map(|exec| exec.id).collect();
        gone.into_iter().map(|id| self.remove(job, id)).collect()
    }

    /// Forgets a command; its room.
    pub(super) fn remove(&mut self, job: JobId, id: ExecId) -> PathBuf {
        self.jobs.remove(&id);
        if let Some(list) = self.lists.get_mut(&job) {
            list.retain(|exec| exec.id != id);
        }
        self.room(job, id)
    }

    /// Forgets the commands of a job.
    pub(super) fn forget(&mut self, job: JobId) {
        for exec in self.lists.remove(&job).into_iter().flatten() {
            self.jobs.remove(&exec.id);
        }
    }

    /// Has the thread do something. Its queue has at most an end, a watch and an order for each open command, and
    /// [`MOST_ORDERS`] that clients asked for.
    pub(super) fn send(&self, task: Task) {
        if self.tasks.send(task).is_err() {
            diag::limited!(Level::Error, "the thread of commands in jobs is gone");
        }
    }
}
