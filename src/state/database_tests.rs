//! Real files, real damage.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::job::egress::List;
use crate::job::exit::{ExitReason, StopCause};
use crate::job::limits::{CoreSet, CpuPercent, MemoryMib};
use crate::job::{
    Ending, GpuLease, GpuWish, JobId, JobSpec, Limits, NetworkMode, Secret, Status, User, VolumeKind,
};
use crate::state::{NetworkChange, Stage, VolumeChange, record::Pause, record::Process};

pub(in crate::state) fn record(serial: u64, stage: Stage) -> Record {
    let limits = Limits {
        cpu: CpuPercent::new(250).ok(),
        memory: MemoryMib::new(512, 4096).ok(),
        io: None,
        cores: CoreSet::parse("0-1").ok(),
        pids: 64,
    };
    let spec = JobSpec {
        name: "nightly".into(),
        command: "sh".into(),
        args: vec!["-c".into(), "echo \u{1f600}".into()],
        limits,
        work_dir: "/work".into(),
        environment: vec![("A".into(), "1".into()), ("API_KEY".into(), "plain".into())],
        secrets: vec![("TOKEN".into(), Secret::new("hunter2"))],
        network: NetworkMode::None,
        egress: List::parse(&["preset:pypi".into(), "!10.0.0.0/8:22".into()]).ok(),
        rate: Default::default(),
        publish: Vec::new(),
        volumes: Vec::new(),
        gpus: GpuWish::new(2, 1024).unwrap(),
        runtime: None,
        user: User::Root,
        run_as: Default::default(),
        profile: Default::default(),
        writable: false,
        stdin: false,
        timeout: Some(std::time::Duration::from_millis(1500)),
        stop_grace: Some(std::time::Duration::from_secs(7)),
        upload_paths: vec!["a/b".into()],
        upload_handles: vec!["2d4c1f0e-58cc-4372-a567-0e02b2c3d479".into()],
        not_before_ns: Some(5),
        request_id: format!("request-{serial}"),
        client: Default::default(),
        part: None,
        build: None,
    };
    Record {
        id: JobId::parse(&format!("f47ac10b-58cc-4372-a567-{serial:012}")).unwrap(),
        serial,
        spec: Arc::new(spec),
        stop_grace: Some(std::time::Duration::from_secs(8)),
        stage,
        created_ns: 1,
        queued_ns: Some(2),
        started_ns: Some(3),
        ended_ns: Some(4),
        unenforced: vec!["memory 512 MiB".into()],
        lease: Some(1_879_048_192),
        wire: None,
        gpus: vec![GpuLease { index: 1, uuid: "GPU-1".into(), minor: 3, lost: None }],
        egress: List::parse(&["a.org".into()]).ok(),
        denials: Some(Box::default()),
        process: Some(Process { pid: 77, start_time: 12_345 }),
        boot: "2d4c".into(),
        timeout_at_ns: Some(9),
        timeout: Some(Duration::from_secs(60)),
        paused: Some(Pause { since_ns: 7, at_ns: 8 }),
        peak_bytes: Some(1 << 20),
        cpu_usec: Some(1000),
    }
}

pub(in crate::state) fn ending() -> Ending {
    Ending { status: Status::Failed, reason: ExitReason::Oom, code: 137, signal: 9, message: "killed".into() }
}

pub(in crate::state) fn stored(dir: &Path, records: &[Record]) {
    let (mut database, _) = Database::open(dir).unwrap();
    database.write(&records.iter().map(|r| (r.serial, r)).collect(), &[]).unwrap();
    database.sync().unwrap();
    database.checkpoint().unwrap();
}

/// As it comes back: without the values of secrets.
pub(in crate::state) fn shown(mut record: Record) -> Record {
    let spec = Arc::make_mut(&mut record.spec);
    spec.secrets[0].1 = Secret::default();
    record
}

#[test]
fn records_read_back_whole_without_secrets_from_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        record(1, Stage::Scheduled),
        record(2, Stage::Queued),
        record(3, Stage::Active(None)),
        record(4, Stage::Active(Some(StopCause::Timeout))),
        record(5, Stage::Ended(ending())),
    ];
    stored(dir.path(), &all);
    let path = dir.path().join("state.db");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&path).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("TOKEN") && !has("hunter2"), "the value of a secret");
    let (mut database, records) = Database::open(dir.path()).unwrap();
    assert_eq!(records, all.clone().map(shown));
    let newer = record(2, Stage::Ended(ending()));
    database.write(&[(2, &newer)].into(), &[1, 3]).unwrap();
    drop(database);
    let (_, records) = Database::open(dir.path()).unwrap();
    assert_eq!(records.iter().map(|r| r.serial).collect::<Vec<_>>(), [2, 4, 5]);
    assert_eq!(records[0].stage, Stage::Ended(ending()));
}

#[test]
fn newer_foreign_or_damaged_database_is_refused_and_left_alone() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm, &str); 5] = [
        ("newer", |path| pragma(path, "PRAGMA user_version=2"), "it has version 2, this joblet knows 1"),
        ("foreign", |path| pragma(path, "PRAGMA application_id=7"), "another program made it"),
        (
            "text",
            |path| std::fs::write(path, "not a database, but a long line of text").unwrap(),
            "joblet recover",
        ),
        ("flipped byte of a record", |path| flip(path, b"nightly"), "its checksum does not fit"),
        ("flipped tree", |path| flip_at(path, 4096 + 3), "joblet recover"),
    ];
    for (name, harm, text) in harms {
        let dir = tempfile::tempdir().unwrap();
        stored(dir.path(), &[record(1, Stage::Queued)]);
        let path = dir.path().join("state.db");
        harm(&path);
        let before = std::fs::read(&path).unwrap();
        let why = Database::open(dir.path()).unwrap_err().to_string();
        assert!(why.contains(text), "{name}: {why}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
}

fn pragma(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

pub(in crate::state) fn flip(path: &Path, text: &[u8]) {
    let bytes = std::fs::read(path).unwrap();
    flip_at(path, bytes.windows(text.len()).position(|window| window == text).unwrap() as u64);
}

fn flip_at(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x5a], at).unwrap();
}

/// The serials that a power cut would leave of an open database.
fn read_from_the_disk(dir: &Path) -> Vec<u64> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    Database::open(copy.path()).unwrap().1.iter().map(|record| record.serial).collect()
}

#[test]
fn pages_that_a_failed_sync_lost_reach_the_disk_before_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, _) = Database::open(dir.path()).unwrap();
    let put = |database: &mut Database, serial| {
        let record = record(serial, Stage::Scheduled);
        database.write(&BTreeMap::from([(serial, &record)]), &[]).and_then(|()| database.sync()).unwrap();
    };
    put(&mut database, 1);
    let before = wal::written(&database.log).unwrap().len();
    put(&mut database, 2);
    // The second sync has failed, and the kernel has dropped its pages.
    let written = wal::written(&database.log).unwrap();
    assert!(written.len() > before);
    database.log.write_all_at(&vec![0; written.len() - before], before as u64).unwrap();
    database.owed = Some(written);
    assert_eq!(read_from_the_disk(dir.path()), [1]);
    put(&mut database, 3);
    assert_eq!(read_from_the_disk(dir.path()), [1, 2, 3]);
    database.checkpoint().unwrap();
    put(&mut database, 4);
    assert_eq!(read_from_the_disk(dir.path()), [1, 2, 3, 4]);
}

/// Written by version 1, to be read for ever.
#[test]
fn the_golden_database_is_read() {
    let golden = Path::new("tests/golden/state-1.db");
    let all =
        [record(1, Stage::Scheduled), record(2, Stage::Active(None)), record(3, Stage::Ended(ending()))];
    let dir = tempfile::tempdir().unwrap();
    if std::env::var_os("JOBLET_GOLDEN").is_some() && !golden.exists() {
        stored(dir.path(), &all);
        std::fs::copy(dir.path().join("state.db"), golden).unwrap();
    }
    std::fs::copy(golden, dir.path().join("state.db")).unwrap();
    let expected = all.map(|record| {
        let shown = shown(record);
        let mut record = Record { stop_grace: None, gpus: Vec::new(), egress: None, denials: None, ..shown };
        (record.timeout, record.paused) = (None, None);
        let spec = Arc::make_mut(&mut record.spec);
        (spec.stop_grace, spec.upload_handles, spec.egress) = (None, Vec::new(), None);
        spec.gpus = None;
        // That version hid the values of plain variables whose names sound secret.
        spec.environment[1].1 = "***".into();
        record
    });
    assert_eq!(Database::open(dir.path()).unwrap().1, expected);
}

/// A deleted record was still in the free pages of the database, and in its log.
#[test]
fn deleted_records_are_in_no_file_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, _) = Database::open(dir.path()).unwrap();
    let marked = |serial: u64, mark: &str| {
        let mut record = record(serial, Stage::Queued);
        // As long as several pages, and as part of one.
        Arc::make_mut(&mut record.spec).args =
            vec![mark.repeat(if serial.is_multiple_of(2) { 2000 } else { 3 })];
        record
    };
    let records: Vec<Record> = (1..=40).map(|serial| marked(serial, "gone-marker")).collect();
    let kept = marked(41, "kept-marker");
    let all = records.iter().chain([&kept]).map(|record| (record.serial, record)).collect();
    database.write(&all, &[]).unwrap();
    database.sync().unwrap();
    database.checkpoint().unwrap();
    // Replaced once more, so that both the file and the log have it.
    database.write(&all, &[]).unwrap();
    let holds = |mark: &str| {
        ["state.db", "state.db-wal"].map(|name| {
            let bytes = std::fs::read(dir.path().join(name)).unwrap();
            bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
        })
    };
    assert_eq!(holds("gone-marker"), [true, true]);
    database.write(&BTreeMap::new(), &(1..=40).collect::<Vec<_>>()).unwrap();
    database.sync().unwrap();
    assert!(database.has_traces());
    database.erase().unwrap();
    assert_eq!(holds("gone-marker"), [false, false]);
    assert_eq!(holds("kept-marker"), [true, false]);
    assert!(!database.has_traces());
    assert_eq!(std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len(), LOG);
    // It goes on as before.
    database.write(&[(1, &records[0])].into_iter().collect(), &[]).unwrap();
    database.sync().unwrap();
    drop(database);
    assert_eq!(Database::open(dir.path()).unwrap().1.len(), 2);
}

#[test]
fn deletion_of_history_is_remembered_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = [JobId::random(), JobId::random()];
    let change = |wanted: &[JobId], done: &[JobId]| {
        let (mut database, _) = Database::open(dir.path()).unwrap();
        let deletions = Deletions { wanted: wanted.into(), done: done.into() };
        database.write_with(&BTreeMap::new(), &[], &deletions, &[], &WorkflowChanges::default()).unwrap();
        drop(database);
        Database::open(dir.path()).unwrap().0.deletions().unwrap()
    };
    assert_eq!(change(&[a, a], &[]), [a]);
    assert_eq!(change(&[b], &[a]), [b]);
    assert_eq!(change(&[], &[b]), []);
}

#[test]
fn networks_are_stored_and_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let network = |name: &str| StoredNetwork {
        name: name.parse().unwrap(),
        cidr: "10.50.0.0/16".into(),
        internal: name == "inner",
        created_ns: 7,
    };
    let [lab, inner] = ["lab", "inner"].map(network);
    let is_there = |network: &StoredNetwork, is_there| NetworkChange { network: network.clone(), is_there };
    {
        let (mut database, _) = Database::open(dir.path()).unwrap();
        let mut write = |changes: &[NetworkChange]| {
            let changes: Vec<StandingChange> = changes.iter().cloned().map(StandingChange::from).collect();
            let changes: Vec<&StandingChange> = changes.iter().collect();
            database
                .write_with(
                    &BTreeMap::new(),
                    &[],
                    &Deletions::default(),
                    &changes,
                    &WorkflowChanges::default(),
                )
                .unwrap();
        };
        write(&[is_there(&lab, true), is_there(&lab, false), is_there(&inner, true)]);
        write(&[is_there(&lab, true)]);
    }
    let (database, _) = Database::open(dir.path()).unwrap();
    assert_eq!(database.networks().unwrap(), [inner, lab]);
    drop(database);
    flip(&dir.path().join("state.db"), b"10.50.0.0/16");
    let (database, _) = Database::open(dir.path()).unwrap();
    assert!(database.networks().unwrap_err().to_string().contains("its checksum does not fit"));
}

#[test]
fn volumes_are_stored_beside_networks() {
    let dir = tempfile::tempdir().unwrap();
    let volume = |name: &str, kind| StoredVolume {
        name: name.parse().unwrap(),
        kind,
        bytes: 7,
        created_ns: 8,
        project: None,
    };
    let data = StoredVolume { project: Some(5), ..volume("data", VolumeKind::Filesystem) };
    let cache = volume("cache", VolumeKind::Memory);
    let is_there = |volume: &StoredVolume, is_there| {
        StandingChange::from(VolumeChange { volume: volume.clone(), is_there, old_bytes: None })
    };
    {
        let (mut database, _) = Database::open(dir.path()).unwrap();
        let changes = [is_there(&data, true), is_there(&cache, true), is_there(&cache, false)];
        let changes: Vec<&StandingChange> = changes.iter().collect();
        let none = (Deletions::default(), WorkflowChanges::default());
        database.write_with(&BTreeMap::new(), &[], &none.0, &changes, &none.1).unwrap();
    }
    let (database, _) = Database::open(dir.path()).unwrap();
    assert_eq!(database.volumes().unwrap(), [data]);
    assert_eq!(database.networks().unwrap(), []);
    drop(database);
    flip(&dir.path().join("state.db"), b"filesystem");
    let (database, _) = Database::open(dir.path()).unwrap();
    assert!(database.volumes().unwrap_err().to_string().contains("volume \"data\""));
}
