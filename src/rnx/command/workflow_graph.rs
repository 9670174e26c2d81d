//! `rnx workflow graph`

use serde::Serialize;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::workflow_file;
use crate::workflow::{Workflow, dot};

/// `rnx workflow graph` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "graph"],
    alias: false,
    usage: "<file>",
    operands: Operands::One("file"),
    flags: &[],
    summary: "Print the graph of a workflow file for Graphviz",
    about: "Checks the file as rnx workflow validate does, then prints it in the language of dot; an arrow leads from a \
            job to those that wait for it. With --json a list of jobs with their dependencies.",
    examples: &["rnx workflow graph pipeline.yaml | dot -Tsvg >pipeline.svg"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    elements: usize,
    dependencies: Vec<&'a str>,
}

/// Prints the graph of the file.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let file = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let workflow = workflow_file::read(file)?.workflow;
    if out.json { out.value(&json(&workflow)) } else { out.text(&dot(&workflow)) }
}

fn json(workflow: &Workflow) -> Vec<Listed<'_>> {
    let name = |job: &usize| workflow.jobs[*job].name.as_str();
    let listed = workflow.jobs.iter().enumerate().map(|(at, job)| Listed {
        name: &job.name,
        elements: job.elements(),
        dependencies: workflow.graph.dependencies(at).iter().map(name).collect(),
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::parse;

    #[test]
    fn list_names_dependencies_of_conditions() {
        let file = "jobs:\n  a: {command: x}\n  b: {command: x, requires: ['NOT a=FAILED']}\n";
        let json = serde_json::to_string(&json(&parse(file).unwrap())).unwrap();
        let expected =
            r#"[{"name":"a","elements":1,"dependencies":[]},{"name":"b","elements":1,"dependencies":["a"]}]"#;
        assert_eq!(json, expected);
    }
}
