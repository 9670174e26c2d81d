use std::fs;
use std::path::Path;

use super::super::store::{Layout, StoreLimits};
use super::*;
use crate::output::Stream;
use crate::output::spool::{Row, Span};

fn round(base: &Path) -> Round {
    let store = LocalStore::new(Layout::below(base), StoreLimits::default());
    let keep = Keep { logs: Some(Duration::from_secs(30 * DAY)), metrics: None };
    Round { store, janitor: Janitor::default(), keep, packer: Packer::new(), cache: None }
}

/// A job that has ended, with a member for each of ten lines.
fn trickle(store: &LocalStore, id: JobId) -> Box<JobFiles> {
    let (mut job, mut packer) = (store.job(id).unwrap(), Packer::new());
    for sequence in 1..=10 {
        let span = Span::Bytes { offset: 2 * (sequence - 1), length: 2 };
        let row = Row { sequence, time_ns: 1, stream: Stream::Stdout, span };
        job.stage(&row, b"x\n", &mut packer, 1).unwrap();
        job.commit(sequence, &mut packer, 1).unwrap();
    }
    Box::new(job.split().1)
}

#[test]
fn old_history_goes_for_good_and_jobs_are_packed_in_between() {
    let base = tempfile::tempdir().unwrap();
    let (logs, mut round) = (base.path().join("logs"), round(base.path()));
    let old: Vec<JobId> = (0..250).map(|_| JobId::random()).collect();
    for id in &old {
        let dir = logs.join(id.to_string());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("job.json"), r#"{"version":1,"ended":0,"rows":0,"samples":0}"#).unwrap();
    }
    let (known, fresh) = (old[7], JobId::random());
    round.janitor.knows(known);
    let files = trickle(&round.store, fresh);
    let file = logs.join(fresh.to_string()).join("stdout.log.gz");
    let before = fs::metadata(&file).unwrap().len();
    let (tasks, queue) = unbounded();
    tasks.send(StoreTask::Pack(files)).unwrap();
    round.expire(&queue);
    let left = |id: &JobId| logs.join(id.to_string()).exists();
    assert_eq!(old.iter().filter(|id| left(id)).collect::<Vec<_>>(), [&known]);
    assert!(fs::metadata(&file).unwrap().len() < before / 3, "it is not packed");
    let trash = fs::read_dir(logs.join(".trash")).unwrap().count();
    assert_eq!(trash, 0, "what is deleted is still on the disk");
    // The daemon does not know it any more.
    round.janitor.forget(known);
    round.expire(&queue);
    assert!(!left(&known) && left(&fresh));
}

#[test]
fn thread_empties_the_trash_of_earlier_deletions_too() {
    let base = tempfile::tempdir().unwrap();
    let trash = base.path().join("logs/.trash");
    let store = LocalStore::new(Layout::below(base.path()), StoreLimits::default());
    let ids = [JobId::random(), JobId::random()];
    drop(trickle(&store, ids[0]));
    store.delete(ids[0]).unwrap();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 1);
    let (tasks, queue) = unbounded();
    drop(trickle(&store, ids[1]));
    store.delete(ids[1]).unwrap();
    tasks.send(StoreTask::Trash).unwrap();
    drop(tasks);
    // It ends when nobody can send a task any more.
    round(base.path()).run(&queue, Duration::from_secs(3600));
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    assert!(ids.iter().all(|id| store.is_deleted(*id)), "late rows would bring them back");
}

/// The rest of the trash lay on the disk for as long as one directory could not be removed.
#[test]
fn entry_that_cannot_be_removed_keeps_no_other_in_the_trash() {
    let base = tempfile::tempdir().unwrap();
    let round = round(base.path());
    let trash = base.path().join("logs/.trash");
    for name in ["a", "b", "c"] {
        fs::create_dir_all(trash.join(name)).unwrap();
        fs::write(trash.join(name).join("file"), "").unwrap();
    }
    let held = trash.join("b");
    let attribute = |sign: &str| {
        let done = std::process::Command::new("chattr").args([sign, held.to_str().unwrap()]).status();
        assert!(done.unwrap().success(), "chattr {sign}");
    };
    attribute("+i");
    round.empty_trash();
    let names = || fs::read_dir(&trash).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let left = names();
    attribute("-i");
    assert_eq!(left, std::slice::from_ref(&held));
    round.empty_trash();
    assert!(names().is_empty());
}
