use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::{client::ClientConfig, daemon::DaemonConfig};

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.into(),
        hosts: vec![],
        port: 50051,
        enforcement: Enforcement::BestEffort,
        force: false,
    }
}

fn parse(args: &[&str]) -> Result<Options, CertError> {
    Options::parse(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn a_set_loads_on_both_sides_and_fits_together() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a b: \"#c/node");
    let wanted = Options { hosts: vec!["::1".into()], port: 6001, ..options(&dir) };
    let report = run(&wanted).unwrap();
    assert!(!report.kept_ca);

    let daemon = DaemonConfig::load(Some(&dir.join("joblet-config.yml"))).unwrap();
    assert!(daemon.warnings.is_empty(), "{:?}", daemon.warnings);
    assert_eq!(daemon.config.data_dir, dir);
    assert_eq!(daemon.config.server.port, 6001);
    assert_eq!(daemon.config.cgroup.enforcement, Enforcement::BestEffort);
    assert!(uuid::Uuid::parse_str(&daemon.config.server.node_id).is_ok());
    let s = &daemon.config.security;
    inspect::check(&s.server_cert, &s.server_key, &s.ca_cert, inspect::Use::Server, now()).unwrap();

    let client = ClientConfig::load(Some(&dir.join("rnx-config.yml"))).unwrap();
    assert!(client.warnings.is_empty(), "{:?}", client.warnings);
    for (name, role) in [("default", "admin"), ("viewer", "viewer")] {
        let node = client.config.node(name).unwrap();
        assert_eq!(node.address, "[::1]:6001");
        assert_eq!(node.node_id, daemon.config.server.node_id);
        let facts = inspect::check(&node.cert, &node.key, &s.ca_cert, inspect::Use::Client, now()).unwrap();
        assert_eq!(facts.units, [role]);
        assert_eq!(node.ca, s.ca_cert);
    }
    assert_eq!(text(&dir, "certs/client-key.pem"), text(&dir, "certs/admin-client-key.pem"));
    assert_eq!(text(&dir, "certs/client-cert.pem"), client.config.node("default").unwrap().cert);
}

#[test]
fn keys_and_configurations_are_private_and_nothing_else_is_left() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node");
    run(&options(&dir)).unwrap();
    for private in [".", "ca", "certs"] {
        assert_eq!(mode(&dir.join(private)), 0o700, "{private}");
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for sub in [".", "ca", "certs"] {
        for entry in fs::read_dir(dir.join(sub)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            let secret = name.ends_with("-key.pem") || name.ends_with(".yml");
            assert_eq!(mode(&entry), if secret { 0o600 } else { 0o644 }, "{name}");
            found.push(entry);
        }
    }
    assert_eq!(found.len(), members().count() + 1, "and the revocation list");
}

#[test]
fn a_whole_set_is_never_overwritten_and_a_broken_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node");
    run(&options(&dir)).unwrap();
    let before = text(&dir, "joblet-config.yml");
    assert!(matches!(run(&options(&dir)), Err(CertError::KeepSet { .. })));
    fs::remove_file(dir.join("certs/server-key.pem")).unwrap();
    let error = run(&options(&dir)).unwrap_err().to_string();
    assert!(error.contains("missing: certs/server-key.pem") && error.contains("--force"), "{error}");
    assert_eq!(text(&dir, "joblet-config.yml"), before);
}

#[test]
fn force_keeps_a_good_ca_and_replaces_a_broken_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node");
    run(&options(&dir)).unwrap();
    let (ca, server) = (text(&dir, "ca/ca-cert.pem"), text(&dir, "certs/server-cert.pem"));
    let again = Options { force: true, ..options(&dir) };
    assert!(run(&again).unwrap().kept_ca);
    assert_eq!(text(&dir, "ca/ca-cert.pem"), ca);
    assert_ne!(text(&dir, "certs/server-cert.pem"), server);

    fs::write(dir.join("ca/ca-key.pem"), "not a key").unwrap();
    assert!(!run(&again).unwrap().kept_ca);
    assert_ne!(text(&dir, "ca/ca-cert.pem"), ca);
    assert_eq!(text(&dir, "ca/ca-cert.pem"), text(&dir, "certs/ca-cert.pem"));
    assert_eq!(mode(&dir.join("ca/ca-key.pem")), 0o600);
    assert!(DaemonConfig::load(Some(&dir.join("joblet-config.yml"))).is_ok());
}

#[test]
fn keys_are_not_written_through_a_link() {
    let root = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (root.path().join("node"), root.path().join("elsewhere"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join("ca")).unwrap();
    let error = run(&options(&dir)).unwrap_err().to_string();
    assert!(error.contains("it is there and no directory"), "{error}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn two_setups_of_one_directory_do_not_mix() {
    let root = tempfile::tempdir().unwrap();
    let held = files::lock(root.path()).unwrap();
    assert!(
        run(&options(root.path()))
            .unwrap_err()
            .to_string()
            .contains("another joblet setup or joblet certs is running")
    );
    drop(held);
    run(&options(root.path())).unwrap();
}

#[test]
fn arguments_are_read_and_wrong_ones_are_named() {
    let full = parse(&[
        "--dir",
        "/d",
        "--host",
        "a",
        "--host=10.0.0.1",
        "--port",
        "7",
        "--enforcement",
        "best-effort",
    ]);
    let full = full.unwrap();
    assert_eq!((full.hosts.len(), full.port, full.force), (2, 7, false));
    assert_eq!(parse(&["--dir", "/d"]).unwrap().enforcement, Enforcement::Strict);
    assert!(parse(&["--dir", "rel"]).unwrap().dir.is_absolute());
    for (args, expected) in [
        (&["--host", "a"][..], "--dir DIR is needed"),
        (&["--dir", "/d", "--port", "0"], "--port takes a number from 1 to 65535"),
        (&["--dir", "/d", "--enforcement", "lax"], "neither strict nor best-effort"),
        (&["--dir", "/d", "x"], "\"x\" is not expected"),
        (&["--dir", "/d", "--hots", "a"], "see joblet setup --help"),
        (&["--dir", "/d", "--host", "a b"], "--host \"a b\": it is neither a DNS name nor an IP address"),
    ] {
        let error = parse(args).unwrap_err().to_string();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert!(command(&["--help".into()]).unwrap().contains("--enforcement"));
}

#[test]
fn directory_of_somebody_else_gets_no_key() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let refused = |dir: &Path, why: &str| {
        let error = run(&options(dir)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "nothing was written");
    };
    let (foreign, open) = (root.path().join("foreign"), root.path().join("open"));
    for dir in [&foreign, &open] {
        fs::create_dir(dir).unwrap();
    }
    std::os::unix::fs::chown(&foreign, Some(4711), None).unwrap();
    refused(&foreign, "it belongs to uid 4711; run: chown 0 ");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&open, "others can change it (mode 0777); run: chmod go-w ");
    // One above is enough: its owner can put another directory in the place.
    let below = foreign.join("node");
    fs::create_dir(&below).unwrap();
    refused(&below, "uid 4711, the owner of ");
}
