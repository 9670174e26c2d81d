//! `rnx workflow validate`

use serde::Serialize;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::workflow_file;
use crate::workflow::Workflow;

/// `rnx workflow validate` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "validate"],
    alias: false,
    usage: "<file>",
    operands: Operands::One("file"),
    flags: &[],
    summary: "Check a workflow file without a server",
    about: "Checks keys, values, conditions, dependencies, variables and uploads. A mistake is printed with its line and \
            column, and exits 1. The file - is stdin. Whether the node has a network, and allows such lists and ports, \
            is not checked.",
    examples: &["rnx workflow validate pipeline.yaml"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

#[derive(Debug, Serialize)]
struct Valid<'a> {
    valid: bool,
    name: &'a str,
    /// Keys below `jobs`.
    jobs: usize,
    /// Jobs with the elements of arrays counted.
    elements: usize,
}

/// Reads the file and says that it is a workflow.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let file = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let workflow = workflow_file::read(file)?.workflow;
    if out.json { out.value(&json(&workflow)) } else { out.text(&text(&workflow)) }
}

fn json(workflow: &Workflow) -> Valid<'_> {
    let (jobs, elements) = (workflow.jobs.len(), workflow.elements());
    Valid { valid: true, name: &workflow.name, jobs, elements }
}

fn text(workflow: &Workflow) -> String {
    let (jobs, elements) = (workflow.jobs.len(), workflow.elements());
    let with_elements =
        if elements == jobs { String::new() } else { format!(", {elements} with the elements of arrays") };
    format!(
        "No circular dependencies found\nAll job dependencies are valid\nWorkflow validation completed \
         successfully!\nJobs: {jobs}{with_elements}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::parse;

    #[test]
    fn answer_counts_jobs_and_elements() {
        let plain = parse("jobs: {a: {command: x}}").unwrap();
        assert!(text(&plain).ends_with("successfully!\nJobs: 1\n"));
        let array = parse("name: n\njobs: {a: {command: x, array: 1-3}}").unwrap();
        assert!(text(&array).ends_with("Jobs: 1, 3 with the elements of arrays\n"));
        let json = serde_json::to_string(&json(&array)).unwrap();
        assert_eq!(json, r#"{"valid":true,"name":"n","jobs":1,"elements":3}"#);
    }
}
