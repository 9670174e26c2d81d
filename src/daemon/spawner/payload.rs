//! The request for joblet-init: argv, environment and working directory of the payload.

use std::ffi::CString;
use std::io;

use crate::daemon::provision::gpu_variables;
use crate::daemon::runtimes::PATH;
use crate::job::{Found, GpuLease, JobId, JobSpec, Profile, User};
use crate::sandbox::{Credentials, ExecRequest};
use crate::upload::JobInputs;

/// The request for joblet-init.
///
/// # Errors
/// A NUL in a text that the API should have refused.
pub(in crate::daemon) fn exec_request(
    spec: &JobSpec,
    found: Option<&Found>,
    environment: Vec<String>,
) -> Result<ExecRequest, String> {
    Ok(ExecRequest {
        argv: strings(std::iter::once(&spec.command).chain(&spec.args).cloned())?,
        environment: strings(environment.into_iter())?,
        work_dir: strings(std::iter::once(spec.work_dir.clone()))?.swap_remove(0),
        credentials: credentials(spec, found),
    })
}

/// The ids of a payload that is not what joblet-init is, root of its many ids.
fn credentials(spec: &JobSpec, found: Option<&Found>) -> Option<Credentials> {
    if let Some(Found { uid, gid, groups, .. }) = found {
        return Some(Credentials { uid: *uid, gid: *gid, groups: groups.clone() });
    }
    let (profile, id) = (spec.profile, spec.user.id());
    let differs = profile == Profile::Container && spec.user != User::Root;
    differs.then(|| Credentials { uid: id, gid: id, groups: Vec::new() })
}

/// The whole environment of a payload: ours, then the runtime's, then that of its GPUs, then the client's, then its secrets; later wins. Nothing of
/// the daemon's.
pub(in crate::daemon) fn environment(
    id: JobId,
    spec: &JobSpec,
    found: Option<&Found>,
    runtime: Vec<(String, String)>,
    gpus: &[GpuLease],
    inputs: &JobInputs,
) -> Vec<String> {
    let limits = &spec.limits;
    let number = |n: Option<u32>| n.unwrap_or(0).to_string();
    let user = found.map_or(spec.user.as_str(), |found| &found.name);
    let home = found.and_then(|found| found.home.as_deref()).unwrap_or("/work");
    let ours = [
        ("PATH", PATH.to_owned()),
        ("HOME", home.to_owned()),
        ("USER", user.to_owned()),
        ("LOGNAME", user.to_owned()),
        ("SHELL", "/bin/sh".to_owned()),
        ("PWD", spec.work_dir.clone()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOSTNAME", format!("job-{}", id.short())),
        ("JOB_ID", id.to_string()),
        ("JOB_TYPE", if spec.build.is_some() { "runtime-build" } else { "standard" }.to_owned()),
        ("JOB_MAX_CPU", number(limits.cpu.map(|c| c.get()))),
        ("JOB_MAX_MEMORY", number(limits.memory.map(|m| m.mib()))),
        ("JOB_MAX_IOBPS", number(limits.io.map(|i| i.get()))),
        ("JOB_CPU_CORES", limits.cores.as_ref().map(ToString::to_string).unwrap_or_default()),
    ];
    let mut all: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let plain = inputs.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let secret = inputs.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let runtime = runtime.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let gpus = gpu_variables(spec, gpus);
    let gpus = gpus.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in runtime.chain(gpus).chain(plain).chain(secret) {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts.map(|text| CString::new(text).map_err(|e| io::Error::other(e).to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{GpuWish, Secret, UserName};

    #[test]
    fn client_overrides_path_and_secret_overrides_plain() {
        let inputs = JobInputs {
            environment: vec![("PATH".into(), "/x".into()), ("TOKEN".into(), "plain".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hidden"))],
            ..JobInputs::default()
        };
        let runtime = vec![("PATH".into(), "/r".into()), ("LANG".into(), "C".into())];
        let all = environment(JobId::random(), &JobSpec::bare(), None, runtime, &[], &inputs);
        assert!(all.contains(&"LANG=C".to_owned()));
        assert!(all.contains(&"PATH=/x".to_owned()) && all.contains(&"TOKEN=hidden".to_owned()));
        assert_eq!(all.iter().filter(|v| v.starts_with("PATH=")).count(), 1);
        assert!(!all.iter().any(|v| v.contains("plain")));
        for own in ["JOB_TYPE=standard", "HOME=/work", "USER=root"] {
            assert!(all.contains(&own.to_owned()), "{own}");
        }
        let found = "7".parse::<UserName>().unwrap().find(b"app:x:7:7::/srv:/bin/sh", b"").unwrap();
        let all = environment(JobId::random(), &JobSpec::bare(), Some(&found), Vec::new(), &[], &inputs);
        for own in ["HOME=/srv", "USER=app", "LOGNAME=app"] {
            assert!(all.contains(&own.to_owned()), "{own}");
        }
        assert!(!all.iter().any(|v| v.contains("GPU") || v.contains("CUDA")));
    }

    #[test]
    fn gpus_are_named_by_uuid_and_a_client_may_say_otherwise() {
        let lease = |n: u32| GpuLease { index: n, uuid: format!("GPU-{n}"), minor: n, lost: None };
        let spec = JobSpec { gpus: GpuWish::new(2, 4096).unwrap(), ..JobSpec::bare() };
        let inputs = JobInputs {
            environment: vec![("NVIDIA_VISIBLE_DEVICES".into(), "none".into())],
            ..JobInputs::default()
        };
        let runtime = vec![("CUDA_VISIBLE_DEVICES".into(), "all".into())];
        let all = environment(JobId::random(), &spec, None, runtime, &[lease(3), lease(1)], &inputs);
        for variable in [
            "CUDA_VISIBLE_DEVICES=GPU-3,GPU-1",
            "NVIDIA_VISIBLE_DEVICES=none",
            "JOBLET_GPU_COUNT=2",
            "JOBLET_GPU_MEMORY_MB=4096",
            "JOBLET_GPU_ALLOCATED_COUNT=2",
        ] {
            assert!(all.contains(&variable.to_owned()), "{variable}: {all:?}");
        }
    }
}
