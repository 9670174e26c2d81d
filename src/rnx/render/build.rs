//! Built runtimes and checked recipes, as texts and as JSON.

use serde::Serialize;

use super::super::terminal::one_line;
use super::runtime::size;
use crate::pb::joblet::{BuildResult, ValidateRuntimeYAMLResponse};

/// The answer to `runtime build`.
pub(crate) fn built(made: &BuildResult) -> String {
    let runtime = one_line(&format!("{}@{}", made.runtime_name, made.runtime_version));
    let message = one_line(&made.message);
    if made.install_path.is_empty() {
        return format!("{message}\n  Runtime: {runtime}\n");
    }
    format!(
        "{message}\n  Runtime: {runtime}\n  Path: {}\n  Size: {}\n  Duration: {}.{} s\nUse it with: rnx job run --runtime \
         {runtime} <command>\n",
        one_line(&made.install_path),
        size(made.size_bytes),
        made.build_duration_ms / 1000,
        made.build_duration_ms % 1000 / 100
    )
}

/// The JSON of `runtime build`.
#[derive(Debug, Serialize)]
pub(crate) struct BuildJson<'a> {
    success: bool,
    message: &'a str,
    name: &'a str,
    version: &'a str,
    path: &'a str,
    size_bytes: i64,
    duration_ms: i64,
}

/// The JSON of `runtime build`.
pub(crate) fn built_json(made: &BuildResult) -> BuildJson<'_> {
    BuildJson {
        success: made.success,
        message: &made.message,
        name: &made.runtime_name,
        version: &made.runtime_version,
        path: &made.install_path,
        size_bytes: made.size_bytes,
        duration_ms: made.build_duration_ms,
    }
}

/// The answer to `runtime validate` about a recipe.
pub(crate) fn validated(answer: &ValidateRuntimeYAMLResponse) -> String {
    let info = &answer.spec_info;
    let mut text = format!("{}@{}\n", one_line(&info.name), one_line(&info.version));
    for warning in &answer.warnings {
        text.push_str(&format!("  Warning: {}\n", one_line(warning)));
    }
    text
}

/// The JSON of `runtime validate` about a recipe.
#[derive(Debug, Serialize)]
pub(crate) struct RecipeJson<'a> {
    valid: bool,
    name: &'a str,
    version: &'a str,
    language: &'a str,
    language_version: &'a str,
    pip: &'a [String],
    npm: &'a [String],
    hooks: bool,
    gpu: bool,
    warnings: &'a [String],
}

/// The JSON of `runtime validate` about a recipe.
pub(crate) fn validated_json(answer: &ValidateRuntimeYAMLResponse) -> RecipeJson<'_> {
    let info = &answer.spec_info;
    RecipeJson {
        valid: answer.valid,
        name: &info.name,
        version: &info.version,
        language: &info.language,
        language_version: &info.language_version,
        pip: &info.pip_packages,
        npm: &info.npm_packages,
        hooks: info.has_hooks,
        gpu: info.requires_gpu,
        warnings: &answer.warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_the_runtime_and_how_to_use_it() {
        let made = BuildResult {
            success: true,
            message: "runtime a@1.0.0 was built".into(),
            runtime_name: "a".into(),
            runtime_version: "1.0.0".into(),
            install_path: "/x/a/1.0.0".into(),
            size_bytes: 5 << 20,
            build_duration_ms: 12_345,
            ..Default::default()
        };
        let expected = "runtime a@1.0.0 was built\n  Runtime: a@1.0.0\n  Path: /x/a/1.0.0\n  Size: 5MiB\n  Duration: 12.3 s\n\
                        Use it with: rnx job run --runtime a@1.0.0 <command>\n";
        assert_eq!(built(&made), expected);
        let dry = BuildResult { install_path: String::new(), ..made };
        assert_eq!(built(&dry), "runtime a@1.0.0 was built\n  Runtime: a@1.0.0\n");
    }
}
