//! Every kind of thing that a job holds has its part everywhere: a step of the plan, a layer that is read back, a
//! way back to the host. `src/daemon/provision/mod.rs` lists the parts without which a kind does not compile.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use joblet::daemon::command::{Command, StoredFiles};
use joblet::daemon::resource_kinds;
use joblet::job::publish::Published;
use joblet::job::{JobRef, JobSpec, Layer, NetworkMode, Verdict, VolumeKind};
use joblet::runtime::{LayerDigest, RuntimeId, Store};

use crate::event_loop::{LoopUnderTest, spec};
use crate::helper::skip::{is_root, static_busybox};

/// The fields of `struct Resources`, as they are written.
fn fields() -> Vec<String> {
    let path = Path::new("src/daemon/provision/mod.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let body = text.split("struct Resources {").nth(1).unwrap().split('}').next().unwrap();
    let field = |line: &str| Some(line.trim().strip_prefix("pub(super) ")?.split(':').next()?.to_owned());
    body.lines().filter_map(field).collect()
}

#[test]
fn every_kind_of_resource_has_a_file_and_a_field() {
    let named: Vec<String> = resource_kinds().iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(fields(), named);
    for (name, ..) in resource_kinds() {
        let file = format!("src/daemon/provision/{name}.rs");
        assert!(Path::new(&file).exists(), "{file} is missing");
    }
}

/// An image that is a static busybox and nothing else.
fn install_image(store: &Store) {
    let id: RuntimeId = "box@1.0.0".parse().unwrap();
    let digest: LayerDigest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    let hold = store.hold_layers(std::slice::from_ref(&digest));
    let layer = store.stage().unwrap();
    fs::create_dir(layer.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", layer.path().join("bin/busybox")).unwrap();
    symlink("busybox", layer.path().join("bin/sleep")).unwrap();
    store.publish_layer(layer, &digest).unwrap();
    let staging = store.stage().unwrap();
    let text = format!("name: {}\nversion: {}\nlayers: ['{digest}']\n", id.name, id.version);
    fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &id, false).unwrap();
    drop(hold);
}

/// The plan of a job of all kinds, and the layers of one that runs.
fn plan_and_layers(under_test: &LoopUnderTest) -> (Vec<String>, Vec<Layer>) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let publish = vec![Published::parse(&format!("{free}:80")).unwrap()];
    let create = |kind| {
        let (name, bytes) = ("data".parse().unwrap(), 16 << 20);
        under_test.ask(|answer| Command::CreateVolume { name, kind, bytes, answer })
    };
    // Each host can have one kind at least.
    create(VolumeKind::Filesystem).or_else(|_| create(VolumeKind::Memory)).unwrap();
    let volumes = vec!["data:ro".parse().unwrap()];
    let runtime = Some("box@1.0.0".parse().unwrap());
    let job = JobSpec { publish, volumes, runtime, ..spec(&["sleep", "60"]) };
    // A wire would be made in the network of all other tests.
    let asked = JobSpec { network: NetworkMode::Bridge, ..job.clone() };
    let (uploads, stored) = (Vec::new(), StoredFiles::default());
    let plan = under_test
        .ask(|answer| Command::Explain { spec: Box::new(asked), uploads, stored, answer })
        .unwrap()
        .plan;
    let job = under_test.run(job).unwrap();
    let (_, layers) =
        under_test.ask(|answer| Command::Security { job: JobRef::Exact(job.id), answer }).unwrap();
    under_test.ask(|answer| Command::Stop { job: JobRef::Exact(job.id), grace: None, answer }).unwrap();
    (plan, layers)
}

#[test]
fn every_kind_of_resource_is_explained_and_read_back() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let under_test = LoopUnderTest::start(|config| {
        install_image(&Store::open(&config.runtime.base_path).unwrap().0);
    });
    let (plan, layers) = plan_and_layers(&under_test);
    for (name, step, layer) in resource_kinds() {
        // No host of the tests has a GPU; `job_has_its_nodes_alone_and_each_wall_is_read_back` (e2e) has a pretended one.
        let step = step.ok().filter(|_| name != "gpus");
        assert!(
            step.is_none_or(|step| plan.iter().any(|sentence| sentence.starts_with(step))),
            "{name}: no step {step:?} in {plan:#?}"
        );
        // That of a wire is read back in `resolver_is_confined_and_goes_before_the_daemon` (e2e).
        let Some(layer) = layer.ok().filter(|_| name != "names") else { continue };
        let found = layers.iter().find(|found| found.name.starts_with(layer));
        let found = found.unwrap_or_else(|| panic!("{name}: no layer {layer} in {layers:#?}"));
        assert_ne!(found.verdict, Verdict::Broken, "{name}: {found:?}");
    }
}

/// The parts of the code that give a job's things back: only `provision/` and who undoes a start at the daemon's start.
#[test]
fn no_kind_is_given_back_beside_its_release() {
    let mut wrong = Vec::new();
    for room in ["src/daemon", "src/daemon/lifecycle", "src/daemon/command", "src/daemon/spawner"] {
        for file in fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for way in
                ["cleanup.remove_cgroup(", "cleanup.remove_work(", "resolver.forget(", "relay().forget("]
            {
                if code.contains(way) {
                    wrong.push(format!("{}: {way}", file.display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
