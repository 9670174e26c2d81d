//! The daemon is killed in the middle of workflows: every job that had to run has run once, and the ends are right.

use crate::helper::TestDaemon;
use crate::helper::random::Random;
use crate::helper::soak::rounds;
use crate::helper::wait::pause;
use crate::helper::workflow::{start, status, until};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Layers of ten jobs each, which wait for two jobs of the layer before. The third of each layer fails and has a handler; one
/// job waits for each failure's success in vain.
fn layers() -> (String, BTreeMap<String, &'static str>) {
    let (mut text, mut ends) = (String::from("jobs:\n"), BTreeMap::new());
    for layer in 0..10 {
        for at in 0..10 {
            let name = format!("j{layer}-{at}");
            let (needs, end) = match (layer, at) {
                (_, 3) => (format!("[j{layer}-2: FAILED]"), "COMPLETED"),
                (_, 4) => (format!("[j{layer}-2: COMPLETED]"), "CANCELED"),
                (0, _) => ("[]".to_owned(), "COMPLETED"),
                _ => {
                    let before = layer - 1;
                    (format!("[j{before}-{at}: FINISHED, j{before}-0: COMPLETED]"), "COMPLETED")
                }
            };
            let (needs, end) = match (layer, at) {
                // Those before it never ran.
                (1.., 2) => (format!("[j{}-1: COMPLETED]", layer - 1), "FAILED"),
                (_, 2) => (needs, "FAILED"),
                _ => (needs, end),
            };
            let needs =
                needs.replace(", ", "}, {").replace('[', "[{").replace(']', "}]").replace("[{}]", "[]");
            let code = u8::from(end == "FAILED");
            let _ = writeln!(
                text,
                "  {name}: {{command: sh, args: [-c, 'echo {name}; sleep 0.0{at}; exit {code}'], requires: {needs}}}"
            );
            ends.insert(name, end);
        }
    }
    (text, ends)
}

#[test]
fn killed_daemon_runs_no_job_of_a_workflow_twice_or_never() {
    let mut random = Random::new();
    let (text, ends) = layers();
    let mut d = TestDaemon::with([("joblet.maxConcurrentJobs", 8)]);
    for round in 0..rounds(2, 20) {
        let id = start(&d, &text);
        for _ in 0..1 + random.below(2) {
            pause(Duration::from_millis(random.below(1500)));
            d = d.crash().start();
        }
        let flow = until(&d, &id, "FAILED");
        let found: BTreeMap<String, &str> = flow.0["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| (job["name"].as_str().unwrap().to_owned(), job["status"].as_str().unwrap()))
            .collect();
        assert_eq!(found, ends, "round {round}");
        let listed = d.rnx(["--json", "job", "list", "--workflow", &id]).json();
        let mut ran: Vec<&str> =
            listed.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
        ran.sort_unstable();
        let expected: Vec<&str> =
            ends.iter().filter(|(_, end)| **end != "CANCELED").map(|(name, _)| name.as_str()).collect();
        assert_eq!(ran, expected, "each job was started once, round {round}");
        for (name, _) in ends.iter().filter(|(_, end)| **end != "CANCELED").take(25) {
            assert_eq!(flow.log(&d, name), format!("{name}\n"), "round {round}");
        }
    }
}

#[test]
fn workflow_goes_on_where_the_crash_left_it() {
    let d = TestDaemon::start();
    let id = start(
        &d,
        "jobs:\n  \
         long: {command: sh, args: [-c, 'echo begun; sleep 3; echo over']}\n  \
         later: {command: 'true', schedule: 1s, requires: [long]}\n  \
         retried: {command: 'false', requires: [long], retries: {max: 1, backoff: 1s}}\n  \
         secret: {command: sh, args: [-c, 'test \"$T\" = hush'], requires: [later], secret_environment: {T: hush}}\n",
    );
    let d = d.crash().start();
    crate::helper::wait::eventually("the last attempt runs or waits", || {
        crate::helper::wait::holds(status(&d, &id).job("long")["status"] == "COMPLETED")
    });
    let d = d.crash().start();
    let flow = until(&d, &id, "FAILED");
    assert_eq!(flow.all(), ["long COMPLETED", "later COMPLETED", "retried FAILED", "secret COMPLETED"]);
    assert_eq!(flow.job("retried")["attempts"], 2);
    assert_eq!(flow.log(&d, "long"), "begun\nover\n");
}
