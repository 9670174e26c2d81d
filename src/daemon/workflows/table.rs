//! All workflows that the daemon knows, in the order in which they were accepted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::AHEAD;
use super::child;
use super::entry::Entry;
use super::flow::{Flow, Next};
use super::view::{WorkflowPage, WorkflowQuery, WorkflowView};
use crate::daemon::command::request::{Answer, CommandError, NewWorkflow, PAGE_BYTES, PAGE_MAX};
use crate::daemon::jobs::{Kept, KeptLimits, Share};
use crate::job::{ClientId, JobId, JobRef, Part, RuntimeSpec, WorkflowId};
use crate::state::WorkflowRecord;
use crate::upload::Claim;

/// Most names of jobs that one waits for, in a reply about it.
const NAMED: usize = 1000;

/// Bounds of workflows.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct WorkflowLimits {
    /// `workflow.maxRunning`: workflows that are not over.
    pub(in crate::daemon) running: usize,
    /// `workflow.clientMaxRunning`: those of one client.
    pub(in crate::daemon) client_running: usize,
    /// `workflow.maxOutputBytes`: bytes that the jobs of one leave for others.
    pub(in crate::daemon) output_bytes: u64,
    /// `state.retention.max`: workflows that are over and kept.
    pub(in crate::daemon) kept: usize,
    /// `state.retention`: their bytes.
    pub(in crate::daemon) bytes: KeptLimits,
}

/// All workflows of the node.
#[derive(Debug)]
pub(in crate::daemon) struct Workflows {
    limits: WorkflowLimits,
    entries: BTreeMap<u64, Entry>,
    serials: BTreeMap<JobId, u64>,
    requests: HashMap<String, u64>,
    /// Those that are not over.
    live: BTreeSet<u64>,
    /// Those that have something to submit take turns.
    turns: VecDeque<u64>,
    /// The bytes of those that are over.
    kept: Kept,
    over: BTreeSet<(Option<i64>, u64)>,
    last: u64,
}

impl Workflows {
    /// Workflows that are not over, and those that are.
    pub(in crate::daemon) fn counts(&self) -> (usize, usize) {
        (self.live.len(), self.over.len())
    }

    /// No workflows yet.
    pub(in crate::daemon) fn new(limits: WorkflowLimits) -> Workflows {
        Workflows {
            limits,
            entries: BTreeMap::new(),
            serials: BTreeMap::new(),
            requests: HashMap::new(),
            live: BTreeSet::new(),
            turns: VecDeque::new(),
            kept: Kept::new(limits.bytes),
            over: BTreeSet::new(),
            last: 0,
        }
    }

    /// Whether one more of this client may run.
    ///
    /// # Errors
    /// The bound that is reached, in words.
    pub(in crate::daemon) fn admit(&self, client: ClientId) -> Result<(), String> {
        let own = self.live.iter().filter(|serial| self.entries[serial].record().client == client).count();
        for (whose, number, most, key) in [
            ("this client", own, self.limits.client_running, "workflow.clientMaxRunning"),
            ("all clients", self.live.len(), self.limits.running, "workflow.maxRunning"),
        ] {
            if number >= most {
                return Err(format!(
                    "{number} workflows of {whose} run already, {key} allows {most}; try again when one has ended"
                ));
            }
        }
        Ok(())
    }

    /// Takes in a new workflow; its serial.
    pub(in crate::daemon) fn accept(
        &mut self,
        new: NewWorkflow,
        claims: Vec<Claim>,
        share: Share,
        starter: Answer<WorkflowView>,
        now_ns: i64,
    ) -> u64 {
        let NewWorkflow { plan, draft, yaml, secret, defaults, client, request_id, .. } = new;
        let record = WorkflowRecord {
            id: WorkflowId::random(),
            serial: self.last + 1,
            name: plan.name.clone(),
            yaml,
            sealed: secret.is_some(),
            defaults,
            client,
            request_id,
            upload_handles: claims.iter().map(|claim| claim.stored().handle().to_string()).collect(),
            created_ns: now_ns,
            canceled: false,
            end: None,
        };
        let mut entry = Entry::accepted(record, draft)
            .with_inputs(claims.into(), share)
            .with_output(0, self.limits.output_bytes);
        entry.await_start(starter);
        self.insert(entry)
    }

    /// Takes in a workflow with its serial.
    pub(in crate::daemon) fn insert(&mut self, entry: Entry) -> u64 {
        let serial = entry.record().serial;
        self.last = self.last.max(serial);
        self.serials.insert(entry.record().id.uuid(), serial);
        if !entry.record().request_id.is_empty() {
            self.requests.insert(entry.record().request_id.clone(), serial);
        }
        let is_over = entry.is_over();
        self.entries.insert(serial, entry);
        if is_over {
            self.is_over(serial);
        } else {
            self.live.insert(serial);
        }
        serial
    }

    /// The networks of jobs that wait in workflows to be submitted, and how many of them. A network may come up several
    /// times.
    pub(in crate::daemon) fn awaited_networks(&self) -> impl Iterator<Item = (&str, usize)> {
        let live = self.live.iter().filter_map(|serial| self.entries.get(serial));
        live.flat_map(|entry| {
            let usual = entry.record().defaults.network.as_str();
            let waiting = entry.flow().into_iter().flat_map(Flow::awaited_networks);
            waiting.map(move |(network, count)| (network.unwrap_or(usual), count))
        })
    }

    /// The volumes of jobs that wait in workflows to be submitted, and how many of them, likewise.
    pub(in crate::daemon) fn awaited_volumes(&self) -> impl Iterator<Item = (&str, usize)> {
        let live = self.live.iter().filter_map(|serial| self.entries.get(serial));
        live.flat_map(|entry| entry.flow().into_iter().flat_map(Flow::awaited_volumes))
    }

    /// The runtimes of jobs that wait in workflows to be submitted, and how many of them, likewise.
    pub(in crate::daemon) fn awaited_runtimes(&self) -> impl Iterator<Item = (RuntimeSpec, usize)> {
        let live = self.live.iter().filter_map(|serial| self.entries.get(serial));
        live.flat_map(|entry| {
            let defaults = &entry.record().defaults;
            let waiting = entry.flow().into_iter().flat_map(Flow::awaited_runtimes);
            waiting.map(move |(asked, count)| (child::resolved(asked, defaults), count))
        })
    }

    /// The workflow that a request with this id made.
    pub(in crate::daemon) fn of_request(&self, request_id: &str) -> Option<u64> {
        self.requests.get(request_id).copied()
    }

    /// A workflow by its serial.
    pub(in crate::daemon) fn get(&self, serial: u64) -> Option<&Entry> {
        self.entries.get(&serial)
    }

    /// The same, to change.
    pub(in crate::daemon) fn get_mut(&mut self, serial: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&serial)
    }

    /// The serial of a workflow.
    pub(in crate::daemon) fn serial(&self, id: WorkflowId) -> Option<u64> {
        self.serials.get(&id.uuid()).copied()
    }

    /// The jobs that a job of a workflow waits for, by name; the last entry counts those beyond a thousand.
    pub(in crate::daemon) fn dependencies(&self, part: &Part) -> Vec<String> {
        let entry = self.serial(part.workflow).and_then(|serial| self.get(serial));
        let Some(roster) = entry.map(Entry::roster) else { return Vec::new() };
        let own = roster.get(part.node as usize).map(|node| node.dependencies.as_slice()).unwrap_or_default();
        let names = own.iter().filter_map(|at| roster.get(*at as usize)).map(|node| node.name.clone());
        let mut names: Vec<String> = names.take(NAMED).collect();
        if own.len() > NAMED {
            names.push(format!("... and {} more", own.len() - NAMED));
        }
        names
    }

    /// Whether a workflow is known and not over.
    pub(in crate::daemon) fn is_live(&self, id: WorkflowId) -> bool {
        self.serial(id).is_some_and(|serial| self.live.contains(&serial))
    }

    /// The workflow that a request names, by its serial.
    ///
    /// # Errors
    /// No workflow or several match.
    pub(in crate::daemon) fn find(&self, wanted: &JobRef) -> Result<u64, CommandError> {
        let missing = || CommandError::NoWorkflow(wanted.to_string());
        match wanted {
            JobRef::Exact(id) => self.serials.get(id).copied().ok_or_else(missing),
            JobRef::Unknown(_) => Err(missing()),
            JobRef::Prefix(prefix) => {
                let from = JobId::lowest_with(prefix).ok_or_else(missing)?;
                let fits = |(id, _): &(&JobId, &u64)| id.to_string().starts_with(prefix.as_str());
                let found: Vec<_> = self.serials.range(from..).take_while(fits).take(10).collect();
                match found.as_slice() {
                    [] => Err(missing()),
                    [(_, serial)] => Ok(**serial),
                    _ => Err(CommandError::AmbiguousWorkflow {
                        prefix: prefix.clone(),
                        candidates: found.iter().map(|(id, _)| id.to_string()).collect(),
                    }),
                }
            }
        }
    }

    /// One page of the list, oldest first.
    pub(in crate::daemon) fn list(&self, query: &WorkflowQuery) -> WorkflowPage {
        let limit = if query.limit == 0 { PAGE_MAX } else { query.limit.min(PAGE_MAX) };
        let from = query.after.saturating_add(1);
        // Those that are over are looked at only if they are wanted.
        let all = query.with_ended.then(|| self.entries.range(from..)).into_iter().flatten();
        let live = (!query.with_ended).then(|| self.live.range(from..)).into_iter().flatten();
        let live = live.filter_map(|serial| self.entries.get_key_value(serial));
        let mut found = all.chain(live).peekable();
        let (mut page, mut bytes) = (WorkflowPage::default(), 0);
        while page.workflows.len() < limit
            && bytes < PAGE_BYTES
            && let Some((serial, entry)) = found.next()
        {
            bytes += 512;
            page.workflows.push((*serial, entry.view(false)));
        }
        page.more = found.peek().is_some();
        page
    }

    /// A workflow may have something to submit.
    pub(in crate::daemon) fn look_at(&mut self, serial: u64) {
        let ready = self.entries.get(&serial).and_then(Entry::running).is_some_and(Flow::is_ready);
        if ready && !self.turns.contains(&serial) {
            self.turns.push_back(serial);
        }
    }

    /// Whether a workflow has something to submit.
    pub(in crate::daemon) fn is_ready(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Jobs that may be submitted beside those that wait for a slot or are started. It asks all workflows that are not over:
    /// once for a turn of the loop.
    pub(in crate::daemon) fn room(&self) -> usize {
        let flows = self.live.iter().filter_map(|serial| self.entries[serial].flow());
        AHEAD.saturating_sub(flows.map(Flow::starting).sum())
    }

    /// Takes the next job that is to be submitted, of each workflow in its turn.
    pub(in crate::daemon) fn next(&mut self, now_ns: i64) -> Option<(u64, Next)> {
        while let Some(serial) = self.turns.pop_front() {
            let Some(flow) = self.entries.get_mut(&serial).and_then(Entry::running_mut) else { continue };
            if let Some(next) = flow.next(now_ns) {
                if flow.is_ready() {
                    self.turns.push_back(serial);
                }
                return Some((serial, next));
            }
        }
        None
    }

    /// Counts a workflow among those that are over.
    pub(in crate::daemon) fn is_over(&mut self, serial: u64) {
        self.live.remove(&serial);
        self.turns.retain(|turn| *turn != serial);
        let Some(entry) = self.entries.get(&serial) else { return };
        let Some(end) = entry.end() else { return };
        let at = (Some(end.ended_ns), serial);
        self.over.insert(at);
        self.kept.add_record(entry.record().client, at, entry.record().id.uuid(), entry.bytes());
        self.kept.add_output(entry.record().client, at, entry.record().id.uuid(), entry.output_bytes());
    }

    /// The workflow that must go next, and the key of the limit that is exceeded; `None` within the limits. Those that
    /// ended before `before_ns` are too old.
    pub(in crate::daemon) fn surplus(&self, before_ns: i64) -> Option<(u64, &'static str)> {
        let oldest = self.over.first();
        if let Some((_, serial)) = oldest.filter(|(ended, _)| *ended < Some(before_ns)) {
            return Some((*serial, "state.retention.days"));
        }
        if let Some((_, serial)) = oldest.filter(|_| self.over.len() > self.limits.kept) {
            return Some((*serial, "state.retention.max"));
        }
        let (uuid, key) = self.kept.surplus()?;
        Some((*self.serials.get(&uuid)?, key))
    }

    /// Takes a workflow out.
    pub(in crate::daemon) fn remove(&mut self, serial: u64) -> Option<Entry> {
        let entry = self.entries.remove(&serial)?;
        self.serials.remove(&entry.record().id.uuid());
        self.requests.remove(&entry.record().request_id);
        self.live.remove(&serial);
        self.turns.retain(|turn| *turn != serial);
        if let Some(end) = entry.end() {
            let at = (Some(end.ended_ns), serial);
            self.over.remove(&at);
            self.kept.remove(entry.record().client, at);
        }
        Some(entry)
    }
}
