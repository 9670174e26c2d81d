//! One workflow that runs: which of its jobs are to be submitted next, and where each of them stands. Pure: it takes in
//! what happened to its jobs, and gives out what is to be done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::job::{Ending, JobId, RuntimeSpec, Status};
use crate::workflow::{NodeStatus, Progress, Schedule, Step, Workflow, WorkflowJob, fold};

use super::awaited::Awaited;
use super::node::{Element, Node, status_of};

/// The place of an element: the number of its job in the file, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::daemon) struct Place {
    /// The number of the job in the file.
    pub(in crate::daemon) node: usize,
    /// The number of the element.
    pub(in crate::daemon) element: usize,
}

/// An element that is to be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) struct Next {
    /// Its place in the file.
    pub(in crate::daemon) place: Place,
    /// The attempt, from 1.
    pub(in crate::daemon) attempt: u32,
    /// Its earliest start, ns since the epoch.
    pub(in crate::daemon) not_before_ns: Option<i64>,
}

/// A job of the workflow that has ended.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Ended {
    /// The job's id.
    pub(in crate::daemon) id: JobId,
    /// How it ended.
    pub(in crate::daemon) ending: Ending,
    /// Start of its payload, ns since the epoch.
    pub(in crate::daemon) started_ns: Option<i64>,
    /// The time of its end.
    pub(in crate::daemon) ended_ns: i64,
}

/// One workflow that runs.
#[derive(Debug)]
pub(in crate::daemon) struct Flow {
    plan: Arc<Workflow>,
    progress: Progress,
    nodes: Vec<Node>,
    /// Jobs with elements that may be submitted.
    ready: VecDeque<usize>,
    /// Elements whose next attempt is to be submitted.
    again: VecDeque<Place>,
    /// The needs of those that are not submitted.
    awaited: Awaited,
    /// Elements that were submitted and do not run yet.
    starting: usize,
    canceled: bool,
    started_ns: Option<i64>,
}

impl Flow {
    /// A workflow of which nothing has been submitted.
    pub(in crate::daemon) fn new(plan: Arc<Workflow>, now_ns: i64) -> Flow {
        let (mut flow, step) = Flow::idle(plan);
        flow.apply(step, now_ns);
        flow
    }

    /// The same, with the first step not applied yet.
    fn idle(plan: Arc<Workflow>) -> (Flow, Step) {
        let (progress, step) = Progress::new(&plan.graph);
        let nodes = plan.jobs.iter().map(|job| Node::new(job.elements())).collect();
        let mut awaited = Awaited::new(&plan.needs);
        plan.jobs.iter().zip(&plan.needs.of).for_each(|(job, of)| awaited.change(of, 0, job.elements()));
        let flow = Flow {
            plan,
            progress,
            nodes,
            ready: VecDeque::new(),
            again: VecDeque::new(),
            awaited,
            starting: 0,
            canceled: false,
            started_ns: None,
        };
        (flow, step)
    }

    /// A workflow that an earlier daemon ran. `history` has what is known of its elements, in the order in which it
    /// happened.
    pub(in crate::daemon) fn resume(plan: Arc<Workflow>, history: Vec<(Place, Known)>, now_ns: i64) -> Flow {
        let (mut flow, step) = Flow::idle(plan);
        for (place, _) in &history {
            if place.node < flow.nodes.len() {
                flow.progress.adopt(place.node);
                flow.nodes[place.node].since_ns = now_ns;
            }
        }
        let begun: Vec<usize> = history.iter().map(|(place, _)| place.node).collect();
        flow.apply(step, now_ns);
        for (place, known) in history {
            flow.recall(place, known, now_ns);
        }
        // An attempt that history names may be followed by the next one in there.
        let waits = |place: &Place| {
            let element = &flow.nodes[place.node].elements[place.element];
            element.job.is_none() && element.status == NodeStatus::Scheduled
        };
        let again: BTreeSet<Place> = flow.again.iter().copied().filter(waits).collect();
        flow.forget_again();
        again.into_iter().for_each(|place| flow.repeat(place));
        // Elements that the earlier daemon had not come to.
        begun.into_iter().for_each(|node| flow.make_ready(node));
        flow
    }

    fn recall(&mut self, place: Place, known: Known, now_ns: i64) {
        match known {
            Known::Submitted { id, scheduled } => self.submitted(place, id, scheduled),
            Known::Running { id, at_ns } => self.running(place, id, at_ns, now_ns),
            Known::Ended { ended, earlier } => {
                if let Some(element) = self.element_mut(place) {
                    if element.attempts.is_empty() {
                        element.attempts = earlier;
                    }
                    if !element.attempts.contains(&ended.id) {
                        self.submitted(place, ended.id, false);
                    } else if element.job.is_none() {
                        self.resubmitted(place, ended.id);
                    }
                }
                self.ended(place, &ended, now_ns);
            }
        }
    }

    /// The file, as it was read.
    pub(in crate::daemon) fn plan(&self) -> &Arc<Workflow> {
        &self.plan
    }

    /// The jobs of the file.
    pub(in crate::daemon) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The jobs of the file, when the graph is over.
    pub(in crate::daemon) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The status of one job of the file.
    pub(in crate::daemon) fn node_status(&self, node: usize) -> NodeStatus {
        self.progress.status(node)
    }

    /// The status of the whole.
    pub(in crate::daemon) fn status(&self) -> NodeStatus {
        self.progress.workflow_status()
    }

    /// How many jobs of the file have a status.
    pub(in crate::daemon) fn count(&self, status: NodeStatus) -> usize {
        self.progress.count(status)
    }

    /// Whether a user has canceled it.
    pub(in crate::daemon) fn is_canceled(&self) -> bool {
        self.canceled
    }

    /// Start of the first payload, ns since the epoch.
    pub(in crate::daemon) fn started_ns(&self) -> Option<i64> {
        self.started_ns
    }

    /// Jobs that were submitted and do not run yet.
    pub(in crate::daemon) fn starting(&self) -> usize {
        self.starting
    }

    /// Whether something is to be submitted.
    pub(in crate::daemon) fn is_ready(&self) -> bool {
        let waits = !self.ready.is_empty() || !self.again.is_empty();
        waits && !self.canceled
    }

    /// The networks of elements that wait in here to be submitted, and how many each has of them; `None`: the usual one.
    pub(in crate::daemon) fn awaited_networks(&self) -> impl Iterator<Item = (Option<&str>, usize)> {
        self.awaited.networks(&self.plan.needs)
    }

    /// Their volumes, likewise.
    pub(in crate::daemon) fn awaited_volumes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.awaited.volumes(&self.plan.needs)
    }

    /// Their runtimes, likewise, as the file names them.
    pub(in crate::daemon) fn awaited_runtimes(&self) -> impl Iterator<Item = (&RuntimeSpec, usize)> {
        self.awaited.runtimes(&self.plan.needs)
    }

    /// The next attempt of an element is to be submitted.
    fn repeat(&mut self, place: Place) {
        self.again.push_back(place);
        self.awaited.change(&self.plan.needs.of[place.node], 0, 1);
    }

    /// Takes the next of those.
    fn next_again(&mut self) -> Option<Place> {
        let place = self.again.pop_front()?;
        self.awaited.change(&self.plan.needs.of[place.node], 1, 0);
        Some(place)
    }

    fn forget_again(&mut self) {
        while self.next_again().is_some() {}
    }

    /// Takes the next element that is to be submitted.
    pub(in crate::daemon) fn next(&mut self, now_ns: i64) -> Option<Next> {
        if self.canceled {
            return None;
        }
        if let Some(place) = self.next_again() {
            let element = self.element_mut(place)?;
            let not_before_ns = element.next_ns.filter(|at| *at > now_ns);
            let attempt = element.attempts.len() as u32 + 1;
            return Some(Next { place, attempt, not_before_ns });
        }
        while let Some(&node) = self.ready.front() {
            let job = &self.plan.jobs[node];
            let most = job.array.as_ref().and_then(|array| array.at_a_time).unwrap_or(usize::MAX);
            match self.nodes[node].next(most) {
                Some(element) => {
                    // The caller submits its job before it takes the next one.
                    let place = Place { node, element };
                    let not_before_ns = not_before(job, self.nodes[node].since_ns).filter(|at| *at > now_ns);
                    return Some(Next { place, attempt: 1, not_before_ns });
                }
                None => {
                    self.nodes[node].is_ready = false;
                    self.ready.pop_front();
                }
            }
        }
        None
    }

    /// An element has its job.
    pub(in crate::daemon) fn submitted(&mut self, place: Place, id: JobId, scheduled: bool) {
        let Some(element) = self.element_mut(place) else { return };
        element.attempts.push(id);
        element.job = Some(id);
        let status = if scheduled { NodeStatus::Scheduled } else { NodeStatus::Initializing };
        self.set(place, status, 0);
    }

    /// An attempt that is over and stands in the element already.
    fn resubmitted(&mut self, place: Place, id: JobId) {
        let Some(element) = self.element_mut(place) else { return };
        element.job = Some(id);
        self.set(place, NodeStatus::Initializing, 0);
    }

    /// The time of an element's job has come: it waits for a slot.
    pub(in crate::daemon) fn due(&mut self, place: Place, id: JobId, now_ns: i64) {
        if self.element_mut(place).is_some_and(|element| element.job == Some(id)) {
            self.set(place, NodeStatus::Initializing, now_ns);
        }
    }

    /// The payload of an element runs.
    pub(in crate::daemon) fn running(&mut self, place: Place, id: JobId, at_ns: i64, now_ns: i64) {
        let Some(element) = self.element_mut(place).filter(|element| element.job == Some(id)) else { return };
        element.started_ns = Some(at_ns);
        self.started_ns = Some(self.started_ns.map_or(at_ns, |first| first.min(at_ns)));
        self.set(place, NodeStatus::Running, now_ns);
    }

    /// The job of an element has ended; `true`: that is to be recorded.
    pub(in crate::daemon) fn ended(&mut self, place: Place, ended: &Ended, now_ns: i64) -> bool {
        let Some(element) = self.element_mut(place).filter(|element| element.job == Some(ended.id)) else {
            return false;
        };
        // A payload that was quicker than its report has run all the same.
        if let Some(at_ns) = ended.started_ns.filter(|_| element.status != NodeStatus::Running) {
            self.running(place, ended.id, at_ns, now_ns);
        }
        let pause = self.pause(place, &ended.ending);
        let canceled = self.canceled;
        let Some(element) = self.element_mut(place) else { return false };
        element.job = None;
        element.started_ns = ended.started_ns;
        element.ended_ns = Some(ended.ended_ns);
        element.ending = Some(ended.ending.clone());
        element.next_ns = pause.filter(|_| !canceled).map(|pause| ended.ended_ns.saturating_add(pause));
        let again = element.next_ns.is_some();
        if again {
            self.set(place, NodeStatus::Scheduled, now_ns);
            self.repeat(place);
        } else {
            self.set(place, status_of(ended.ending.status), now_ns);
            self.make_ready(place.node);
        }
        true
    }

    /// The pause before the next attempt, ns; `None`: there is none.
    fn pause(&self, place: Place, ending: &Ending) -> Option<i64> {
        let retries = self.plan.jobs.get(place.node)?.retries.as_ref()?;
        if ending.status == Status::Completed {
            return None;
        }
        let failures = self.nodes.get(place.node)?.elements.get(place.element)?.attempts.len();
        let pause = retries.pause(u32::try_from(failures).ok()?, ending.reason)?;
        i64::try_from(pause.as_nanos()).ok()
    }

    /// A user cancels it. Nothing is submitted any more; the jobs that are to be ended.
    pub(in crate::daemon) fn cancel(&mut self, now_ns: i64) -> Vec<JobId> {
        if !std::mem::replace(&mut self.canceled, true) {
            let step = self.progress.cancel();
            self.apply(step, now_ns);
            self.ready.clear();
            self.forget_again();
            for node in 0..self.nodes.len() {
                for element in 0..self.nodes[node].elements.len() {
                    let place = Place { node, element };
                    let waits = self.nodes[node].elements[element].job.is_none();
                    if waits && !self.nodes[node].elements[element].status.is_terminal() {
                        self.set(place, NodeStatus::Canceled, now_ns);
                    }
                }
            }
        }
        self.nodes.iter().flat_map(|node| node.elements.iter().filter_map(|element| element.job)).collect()
    }

    fn element_mut(&mut self, place: Place) -> Option<&mut Element> {
        self.nodes.get_mut(place.node)?.elements.get_mut(place.element)
    }

    /// Gives an element a status, its job the status of all of its elements, and takes in what follows.
    fn set(&mut self, place: Place, status: NodeStatus, now_ns: i64) {
        let node = &mut self.nodes[place.node];
        let (was, before) = (node.elements[place.element].status, fold(&node.counts));
        if was.is_terminal() {
            return;
        }
        self.starting += usize::from(status == NodeStatus::Initializing);
        self.starting -= usize::from(was == NodeStatus::Initializing);
        let pending = node.counts[NodeStatus::Pending as usize];
        node.put(place.element, status);
        self.awaited.change(
            &self.plan.needs.of[place.node],
            pending,
            node.counts[NodeStatus::Pending as usize],
        );
        let folded = fold(&node.counts);
        if folded != before {
            let step = self.progress.report(&self.plan.graph, place.node, folded);
            self.apply(step, now_ns);
        }
    }

    fn apply(&mut self, step: Step, now_ns: i64) {
        for node in step.cancel {
            let pending = self.nodes[node].counts[NodeStatus::Pending as usize];
            self.nodes[node].cancel_all();
            let left = self.nodes[node].counts[NodeStatus::Pending as usize];
            self.awaited.change(&self.plan.needs.of[node], pending, left);
        }
        for node in step.start {
            self.nodes[node].since_ns = now_ns;
            self.make_ready(node);
        }
    }

    /// Has the elements submitted that have not been.
    fn make_ready(&mut self, node: usize) {
        let Some(found) = self.nodes.get_mut(node) else { return };
        if !self.canceled && !found.is_ready && found.has_more() {
            found.is_ready = true;
            self.ready.push_back(node);
        }
    }
}

/// Something that is known of an element from an earlier daemon.
#[derive(Debug, Clone)]
pub(in crate::daemon) enum Known {
    /// It has a job that waits or starts.
    Submitted {
        /// The job's id.
        id: JobId,
        /// Whether it waits for its time.
        scheduled: bool,
    },
    /// The payload of that job runs, or has run.
    Running {
        /// The job's id.
        id: JobId,
        /// Start of the payload.
        at_ns: i64,
    },
    /// An attempt has ended.
    Ended {
        /// The job and its end.
        ended: Ended,
        /// All attempts up to this one.
        earlier: Vec<JobId>,
    },
}

/// The earliest start of a job whose condition came true at `since_ns`.
fn not_before(job: &WorkflowJob, since_ns: i64) -> Option<i64> {
    match job.schedule? {
        Schedule::At(at) => Some(at),
        Schedule::After(pause) => {
            Some(since_ns.saturating_add(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX)))
        }
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
