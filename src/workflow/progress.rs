//! Where a workflow stands: a status comes in, the jobs to start and those that never will come out.
//!
//! No condition is evaluated as a whole. Each gate of a clause counts its parts that are true, and those that may become
//! true; a status changes the counts where the job is named, and from there upwards as far as a gate changes its value. So
//! an event costs as much as the file says about its job, and not what the clauses say beside.

use super::graph::{Graph, Term};
use super::node_status::{NodeStatus, StatusSet};

/// The consequences of one event, each job once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Jobs whose condition holds: they are to be started. A job is named here once in its life.
    pub start: Vec<usize>,
    /// Jobs whose condition can never hold: they are CANCELED now.
    pub cancel: Vec<usize>,
}

/// The statuses of all jobs of one workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    status: Vec<NodeStatus>,
    /// For each gate how many of its parts are true now, and may be later.
    parts: Vec<[u32; 2]>,
    /// For each clause whether it held when it was last looked at.
    holds: Vec<bool>,
    /// For each job how many of its clauses do not hold.
    unmet: Vec<usize>,
    /// Jobs that were named in [`Step::start`].
    begun: Vec<bool>,
    /// How many jobs have each status.
    counts: [usize; NodeStatus::ALL.len()],
    /// A user canceled the workflow.
    canceled: bool,
    /// A user canceled one of its jobs.
    job_canceled: bool,
}

impl Progress {
    /// Every job is PENDING; the step names those that wait for nothing.
    pub fn new(graph: &Graph) -> (Progress, Step) {
        let mut unmet = vec![0; graph.len()];
        graph.clauses.iter().for_each(|clause| unmet[clause.owner] += 1);
        let mut counts = [0; NodeStatus::ALL.len()];
        counts[NodeStatus::Pending as usize] = graph.len();
        let mut progress = Progress {
            status: vec![NodeStatus::Pending; graph.len()],
            parts: vec![[0; 2]; graph.gates.len()],
            holds: vec![false; graph.clauses.len()],
            unmet,
            begun: vec![false; graph.len()],
            counts,
            canceled: false,
            job_canceled: false,
        };
        let mut event = Event { touched: (0..graph.len()).collect(), impossible: Vec::new() };
        let mut changed = Vec::new();
        for term in graph.named_by.iter().flatten() {
            progress.change(graph, term, [false; 2], truth(term, NodeStatus::Pending), &mut changed);
        }
        for clause in 0..graph.clauses.len() {
            progress.look(graph, clause, &mut event);
        }
        let step = progress.settle(graph, event);
        (progress, step)
    }

    /// A job was started by an earlier daemon: no step names it any more, and nothing cancels it but its own end. Comes
    /// before the first report.
    pub fn adopt(&mut self, job: usize) {
        self.begun[job] = true;
    }

    /// A job has a new status. A terminal status never changes: a later report about that job is ignored.
    pub fn report(&mut self, graph: &Graph, job: usize, status: NodeStatus) -> Step {
        if self.status[job].is_terminal() {
            return Step::default();
        }
        self.job_canceled |= status == NodeStatus::Canceled;
        let mut event = Event::default();
        self.set(graph, job, status, &mut event);
        self.settle(graph, event)
    }

    /// A user cancels the workflow: the step cancels every job that is PENDING and was not to be started. Those under way
    /// are the caller's to end.
    pub fn cancel(&mut self) -> Step {
        self.canceled = true;
        let cancel: Vec<usize> = (0..self.status.len()).filter(|job| self.waits(*job)).collect();
        for job in &cancel {
            self.put(*job, NodeStatus::Canceled);
        }
        Step { start: Vec::new(), cancel }
    }

    /// The status of a job.
    pub fn status(&self, job: usize) -> NodeStatus {
        self.status[job]
    }

    /// How many jobs have a status.
    pub fn count(&self, status: NodeStatus) -> usize {
        self.counts[status as usize]
    }

    /// The status of the workflow. It has FAILED if a job failed or was stopped, handled or not. Jobs that were canceled
    /// because their condition became impossible, such as a handler that nothing needed, do not count.
    pub fn workflow_status(&self) -> NodeStatus {
        let ended: usize =
            NodeStatus::ALL.into_iter().filter(|s| s.is_terminal()).map(|s| self.count(s)).sum();
        if ended < self.status.len() {
            let waiting = self.count(NodeStatus::Pending) + self.count(NodeStatus::Scheduled);
            // Jobs that never ran do not make it RUNNING.
            let begun = self.status.len() - waiting - self.count(NodeStatus::Canceled);
            return if begun > 0 { NodeStatus::Running } else { NodeStatus::Pending };
        }
        if self.canceled {
            NodeStatus::Canceled
        } else if self.count(NodeStatus::Failed) + self.count(NodeStatus::Stopped) > 0 {
            NodeStatus::Failed
        } else if self.job_canceled {
            NodeStatus::Canceled
        } else {
            NodeStatus::Completed
        }
    }

    fn put(&mut self, job: usize, status: NodeStatus) {
        self.counts[self.status[job] as usize] -= 1;
        self.counts[status as usize] += 1;
        self.status[job] = status;
    }

    fn set(&mut self, graph: &Graph, job: usize, status: NodeStatus, event: &mut Event) {
        let before = self.status[job];
        self.put(job, status);
        let mut changed = Vec::new();
        for term in &graph.named_by[job] {
            let owner = graph.clauses[graph.gates[term.gate].clause].owner;
            // Nobody asks any more about the clauses of one that is decided.
            if self.waits(owner) {
                self.change(graph, term, truth(term, before), truth(term, status), &mut changed);
            }
        }
        // A clause may name the job several times: only now its value is right.
        for clause in changed {
            self.look(graph, clause, event);
        }
    }

    /// A term has another truth: counts it, upwards as far as a gate changes its own. Clauses whose root does are `changed`.
    fn change(
        &mut self,
        graph: &Graph,
        term: &Term,
        was: [bool; 2],
        is: [bool; 2],
        changed: &mut Vec<usize>,
    ) {
        for time in [NOW, LATER] {
            if was[time] == is[time] {
                continue;
            }
            let mut at = Some(term.gate);
            while let Some(gate) = at {
                let (wants, count) = (graph.gates[gate].wants, &mut self.parts[gate][time]);
                let before = *count >= wants;
                *count = if is[time] { *count + 1 } else { *count - 1 };
                if before == (*count >= wants) {
                    break;
                }
                at = graph.gates[gate].above;
                if at.is_none() {
                    changed.push(graph.gates[gate].clause);
                }
            }
        }
    }

    /// Looks at the root of a clause. A job that is to be started stays so, whatever its clauses say later.
    fn look(&mut self, graph: &Graph, clause: usize, event: &mut Event) {
        let owner = graph.clauses[clause].owner;
        if !self.waits(owner) {
            return;
        }
        let root = graph.clauses[clause].root;
        let [holds, is_possible] = self.parts[root].map(|count| count >= graph.gates[root].wants);
        match (self.holds[clause], holds) {
            (false, true) => self.unmet[owner] -= 1,
            (true, false) => self.unmet[owner] += 1,
            _ => {}
        }
        self.holds[clause] = holds;
        if !holds && !is_possible {
            event.impossible.push(owner);
        }
        event.touched.push(owner);
    }

    /// Cancels what became impossible, and by it more, and only then starts the jobs whose clauses all hold: no job
    /// starts on a status that the same event has changed.
    fn settle(&mut self, graph: &Graph, mut event: Event) -> Step {
        let mut step = Step::default();
        while let Some(job) = event.impossible.pop() {
            if self.waits(job) {
                step.cancel.push(job);
                self.set(graph, job, NodeStatus::Canceled, &mut event);
            }
        }
        for job in event.touched {
            if self.unmet[job] == 0 && self.waits(job) && !self.canceled {
                self.begun[job] = true;
                step.start.push(job);
            }
        }
        step
    }

    /// The counts of all gates.
    #[cfg(test)]
    pub(super) fn gates(&self) -> &[[u32; 2]] {
        &self.parts
    }

    /// Whether nothing has been decided about the job.
    fn waits(&self, job: usize) -> bool {
        !self.begun[job] && self.status[job] == NodeStatus::Pending
    }
}

const NOW: usize = 0;
const LATER: usize = 1;

/// Whether a term is true while its job has a status, and whether it may be later.
fn truth(term: &Term, status: NodeStatus) -> [bool; 2] {
    [StatusSet::of(status).meets(term.wanted), status.futures().meets(term.wanted)]
}

/// The jobs that one event is about.
#[derive(Default)]
struct Event {
    /// Jobs with a clause to evaluate again; some stand here several times.
    touched: Vec<usize>,
    /// Jobs with a clause that can never hold.
    impossible: Vec<usize>,
}
