//! Images become runtimes: from files, directories and pipes, across crashes, and never by halves.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_executor::block_on;
use futures_util::SinkExt;
use grpcio::{CallOption, ClientCStreamReceiver, ClientCStreamSender, RpcStatusCode, WriteFlags};
use joblet::pb::joblet::{ImportRuntimeRequest, ImportRuntimeResponse};
use joblet::pb::joblet_grpc::RuntimeServiceClient;
use tar::EntryType;

use crate::helper::TestDaemon;
use crate::helper::image::{Archive, Layer, Packing, docker_archive, layout};
use crate::helper::skip::{is_root, static_busybox};
use crate::helper::wait::{eventually, holds};

/// An open call of ImportRuntime.
struct Call {
    messages: ClientCStreamSender<ImportRuntimeRequest>,
    reply: ClientCStreamReceiver<ImportRuntimeResponse>,
    _client: RuntimeServiceClient,
}

fn has_program(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok()
}

fn runtimes(d: &TestDaemon) -> PathBuf {
    d.dir().join("runtimes")
}

/// Half-made things.
fn staged(d: &TestDaemon) -> usize {
    fs::read_dir(runtimes(d).join(".staging")).unwrap().count()
}

fn layers(d: &TestDaemon) -> usize {
    fs::read_dir(runtimes(d).join(".layers/sha256")).unwrap().count()
}

fn description(d: &TestDaemon, id: &str) -> Option<serde_yaml::Value> {
    let text = fs::read_to_string(runtimes(d).join(id).join("runtime.yml")).ok()?;
    Some(serde_yaml::from_str(&text).unwrap())
}

fn image(d: &TestDaemon, name: &str, bytes: &[u8]) -> String {
    let path = d.dir().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Twenty layers, of which each hides the file of the one below.
fn twenty() -> Vec<Layer> {
    let layer = |at: usize| {
        let above = if at == 0 { String::new() } else { format!("srv/.wh.f{}", at - 1) };
        let layer = Layer::new().directory("srv").file(&format!("srv/f{at}"), at.to_string().as_bytes());
        if above.is_empty() { layer } else { layer.file(&above, b"") }
    };
    (0..20).map(layer).collect()
}

#[test]
fn images_become_runtimes_that_share_their_layers() {
    needs!(is_root(), "layers of images need root");
    let d = TestDaemon::start();
    let defaults = r#"{"Entrypoint":["/bin/app"],"Env":["A=1"],"WorkingDir":"/srv","User":"app",
        "Labels":{"org.opencontainers.image.version":"2.1.0"}}"#;
    let path = image(&d, "app.tar", &layout(&twenty(), defaults, Packing::Zstd));
    let out = d.rnx(["runtime", "import", "app", &path]);
    let text = out.ok();
    assert!(text.contains("Runtime: app@2.1.0") && text.contains("Layers: 20, of which 0 were"), "{text}");
    let made = description(&d, "app/2.1.0").unwrap();
    assert_eq!(made["layers"].as_sequence().unwrap().len(), 20);
    assert_eq!(made["image"]["entrypoint"][0], "/bin/app");
    assert_eq!((&made["image"]["user"], &made["image"]["working_dir"]), (&"app".into(), &"/srv".into()));

    // The same layers, in another archive, from standard input, and one more.
    let mut more = twenty();
    more.push(Layer::new().entry(EntryType::Regular, "su", "", b"", |h| h.set_mode(0o4755)));
    let path = image(&d, "more.tar", &docker_archive(&more, "{}"));
    let mut rnx = d.rnx_command(["--json", "runtime", "import", "more", "-"]);
    let out = rnx.stdin(Stdio::from(File::open(&path).unwrap())).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&answer["version"], &answer["layers_new"], &answer["layers_shared"]),
        (&"1.0.0".into(), &1.into(), &20.into())
    );
    assert!(answer["notes"][0].as_str().unwrap().contains("setuid"), "{answer}");
    assert_eq!((layers(&d), staged(&d)), (21, 0));

    let again = d.rnx(["runtime", "import", "more@1.0.0", &path]);
    assert!(again.code != 0 && again.stderr.contains("is installed already"), "{}", again.stderr);
    d.rnx(["runtime", "import", "more", &path, "--replace"]).ok();
    assert_eq!((layers(&d), staged(&d)), (21, 0));
}

#[test]
pub(super) fn jobs_run_in_an_imported_image_of_many_layers() {
    needs!(is_root() && static_busybox(), "layers of images need root, and a static busybox");
    let d = TestDaemon::start();
    let busybox = fs::read("/bin/busybox").unwrap();
    let programs = ["sh", "ls", "id"]
        .into_iter()
        .fold(Layer::new().directory("bin").file("bin/busybox", &busybox), |layer, name| {
            layer.link(&format!("bin/{name}"), "busybox")
        });
    let mut layers = vec![programs.directory("data").file("data/below", b"")];
    layers.extend(twenty());
    layers.push(Layer::new().directory("data").file("data/.wh..wh..opq", b"").file("data/above", b""));
    let defaults =
        r#"{"Entrypoint":["/bin/sh","-c"],"Cmd":["ls /srv; ls /data; echo $A"],"Env":["A=of the image"]}"#;
    let path = image(&d, "app.tar", &layout(&layers, defaults, Packing::Gzip));
    let out = d.rnx(["runtime", "import", "app", &path]);
    assert!(out.ok().contains("Layers: 22"), "{}", out.stderr);
    // Its own command, then another one: whiteouts hide what they hid, from overlayfs's point of view too.
    assert_eq!(d.run(["--runtime=app"]).ok(), "f19\nabove\nof the image\n");
    assert_eq!(d.run(["--runtime=app@1.0.0", "sh", "-c", "ls /data; id -u"]).ok(), "above\n0\n");
    let freed = d.rnx(["runtime", "remove", "app"]);
    assert_eq!((freed.code, layers_left(&d)), (0, 0), "{}", freed.stderr);
}

/// Layers that are still there when what removes them is done.
fn layers_left(d: &TestDaemon) -> usize {
    eventually("layers without a runtime go", || holds(layers(d) == 0));
    layers(d)
}

#[test]
fn images_of_umoci_and_skopeo_have_the_same_layers() {
    needs!(is_root(), "layers of images need root");
    needs!(has_program("umoci") && has_program("skopeo"), "needs umoci and skopeo");
    let d = TestDaemon::start();
    let script = "set -e; umoci init --layout l; umoci new --image l:app; umoci unpack --image l:app b
        mkdir -p b/rootfs/bin b/rootfs/etc; cp /bin/busybox b/rootfs/bin/sh 2>/dev/null || echo x >b/rootfs/bin/sh
        echo one >b/rootfs/etc/one; echo two >b/rootfs/etc/two; umoci repack --refresh-bundle --image l:app b
        rm b/rootfs/etc/one; umoci repack --image l:app b
        umoci config --image l:app --config.cmd /bin/sh
        skopeo --insecure-policy copy -q oci:l:app docker-archive:saved.tar:app:1
        skopeo --insecure-policy copy -q --dest-compress-format zstd oci:l:app oci:z:app";
    let made = Command::new("sh").args(["-c", script]).current_dir(d.dir()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let import = |name: &str, image: &str| {
        let path = d.dir().join(image);
        d.rnx(["runtime", "import", name, path.to_str().unwrap()]).ok()
    };
    let text = import("first", "l");
    assert!(text.contains("Layers: 2, of which 0 were"), "{text}");
    for (name, image) in [("second", "saved.tar"), ("third", "z")] {
        let text = import(name, image);
        assert!(text.contains("Layers: 2, of which 2 were"), "{text}");
        let made = description(&d, &format!("{name}/1.0.0")).unwrap();
        assert_eq!(made["image"]["cmd"][0], "/bin/sh");
    }
}

#[test]
pub(super) fn hostile_and_damaged_images_leave_nothing_behind() {
    needs!(is_root(), "layers of images need root");
    let d = TestDaemon::with([("runtime.max_image_bytes", "1MiB")]);
    let bad = |layer: Layer| layout(&[Layer::new().file("good", b""), layer], "{}", Packing::Gzip);
    for (bytes, why) in [
        (bad(Layer::new().file("../x", b"")), "leads upwards"),
        (bad(Layer::new().link("l", "/etc").file("l/x", b"")), "through a symbolic link"),
        (
            bad(Layer::new().entry(EntryType::Block, "sda", "", b"", |h| h.set_device_major(8).unwrap())),
            "is a device",
        ),
        (bad(Layer::new().file("zeros", &vec![0; 2 << 20])), "runtime.max_image_bytes"),
        (Archive::new().file("good", b"").bytes(), "neither index.json (an OCI layout)"),
        (vec![7; 4096], "docker save"),
        (vec![7; 2 << 20], "has more than 1MiB"),
    ] {
        let path = image(&d, "bad.tar", &bytes);
        let out = d.rnx(["runtime", "import", "bad", &path]);
        assert!(out.code != 0 && out.stderr.contains(why), "{why}: {}", out.stderr);
        assert!(description(&d, "bad/1.0.0").is_none());
        assert_eq!((staged(&d), layers(&d)), (0, 0), "{why}");
    }
    for (args, why) in [
        (["../x", "bad.tar"], "name of a runtime"),
        (["app@1", "bad.tar"], "version"),
        (["app@", "bad.tar"], "NAME@VERSION"),
        (["app", "missing.tar"], "No such file"),
        (["app", "."], "neither index.json"),
    ] {
        let out = d.rnx(["runtime", "import", args[0], args[1]]);
        assert!(out.code != 0 && out.stderr.contains(why), "{why}: {}", out.stderr);
    }
}

fn open(d: &TestDaemon) -> Call {
    let (identity, ca) = d.identity("default");
    let client = RuntimeServiceClient::new(d.channel(&identity, &ca));
    let call = client.import_runtime_opt(CallOption::default().timeout(Duration::from_secs(60)));
    let (messages, reply) = call.unwrap();
    Call { messages, reply, _client: client }
}

fn send(call: &mut Call, message: ImportRuntimeRequest) {
    // A call that is refused meanwhile ends with its status.
    let _ = block_on(call.messages.send((message, WriteFlags::default())));
}

fn first(name: &str, data: &[u8]) -> ImportRuntimeRequest {
    ImportRuntimeRequest { name: name.into(), data: data.to_vec(), ..Default::default() }
}

fn last(data: &[u8], digest: &[u8]) -> ImportRuntimeRequest {
    ImportRuntimeRequest { data: data.to_vec(), sha256: digest.to_vec(), ..Default::default() }
}

fn outcome(mut call: Call) -> Result<ImportRuntimeResponse, (RpcStatusCode, String)> {
    let _ = block_on(call.messages.close());
    block_on(call.reply).map_err(|e| match e {
        grpcio::Error::RpcFailure(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    })
}

#[test]
fn import_is_refused_unless_it_is_whole_and_alone() {
    needs!(is_root(), "layers of images need root");
    let d = TestDaemon::start();
    let archive = layout(&twenty(), "{}", Packing::Plain);
    let digest = openssl::sha::sha256(&archive);
    let mut call = open(&d);
    send(&mut call, first("app", &archive[..1000]));
    eventually("the archive begins", || holds(staged(&d) == 1));
    let mut other = open(&d);
    send(&mut other, first("app", b""));
    let (code, why) = outcome(other).unwrap_err();
    assert!(code == RpcStatusCode::FAILED_PRECONDITION && why.contains("being installed already"), "{why}");
    // A client that goes in the middle.
    let (code, why) = outcome(call).unwrap_err();
    assert!(code == RpcStatusCode::INVALID_ARGUMENT && why.contains("without its digest"), "{why}");
    eventually("nothing is left of it", || holds(staged(&d) == 0));
    let mut call = open(&d);
    send(&mut call, first("app", &archive));
    send(&mut call, last(b"more", &digest));
    let (code, why) = outcome(call).unwrap_err();
    assert!(code == RpcStatusCode::INVALID_ARGUMENT && why.contains("another digest"), "{why}");
    let mut call = open(&d);
    send(&mut call, ImportRuntimeRequest { platform: "linux/riscv64".into(), ..first("app", b"") });
    let (code, why) = outcome(call).unwrap_err();
    assert!(code == RpcStatusCode::INVALID_ARGUMENT && why.contains("does not run here"), "{why}");
    let mut call = open(&d);
    send(&mut call, first("app", &archive[..1000]));
    send(&mut call, last(&archive[1000..], &digest));
    assert_eq!(outcome(call).unwrap().layers_new, 20);
}

#[test]
fn crash_in_an_import_leaves_a_runtime_or_nothing() {
    needs!(is_root(), "layers of images need root");
    let mut d = TestDaemon::start();
    // The first crash comes while the archive does.
    let mut call = open(&d);
    send(&mut call, first("app", &[7; 1000]));
    eventually("the archive begins", || holds(staged(&d) == 1));
    d = d.crash().start();
    drop(call);
    eventually("nothing is left of it", || holds(staged(&d) == 0));
    // The second one while a layer is unpacked.
    let many = (0..3_000).fold(Layer::new(), |layer, at| layer.file(&format!("d{}/f{at}", at % 50), b"x"));
    let path = image(&d, "many.tar", &layout(&[Layer::new().file("small", b""), many], "{}", Packing::Plain));
    let rnx = d.rnx_spawn(["runtime", "import", "app", &path]);
    let unpacks = || {
        let staged = fs::read_dir(runtimes(&d).join(".staging")).unwrap().flatten();
        holds(staged.map(|entry| entry.path()).any(|path| path.join("d7").exists()))
    };
    eventually("a layer is being unpacked", unpacks);
    d = d.crash().start();
    let out = rnx.finish();
    eventually("nothing half-made is left", || holds(staged(&d) == 0));
    match description(&d, "app/1.0.0") {
        None => {
            assert_ne!(out.code, 0);
            eventually("no layer is left", || holds(layers(&d) == 0));
        }
        // The daemon was faster than the crash.
        Some(_) => assert_eq!(layers(&d), 2),
    }
    d.rnx(["runtime", "import", "app", &path, "--replace"]).ok();
    assert_eq!((layers(&d), staged(&d)), (2, 0));
}
