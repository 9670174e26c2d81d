//! The jobs that wait for others, and for what.

use super::expression::Expression;

/// One part of a job's condition; the job waits until all of its parts hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) owner: usize,
    pub(super) expression: Expression,
}

/// The conditions of all jobs, found by the job that they name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    pub(super) clauses: Vec<Clause>,
    /// For each job the clauses that name it.
    pub(super) named_by: Vec<Vec<usize>>,
    /// For each job the jobs that its clauses name, each once, in the order of the file.
    dependencies: Vec<Vec<usize>>,
}

impl Graph {
    /// The graph of jobs by their conditions.
    pub(super) fn new(conditions: Vec<Vec<Expression>>) -> Graph {
        let count = conditions.len();
        let mut graph =
            Graph { clauses: Vec::new(), named_by: vec![Vec::new(); count], dependencies: Vec::new() };
        for (owner, expressions) in conditions.into_iter().enumerate() {
            let mut named = Vec::new();
            for expression in expressions.into_iter().flat_map(split) {
                let clause = graph.clauses.len();
                let from = named.len();
                expression.names(&mut |job| named.push(job));
                for job in &named[from..] {
                    // One entry a clause, however often it names the job: the last one pushed is this clause's own.
                    if graph.named_by[*job].last() != Some(&clause) {
                        graph.named_by[*job].push(clause);
                    }
                }
                graph.clauses.push(Clause { owner, expression });
            }
            named.sort_unstable();
            named.dedup();
            graph.dependencies.push(named);
        }
        graph
    }

    /// The number of jobs.
    pub fn len(&self) -> usize {
        self.dependencies.len()
    }

    /// Whether it has no jobs.
    pub fn is_empty(&self) -> bool {
        self.dependencies.is_empty()
    }

    /// The jobs that a job waits for, each once.
    pub fn dependencies(&self, job: usize) -> &[usize] {
        &self.dependencies[job]
    }

    /// The jobs of a circle in the order in which they wait for each other; `None`: there is none.
    pub(super) fn cycle(&self) -> Option<Vec<usize>> {
        let mut state = vec![Visit::Unseen; self.len()];
        // Each frame is a job and how many of its dependencies are done; a file decides how deep it gets.
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for first in 0..self.len() {
            if state[first] != Visit::Unseen {
                continue;
            }
            stack.push((first, 0));
            state[first] = Visit::Open;
            while let Some((job, done)) = stack.last_mut() {
                let Some(&next) = self.dependencies[*job].get(*done) else {
                    state[*job] = Visit::Done;
                    stack.pop();
                    continue;
                };
                *done += 1;
                match state[next] {
                    Visit::Done => {}
                    Visit::Unseen => {
                        state[next] = Visit::Open;
                        stack.push((next, 0));
                    }
                    Visit::Open => {
                        let from = stack.iter().position(|(job, _)| *job == next).unwrap_or(0);
                        return Some(stack[from..].iter().map(|(job, _)| *job).collect());
                    }
                }
            }
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Unseen,
    Open,
    Done,
}

/// The parts of a condition that all have to hold: a part that names one job is looked at once for each of its events.
fn split(expression: Expression) -> Vec<Expression> {
    match expression {
        Expression::All(parts) => parts.into_iter().flat_map(split).collect(),
        other => vec![other],
    }
}
