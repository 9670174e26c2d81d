//! A workflow file from the disk, read and checked without a server.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::error::{Error, Result};
use super::super::upload::Uploads;
use crate::workflow::{self, MAX_TEXT, Workflow};

/// A workflow file that was read and checked.
#[derive(Debug)]
pub(super) struct WorkflowFile {
    /// The text of the file, unchanged.
    pub(super) text: String,
    /// The jobs that the text describes.
    pub(super) workflow: Workflow,
    /// The files that its jobs upload: the name in the workflow and where it is, each name once.
    uploads: Vec<(String, PathBuf)>,
}

impl WorkflowFile {
    /// The files to send with the workflow; nothing is read yet.
    ///
    /// # Errors
    /// A file is gone.
    pub(super) fn uploads(&self) -> Result<Uploads> {
        let mut uploads = Uploads::default();
        for (name, path) in &self.uploads {
            uploads.add_file_as(path, name)?;
        }
        Ok(uploads)
    }
}

/// Reads and checks a workflow file; `-` is stdin.
///
/// # Errors
/// The file cannot be read, breaks a rule, or names an upload that does not exist.
pub(super) fn read(path: &str) -> Result<WorkflowFile> {
    let text = text(path)?;
    let workflow = workflow::parse(&text).map_err(|e| refused(format!("{}: {e}", named(path))))?;
    let base = if path == "-" { None } else { Path::new(path).parent() };
    let uploads = find_uploads(&workflow, base.unwrap_or(Path::new("")))?;
    Ok(WorkflowFile { text, workflow, uploads })
}

fn refused(text: String) -> Error {
    Error::Workflow(text.into())
}

fn named(path: &str) -> &str {
    if path == "-" { "stdin" } else { path }
}

fn text(path: &str) -> Result<String> {
    let opened: io::Result<Box<dyn Read>> = match path {
        "-" => Ok(Box::new(io::stdin())),
        _ => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let mut bytes = Vec::new();
    // One byte more than a workflow may have: the parser then says what is too long.
    let most = MAX_TEXT as u64 + 1;
    match opened.and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8(bytes).map_err(|_| refused(format!("{}: it is not UTF-8", named(path)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(refused(format!("workflow file not found: {path}")))
        }
        Err(e) => Err(refused(format!("cannot read the workflow file {}: {e}", named(path)))),
    }
}

/// The file of an upload: beside the workflow file, or as it is written.
fn upload(base: &Path, file: &str) -> Option<PathBuf> {
    [base.join(file), PathBuf::from(file)].into_iter().find(|path| path.is_file())
}

fn find_uploads(workflow: &Workflow, base: &Path) -> Result<Vec<(String, PathBuf)>> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for job in &workflow.jobs {
        for file in &job.uploads {
            if !seen.insert(file) {
                continue;
            }
            let Some(path) = upload(base, file) else {
                let place = if base.as_os_str().is_empty() { Path::new(".") } else { base };
                let (name, place) = (&job.name, place.display());
                return Err(refused(format!("job '{name}': upload {file:?} is no file in {place}")));
            };
            found.push((file.clone(), path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_their_uploads_found_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flow.yaml");
        let name = path.display().to_string();
        assert_eq!(read(&name).unwrap_err().to_string(), format!("workflow file not found: {name}"));
        std::fs::write(&path, "jobs: {a: {command: x, uploads: {files: [data.csv]}}}").unwrap();
        let error = read(&name).unwrap_err();
        assert!(error.to_string().contains("job 'a': upload \"data.csv\" is no file in "), "{error}");
        assert_eq!((error.code(), error.exit_code(None)), ("INVALID_ARGUMENT", 1));
        std::fs::write(dir.path().join("data.csv"), "1").unwrap();
        let file = read(&name).unwrap();
        let sent: Vec<String> = file.uploads().unwrap().entries.into_iter().map(|e| e.path).collect();
        assert_eq!((file.workflow.jobs.len(), sent), (1, vec!["data.csv".to_owned()]));
        std::fs::write(&path, "jbos: {}").unwrap();
        assert!(read(&name).unwrap_err().to_string().contains("flow.yaml: line 1, column 1: unknown key"));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(read(&name).unwrap_err().to_string().ends_with("flow.yaml: it is not UTF-8"));
        assert!(read(&dir.path().display().to_string()).unwrap_err().to_string().starts_with("cannot read"));
    }
}
