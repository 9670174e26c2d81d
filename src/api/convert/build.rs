//! The messages of builds of runtimes, both ways.

use super::runtime::build_job;
use super::{Refusal, Rules};
use crate::daemon::command::{BuildEvent, BuildRequest, BuiltRuntime, Recipe};
use crate::job::InvalidField;
use crate::pb::joblet::{
    BuildLogLine, BuildPhaseProgress, BuildResult, BuildRuntimeProgress, BuildRuntimeRequest,
    RuntimeYAMLInfo, ValidateRuntimeYAMLResponse,
};

/// A build from a recipe.
///
/// # Errors
/// The recipe breaks a rule.
pub(in crate::api) fn build(req: BuildRuntimeRequest, rules: &Rules) -> Result<BuildRequest, Refusal> {
    let recipe = Recipe::parse(&req.yaml_content).map_err(|why| InvalidField::new(why.to_string()))?;
    let job = build_job(rules)?;
    Ok(BuildRequest { recipe, dry_run: req.dry_run, replace: req.force_rebuild, verbose: req.verbose, job })
}

/// The reply about a recipe. Nothing is looked up and nothing built.
pub(in crate::api) fn validated(text: &str) -> ValidateRuntimeYAMLResponse {
    let recipe = match Recipe::parse(text) {
        Ok(recipe) => recipe,
        Err(why) => {
            let why = why.to_string();
            return ValidateRuntimeYAMLResponse {
                message: "the recipe is not valid".to_owned(),
                errors: vec![why],
                ..ValidateRuntimeYAMLResponse::default()
            };
        }
    };
    let is_loose = |package: &&String| !package.contains("==") && !package.contains(" @ ");
    let mut warnings = Vec::new();
    if let Some(loose) = recipe.pip.iter().find(is_loose) {
        warnings.push(format!("pip: \"{loose}\" has no exact version (==), so two builds may differ"));
    }
    if recipe.language_version.is_empty() {
        warnings.push("base.version: without it any version of the host's will do".to_owned());
    }
    let info = RuntimeYAMLInfo {
        name: recipe.id.name.to_string(),
        version: recipe.id.version.to_string(),
        language: recipe.language.as_str().to_owned(),
        language_version: recipe.language_version,
        description: recipe.description,
        pip_packages: recipe.pip,
        npm_packages: recipe.npm,
        has_hooks: !(recipe.pre_install.is_empty() && recipe.post_install.is_empty()),
        requires_gpu: recipe.gpu,
        ..RuntimeYAMLInfo::default()
    };
    ValidateRuntimeYAMLResponse {
        valid: true,
        message: "valid".to_owned(),
        warnings,
        spec_info: Some(info).into(),
        ..ValidateRuntimeYAMLResponse::default()
    }
}

/// A message of a stream.
pub(in crate::api) fn event(event: BuildEvent) -> BuildRuntimeProgress {
    let mut progress = BuildRuntimeProgress::default();
    match event {
        BuildEvent::Phase { number, of, name, message } => progress.set_phase(BuildPhaseProgress {
            phase_number: i32::try_from(number).unwrap_or(i32::MAX),
            total_phases: i32::try_from(of).unwrap_or(i32::MAX),
            phase_name: name.to_owned(),
            message,
            ..Default::default()
        }),
        BuildEvent::Line { is_error, text, time_ns } => progress.set_log(BuildLogLine {
            level: if is_error { "error" } else { "info" }.to_owned(),
            message: text,
            timestamp: time_ns,
            ..Default::default()
        }),
    }
    progress
}

/// The last message of a stream that ends well.
pub(in crate::api) fn result(made: BuiltRuntime) -> BuildRuntimeProgress {
    let mut progress = BuildRuntimeProgress::default();
    progress.set_result(BuildResult {
        success: true,
        message: made.message,
        runtime_name: made.id.name.to_string(),
        runtime_version: made.id.version.to_string(),
        install_path: made.path.to_string_lossy().into_owned(),
        size_bytes: i64::try_from(made.bytes).unwrap_or(i64::MAX),
        build_duration_ms: i64::try_from(made.took.as_millis()).unwrap_or(i64::MAX),
        ..Default::default()
    });
    progress
}

/// The last message of a stream that ends with a failure.
pub(in crate::api) fn failure((name, version): &(String, String), why: &str) -> BuildRuntimeProgress {
    let mut progress = BuildRuntimeProgress::default();
    progress.set_result(BuildResult {
        message: why.to_owned(),
        runtime_name: name.clone(),
        runtime_version: version.clone(),
        ..Default::default()
    });
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipe_is_valid_with_warnings_or_refused_with_an_error() {
        let reply = validated("name: a\nversion: 1.0.0\nbase: {language: python}\npip: [six]\n");
        assert!(reply.valid && reply.errors.is_empty());
        assert!(reply.warnings[0].contains("six") && reply.warnings[1].contains("base.version"));
        assert_eq!(reply.spec_info.pip_packages, ["six"]);
        let reply = validated("name: a\nversion: 1.0.0\nbase: {language: python}\npipe: [six]\n");
        assert!(!reply.valid && reply.spec_info.is_none());
        assert!(reply.errors[0].contains("pipe") && reply.errors[0].contains("line 4"), "{:?}", reply.errors);
    }
}
