//! A daemon in a few lines around one graph: it submits, lets jobs end, and is killed at any step.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::job::ExitReason;
use crate::workflow::parse;

const SECOND: i64 = 1_000_000_000;

fn flow(jobs: &str) -> Flow {
    Flow::new(plan(jobs), 0)
}

fn plan(jobs: &str) -> Arc<Workflow> {
    Arc::new(parse(&format!("jobs:\n{jobs}")).unwrap_or_else(|e| panic!("{e}\n{jobs}")))
}

fn ending(code: i32) -> Ending {
    let status = if code == 0 { Status::Completed } else { Status::Failed };
    Ending { status, reason: ExitReason::Exited, code, signal: 0, message: String::new() }
}

/// Submits all that may be submitted; the names of the jobs with the numbers of their elements.
fn submit(flow: &mut Flow, now_ns: i64) -> Vec<(Next, JobId)> {
    let mut found = Vec::new();
    while let Some(next) = flow.next(now_ns) {
        let id = JobId::random();
        flow.submitted(next.place, id, next.not_before_ns.is_some());
        found.push((next, id));
    }
    found
}

fn end(flow: &mut Flow, (next, id): &(Next, JobId), code: i32, now_ns: i64) {
    let ended = Ended { id: *id, ending: ending(code), started_ns: Some(now_ns), ended_ns: now_ns };
    assert!(flow.ended(next.place, &ended, now_ns));
    assert!(!flow.ended(next.place, &ended, now_ns), "a second time changes nothing");
}

#[test]
fn array_runs_so_many_at_a_time_and_counts_as_one() {
    let mut flow = flow("  a: {command: x, array: 0-9%3}\n  b: {command: y, requires: [a]}");
    let mut running = submit(&mut flow, 0);
    assert_eq!(running.len(), 3);
    let mut ended = 0;
    while let Some(job) = running.pop() {
        assert_eq!(job.0.place.node, 0);
        end(&mut flow, &job, 0, 1);
        ended += 1;
        let more = submit(&mut flow, 1);
        if ended < 10 {
            running.extend(more);
            assert!(running.len() <= 3);
            assert_eq!(flow.node_status(0), NodeStatus::Running);
        } else {
            assert_eq!(more[0].0.place, Place { node: 1, element: 0 });
            end(&mut flow, &more[0], 0, 2);
        }
    }
    assert_eq!((ended, flow.status()), (10, NodeStatus::Completed));
}

#[test]
fn failed_element_fails_the_array_and_starts_its_handler() {
    let mut flow = flow(
        "  a: {command: x, array: 0-1}\n  b: {command: y, requires: [a: FAILED]}\n  c: {command: z, \
                         requires: [a]}",
    );
    let running = submit(&mut flow, 0);
    end(&mut flow, &running[0], 1, 1);
    assert_eq!((submit(&mut flow, 1).len(), flow.node_status(0)), (0, NodeStatus::Running));
    end(&mut flow, &running[1], 0, 2);
    let handler = submit(&mut flow, 2);
    assert_eq!((handler[0].0.place.node, flow.node_status(2)), (1, NodeStatus::Canceled));
    end(&mut flow, &handler[0], 0, 3);
    assert_eq!(flow.status(), NodeStatus::Failed);
}

#[test]
fn retries_wait_longer_each_time_and_keep_every_attempt() {
    let mut flow =
        flow("  a: {command: x, retries: {max: 2, backoff: 5s}}\n  b: {command: y, requires: [a: FAILED]}");
    let first = submit(&mut flow, 0);
    end(&mut flow, &first[0], 3, SECOND);
    assert_eq!((flow.node_status(0), flow.status()), (NodeStatus::Scheduled, NodeStatus::Pending));
    let second = submit(&mut flow, SECOND);
    assert_eq!((second[0].0.attempt, second[0].0.not_before_ns), (2, Some(6 * SECOND)));
    end(&mut flow, &second[0], 3, 7 * SECOND);
    let third = submit(&mut flow, 7 * SECOND);
    assert_eq!((third[0].0.attempt, third[0].0.not_before_ns), (3, Some(17 * SECOND)));
    end(&mut flow, &third[0], 3, 20 * SECOND);
    assert_eq!(flow.node_status(0), NodeStatus::Failed);
    let ids: Vec<JobId> = [first, second, third].iter().map(|attempt| attempt[0].1).collect();
    assert_eq!(flow.nodes()[0].elements[0].attempts, ids);
    assert_eq!(submit(&mut flow, 20 * SECOND)[0].0.place.node, 1);
}

#[test]
fn schedule_counts_from_the_condition() {
    let mut flow = flow("  a: {command: x}\n  b: {command: y, schedule: 1m, requires: [a]}");
    let first = submit(&mut flow, 0);
    end(&mut flow, &first[0], 0, 7 * SECOND);
    assert_eq!(submit(&mut flow, 8 * SECOND)[0].0.not_before_ns, Some(67 * SECOND));
    assert_eq!(flow.node_status(1), NodeStatus::Scheduled);
}

#[test]
fn job_that_was_too_quick_to_be_seen_running_has_run() {
    let mut flow = flow("  a: {command: x}\n  b: {command: y, requires: [a: RUNNING]}");
    let first = submit(&mut flow, 0);
    end(&mut flow, &first[0], 0, 1);
    assert_eq!(submit(&mut flow, 1).len(), 1);
}

#[test]
fn canceled_workflow_submits_nothing_and_ends_with_its_jobs() {
    let jobs =
        "  a: {command: x, array: 0-9%2, retries: {max: 3, backoff: 1s}}\n  b: {command: y, requires: [a]}";
    let mut flow = flow(jobs);
    let running = submit(&mut flow, 0);
    let ids = flow.cancel(1);
    assert_eq!(ids, running.iter().map(|job| job.1).collect::<Vec<_>>());
    assert_eq!(flow.status(), NodeStatus::Running);
    for job in &running {
        end(&mut flow, job, 1, 2);
        assert!(submit(&mut flow, 2).is_empty(), "no attempt follows a cancel");
    }
    assert_eq!(flow.status(), NodeStatus::Canceled);
}

/// Rows that a killed daemon leaves: the records of jobs, and the rows of attempts that have ended.
#[derive(Default)]
struct Disk {
    /// Jobs that were submitted and not seen to end: place, attempt, id, submitted at.
    live: BTreeMap<JobId, (Place, u32, i64)>,
    /// Jobs that have ended without a row.
    ended: BTreeMap<JobId, (Place, u32, Ended)>,
    rows: BTreeMap<Place, (Vec<JobId>, Ended)>,
}

impl Disk {
    fn history(&self) -> Vec<(Place, Known)> {
        let mut events: Vec<(i64, u32, Place, Known)> = Vec::new();
        for (place, (attempts, ended)) in &self.rows {
            let known = Known::Ended { ended: ended.clone(), earlier: attempts.clone() };
            events.push((ended.ended_ns, attempts.len() as u32, *place, known));
        }
        let has_row = |id: &JobId| self.rows.values().any(|(attempts, _)| attempts.contains(id));
        for (place, attempt, ended) in self.ended.values().filter(|(.., ended)| !has_row(&ended.id)) {
            let known = Known::Ended { ended: ended.clone(), earlier: Vec::new() };
            events.push((ended.ended_ns, *attempt, *place, known));
        }
        for (id, (place, attempt, at)) in &self.live {
            events.push((*at, *attempt, *place, Known::Submitted { id: *id, scheduled: false }));
            events.push((*at, *attempt, *place, Known::Running { id: *id, at_ns: *at }));
        }
        events.sort_by_key(|(at, attempt, ..)| (*at, *attempt));
        events.into_iter().map(|(_, _, place, known)| (place, known)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Random graphs with arrays and retries, killed at random steps: each attempt of each element runs once, and the ends are those of
    /// a daemon that lives.
    #[test]
    fn killed_at_any_step_every_attempt_runs_once(
        edges in prop::collection::vec(any::<(u8, u8, bool)>(), 0..14),
        shapes in prop::collection::vec(0_u8..4, 7),
        fails in any::<u64>(),
        steps in prop::collection::vec(any::<(u8, u8)>(), 200),
    ) {
        let text: String = shapes.iter().enumerate().map(|(n, shape)| {
            let own = edges.iter().filter(|edge| n > 0 && edge.0 as usize % 7 == n);
            let requires: Vec<String> = own
                .map(|edge| format!("j{}: {}", edge.1 as usize % n, if edge.2 { "FAILED" } else { "COMPLETED" }))
                .collect();
            let requires: Vec<String> = requires.into_iter().map(|item| format!("{{{item}}}")).collect();
            let shape = ["", "array: 0-3%2,", "'retries': {max: 2, backoff: 0s},", "array: '0-2',"][*shape as usize];
            let needs = ["", "network: a, runtime: r,", "network: b, volumes: [v],", "volumes: [v, w],"][n % 4];
            format!("  j{n}: {{command: x, {needs} {shape} requires: [{}]}}\n", requires.join(", "))
        }).collect();
        let text = text.replace("array: 0-3%2,", "array: '0-3%2',");
        let plan = plan(&text);
        let code = |place: Place, attempt: u32| {
            i32::from(fails >> ((place.node * 5 + place.element + attempt as usize * 3) % 64) & 1 == 1)
        };
        let reference = whole(&plan, &code);
        let mut flow = Flow::new(plan.clone(), 0);
        let (mut disk, mut seen, mut now) = (Disk::default(), HashSet::new(), 1);
        let mut steps = steps.into_iter().cycle();
        while !flow.status().is_terminal() {
            now += 1;
            let counted = counted_needs(&flow);
            prop_assert_eq!(counted, needs_of_all(&flow));
            let (choice, pick) = steps.next().unwrap();
            match choice % 4 {
                0 => {
                    if let Some(next) = flow.next(now) {
                        prop_assert!(seen.insert((next.place, next.attempt)), "{next:?} twice");
                        let id = JobId::random();
                        disk.live.insert(id, (next.place, next.attempt, now));
                        flow.submitted(next.place, id, false);
                    }
                }
                1 | 2 if !disk.live.is_empty() => {
                    let id = *disk.live.keys().nth(pick as usize % disk.live.len()).unwrap();
                    let (place, attempt, _) = disk.live.remove(&id).unwrap();
                    let ended =
                        Ended { id, ending: ending(code(place, attempt)), started_ns: Some(now), ended_ns: now };
                    disk.ended.insert(id, (place, attempt, ended.clone()));
                    if choice < 128 {
                        flow.ended(place, &ended, now);
                        let attempts = flow.nodes()[place.node].elements[place.element].attempts.clone();
                        disk.rows.insert(place, (attempts, ended));
                        disk.ended.remove(&id);
                    } else {
                        // Killed between the job's record and the row.
                        flow = Flow::resume(plan.clone(), disk.history(), now);
                    }
                }
                3 if pick < 64 => flow = Flow::resume(plan.clone(), disk.history(), now),
                _ => {}
            }
        }
        let statuses: Vec<NodeStatus> = (0..7).map(|node| flow.node_status(node)).collect();
        prop_assert_eq!((statuses, flow.status(), seen), reference, "{}", text);
    }
}

/// How many elements need each network, volume and runtime that are not submitted, as the flow counts along.
fn counted_needs(flow: &Flow) -> BTreeMap<String, usize> {
    let networks = flow.awaited_networks().map(|(name, n)| (format!("network {name:?}"), n));
    let volumes = flow.awaited_volumes().map(|(name, n)| (format!("volume {name}"), n));
    let runtimes = flow.awaited_runtimes().map(|(asked, n)| (format!("runtime {asked}"), n));
    networks.chain(volumes).chain(runtimes).collect()
}

/// The same by a walk through all jobs.
fn needs_of_all(flow: &Flow) -> BTreeMap<String, usize> {
    let first = flow.nodes.iter().map(|node| node.counts[NodeStatus::Pending as usize]).enumerate();
    let mut found = BTreeMap::new();
    for (node, count) in first.chain(flow.again.iter().map(|place| (place.node, 1))) {
        let job = &flow.plan.jobs[node];
        let mut keys = vec![format!("network {:?}", job.network.as_deref())];
        keys.extend(job.volumes.iter().map(|used| format!("volume {}", used.name)));
        keys.extend(job.runtime.iter().map(|asked| format!("runtime {asked}")));
        keys.into_iter().filter(|_| count > 0).for_each(|key| *found.entry(key).or_default() += count);
    }
    found
}

#[test]
fn needs_of_what_is_not_submitted_go_with_a_cancel() {
    let mut flow = flow(
        "  a: {command: x, volumes: [v], retries: {max: 3, backoff: 0s}}\n  b: {command: y, array: 0-9, requires: [a]}",
    );
    assert_eq!(counted_needs(&flow), needs_of_all(&flow));
    let first = submit(&mut flow, 0);
    end(&mut flow, &first[0], 1, 1);
    let counted: Vec<usize> = counted_needs(&flow).into_values().collect();
    assert_eq!(counted, [11, 1], "the next attempt, and the array behind it");
    flow.cancel(2);
    assert_eq!((counted_needs(&flow), needs_of_all(&flow)), (BTreeMap::new(), BTreeMap::new()));
}

type Outcome = (Vec<NodeStatus>, NodeStatus, HashSet<(Place, u32)>);

/// The same graph without an interruption.
fn whole(plan: &Arc<Workflow>, code: &dyn Fn(Place, u32) -> i32) -> Outcome {
    let mut flow = Flow::new(plan.clone(), 0);
    let mut seen = HashSet::new();
    while !flow.status().is_terminal() {
        let running = submit(&mut flow, 0);
        assert!(!running.is_empty(), "it stands still");
        for job in running {
            seen.insert((job.0.place, job.0.attempt));
            end(&mut flow, &job, code(job.0.place, job.0.attempt), 1);
        }
    }
    let statuses = (0..plan.jobs.len()).map(|node| flow.node_status(node)).collect();
    (statuses, flow.status(), seen)
}
