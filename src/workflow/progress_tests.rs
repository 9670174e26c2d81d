//! Random graphs against an evaluation that asks everything again after each event.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::expression::{Answer, Expression};
use super::graph::Graph;
use super::node_status::{NodeStatus, StatusSet};
use super::progress::Progress;

use NodeStatus::{Canceled, Completed, Failed, Pending, Running, Stopped};

/// A condition of job `job` on earlier jobs.
fn condition(job: usize) -> BoxedStrategy<Expression> {
    let statuses = prop::collection::vec(prop::sample::select(NodeStatus::ALL.to_vec()), 1..4);
    let leaf = (0..job, statuses).prop_map(|(job, statuses)| {
        let set = statuses.into_iter().map(StatusSet::of).reduce(StatusSet::with);
        Expression::Is(job, set.expect("at least one status"))
    });
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Expression::Any),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
    .boxed()
}

fn conditions() -> impl Strategy<Value = Vec<Vec<Expression>>> {
    (1_usize..12).prop_flat_map(|count| {
        let jobs: Vec<BoxedStrategy<Vec<Expression>>> = (0..count)
            .map(|job| match job {
                0 => Just(Vec::new()).boxed(),
                _ => prop::collection::vec(condition(job), 0..3).boxed(),
            })
            .collect();
        jobs
    })
}

/// The reference: all statuses, and after each event every condition of every job from the beginning.
struct Reference {
    conditions: Vec<Vec<Expression>>,
    status: Vec<NodeStatus>,
    begun: Vec<bool>,
}

impl Reference {
    /// The jobs that start and those that are canceled: first cancels until there are no more, then starts.
    fn settle(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut cancel = Vec::new();
        while let Some(job) = self.impossible() {
            self.status[job] = Canceled;
            cancel.push(job);
        }
        let holds = |job: &usize| self.answers(*job).iter().all(|answer| *answer == Answer::Holds);
        let start: Vec<usize> = self.waiting().filter(holds).collect();
        start.iter().for_each(|job| self.begun[*job] = true);
        (start, cancel)
    }

    fn impossible(&self) -> Option<usize> {
        self.waiting().find(|job| self.answers(*job).contains(&Answer::Impossible))
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        (0..self.status.len()).filter(|job| !self.begun[*job] && self.status[*job] == Pending)
    }

    fn answers(&self, job: usize) -> Vec<Answer> {
        self.conditions[job].iter().map(|condition| condition.answer(&|job| self.status[job])).collect()
    }
}

fn sorted(mut jobs: Vec<usize>) -> Vec<usize> {
    jobs.sort_unstable();
    jobs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_graphs_end_as_in_the_simple_evaluation(
        conditions in conditions(),
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6), 60),
    ) {
        let count = conditions.len();
        let graph = Graph::new(conditions.clone());
        prop_assert_eq!(graph.cycle(), None);
        let mut reference =
            Reference { conditions, status: vec![Pending; count], begun: vec![false; count] };
        let (mut progress, step) = Progress::new(&graph);
        let (mut starts, mut cancels) = (step.start, step.cancel);
        let (start, cancel) = reference.settle();
        prop_assert_eq!((sorted(starts.clone()), sorted(cancels.clone())), (sorted(start), sorted(cancel)));
        for (pick, life) in choices {
            let under_way: Vec<usize> =
                starts.iter().copied().filter(|job| !progress.status(*job).is_terminal()).collect();
            if under_way.is_empty() {
                break;
            }
            let job = under_way[pick.index(under_way.len())];
            let status = [Running, Running, Completed, Completed, Failed, Stopped][life];
            let step = progress.report(&graph, job, status);
            reference.status[job] = status;
            let (start, cancel) = reference.settle();
            prop_assert_eq!(sorted(step.start.clone()), sorted(start));
            prop_assert_eq!(sorted(step.cancel.clone()), sorted(cancel));
            starts.extend(step.start);
            cancels.extend(step.cancel);
            for job in 0..count {
                prop_assert_eq!(progress.status(job), reference.status[job]);
            }
        }
        // No job twice, and none both started and canceled.
        let mut all = [starts, cancels].concat();
        let named = all.len();
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(all.len(), named);
    }

    #[test]
    fn workflow_without_anything_under_way_has_ended(conditions in conditions(), fails in any::<u16>()) {
        let graph = Graph::new(conditions);
        let (mut progress, step) = Progress::new(&graph);
        let mut waiting = step.start;
        while let Some(job) = waiting.pop() {
            waiting.extend(progress.report(&graph, job, Running).start);
            let end = if fails & (1 << job) == 0 { Completed } else { Failed };
            waiting.extend(progress.report(&graph, job, end).start);
        }
        prop_assert!(progress.workflow_status().is_terminal(), "{:?}", progress);
        prop_assert_eq!(progress.workflow_status() == Failed, progress.count(Failed) > 0);
    }
}

fn after(job: usize, status: NodeStatus) -> Expression {
    Expression::Is(job, StatusSet::of(status))
}

#[test]
fn unneeded_failure_job_is_canceled_and_the_workflow_completes() {
    // 0 builds, 1 runs if it fails, 2 follows 1.
    let graph = Graph::new(vec![vec![], vec![after(0, Failed)], vec![after(1, Completed)]]);
    let (mut progress, step) = Progress::new(&graph);
    assert_eq!((step.start, progress.workflow_status()), (vec![0], Pending));
    progress.report(&graph, 0, Running);
    assert_eq!(progress.workflow_status(), Running);
    let step = progress.report(&graph, 0, Completed);
    assert_eq!((step.start, step.cancel), (vec![], vec![1, 2]));
    assert_eq!(progress.workflow_status(), Completed);
    // The end is final.
    assert_eq!(progress.report(&graph, 0, Failed), super::Step::default());
    assert_eq!(progress.status(0), Completed);
}

#[test]
fn handled_failure_still_fails_the_workflow() {
    let graph = Graph::new(vec![vec![], vec![after(0, Failed)]]);
    let (mut progress, _) = Progress::new(&graph);
    assert_eq!(progress.report(&graph, 0, Failed).start, [1]);
    progress.report(&graph, 1, Completed);
    assert_eq!(progress.workflow_status(), Failed);
}

#[test]
fn cancel_of_the_workflow_ends_what_waits_and_starts_nothing() {
    let graph = Graph::new(vec![vec![], vec![after(0, Completed)], vec![after(0, Stopped)]]);
    let (mut progress, _) = Progress::new(&graph);
    progress.report(&graph, 0, Running);
    assert_eq!(progress.cancel().cancel, [1, 2]);
    assert_eq!(progress.report(&graph, 0, Stopped).start, [0; 0]);
    assert_eq!(progress.workflow_status(), Canceled);
}

#[test]
fn chain_and_fan_of_ten_thousand_jobs_take_linear_time() {
    const COUNT: usize = 10_000;
    let chain = (0..COUNT).map(|n| if n == 0 { vec![] } else { vec![after(n - 1, Completed)] }).collect();
    let mut fan: Vec<Vec<Expression>> = vec![vec![]; COUNT - 1];
    fan.push(vec![Expression::All((0..COUNT - 1).map(|n| after(n, Completed)).collect())]);
    for conditions in [chain, fan] {
        let begun = Instant::now();
        let graph = Graph::new(conditions);
        assert_eq!(graph.cycle(), None);
        let (mut progress, step) = Progress::new(&graph);
        let mut waiting = step.start;
        while let Some(job) = waiting.pop() {
            waiting.extend(progress.report(&graph, job, Completed).start);
        }
        assert_eq!((progress.count(Completed), progress.workflow_status()), (COUNT, Completed));
        // Quadratic work would take minutes without optimisation.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

/// Each of the first jobs' ends had this clause evaluated in full.
#[test]
fn event_costs_what_the_file_says_about_its_job() {
    const COUNT: usize = 1000;
    let mut conditions: Vec<Vec<Expression>> = vec![vec![]; COUNT];
    let pair = |n| Expression::Any(vec![after(n, Completed), after(n, Failed)]);
    conditions.push(vec![Expression::Any(vec![
        Expression::All((0..COUNT).map(pair).collect()),
        Expression::Not(Box::new(Expression::Any((0..COUNT).map(|n| after(n, Completed)).collect()))),
    ])]);
    let graph = Graph::new(conditions);
    assert!(graph.named_by[..COUNT].iter().all(|terms| terms.len() == 3));
    let (_, step) = Progress::new(&graph);
    assert_eq!(step.start.len(), COUNT + 1, "the negation holds before anything has happened");
    // Another one, which has to wait: the counts of the gates are all that changes.
    let all = Expression::All((0..COUNT).map(pair).collect());
    let graph = Graph::new([vec![vec![]; COUNT], vec![vec![Expression::Any(vec![all])]]].concat());
    let (mut progress, _) = Progress::new(&graph);
    for job in 0..COUNT {
        let before = progress.clone();
        let step = progress.report(&graph, job, if job % 2 == 0 { Completed } else { Failed });
        assert_eq!(step.start, if job == COUNT - 1 { vec![COUNT] } else { vec![] });
        let gates = before.gates().iter().zip(progress.gates());
        assert!(gates.filter(|(was, is)| was != is).count() <= 4, "job {job}");
    }
}

#[test]
fn impossible_chain_of_ten_thousand_is_canceled_at_once() {
    let conditions = (0..10_000).map(|n| if n == 0 { vec![] } else { vec![after(n - 1, Completed)] });
    let graph = Graph::new(conditions.collect());
    let (mut progress, _) = Progress::new(&graph);
    let step = progress.report(&graph, 0, Failed);
    assert_eq!((step.start.len(), step.cancel.len()), (0, 9_999));
    assert_eq!(progress.workflow_status(), Failed);
}
