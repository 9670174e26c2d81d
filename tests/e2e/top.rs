//! `rnx top` and `rnx job watch`: running jobs by what they use, and one job on one screen.

use super::client::at_a_terminal;
use crate::helper::TestDaemon;
use crate::helper::wait::{eventually, holds};

fn node() -> TestDaemon {
    TestDaemon::with([("job_metrics.default_sample_rate", "1s")])
}

#[test]
fn top_prints_one_table_without_a_terminal_and_more_when_asked() {
    let d = node();
    let busy = d.submit(["--name", "busy", "sh", "-c", "while :; do :; done"]);
    let idle = d.submit(["--name", "idle", "sleep", "1000"]);
    let text = d.rnx(["top"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("2 running jobs, CPU ") && lines[1].starts_with("ID "), "{text}");
    assert!(lines.len() == 4 && text.contains(&busy[..8]) && text.contains(&idle[..8]), "{text}");
    eventually("the busy job comes first", || {
        let jobs = d.rnx(["--json", "top", "--sort", "cpu"]).json();
        holds(jobs[0]["name"] == "busy" && jobs[0]["cpuPercent"].as_f64().is_some_and(|cpu| cpu > 1.0))
    });
    assert_eq!(d.rnx(["--json", "top", "--filter", "idle"]).json().as_array().unwrap().len(), 1);
    let text = d.rnx(["--node", "viewer", "top", "-b", "-n", "2", "--interval", "1"]).ok();
    assert_eq!(text.matches("2 running jobs").count(), 2, "{text}");
    assert_eq!(d.rnx(["top", "--sort", "luck"]).code, 2);
}

#[test]
fn top_sorts_and_filters_by_keys_on_a_terminal() {
    let d = node();
    let (one, _two) =
        (d.submit(["--name", "first", "sleep", "1000"]), d.submit(["--name", "second", "sleep", "1000"]));
    let keys =
        [("2 running jobs", "m"), ("by memory", "/fir"), ("filter: fir_", "\\r"), ("filter: fir   (", "q")];
    let shown = at_a_terminal(&d, &keys, &["top", "--interval", "1"]).ok();
    let last = shown.rsplit("filter: fir   (").next().unwrap();
    assert!(last.contains(&one[..8]) && !last.contains("second"), "{last:?}");
    assert!(shown.contains("\u{1b}[?1049l"), "the terminal is as before: {shown:?}");
}

#[test]
fn job_watch_has_status_curves_and_output_on_one_screen() {
    let d = node();
    let script = "for i in 1 2 3; do echo tick $i; done; sleep 1000";
    let job = d.submit(["--name", "seen", "sh", "-c", script]);
    let shown = at_a_terminal(&d, &[("tick 3", ""), ("Memory  ", "q")], &["job", "watch", &job]).ok();
    for words in ["RUNNING", "seen", "CPU  ", "Output ---", "tick 1"] {
        assert!(shown.contains(words), "{words}: {shown:?}");
    }
    assert_eq!(d.status(&job)["status"], "RUNNING", "leaving ends nothing");
    let short = d.submit(["sh", "-c", "echo done; exit 3"]);
    let shown = at_a_terminal(&d, &[], &["job", "watch", &short]).ok();
    let (_, after) = shown.rsplit_once("\u{1b}[?1049l").unwrap();
    assert!(after.contains("FAILED"), "the end stays on the terminal: {after:?}");
    let piped = d.rnx(["job", "watch", &job]);
    assert!(piped.code == 2 && piped.stderr.contains("rnx job log"), "{piped:?}");
}
