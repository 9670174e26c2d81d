//! Builds of runtimes as the vessel of what tests run: `d.run([...])` becomes the script of a package, and its output and
//! exit code are those of the job that builds it. So a test about the walls of jobs is one about the walls of builds too.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::daemon::{Node, TestDaemon};
use super::network::default_network;
use super::rnx::Output;

thread_local! {
    static BUILDS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act` with daemons whose `run` runs everything in a build.
pub fn as_builds<T>(act: impl FnOnce() -> T) -> T {
    let before = BUILDS.replace(true);
    let done = act();
    BUILDS.set(before);
    done
}

/// Whether tests run things in builds.
pub fn has_builds() -> bool {
    BUILDS.get()
}

/// Gives builds of a node the network that its jobs have.
pub fn configure(node: &Node) {
    if has_builds() {
        node.set("runtime.build.network", default_network());
    }
}

/// The variables, files and command of a job, as `rnx job run` takes them. Builds have no other flag.
#[derive(Default)]
struct Job {
    variables: Vec<String>,
    uploads: Vec<String>,
    command: Vec<String>,
}

impl Job {
    fn of(args: Vec<OsString>) -> Job {
        let mut args = args.into_iter().map(|word| word.into_string().expect("a test writes text"));
        let mut job = Job::default();
        while let Some(word) = args.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_owned())),
                _ => (&*word, None),
            };
            let mut value = || value.clone().or_else(|| args.next()).expect("a flag has a value");
            match flag {
                "-e" => job.variables.push(value()),
                "--upload" => job.uploads.push(value()),
                flag if flag.starts_with('-') => panic!("a build has no {flag}"),
                _ => {
                    job.command = std::iter::once(word).chain(args).collect();
                    return job;
                }
            }
        }
        job
    }

    /// A package whose script does in /work what the job would do there.
    fn write(&self, dir: &Path, at: &Path) {
        fs::create_dir_all(dir.join("files")).unwrap();
        for upload in &self.uploads {
            let from = at.join(upload);
            fs::copy(&from, dir.join("files").join(from.file_name().expect("a file"))).unwrap();
        }
        let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
        let exports: String =
            self.variables.iter().map(|pair| format!("export {}\n", quoted(pair))).collect();
        let command: Vec<String> = self.command.iter().map(quoted).collect();
        let files = if self.uploads.is_empty() { "" } else { "mv package/files/* .\n" };
        let script = format!("#!/bin/sh\ncd /work\n{files}{exports}exec {}\n", command.join(" "));
        fs::write(dir.join("setup.sh"), script).unwrap();
        fs::set_permissions(dir.join("setup.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs a job's command in a build; the output and the exit code of its job.
#[track_caller]
pub fn run(d: &TestDaemon, args: Vec<OsString>) -> Output {
    let package = tempfile::tempdir().unwrap();
    Job::of(args).write(package.path(), d.dir());
    let before = builds(d);
    let from = package.path().to_str().unwrap();
    let built = d.rnx(["runtime", "install", "vessel", "--from", from]);
    let ids: Vec<String> = builds(d).into_iter().filter(|id| !before.contains(id)).collect();
    let [id] = ids.as_slice() else { panic!("no job has built it: {}", built.stderr) };
    let part = |stream: &str| d.rnx(["job", "log", stream, id]).stdout;
    let code = d.status(id)["exitCode"].as_i64().expect("the job has ended");
    let stderr = String::from_utf8_lossy(&part("--stream=stderr")).into_owned();
    Output { code: code.try_into().unwrap(), stdout: part("--stream=stdout"), stderr }
}

/// The ids of all jobs that build runtimes.
fn builds(d: &TestDaemon) -> Vec<String> {
    let list = d.rnx(["--json", "job", "list"]).json();
    let all = list.as_array().cloned().unwrap_or_default();
    let of_builds = all.iter().filter(|job| job["name"] == "runtime-build");
    of_builds.map(|job| job["uuid"].as_str().or(job["id"].as_str()).unwrap().to_owned()).collect()
}
