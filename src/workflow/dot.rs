//! A workflow as a Graphviz graph.

use std::fmt::Write;

use super::document::Workflow;

/// The text that `dot` reads: an arrow from each job to those that wait for it.
pub fn dot(workflow: &Workflow) -> String {
    let title = if workflow.name.is_empty() { "workflow" } else { &workflow.name };
    let mut text = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quoted(title));
    for job in &workflow.jobs {
        let label = match &job.array {
            Some(array) => format!("{} [{}]", job.name, array.elements.len()),
            None => job.name.clone(),
        };
        let _ = writeln!(text, "  {} [label={}];", quoted(&job.name), quoted(&label));
    }
    for (at, job) in workflow.jobs.iter().enumerate() {
        for before in workflow.graph.dependencies(at) {
            let _ = writeln!(text, "  {} -> {};", quoted(&workflow.jobs[*before].name), quoted(&job.name));
        }
    }
    text + "}\n"
}

/// A quoted ID of the DOT language; nothing in it is read as an escape, by Graphviz or by a terminal.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_invisible(c) { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Control characters, and those that change the direction of a text or have no width.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_marks_of_direction_stay_inside_the_id() {
        assert_eq!(quoted("a\"b\\c\u{202e}d\u{1b}e"), "\"a\\\"b\\\\c d e\"");
    }
}
