//! The pipeline of docs/workflows.md, exactly as it stands there.

use crate::helper::TestDaemon;
use crate::helper::programs::source;
use crate::helper::workflow::until;
use std::fs;

#[test]
fn documented_pipeline_runs_as_the_page_says() {
    let d = TestDaemon::start();
    let page = fs::read_to_string(source("docs/workflows.md")).unwrap();
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("rnx "))
        .filter(|line| line.contains("docs/examples/"))
        .collect();
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split(" # ").next().unwrap().split_whitespace().collect();
        let mut rnx = d.rnx_command(&words);
        let out = crate::helper::rnx::Running::start(rnx.current_dir(source("."))).finish();
        assert_eq!(out.code, 0, "{command}: {}", out.stderr);
    }
    let flow = until(&d, "access-log", "COMPLETED");
    assert_eq!(flow.all(), ["prepare COMPLETED", "parts COMPLETED", "report COMPLETED", "alarm CANCELED"]);
    assert_eq!(flow.job("parts")["array"]["completed"], 8);
    let report = flow.log(&d, "report");
    assert!(report.starts_with("2000 requests in 8 parts\n\nbusiest pages\n"), "{report}");
    assert_eq!(flow.log(&d, "prepare"), "2000 of 2000 lines are requests\n");
}

#[test]
fn documented_pipeline_raises_its_alarm_when_the_log_is_broken() {
    let d = TestDaemon::start();
    let dir = d.dir().join("broken");
    fs::create_dir(&dir).unwrap();
    for name in ["access-log.yaml", "shard.py", "join.py"] {
        fs::copy(source("docs/examples").join(name), dir.join(name)).unwrap();
    }
    fs::write(dir.join("access.log"), "nothing that a server would write\n").unwrap();
    let out = d.rnx(["workflow", "run", "--wait", &dir.join("access-log.yaml").display().to_string()]);
    assert!(out.code == 1 && out.stderr.contains("prepare (exit code 1)"), "{}", out.stderr);
    let flow = until(&d, "access-log", "FAILED");
    assert_eq!(flow.all(), ["prepare FAILED", "parts CANCELED", "report CANCELED", "alarm COMPLETED"]);
}
