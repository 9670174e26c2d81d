//! Runtimes, as texts and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::terminal::one_line;
use super::fit::aligned;
use crate::job::runtime::Version;
use crate::job::units::format_size;
use crate::pb::joblet::{
    RuntimeInfo, RuntimeRemoveRes, RuntimeTestRes, RuntimesRes, ValidateRuntimeSpecResponse,
};
use crate::registry::Release;

/// Most characters of a description in a table.
const DESCRIPTION: usize = 50;

/// Bytes in the largest unit that leaves a number of one to three digits.
pub(super) fn size(bytes: i64) -> String {
    let bytes = bytes.max(0).unsigned_abs();
    let unit = [1u64 << 30, 1 << 20, 1 << 10].into_iter().find(|unit| bytes >= *unit).unwrap_or(1);
    format_size(bytes / unit * unit)
}

/// The table of `runtime list`.
pub(crate) fn list(runtimes: &[RuntimeInfo]) -> String {
    if runtimes.is_empty() {
        return "No runtimes available.\n".to_owned();
    }
    let row = |runtime: &RuntimeInfo| {
        let about: String = one_line(&runtime.description).chars().take(DESCRIPTION).collect();
        [
            one_line(&runtime.name),
            one_line(&runtime.version),
            size(runtime.sizeBytes),
            size(runtime.shared_bytes),
            runtime.job_count.to_string(),
            if runtime.last_used.is_empty() { "never".to_owned() } else { one_line(&runtime.last_used) },
            about,
        ]
    };
    let head =
        ["RUNTIME", "VERSION", "SIZE", "SHARED", "JOBS", "LAST USED", "DESCRIPTION"].map(str::to_owned);
    aligned(std::iter::once(head).chain(runtimes.iter().map(row)).collect())
}

/// The table of `runtime list --registry`.
pub(crate) fn releases(found: &[(&str, Version, &Release)]) -> String {
    if found.is_empty() {
        return "No runtimes available.\n".to_owned();
    }
    let row = |(name, version, release): &(&str, Version, &Release)| {
        let about: String = one_line(&release.description).chars().take(DESCRIPTION).collect();
        let bytes = i64::try_from(release.size).unwrap_or(i64::MAX);
        let size = if bytes == 0 { "-".to_owned() } else { size(bytes) };
        [one_line(name), version.to_string(), size, one_line(&release.platforms.join(",")), about]
    };
    let head = ["RUNTIME", "VERSION", "SIZE", "PLATFORMS", "DESCRIPTION"].map(str::to_owned);
    aligned(std::iter::once(head).chain(found.iter().map(row)).collect())
}

/// A release of a registry in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseJson<'a> {
    name: &'a str,
    version: String,
    description: &'a str,
    size_bytes: u64,
    platforms: &'a [String],
}

/// The JSON of `runtime list --registry`.
pub(crate) fn releases_json<'a>(found: &'a [(&str, Version, &Release)]) -> Vec<ReleaseJson<'a>> {
    let one = |(name, version, release): &'a (&str, Version, &Release)| ReleaseJson {
        name,
        version: version.to_string(),
        description: &release.description,
        size_bytes: release.size,
        platforms: &release.platforms,
    };
    found.iter().map(one).collect()
}

/// The text of `runtime info`.
pub(crate) fn shown(runtime: &RuntimeInfo) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{label}: {}\n", one_line(value)));
        }
    };
    let name = format!("{}@{}", runtime.name, runtime.version);
    line("Runtime", &runtime.name);
    line("Version", &runtime.version);
    line("Description", &runtime.description);
    line("Language", format!("{} {}", runtime.language, runtime.language_version).trim());
    line("Size", &size(runtime.sizeBytes));
    line("Shared", &size(runtime.shared_bytes));
    line("Jobs", &runtime.job_count.to_string());
    line("Last Used", if runtime.last_used.is_empty() { "never" } else { &runtime.last_used });
    line("Available", if runtime.available { "yes" } else { "no: it is made for other processors" });
    line("Architectures", &runtime.requirements.architectures.join(", "));
    line("GPU", if runtime.requirements.gpu { "wanted" } else { "" });
    line("Packages", &runtime.packages.join(", "));
    line("Libraries", &runtime.libraries.join(", "));
    let sorted: BTreeMap<_, _> = runtime.environment.iter().collect();
    let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("Environment", &pairs.join(" "));
    line("Use it with", &format!("rnx job run --runtime {name} <command>"));
    text
}

/// The answer to `runtime test`.
pub(crate) fn tested(name: &str, answer: &RuntimeTestRes) -> String {
    let word = if answer.success { "works" } else { "does not work" };
    let output: Vec<String> = answer.output.lines().map(|line| format!("  {}\n", one_line(line))).collect();
    format!("Runtime '{}' {word}\n{}", one_line(name), output.concat())
}

/// The answer to `runtime remove`.
pub(crate) fn removed(answer: &RuntimeRemoveRes) -> String {
    format!("{}\nFreed: {}\n", one_line(&answer.message), size(answer.freedSpaceBytes))
}

/// The answer to `runtime validate`.
pub(crate) fn spelling(answer: &ValidateRuntimeSpecResponse) -> String {
    format!("{}\n", one_line(&answer.normalizedSpec))
}

/// A runtime in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct RuntimeJson<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    language: &'a str,
    language_version: &'a str,
    size_bytes: i64,
    shared_bytes: i64,
    jobs: i32,
    last_used: Option<&'a str>,
    available: bool,
    architectures: &'a [String],
    gpu: bool,
    packages: &'a [String],
    libraries: &'a [String],
    environment: BTreeMap<&'a String, &'a String>,
}

/// The JSON of `runtime info`.
pub(crate) fn info_json(runtime: &RuntimeInfo) -> RuntimeJson<'_> {
    RuntimeJson {
        name: &runtime.name,
        version: &runtime.version,
        description: &runtime.description,
        language: &runtime.language,
        language_version: &runtime.language_version,
        size_bytes: runtime.sizeBytes,
        shared_bytes: runtime.shared_bytes,
        jobs: runtime.job_count,
        last_used: Some(runtime.last_used.as_str()).filter(|at| !at.is_empty()),
        available: runtime.available,
        architectures: &runtime.requirements.architectures,
        gpu: runtime.requirements.gpu,
        packages: &runtime.packages,
        libraries: &runtime.libraries,
        environment: runtime.environment.iter().collect(),
    }
}

/// The JSON of `runtime list`.
#[derive(Debug, Serialize)]
pub(crate) struct RuntimesJson<'a> {
    runtimes: Vec<RuntimeJson<'a>>,
}

/// The runtimes of an answer.
pub(crate) fn list_json(found: &RuntimesRes) -> RuntimesJson<'_> {
    RuntimesJson { runtimes: found.runtimes.iter().map(info_json).collect() }
}

/// The JSON of `runtime test`.
#[derive(Debug, Serialize)]
pub(crate) struct TestedJson<'a> {
    runtime: &'a str,
    success: bool,
    output: &'a str,
    error: &'a str,
    exit_code: i32,
}

/// The outcome of a test.
pub(crate) fn tested_json<'a>(runtime: &'a str, answer: &'a RuntimeTestRes) -> TestedJson<'a> {
    let RuntimeTestRes { success, output, error, exitCode, .. } = answer;
    TestedJson { runtime, success: *success, output, error, exit_code: *exitCode }
}

/// The JSON of `runtime remove`.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedJson<'a> {
    runtime: &'a str,
    removed: bool,
    freed_bytes: i64,
}

/// Versions that are gone.
pub(crate) fn removed_json<'a>(runtime: &'a str, answer: &RuntimeRemoveRes) -> RemovedJson<'a> {
    RemovedJson { runtime, removed: true, freed_bytes: answer.freedSpaceBytes }
}

/// The JSON of `runtime validate`.
#[derive(Debug, Serialize)]
pub(crate) struct SpellingJson<'a> {
    valid: bool,
    normalized: &'a str,
    language: &'a str,
    version: &'a str,
    variants: &'a [String],
}

/// A name that is spelled well.
pub(crate) fn spelling_json(answer: &ValidateRuntimeSpecResponse) -> SpellingJson<'_> {
    SpellingJson {
        valid: answer.valid,
        normalized: &answer.normalizedSpec,
        language: &answer.specInfo.language,
        version: &answer.specInfo.version,
        variants: &answer.specInfo.variants,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_listed_aligned_and_shown_with_their_use() {
        let python = RuntimeInfo {
            name: "python-3.11".into(),
            version: "1.3.1".into(),
            description: "Python with numpy".into(),
            language: "python".into(),
            sizeBytes: (5 << 20) + 7,
            shared_bytes: 1 << 20,
            available: true,
            job_count: 2,
            ..RuntimeInfo::default()
        };
        assert_eq!(
            list(std::slice::from_ref(&python)),
            "RUNTIME      VERSION  SIZE  SHARED  JOBS  LAST USED  DESCRIPTION\n\
             python-3.11  1.3.1    5MiB  1MiB    2     never      Python with numpy\n"
        );
        assert_eq!(list(&[]), "No runtimes available.\n");
        let text = shown(&python);
        assert!(
            text.contains("Last Used: never\n") && text.contains("--runtime python-3.11@1.3.1"),
            "{text}"
        );
        assert!(!text.contains("GPU"), "{text}");
        let json = serde_json::to_value(info_json(&python)).unwrap();
        assert_eq!((&json["jobs"], &json["last_used"]), (&2.into(), &serde_json::Value::Null));
    }

    #[test]
    fn failed_test_shows_what_was_said() {
        let answer =
            RuntimeTestRes { output: "a\n\u{1b}[2Jb".into(), exitCode: 3, ..RuntimeTestRes::default() };
        let text = tested("x", &answer);
        assert!(text.starts_with("Runtime 'x' does not work\n  a\n") && !text.contains('\u{1b}'), "{text:?}");
    }
}
