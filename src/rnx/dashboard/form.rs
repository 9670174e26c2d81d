//! The body of a request that starts a job: the fields of RunJob, in the spelling of the status in JSON.

use std::collections::HashMap;

use serde::Deserialize;

use super::super::error::{Error, Result};
use crate::pb::joblet::RunJobRequest;

/// The form. A field that it does not have is refused, so a misspelled limit is not forgotten.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Form {
    name: String,
    command: String,
    args: Vec<String>,
    #[serde(rename = "maxCPU")]
    max_cpu: i32,
    max_memory: i32,
    #[serde(rename = "maxIOBPS")]
    max_iobps: i32,
    cpu_cores: String,
    timeout: String,
    stop_grace: String,
    schedule: String,
    network: String,
    egress: Vec<String>,
    publish: Vec<String>,
    volumes: Vec<String>,
    runtime: String,
    work_dir: String,
    user: String,
    profile: String,
    environment: HashMap<String, String>,
    secret_environment: HashMap<String, String>,
    request_id: String,
}

/// The request that a body makes.
///
/// # Errors
/// It is no such form.
pub(super) fn request(body: &[u8]) -> Result<RunJobRequest> {
    let form: Form = serde_json::from_slice(body)
        .map_err(|why| Error::usage(format!("cannot read the job to start: {why}")))?;
    if form.command.is_empty() && form.runtime.is_empty() {
        return Err(Error::usage("must specify a command to run"));
    }
    Ok(RunJobRequest {
        name: form.name,
        command: form.command,
        args: form.args,
        maxCpu: form.max_cpu,
        maxMemory: form.max_memory,
        maxIobps: form.max_iobps,
        cpuCores: form.cpu_cores,
        timeout: form.timeout,
        stop_grace: form.stop_grace,
        schedule: form.schedule,
        network: form.network,
        egress: form.egress,
        publish: form.publish,
        volumes: form.volumes,
        runtime: form.runtime,
        workDir: form.work_dir,
        user: form.user,
        profile: form.profile,
        environment: form.environment,
        secret_environment: form.secret_environment,
        request_id: form.request_id,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_becomes_a_request_and_unknown_fields_are_refused() {
        let body =
            br#"{"command":"sh","args":["-c","x"],"maxCPU":50,"maxMemory":64,"environment":{"A":"b"}}"#;
        let made = request(body).unwrap();
        assert_eq!((made.command.as_str(), made.args.len()), ("sh", 2));
        assert_eq!((made.maxCpu, made.maxMemory, made.environment["A"].as_str()), (50, 64, "b"));
        for (body, why) in [
            (r#"{"command":"x","maxCpus":1}"#, "unknown field `maxCpus`"),
            (r#"{"command":"x","maxMemory":"1"}"#, "invalid type"),
            (r#"{"command":"x","workflowUuid":"1"}"#, "unknown field"),
            ("{}", "must specify a command"),
            ("", "cannot read the job"),
        ] {
            let error = request(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(why), "{body}: {error}");
            assert_eq!(error.code(), "INVALID_ARGUMENT");
        }
    }
}
