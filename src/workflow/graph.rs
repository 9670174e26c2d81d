//! The jobs that wait for others, and for what.

use super::expression::Expression;
use super::node_status::StatusSet;

/// One part of a job's condition; the job waits until all of its parts hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) owner: usize,
    /// The gate whose value is that of the clause.
    pub(super) root: usize,
}

/// A place in a clause where parts come together. NOT is within the terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) clause: usize,
    /// The gate that it is a part of; `None`: it is the root.
    pub(super) above: Option<usize>,
    /// How many of its parts have to be true.
    pub(super) wants: u32,
}

/// One mention of a job in a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// It is true while the job has one of these.
    pub(super) wanted: StatusSet,
    pub(super) gate: usize,
}

/// The conditions of all jobs, found by the job that they name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    pub(super) clauses: Vec<Clause>,
    pub(super) gates: Vec<Gate>,
    /// For each job the terms that name it.
    pub(super) named_by: Vec<Vec<Term>>,
    /// For each job the jobs that its clauses name, each once, in the order of the file.
    dependencies: Vec<Vec<usize>>,
}

impl Graph {
    /// The graph of jobs by their conditions.
    pub(super) fn new(conditions: Vec<Vec<Expression>>) -> Graph {
        let named_by = vec![Vec::new(); conditions.len()];
        let mut graph = Graph { named_by, ..Graph::default() };
        for (owner, expressions) in conditions.into_iter().enumerate() {
            let mut named = Vec::new();
            for expression in expressions.into_iter().flat_map(split) {
                let (clause, root) = (graph.clauses.len(), graph.gates.len());
                graph.clauses.push(Clause { owner, root });
                graph.gates.push(Gate { clause, above: None, wants: 1 });
                graph.add(&expression, root, false, &mut named);
            }
            named.sort_unstable();
            named.dedup();
            graph.dependencies.push(named);
        }
        graph
    }

    /// Adds an expression, or its negation, as a part of a gate.
    fn add(&mut self, expression: &Expression, gate: usize, negated: bool, named: &mut Vec<usize>) {
        let (parts, all) = match expression {
            Expression::Is(job, wanted) => {
                let wanted = if negated { wanted.complement() } else { *wanted };
                self.named_by[*job].push(Term { wanted, gate });
                named.push(*job);
                return;
            }
            Expression::Not(part) => return self.add(part, gate, !negated, named),
            // De Morgan: a negation of parts that all hold is one that does not.
            Expression::All(parts) => (parts, !negated),
            Expression::Any(parts) => (parts, negated),
        };
        let inner = self.gates.len();
        let wants = if all { u32::try_from(parts.len()).unwrap_or(u32::MAX) } else { 1 };
        let clause = self.gates[gate].clause;
        self.gates.push(Gate { clause, above: Some(gate), wants });
        parts.iter().for_each(|part| self.add(part, inner, negated, named));
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

/// The parts of a condition that all have to hold: a job waits for so many of them.
fn split(expression: Expression) -> Vec<Expression> {
    match expression {
        Expression::All(parts) => parts.into_iter().flat_map(split).collect(),
        other => vec![other],
    }
}
