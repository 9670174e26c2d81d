use std::collections::BTreeSet;

use super::*;
use crate::pb::joblet_grpc::ALL_METHODS;

#[test]
fn every_rpc_has_one_row_and_every_row_an_rpc() {
    let rpcs: BTreeSet<&str> = ALL_METHODS.iter().copied().collect();
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
    assert_eq!(rows, rpcs);
    assert_eq!(TABLE.len(), ALL_METHODS.len(), "a method has two rows");
}

#[test]
fn the_whole_matrix_of_roles_and_rpcs_is_as_documented() {
    let for_viewers = [
        "GetJobStatus",
        "ListJobs",
        "GetJobLogs",
        "GetJobMetrics",
        "StreamJobMetrics",
        "GetWorkflowStatus",
        "ListWorkflows",
        "GetWorkflowJobs",
        "ListNetworks",
        "GetNetwork",
        "GetDenials",
        "ListVolumes",
        "GetVolume",
        "ListGpus",
        "GetExec",
        "ListExecs",
        "GetSystemStatus",
        "StreamSystemMetrics",
        "ListRuntimes",
        "GetRuntimeInfo",
        "ValidateRuntimeSpec",
        "ValidateRuntimeYAML",
    ];
    let denied = |method, role| match permit(method, role) {
        Err(status) => status.code() == RpcStatusCode::PERMISSION_DENIED,
        Ok(()) => false,
    };
    for method in ALL_METHODS {
        let name = method.rsplit('/').next().unwrap();
        assert!(!denied(method, Some(Role::Admin)), "{method}");
        assert_eq!(denied(method, Some(Role::Viewer)), !for_viewers.contains(&name), "{method}");
        assert!(denied(method, None), "{method}");
    }
}

#[test]
fn unknown_method_is_denied_to_every_role() {
    for role in [Some(Role::Admin), Some(Role::Viewer), None] {
        for method in ["/joblet.JobService/Format", "/joblet.JobService/runjob", "", "RunJob"] {
            assert_eq!(permit(method, role).unwrap_err().code(), RpcStatusCode::PERMISSION_DENIED);
        }
    }
}

#[test]
fn refusals_have_the_documented_words() {
    let run = "/joblet.JobService/RunJob";
    for (role, word) in [(Some(Role::Viewer), "viewer"), (None, "unknown")] {
        assert_eq!(
            permit(run, role).unwrap_err().message(),
            format!("role {word} is not allowed to perform operation run_job")
        );
    }
}
