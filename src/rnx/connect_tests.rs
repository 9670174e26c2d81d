use super::super::cli::{Parsed, parse};
use super::*;
use std::path::PathBuf;

/// A directory with a configuration of two nodes and the PEM files that the flags can name.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["c", "k", "a"] {
        fs::write(dir.path().join(name), format!("{name} of a file")).unwrap();
    }
    let config = dir.path().join("rnx-config.yml");
    let text = "version: \"3.0\"\nnodes:\n  \
                default: {address: 'node:1', cert: nodecert, key: nodekey, ca: nodeca}\n  \
                other: {address: 'other:2', cert: oc, key: ok, ca: oa}\n  \
                bare: {address: 'bare:3', cert: bc}\n";
    fs::write(&config, text).unwrap();
    #[cfg(unix)]
    for path in [&config, &dir.path().join("k")] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    (dir, config)
}

fn gather(line: &str, env: &[(&str, &str)]) -> Result<Settings> {
    let words = line.split_whitespace().chain(["job", "list"]).map(Into::into).collect();
    let Ok(Parsed::Invoke(i)) = parse(words) else { panic!("{line}") };
    settings(&i.values, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_node() {
    let (dir, config) = place();
    let (dir, config) = (dir.path().display().to_string(), config.display().to_string());
    let s = gather(&format!("--config {config}"), &[]).unwrap();
    assert_eq!(
        (s.host.as_str(), s.port, s.cert.as_str(), s.key.expose(), s.ca.as_str()),
        ("node", 1, "nodecert", "nodekey", "nodeca")
    );
    assert!(s.warnings.is_empty(), "{:?}", s.warnings);

    let cert = format!("{dir}/c");
    let env = [("JOBLET_SERVER", "env:7"), ("JOBLET_CERT_PATH", cert.as_str())];
    let s = gather(&format!("--config {config}"), &env).unwrap();
    assert_eq!(
        (s.host.as_str(), s.port, s.cert.as_str(), s.key.expose()),
        ("env", 7, "c of a file", "nodekey")
    );

    let s = gather(&format!("--config {config} --server flag:8 --ca {dir}/a"), &env).unwrap();
    assert_eq!((s.host.as_str(), s.ca.as_str(), s.cert.as_str()), ("flag", "a of a file", "c of a file"));
}

#[test]
fn only_node_of_a_file_is_used_without_its_name() {
    let (_dir, config) = place();
    let text = "version: 4.0\nnodes: {prod: {address: 'prod:9', cert: c, key: k, ca: a}}\n";
    fs::write(&config, text).unwrap();
    let s = gather(&format!("--config {}", config.display()), &[]).unwrap();
    assert_eq!((s.host.as_str(), s.port, s.warnings.len()), ("prod", 9, 1), "{:?}", s.warnings);
    fs::write(&config, "nodes: {a: {}, b: {}}\n").unwrap();
    let e = gather(&format!("--config {}", config.display()), &[]).unwrap_err().to_string();
    assert!(e.starts_with("no node of the configuration is the default (there are: a, b)"), "{e}");
}

#[test]
fn node_flag_is_not_overridden_by_the_environment() {
    let (_dir, config) = place();
    let env = [("JOBLET_SERVER", "env:7"), ("RNX_NODE", "default")];
    let s = gather(&format!("--config {} --node other", config.display()), &env).unwrap();
    assert_eq!((s.host.as_str(), s.cert.as_str()), ("other", "oc"));
    let s = gather(&format!("--config {}", config.display()), &[("RNX_NODE", "other")]).unwrap();
    assert_eq!(s.host, "other");
}

#[test]
fn when_everything_is_given_no_configuration_is_opened() {
    let (dir, _) = place();
    let dir = dir.path().display();
    let line = format!("--config /nowhere --server h --cert {dir}/c --key {dir}/k --ca {dir}/a");
    let s = gather(&line, &[]).unwrap();
    assert_eq!((s.host.as_str(), s.port, s.key.expose()), ("h", 50051, "k of a file"));
}

#[test]
fn missing_connection_setting_is_named_in_the_error() {
    let (_dir, config) = place();
    let config = config.display();
    let why = |line: &str| gather(line, &[]).unwrap_err();
    assert_eq!(
        why("--config /nowhere/x.yml").to_string(),
        "client configuration file not found: /nowhere/x.yml"
    );
    assert!(
        why(&format!("--config {config} --node nope"))
            .to_string()
            .starts_with("node 'nope' not found in configuration")
    );
    assert_eq!(
        why(&format!("--config {config} --node bare")).to_string(),
        "the node of the configuration has no client private key"
    );
    let e = why(&format!("--config {config} --key /nowhere/key.pem"));
    assert!(
        e.to_string().starts_with("cannot read the client private key /nowhere/key.pem: No such file"),
        "{e}"
    );
    assert_eq!(e.exit_code(None), 1);
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, config) = place();
    let key = dir.path().join("k");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let s = gather(&format!("--config {} --key {}", config.display(), key.display()), &[]).unwrap();
    assert_eq!(
        s.warnings,
        [format!("{0} is a private key and others can read it; run: chmod 600 {0}", key.display())]
    );
}

#[test]
fn addresses_are_read_in_every_usual_spelling() {
    for (text, host, port) in [
        ("localhost:50051", "localhost", 50051),
        ("prod.example.com", "prod.example.com", 50051),
        ("10.0.0.1:7", "10.0.0.1", 7),
        ("[::1]:7", "::1", 7),
        ("::1", "::1", 50051),
        ("[fe80::1]", "fe80::1", 50051),
    ] {
        assert_eq!(split_address(text).unwrap(), (host.to_string(), port), "{text}");
    }
    for text in [
        "",
        ":1",
        "h:",
        "h:0",
        "h:x",
        "h:99999",
        "a b:1",
        "http://h:1",
        "a:b:c",
        "[::1",
        "h\x1b:1",
        "::1:xyz:",
    ] {
        assert!(split_address(text).is_err(), "{text:?}");
    }
}
