//! Messages about runtimes, both ways.

use super::reply::time;
use super::request::{invalid, repeated};
use super::{Refusal, Rules};
use crate::daemon::command::{RuntimeView, RuntimesRemoved};
use crate::job::runtime::{RuntimeSpec, Wanted};
use crate::job::{JobSpec, JobView, units};
use crate::pb::joblet::{
    RunJobRequest, RuntimeInfo, RuntimeInfoRes, RuntimeRemoveRes, RuntimeRequirements, RuntimeSpecInfo,
    RuntimeTestRes, RuntimesRes, ValidateRuntimeSpecResponse,
};

/// Bytes of the longest text that can name a runtime.
const LONGEST: usize = 256;
/// How long a test of a runtime may take.
const TEST: &str = "10s";

/// The runtime that a text names, which need not be there.
///
/// # Errors
/// An empty text, or one that can name none.
pub(in crate::api) fn named(text: &str) -> Result<RuntimeSpec, Refusal> {
    if text.is_empty() {
        return invalid("runtime name is required".to_owned());
    }
    if text.len() > LONGEST {
        return invalid(format!("\"{}\" is longer than any name of a runtime", repeated(text)));
    }
    Ok(text.parse()?)
}

/// The runtime to remove, and whether all of its versions are meant: a name without a version.
///
/// # Errors
/// See [`named`].
pub(in crate::api) fn removal(text: &str) -> Result<(RuntimeSpec, bool), Refusal> {
    let spec = named(text)?;
    let all = spec.version == Wanted::Latest && !text.contains('@');
    Ok((spec, all))
}

/// The job that tries a runtime. The loop fills in the command.
///
/// # Errors
/// See [`named`].
pub(in crate::api) fn test(text: &str, rules: &Rules) -> Result<Box<JobSpec>, Refusal> {
    named(text)?;
    let bound = units::parse_duration(TEST).unwrap_or_default();
    let timeout = match rules.job_timeout {
        Some(most) if most < bound => String::new(),
        _ => TEST.to_owned(),
    };
    let request = RunJobRequest {
        name: "runtime-test".to_owned(),
        runtime: text.to_owned(),
        network: "none".to_owned(),
        timeout,
        ..RunJobRequest::default()
    };
    Ok(super::request::run(request, rules)?.0)
}

/// The job that builds a runtime: its limits, its network and its time. The build itself fills in the rest.
///
/// # Errors
/// The configuration asks for something that no job may have.
pub(in crate::api) fn build_job(rules: &Rules) -> Result<Box<JobSpec>, Refusal> {
    let build = &rules.build;
    let most = i32::try_from(rules.max_memory_mib).unwrap_or(i32::MAX);
    let timeout = rules.job_timeout.map_or(build.timeout, |most| most.min(build.timeout));
    let request = RunJobRequest {
        name: "runtime-build".to_owned(),
        command: "/bin/sh".to_owned(),
        network: build.network.clone(),
        maxMemory: i32::try_from(build.memory).unwrap_or(i32::MAX).min(most),
        timeout: units::format_duration(timeout),
        user: "root".to_owned(),
        ..RunJobRequest::default()
    };
    let mut spec = super::request::run(request, rules)?.0;
    // Whatever list the node has for other jobs.
    spec.egress = spec.network.is_wired().then(|| rules.build_egress.clone());
    Ok(spec)
}

/// The reply with all runtimes.
pub(in crate::api) fn list(runtimes: Vec<RuntimeView>) -> RuntimesRes {
    RuntimesRes { runtimes: runtimes.into_iter().map(info).collect(), ..RuntimesRes::default() }
}

/// The reply with one runtime; `None`: there is none of that name.
pub(in crate::api) fn shown(runtime: Option<RuntimeView>) -> RuntimeInfoRes {
    RuntimeInfoRes {
        found: runtime.is_some(),
        runtime: runtime.map(info).into(),
        ..RuntimeInfoRes::default()
    }
}

fn info(view: RuntimeView) -> RuntimeInfo {
    let requirements = RuntimeRequirements {
        architectures: view.architectures,
        gpu: view.wants_gpu,
        ..RuntimeRequirements::default()
    };
    RuntimeInfo {
        name: view.id.name.to_string(),
        language: view.language,
        version: view.id.version.to_string(),
        description: view.description,
        sizeBytes: i64::try_from(view.bytes).unwrap_or(i64::MAX),
        packages: view.packages,
        available: view.is_available,
        requirements: Some(requirements).into(),
        language_version: view.language_version,
        libraries: view.libraries,
        environment: view.environment.into_iter().collect(),
        original_yaml: view.yaml,
        shared_bytes: i64::try_from(view.shared_bytes).unwrap_or(i64::MAX),
        last_used: time(view.last_used_ns),
        job_count: i32::try_from(view.jobs).unwrap_or(i32::MAX),
        ..RuntimeInfo::default()
    }
}

/// The reply to the remover of versions. Clients know the message by its end.
pub(in crate::api) fn removed(removed: RuntimesRemoved) -> RuntimeRemoveRes {
    let name = removed.ids.first().map(|id| id.name.to_string()).unwrap_or_default();
    let what = if removed.all { "all versions" } else { "specific version" };
    RuntimeRemoveRes {
        success: true,
        message: format!("Runtime '{name}' removed successfully ({what})"),
        freedSpaceBytes: i64::try_from(removed.freed_bytes).unwrap_or(i64::MAX),
        ..RuntimeRemoveRes::default()
    }
}

/// The reply to a test.
pub(in crate::api) fn tested((view, output): (JobView, String)) -> RuntimeTestRes {
    let ending = view.ending.as_ref();
    let code = ending.map_or(-1, |ending| ending.code);
    let success = ending.is_some_and(|ending| ending.status == crate::job::Status::Completed);
    let error = match ending.filter(|_| !success) {
        Some(ending) if !ending.message.is_empty() => ending.message.clone(),
        Some(ending) => format!("{} ended with exit code {}", view.spec.command, ending.code),
        None => String::new(),
    };
    RuntimeTestRes { success, output, error, exitCode: code, ..RuntimeTestRes::default() }
}

/// The reply about the spelling of a name. Nothing is looked up.
pub(in crate::api) fn spelling(text: &str) -> ValidateRuntimeSpecResponse {
    let spec = match named(text) {
        Ok(spec) => spec,
        Err(why) => {
            let message = why.to_string();
            return ValidateRuntimeSpecResponse { message, ..ValidateRuntimeSpecResponse::default() };
        }
    };
    let (language, version, variants) = spec.parts();
    let info = RuntimeSpecInfo {
        language: language.to_owned(),
        version: version.to_owned(),
        variants: variants.into_iter().map(str::to_owned).collect(),
        architecture: std::env::consts::ARCH.to_owned(),
        ..RuntimeSpecInfo::default()
    };
    ValidateRuntimeSpecResponse {
        valid: true,
        message: "valid".to_owned(),
        normalizedSpec: spec.to_string(),
        specInfo: Some(info).into(),
        ..ValidateRuntimeSpecResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_valid_and_come_to_name_and_version() {
        for (text, normalised, language, version) in [
            ("python-3.11-ml", "python-3.11-ml@latest", "python", "3.11"),
            ("python:3.11-ml", "python-3.11-ml@latest", "python", "3.11"),
            ("openjdk-21@1.3.1", "openjdk-21@1.3.1", "openjdk", "21"),
        ] {
            let reply = spelling(text);
            assert!(reply.valid, "{text}: {}", reply.message);
            assert_eq!(reply.normalizedSpec, normalised);
            let info = reply.specInfo.unwrap();
            assert_eq!((info.language.as_str(), info.version.as_str()), (language, version));
        }
        for text in ["", "../x", "A", "a@1", &*"x".repeat(1 << 20)] {
            let reply = spelling(text);
            assert!(
                !reply.valid && !reply.message.is_empty() && reply.message.len() < 400,
                "{}",
                reply.message
            );
        }
    }

    #[test]
    fn name_alone_means_all_versions_in_a_removal() {
        assert!(removal("a").unwrap().1 && removal("python:3.11").unwrap().1);
        assert!(!removal("a@1.0.0").unwrap().1 && !removal("a@latest").unwrap().1);
        assert!(removal("../../etc").is_err());
    }
}
