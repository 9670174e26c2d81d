//! A workflow file as a whole: its keys, its jobs by name, and the checks that need all of them.

use std::collections::HashMap;

use super::array::MAX_ELEMENTS;
use super::entry::{self, Links, Shared, WorkflowJob};
use super::environment::Environment;
use super::error::{Place, WorkflowError, shown};
use super::expression::{self, Expression, is_name_character};
use super::graph::Graph;
use super::nearest::nearest;
use super::needs::Needs;
use super::node_status::{NodeStatus, StatusSet, named};
use super::values::{bounded, fields, string, together, variables};
use super::yaml::{self, Key, Node, Value};
use crate::job::spec;

/// Most jobs of a workflow, each array as one.
pub const MAX_JOBS: usize = 10_000;
/// Longest description in bytes.
const MAX_DESCRIPTION: usize = 4096;
/// Most mentions of jobs in all conditions. When a job gets a status, the daemon counts through those of this job; when one
/// that fails has all others canceled, through all.
const MAX_NAMED: usize = 500_000;
/// Most mentions of one job in all conditions.
const MAX_NAMED_ONE: usize = 20_000;
/// Most bytes of the variables that all jobs share: every job with variables of its own copies them.
const MAX_SHARED: usize = 64 << 10;
/// Longest circle that is printed whole.
const SHOWN_CYCLE: usize = 20;

const KEYS: [&str; 5] = ["name", "description", "environment", "secret_environment", "jobs"];

/// Keys of other tools, and what to write here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("version", "a workflow file has no version; remove it"),
    ("runtime", "write it in each job"),
    ("schedule", "write it in each job"),
    ("defaults", "write the values in each job, or repeat them with a YAML anchor"),
    ("extends", "repeat values with a YAML anchor"),
    ("workflows", "one file is one workflow; write its jobs: here"),
    ("steps", "write jobs: with a name for each"),
];

/// A workflow file that has passed every rule which needs no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// The name that the file gives itself; may be empty.
    pub name: String,
    /// Text for people; may be empty.
    pub description: String,
    /// The variables that all jobs share, as written.
    pub environment: Environment,
    /// The jobs in the order of the file; the graph counts them by this order.
    pub jobs: Vec<WorkflowJob>,
    /// The jobs that wait for others.
    pub graph: Graph,
    /// The things of the node that jobs name.
    pub needs: Needs,
}

impl Workflow {
    /// Whether the file names a secret.
    pub fn has_secrets(&self) -> bool {
        let own = self.jobs.iter().map(|job| &job.environment);
        std::iter::once(&self.environment).chain(own).any(|environment| !environment.secrets.is_empty())
    }

    /// The number of jobs with the elements of arrays counted.
    pub fn elements(&self) -> usize {
        self.jobs.iter().map(WorkflowJob::elements).sum()
    }
}

/// Reads and checks a workflow file.
///
/// # Errors
/// The first rule that the file breaks, with its place.
pub fn parse(text: &str) -> Result<Workflow, WorkflowError> {
    let root = yaml::read(text)?;
    let (mut name, mut description) = (String::new(), String::new());
    let (mut plain, mut secrets, mut jobs) = (Vec::new(), Vec::new(), None);
    for (key, node) in fields(&root, &"the file", &KEYS, &ELSEWHERE)? {
        match key.text.as_str() {
            "name" => {
                name = string(key, node)?;
                spec::check_name(&name).map_err(|e| WorkflowError::value(node.at, e.to_string()))?;
            }
            "description" => description = bounded(key, node, MAX_DESCRIPTION)?,
            "environment" => plain = variables(key, node)?,
            "secret_environment" => secrets = variables(key, node)?,
            _ => jobs = Some(node),
        }
    }
    let environment = together(root.at, plain, secrets)?;
    if environment.bytes() > MAX_SHARED {
        let why =
            format!("environment of the file: more than {MAX_SHARED} bytes; put large values into the jobs");
        return Err(WorkflowError::value(root.at, why));
    }
    let jobs = jobs
        .ok_or_else(|| WorkflowError::value(root.at, "jobs: is missing; a workflow has at least one job"))?;
    let (jobs, graph) = jobs_of(jobs, &Shared::new(&environment))?;
    let needs = Needs::of(&jobs);
    Ok(Workflow { name, description, environment, jobs, graph, needs })
}

/// A job as written, with its requirements still as text.
struct Draft<'t> {
    at: Place,
    job: WorkflowJob,
    links: Links<'t>,
}

fn jobs_of(node: &Node, shared: &Shared<'_>) -> Result<(Vec<WorkflowJob>, Graph), WorkflowError> {
    let wrong = |why: String| WorkflowError::value(node.at, why);
    let entries = match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        Value::List(_) => {
            return Err(wrong("jobs: is a mapping from names to jobs, not a list; write \"build:\" instead of \"- name: build\"".into()));
        }
        _ => return Err(wrong("jobs: has at least one job, each under its name".into())),
    };
    if entries.len() > MAX_JOBS {
        return Err(wrong(format!("jobs: there are {}, at most {MAX_JOBS} are allowed", entries.len())));
    }
    let mut drafts = Vec::with_capacity(entries.len());
    let mut elements = 0;
    for (key, node) in entries {
        check_job_name(key)?;
        let (job, links) = entry::read(key, node, shared)?;
        elements += job.elements();
        if elements > MAX_ELEMENTS {
            let why = format!("jobs: more than {MAX_ELEMENTS} with the elements of arrays");
            return Err(WorkflowError::value(key.at, why));
        }
        drafts.push(Draft { at: key.at, job, links });
    }
    let graph = connect(&drafts)?;
    let inputs: Vec<_> = (0..drafts.len()).map(|at| inputs(at, &drafts, &graph)).collect::<Result<_, _>>()?;
    let with = |(draft, inputs): (Draft<'_>, _)| WorkflowJob { inputs, ..draft.job };
    Ok((drafts.into_iter().zip(inputs).map(with).collect(), graph))
}

/// Reads all conditions, now that every name is known.
fn connect(drafts: &[Draft<'_>]) -> Result<Graph, WorkflowError> {
    let numbers: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(n, draft)| (draft.job.name.as_str(), n)).collect();
    let mut conditions = Vec::with_capacity(drafts.len());
    let mut named = Named { all: 0, each: vec![0; drafts.len()], beyond: None };
    for draft in drafts {
        let own = match draft.links.requires {
            Some(node) => requirements(&draft.job.name, node, &numbers)?,
            None => Vec::new(),
        };
        own.iter().for_each(|expression| named.count(expression));
        named.check(drafts).map_err(|why| WorkflowError::value(draft.at, why))?;
        conditions.push(own);
    }
    let graph = Graph::new(conditions);
    match graph.cycle() {
        None => Ok(graph),
        Some(cycle) => {
            let at = drafts[cycle[0]].at;
            let mut names: Vec<String> = cycle.iter().map(|n| drafts[*n].job.name.clone()).collect();
            if names.len() > SHOWN_CYCLE {
                let left_out = names.len() - SHOWN_CYCLE;
                names.truncate(SHOWN_CYCLE);
                names.push(format!("({left_out} more)"));
            }
            names.push(names[0].clone());
            Err(WorkflowError::OrderJobs { at, cycle: names })
        }
    }
}

/// How often conditions name jobs.
struct Named {
    all: usize,
    each: Vec<usize>,
    /// A job that is named too often.
    beyond: Option<usize>,
}

impl Named {
    fn count(&mut self, expression: &Expression) {
        expression.names(&mut |job| {
            self.all += 1;
            self.each[job] += 1;
            self.beyond = self.beyond.or((self.each[job] > MAX_NAMED_ONE).then_some(job));
        });
    }

    fn check(&self, drafts: &[Draft<'_>]) -> Result<(), String> {
        let hint = "let them wait for one job that waits for the same";
        if self.all > MAX_NAMED {
            return Err(format!(
                "requires: the conditions up to here name jobs more than {MAX_NAMED} times; where many jobs wait for \
                 the same ones, {hint}"
            ));
        }
        match self.beyond {
            Some(job) => Err(format!(
                "requires: the conditions up to here name job '{}' more than {MAX_NAMED_ONE} times; {hint}",
                drafts[job].job.name
            )),
            None => Ok(()),
        }
    }
}

/// The list behind `requires`: all of its items have to hold.
fn requirements(
    job: &str,
    node: &Node,
    numbers: &HashMap<&str, usize>,
) -> Result<Vec<Expression>, WorkflowError> {
    let shape =
        "requires: is a list; write \"- build: COMPLETED\" or \"- build=COMPLETED OR test=COMPLETED\"";
    let items = match &node.value {
        Value::List(items) => items,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(WorkflowError::value(node.at, shape)),
    };
    let find = |name: &str| numbers.get(name).copied();
    let missing = |at: Place, name: &str| {
        let near = nearest(name, numbers.keys().copied().filter(|known| *known != job));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
        WorkflowError::FindJob { at, job: job.to_owned(), missing: shown(name), hint }
    };
    let mut found = Vec::new();
    let read = |node: &Node, text: &str| {
        expression::parse(text, &find).map_err(|wrong| match wrong.missing {
            Some(name) => missing(node.at, &name),
            None => {
                let character = text[..wrong.offset].chars().count() + 1;
                WorkflowError::value(node.at, format!("condition, character {character}: {}", wrong.why))
            }
        })
    };
    for item in items {
        match &item.value {
            // A name alone: the job has done its work.
            Value::Scalar(text) => found.push(match find(text) {
                Some(number) => Expression::Is(number, StatusSet::of(NodeStatus::Completed)),
                None if text.chars().all(is_name_character) => return Err(missing(item.at, text)),
                None => read(item, text)?,
            }),
            Value::Map(entries) => {
                for (key, node) in entries {
                    let Value::Scalar(text) = &node.value else {
                        return Err(WorkflowError::value(node.at, shape));
                    };
                    if key.text == "expression" {
                        found.push(read(node, text)?);
                        continue;
                    }
                    let number = find(&key.text).ok_or_else(|| missing(key.at, &key.text))?;
                    let set = named(text)
                        .ok_or_else(|| WorkflowError::value(node.at, expression::unknown_status(text)))?;
                    found.push(Expression::Is(number, set));
                }
            }
            _ => return Err(WorkflowError::value(item.at, shape)),
        }
    }
    Ok(found)
}

/// The files that a job gets from others, each of which it waits for.
fn inputs(
    at: usize,
    drafts: &[Draft<'_>],
    graph: &Graph,
) -> Result<Vec<(usize, Vec<String>)>, WorkflowError> {
    let Some(node) = drafts[at].links.inputs else { return Ok(Vec::new()) };
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(WorkflowError::value(node.at, "inputs: is a mapping from jobs to lists of paths")),
    };
    let waits_for = graph.dependencies(at).iter();
    let waits_for: HashMap<&str, usize> = waits_for.map(|n| (drafts[*n].job.name.as_str(), *n)).collect();
    let mut found = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        let wrong = |why: String| Err(WorkflowError::value(key.at, format!("inputs: {why}")));
        let name = shown(&key.text);
        let Some(&before) = waits_for.get(key.text.as_str()) else {
            return wrong(format!(
                "\"{name}\" is no job that this one names in requires; it has to wait for it"
            ));
        };
        let outputs = &drafts[before].job.outputs;
        let mut paths = entry::paths(key, node)?;
        if paths.is_empty() {
            paths.clone_from(outputs);
        }
        let is_of = |path: &str, output: &str| {
            path.strip_prefix(output.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(path) = paths.iter().find(|path| !outputs.iter().any(|output| is_of(path, output))) {
            return wrong(format!(
                "job \"{name}\" has no output \"{}\"; list it in its outputs",
                shown(path)
            ));
        }
        if paths.is_empty() {
            return wrong(format!("job \"{name}\" has no outputs"));
        }
        found.push((before, paths));
    }
    Ok(found)
}

fn check_job_name(key: &Key) -> Result<(), WorkflowError> {
    let name = key.text.as_str();
    let wrong = |why: &str| Err(WorkflowError::value(key.at, format!("job name \"{}\": {why}", shown(name))));
    if name.is_empty() || name.len() > 64 {
        return wrong("it has 1 to 64 characters");
    }
    if !name.chars().all(is_name_character) || name.starts_with(['-', '.']) {
        return wrong(
            "letters, digits, \"_\", \"-\" and \".\" are allowed, and not \"-\" or \".\" at its beginning",
        );
    }
    if expression::KEYWORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) || name == "expression" {
        return wrong("conditions use this word; choose another name");
    }
    Ok(())
}
