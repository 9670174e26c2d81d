//! A lane: the worker, which reads spools, formats and compresses, and the writer, which makes that durable.
//!
//! ```text
//!   loop --Task--> worker --Group (one at a time)--> writer
//!     ^--Opened, Staged-----'                          |
//!     ^--Stored, Failed, Deleted-----------------------'
//! ```
//!
//! A job belongs to one lane, so its commits keep their order. The worker runs one group ahead of the writer. All jobs
//! that are due at one moment go into one group: their files are on their way to the disk before the first one is waited
//! for.
//!
//! When a commit fails, the files are as they were, and what the worker has read since is worthless: it would leave a hole.
//! The writer drops it until the loop has the worker begin again behind what is stored.

mod event;
mod pieces;
mod writer;

use std::collections::HashMap;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::Level;

use super::PersistError;
use super::foreign::{Piece, Pieces};
use super::frame::Reached;
use super::janitor::StoreTask;
use super::jobs::{SAMPLES, Work};
use super::spool_source::SpoolSource;
use super::store::{JobStage, Kind, LocalStore, Packer, Resume, StoreError};
use crate::config::daemon::persist::Compression;
use crate::diag;
use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::{Row, Span};
use crate::sys::mailbox::Mailbox;
use crate::sys::thread::be_nice;
pub(super) use event::LaneEvent;
use event::{Item, Step};
use writer::Writer;

/// Bytes of one job's output that the worker reads before other jobs have their turn.
const TURN: u64 = 4 << 20;
/// Bytes that a row counts for beside its content: a job that writes byte by byte would have turns of millions of rows.
const RECORD: u64 = 128;
/// Bytes of output, and jobs, of one group.
const GROUP: u64 = 8 << 20;
const GROUP_JOBS: usize = 64;
/// Bytes behind which lower levels of compression are used.
const BEHIND: [(u64, u32); 2] = [(32 << 20, 1), (4 << 20, 3)];

/// A request to a lane.
#[derive(Debug)]
pub(super) enum Task {
    /// Open a job's history, and read its output from here; for a job that is open already, from here from now on.
    Open {
        /// The id of the job.
        job: JobId,
        /// The files of its spool.
        source: Box<SpoolSource>,
        /// Rows up to this one are gone from the spool.
        released: u64,
    },
    /// Store what a job has.
    Work(Work),
    /// Store a piece of a job whose writer sends bytes.
    Piece(Piece),
    /// Forget a job that is complete or whose writer is gone.
    Close(JobId),
    /// Delete a job's history.
    Delete(JobId),
}

/// A lane as the loop has it. Dropped, it ends when its tasks are done.
#[derive(Debug)]
pub(super) struct Lane {
    tasks: Sender<Task>,
    threads: Vec<JoinHandle<()>>,
}

impl Lane {
    /// Starts both threads. Events go into this mailbox.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        store: &LocalStore,
        compression: &Compression,
        events: &Mailbox<LaneEvent>,
        store_tasks: &Sender<StoreTask>,
    ) -> Result<Lane, PersistError> {
        // As many tasks as the loop has jobs: each has one under way, an opening and a closing.
        let (tasks, inbox) = unbounded();
        let (steps, queue) = bounded(1);
        let (events, store_tasks) = (events.clone(), store_tasks.clone());
        let writer = Writer::new(store.clone(), events.clone(), store_tasks);
        let worker = Worker {
            store: store.clone(),
            compression: compression.clone(),
            events,
            steps,
            packer: Packer::new(),
            jobs: HashMap::new(),
            unopened: HashMap::new(),
            pieces: HashMap::new(),
        };
        let failed = |source| PersistError::SetUp { doing: "start a lane", source };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).map_err(failed)
        };
        let threads = vec![
            start("worker", Box::new(move || worker.run(&inbox)))?,
            start("writer", Box::new(move || writer.run(&queue)))?,
        ];
        Ok(Lane { tasks, threads })
    }

    /// Hands a task over.
    pub(super) fn send(&self, task: Task) {
        if self.tasks.send(task).is_err() {
            diag::limited!(Level::Error, "a lane is gone");
        }
    }

    /// Ends both threads when their tasks are done.
    pub(super) fn end(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

struct Open {
    stage: JobStage,
    source: Box<SpoolSource>,
    /// Rows that are gone from the spool: what is read begins behind them.
    released: u64,
    rows: u64,
    sample_bytes: u64,
    samples: u64,
    /// Bytes of both streams that were read or need not be.
    read: u64,
}

struct Worker {
    store: LocalStore,
    compression: Compression,
    events: Mailbox<LaneEvent>,
    steps: Sender<Step>,
    packer: Packer,
    jobs: HashMap<JobId, Open>,
    /// Jobs whose files could not be opened, with their spools.
    unopened: HashMap<JobId, (Box<SpoolSource>, u64)>,
    /// Jobs whose output comes in pieces.
    pieces: HashMap<JobId, Pieces>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Task>) {
        be_nice();
        while let Ok(first) = inbox.recv() {
            let (mut group, mut staged) = (Vec::new(), 0);
            let mut next = Some(first);
            while let Some(task) = next {
                match task {
                    Task::Work(work) => {
                        if group.iter().any(|item: &Item| item.job == work.job) {
                            // One commit of a job at a time.
                            self.send_group(&mut group);
                        }
                        match self.work(&work) {
                            Ok((item, bytes)) => {
                                staged += bytes;
                                group.extend(item);
                            }
                            Err(why) => {
                                self.report(LaneEvent::Failed { job: work.job, why: why.to_string() })
                            }
                        }
                    }
                    Task::Piece(piece) => {
                        staged += piece.size();
                        self.take_piece(piece);
                    }
                    other => {
                        // Earlier work must be stored before.
                        group.extend(self.staged_pieces());
                        self.send_group(&mut group);
                        self.carry_out(other);
                    }
                }
                let full = staged >= GROUP || group.len() >= GROUP_JOBS;
                next = if full { None } else { inbox.try_recv().ok() };
            }
            group.extend(self.staged_pieces());
            self.send_group(&mut group);
        }
    }

    fn send_group(&self, group: &mut Vec<Item>) {
        if !group.is_empty() {
            self.step(Step::Group(std::mem::take(group)));
        }
    }

    fn step(&self, step: Step) {
        // The writer ends behind us.
        let _ = self.steps.send(step);
    }

    fn report(&self, event: LaneEvent) {
        // The loop is gone only behind us.
        let _ = self.events.send(event);
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Open { job, source, released } => self.open(job, source, released),
            Task::Close(job) => {
                self.close_pieces(job);
                self.jobs.remove(&job);
                self.unopened.remove(&job);
                self.step(Step::Close(job));
            }
            Task::Delete(job) => {
                self.close_pieces(job);
                self.jobs.remove(&job);
                self.unopened.remove(&job);
                self.step(Step::Delete(job));
            }
            Task::Work(_) | Task::Piece(_) => {}
        }
    }

    fn open(&mut self, job: JobId, mut source: Box<SpoolSource>, released: u64) {
        if let Some(open) = self.jobs.get_mut(&job) {
            open.source = source;
            open.let_go(released);
            return;
        }
        // Descriptors that wait for another try are older: those of this try count, whatever comes of it.
        self.unopened.remove(&job);
        let store = match self.store.job(job) {
            Ok(store) => store,
            Err(StoreError::Deleted) => {
                return self.report(LaneEvent::Dropped(job));
            }
            Err(why) => {
                self.unopened.insert(job, (source, released));
                return self.report(LaneEvent::Failed { job, why: why.to_string() });
            }
        };
        let resume = store.resume();
        let (rows, whole) = begin_at(&mut source, released, &resume);
        let (mut stage, files) = store.split();
        stage.released(released);
        let mut open = Open { stage, source, released, rows: 0, sample_bytes: 0, samples: 0, read: 0 };
        open.begin(&resume, rows);
        let (read, sample_bytes) = (open.read, open.sample_bytes);
        self.jobs.insert(job, open);
        self.step(Step::Open(job, Box::new(files), rows));
        // Fewer rows than the files have seem to be others.
        let kept = if rows < resume.through { released } else { rows };
        let reached = |rows| Reached { rows, sample_bytes };
        let (stored, whole, complete) = (reached(kept), reached(whole), resume.end.is_some());
        self.report(LaneEvent::Opened { job, stored, whole, read, complete });
    }

    /// Reads and formats a part of a job's output.
    fn work(&mut self, work: &Work) -> Result<(Option<Item>, u64), PersistError> {
        let job = work.job;
        if let Some((source, released)) = self.unopened.remove(&job) {
            self.open(job, source, released);
            return Ok((None, 0));
        }
        if work.again {
            let (answer, resume) = bounded(1);
            self.step(Step::Again(job, answer));
            let (resume, rows) = resume.recv().map_err(|_| gone())?;
            let open = self.jobs.get_mut(&job).ok_or_else(gone)?;
            open.stage.reset(&resume);
            // An earlier process may have stored more than this one knows, and the daemon has let that go since.
            let released = open.source.header()?.released;
            open.let_go(released);
            open.begin(&resume, rows);
        }
        let level = level(&self.compression, work.lag);
        let open = self.jobs.get_mut(&job).ok_or_else(gone)?;
        let (mut bytes, from) = (0, open.rows);
        while open.rows < work.reached.rows && bytes + (open.rows - from) * RECORD < TURN {
            let (row, content) = open.source.row(open.rows, work.reached.rows)?;
            open.stage.stage(&row, content, &mut self.packer, level)?;
            bytes += content.len() as u64;
            open.rows += 1;
        }
        open.read += bytes;
        // Looked at behind the read: what is released reads as zeros.
        if bytes > 0 && open.source.header()?.released > from {
            return Err(PersistError::Spool(std::io::Error::other(
                "its rows were released while they were read",
            )));
        }
        if work.all_samples || work.reached.sample_bytes.saturating_sub(open.sample_bytes) >= SAMPLES {
            open.stage_samples(work.reached.sample_bytes, &mut self.packer, level)?;
        }
        let reached = Reached { rows: open.rows, sample_bytes: open.sample_bytes };
        let whole = open.rows >= work.reached.rows;
        let end = work.end.filter(|_| whole).map(|end| (end, open.samples));
        let batch = open.stage.take(open.rows, &mut self.packer, level);
        let item = Item { job, batch, reached, is_recut: open.stage.is_recut(), end, pieces: 0 };
        let (read, staged) = (open.read, bytes + (open.rows - from) * RECORD);
        self.report(LaneEvent::Staged { job, reached, read });
        Ok((Some(item), staged))
    }
}

/// The level of compression for a job of which so many bytes wait.
fn level(compression: &Compression, lag: u64) -> u32 {
    let behind = BEHIND.iter().find(|(bytes, _)| compression.adaptive && lag >= *bytes);
    behind.map_or(compression.level, |(_, level)| compression.level.min(*level))
}

fn gone() -> PersistError {
    PersistError::Spool(std::io::Error::other("the job is not open"))
}

/// The rows of a spool that the files hold, and those that they hold without a hole.
///
/// The files count rows too, but not those of this spool: a power cut may have taken the end of its index, which is never
/// synced, and then the same bytes are cut into other rows. So each row is looked for by its bytes.
fn begin_at(source: &mut SpoolSource, released: u64, resume: &Resume) -> (u64, u64) {
    if resume.end.is_some() {
        return (resume.through, resume.through);
    }
    let is_stored = |row: &Row| match row.span {
        Span::Bytes { offset, length } => {
            offset.saturating_add(u64::from(length)) <= resume.bytes(row.stream.into())
        }
        Span::Lost(_) => row.sequence <= resume.sequence(row.stream.into()),
    };
    let mut rows = source.stored_rows(released, is_stored);
    // Rows that an earlier process has stored may go from the spool meanwhile.
    while let Some(gone) = source.header().ok().map(|header| header.released).filter(|gone| *gone > rows) {
        rows = source.stored_rows(gone, is_stored);
    }
    let has_released = |stream: Stream| {
        source.header().is_ok_and(|header| header.end(stream) <= resume.bytes(stream.into()))
    };
    let is_whole = has_released(Stream::Stdout) && has_released(Stream::Stderr);
    (rows, if is_whole { rows.max(resume.through) } else { resume.through.min(released.saturating_sub(1)) })
}

impl Open {
    /// Notes that rows are gone from the spool.
    fn let_go(&mut self, released: u64) {
        self.released = self.released.max(released);
        self.stage.released(released);
    }

    /// Begins behind the rows that are stored, and behind what is gone from the spool.
    fn begin(&mut self, resume: &Resume, rows: u64) {
        self.rows = rows.max(self.released);
        self.samples = resume.sequence(Kind::Samples);
        self.sample_bytes = resume.bytes(Kind::Samples);
        self.read = resume.bytes(Kind::Stdout) + resume.bytes(Kind::Stderr);
        self.source.forget();
    }

    fn stage_samples(&mut self, to: u64, packer: &mut Packer, level: u32) -> Result<(), PersistError> {
        while self.sample_bytes < to {
            let lines = self.source.lines(self.sample_bytes, to)?;
            if lines.is_empty() {
                break;
            }
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                self.samples += 1;
                self.sample_bytes += line.len() as u64;
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                if let Err(why) = self.stage.stage_sample(self.samples, text, packer, level) {
                    diag::limited!(Level::Warn, "a sample is left out of history", error = why);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
