//! Builds: a job makes the files of a runtime.
//!
//! The job is like every other: the same walls, limits, log and record, started by the loop alone, which no client can ask for.
//! It sees the host's paths read-only, as jobs without a runtime do, its package read-only, and writes below /work, of which
//! one directory is its runtime. When its last process is gone, joblet-init still keeps /work; the build copies that directory beneath
//! descriptors ([`crate::runtime::Taker`]), and lets /work go. Only then has the job ended, and only if it ended well is the copy published.
//!
//! A build whose client goes is stopped, and so is one of an earlier daemon: nobody would take what it makes.

use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_channel::oneshot;

use super::{InstallEvent, Installer, refused};
use crate::daemon::command::{Answer, BuildJob, BuiltTree, Command, CommandError, CommandSender};
use crate::daemon::runtimes::{BUILD_PACKAGE, BUILD_PLACE, BUILD_PLACES};
use crate::diag::disk_remedy;
use crate::image;
use crate::job::runtime::{RuntimeName, RuntimeSpec, Version};
use crate::job::{Denial, Denials, JobId, JobRef, JobSpec, JobView, Status};
use crate::output::{Chunk, LogItem, LogQuery, LogStream, Stream};
use crate::runtime::description::{FILE, MAX_TEXT};
use crate::runtime::{Description, Staging, Taken, Taker, directory_beneath};
use crate::stream::{Next, Source};
use crate::sys::clock::now_ns;
use crate::upload::Upload;

/// The directory of /work that becomes the runtime.
pub(super) const TREE: &str = "runtime";
/// How long a stop that the loop has no room for waits, and how often a caller who has to be asked for it is.
const AGAIN: Duration = Duration::from_secs(1);
/// Destinations that a log names which a build was refused.
const MOST_REFUSALS: usize = 20;
/// Brings a package into /work, where its script may write beside itself.
const UNPACK: &str =
    "set -e\nmkdir package\ncp -R /opt/joblet/package/. package\ncd package\nchmod u+x \"$1\"\nexec \"./$1\"";

/// Whoever asked for an installation.
#[derive(Debug)]
pub struct Caller {
    /// The way to the loop, which runs the job of a build.
    pub commands: CommandSender,
    /// The way to learn that nobody waits for the installation any more.
    pub gone: Gone,
}

/// The way to learn that a caller has gone.
pub enum Gone {
    /// It resolves then.
    Told(oneshot::Receiver<()>),
    /// It has to be asked.
    Asked(Box<dyn FnMut() -> bool + Send>),
}

impl fmt::Debug for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gone::Told(_) => "Gone::Told",
            Gone::Asked(_) => "Gone::Asked",
        })
    }
}

/// A build of one name.
pub(super) struct Build<'a> {
    pub(super) installer: &'a Installer,
    pub(super) name: &'a RuntimeName,
}

/// The command of a build, with the files and variables for it.
pub(super) struct Work {
    /// Arguments of `/bin/sh`.
    pub(super) args: Vec<String>,
    /// Files for /work.
    pub(super) files: Vec<Upload>,
    /// Variables of the job.
    pub(super) environment: Vec<(String, String)>,
}

impl Build<'_> {
    /// Runs the script of a package; the directory of the runtime that it has made.
    pub(super) fn package(
        &self,
        package: Staging,
        (script, spec, version): (&str, &RuntimeSpec, Option<&Version>),
        job: Box<JobSpec>,
        caller: Caller,
        tell: &mut impl FnMut(InstallEvent),
    ) -> Result<(Staging, JobId), CommandError> {
        let aside = self.stage()?;
        self.disk(fs::rename(package.path(), aside.path().join(BUILD_PACKAGE)))?;
        let words = ["-c", UNPACK, "sh", script].map(str::to_owned).to_vec();
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let environment = vec![
            pair("RUNTIME_SPEC", spec.to_string()),
            pair("RUNTIME_NAME", self.name.to_string()),
            pair("RUNTIME_VERSION", version.map(ToString::to_string).unwrap_or_default()),
            pair("RUNTIME_DIR", BUILD_PLACES[0].to_owned()),
            pair("BUILD_ID", format!("install-{now}")),
            pair("JOBLET_CHROOT", "true".to_owned()),
        ];
        let work = Work { args: words, files: Vec::new(), environment };
        let (taken, id) =
            self.run(&aside, work, job, caller, &mut |chunk| tell(InstallEvent::Log(chunk.bytes)))?;
        for note in taken.notes {
            tell(InstallEvent::Log(format!("{note}\n").into_bytes()));
        }
        let found = self.described(&aside.path().join(TREE))?;
        if let Some(version) = version {
            self.give_version(&found, version)?;
        }
        let top = self.stage()?;
        // Onto an empty directory.
        self.disk(fs::rename(&found, top.path()))?;
        Ok((top, id))
    }

    /// The directory with the description: the top, or below the directories of its name and version.
    fn described(&self, tree: &Path) -> Result<PathBuf, CommandError> {
        let mut dir = tree.to_owned();
        for _ in 0..3 {
            if fs::symlink_metadata(dir.join(FILE)).is_ok() {
                return Ok(dir);
            }
            let entries = self.disk(fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>))?;
            match entries.as_slice() {
                [only] if only.file_type().is_ok_and(|kind| kind.is_dir()) => dir = only.path(),
                _ => break,
            }
        }
        let place = BUILD_PLACES[0];
        Err(self.invalid(&format!("its script has left no {FILE} in {place}, NAME or NAME/VERSION below")))
    }

    /// A script need not know the version for which it is run.
    fn give_version(&self, dir: &Path, version: &Version) -> Result<(), CommandError> {
        let path = dir.join(FILE);
        let meta = self.disk(fs::symlink_metadata(&path))?;
        if !meta.is_file() || meta.len() > MAX_TEXT as u64 {
            return Err(self.invalid(&format!("{FILE} is no file, or too long")));
        }
        let text = self.disk(fs::read_to_string(&path))?;
        let read =
            Description::parse(&text, Path::new(FILE)).map_err(|why| self.invalid(&why.to_string()))?;
        if read.version == *version {
            return Ok(());
        }
        let read = Description { version: version.clone(), ..read };
        self.disk(fs::write(&path, read.to_yaml()))
    }

    /// Runs a job and copies what it leaves into `runtime` of the directory `aside`. `tell` gets its output.
    ///
    /// # Errors
    /// The job is refused, fails or is stopped; a bound of the copy; the disk. The directory is to be removed then.
    pub(super) fn run(
        &self,
        aside: &Staging,
        work: Work,
        job: Box<JobSpec>,
        caller: Caller,
        tell: &mut dyn FnMut(Chunk),
    ) -> Result<(Taken, JobId), CommandError> {
        for dir in [BUILD_PLACE, BUILD_PACKAGE, TREE] {
            match fs::create_dir(aside.path().join(dir)) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                made => self.disk(made)?,
            }
        }
        let Work { args, mut files, environment } = work;
        files.push(Upload { path: TREE.into(), is_directory: true, ..Upload::default() });
        let build = Some(aside.path().to_owned());
        let spec = Box::new(JobSpec { args, environment, build, ..*job });
        let (bell, commands) = (Bell::new(), caller.commands.clone());
        let built = Followed { bell: &bell, caller, stop: None }.follow(spec, files, tell, |tree| {
            let tree = tree.is_good().then_some(tree)?;
            Some(self.take(&tree.work, &aside.path().join(TREE)))
        })?;
        let Ended { id, view, taken } = built;
        if view.denials > 0 {
            tell_refusals(&bell, &commands, id, tell);
        }
        let ending = view.ending.as_ref();
        if ending.is_none_or(|ending| ending.status != Status::Completed) {
            let why = match ending {
                Some(ending) if !ending.message.is_empty() => ending.message.clone(),
                Some(ending) => format!("exit code {}", ending.code),
                None => "it did not end".to_owned(),
            };
            return Err(CommandError::WrongState(format!(
                "cannot build runtime \"{}\": its job {id} failed: {why}; rnx job log {} shows what it wrote",
                self.name,
                id.short()
            )));
        }
        match taken {
            Some(Ok(taken)) => Ok((taken, id)),
            Some(Err(why)) if why.raw_os_error().is_none() => Err(self.invalid(&why.to_string())),
            Some(Err(why)) => Err(self.failed(&why)),
            None => Err(self.invalid("its job has left no files")),
        }
    }

    fn take(&self, work: &OwnedFd, to: &Path) -> io::Result<Taken> {
        let limits = self.installer.limits;
        let has_room = |dir: std::os::fd::BorrowedFd<'_>, bytes| image::has_room(dir, bytes);
        let taker = Taker { bytes: limits.bytes, entries: limits.entries, has_room };
        taker.copy(directory_beneath(work, TREE)?.as_fd(), File::open(to)?.as_fd())
    }

    pub(super) fn stage(&self) -> Result<Staging, CommandError> {
        self.installer.store.stage().map_err(|why| refused("build", self.name, why))
    }

    pub(super) fn disk<T>(&self, result: io::Result<T>) -> Result<T, CommandError> {
        result.map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &io::Error) -> CommandError {
        let remedy = disk_remedy(why);
        CommandError::SetUp(format!("cannot build runtime \"{}\": {why}; {remedy}", self.name))
    }

    pub(super) fn invalid(&self, why: &str) -> CommandError {
        CommandError::Invalid(format!("cannot build runtime \"{}\": {why}", self.name))
    }
}

/// Tells what the network of a build has refused, and the setting that would allow it. The record of its job has all of it.
fn tell_refusals(bell: &Bell, commands: &CommandSender, id: JobId, tell: &mut dyn FnMut(Chunk)) {
    let (answer, mut asked) = oneshot::channel();
    if commands.submit(Command::Denials { job: JobRef::Exact(id), answer }).is_err() {
        return;
    }
    let denials = loop {
        match bell.poll(&mut asked) {
            Some(answer) => break answer,
            None => drop(bell.rung.recv()),
        }
    };
    let Ok(Ok(Denials { mut rows, .. })) = denials else { return };
    let more = rows.len().saturating_sub(MOST_REFUSALS);
    rows.truncate(MOST_REFUSALS);
    let mut text: String = rows.iter().map(refusal).collect();
    if more > 0 {
        text.push_str(&format!("refused: {more} more; rnx job denials {} shows all\n", id.short()));
    }
    let (stream, time_ns) = (Stream::Stderr, now_ns());
    tell(Chunk { sequence: 0, stream, time_ns, bytes: text.into_bytes(), lost: 0 });
}

/// A line about a destination that a build was refused.
fn refusal(denial: &Denial) -> String {
    let Denial { name, address, port, protocol, rule, allow, .. } = denial;
    let to = match address {
        Some(address) if *port > 0 => SocketAddr::new(*address, *port).to_string(),
        Some(address) => address.to_string(),
        None => name.clone(),
    };
    let remedy = if allow.is_empty() { String::new() } else { format!("; to allow it: {allow}") };
    format!("refused: {to} ({protocol}): {rule}{remedy}\n")
}

/// Wakes the thread of a build, whatever there is to look at.
struct Bell {
    ring: Sender<()>,
    rung: Receiver<()>,
    waker: Waker,
}

struct Ring(Sender<()>);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        ring_softly(&self.0);
    }
}

/// Rings a bell that may be rung already.
fn ring_softly(ring: &Sender<()>) {
    let _ = ring.try_send(());
}

impl Bell {
    fn new() -> Bell {
        let (ring, rung) = bounded(1);
        let waker = Waker::from(Arc::new(Ring(ring.clone())));
        Bell { ring, rung, waker }
    }

    /// The outcome of a future that is there. It rings when there is one.
    fn poll<T>(&self, future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        match Pin::new(future).poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}

/// A job that is followed to its end.
struct Followed<'b> {
    bell: &'b Bell,
    caller: Caller,
    /// The answer to the stop of a job whose caller has gone.
    stop: Option<oneshot::Receiver<Result<JobView, CommandError>>>,
}

/// The end of a job.
struct Ended {
    id: JobId,
    view: JobView,
    /// The copy of its files; `None`: it left none, or has failed.
    taken: Option<io::Result<Taken>>,
}

impl Followed<'_> {
    fn follow(
        mut self,
        spec: Box<JobSpec>,
        files: Vec<Upload>,
        tell: &mut dyn FnMut(Chunk),
        take: impl FnOnce(BuiltTree) -> Option<io::Result<Taken>>,
    ) -> Result<Ended, CommandError> {
        let mut asked = self.ask(|answer| Command::Build { spec, files, answer })?;
        let BuildJob { log, tree, ended } = loop {
            match self.bell.poll(&mut asked) {
                // The loop drops a command without a reply only when it ends.
                Some(answer) => break answer.unwrap_or(Err(CommandError::ShuttingDown))?,
                None => self.wait(None),
            }
        };
        let id = log.id;
        let mut output = LogStream::new(log.dir, log.history, log.watermark, LogQuery::default());
        let ring = self.bell.ring.clone();
        let listener = output.watermark().listen(Box::new(move || ring_softly(&ring)));
        let (mut tree, mut take, mut taken) = (Some(tree), Some(take), None);
        let (mut ended, mut view, mut is_read) = (Some(ended), None, false);
        loop {
            listener.acknowledge();
            is_read = is_read || read(&mut output, tell);
            if let Some(got) = tree.as_mut().and_then(|tree| self.bell.poll(tree)) {
                tree = None;
                taken = got.ok().zip(take.take()).and_then(|(tree, take)| take(tree));
            }
            if let Some(got) = ended.as_mut().and_then(|ended| self.bell.poll(ended)) {
                ended = None;
                let (last, _) = got.unwrap_or(Err(CommandError::ShuttingDown))?;
                view = Some(last);
            }
            match view.take_if(|_| is_read) {
                Some(view) => return Ok(Ended { id, view, taken }),
                None => self.wait(Some(id)),
            }
        }
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<oneshot::Receiver<Result<T, CommandError>>, CommandError> {
        let (answer, asked) = oneshot::channel();
        self.caller.commands.submit(command(answer))?;
        Ok(asked)
    }

    /// Waits for the bell. A job whose caller has gone is stopped.
    fn wait(&mut self, job: Option<JobId>) {
        let mut asks_again = false;
        if let (Some(id), None) = (job, &self.stop) {
            let is_gone = match &mut self.caller.gone {
                Gone::Told(gone) => self.bell.poll(gone).is_some(),
                Gone::Asked(is_gone) => is_gone(),
            };
            if is_gone {
                let grace = Some(Duration::ZERO);
                let stop = |answer| Command::Stop { job: JobRef::Exact(id), grace, answer };
                self.stop = self.ask(stop).ok();
            }
            asks_again = self.stop.is_none() && (is_gone || matches!(self.caller.gone, Gone::Asked(_)));
        }
        if asks_again {
            let _ = self.bell.rung.recv_timeout(AGAIN);
        } else {
            let _ = self.bell.rung.recv();
        }
    }
}

/// Hands on what there is of a job's output; whether that was all. Output that cannot be read ends no build.
fn read(output: &mut LogStream, tell: &mut dyn FnMut(Chunk)) -> bool {
    loop {
        match output.next() {
            Ok(Next::Item(LogItem::Output(chunk))) if chunk.bytes.is_empty() => {}
            Ok(Next::Item(LogItem::Output(chunk))) => tell(chunk),
            Ok(Next::Item(LogItem::Wait { .. }) | Next::Yield) => {}
            Ok(Next::Pending) => return false,
            Ok(Next::End) | Err(_) => return true,
        }
    }
}
