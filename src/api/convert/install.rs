//! The messages of installations of runtimes, both ways.

use std::path::Path;

use super::request::{invalid, repeated};
use super::runtime::build_job;
use super::{Refusal, Rules};
use crate::daemon::command::{InstallEvent, InstallRequest, InstalledRuntime, Origin};
use crate::pb::joblet::{
    InstallRuntimeFromLocalRequest, InstallRuntimeRequest, InstallRuntimeResponse, RuntimeInstallationChunk,
    RuntimeInstallationLog, RuntimeInstallationProgress, RuntimeInstallationResult,
};
use crate::upload::{self, LinkRoots, Upload};

/// Longest name of a registry or branch in bytes.
const LONGEST: usize = 1024;

/// An installation from files.
///
/// # Errors
/// No name of a runtime, or a path that breaks a rule of uploads.
pub(in crate::api) fn from_files(
    req: InstallRuntimeFromLocalRequest,
    rules: &Rules,
) -> Result<InstallRequest, Refusal> {
    let spec = req.runtimeSpec.parse()?;
    let file = |file: crate::pb::joblet::RuntimeFile| Upload {
        path: file.path.into_bytes(),
        content: file.content,
        mode: if file.executable { 0o755 } else { 0o644 },
        ..Upload::default()
    };
    let files: Vec<Upload> = req.files.into_iter().map(file).collect();
    if files.is_empty() {
        return invalid("a runtime has one file at least, runtime.yml".to_owned());
    }
    upload::check(&files, &LinkRoots::default()).map_err(Refusal::Upload)?;
    let job = build_job(rules)?;
    Ok(InstallRequest { spec, origin: Origin::Files(files), replace: req.forceReinstall, job })
}

/// An installation from a registry.
///
/// # Errors
/// No name of a runtime, a registry that is named twice, or a field that means nothing for a registry.
pub(in crate::api) fn from_registry(
    req: InstallRuntimeRequest,
    rules: &Rules,
) -> Result<InstallRequest, Refusal> {
    let spec = req.runtimeSpec.parse()?;
    if !req.path.is_empty() {
        return invalid(
            "path is not taken: a registry names the archives of its runtimes in registry.json".to_owned(),
        );
    }
    let place = match (req.repository.as_str(), req.registry_url.as_str()) {
        (place, "") | ("", place) => place.to_owned(),
        _ => {
            return invalid(
                "repository and registry_url both name the registry; give one of them".to_owned(),
            );
        }
    };
    for (field, text) in [("registry", &place), ("branch", &req.branch)] {
        if text.len() > LONGEST {
            let shown = repeated(text);
            return invalid(format!("{field} \"{shown}\" has more than {LONGEST} bytes"));
        }
    }
    let origin = Origin::Registry { place, branch: req.branch };
    let job = build_job(rules)?;
    Ok(InstallRequest { spec, origin, replace: req.forceReinstall, job })
}

/// The reply to a client that waited for the end.
pub(in crate::api) fn installed(made: InstalledRuntime) -> InstallRuntimeResponse {
    InstallRuntimeResponse {
        buildJobUuid: made.job.map(|id| id.to_string()).unwrap_or_default(),
        runtimeSpec: made.id.to_string(),
        status: "completed".to_owned(),
        message: made.message,
        repository: made.registry,
        resolvedPath: shown(&made.path),
        ..InstallRuntimeResponse::default()
    }
}

/// A message of a stream.
pub(in crate::api) fn event(event: InstallEvent) -> RuntimeInstallationChunk {
    let mut chunk = RuntimeInstallationChunk::default();
    match event {
        InstallEvent::Step { number, of, message } => {
            chunk.set_progress(RuntimeInstallationProgress {
                message,
                step: number_of(number),
                total_steps: number_of(of),
                ..Default::default()
            });
        }
        InstallEvent::Log(data) => chunk.set_log(RuntimeInstallationLog { data, ..Default::default() }),
    }
    chunk
}

/// The last message of a stream that was successful.
pub(in crate::api) fn result(made: InstalledRuntime) -> RuntimeInstallationChunk {
    let mut chunk = RuntimeInstallationChunk::default();
    chunk.set_result(RuntimeInstallationResult {
        success: true,
        runtime_spec: made.id.to_string(),
        install_path: shown(&made.path),
        message: made.message,
        ..Default::default()
    });
    chunk
}

/// The last message before the status of one that was not.
pub(in crate::api) fn failure(spec: &str, why: &str) -> RuntimeInstallationChunk {
    let mut chunk = RuntimeInstallationChunk::default();
    let (message, runtime_spec) = (why.to_owned(), spec.to_owned());
    chunk.set_result(RuntimeInstallationResult { message, runtime_spec, ..Default::default() });
    chunk
}

fn number_of(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::daemon::DaemonConfig;
    use crate::job::limits::CoreSet;
    use crate::pb::joblet::RuntimeFile;

    fn rules() -> Rules {
        Rules::new(&DaemonConfig::default(), CoreSet::parse("0").unwrap(), 1024).unwrap()
    }

    fn local(spec: &str, path: &str) -> Result<InstallRequest, String> {
        let file = RuntimeFile { path: path.into(), executable: true, ..Default::default() };
        let req = InstallRuntimeFromLocalRequest {
            runtimeSpec: spec.into(),
            files: vec![file],
            ..Default::default()
        };
        from_files(req, &rules()).map_err(|why| why.to_string())
    }

    #[test]
    fn files_are_checked_as_uploads_are() {
        let Origin::Files(files) = local("app", "bin/run").unwrap().origin else { panic!("files") };
        assert_eq!((files[0].path.as_slice(), files[0].mode), (&b"bin/run"[..], 0o755));
        for path in ["../x", "/etc/passwd", "", "a/../b"] {
            assert!(local("app", path).is_err(), "{path}");
        }
        assert!(local("../app", "x").is_err());
        let none = InstallRuntimeFromLocalRequest { runtimeSpec: "app".into(), ..Default::default() };
        assert!(from_files(none, &rules()).is_err());
    }

    #[test]
    fn a_registry_is_named_once() {
        let named = |repository: &str, url: &str, path: &str| {
            let request = InstallRuntimeRequest {
                runtimeSpec: "app@1.0.0".into(),
                repository: repository.into(),
                registry_url: url.into(),
                path: path.into(),
                ..Default::default()
            };
            from_registry(request, &rules())
        };
        for (repository, url, expected) in [("a/b", "", "a/b"), ("", "https://x", "https://x"), ("", "", "")]
        {
            let Origin::Registry { place, .. } = named(repository, url, "").unwrap().origin else { panic!() };
            assert_eq!(place, expected);
        }
        assert!(named("a/b", "https://x", "").is_err() && named("", "", "runtimes/x").is_err());
        assert!(named(&"x".repeat(1 << 20), "", "").unwrap_err().to_string().len() < 400);
    }
}
