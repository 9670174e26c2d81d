use std::os::unix::fs::PermissionsExt;

use super::*;

fn run(args: &[&str]) -> Result<String, CertError> {
    command(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
}

fn refusal(args: &[&str]) -> String {
    run(args).unwrap_err().to_string()
}

/// A directory with a CA, as text.
fn with_ca() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node").display().to_string();
    run(&["init", "--dir", &dir]).unwrap();
    (root, dir)
}

fn json(args: &[&str]) -> Vec<serde_json::Value> {
    serde_json::from_str(&run(args).unwrap()).unwrap()
}

#[test]
fn a_client_is_issued_shown_and_revoked() {
    let (_root, dir) = with_ca();
    let said =
        run(&["issue", "--dir", &dir, "--role", "viewer", "--name", "ann@example", "--days", "7"]).unwrap();
    assert!(said.contains("CN=ann@example, OU=viewer, O=joblet") && said.contains("role         viewer"));
    let (cert, key) =
        (format!("{dir}/certs/ann@example-cert.pem"), format!("{dir}/certs/ann@example-key.pem"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    let shown = json(&["show", "--json", "--dir", &dir, &cert]);
    assert_eq!((&shown[0]["usage"][0], &shown[0]["role"][0]), (&"client".into(), &"viewer".into()));
    assert!(shown[0].get("problem").is_none() && shown[0]["revoked"].is_null(), "{shown:?}");

    let all = json(&["show", "--json", &format!("{dir}/certs")]);
    assert_eq!(all.len(), 2, "the certificate once, and the CA of the configuration: {all:?}");
    assert!(
        run(&["revoke", "--dir", &dir, &cert])
            .unwrap()
            .contains("(CN=ann@example, OU=viewer, O=joblet) is revoked")
    );
    assert!(run(&["revoke", "--dir", &dir, &cert]).unwrap().contains("was revoked before"));
    let shown = json(&["show", "--json", "--dir", &dir, &cert]);
    assert!(shown[0]["revoked"].is_string() && shown[0]["problem"] == "it is revoked", "{shown:?}");
}

#[test]
fn a_client_gets_a_configuration_that_it_can_use_at_once() {
    let (_root, dir) = with_ca();
    let issue = |name: &str, more: &[&str]| {
        let words = [&["issue", "--dir", &dir, "--role", "viewer", "--name", name], more].concat();
        let said = run(&words).unwrap();
        let path = format!("{dir}/certs/{name}-rnx-config.yml");
        assert!(said.contains(&format!("rnx --config {path} job list")), "{said}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let loaded = ClientConfig::load(Some(Path::new(&path))).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        let node = loaded.config.node(loaded.config.default_node().unwrap()).unwrap().clone();
        inspect::check(&node.cert, &node.key, &node.ca, inspect::Use::Client, crate::certs::now()).unwrap();
        (node.address, node.node_id)
    };
    assert_eq!(issue("alone", &[]), ("localhost:50051".into(), String::new()));
    assert_eq!(issue("told", &["--address", "[::1]:6001"]).0, "[::1]:6001");
    let own = "nodes: {default: {address: 'n1.example:6001', nodeId: n-1}}\n";
    fs::write(format!("{dir}/rnx-config.yml"), own).unwrap();
    assert_eq!(issue("of-a-node", &[]), ("n1.example:6001".into(), "n-1".into()));
    for wrong in ["n1", "n1:0", ":1", "a b:1", "n1:70000"] {
        refusal(&["issue", "--dir", &dir, "--role", "viewer", "--name", "x", "--address", wrong]);
        assert!(!Path::new(&format!("{dir}/certs/x-key.pem")).exists(), "{wrong}");
    }
    assert!(
        refusal(&["issue", "--dir", &dir, "--server", "--name", "s", "--address", "a:1"])
            .contains("--address")
    );
}

#[test]
fn a_serial_number_alone_is_revoked_in_every_way_to_write_it() {
    let (_root, dir) = with_ca();
    run(&["issue", "--dir", &dir, "--role", "admin", "--name", "a"]).unwrap();
    let cert = format!("{dir}/certs/a-cert.pem");
    let serial = json(&["show", "--json", &cert])[0]["serial"].as_str().unwrap().to_owned();
    let colons: Vec<&str> = (0..serial.len() / 2).map(|i| &serial[2 * i..2 * i + 2]).collect();
    let said = run(&["revoke", "--dir", &dir, &colons.join(":").to_lowercase(), "0102"]).unwrap();
    assert!(said.contains(&format!("{serial} is revoked")) && said.contains("0102 is revoked"), "{said}");
    assert!(json(&["show", "--json", "--dir", &dir, &cert])[0]["revoked"].is_string());
}

#[test]
fn a_servers_certificate_names_its_hosts() {
    let (_root, dir) = with_ca();
    run(&["issue", "--dir", &dir, "--server", "--name", "s", "--host", "n1.example", "--host", "10.0.0.7"])
        .unwrap();
    let shown = json(&["show", "--json", "--dir", &dir, &format!("{dir}/certs"), &format!("{dir}/ca")]);
    assert_eq!(shown.len(), 2, "keys are no certificates: {shown:?}");
    assert_eq!(shown[0]["usage"], serde_json::json!(["server"]));
    assert_eq!(
        shown[0]["names"],
        serde_json::json!(["joblet", "localhost", "127.0.0.1", "::1", "n1.example", "10.0.0.7"])
    );
    assert_eq!(shown[1]["usage"], serde_json::json!(["ca"]));
}

#[test]
fn nothing_is_overwritten_and_a_damaged_list_is_not_begun_anew() {
    let (_root, dir) = with_ca();
    assert!(refusal(&["init", "--dir", &dir]).contains("ca-cert.pem is there already"));
    let issue = ["issue", "--dir", &dir, "--role", "admin", "--name", "a"];
    run(&issue).unwrap();
    assert!(refusal(&issue).contains("a-cert.pem is there already"));
    let list = format!("{dir}/revoked.pem");
    fs::write(&list, "").unwrap();
    assert!(refusal(&["revoke", "--dir", &dir, "01"]).contains("holds no X.509 revocation list"));
    assert_eq!(fs::read_to_string(&list).unwrap(), "");
}

#[test]
fn strangers_and_the_ca_itself_cannot_be_revoked() {
    let ((_root, dir), (_other_root, other)) = (with_ca(), with_ca());
    run(&["issue", "--dir", &other, "--role", "admin", "--name", "a"]).unwrap();
    let stranger = format!("{other}/certs/a-cert.pem");
    assert!(refusal(&["revoke", "--dir", &dir, &stranger]).contains("it was issued by another CA"));
    let ca = format!("{dir}/ca/ca-cert.pem");
    assert!(refusal(&["revoke", "--dir", &dir, &ca]).contains("it is the CA itself"));
    let shown = json(&["show", "--json", "--dir", &dir, &stranger]);
    assert!(shown[0]["problem"].as_str().unwrap().starts_with("certificate verify failed"), "{shown:?}");
}

#[test]
fn wrong_words_are_named() {
    for (args, expected) in [
        (&[][..], "init, issue, show or revoke is needed"),
        (&["renew"], "\"renew\" is not init, issue, show or revoke"),
        (&["init"], "--dir DIR is needed"),
        (&["init", "--dir", "/d", "--json"], "--json is not for init"),
        (&["init", "--dir", "/d", "x"], "\"x\" is not expected"),
        (&["issue", "--dir", "/d", "--role", "admin"], "--name NAME is needed"),
        (&["issue", "--dir", "/d", "--name", "a"], "one of --role admin"),
        (&["issue", "--dir", "/d", "--name", "a", "--role", "root"], "neither admin nor viewer"),
        (
            &["issue", "--dir", "/d", "--name", "a", "--role", "admin", "--host", "h"],
            "--host is for --server",
        ),
        (&["issue", "--dir", "/d", "--name", "../a", "--role", "admin"], "1 to 64 letters"),
        (
            &["issue", "--dir", "/d", "--name", "a", "--role", "admin", "--days", "0"],
            "--days takes 1 to 3650",
        ),
        (&["show"], "a file or directory is needed"),
        (&["revoke", "--dir", "/d"], "a certificate's file or serial number is needed"),
        (&["revoke", "--dir", "/d", "no-such-file"], "neither a file nor a serial number"),
        (&["show", "--serial", "1"], "Unrecognized option"),
    ] {
        let error = run(args).unwrap_err();
        assert!(matches!(error, CertError::ReadArguments { .. }), "{args:?}: {error}");
        assert!(error.to_string().contains(expected), "{args:?}: {error}");
    }
    assert!(run(&["--help"]).unwrap().contains("joblet certs revoke --dir DIR"));
}
