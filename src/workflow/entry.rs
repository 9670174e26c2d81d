//! One job of a workflow file: its keys and their rules.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

use super::array::{self, Array, MAX_ELEMENTS};
use super::environment::Environment;
use super::error::{Place, WorkflowError, shown};
use super::expression::is_name_character;
use super::reach::{self, Reach};
use super::retry::{MAX_RETRIES, Retries, RetryReason};
use super::values::{fields, string, strings, together, variables};
use super::yaml::{Key, Node, Value};
use crate::job::egress::PRESET;
use crate::job::limits::{CoreSet, CpuPercent, IoBytes, MemoryMib};
use crate::job::{GpuWish, InvalidField, Profile, RuntimeSpec, VolumeUse, spec, units, volume};

const KEYS: [&str; 24] = [
    "command",
    "args",
    "network",
    "egress",
    "egress_preset",
    "net_rate_up",
    "net_rate_down",
    "publish",
    "volumes",
    "profile",
    "uploads",
    "requires",
    "resources",
    "environment",
    "secret_environment",
    "schedule",
    "timeout",
    "retries",
    "array",
    "matrix",
    "outputs",
    "inputs",
    "runtime",
    "writable",
];

/// Keys of other tools, and what to write here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("name", "the key above the job is its name"),
    ("depends_on", "write requires: with \"- build: COMPLETED\""),
    ("needs", "write requires: with \"- build: COMPLETED\""),
    ("env", "write environment:"),
    ("max_cpu", "write it below resources:"),
    ("max_memory", "write it below resources:"),
    ("conditions", "write requires: with \"- build=COMPLETED OR test=FAILED\""),
];

/// Most paths of one job's outputs, and of its inputs from one job.
const MAX_PATHS: usize = 256;

const RESOURCES: [&str; 6] =
    ["max_cpu", "max_memory", "max_io_bps", "cpu_cores", "gpu_count", "gpu_memory_mb"];
/// Limits that stand in the job itself, with the rest of its network.
const BESIDE: [(&str, &str); 2] =
    [("net_rate_up", "write it beside resources:"), ("net_rate_down", "write it beside resources:")];

/// The limits that a job asks for; what is absent is the node's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// CPU time in percent of one core.
    pub cpu: Option<CpuPercent>,
    /// Memory in MiB; the node's own bound is not checked yet.
    pub memory: Option<MemoryMib>,
    /// Bytes per second to and from each block device.
    pub io: Option<IoBytes>,
    /// The cores that it may use.
    pub cores: Option<CoreSet>,
    /// The GPUs that it gets for itself.
    pub gpus: Option<GpuWish>,
}

/// The earliest start of a job whose condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// A point in time, ns since the epoch.
    At(i64),
    /// So long after its condition came true.
    After(Duration),
}

/// One job of a workflow, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowJob {
    /// Its key in the file.
    pub name: String,
    /// The place of that key.
    pub at: Place,
    /// The program to run.
    pub command: String,
    /// The arguments argv[1..].
    pub args: Vec<String>,
    /// The network that it names; `None`: the node's default.
    pub network: Option<String>,
    /// Its wishes for that network.
    pub reach: Reach,
    /// The volumes that it gets.
    pub volumes: Vec<VolumeUse>,
    /// The profile of its walls.
    pub profile: Profile,
    /// Its root; `None`: the host's paths.
    pub runtime: Option<RuntimeSpec>,
    /// Whether it may write that root.
    pub writable: bool,
    /// The files that the client sends, as the file names them.
    pub uploads: Vec<String>,
    /// The limits of the job.
    pub resources: Resources,
    /// Its own variables, as written.
    pub environment: Environment,
    /// The earliest start.
    pub schedule: Option<Schedule>,
    /// Longest run time of each attempt.
    pub timeout: Option<Duration>,
    /// Further attempts after a failure.
    pub retries: Option<Retries>,
    /// The jobs that it stands for; `None`: itself.
    pub array: Option<Array>,
    /// The files and directories below /work that it leaves for others.
    pub outputs: Vec<String>,
    /// Those of other jobs that it gets, by the number of the job.
    pub inputs: Vec<(usize, Vec<String>)>,
}

impl WorkflowJob {
    /// How many jobs it stands for.
    pub fn elements(&self) -> usize {
        self.array.as_ref().map_or(1, |array| array.elements.len())
    }

    /// The number of an element of an array or matrix; `None`: it stands for itself.
    pub fn index(&self, element: usize) -> Option<&str> {
        let own = self.array.as_ref()?.elements.get(element)?;
        own.iter().find(|(name, _)| name == array::INDEX).map(|(_, number)| number.as_str())
    }

    /// The expanded variables of one of its elements, 0 for a job without.
    ///
    /// # Errors
    /// See [`Environment::expand`].
    pub fn variables(&self, shared: &Environment, element: usize) -> Result<Environment, String> {
        let own = self.array.as_ref().and_then(|array| array.elements.get(element));
        shared.expand(&self.environment, own.map_or(&[], Vec::as_slice))
    }
}

/// The variables of the file, expanded once for all jobs that add none.
pub(super) struct Shared<'e> {
    written: &'e Environment,
    /// Their bytes, or why they cannot be expanded without those of a job.
    alone: Result<usize, String>,
}

impl Shared<'_> {
    pub(super) fn new(written: &Environment) -> Shared<'_> {
        let alone = written.expand(&Environment::default(), &[]).map(|expanded| expanded.bytes());
        Shared { written, alone }
    }
}

/// The parts of a job that name other jobs, which are not all known yet.
#[derive(Default)]
pub(super) struct Links<'t> {
    pub(super) requires: Option<&'t Node>,
    pub(super) inputs: Option<&'t Node>,
}

/// Reads one job, and what names other jobs.
pub(super) fn read<'t>(
    key: &Key,
    node: &'t Node,
    shared: &Shared<'_>,
) -> Result<(WorkflowJob, Links<'t>), WorkflowError> {
    let of = format_args!("job '{}'", key.text);
    let mut job = WorkflowJob { name: key.text.clone(), at: key.at, ..WorkflowJob::default() };
    let (mut plain, mut secrets, mut links) = (Vec::new(), Vec::new(), Links::default());
    let mut reach = reach::Draft::default();
    for (key, node) in fields(node, &of, &KEYS, &ELSEWHERE)? {
        match key.text.as_str() {
            "command" => job.command = string(key, node)?,
            "args" => job.args = strings(key, node)?,
            "network" => job.network = network(key, node)?,
            "egress" => reach.add_egress(key, node, "")?,
            "egress_preset" => reach.add_egress(key, node, PRESET)?,
            "net_rate_up" | "net_rate_down" => reach.set_rate(key, node)?,
            "publish" => reach.set_publish(key, node)?,
            "volumes" => job.volumes = volumes(key, node)?,
            "profile" => job.profile = profile(key, node)?,
            "uploads" => job.uploads = uploads(node)?,
            "requires" => links.requires = Some(&**node),
            "inputs" => links.inputs = Some(&**node),
            "outputs" => job.outputs = paths(key, node)?,
            "resources" => job.resources = resources(node)?,
            "environment" => plain = variables(key, node)?,
            "secret_environment" => secrets = variables(key, node)?,
            "schedule" => job.schedule = schedule(key, node)?,
            "timeout" => job.timeout = timeout(key, node)?,
            "retries" => job.retries = Some(retries(node)?),
            "array" | "matrix" if job.array.is_some() => {
                return Err(WorkflowError::value(
                    key.at,
                    format!("{of} has an array and a matrix; one is allowed"),
                ));
            }
            "array" => job.array = Some(at(node, array::parse(&string(key, node)?, MAX_ELEMENTS))?),
            "matrix" => job.array = Some(matrix(node)?),
            "runtime" => job.runtime = runtime(key, node)?,
            // `writable`, the last of the keys.
            _ => job.writable = writable(key, node)?,
        }
    }
    job.environment = together(key.at, plain, secrets)?;
    job.reach = reach.finish(key.at, &of, job.network.as_deref(), job.array.as_ref())?;
    // A runtime may have a command of its own.
    if job.runtime.is_none() || !job.command.is_empty() || !job.args.is_empty() {
        spec::check_command(&job.command, &job.args, false)
            .map_err(|e| WorkflowError::value(key.at, format!("{of}: {e}")))?;
    }
    spec::check_writable(job.writable, job.runtime.as_ref())
        .map_err(|e| WorkflowError::value(key.at, format!("{of}: {e}")))?;
    check_variables(key.at, &of, &job, shared)?;
    Ok((job, links))
}

/// The variables can be expanded, and `execve` can carry them.
fn check_variables(
    at: Place,
    of: &dyn Display,
    job: &WorkflowJob,
    shared: &Shared<'_>,
) -> Result<(), WorkflowError> {
    let wrong = |why: String| WorkflowError::value(at, format!("{of}: {why}"));
    let variables = match job.environment.is_empty() && job.array.is_none() {
        true => shared.alone.clone(),
        false => job.variables(shared.written, 0).map(|expanded| expanded.bytes()),
    };
    let variables = variables.map_err(wrong)?;
    let total = variables + job.command.len() + job.args.iter().map(|arg| arg.len() + 9).sum::<usize>();
    if total > spec::MAX_EXEC_TOTAL {
        let most = spec::MAX_EXEC_TOTAL;
        return Err(wrong(format!(
            "command, args and environment have {total} bytes together, at most {most} fit into execve"
        )));
    }
    Ok(())
}

/// A value or a sentence, with its place.
fn at<T>(node: &Node, taken: Result<T, impl ToString>) -> Result<T, WorkflowError> {
    taken.map_err(|why| WorkflowError::value(node.at, why.to_string()))
}

fn network(key: &Key, node: &Node) -> Result<Option<String>, WorkflowError> {
    let name = string(key, node)?;
    if name.len() > 64 || !name.chars().all(is_name_character) {
        return Err(WorkflowError::value(
            node.at,
            format!("network: \"{}\" is no name of a network", shown(&name)),
        ));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

fn writable(key: &Key, node: &Node) -> Result<bool, WorkflowError> {
    match string(key, node)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        text => Err(WorkflowError::value(
            node.at,
            format!("writable: \"{}\" is neither true nor false", shown(text)),
        )),
    }
}

/// The profile, as in RunJob.
fn profile(key: &Key, node: &Node) -> Result<Profile, WorkflowError> {
    let text = string(key, node)?;
    let shown: String = text.chars().take(64).collect();
    at(node, Profile::parse(&text, &shown.escape_debug().to_string()))
}

/// The volumes, each as in RunJob: `NAME` or `NAME:ro`.
fn volumes(key: &Key, node: &Node) -> Result<Vec<VolumeUse>, WorkflowError> {
    let texts = strings(key, node)?;
    volume::parse_uses(&texts).map_err(|why| WorkflowError::value(node.at, format!("volumes: {why}")))
}

fn runtime(key: &Key, node: &Node) -> Result<Option<RuntimeSpec>, WorkflowError> {
    let name = string(key, node)?;
    if name.is_empty() {
        return Ok(None);
    }
    let parsed = name.parse().map_err(|why| WorkflowError::value(node.at, format!("runtime: {why}")));
    parsed.map(Some)
}

fn uploads(node: &Node) -> Result<Vec<String>, WorkflowError> {
    let mut files = Vec::new();
    let elsewhere = [("directories", "name each file below files:")];
    if matches!(node.value, Value::Null) {
        return Ok(files);
    }
    for (key, node) in fields(node, &"uploads", &["files"], &elsewhere)? {
        files = strings(key, node)?;
        let mut seen = HashSet::new();
        for file in &files {
            if file.is_empty() || file.contains('\0') {
                return Err(WorkflowError::value(node.at, "uploads: a path is empty or contains a NUL byte"));
            }
            if !seen.insert(file) {
                return Err(WorkflowError::value(
                    node.at,
                    format!("uploads: \"{}\" stands twice", shown(file)),
                ));
            }
        }
    }
    Ok(files)
}

/// A list of plain paths below /work.
pub(super) fn paths(key: &Key, node: &Node) -> Result<Vec<String>, WorkflowError> {
    let wrong = |why: String| WorkflowError::value(node.at, format!("{}: {why}", shown(&key.text)));
    let paths = strings(key, node)?;
    if paths.len() > MAX_PATHS {
        return Err(wrong(format!("{} paths are too many, at most {MAX_PATHS} are allowed", paths.len())));
    }
    for path in &paths {
        let plain = |part: &str| !["", ".."].contains(&part) && part.len() <= 255;
        let bare = path.strip_prefix("./").unwrap_or(path);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if path.len() > 1024 || path.contains('\0') || !bare.split('/').all(plain) {
            return Err(wrong(format!("\"{}\" is no plain path below /work", shown(path))));
        }
    }
    Ok(paths)
}

fn resources(node: &Node) -> Result<Resources, WorkflowError> {
    let mut found = Resources::default();
    if matches!(node.value, Value::Null) {
        return Ok(found);
    }
    let (mut gpus, mut gpu_memory) = (0, 0);
    for (key, node) in fields(node, &"resources", &RESOURCES, &BESIDE)? {
        match key.text.as_str() {
            "max_cpu" => found.cpu = limit(key, node, CpuPercent::new)?,
            "max_memory" => found.memory = limit(key, node, |mib| MemoryMib::new(mib, u64::from(u32::MAX)))?,
            "max_io_bps" => found.io = limit(key, node, IoBytes::new)?,
            "cpu_cores" => {
                let text = Some(string(key, node)?).filter(|text| !text.is_empty());
                found.cores = at(node, text.map(|text| CoreSet::parse(&text)).transpose())?;
            }
            "gpu_count" => gpus = number(key, node)?,
            _ => gpu_memory = number(key, node)?,
        }
    }
    found.gpus = at(node, GpuWish::new(gpus, gpu_memory))?;
    Ok(found)
}

/// A limit; 0 is none, as in RunJob.
fn limit<T>(
    key: &Key,
    node: &Node,
    take: impl Fn(i64) -> Result<T, InvalidField>,
) -> Result<Option<T>, WorkflowError> {
    let number = whole(key, node)?;
    if number == 0 {
        return Ok(None);
    }
    take(number).map(Some).map_err(|e| WorkflowError::value(node.at, format!("{}: {e}", key.text)))
}

/// A number that the wire carries too; absent is 0.
fn number(key: &Key, node: &Node) -> Result<i32, WorkflowError> {
    let number = whole(key, node)?;
    at(node, i32::try_from(number).map_err(|_| format!("{}: {number} is too large", key.text)))
}

fn whole(key: &Key, node: &Node) -> Result<i64, WorkflowError> {
    let text = string(key, node)?;
    let wrong =
        |_| WorkflowError::value(node.at, format!("{}: \"{}\" is no whole number", key.text, shown(&text)));
    if text.is_empty() { Ok(0) } else { text.parse().map_err(wrong) }
}

fn timeout(key: &Key, node: &Node) -> Result<Option<Duration>, WorkflowError> {
    let text = string(key, node)?;
    if text.is_empty() {
        return Ok(None);
    }
    let duration = at(node, units::parse_duration(&text))?;
    // As in RunJob: zero is no timeout.
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

fn schedule(key: &Key, node: &Node) -> Result<Option<Schedule>, WorkflowError> {
    let text = string(key, node)?;
    if text.is_empty() {
        return Ok(None);
    }
    let delay = text.strip_prefix('+').unwrap_or(&text);
    if let Ok(duration) = units::parse_duration(delay) {
        return Ok(Some(Schedule::After(duration)));
    }
    let wrong = || {
        let why = format!(
            "schedule: cannot read \"{}\"; write a delay such as 30m, or a time such as 2026-01-31T15:00:00Z",
            shown(&text)
        );
        WorkflowError::value(node.at, why)
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    i64::try_from(time.as_nanosecond()).map(|ns| Some(Schedule::At(ns))).map_err(|_| wrong())
}

fn retries(node: &Node) -> Result<Retries, WorkflowError> {
    let mut found = Retries { max: 0, backoff: Duration::from_secs(1), on: RetryReason::DEFAULT.to_vec() };
    for (key, node) in fields(node, &"retries", &["max", "backoff", "on"], &[])? {
        match key.text.as_str() {
            "max" => {
                let max = whole(key, node)?;
                let range = || WorkflowError::value(node.at, format!("retries: max is 1..{MAX_RETRIES}"));
                found.max = u32::try_from(max).ok().filter(|max| *max <= MAX_RETRIES).ok_or_else(range)?;
            }
            "backoff" => found.backoff = at(node, units::parse_duration(&string(key, node)?))?,
            _ => {
                found.on =
                    strings(key, node)?.iter().map(|word| reason(node, word)).collect::<Result<_, _>>()?
            }
        }
    }
    if found.max == 0 || found.on.is_empty() {
        return Err(WorkflowError::value(
            node.at,
            format!("retries: max is 1..{MAX_RETRIES}, and on names a reason"),
        ));
    }
    Ok(found)
}

fn reason(node: &Node, word: &str) -> Result<RetryReason, WorkflowError> {
    let found = RetryReason::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, reason)| reason);
    let known = RetryReason::ALL.map(|(word, _)| word);
    found.ok_or_else(|| {
        let why = format!("retries: unknown reason \"{}\"; there is {}", shown(word), known.join(", "));
        WorkflowError::value(node.at, why)
    })
}

fn matrix(node: &Node) -> Result<Array, WorkflowError> {
    let Value::Map(entries) = &node.value else {
        return Err(WorkflowError::value(node.at, "matrix: is a mapping from names to lists of values"));
    };
    let mut axes = Vec::new();
    let mut seen = HashSet::new();
    for (key, node) in entries {
        let name = key.text.as_str();
        let is_name = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // The variable has the key in upper case.
        if !is_name || name.is_empty() || !seen.insert(name.to_ascii_uppercase()) {
            let why =
                format!("matrix: the key \"{}\" is no name of a variable, or stands twice", shown(name));
            return Err(WorkflowError::value(key.at, why));
        }
        axes.push((key.text.clone(), strings(key, node)?));
    }
    if axes.is_empty() {
        return Err(WorkflowError::value(node.at, "matrix: has at least one key"));
    }
    at(node, array::matrix(&axes, MAX_ELEMENTS))
}
