//! Damaged files, and the databases made from them.

use super::*;
use crate::state::database::tests::{ending, flip, record, shown, stored};

/// A data directory with its two others.
struct Place {
    dir: tempfile::TempDir,
    exits: PathBuf,
    spools: PathBuf,
}

impl Place {
    fn new(records: &[Record]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let (exits, spools) = (dir.path().join("exit"), dir.path().join("spool"));
        fs::create_dir(&exits).unwrap();
        fs::create_dir(&spools).unwrap();
        stored(dir.path(), records);
        Place { dir, exits, spools }
    }

    fn spool(&self, record: &Record) -> PathBuf {
        let path = self.spools.join(record.id.to_string());
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn salvage(&self) -> Salvaged {
        salvage(self.dir.path(), &self.exits, &self.spools, 5_000_000_000).unwrap()
    }

    fn records(&self) -> Vec<Record> {
        Database::open(self.dir.path()).unwrap().1
    }

    fn destroy(&self) {
        fs::write(self.dir.path().join("state.db"), [b'x'; 5000]).unwrap();
    }
}

fn over(serial: u64) -> Record {
    record(serial, Stage::Ended(ending()))
}

#[test]
fn salvage_saves_readable_records_and_keeps_the_damaged_file() {
    let place = Place::new(&(1..=200).map(over).collect::<Vec<_>>());
    let path = place.dir.path().join("state.db");
    flip(&path, b"request-7\"");
    let damaged = fs::read(&path).unwrap();
    let salvaged = place.salvage();
    assert_eq!((salvaged.saved, salvaged.rebuilt, salvaged.lost), (199, 0, Some(1)));
    assert_eq!(salvaged.aside, place.dir.path().join("state.db.damaged-5"));
    assert!(fs::read(salvaged.aside).unwrap() == damaged);
    let serials: Vec<u64> = place.records().iter().map(|r| r.serial).collect();
    assert_eq!(serials, (1..=200).filter(|serial| *serial != 7).collect::<Vec<_>>());
    assert!(!place.dir.path().join("state.new").exists());
}

#[test]
fn salvage_without_rows_uses_sidecars_and_exit_files() {
    let place = Place::new(&[]);
    let running = record(2, Stage::Active(None));
    sidecar::write(&place.spool(&over(1)), &over(1)).unwrap();
    intent::put(&File::create(place.exits.join(running.id.to_string())).unwrap(), &running).unwrap();
    place.spool(&running);
    fs::write(place.spool(&over(3)).join("stdout"), "precious").unwrap();
    place.destroy();
    let salvaged = place.salvage();
    assert_eq!((salvaged.saved, salvaged.rebuilt, salvaged.lost), (0, 2, None));
    assert_eq!(place.records(), [over(1), running.clone()].map(shown));
    let (number, aside) = salvaged.spools.unwrap();
    assert_eq!(number, 1);
    let kept = fs::read(aside.join(over(3).id.to_string()).join("stdout")).unwrap();
    assert_eq!(kept, b"precious");
    assert!(place.spool(&running).exists() && !place.spools.join(over(3).id.to_string()).exists());
}

#[test]
fn a_row_that_can_be_read_wins_unless_the_job_has_ended_since() {
    let mut renamed = over(1);
    std::sync::Arc::make_mut(&mut renamed.spec).name = "other".into();
    let place = Place::new(&[over(1), record(2, Stage::Active(None)), over(3)]);
    sidecar::write(&place.spool(&renamed), &renamed).unwrap();
    sidecar::write(&place.spool(&over(2)), &over(2)).unwrap();
    flip(&place.dir.path().join("state.db"), b"request-3\"");
    let salvaged = place.salvage();
    assert_eq!((salvaged.saved, salvaged.rebuilt, salvaged.lost), (2, 0, Some(1)));
    assert_eq!(place.records(), [over(1), over(2)].map(shown));
}
