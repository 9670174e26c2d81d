//! Runtimes made by jobs: whole or not at all, and never with more rights than any other job has.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use grpcio::CallOption;
use joblet::pb::joblet::{InstallRuntimeFromLocalRequest, RuntimeFile};
use joblet::pb::joblet_grpc::{METHOD_RUNTIME_SERVICE_INSTALL_RUNTIME_FROM_LOCAL, RuntimeServiceClient};

use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use crate::helper::image::{Layer, gzip};
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::registry::Registry;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// A daemon whose builds have no network.
fn node() -> Node {
    let node = Node::set_up();
    node.set("runtime.build.network", "none");
    node
}

/// A directory of a package with this script.
fn package(d: &Path, name: &str, script: &str) -> String {
    let dir = d.join(format!("package-{name}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("setup.sh"), script).unwrap();
    fs::write(dir.join("data"), "seven").unwrap();
    dir.to_str().unwrap().to_owned()
}

/// The lines of a script that describe a runtime in the current directory.
fn describe(name: &str, version: &str) -> String {
    format!(
        "cat >runtime.yml <<E\nname: {name}\nversion: {version}\nbase: host\nmounts:\n  - {{source: files, target: \
         /opt/{name}}}\nE\n"
    )
}

fn staged(dir: &Path) -> usize {
    fs::read_dir(dir.join("runtimes/.staging")).unwrap().count()
}

fn place(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("runtimes").join(id)
}

/// The id of the newest job that builds a runtime, and its status.
fn build_job(d: &TestDaemon) -> Option<(String, String)> {
    let list = d.rnx(["--json", "job", "list"]).json();
    let all = list.as_array().cloned().or_else(|| list["jobs"].as_array().cloned()).unwrap_or_default();
    let found = all.iter().rev().find(|job| job["name"] == "runtime-build")?;
    let text =
        |keys: &[&str]| keys.iter().find_map(|key| found[*key].as_str()).unwrap_or_default().to_owned();
    Some((text(&["uuid", "id"]), text(&["status"])))
}

#[test]
fn script_of_a_package_makes_a_runtime_in_a_job() {
    let d = node().start();
    let script = format!(
        "#!/bin/sh\nset -eu\necho \"building $RUNTIME_SPEC\"; touch beside\nmkdir -p \"$RUNTIME_DIR/$RUNTIME_NAME/files\"\n\
         cp data \"$RUNTIME_DIR/$RUNTIME_NAME/files\"; cd \"$RUNTIME_DIR/$RUNTIME_NAME\"\n\
         echo $JOB_TYPE >files/type; chmod 4700 files/type; umask 077; echo x >files/hidden; mkfifo files/pipe\n\
         ln -s /etc/shadow files/link; {}",
        describe("made", "1.2.0")
    );
    let dir = package(d.dir(), "made", &script);
    let out = d.rnx(["runtime", "install", "made", "--from", &dir]);
    assert!(out.ok().contains("made@1.2.0"), "{}", out.stderr);
    for said in ["[2/3] running setup.sh", "building made", "files/pipe is no file", "[3/3] publishing"] {
        assert!(out.stderr.contains(said), "{said}: {}", out.stderr);
    }
    let files = place(&d, "made/1.2.0/files");
    assert_eq!(fs::read_to_string(files.join("type")).unwrap(), "runtime-build\n");
    for (file, mode) in [("type", 0o755), ("hidden", 0o644), ("data", 0o644)] {
        let meta = fs::metadata(files.join(file)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (mode, 0, 0), "{file}");
    }
    assert_eq!(fs::read_link(files.join("link")).unwrap(), Path::new("/etc/shadow"));
    assert!(!files.join("pipe").exists());
    assert_eq!(staged(d.dir()), 0);
    // The build is a job with a record and a log; the runtime is one like any other.
    let (id, status) = build_job(&d).expect("a job has built it");
    assert_eq!(status, "COMPLETED");
    assert!(d.rnx(["job", "log", &id]).text().contains("building made"));
    let seen =
        d.run(["--runtime", "made", "sh", "-c", "cat /opt/made/data /opt/made/hidden; echo $JOB_TYPE"]);
    assert_eq!(seen.text(), "sevenx\nstandard\n");
    d.rnx(["runtime", "remove", "made"]).ok();
}

#[test]
fn registry_gives_its_version_to_what_a_script_makes() {
    let registry = Registry::start();
    let node = node();
    node.set("runtime.registry_url", registry.url());
    let d = node.start_with(|command| {
        command.env("SSL_CERT_FILE", registry.authority());
    });
    let script = format!(
        "echo for $RUNTIME_VERSION\nmkdir -p \"$RUNTIME_DIR/files\"; cd \"$RUNTIME_DIR\"\n{}",
        describe("app", "0.0.1")
    );
    let layer = Layer::new().directory("app/").file("app/setup.sh", script.as_bytes());
    registry.publish(("app", "3.1.0"), &gzip(&layer.bytes()), |_| {});
    let out = d.rnx(["runtime", "install", "app"]);
    assert!(out.ok().contains("app@3.1.0") && out.stderr.contains("for 3.1.0"), "{}", out.stderr);
    assert!(fs::read_to_string(place(&d, "app/3.1.0/runtime.yml")).unwrap().contains("3.1.0"));
}

#[test]
fn hostile_script_changes_nothing_and_leaves_nothing() {
    let d = node().start();
    let victim = d.dir().join("victim");
    fs::write(&victim, "untouched").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).unwrap();
    let described = describe("bad", "1.0.0");
    for (what, script, why) in [
        ("exit code", "echo before the end; exit 3".to_owned(), "exit code 3"),
        ("no description", "true".to_owned(), "has left no runtime.yml"),
        ("disk", "cat /dev/zero >$RUNTIME_DIR/zeros".to_owned(), "failed"),
        ("sparse", "truncate -s 4T $RUNTIME_DIR/sparse || exit 0".to_owned(), "cannot build"),
        ("package", "echo x >/opt/joblet/package/data".to_owned(), "failed"),
        ("host", format!("echo x >/usr/x || echo x >{} || echo x >/etc/x", victim.display()), "failed"),
        ("device", "mknod $RUNTIME_DIR/null c 1 3".to_owned(), "failed"),
        ("link", "ln -s /etc/passwd $RUNTIME_DIR/runtime.yml".to_owned(), "no file"),
        (
            "link as files",
            format!("cd $RUNTIME_DIR; ln -s /etc files\n{described}"),
            "cannot find, without following links",
        ),
        ("another name", format!("cd $RUNTIME_DIR; mkdir files\n{}", describe("other", "1.0.0")), "not of"),
        ("processes", "for i in $(seq 5000); do sleep 60 & done; exit 1".to_owned(), "failed"),
    ] {
        let dir = package(d.dir(), "bad", &script);
        let out = d.rnx(["runtime", "install", "bad", "--from", &dir]);
        assert!(out.code != 0 && out.stderr.contains(why), "{what}: {}", out.stderr);
        assert_eq!((staged(d.dir()), place(&d, "bad").exists()), (0, false), "{what}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(!Path::new("/usr/x").exists() && !Path::new("/etc/x").exists());
}

#[test]
fn build_that_takes_longer_than_it_may_leaves_nothing() {
    let node = node();
    node.set("runtime.build.timeout", "1s");
    let d = node.start();
    let dir = package(d.dir(), "slow", "echo x >$RUNTIME_DIR/half; while :; do sleep 1; done");
    let out = d.rnx(["runtime", "install", "slow", "--from", &dir]);
    assert!(out.code != 0 && out.stderr.contains("timeout"), "{}", out.stderr);
    assert_eq!((staged(d.dir()), place(&d, "slow").exists()), (0, false));
}

/// Begins a build that does not end, and waits until its job runs.
fn endless(d: &TestDaemon) -> (crate::helper::rnx::Running, String) {
    let dir = package(d.dir(), "slow", "echo x >$RUNTIME_DIR/half; echo it runs; while :; do sleep 1; done");
    let client = d.rnx_spawn(["runtime", "install", "slow", "--from", &dir]);
    let id = eventually("the build has said something", || {
        let (id, _) = build_job(d)?;
        d.rnx(["job", "log", "--no-follow", &id]).text().contains("it runs").then_some(id)
    });
    (client, id)
}

#[test]
fn build_ends_when_its_client_goes() {
    let d = node().start();
    let (mut client, id) = endless(&d);
    let dir = package(d.dir(), "slow", "true");
    let twice = d.rnx(["runtime", "install", "slow", "--from", &dir]);
    assert!(twice.stderr.contains("is being installed already"), "{}", twice.stderr);
    client.kill();
    d.until_status(&id, "STOPPED");
    eventually("nothing is half made", || holds(staged(d.dir()) == 0));
    assert!(!place(&d, "slow").exists());
}

#[test]
fn build_of_a_call_without_a_stream_ends_when_its_client_goes() {
    let d = node().start();
    let (identity, ca) = d.identity("default");
    let channel = d.channel(&identity, &ca);
    let client = RuntimeServiceClient::new(channel.clone());
    let script = |text: &str| InstallRuntimeFromLocalRequest {
        runtimeSpec: "slow".to_owned(),
        files: vec![RuntimeFile {
            path: "setup.sh".to_owned(),
            content: text.as_bytes().to_vec(),
            ..RuntimeFile::default()
        }],
        ..InstallRuntimeFromLocalRequest::default()
    };
    let request = script("echo x >$RUNTIME_DIR/half; while :; do sleep 1; done");
    let method = &METHOD_RUNTIME_SERVICE_INSTALL_RUNTIME_FROM_LOCAL;
    let mut call =
        grpcio::Client::new(channel).unary_call_async(method, &request, CallOption::default()).unwrap();
    let (id, _) = eventually("the build runs", || build_job(&d).filter(|(_, status)| status == "RUNNING"));
    call.cancel();
    d.until_status(&id, "STOPPED");
    eventually("nothing is half made", || holds(staged(d.dir()) == 0));
    assert!(!place(&d, "slow").exists());
    // A client that waits hears of the end.
    let good = format!("mkdir -p $RUNTIME_DIR/files; cd $RUNTIME_DIR\n{}", describe("slow", "1.0.0"));
    let made = client.install_runtime_from_local(&script(&good)).unwrap();
    assert!(made.message.contains("slow@1.0.0"), "{made}");
}

/// A shell function that says whether a connection is made.
const REACH: &str =
    "reach() { if (exec 3<>/dev/tcp/$1/$2) 2>/dev/null; then echo $1 reached; else echo $1 refused; fi; }";

#[test]
fn build_reaches_the_registries_of_its_node_and_nothing_else() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        // Other jobs have a list that is none of its own.
        node.set("network.egress.maximum", vec!["203.0.113.1"]);
        node.set("runtime.registry_url", "https://8.8.8.8:8080/runtimes");
        node.set("runtime.build.allow", vec!["10.9.9.9:8080"]);
        node.set("network.egress.allow", vec!["10.0.0.0/8"]);
        let mut d = node.start();
        let script = format!(
            "#!/bin/bash\n{REACH}\nreach 8.8.8.8 8080; reach 10.9.9.9 8080; reach 203.0.113.1 8080; reach 10.1.1.1 8080\n\
             reach 169.254.169.254 80; getent hosts evil.example.org; exit 1"
        );
        let dir = package(d.dir(), "reaching", &script);
        let out = d.rnx(["runtime", "install", "reaching", "--from", &dir]);
        assert!(out.code != 0, "{}", out.stderr);
        for said in [
            "8.8.8.8 reached\n10.9.9.9 reached\n203.0.113.1 refused\n10.1.1.1 refused\n169.254.169.254 refused",
            "refused: 203.0.113.1:8080 (tcp): not in the egress list; to allow it: runtime.build.allow: \
             [\"203.0.113.1:8080\"] in the node's configuration",
            "refused: 169.254.169.254:80 (tcp): metadata of a cloud",
            "refused: evil.example.org (dns): not in the egress list; to allow it: runtime.build.allow: \
             [\"evil.example.org\"]",
        ] {
            assert!(out.stderr.contains(said), "{said}: {}", out.stderr);
        }
        let (id, _) = build_job(&d).unwrap();
        assert_eq!(d.status(&id)["egress"], serde_json::json!(["10.9.9.9:8080", "8.8.8.8:8080"]));
        assert!(d.rnx(["job", "denials", &id]).ok().contains("203.0.113.1:8080 (tcp)"));
        let reach = format!("{REACH}; reach 8.8.8.8 8080; reach 203.0.113.1 8080");
        let other = d.run(["--network", "bridge", "bash", "-c", &reach]).text();
        assert_eq!(other, "8.8.8.8 refused\n203.0.113.1 reached\n");
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn killed_daemon_leaves_nothing_of_a_build() {
    let d = node().start();
    let (client, id) = endless(&d);
    let d = d.crash().start();
    drop(client);
    d.until_status(&id, "STOPPED");
    assert_eq!(staged(d.dir()), 0);
    eventually("what was half made is gone", || {
        holds(fs::read_dir(d.dir().join("runtimes/.leaving")).unwrap().count() == 0)
    });
    assert!(!d.rnx(["runtime", "list"]).text().contains("slow"));
}

/// A registry without TLS that answers with its index, and with the beginning of an archive; its URL.
fn halting_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let index = format!(
        "{{\"version\": \"1\", \"runtimes\": {{\"app\": {{\"1.0.0\": {{\"download_url\": \"{url}/app.tgz\", \"checksum\": \
         \"sha256:{}\", \"size\": 9000000}}}}}}}}",
        "0".repeat(64)
    );
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let (length, body) = match line.contains("registry.json") {
                true => (index.len(), index.clone().into_bytes()),
                false => (9_000_000, vec![0; 1 << 20]),
            };
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
                .unwrap();
            stream.write_all(&body).unwrap();
            if length > body.len() {
                held.push(stream);
            }
        }
    });
    url
}

/// Waits until something of an archive is there.
fn until_half_there(d: &TestDaemon) {
    eventually("a part of the archive is written", || {
        let staging = fs::read_dir(d.dir().join("runtimes/.staging")).unwrap().flatten();
        let mut sizes = staging.filter_map(|dir| fs::metadata(dir.path().join("archive")).ok());
        holds(sizes.any(|meta| meta.len() > 0))
    });
}

#[test]
fn killed_daemon_leaves_nothing_of_an_install_or_import() {
    let node = node();
    node.set("runtime.registry_url", halting_registry());
    let mut d = node.start();
    for what in ["install", "import"] {
        let args: &[&str] = if what == "install" { &["app"] } else { &["app", "-"] };
        let mut client = d.rnx_command([&["runtime", what], args].concat());
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if what == "import" {
            // Its end does not come.
            client.stdin.as_mut().unwrap().write_all(&vec![0; 3 << 20]).unwrap();
        }
        until_half_there(&d);
        d = d.crash().start();
        let _ = client.kill();
        client.wait().unwrap();
        assert_eq!(staged(d.dir()), 0, "{what}");
        eventually("what was half made is gone", || {
            holds(fs::read_dir(d.dir().join("runtimes/.leaving")).unwrap().count() == 0)
        });
        assert!(d.rnx(["runtime", "list"]).text().contains("No runtimes"), "{what}");
    }
}
