//! Every kind of thing that a job holds has its part everywhere: a step of the plan, a layer that is read back, a
//! way back to the host. `src/daemon/provision/mod.rs` lists the parts without which a kind does not compile.

use std::net::TcpListener;
use std::path::Path;

use joblet::daemon::command::{Command, StoredFiles};
use joblet::daemon::resource_kinds;
use joblet::job::publish::Published;
use joblet::job::{JobRef, JobSpec, Verdict, VolumeKind};

use crate::event_loop::{LoopUnderTest, spec};

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
    let mut named: Vec<String> = resource_kinds().iter().map(|[name, ..]| (*name).to_owned()).collect();
    // Files that are no walls, so that they have neither steps of their own nor layers.
    named.extend(["exit_file".to_owned(), "note".to_owned()]);
    assert_eq!(fields(), named);
    for [name, ..] in resource_kinds() {
        let file = format!("src/daemon/provision/{name}.rs");
        assert!(Path::new(&file).exists(), "{file} is missing");
    }
}

#[test]
fn every_kind_of_resource_is_explained_and_read_back() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let under_test = LoopUnderTest::start(|_| {});
    // A job that asks for all kinds.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let publish = vec![Published::parse(&format!("{free}:80")).unwrap()];
    let create = |kind| {
        let (name, bytes) = ("data".parse().unwrap(), 16 << 20);
        under_test.ask(|answer| Command::CreateVolume { name, kind, bytes, answer })
    };
    // Each host can have one kind at least.
    create(VolumeKind::Filesystem).or_else(|_| create(VolumeKind::Memory)).unwrap();
    let volumes = vec!["data:ro".parse().unwrap()];
    let asked = |argv: &[&str]| JobSpec { publish: publish.clone(), volumes: volumes.clone(), ..spec(argv) };
    let plan = under_test
        .ask(|answer| Command::Explain {
            spec: Box::new(asked(&["true"])),
            uploads: Vec::new(),
            stored: StoredFiles::default(),
            answer,
        })
        .unwrap()
        .plan;
    let job = under_test.run(asked(&["sleep", "60"])).unwrap();
    let (_, layers) =
        under_test.ask(|answer| Command::Security { job: JobRef::Exact(job.id), answer }).unwrap();
    for [name, step, layer] in resource_kinds() {
        // No host of the tests has a GPU; `job_has_its_nodes_alone_and_each_wall_is_read_back` (e2e) has a pretended one.
        let step = if name == "gpus" { "" } else { step };
        assert!(
            plan.iter().any(|sentence| sentence.starts_with(step)),
            "{name}: no step {step:?} in {plan:#?}"
        );
        let found = layers.iter().find(|found| found.name.starts_with(layer));
        let found = found.unwrap_or_else(|| panic!("{name}: no layer {layer} in {layers:#?}"));
        assert_ne!(found.verdict, Verdict::Broken, "{name}: {found:?}");
    }
    under_test.ask(|answer| Command::Stop { job: JobRef::Exact(job.id), grace: None, answer }).unwrap();
}
