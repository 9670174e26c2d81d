//! `rnx runtime install`

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::import;
use super::super::terminal::lines;
use super::super::upload::Uploads;
use super::connect;
use crate::pb::joblet::{
    FileUpload, InstallRuntimeFromLocalRequest, InstallRuntimeRequest, RuntimeFile, RuntimeInstallationChunk,
    RuntimeInstallationResult,
};

/// `rnx runtime install` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "install"],
    alias: false,
    usage: "<name>[@<version>] [--from DIR] [--force]",
    operands: Operands::One("name"),
    flags: FLAGS,
    summary: "Install a runtime from a registry or a directory",
    about: "Without --from the node fetches it from a registry, checks its digest and unpacks it. With\n\
            --from the files of a directory are sent; at its top there is a runtime.yml, or a setup.sh that\n\
            makes the runtime in a job of the node. Without a version it is the highest of the registry,\n\
            or the one in runtime.yml.",
    examples: &[
        "rnx runtime install python-3.11-ml",
        "rnx runtime install openjdk-21@1.3.1 --registry owner/repository",
        "rnx runtime install app --from ./app",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value("from", "DIR", Group::Selection, "The directory whose files are the runtime"),
    value(
        "registry",
        "PLACE",
        Group::Selection,
        "OWNER/REPOSITORY of GitHub, or the URL of a directory with registry.json;\n\
         that of the node's configuration without it",
    ),
    value("branch", "NAME", Group::Selection, "The branch of the repository (default main)"),
    switch(
        "force",
        Some('f'),
        Group::Start,
        "Replace the runtime of this name and version, unless jobs have it",
    ),
];

/// Installs a runtime, and prints on stderr what is done.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let spec = invocation.operands.first().cloned().unwrap_or_default();
    let text = |flag| invocation.values.last(flag).unwrap_or_default();
    let (from, registry, branch) = (text("from"), text("registry"), text("branch"));
    let force = invocation.values.is("force");
    let names_a_registry = !registry.is_empty() || !branch.is_empty();
    if !from.is_empty() && names_a_registry {
        return Err(Error::usage("--from and --registry exclude each other: the files have one place"));
    }
    let mut result = None;
    let each = |chunk: &RuntimeInstallationChunk| {
        if chunk.has_progress() {
            let at = chunk.progress();
            out.note(&format!("[{}/{}] {}", at.step, at.total_steps, lines(&at.message)));
        }
        if chunk.has_log() {
            out.note(lines(&String::from_utf8_lossy(&chunk.log().data)).trim_end());
        }
        if chunk.has_result() {
            result = Some(chunk.result().clone());
        }
        Ok(())
    };
    if from.is_empty() {
        let server = connect(&invocation.values, out)?;
        let request = InstallRuntimeRequest {
            runtimeSpec: spec,
            repository: registry,
            branch,
            forceReinstall: force,
            ..Default::default()
        };
        server.install_from_registry(&request, each)?;
    } else {
        let files = files(&from)?;
        let server = connect(&invocation.values, out)?;
        let request = InstallRuntimeFromLocalRequest {
            runtimeSpec: spec,
            files,
            forceReinstall: force,
            ..Default::default()
        };
        server.install_from_files(&request, each)?;
    }
    let made: RuntimeInstallationResult = result.ok_or_else(|| {
        Error::Follow("the server did not say how the installation ended".to_owned().into())
    })?;
    if out.json { out.value(&import::installed_json(&made)) } else { out.text(&import::installed(&made)) }
}

/// The files of a directory. A runtime that is sent has no links.
fn files(dir: &str) -> Result<Vec<RuntimeFile>> {
    let cannot = |why: String| Error::Upload(format!("cannot install from {dir}: {why}").into());
    let mut found = Uploads::default();
    found.add_tree(dir)?;
    if !found.fit() {
        let hint = "publish it as an archive in a registry";
        return Err(cannot("its files are more than one request holds (124 MiB)".to_owned()).hint(hint));
    }
    found.read(|_, _| {})?;
    if let Some(warning) = found.warnings.first() {
        return Err(cannot(warning.clone()));
    }
    let is_file = |file: &FileUpload| !file.isDirectory;
    let file = |file: FileUpload| {
        if !file.symlink_target.is_empty() || file.path.is_empty() {
            return Err(cannot(format!("{} is a link, or its name is not UTF-8", file.path)));
        }
        let executable = file.mode & 0o111 != 0;
        Ok(RuntimeFile { path: file.path, content: file.content, executable, ..Default::default() })
    };
    std::mem::take(&mut found.entries).into_iter().filter(is_file).map(file).collect()
}
