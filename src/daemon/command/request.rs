//! The requests to the loop and their answers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;

use super::built_tree::BuiltTree;
pub use super::deleted::{Deleted, Removed};
use super::gpu_view::GpusView;
use super::pause_state::PauseState;
use super::runtime_view::{RuntimeView, RuntimesRemoved};
use super::volume_view::{OpenVolume, VolumeJobView, VolumeView};
use super::work_view::OpenWork;
pub use crate::daemon::workflows::Draft;
use crate::daemon::workflows::view::{WorkflowPage, WorkflowQuery, WorkflowView};
use crate::exporter::Figures;
use crate::forward::JobNetwork;
use crate::job::egress::List;
use crate::job::exec::{ExecId, ExecSpec, ExecView};
use crate::job::runtime::RuntimeSpec;
use crate::job::{
    ClientId, Denials, JobId, JobRef, JobSpec, JobView, Layer, NetworkName, Secret, Status, VolumeKind,
    VolumeName,
};
use crate::metrics::JobSamples;
use crate::network::Range;
use crate::output::{JobHistory, Watermark};
use crate::state::workflow::Defaults;
use crate::stream;
use crate::upload::{Claim, Stored, Upload};
use crate::workflow::Workflow;

/// Commands that may wait for the loop; the next one is answered "exhausted" at once.
pub const QUEUE: usize = 1024;

/// The way back to whoever asked. Sending never blocks; a client that is gone is no error.
pub type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// A request that has passed authorisation and every check of syntax.
#[derive(Debug)]
pub enum Command {
    /// Start a job. Answered when its process runs, or could not be started.
    Run {
        /// The job to run.
        spec: Box<JobSpec>,
        /// Files for /work, already checked.
        uploads: Vec<Upload>,
        /// Files for /work that came ahead.
        stored: StoredFiles,
        /// The job as it stands then.
        answer: Answer<JobView>,
    },
    /// Tell what a start would do, and do nothing.
    Explain {
        /// The job that would run.
        spec: Box<JobSpec>,
        /// Files for /work, already checked.
        uploads: Vec<Upload>,
        /// Files for /work that came ahead.
        stored: StoredFiles,
        /// The plan, sentence by sentence.
        answer: Answer<Explained>,
    },
    /// Show one job.
    Status {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job as it is now.
        answer: Answer<JobView>,
    },
    /// Show what stands around a running job, read back from the kernel.
    Security {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job and its layers.
        answer: Answer<(JobView, Vec<Layer>)>,
    },
    /// Show jobs, oldest first.
    List {
        /// The page of the list.
        page: Page,
        /// The page, oldest jobs first.
        answer: Answer<JobPage>,
    },
    /// End a running job. Answered when it is terminal.
    Stop {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// From TERM to KILL; `None`: the job's own time.
        grace: Option<Duration>,
        /// The job as it ended.
        answer: Answer<JobView>,
    },
    /// Keep a scheduled job from starting. Answered when that is recorded.
    Cancel {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job as it ended.
        answer: Answer<JobView>,
    },
    /// Forget a terminal job and its output.
    Delete {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job as it was, when its files are gone.
        answer: Answer<Removed>,
    },
    /// Forget all terminal jobs.
    DeleteAll {
        /// The number of jobs deleted and skipped.
        answer: Answer<Deleted>,
    },
    /// Open the way to the ports of a running job.
    Forward {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The way into its network.
        answer: Answer<Arc<JobNetwork>>,
    },
    /// Run a command in a running job. Answered when it was executed, or could not be.
    StartExec {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The command and how it is to run.
        spec: Box<ExecSpec>,
        /// The command as it stands then.
        answer: Answer<ExecView>,
    },
    /// Show a command of a job.
    GetExec {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The command, likewise.
        exec: String,
        /// The command as it is now.
        answer: Answer<ExecView>,
    },
    /// Show all commands of a job, oldest first.
    ListExecs {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The commands as they are now.
        answer: Answer<Vec<ExecView>>,
    },
    /// Find the standard input of a job or of a command in one.
    OpenInput {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The command, likewise; empty: the job's own.
        exec: String,
        /// The program that reads it.
        answer: Answer<ExecId>,
    },
    /// Send a signal to a command of a job.
    SignalExec {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The command, likewise.
        exec: String,
        /// A standard signal.
        signal: i32,
        /// The command as it is now.
        answer: Answer<ExecView>,
    },
    /// Open the output of a job, or of a command in it, for reading.
    Logs {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The command, likewise; empty: the job's own output.
        exec: String,
        /// The place to read from.
        answer: Answer<LogSource>,
    },
    /// Change what a running job may reach.
    ChangeEgress {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The entries to add and to take out, and the list that no other goes beyond.
        change: Box<EgressWish>,
        /// The list in force.
        answer: Answer<(JobId, Vec<String>)>,
    },
    /// Show what a job was refused.
    Denials {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The destinations that it was refused.
        answer: Answer<Denials>,
    },
    /// Open a job's samples for reading.
    Samples {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The place to read from.
        answer: Answer<SampleSource>,
    },
    /// Run the jobs of a workflow. Answered when that is recorded.
    RunWorkflow {
        /// The workflow to run.
        workflow: Box<NewWorkflow>,
        /// The workflow, of which nothing runs yet.
        answer: Answer<WorkflowView>,
    },
    /// Show one workflow with its jobs.
    Workflow {
        /// The workflow, by its id or a prefix of it.
        workflow: JobRef,
        /// The workflow as it is now.
        answer: Answer<WorkflowView>,
    },
    /// Show workflows, oldest first.
    Workflows {
        /// The page of the list.
        query: WorkflowQuery,
        /// The page, without the jobs of each.
        answer: Answer<WorkflowPage>,
    },
    /// End a workflow and its jobs. Answered when all of them are over.
    CancelWorkflow {
        /// The workflow, by its id or a prefix of it.
        workflow: JobRef,
        /// The workflow as it ended.
        answer: Answer<WorkflowView>,
    },
    /// Make a network. Answered when it is recorded and in force.
    CreateNetwork {
        /// The name that it shall have.
        name: NetworkName,
        /// The range of its addresses, as text.
        cidr: String,
        /// Whether its jobs reach nothing but each other.
        internal: bool,
        /// The network as it is then.
        answer: Answer<NetworkView>,
    },
    /// Remove a network that no job has. Answered when that is recorded and in force.
    RemoveNetwork {
        /// The name, as it was given.
        name: String,
        /// Nothing but success.
        answer: Answer<()>,
    },
    /// Show all networks, those of modes first.
    ListNetworks {
        /// The networks with the numbers of their jobs.
        answer: Answer<Vec<NetworkView>>,
    },
    /// Show one network and its jobs.
    GetNetwork {
        /// The name, as it was given.
        name: String,
        /// The network, and its jobs, oldest first.
        answer: Answer<(NetworkView, Vec<NetworkJobView>)>,
    },
    /// Make a volume. Answered when it is recorded and can be mounted.
    CreateVolume {
        /// The name that it shall have.
        name: VolumeName,
        /// Where its files shall be.
        kind: VolumeKind,
        /// Its bound, in bytes.
        bytes: u64,
        /// The volume as it is then.
        answer: Answer<VolumeView>,
    },
    /// Remove a volume that no job has, with its files. Answered when that is recorded.
    RemoveVolume {
        /// The name, as it was given.
        name: String,
        /// Nothing but success.
        answer: Answer<()>,
    },
    /// Show all runtimes.
    ListRuntimes {
        /// Every version of every one.
        answer: Answer<Vec<RuntimeView>>,
    },
    /// Show one runtime.
    GetRuntime {
        /// The runtime, as clients ask for one.
        runtime: RuntimeSpec,
        /// The version that this is.
        answer: Answer<RuntimeView>,
    },
    /// Run a runtime's interpreter once. Answered when that has ended.
    TestRuntime {
        /// The job that does it.
        spec: Box<JobSpec>,
        /// The job as it ended, and the beginning of its output.
        answer: Answer<(JobView, String)>,
    },
    /// Run a job that builds a runtime. Answered when it is accepted.
    Build {
        /// The job, with the directory of its build.
        spec: Box<JobSpec>,
        /// Files for its /work.
        files: Vec<Upload>,
        /// The job's output, its files and its end.
        answer: Answer<BuildJob>,
    },
    /// Remove versions of a runtime that no job has. Answered when their files are gone.
    RemoveRuntime {
        /// The runtime, as clients ask for one.
        runtime: RuntimeSpec,
        /// Whether all versions of that name are meant.
        all: bool,
        /// The versions that are gone.
        answer: Answer<RuntimesRemoved>,
    },
    /// Show all GPUs.
    ListGpus {
        /// The GPUs with their jobs.
        answer: Answer<GpusView>,
    },
    /// Give a GPU to jobs again that is lost or held back. Answered when that is written down.
    ResetGpu {
        /// Its number or its UUID, as it was given.
        gpu: String,
        /// All GPUs then.
        answer: Answer<GpusView>,
    },
    /// Show all volumes.
    ListVolumes {
        /// The volumes with the numbers of their jobs.
        answer: Answer<Vec<VolumeView>>,
    },
    /// Show one volume and its jobs.
    GetVolume {
        /// The name, as it was given.
        name: String,
        /// The volume, and its jobs, oldest first.
        answer: Answer<(VolumeView, Vec<VolumeJobView>)>,
    },
    /// Open a volume to copy its files.
    OpenVolume {
        /// The name, as it was given.
        name: String,
        /// The volume, which is counted as long as that lives.
        answer: Answer<OpenVolume>,
    },
    /// Open the /work of a running job to copy its files.
    OpenWork {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The /work of the job.
        answer: Answer<OpenWork>,
    },
    /// Give a volume another size. Answered when it has that.
    ResizeVolume {
        /// The name, as it was given.
        name: String,
        /// The bound that it shall have, in bytes.
        bytes: u64,
        /// The volume as it is then, and the bytes that it had.
        answer: Answer<(VolumeView, u64)>,
    },
    /// Pause a running job, or have it go on.
    Pause {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// Whether it is to be paused.
        paused: bool,
        /// Its clock then, when the kernel has done it.
        answer: Answer<PauseState>,
    },
    /// Give a running job another timeout.
    SetTimeout {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The time that it may go on from now.
        left: Duration,
        /// Its clock then.
        answer: Answer<PauseState>,
    },
    /// Show what there is, in numbers.
    Figures {
        /// All figures of the node.
        answer: Answer<Figures>,
    },
}

/// A job that builds a runtime.
#[derive(Debug)]
pub struct BuildJob {
    /// Its output, and its id.
    pub log: LogSource,
    /// Its files, when its last process is gone; canceled where there are none.
    pub tree: oneshot::Receiver<BuiltTree>,
    /// The job as it ended, and the beginning of its output.
    pub ended: oneshot::Receiver<Result<(JobView, String), CommandError>>,
}

/// A network, as replies show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// The name, which no other network has.
    pub name: String,
    /// The range of its addresses.
    pub range: Range,
    /// The interface of the router that holds its gateway address.
    pub bridge: String,
    /// Whether its jobs reach nothing but each other.
    pub internal: bool,
    /// When it was made, ns since the epoch; `None`: it is built in.
    pub created_ns: Option<i64>,
    /// Jobs that have it, or wait to have it.
    pub jobs: usize,
}

/// A job of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkJobView {
    /// The job's id.
    pub id: JobId,
    /// The job's name, which may be empty.
    pub name: String,
    /// Its address, once it has one.
    pub address: Option<Ipv4Addr>,
    /// Its address of IPv6, where it has one.
    pub address6: Option<Ipv6Addr>,
}

/// A wish for another egress list.
#[derive(Debug, Default)]
pub struct EgressWish {
    /// Entries to add.
    pub add: Vec<String>,
    /// Entries to take out.
    pub remove: Vec<String>,
    /// The list that no other goes beyond, if the node has one.
    pub maximum: Option<List>,
    /// The client that wishes it.
    pub client: ClientId,
}

/// The uploads that a request names.
#[derive(Debug, Default)]
pub struct StoredFiles {
    /// The complete ones.
    pub found: Vec<Arc<Stored>>,
    /// Why one cannot be used. The same request sent again finds none, because its job has taken them.
    pub missing: Option<String>,
}

/// A request to run a workflow that has passed every check which needs no owner of the loop.
#[derive(Debug)]
pub struct NewWorkflow {
    /// The file, read.
    pub plan: Arc<Workflow>,
    /// Its graph, of which nothing has been submitted.
    pub draft: Draft,
    /// The file's text with `***` for the values of secrets.
    pub yaml: String,
    /// The text itself, where it has secrets.
    pub secret: Option<Secret>,
    /// The limits and places of jobs that ask for none.
    pub defaults: Defaults,
    /// The client that made the request.
    pub client: ClientId,
    /// The client's own id of the request; may be empty.
    pub request_id: String,
    /// The files that came with the request, stored. They go with the last claim.
    pub claims: Vec<Claim>,
    /// Files that came ahead.
    pub stored: StoredFiles,
}

/// The plan of a start that is not made.
#[derive(Debug)]
pub struct Explained {
    /// The job that would run, with its limits.
    pub spec: Box<JobSpec>,
    /// Limits that this host cannot enforce (best-effort mode), in words.
    pub unenforced: Vec<String>,
    /// One sentence a step, in order.
    pub plan: Vec<String>,
}

/// Which jobs a list wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// At most so many; 0 for as many as one page has.
    pub limit: usize,
    /// Only jobs with a serial above this one.
    pub after: u64,
    /// Only these statuses; empty for all.
    pub statuses: Vec<Status>,
}

/// The largest number of jobs on one page.
pub(in crate::daemon) const PAGE_MAX: usize = 5000;

/// A page ends behind the job whose texts bring it to so many bytes: arguments and variables of one job may
/// be megabytes, and the loop copies them.
pub(in crate::daemon) const PAGE_BYTES: usize = 8 << 20;

/// One page of the list of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobPage {
    /// Jobs with their serials, by which a next page begins.
    pub jobs: Vec<(u64, JobView)>,
    /// The serial behind which the next page begins; `None`: there are no more. A page may have few jobs, or none, and a next
    /// one: the loop looks at so many jobs for one call.
    pub next: Option<u64>,
}

/// Where a job's output is read.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// The job whose output it is.
    pub id: JobId,
    /// The spool; it may not exist where the job never came so far.
    pub dir: PathBuf,
    /// Whether the daemon knows the job; else only the history may.
    pub is_known: bool,
    /// The history that has the rows that the spool has released.
    pub history: Option<JobHistory>,
    /// How far it has come.
    pub watermark: Arc<Watermark>,
}

/// Where a job's samples are read.
#[derive(Debug, Clone)]
pub struct SampleSource {
    /// The job whose samples they are.
    pub id: JobId,
    /// The spool; it has no samples where the job never ran.
    pub dir: PathBuf,
    /// The history that has the samples of a complete job.
    pub history: Option<JobSamples>,
    /// Whether the daemon knows the job; else only the history may.
    pub is_known: bool,
    /// How far they have come: whole lines, counted in bytes. When it has ended, all of the file is there.
    pub watermark: Arc<stream::Watermark>,
}

/// Why the loop refused. The API knows a gRPC code for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// NOT_FOUND: no job has this id or prefix.
    #[error("job not found: {0}")]
    NotFound(String),
    /// INVALID_ARGUMENT: a prefix that several jobs have.
    #[error("ambiguous job id {prefix} matches {} jobs: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// As it was given.
        prefix: String,
        /// Whole ids, at most ten of them.
        candidates: Vec<String>,
    },
    /// NOT_FOUND: no workflow has this id or prefix.
    #[error("workflow not found: {0}")]
    NoWorkflow(String),
    /// INVALID_ARGUMENT: a prefix that several workflows have.
    #[error("ambiguous workflow id {prefix} matches {} workflows: {}", candidates.len(), candidates.join(", "))]
    AmbiguousWorkflow {
        /// As it was given.
        prefix: String,
        /// Whole ids, at most ten of them.
        candidates: Vec<String>,
    },
    /// FAILED_PRECONDITION: the job is not in a state for it.
    #[error("{0}")]
    WrongState(String),
    /// RESOURCE_EXHAUSTED: a bound of the node is reached.
    #[error("{0}")]
    Exhausted(String),
    /// INVALID_ARGUMENT: a value that fits its field and not this node.
    #[error("{0}")]
    Invalid(String),
    /// ALREADY_EXISTS: something of that name is there.
    #[error("{0}")]
    Exists(String),
    /// NOT_FOUND: nothing of that name is there.
    #[error("{0}")]
    Missing(String),
    /// INTERNAL: the job could not be set up; it is stored as FAILED.
    #[error("{0}")]
    SetUp(String),
    /// INTERNAL: another store cannot be reached now. Clients repeat UNAVAILABLE by themselves, and the user would see nothing.
    #[error("{0}")]
    Unreachable(String),
    /// UNAVAILABLE: nothing is accepted any more.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}
