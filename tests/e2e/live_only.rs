//! Output with `ipc.enabled: false`: a ring while the job runs, and nothing after it.

use crate::helper::programs;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

const NUMBERS: u64 = 400_000;

#[test]
fn live_output_is_bounded_while_its_job_runs_and_then_gone() {
    let d = TestDaemon::with([("ipc.enabled", false)]);
    let program = programs::c("flood").display().to_string();
    let shell = format!("./flood {NUMBERS}; exec sleep 1000");
    let id = d.submit(["--upload", &program, "sh", "-c", &shell]);
    let spool = d.dir().join("spool").join(&id);
    let all: Vec<u8> = (0..NUMBERS).flat_map(u64::to_le_bytes).collect();
    // It never waits for a reader or for room.
    eventually("all of the flood has passed", || {
        holds(std::fs::metadata(spool.join("stdout")).is_ok_and(|file| file.len() == all.len() as u64))
    });
    let log = d.rnx(["job", "log", "--no-follow", &id]);
    let shown = &log.stdout;
    assert!(shown.len() > 900_000 && shown.len() < 1_400_000, "{} bytes", shown.len());
    assert!(all.ends_with(shown));
    let lost = (all.len() - shown.len()).to_string();
    assert!(log.stderr.contains(&lost), "{lost} bytes are missing: {}", log.stderr);
    d.rnx(["job", "stop", &id]).ok();
    eventually("its files go", || holds(!spool.join("index").exists() && !spool.join("stdout").exists()));
    assert_eq!(d.status(&id)["status"], "STOPPED");
    assert_eq!(d.rnx(["job", "log", "--no-follow", &id]).ok(), "");
    // The output of a short job is there for the client that has started it.
    assert_eq!(d.run(["echo", "short"]).ok(), "short\n");
}
