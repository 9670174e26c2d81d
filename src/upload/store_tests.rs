//! The store with clients that come back, lie, and vanish.

use super::super::receive::{Piece, Start, receive};
use super::super::write_stored;
use super::*;
use std::os::fd::AsFd;

fn limits() -> StoreLimits {
    StoreLimits { total: 3 << 20, client: 2 << 20, lifetime: Duration::from_secs(3600) }
}

fn open(dir: &tempfile::TempDir) -> Arc<Store> {
    Store::open(dir.path().to_owned(), limits()).unwrap()
}

fn client(name: &str) -> ClientKey {
    ClientKey::of(name.as_bytes())
}

fn file(path: &str, bytes: u64) -> (Upload, u64) {
    (Upload { path: path.into(), ..Upload::default() }, bytes)
}

/// Sends these pieces as one call; the digest comes with the last one, if there is any.
fn send(
    store: &Store,
    start: Start,
    data: &[&[u8]],
    digest: Option<[u8; 32]>,
) -> Result<StoredStatus, StoreError> {
    let (pieces, queue) = unbounded();
    for (at, part) in data.iter().enumerate() {
        let sha256 = digest.filter(|_| at + 1 == data.len());
        pieces.send(Piece { data: part.to_vec(), sha256 }).unwrap();
    }
    drop(pieces);
    receive(store, start, &queue, || {})
}

fn start(handle: Uuid, entries: Option<Vec<(Upload, u64)>>, offset: u64) -> Start {
    Start { handle, client: client("ann"), entries, offset }
}

fn sha(bytes: &[u8]) -> Option<[u8; 32]> {
    Some(openssl::sha::sha256(bytes))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn upload_goes_on_where_it_was_cut_also_in_another_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Uuid::new_v4();
    let entries = vec![file("a", 4), file("d/b", 0), file("c", 6)];
    let store = open(&dir);
    let cut = send(&store, start(handle, Some(entries), 0), &[b"1234", b"56"], None).unwrap_err();
    assert!(matches!(cut, StoreError::Measure { received: 6, size: 10, .. }), "{cut}");
    assert!(store.find(handle, &client("ann")).unwrap_err().contains("is not complete"));
    drop(store);
    let store = open(&dir);
    let known = store.status(handle, &client("ann")).unwrap();
    assert_eq!((known.received, known.size, known.complete), (6, 10, false));
    // Behind the end nothing can begin; before it, what follows is sent again.
    let error = send(&store, start(handle, None, 7), &[b"xxx"], None).unwrap_err();
    assert!(matches!(error, StoreError::Resume { received: 6, offset: 7, .. }), "{error}");
    let done = send(&store, start(handle, None, 4), &[b"567", b"890"], sha(b"1234567890")).unwrap();
    assert!(done.complete && done.received == 10);
    drop(store);
    let store = open(&dir);
    let found = store.find(handle, &client("ann")).unwrap();
    assert_eq!(found.shown(), ["a", "d/b", "c"]);
    let claims = store.take(&[found]).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let root = File::open(work.path()).unwrap();
    write_stored(root.as_fd(), claims[0].stored(), &crate::upload::Wanted::All, uid.as_raw(), gid.as_raw())
        .unwrap();
    let read = |path: &str| fs::read_to_string(work.path().join(path)).unwrap();
    assert_eq!((read("a"), read("d/b"), read("c")), ("1234".into(), String::new(), "567890".into()));
}

#[test]
fn upload_is_taken_by_one_job_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let handles = [Uuid::new_v4(), Uuid::new_v4()];
    for handle in handles {
        send(&store, start(handle, Some(vec![file("a", 1)]), 0), &[b"x"], sha(b"x")).unwrap();
    }
    let found = handles.map(|handle| store.find(handle, &client("ann")).unwrap());
    let first = store.take(&found[..1]).unwrap();
    // All of them or none: the second one is left as it was.
    let why = store.take(&[found[1].clone(), found[0].clone()]).unwrap_err();
    assert!(why.contains(&handles[0].to_string()), "{why}");
    let second = store.take(&found[1..]).unwrap();
    drop(first);
    let files = |handle: Uuid| dir.path().join(handle.to_string()).exists();
    eventually("its files go", || !files(handles[0]));
    assert!(files(handles[1]) && store.find(handles[0], &client("ann")).is_err());
    drop(second);
    eventually("the others go", || !files(handles[1]));
}

#[test]
fn waiting_job_of_an_earlier_daemon_keeps_its_uploads() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Uuid::new_v4();
    send(&open(&dir), start(handle, Some(vec![file("a", 1)]), 0), &[b"x"], sha(b"x")).unwrap();
    let store = open(&dir);
    let claims = store.adopt(&[handle.to_string()]).unwrap();
    assert!(store.adopt(&[handle.to_string()]).unwrap_err().contains("is gone"));
    let found = store.find(handle, &client("ann")).unwrap();
    assert!(store.take(&[found]).unwrap_err().contains("used by another job"));
    drop(claims);
    assert!(store.adopt(&["no-handle".into()]).is_err());
}

#[test]
fn damaged_or_oversized_contents_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let handle = Uuid::new_v4();
    let damaged =
        send(&store, start(handle, Some(vec![file("a", 4)]), 0), &[b"1234"], sha(b"1235")).unwrap_err();
    assert!(matches!(damaged, StoreError::Verify(_)), "{damaged}");
    eventually("nothing of it is left", || !dir.path().join(handle.to_string()).exists());
    let handle = Uuid::new_v4();
    let more = send(&store, start(handle, Some(vec![file("a", 4)]), 0), &[b"123", b"45"], sha(b"12345"))
        .unwrap_err();
    assert!(matches!(more, StoreError::Measure { received: 5, size: 4, .. }), "{more}");
    let less = send(&store, start(handle, None, 3), &[b""], sha(b"123")).unwrap_err();
    assert!(matches!(less, StoreError::Measure { received: 3, .. }), "{less}");
}

#[test]
fn other_clients_neither_see_nor_touch_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let handle = Uuid::new_v4();
    send(&store, start(handle, Some(vec![file("a", 1)]), 0), &[b"x"], sha(b"x")).unwrap();
    let bob = client("bob");
    assert!(matches!(store.status(handle, &bob), Err(StoreError::Find(_))));
    assert!(store.delete(handle, &bob).is_err() && store.find(handle, &bob).is_err());
    let taken = Start { handle, client: bob, entries: Some(vec![file("a", 1)]), offset: 0 };
    assert!(matches!(send(&store, taken, &[b"y"], sha(b"y")), Err(StoreError::Begin(_))));
    assert!(store.find(handle, &client("ann")).is_ok());
}

#[test]
fn announced_bytes_are_bounded_by_client_and_in_total() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let begin = |name: &str, bytes: u64| {
        let handle = Uuid::new_v4();
        store.begin(handle, client(name), &[file("a", bytes)]).map(|_| handle).map_err(|e| e.to_string())
    };
    assert!(begin("ann", 3 << 20).unwrap_err().contains("uploads.clientLimit"));
    assert!(begin("ann", u64::MAX).unwrap_err().contains("uploads.clientLimit"));
    let first = begin("ann", 3 << 19).unwrap();
    assert!(begin("ann", 1 << 20).unwrap_err().contains("use or delete them"));
    begin("bob", 1 << 20).unwrap();
    assert!(begin("eve", 1 << 20).unwrap_err().contains("uploads.limit"));
    store.delete(first, &client("ann")).unwrap();
    eventually("its bytes are free", || begin("eve", 1 << 20).is_ok());
    for _ in 0..MOST_OF_CLIENT {
        begin("carl", 0).unwrap();
    }
    assert!(begin("carl", 0).unwrap_err().contains("64 and 256 are allowed"));
}

#[test]
fn upload_that_nobody_uses_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(dir.path().to_owned(), StoreLimits { lifetime: Duration::from_millis(200), ..limits() });
    let store = store.unwrap();
    let [left, cut, taken] = [(); 3].map(|()| Uuid::new_v4());
    for handle in [left, taken] {
        send(&store, start(handle, Some(vec![file("a", 1)]), 0), &[b"x"], sha(b"x")).unwrap();
    }
    let claims = store.take(&[store.find(taken, &client("ann")).unwrap()]).unwrap();
    send(&store, start(cut, Some(vec![file("a", 2)]), 0), &[b"x"], None).unwrap_err();
    let there = |handle: Uuid| dir.path().join(handle.to_string()).exists();
    eventually("both are removed", || !there(left) && !there(cut));
    assert!(there(taken), "a job has it");
    drop(claims);
}

#[test]
fn a_silent_client_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StoreLimits { lifetime: Duration::from_millis(50), ..limits() };
    let store = Store::open(dir.path().to_owned(), limits).unwrap();
    let (_pieces, queue) = unbounded();
    let silent = receive(&store, start(Uuid::new_v4(), Some(vec![file("a", 1)]), 0), &queue, || {});
    assert!(matches!(silent, Err(StoreError::Wait(_) | StoreError::Continue(_))), "{silent:?}");
}

#[test]
fn a_second_call_takes_over_and_the_first_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let handle = Uuid::new_v4();
    let (pieces, queue) = unbounded();
    std::thread::scope(|scope| {
        let first =
            scope.spawn(|| receive(&store, start(handle, Some(vec![file("a", 4)]), 0), &queue, || {}));
        pieces.send(Piece { data: b"12".to_vec(), sha256: None }).unwrap();
        eventually("the first one writes", || {
            store.status(handle, &client("ann")).is_ok_and(|status| status.received == 2)
        });
        send(&store, start(handle, None, 2), &[b"34"], sha(b"1234")).unwrap();
        pieces.send(Piece { data: b"xx".to_vec(), sha256: sha(b"12xx") }).unwrap();
        assert!(matches!(first.join().unwrap(), Err(StoreError::Continue(_))));
    });
    assert!(store.find(handle, &client("ann")).is_ok());
}

#[test]
fn what_is_no_upload_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["stray", "2d4c1f0e-58cc-4372-a567-0e02b2c3d479"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let _store = open(&dir);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
