//! Requests that are taken and refused, and replies within their bounds.

use super::*;
use crate::config::daemon::DaemonConfig;
use crate::job::limits::CoreSet;
use crate::pb::joblet::FileUpload;
use crate::upload::StoreLimits;
use crate::workflow::NodeStatus;
use std::time::Duration;

fn prepared(change: impl FnOnce(&mut RunWorkflowRequest)) -> Result<NewWorkflow, Refusal> {
    let mut request = RunWorkflowRequest {
        yamlContent:
            "secret_environment: {A: hunter2}\njobs:\n  one: {command: x, uploads: {files: [a, dir/]}}\n"
                .into(),
        ..RunWorkflowRequest::default()
    };
    for path in ["a", "dir/b"] {
        let content = path.as_bytes().to_vec();
        request.workflowFiles.push(FileUpload {
            path: path.into(),
            content,
            mode: 0o755,
            ..Default::default()
        });
    }
    change(&mut request);
    let dir = tempfile::tempdir().unwrap();
    let limits = StoreLimits { total: 1 << 20, client: 1 << 20, lifetime: Duration::from_secs(60) };
    let store = Store::open(dir.path().to_owned(), limits).unwrap();
    let rules = Rules::new(&DaemonConfig::default(), CoreSet::parse("0").unwrap(), 1024).unwrap();
    prepare(request, &rules, &store, (ClientId::new(7), Some(ClientKey::of(b"key"))))
}

fn refusal(change: impl FnOnce(&mut RunWorkflowRequest)) -> String {
    match prepared(change) {
        Ok(_) => panic!("it was taken"),
        Err(Refusal::Missing(text)) => format!("missing: {text}"),
        Err(other) => other.to_string(),
    }
}

#[test]
fn request_keeps_its_files_and_hides_its_secrets() {
    let new = prepared(|_| {}).unwrap();
    assert_eq!((new.claims.len(), new.claims[0].stored().entries(), new.client), (1, 2, ClientId::new(7)));
    assert!(new.yaml.contains("A: \"***\"") && new.secret.as_ref().unwrap().expose().contains("hunter2"));
    assert!(!format!("{new:?}").contains("hunter2"));
    let plain = prepared(|r| r.yamlContent = "jobs: {a: {command: x}}".into()).unwrap();
    assert!(plain.secret.is_none());
}

#[test]
fn refusals_name_the_place_and_the_rule() {
    for (yaml, why) in [
        (
            "jobs: {a: {command: x, uploads: {files: [gone]}}}",
            "line 1, column 8: job 'a': uploads: \"gone\" was not sent",
        ),
        ("jobs: {a: {command: x, reqiures: [b]}}", "did you mean \"requires\"?"),
        ("jobs: {a: {command: 'x;y'}}", "job 'a': invalid command"),
        (
            "jobs: {a: {command: x, resources: {max_memory: 99999}}}",
            "job 'a': job creation failed: maxMemory",
        ),
        ("jobs: {a: {command: x, resources: {cpu_cores: '7'}}}", "jobs on this node can use cores 0"),
        ("jobs: {a: {command: x, timeout: 100h}}", "joblet.jobTimeout of this node allows at most"),
        (
            "jobs: {a: {command: x, runtime: ../x}}",
            "line 1, column 33: runtime: \"../x\" cannot be the name of a runtime",
        ),
        (
            "jobs: {a: {command: x, volumes: ['data:rw']}}",
            "volumes: volume \"data\": \"rw\" is no way to use it",
        ),
        (
            "jobs: {a: {command: x, network: host}}",
            "missing: workflow validation failed: line 1, column 8: job 'a'",
        ),
        ("jobs: {a: {command: x, requires: [b]}}", "job 'a' depends on non-existent job 'b'"),
    ] {
        let text = refusal(|r| r.yamlContent = yaml.into());
        assert!(text.contains(why) && text.contains("workflow validation failed: line"), "{yaml}: {text}");
    }
    assert_eq!(refusal(|r| r.yamlContent.clear()), "workflow is required");
    let path = refusal(|r| (r.yamlContent, r.workflow) = (String::new(), "/etc/shadow.yaml".into()));
    assert!(path.contains("reads no workflow files of its own host"), "{path}");
    assert!(refusal(|r| r.request_id = "a b".into()).contains("request_id"));
}

fn view(jobs: usize, dependencies: usize) -> WorkflowView {
    let record = |n: usize| NodeRecord {
        name: format!("{n:064}"),
        dependencies: (0..dependencies as u32).collect(),
        elements: 1,
        is_array: n == 1,
    };
    let node = || NodeView {
        job: None,
        status: NodeStatus::Pending,
        started_ns: None,
        ended_ns: Some(1_999_999_999),
        code: 0,
        reason: "",
        message: String::new(),
        attempts: 0,
        elements: [1, 0, 0, 0, 0],
        ids: vec![],
    };
    WorkflowView {
        id: crate::job::WorkflowId::random(),
        name: "w".into(),
        yaml: "x".repeat(100_000).into(),
        status: NodeStatus::Running,
        created_ns: 1,
        started_ns: None,
        ended_ns: None,
        message: String::new(),
        counts: [1, 2, 3],
        roster: Arc::new((0..jobs).map(record).collect()),
        nodes: (0..jobs).map(|_| node()).collect(),
    }
}

#[test]
fn replies_keep_their_bound_whatever_the_graph() {
    let small = status(view(3, 2), 4 << 20);
    assert_eq!((small.jobs[0].dependencies.len(), small.jobs[0].jobUuid.as_str()), (2, "0"));
    assert_eq!((small.jobs[0].endTime.seconds, small.jobs[0].endTime.nanos), (1, 0));
    assert!(small.jobs[1].array.is_some() && small.jobs[0].array.is_none());
    assert_eq!(small.workflow.yamlContent.len(), 100_000);
    let large = status(view(1000, 1000), 1 << 20);
    assert!(large.compute_size() <= 1 << 20, "{}", large.compute_size());
    assert_eq!(large.jobs.len(), 1000);
    assert!(large.jobs[0].dependencies.last().unwrap().contains("more"));
    let tiny = status(view(3, 2), 50_000);
    assert!(tiny.workflow.yamlContent.ends_with("# ... cut: the file has 100000 bytes\n"));
}

#[test]
fn list_goes_on_where_a_reply_was_full() {
    let workflows = (1..=100).map(|serial| (serial, view(1, 0))).collect();
    let list = page(WorkflowPage { workflows, more: false }, 1000);
    assert!(!list.workflows.is_empty() && list.workflows.len() < 100);
    assert_eq!(list.next_page_token, list.workflows.len().to_string());
    let asked = |token: &str| query(&ListWorkflowsRequest { page_token: token.into(), ..Default::default() });
    assert_eq!(asked(&list.next_page_token).unwrap().after, list.workflows.len() as u64);
    assert!(asked("x").is_err() && asked("+1").is_err());
    assert!(id("").is_err() && id("abc").is_err() && id("abcd").is_ok());
}
