//! Imported and installed runtimes, as texts and as JSON.

use serde::Serialize;

use super::super::terminal::one_line;
use crate::job::units::format_size;
use crate::pb::joblet::{ImportRuntimeResponse, RuntimeInstallationResult};

/// The answer to `runtime import`.
pub(crate) fn imported(made: &ImportRuntimeResponse) -> String {
    let runtime = one_line(&format!("{}@{}", made.name, made.version));
    let layers = i64::from(made.layers_new) + i64::from(made.layers_shared);
    let mut text = format!(
        "Image imported successfully:\n  Runtime: {runtime}\n  Size: {}\n  Layers: {layers}, of which {} were there \
         already\n",
        size(made),
        made.layers_shared
    );
    for note in &made.notes {
        text.push_str(&format!("  Note: {}\n", one_line(note)));
    }
    text.push_str(&format!("Use it with: rnx job run --runtime {runtime} <command>\n"));
    text
}

fn size(made: &ImportRuntimeResponse) -> String {
    let bytes = u64::try_from(made.size_bytes).unwrap_or_default();
    // Whole units read better than bytes; a size on disk is no figure to calculate with.
    let shift = [30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    format_size(bytes >> shift << shift)
}

/// The answer to `runtime install`.
pub(crate) fn installed(made: &RuntimeInstallationResult) -> String {
    let runtime = one_line(&made.runtime_spec);
    format!(
        "{}\n  Runtime: {runtime}\n  Path: {}\nUse it with: rnx job run --runtime {runtime} <command>\n",
        one_line(&made.message),
        one_line(&made.install_path)
    )
}

/// The JSON of `runtime install`.
#[derive(Debug, Serialize)]
pub(crate) struct InstallJson<'a> {
    success: bool,
    message: &'a str,
    runtime: &'a str,
    path: &'a str,
}

/// The JSON of `runtime install`.
pub(crate) fn installed_json(made: &RuntimeInstallationResult) -> InstallJson<'_> {
    InstallJson {
        success: made.success,
        message: &made.message,
        runtime: &made.runtime_spec,
        path: &made.install_path,
    }
}

/// The answer in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ImportJson<'a> {
    name: &'a str,
    version: &'a str,
    size_bytes: i64,
    layers_new: i32,
    layers_shared: i32,
    notes: &'a [String],
}

/// The JSON of `runtime import`.
pub(crate) fn imported_json(made: &ImportRuntimeResponse) -> ImportJson<'_> {
    ImportJson {
        name: &made.name,
        version: &made.version,
        size_bytes: made.size_bytes,
        layers_new: made.layers_new,
        layers_shared: made.layers_shared,
        notes: &made.notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_the_runtime_its_layers_and_what_was_left_out() {
        let made = ImportRuntimeResponse {
            name: "app".into(),
            version: "2.1.0".into(),
            size_bytes: 123_456_789,
            layers_new: 2,
            layers_shared: 1,
            notes: vec!["cleared the setuid or setgid bit of \"bin/su\"".into()],
            ..Default::default()
        };
        let expected = "Image imported successfully:\n  Runtime: app@2.1.0\n  Size: 117MiB\n  Layers: 3, of which 1 were \
                        there already\n  Note: cleared the setuid or setgid bit of \"bin/su\"\nUse it with: rnx job run \
                        --runtime app@2.1.0 <command>\n";
        assert_eq!(imported(&made), expected);
    }
}
