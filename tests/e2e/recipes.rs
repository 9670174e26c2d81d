//! Runtimes built from recipes: Python with wheels of an index, a JDK, and what goes wrong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use crate::helper::image::{Layer, gzip};
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::python;
use crate::helper::skip::{is_root, record};
use crate::helper::wait::{eventually, holds};

/// Serves a directory on port 8080 of all addresses.
const INDEX: &str = "
import functools, http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('', 8080), functools.partial(Quiet, directory=sys.argv[1]))
print('serves', flush=True)
server.serve_forever()
";

/// A daemon whose builds have no network.
fn offline() -> TestDaemon {
    let node = Node::set_up();
    node.set("runtime.build.network", "none");
    node.start()
}

fn recipe(d: &TestDaemon, text: &str) -> String {
    let path = d.dir().join("recipe.yml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn staged(d: &TestDaemon) -> usize {
    fs::read_dir(d.dir().join("runtimes/.staging")).unwrap().count()
}

/// A server that ends with this value.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An index of packages in this directory, served in the network of the calling thread.
fn serve(dir: &Path) -> Served {
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", INDEX]).arg(dir).stdout(Stdio::piped());
    let mut server = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "serves\n");
    Served(server)
}

#[test]
fn python_runtime_is_built_from_the_wheels_of_an_index() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let index = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let dir = index.path().join("simple").join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    };
    python::make_wheel(&place("greeting"));
    let mut packages = "greeting==1.0".to_owned();
    match python::wheels("numpy", &["numpy==1.26.4"]) {
        Ok(wheels) => {
            let to = place("numpy");
            for wheel in fs::read_dir(wheels).unwrap().flatten() {
                fs::copy(wheel.path(), to.join(wheel.file_name())).unwrap();
            }
            packages.push_str(", numpy==1.26.4");
        }
        Err(why) => record("python_runtime_is_built_from_the_wheels_of_an_index (numpy)", &why),
    }
    let (host, outside) = host_and_outside();
    let _index = outside.run(|| serve(index.path()));
    host.run(|| {
        let mut d = TestDaemon::with([("runtime.build.allow", vec!["8.8.8.8:8080"])]);
        let file = recipe(
            &d,
            &format!(
                "name: numbers\nversion: 1.0.0\nbase: {{language: python, version: \"3\"}}\npip: [{packages}]\n\
                 pip_options: [--index-url http://8.8.8.8:8080/simple/, --trusted-host 8.8.8.8]\n\
                 environment: {{MOOD: good}}\nhooks: {{post_install: \"greet >/opt/runtime/greeted\"}}\n"
            ),
        );
        assert!(d.rnx(["runtime", "validate", &file]).ok().contains("numbers@1.0.0"));
        let out = d.rnx(["runtime", "build", &file]);
        assert!(out.ok().contains("Runtime: numbers@1.0.0"), "{}", out.stderr);
        for said in ["[1/10] check", "[6/10] pip: installing", "[8/10] post_install", "[10/10] publish"] {
            assert!(out.stderr.contains(said), "{said}: {}", out.stderr);
        }
        let seen = d.run(["--runtime", "numbers", "sh", "-c", "greet; cat /opt/runtime/greeted"]).text();
        assert_eq!(seen, "hello from /opt/runtime/venv good\nhello from /opt/runtime/venv None\n");
        if packages.contains("numpy") {
            let script = "import numpy; print(numpy.arange(10).sum())";
            assert_eq!(d.run(["--runtime", "numbers", "python3", "-c", script]).text(), "45\n");
        }
        assert!(d.rnx(["runtime", "test", "numbers"]).ok().contains("Python 3"));
        let again = d.rnx(["runtime", "build", &file]);
        assert!(again.stderr.contains("is installed already"), "{}", again.stderr);
        d.rnx(["runtime", "remove", "numbers"]).ok();
        d.keep_descriptors();
    });
}

/// A package of npm with a module and a command, as a registry has it: what it is, and its archive.
fn make_npm_package(index: &Path, registry: &str) {
    let about = serde_json::json!({
        "name": "greeting", "version": "1.0.0", "main": "index.js", "bin": {"greet": "greet.js"},
    });
    let module = b"exports.text = 'hello from ' + __dirname;\n";
    let command = b"#!/usr/bin/env node\nconsole.log(require('./index.js').text, process.env.MOOD);\n";
    let layer = Layer::new()
        .file("package/package.json", about.to_string().as_bytes())
        .file("package/index.js", module)
        .file("package/greet.js", command);
    let archive = gzip(&layer.bytes());
    let sum = openssl::base64::encode_block(&openssl::sha::sha512(&archive));
    fs::write(index.join("greeting-1.0.0.tgz"), &archive).unwrap();
    let mut version = about;
    version["dist"] = serde_json::json!({
        "tarball": format!("{registry}/greeting-1.0.0.tgz"), "integrity": format!("sha512-{sum}"),
    });
    let all = serde_json::json!({
        "name": "greeting", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version},
    });
    fs::write(index.join("greeting"), all.to_string()).unwrap();
}

#[test]
fn node_runtime_is_built_from_the_packages_of_an_index() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    needs!(has_program("npm") && has_program("node"), "needs node and npm (Debian: npm)");
    let index = tempfile::tempdir().unwrap();
    make_npm_package(index.path(), "http://8.8.8.8:8080");
    let (host, outside) = host_and_outside();
    let _index = outside.run(|| serve(index.path()));
    host.run(|| {
        let mut d = TestDaemon::with([("runtime.build.allow", vec!["8.8.8.8:8080"])]);
        let text = |package: &str| {
            format!(
                "name: pages\nversion: 1.0.0\nbase: {{language: node}}\nnpm: [{package}]\n\
                 npm_options: [--registry http://8.8.8.8:8080]\nenvironment: {{MOOD: good}}\n"
            )
        };
        let missing = d.rnx(["runtime", "build", &recipe(&d, &text("absent@1.0.0"))]);
        assert!(missing.code != 0 && missing.stderr.contains("absent"), "{}", missing.stderr);
        assert_eq!(staged(&d), 0);
        let out = d.rnx(["runtime", "build", &recipe(&d, &text("greeting@1.0.0"))]);
        assert!(out.ok().contains("Runtime: pages@1.0.0"), "{}", out.stderr);
        assert!(out.stderr.contains("[7/10] npm: installing 1 packages"), "{}", out.stderr);
        let script = "greet; node -e 'console.log(require(\"greeting\").text)'";
        let seen = d.run(["--runtime", "pages", "--max-memory", "1024", "sh", "-c", script]).text();
        let place = "hello from /opt/runtime/npm/lib/node_modules/greeting";
        assert_eq!(seen, format!("{place} good\n{place}\n"));
        assert!(d.rnx(["runtime", "info", "pages"]).ok().contains("greeting@1.0.0"));
        d.rnx(["runtime", "remove", "pages"]).ok();
        d.keep_descriptors();
    });
}

#[test]
fn jdk_that_a_hook_makes_runs_programs_in_its_runtime() {
    needs!(is_root() && has_program("jlink"), "needs root and jlink (Debian: openjdk-17-jdk-headless)");
    let d = offline();
    let file = recipe(
        &d,
        "name: jdk\nversion: 17.0.0\nbase: {language: java, version: \"17\"}\nhooks:\n  pre_install: |\n    set -e\n    \
         jlink --add-modules java.base,jdk.compiler --output /opt/runtime/jdk\n    mkdir /opt/runtime/bin\n    \
         ln -s ../jdk/bin/java /opt/runtime/bin/java\nenvironment: {JAVA_HOME: /opt/runtime/jdk}\n",
    );
    let out = d.rnx(["runtime", "build", &file]);
    assert!(out.code == 0 && out.stderr.contains("[5/10] base: looking for java 17"), "{}", out.stderr);
    assert!(d.rnx(["runtime", "test", "jdk"]).ok().contains("17"));
    let hello = d.dir().join("Hello.java");
    let program = "class Hello { public static void main(String[] a) { System.out.println(\"hello from \" + \
                   System.getProperty(\"java.home\")); } }";
    fs::write(&hello, program).unwrap();
    let upload = hello.to_str().unwrap();
    let seen = d.run(["--runtime", "jdk", "--max-memory", "1024", "--upload", upload, "java", "Hello.java"]);
    assert_eq!(seen.text(), "hello from /opt/runtime/jdk\n", "{}", seen.stderr);
    d.rnx(["runtime", "remove", "jdk"]).ok();
}

#[test]
fn build_that_fails_says_why_and_leaves_nothing() {
    let d = offline();
    let head = "name: app\nversion: 1.0.0\nbase: {language: python, version: \"3\"}\n";
    for (more, why) in [
        ("hooks: {pre_install: \"echo the reason >&2; exit 7\"}\n", "the reason"),
        ("hooks: {post_install: \"sleep 60\", timeout: 1s}\n", "hook post_install ended with exit code 124"),
        ("hooks: {post_install: \"touch /usr/x\"}\n", "Read-only file system"),
        ("pip: [greeting]\npip_options: --no-index\n", "No matching distribution"),
        ("platforms: [amzn-riscv64]\n", "it is for amzn-riscv64"),
        ("requirements: {min_memory: 1000TiB}\n", "it needs a host of"),
        ("pips: [x]\n", "unknown field `pips`"),
        ("npm: [x]\n", "needs base.language: node"),
    ] {
        let out = d.rnx(["runtime", "build", &recipe(&d, &format!("{head}{more}"))]);
        assert!(out.code != 0 && out.stderr.contains(why), "{why}: {}", out.stderr);
        assert_eq!((staged(&d), d.dir().join("runtimes/app").exists()), (0, false), "{why}");
    }
    let other = recipe(&d, &head.replace("\"3\"", "\"2\""));
    assert!(d.rnx(["runtime", "build", &other]).stderr.contains("and not 2"), "another version");
    let file = recipe(&d, head);
    let dry = d.rnx(["runtime", "build", "--dry-run", &file]);
    assert!(dry.ok().contains("nothing was built") && staged(&d) == 0, "{}", dry.stderr);
    assert!(!d.dir().join("runtimes/app").exists());
    let bad = recipe(&d, "name: app\nfoo: 1\n");
    let wrong = d.rnx(["runtime", "validate", &bad]);
    assert!(wrong.code != 0 && wrong.stderr.contains("unknown field `foo`"), "{}", wrong.stderr);
}

#[test]
fn a_build_replaces_a_runtime_only_when_told_and_unused() {
    let d = offline();
    let text = |content: &str| {
        format!(
            "name: app\nversion: 1.0.0\nbase: {{language: python}}\nhooks: {{post_install: \"echo {content} \
             >/opt/runtime/data\"}}\n"
        )
    };
    let show = || d.run(["--runtime", "app", "cat", "/opt/runtime/data"]).text();
    d.rnx(["runtime", "build", &recipe(&d, &text("one"))]).ok();
    assert_eq!(show(), "one\n");
    let id = d.submit(["--runtime", "app", "sleep", "1000"]);
    d.until_status(&id, "RUNNING");
    let used = d.rnx(["runtime", "build", "--force", &recipe(&d, &text("two"))]);
    assert!(used.stderr.contains("is in use by 1 jobs"), "{}", used.stderr);
    d.rnx(["job", "stop", &id]).ok();
    d.rnx(["runtime", "build", "--force", "--verbose", &recipe(&d, &text("two"))]).ok();
    assert_eq!(show(), "two\n");
    d.rnx(["runtime", "remove", "app"]).ok();
    eventually("nothing is staged", || holds(staged(&d) == 0));
}
