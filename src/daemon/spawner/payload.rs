//! The request for joblet-init: argv, environment and working directory of the payload.

use std::ffi::CString;
use std::io;

use crate::daemon::provision::gpu_variables;
use crate::daemon::runtimes::PATH;
use crate::job::{DriverParts, Found, GpuLease, JobId, JobSpec, Profile, User};
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
    gpus: (&[GpuLease], DriverParts),
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
    let gpus = gpu_variables(spec, gpus.0, gpus.1);
    let weak = gpus.weak.iter().map(|(name, value)| (*name, value.as_str()));
    let strong = gpus.strong.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in weak.chain(runtime).chain(strong).chain(plain).chain(secret) {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    let mut all: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    for (name, dir) in &gpus.added {
        add_directory(&mut all, name, dir);
    }
    all
}

/// Puts a directory behind those of a variable, which may not be set yet.
fn add_directory(all: &mut Vec<String>, name: &str, dir: &str) {
    let of_name = |text: &&mut String| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    match all.iter_mut().find(of_name) {
        None => all.push(format!("{name}={dir}")),
        Some(text) => {
            // An empty entry would be the working directory.
            if !text.ends_with(['=', ':']) {
                text.push(':');
            }
            text.push_str(dir);
        }
    }
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts.map(|text| CString::new(text).map_err(|e| io::Error::other(e).to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{GpuWish, Secret, UserName};

    const NO_GPUS: (&[GpuLease], DriverParts) =
        (&[], DriverParts { libraries: false, program: false, cuda: false });

    #[test]
    fn client_overrides_path_and_secret_overrides_plain() {
        let inputs = JobInputs {
            environment: vec![("PATH".into(), "/x".into()), ("TOKEN".into(), "plain".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hidden"))],
            ..JobInputs::default()
        };
        let runtime = vec![("PATH".into(), "/r".into()), ("LANG".into(), "C".into())];
        let all = environment(JobId::random(), &JobSpec::bare(), None, runtime, NO_GPUS, &inputs);
        assert!(all.contains(&"LANG=C".to_owned()));
        assert!(all.contains(&"PATH=/x".to_owned()) && all.contains(&"TOKEN=hidden".to_owned()));
        assert_eq!(all.iter().filter(|v| v.starts_with("PATH=")).count(), 1);
        assert!(!all.iter().any(|v| v.contains("plain")));
        for own in ["JOB_TYPE=standard", "HOME=/work", "USER=root"] {
            assert!(all.contains(&own.to_owned()), "{own}");
        }
        let found = "7".parse::<UserName>().unwrap().find(b"app:x:7:7::/srv:/bin/sh", b"").unwrap();
        let all = environment(JobId::random(), &JobSpec::bare(), Some(&found), Vec::new(), NO_GPUS, &inputs);
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
        let leases = [lease(3), lease(1)];
        let gpus = (leases.as_slice(), DriverParts::default());
        let all = environment(JobId::random(), &spec, None, runtime, gpus, &inputs);
        assert!(!all.iter().any(|v| v.contains("/run/joblet")), "{all:?}");
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

    #[test]
    fn driver_is_found_behind_the_directories_of_the_client() {
        let spec = JobSpec { gpus: GpuWish::new(1, 0).unwrap(), ..JobSpec::bare() };
        let all = DriverParts { libraries: true, program: true, cuda: true };
        let environment = |spec: &JobSpec, runtime, variables: &[(&str, &str)]| {
            let own = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let inputs = JobInputs { environment: own.collect(), ..JobInputs::default() };
            environment(JobId::random(), spec, None, runtime, (&[], all), &inputs)
        };
        let has = |found: &[String], variable: &str| {
            assert!(found.iter().any(|own| own == variable), "{variable}: {found:?}");
        };
        let found = environment(&spec, Vec::new(), &[("PATH", "/own:"), ("LD_LIBRARY_PATH", "/own")]);
        has(&found, "PATH=/own:/run/joblet/gpu/bin:/run/joblet/gpu/cuda/bin");
        has(&found, "LD_LIBRARY_PATH=/own:/run/joblet/gpu/lib:/run/joblet/gpu/cuda/lib64");
        has(&found, "CUDA_HOME=/run/joblet/gpu/cuda");
        let of_runtime = JobSpec { runtime: Some("image@1.0.0".parse().unwrap()), ..spec };
        let found = environment(&of_runtime, vec![("CUDA_HOME".into(), "/r".into())], &[]);
        has(&found, "LD_LIBRARY_PATH=/run/joblet/gpu/lib");
        has(&found, "CUDA_HOME=/r");
        has(&found, "CUDA_ROOT=/run/joblet/gpu/cuda");
    }
}
