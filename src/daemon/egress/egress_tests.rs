//! The loop never waits for words about refusals when a job ends.

use std::time::Duration;

use super::*;
use crate::network::denials::MOST_ROWS;

const JOB: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

fn egress() -> (tempfile::TempDir, Egress) {
    let dir = tempfile::tempdir().unwrap();
    let egress = Egress::new(dir.path().to_owned());
    (dir, egress)
}

fn watched(counted: &Arc<AtomicU64>) -> Watched {
    Watched {
        id: JobId::random(),
        network: "n".into(),
        list: None,
        is_build: false,
        counted: counted.clone(),
    }
}

fn entries(number: usize) -> Vec<Entry> {
    let target = |n| Target { address: Ipv4Addr::from(n).into(), protocol: 6, port: 443 };
    let entry = |n| Entry { job: JOB, target: target(n), packets: 1, age: Duration::ZERO };
    (0..number as u32).map(entry).collect()
}

fn row(target: &Target, row: &Row) -> Denial {
    Denial {
        name: String::new(),
        address: Some(target.address),
        port: target.port,
        protocol: "tcp".into(),
        count: row.packets(),
        first_ns: row.first_ns,
        rule: String::new(),
        allow: String::new(),
    }
}

const LOOK: Look = Look { wall_ns: 5, monotonic_ns: 5 };

/// The rows of a thousand refusals were searched and put into words under the lock, a thousand jobs at a time.
#[test]
fn words_about_refusals_are_found_without_the_lock() {
    let (_dir, egress) = egress();
    let counted = Arc::default();
    egress.insert(JOB, watched(&counted), false);
    let said = AtomicU64::new(0);
    egress.take_in(&entries(MOST_ROWS + 5), LOOK, |terms, target, seen| {
        assert!(egress.jobs.try_lock().is_ok(), "the loop would wait");
        assert_eq!(terms.network, "n");
        said.fetch_add(1, Ordering::Relaxed);
        row(target, seen)
    });
    assert!(said.load(Ordering::Relaxed) <= MOST_ROWS as u64);
    assert_eq!(counted.load(Ordering::Relaxed), MOST_ROWS as u64 + 5);
    egress.name_refused(JOB, "a.example", 2);
    egress.name_refused(JOB, "a.example", 3);
    assert_eq!(counted.load(Ordering::Relaxed), MOST_ROWS as u64 + 10);
    let seen = egress.jobs().get(&JOB).map(Refused::seen).unwrap();
    assert_eq!((seen.targets.len(), seen.names.len(), seen.uncounted), (MOST_ROWS, 1, 5));
    assert!(!egress.leave(JOB), "what was refused is in the router");
}

#[test]
fn job_does_not_hear_what_another_of_its_address_was_refused() {
    let (_dir, egress) = egress();
    let counted = Arc::default();
    egress.insert(JOB, watched(&counted), false);
    // The job ends, and another one gets its address, while its refusals are put into words.
    egress.take_in(&entries(3), LOOK, |_, target, seen| {
        egress.leave(JOB);
        egress.insert(JOB, watched(&counted), false);
        row(target, seen)
    });
    assert!(egress.jobs().get_mut(&JOB).unwrap().note.due().is_none());
    egress.take_in(&entries(3), LOOK, |_, target, seen| row(target, seen));
    assert!(egress.jobs().get_mut(&JOB).unwrap().note.due().is_some());
}
