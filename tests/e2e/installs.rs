//! Runtimes from directories and from a registry: installed whole, from whom the node trusts, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use joblet::pb::joblet::InstallRuntimeRequest;
use joblet::pb::joblet_grpc::RuntimeServiceClient;

use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use crate::helper::image::{Layer, gzip};
use crate::helper::registry::Registry;
use crate::helper::rnx::Running;

fn description(name: &str, version: &str) -> String {
    format!(
        "name: {name}\nversion: {version}\nbase: host\nmounts:\n  - {{source: files, target: /opt/{name}}}\n\
         environment: {{PATH_PREPEND: /opt/{name}}}\n"
    )
}

fn installed(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("runtimes").join(id)
}

fn staged(d: &TestDaemon) -> usize {
    fs::read_dir(d.dir().join("runtimes/.staging")).unwrap().count()
}

#[track_caller]
fn refused(d: &TestDaemon, args: &[&str], why: &str) {
    let out = d.rnx([&["runtime", "install"], args].concat());
    assert!(out.code != 0 && out.stderr.contains(why), "{why}: {}", out.stderr);
    assert_eq!(staged(d), 0, "{why}");
}

fn directory(d: &TestDaemon, name: &str, files: &[(&str, &str)]) -> String {
    let dir = d.dir().join(name);
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

#[test]
fn directory_with_a_description_becomes_a_runtime() {
    let d = TestDaemon::start();
    let text = description("app", "1.2.0");
    let dir = directory(&d, "app", &[("runtime.yml", &text), ("files/data", "seven")]);
    let out = d.rnx(["runtime", "install", "app", "--from", &dir]);
    assert!(out.ok().contains("Runtime: app@1.2.0") && out.stderr.contains("[2/2]"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(installed(&d, "app/1.2.0/files/data")).unwrap(), "seven");
    refused(&d, &["app", "--from", &dir], "is installed already");
    fs::write(Path::new(&dir).join("files/data"), "eight").unwrap();
    d.rnx(["runtime", "install", "app@1.2.0", "--from", &dir, "--force"]).ok();
    assert_eq!(fs::read_to_string(installed(&d, "app/1.2.0/files/data")).unwrap(), "eight");

    refused(&d, &["other", "--from", &dir], "of \"app@1.2.0\", not of \"other@1.2.0\"");
    refused(&d, &["app@2.0.0", "--from", &dir], "not of \"app@2.0.0\"");
    refused(&d, &["../app", "--from", &dir], "name of a runtime");
    let dir = directory(&d, "bare", &[("runtime.yml", &description("bare", "1.0.0"))]);
    refused(&d, &["bare", "--from", &dir], "files");
    let dir = directory(&d, "empty", &[("readme", "")]);
    refused(&d, &["empty", "--from", &dir], "neither runtime.yml nor setup.sh");
    std::os::unix::fs::symlink("readme", Path::new(&dir).join("link")).unwrap();
    refused(&d, &["empty", "--from", &dir], "link");
    assert!(installed(&d, "app/1.2.0").exists() && !installed(&d, "bare").exists());
}

/// A daemon that trusts the authority of the registry.
fn trusting(registry: &Registry, keys: &[(&str, &str)]) -> TestDaemon {
    let node = Node::set_up();
    for (key, value) in keys {
        node.set(key, *value);
    }
    node.start_with(|command| {
        command.env("SSL_CERT_FILE", registry.authority());
    })
}

fn package(name: &str, version: &str) -> Vec<u8> {
    let top = format!("{name}-{version}");
    let layer = Layer::new()
        .directory(&format!("{top}/"))
        .file(&format!("{top}/runtime.yml"), description(name, version).as_bytes())
        .file(&format!("{top}/files/data"), version.as_bytes());
    gzip(&layer.bytes())
}

#[test]
fn registry_gives_the_highest_release_with_the_right_digest() {
    let registry = Registry::start();
    let d = trusting(&registry, &[("runtime.registry_url", &registry.url())]);
    for version in ["1.9.0", "1.10.0"] {
        registry.publish(("app", version), &package("app", version), |_| {});
    }
    let mut client = d.rnx_command(["runtime", "list", "--registry", &registry.url()]);
    let listed = Running::start(client.env("SSL_CERT_FILE", registry.authority())).finish().ok();
    let versions: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(versions, ["VERSION", "1.10.0", "1.9.0"], "{listed}");
    let out = d.rnx(["runtime", "install", "app"]);
    assert!(out.ok().contains("Runtime: app@1.10.0") && out.stderr.contains("[4/4]"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(installed(&d, "app/1.10.0/files/data")).unwrap(), "1.10.0");
    let out = d.rnx(["--json", "runtime", "install", "app", "--registry", &registry.url()]);
    assert!(out.ok().contains("already installed"), "{}", out.stderr);
    d.rnx(["runtime", "install", "app@1.10.0", "--force"]).ok();
    d.rnx(["runtime", "install", "app@1.9.0"]).ok();
    assert!(installed(&d, "app/1.9.0").exists());
    refused(&d, &["app@3.0.0"], "it has app: 1.10.0, 1.9.0");
    refused(&d, &["none"], "it has: app");
    refused(&d, &["app", "--registry", "ftp://x"], "nor a URL with https");
    refused(&d, &["app", "--registry", "http://127.0.0.1:1"], "cannot fetch");
    // Whoever serves it must have the name in a certificate that the host trusts.
    let address = registry.url().replace("localhost", "127.0.0.1");
    refused(&d, &["app", "--force", "--registry", &address], "cannot fetch");
}

#[test]
fn call_without_a_stream_installs_from_a_registry() {
    let registry = Registry::start();
    registry.publish(("app", "1.0.0"), &package("app", "1.0.0"), |_| {});
    let d = trusting(&registry, &[]);
    let (identity, ca) = d.identity("default");
    let client = RuntimeServiceClient::new(d.channel(&identity, &ca));
    let request = |spec: &str| InstallRuntimeRequest {
        runtimeSpec: spec.to_owned(),
        registry_url: registry.url(),
        ..InstallRuntimeRequest::default()
    };
    let made = client.install_runtime_from_github(&request("app")).unwrap();
    assert_eq!((made.status.as_str(), made.runtimeSpec.as_str()), ("completed", "app@1.0.0"), "{made}");
    assert_eq!(made.resolvedPath, installed(&d, "app/1.0.0").display().to_string());
    let missing = client.install_runtime_from_github(&request("other"));
    let Err(grpcio::Error::RpcFailure(status)) = missing else { panic!("{missing:?}") };
    assert!(status.message().contains("it has: app"), "{}", status.message());
    assert_eq!(staged(&d), 0);
}

#[test]
fn registry_without_trust_is_not_asked_for_a_runtime() {
    let registry = Registry::start();
    registry.publish(("app", "1.0.0"), &package("app", "1.0.0"), |_| {});
    let d = TestDaemon::start();
    refused(&d, &["app", "--registry", &registry.url()], "cannot fetch");
    assert!(!installed(&d, "app").exists());
}

/// A change of a release in `registry.json`.
type Change = fn(&mut serde_json::Value);

#[test]
fn hostile_archives_of_a_registry_install_nothing() {
    let registry = Registry::start();
    let d = trusting(&registry, &[("runtime.max_image_bytes", "1MiB")]);
    let with =
        |layer: Layer| gzip(&layer.file("runtime.yml", description("bad", "1.0.0").as_bytes()).bytes());
    let none: Change = |_| {};
    let cases: [(Vec<u8>, Change, &str); 7] = [
        (
            package("bad", "1.0.0"),
            |one| one["checksum"] = format!("sha256:{}", "0".repeat(64)).into(),
            "digest",
        ),
        (package("bad", "1.0.0"), |one| one["size"] = 10.into(), "more than 10 bytes"),
        (
            package("bad", "1.0.0"),
            |one| one["platforms"] = ["amzn-riscv64"].as_slice().into(),
            "amzn-riscv64",
        ),
        (package("bad", "1.0.0"), |one| one["download_url"] = "http://127.0.0.1:1/x".into(), "cannot fetch"),
        (with(Layer::new().file("../x", b"")), none, "leads upwards"),
        (with(Layer::new().link("l", "/etc").file("l/x", b"")), none, "through a symbolic link"),
        (with(Layer::new().file("zeros", &vec![0; 2 << 20])), none, "runtime.max_image_bytes"),
    ];
    for (archive, change, why) in cases {
        registry.publish(("bad", "1.0.0"), &archive, change);
        refused(&d, &["bad", "--registry", &registry.url()], why);
        assert!(!installed(&d, "bad").exists(), "{why}");
    }
}
