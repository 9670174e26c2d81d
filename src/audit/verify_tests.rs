use std::fs::OpenOptions;
use std::io::Write;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::super::trail::Trail;
use super::super::{Entry, Event, OnFull, Settings};
use super::*;

fn settings(dir: &Path, max_bytes: u64, keep: usize) -> Settings {
    Settings { directory: dir.to_owned(), max_bytes, keep, on_full: OnFull::Block }
}

fn entry(job: u64) -> Entry {
    let mut entry = Entry::new(Event::Request);
    entry.about("job", &job.to_string());
    entry
}

/// A trail of so many lines in files of five lines.
fn trail(dir: &Path, lines: u64, keep: usize) {
    let mut trail = Trail::open(&settings(dir, 1, keep)).unwrap();
    for number in 0..lines.div_ceil(5) {
        let entries: Vec<_> = (0..5).map(|line| entry(number * 5 + line)).collect();
        trail.append(&entries, 1_700_000_000_000_000_000, true).unwrap();
    }
}

fn fault(dir: &Path) -> String {
    verify(dir, None).unwrap_err().to_string()
}

fn change(dir: &Path, file: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(name(file));
    let mut text = fs::read(&path).unwrap();
    change(&mut text);
    fs::write(path, text).unwrap();
}

#[test]
fn a_trail_over_several_files_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    trail(dir.path(), 20, 100);
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.files, report.lines, report.torn.len()), (4, 20, 0));
    assert!(verify(dir.path(), Some(report.last)).is_ok());
    assert!(matches!(verify(dir.path(), Some(Hash::of(b"x"))), Err(Fault::Cut(_))));
}

#[test]
fn removed_and_swapped_lines_are_found_with_their_place() {
    for (wrong, expected) in [
        ("removed", "audit-000002.jsonl, line 3: it does not continue"),
        ("swapped", "audit-000002.jsonl, line 3: it does not continue"),
        ("doubled", "audit-000002.jsonl, line 4: it does not continue"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        trail(dir.path(), 20, 100);
        change(dir.path(), 2, |text| {
            let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            match wrong {
                "removed" => drop(lines.remove(2)),
                "swapped" => lines.swap(2, 3),
                _ => lines.insert(2, lines[2]),
            }
            *text = lines.concat();
        });
        assert!(fault(dir.path()).starts_with(expected), "{wrong}: {}", fault(dir.path()));
    }
}

#[test]
fn removed_files_are_found_and_those_that_keep_removes_are_told() {
    for file in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        trail(dir.path(), 20, 100);
        fs::remove_file(dir.path().join(name(file))).unwrap();
        assert_eq!(
            fault(dir.path()),
            format!("{} is missing: it was removed, and not by audit.keep", name(file))
        );
    }
    let dir = tempfile::tempdir().unwrap();
    trail(dir.path(), 40, 3);
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.files, report.first.as_str()), (3, "audit-000006.jsonl"));
    fs::remove_file(dir.path().join(name(6))).unwrap();
    assert!(fault(dir.path()).contains("audit-000006.jsonl is missing"), "{}", fault(dir.path()));
}

#[test]
fn torn_ends_are_closed_and_told_from_tampering() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name(1));
    for (round, torn) in ["{\"prev\":\"0", "junk\nmore", "junk\n", "\0\0\0\0"].iter().enumerate() {
        let mut trail = Trail::open(&settings(dir.path(), 1 << 20, 3)).unwrap();
        trail.append(&[entry(1), entry(2)], 0, true).unwrap();
        drop(trail);
        assert_eq!(verify(dir.path(), None).unwrap().torn.len(), round);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
    }
    let mut trail = Trail::open(&settings(dir.path(), 1 << 20, 3)).unwrap();
    trail.append(&[entry(3)], 0, true).unwrap();
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.lines, report.torn.len()), (4 * 2 + 4 + 1, 4), "{report:?}");
    assert_eq!(report.torn[0], "audit-000001.jsonl, line 3: 10 bytes");
    assert_eq!(report.torn[1], "audit-000001.jsonl, line 7: 9 bytes");
    change(dir.path(), 1, |text| {
        let at = text.windows(4).position(|bytes| bytes == b"junk").unwrap();
        text[at] = b'J';
    });
    assert!(fault(dir.path()).starts_with("audit-000001.jsonl, line 7: the line was changed"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_single_change_of_bytes_is_found(file in 1_u64..=5, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        // One trail for all cases: each one undoes its change.
        static TRAIL: OnceLock<tempfile::TempDir> = OnceLock::new();
        let dir = TRAIL.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            trail(dir.path(), 20, 100);
            dir
        });
        let path = dir.path().join(if file == 5 { HEAD.to_owned() } else { name(file) });
        let text = fs::read(&path).unwrap();
        let at = at.index(text.len());
        let mut changed = text.clone();
        changed[at] ^= 1 << bit;
        fs::write(&path, changed).unwrap();
        let found = verify(dir.path(), None).is_err();
        fs::write(&path, text).unwrap();
        prop_assert!(found, "byte {at} of {}", path.display());
    }
}
