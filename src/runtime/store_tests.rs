//! The store in a directory of its own.

use super::*;

fn open(dir: &Path) -> Store {
    let (store, findings) = Store::open(dir).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    store
}

fn id(text: &str) -> RuntimeId {
    text.parse().unwrap()
}

fn spec(text: &str) -> RuntimeSpec {
    text.parse().unwrap()
}

fn yaml(id: &RuntimeId, rest: &str) -> String {
    format!("name: {}\nversion: {}\n{rest}\n", id.name, id.version)
}

/// A runtime with one file in one mount.
fn staged(store: &Store, id: &RuntimeId) -> Staging {
    let staging = store.stage().unwrap();
    fs::create_dir(staging.path().join("files")).unwrap();
    fs::write(staging.path().join("files/program"), vec![7; 10_000]).unwrap();
    let text = yaml(id, "mounts: [{source: files, target: /opt/x}]");
    fs::write(staging.path().join(FILE), text).unwrap();
    staging
}

fn install(store: &Store, text: &str) -> Arc<Runtime> {
    store.publish(staged(store, &id(text)), &id(text), false).unwrap()
}

fn digest(letter: char) -> LayerDigest {
    format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap()
}

fn layer(store: &Store, letter: char) -> bool {
    let staging = store.stage().unwrap();
    fs::write(staging.path().join("file"), vec![1; 20_000]).unwrap();
    store.publish_layer(staging, &digest(letter)).unwrap()
}

fn image(store: &Store, text: &str, layers: &str) -> Result<Arc<Runtime>, RuntimeError> {
    let staging = store.stage().unwrap();
    let layers: Vec<String> = layers.chars().map(|letter| format!("'{}'", digest(letter))).collect();
    let text_of = yaml(&id(text), &format!("layers: [{}]", layers.join(", ")));
    fs::write(staging.path().join(FILE), text_of).unwrap();
    store.publish(staging, &id(text), false)
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn highest_version_is_found_and_names_are_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for text in ["python-3.11@1.9.0", "python-3.11@1.10.0", "python-3.11@2.0.0-rc.1", "python-3.11-ml@3.0.0"]
    {
        install(&store, text);
    }
    let found =
        |text: &str| store.find(&spec(text)).map(|runtime| runtime.id.to_string()).map_err(|e| e.to_string());
    assert_eq!(found("python-3.11").unwrap(), "python-3.11@2.0.0-rc.1");
    assert_eq!(found("python:3.11@1.9.0").unwrap(), "python-3.11@1.9.0");
    assert_eq!(found("python:3.11-ml").unwrap(), "python-3.11-ml@3.0.0");
    for text in ["python", "python-3", "python-9.9", "python-3.11@9.0.0", "java"] {
        let why = found(text).unwrap_err();
        assert!(why.contains("is not installed") && why.contains("python-3.11@1.10.0"), "{why}");
    }
    install(&store, "python-3.11@2.0.0+a");
    install(&store, "python-3.11@2.0.0+b");
    let why = found("python-3.11").unwrap_err();
    assert!(why.contains("ambiguous") && why.contains("2.0.0+a and python-3.11@2.0.0+b"), "{why}");
}

#[test]
fn used_version_is_neither_removed_nor_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    install(&store, "a@1.0.0");
    install(&store, "a@2.0.0");
    let used = store.take(&spec("a@1.0.0")).unwrap();
    let also = used.clone();
    let name = id("a@1.0.0").name;
    let refusal = |result: Result<Removed, RuntimeError>| result.unwrap_err().to_string();
    assert!(refusal(store.remove(&name, None)).contains("in use by 2 jobs"));
    let replacement = staged(&store, &id("a@1.0.0"));
    let why = store.publish(replacement, &id("a@1.0.0"), true).unwrap_err().to_string();
    assert!(why.contains("in use"), "{why}");
    assert_eq!(store.list().len(), 2);
    drop((used, also));
    let removed = store.remove(&name, None).unwrap();
    assert_eq!(removed.ids.len(), 2);
    assert!(removed.freed_bytes > 20_000, "{removed:?}");
    assert!(store.list().is_empty() && !dir.path().join("a").exists());
    assert!(refusal(store.remove(&name, None)).contains("no runtime is"));
    assert_eq!(entries(&dir.path().join(STAGING)), 0);
}

#[test]
fn published_version_is_changed_only_by_a_replacement() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    install(&store, "a@1.0.0");
    let again = staged(&store, &id("a@1.0.0"));
    fs::write(again.path().join("files/new"), "").unwrap();
    let why = store.publish(again, &id("a@1.0.0"), false).unwrap_err();
    assert!(why.to_string().contains("installed already"), "{why}");
    assert!(!dir.path().join("a/1.0.0/files/new").exists());
    let again = staged(&store, &id("a@1.0.0"));
    fs::write(again.path().join("files/new"), "").unwrap();
    store.publish(again, &id("a@1.0.0"), true).unwrap();
    assert!(dir.path().join("a/1.0.0/files/new").exists());
    let other = staged(&store, &id("a@1.0.0"));
    let why = store.publish(other, &id("b@1.0.0"), false).unwrap_err();
    assert!(why.to_string().contains("not of \"b@1.0.0\""), "{why}");
    assert_eq!(entries(&dir.path().join(STAGING)), 0);
}

#[test]
fn half_made_things_are_removed_and_whole_ones_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    install(&store, "a@1.0.0");
    assert!(layer(&store, 'a') && layer(&store, 'b') && !layer(&store, 'a'));
    image(&store, "image@1.0.0", "a").unwrap();
    let used = store.find(&spec("a")).unwrap();
    assert_eq!(used.last_used_ns(), None);
    used.note_use(4_000_000_000_000_000_000);
    // As a daemon leaves it that is killed: nothing is dropped.
    std::mem::forget(store.stage().unwrap());
    fs::create_dir_all(dir.path().join("flat")).unwrap();
    fs::write(dir.path().join("flat").join(FILE), "").unwrap();
    fs::create_dir_all(dir.path().join("empty/1.0.0")).unwrap();
    let (store, findings) = Store::open(dir.path()).unwrap();
    assert!(store.clean().is_empty());
    assert_eq!(entries(&dir.path().join(LEAVING)), 0);
    assert!(findings.len() == 2 && findings.iter().any(|said| said.contains("flat/VERSION")), "{findings:?}");
    let names: Vec<String> = store.list().iter().map(|runtime| runtime.id.to_string()).collect();
    assert_eq!(names, ["a@1.0.0", "image@1.0.0"]);
    assert_eq!(store.find(&spec("a")).unwrap().last_used_ns(), Some(4_000_000_000_000_000_000));
    assert_eq!(entries(&dir.path().join(STAGING)), 0);
    assert!(store.layer(&digest('a')).is_some() && store.layer(&digest('b')).is_none());
}

#[test]
fn layers_are_shared_and_go_with_the_last_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hold = store.hold_layers(&[digest('a'), digest('b'), digest('c')]);
    "abc".chars().for_each(|letter| assert!(layer(&store, letter)));
    let one = image(&store, "one@1.0.0", "ab").unwrap();
    image(&store, "two@1.0.0", "bc").unwrap();
    drop(hold);
    assert!(image(&store, "three@1.0.0", "d").unwrap_err().to_string().contains("is not there"));
    let (all, shared) = store.sizes(&one, &store.sharing());
    assert_eq!(store.sizes(&one, &Sharing::default()), (all, 0));
    assert!(all > shared && shared >= 20_000, "{all} {shared}");
    assert_eq!(store.layer_dirs(&one)[0], dir.path().join(LAYERS).join("b".repeat(64)));
    store.remove(&one.id.name, None).unwrap();
    let there = || "abc".chars().filter(|letter| store.layer(&digest(*letter)).is_some()).collect::<String>();
    assert_eq!(there(), "bc");
    let held = store.hold_layers(&[digest('c')]);
    store.remove(&id("two@1.0.0").name, None).unwrap();
    assert_eq!(there(), "c");
    drop(held);
}

#[test]
fn files_of_a_runtime_do_not_lead_outside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let staging = store.stage().unwrap();
    std::os::unix::fs::symlink("/etc", staging.path().join("files")).unwrap();
    fs::write(staging.path().join(FILE), yaml(&id("a@1.0.0"), "mounts: [{source: files, target: /opt}]"))
        .unwrap();
    let why = store.publish(staging, &id("a@1.0.0"), false).unwrap_err().to_string();
    assert!(why.contains("without following links"), "{why}");
    let staging = store.stage().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", staging.path().join(FILE)).unwrap();
    assert!(store.publish(staging, &id("a@1.0.0"), false).is_err());
    assert!(store.list().is_empty());
}
