//! Graphs of many shapes: random ones against a simple reference, and the largest one that a file may have.

use crate::helper::TestDaemon;
use crate::helper::random::Random;
use crate::helper::soak::rounds;
use crate::helper::workflow::{finish, start, until};
use std::fmt::Write;

/// Conditions name ends only, so that what becomes of a job depends on nothing but the ends of others.
const ENDS: [&str; 4] = ["COMPLETED", "FAILED", "CANCELED", "FINISHED"];

/// A condition on jobs before this one: as text, and as a function of their ends.
enum Condition {
    Is(usize, &'static str),
    IsNot(usize, &'static str),
    Both(Box<Condition>, Box<Condition>),
    Either(Box<Condition>, Box<Condition>),
}

impl Condition {
    fn random(random: &mut Random, before: usize, depth: u32) -> Condition {
        let job = random.below(before as u64) as usize;
        let end = ENDS[random.below(4) as usize];
        let mut deeper = || Box::new(Condition::random(random, before, depth - 1));
        match (depth, job % 2) {
            (0, 0) => Condition::Is(job, end),
            (0, _) => Condition::IsNot(job, end),
            (_, 0) => Condition::Both(deeper(), deeper()),
            (_, _) => Condition::Either(deeper(), deeper()),
        }
    }

    fn text(&self) -> String {
        match self {
            Condition::Is(job, end) => format!("j{job} = {end}"),
            // Without its first part it would hold before the job has ended.
            Condition::IsNot(job, end) => {
                format!("(j{job} IN (COMPLETED, FAILED, STOPPED, CANCELED) AND NOT j{job}={end})")
            }
            Condition::Both(a, b) => format!("({} AND {})", a.text(), b.text()),
            Condition::Either(a, b) => format!("({} || {})", a.text(), b.text()),
        }
    }

    fn holds(&self, ends: &[&str]) -> bool {
        let is = |job: usize, end: &str| {
            ends[job] == end || (end == "FINISHED" && ["COMPLETED", "FAILED"].contains(&ends[job]))
        };
        match self {
            Condition::Is(job, end) => is(*job, end),
            Condition::IsNot(job, end) => !is(*job, end),
            Condition::Both(a, b) => a.holds(ends) && b.holds(ends),
            Condition::Either(a, b) => a.holds(ends) || b.holds(ends),
        }
    }
}

/// A file of so many jobs, and how each of them ends.
fn random_graph(random: &mut Random, jobs: usize) -> (String, Vec<&'static str>) {
    let (mut text, mut ends) = (String::from("jobs:\n"), Vec::new());
    for job in 0..jobs {
        let (command, own_end) =
            if random.below(3) == 0 { ("false", "FAILED") } else { ("true", "COMPLETED") };
        let wait = (job > 0 && random.below(5) > 0).then(|| {
            let depth = random.below(3) as u32;
            Condition::random(random, job, depth)
        });
        let requires =
            wait.as_ref().map(|wait| format!(", requires: ['{}']", wait.text())).unwrap_or_default();
        let _ = writeln!(text, "  j{job}: {{command: '{command}'{requires}}}");
        ends.push(if wait.is_none_or(|wait| wait.holds(&ends)) { own_end } else { "CANCELED" });
    }
    (text, ends)
}

#[test]
fn random_graphs_end_as_a_simple_reference_says() {
    let d = TestDaemon::start();
    let mut random = Random::new();
    for _ in 0..rounds(4, 300) {
        let (text, ends) = random_graph(&mut random, 16);
        let expected: Vec<String> =
            ends.iter().enumerate().map(|(job, end)| format!("j{job} {end}")).collect();
        let wanted = if ends.contains(&"FAILED") { "FAILED" } else { "COMPLETED" };
        let flow = finish(&d, &text, wanted);
        assert_eq!(flow.all(), expected, "{text}");
    }
}

#[test]
fn graph_of_ten_thousand_jobs_is_taken_and_canceled_in_one_step() {
    let d = TestDaemon::start();
    let mut text = String::from("name: large\njobs:\n  j0: {command: 'false'}\n");
    for job in 1..9_998 {
        let _ = writeln!(text, "  j{job}: {{command: 'true', requires: [j{}]}}", job - 1);
    }
    // A fan-in over everything that was canceled.
    let all: Vec<String> = (1..9_998).map(|job| format!("j{job}: CANCELED")).collect();
    let _ = writeln!(text, "  join: {{command: 'true', requires: [{{{}}}]}}", all.join("}, {"));
    let _ = writeln!(text, "  last: {{command: 'true', requires: ['j9997=CANCELED AND join=COMPLETED']}}");
    let id = start(&d, &text);
    let flow = until(&d, &id, "FAILED");
    let all = flow.all();
    assert_eq!((all.len(), all[0].as_str(), all[9_999].as_str()), (10_000, "j0 FAILED", "last COMPLETED"));
    assert_eq!(flow.0["canceled_jobs"], 9_997);
    let d = d.crash().start();
    assert_eq!(until(&d, &id, "FAILED").all(), all, "it is kept");
}
