//! Building a runtime from a recipe: `build.sh` makes its files in a job, and the description is written here.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::Level;

use super::build::{Build, Caller, Work};
use super::{Claim, Installer, refused};
use crate::daemon::command::CommandError;
use crate::diag;
use crate::image;
use crate::job::runtime::RuntimeId;
use crate::job::{JobSpec, units};
use crate::output::{Chunk, Stream};
use crate::registry::{OS_RELEASE, platform};
use crate::runtime::description::FILE;
use crate::runtime::{RECIPE_FILES, RECIPE_PLACE, Recipe, RuntimeError, Sharing};
use crate::sys::clock::now_ns;
use crate::upload::Upload;

/// The script of the job.
const SCRIPT: &str = include_str!("build.sh");
/// Its lines that begin a phase, with the number.
const MARK: &str = "==> phase ";
/// The phases of a build, in their order. Those that the script begins are among them.
const PHASES: [&str; 10] =
    ["check", "prepare", "start", "pre_install", "base", "pip", "npm", "post_install", "collect", "publish"];
/// The phases that the script may begin.
const OF_SCRIPT: std::ops::RangeInclusive<usize> = 4..=8;
/// Bytes that must be free before a build begins.
const ROOM: u64 = 1 << 30;
/// Longest line that is sent as one.
const LINE: usize = 8 << 10;

/// A runtime that a client wants built.
#[derive(Debug)]
pub struct BuildRequest {
    /// The recipe, already checked.
    pub recipe: Recipe,
    /// Whether nothing is built, but all is checked that can be checked before.
    pub dry_run: bool,
    /// Whether it replaces the same version.
    pub replace: bool,
    /// Whether everything that its programs write is sent, not only what they write to stderr.
    pub verbose: bool,
    /// The job that builds it: its limits, its network and its time.
    pub job: Box<JobSpec>,
}

/// A report of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// A phase begins.
    Phase {
        /// Its number, from 1.
        number: u32,
        /// The number of the last one.
        of: u32,
        /// A word for it.
        name: &'static str,
        /// A sentence about it.
        message: String,
    },
    /// A line that a program of the build has written.
    Line {
        /// Whether it was written to stderr.
        is_error: bool,
        /// The line without its end.
        text: String,
        /// When it was read, ns since the epoch.
        time_ns: i64,
    },
}

/// A runtime that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltRuntime {
    /// Its name and version.
    pub id: RuntimeId,
    /// The outcome in words.
    pub message: String,
    /// The directory of its files; empty where nothing was built.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// The time that it took.
    pub took: Duration,
}

/// The claim to one build, from its request to its end.
#[derive(Debug)]
pub struct RecipeBuild {
    claim: Claim,
    request: BuildRequest,
}

impl Installer {
    /// The right to a build of this name, which no other has meanwhile. Never waits.
    ///
    /// # Errors
    /// The name is being installed, there are as many installations as may be, or the version is there.
    pub fn build(&self, request: BuildRequest) -> Result<RecipeBuild, CommandError> {
        let id = &request.recipe.id;
        if !request.replace && self.store.list().iter().any(|runtime| runtime.id == *id) {
            return Err(refused("build", &id.name, RuntimeError::Exists(id.clone())));
        }
        Ok(RecipeBuild { claim: self.claim(&id.name)?, request })
    }
}

impl RecipeBuild {
    /// Builds the runtime. `tell` gets what is done. Waits for the job and for the disk.
    ///
    /// # Errors
    /// The recipe is for another host; the job is refused, fails or is stopped; the runtime is there or in use; the disk's
    /// refusal. Nothing is offered then.
    pub fn run(self, caller: Caller, mut tell: impl FnMut(BuildEvent)) -> Result<BuiltRuntime, CommandError> {
        let RecipeBuild { claim, request } = self;
        let BuildRequest { recipe, dry_run, replace, verbose, job } = request;
        let (began, id) = (Instant::now(), recipe.id.clone());
        let build = Build { installer: &claim.installer, name: &id.name };
        tell(phase(1, format!("checking {id} for this host")));
        suits_this_host(&build, &recipe)?;
        let aside = build.stage()?;
        build.disk(File::open(aside.path()).and_then(|dir| image::has_room(&dir, ROOM)))?;
        if dry_run {
            let message = format!("runtime {id} can be built; nothing was built");
            return Ok(BuiltRuntime { id, message, path: PathBuf::new(), bytes: 0, took: began.elapsed() });
        }
        tell(phase(2, format!("writing the script and {} packages", recipe.pip.len() + recipe.npm.len())));
        let work = work(&recipe);
        tell(phase(3, "starting the job that builds it".to_owned()));
        let mut lines = Lines { verbose, rest: Default::default() };
        let (taken, _) = build.run(&aside, work, job, caller, &mut |chunk| lines.add(&chunk, &mut tell))?;
        lines.end(&mut tell);
        tell(phase(9, format!("took {} files of {}", taken.entries, units::format_size(taken.bytes))));
        for note in taken.notes {
            tell(BuildEvent::Line { is_error: true, text: note, time_ns: now_ns() });
        }
        tell(phase(10, format!("publishing {id}")));
        let whole = build.stage()?;
        build.disk(fs::rename(aside.path().join(super::build::TREE), whole.path().join(RECIPE_FILES)))?;
        build.disk(fs::write(whole.path().join(FILE), recipe.to_description().to_yaml()))?;
        let store = &claim.installer.store;
        let runtime = store.publish(whole, &id, replace).map_err(|why| refused("build", &id.name, why))?;
        let (bytes, _) = store.sizes(&runtime, &Sharing::default());
        diag::event!(Level::Info, "runtime built", runtime = id, bytes = bytes);
        let message = format!("runtime {id} was built");
        Ok(BuiltRuntime { id, message, path: runtime.dir.clone(), bytes, took: began.elapsed() })
    }
}

fn phase(number: usize, message: String) -> BuildEvent {
    let name = PHASES.get(number - 1).copied().unwrap_or_default();
    BuildEvent::Phase { number: number as u32, of: PHASES.len() as u32, name, message }
}

fn suits_this_host(build: &Build<'_>, recipe: &Recipe) -> Result<(), CommandError> {
    let here = platform(&fs::read_to_string(OS_RELEASE).unwrap_or_default(), std::env::consts::ARCH);
    if !recipe.platforms.is_empty() && !recipe.platforms.contains(&here) {
        let wanted = recipe.platforms.join(" and ");
        return Err(build.invalid(&format!("it is for {wanted}, and this host is {here}")));
    }
    let host = rustix::system::sysinfo();
    let memory = (host.totalram as u64).saturating_mul(host.mem_unit.into());
    if memory < recipe.min_memory {
        let (wanted, there) = (recipe.min_memory >> 20, memory >> 20);
        return Err(build.invalid(&format!("it needs a host of {wanted} MiB, and this one has {there} MiB")));
    }
    Ok(())
}

/// The script with everything that it reads. Nothing of the recipe is part of a command line of a shell.
fn work(recipe: &Recipe) -> Work {
    let file = |name: &str, text: String, mode: u32| Upload {
        path: format!("build/{name}").into_bytes(),
        content: text.into_bytes(),
        mode,
        ..Upload::default()
    };
    let list = |texts: &[String]| texts.iter().map(|text| format!("{text}\n")).collect::<String>();
    let files = vec![
        file("build.sh", SCRIPT.to_owned(), 0o755),
        file("pip", list(&recipe.pip), 0o644),
        file("pip_options", list(&recipe.pip_options), 0o644),
        file("npm", list(&recipe.npm), 0o644),
        file("npm_options", list(&recipe.npm_options), 0o644),
        file("pre_install", recipe.pre_install.clone(), 0o755),
        file("post_install", recipe.post_install.clone(), 0o755),
    ];
    let id = &recipe.id;
    let environment = [
        ("RUNTIME_SPEC", id.to_string()),
        ("RUNTIME_NAME", id.name.to_string()),
        ("RUNTIME_VERSION", id.version.to_string()),
        ("RUNTIME_DIR", RECIPE_PLACE.to_owned()),
        ("LANGUAGE", recipe.language.as_str().to_owned()),
        ("LANGUAGE_VERSION", recipe.language_version.clone()),
        ("HOOK_TIMEOUT", recipe.hook_time.as_secs().to_string()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Work { args: vec!["/work/build/build.sh".to_owned()], files, environment }
}

/// Cuts the output of a build into lines.
struct Lines {
    verbose: bool,
    /// The beginning of a line of stdout and of stderr.
    rest: [Vec<u8>; 2],
}

impl Lines {
    fn add(&mut self, chunk: &Chunk, tell: &mut impl FnMut(BuildEvent)) {
        let is_error = chunk.stream == Stream::Stderr;
        for byte in &chunk.bytes {
            let rest = &mut self.rest[usize::from(is_error)];
            if *byte != b'\n' {
                rest.push(*byte);
            }
            if *byte == b'\n' || rest.len() >= LINE {
                let line = std::mem::take(rest);
                self.tell(is_error, &line, chunk.time_ns, tell);
            }
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(BuildEvent)) {
        for is_error in [false, true] {
            let line = std::mem::take(&mut self.rest[usize::from(is_error)]);
            if !line.is_empty() {
                self.tell(is_error, &line, now_ns(), tell);
            }
        }
    }

    fn tell(&self, is_error: bool, line: &[u8], time_ns: i64, tell: &mut impl FnMut(BuildEvent)) {
        let text = String::from_utf8_lossy(line).into_owned();
        let begun = text.strip_prefix(MARK).filter(|_| !is_error).and_then(|rest| rest.split_once(": "));
        let begun = begun.and_then(|(number, said)| Some((number.parse::<usize>().ok()?, said)));
        match begun.filter(|(number, _)| OF_SCRIPT.contains(number)) {
            Some((number, said)) => tell(phase(number, said.to_owned())),
            None if is_error || self.verbose => tell(BuildEvent::Line { is_error, text, time_ns }),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verbose: bool, parts: &[(Stream, &str)]) -> Vec<String> {
        let (mut lines, mut said) = (Lines { verbose, rest: Default::default() }, Vec::new());
        let mut tell = |event| {
            said.push(match event {
                BuildEvent::Phase { number, of, name, message } => format!("{number}/{of} {name}: {message}"),
                BuildEvent::Line { is_error, text, .. } => format!("{is_error} {text}"),
            });
        };
        for (stream, text) in parts {
            let bytes = text.as_bytes().to_vec();
            let chunk = Chunk { sequence: 1, stream: *stream, time_ns: 7, bytes, lost: 0 };
            lines.add(&chunk, &mut tell);
        }
        lines.end(&mut tell);
        said
    }

    #[test]
    fn marked_lines_are_phases_and_others_lines() {
        let out = [
            (Stream::Stdout, "==> pha"),
            (Stream::Stderr, "wrong\n"),
            (Stream::Stdout, "se 6: three packages\nsaid\n"),
            (Stream::Stdout, "==> phase 99: no\n==> phase 10: never\nlast"),
        ];
        let phases = ["true wrong", "6/10 pip: three packages"];
        assert_eq!(told(false, &out), phases);
        let all = ["false said", "false ==> phase 99: no", "false ==> phase 10: never", "false last"];
        assert_eq!(told(true, &out), [&phases[..], &all[..]].concat());
        assert_eq!(told(true, &[(Stream::Stdout, &"x".repeat(LINE * 2 + 1))]).len(), 3);
    }
}
