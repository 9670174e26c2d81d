//! Installing a runtime from files: those of a client, or the archive of a registry.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::build::{Build, Caller};
use super::{Claim, InstallEvent, InstallRequest, InstalledRuntime, Installer, Origin, refused, scratch};
use crate::daemon::command::CommandError;
use crate::diag::disk_remedy;
use crate::image;
use crate::job::runtime::{RuntimeId, RuntimeName, RuntimeSpec, Version, Wanted};
use crate::registry::{self, Downloads, Index, OS_RELEASE, Release};
use crate::runtime::description::{FILE, MAX_TEXT};
use crate::runtime::{Description, Staging};
use crate::upload::{Upload, write_beneath};

/// The script of a package that is to be built. One for a platform goes before it.
const SCRIPT: &str = "setup.sh";
/// Bytes between two reports of a download.
const REPORT: u64 = 4 << 20;

/// The claim to one installation, from its request to its end.
#[derive(Debug)]
pub struct Installation {
    claim: Claim,
    request: InstallRequest,
}

impl Installer {
    /// The right to an installation of this name, which no other has meanwhile. Never waits.
    ///
    /// # Errors
    /// The name is being installed, or there are as many installations as may be.
    pub fn install(&self, request: InstallRequest) -> Result<Installation, CommandError> {
        let claim = self.claim(&request.spec.name)?;
        Ok(Installation { claim, request })
    }
}

impl Installation {
    /// Installs the runtime. `tell` gets what is done. Waits for the network and for the disk.
    ///
    /// # Errors
    /// The files are no runtime; the registry does not have it or does not answer; it is there or in use; the disk's
    /// refusal. Nothing is offered then.
    pub fn run(
        self,
        caller: Caller,
        mut tell: impl FnMut(InstallEvent),
    ) -> Result<InstalledRuntime, CommandError> {
        let Installation { claim, request } = self;
        let InstallRequest { spec, origin, replace, job } = request;
        let install = Install { installer: &claim.installer, spec: &spec, replace };
        let unbuilt = match origin {
            Origin::Files(files) => install.files(&files, &mut tell)?,
            Origin::Registry { place, branch } => match install.registry(&place, &branch, &mut tell)? {
                Found::There(there) => return Ok(there),
                Found::Package(unbuilt) => unbuilt,
            },
        };
        let Unbuilt { files, version, registry, steps } = unbuilt;
        let (files, steps, job) = match install.script(files.path()) {
            Some(script) => {
                tell(InstallEvent::step(steps, steps + 1, format!("running {script} in a job")));
                let build = Build { installer: &claim.installer, name: &spec.name };
                let what = (&*script, &spec, version.as_ref());
                let (files, id) = build.package(files, what, job, caller, &mut tell)?;
                (files, steps + 1, Some(id))
            }
            None => (files, steps, None),
        };
        tell(InstallEvent::step(steps, steps, "publishing".to_owned()));
        let made = install.publish(files, version.as_ref(), registry)?;
        Ok(InstalledRuntime { job, ..made })
    }
}

/// The files of a package, which may have to be built.
struct Unbuilt {
    files: Staging,
    /// The version that they must have.
    version: Option<Version>,
    /// Where they come from; empty: from the client.
    registry: String,
    /// The number of the next step.
    steps: u32,
}

/// The outcome of a look into a registry.
enum Found {
    /// The version is installed.
    There(InstalledRuntime),
    /// It is here now.
    Package(Unbuilt),
}

struct Install<'a> {
    installer: &'a Installer,
    spec: &'a RuntimeSpec,
    replace: bool,
}

impl Install<'_> {
    fn name(&self) -> &RuntimeName {
        &self.spec.name
    }

    fn files(&self, files: &[Upload], tell: &mut impl FnMut(InstallEvent)) -> Result<Unbuilt, CommandError> {
        tell(InstallEvent::step(1, 2, format!("writing {} files", files.len())));
        let staging = self.stage()?;
        let dir = self.disk(File::open(staging.path()))?;
        image::has_room(&dir, files.iter().map(|file| file.content.len() as u64).sum())
            .map_err(|why| self.failed(&why))?;
        write_beneath(dir.as_fd(), files, 0, 0).map_err(|why| self.invalid(&why.to_string()))?;
        let version = match &self.spec.version {
            Wanted::Exactly(version) => Some(version.clone()),
            Wanted::Latest => None,
        };
        Ok(Unbuilt { files: staging, version, registry: String::new(), steps: 2 })
    }

    fn registry(
        &self,
        place: &str,
        branch: &str,
        tell: &mut impl FnMut(InstallEvent),
    ) -> Result<Found, CommandError> {
        let configured = &self.installer.registry;
        let place = if place.is_empty() { configured } else { place };
        let is_plain = configured.starts_with("http://") && place == configured;
        let downloads = Downloads::new(is_plain);
        let url = registry::index_url(place, branch).map_err(|why| self.invalid(&why))?;
        tell(InstallEvent::step(1, 4, format!("reading {url}")));
        let text = downloads.text(&url).map_err(|why| self.unreachable(&why))?;
        let index = Index::parse(&text).map_err(|why| self.invalid(&format!("{url}: {why}")))?;
        let platform = registry::platform(&fs::read_to_string(OS_RELEASE).unwrap_or_default(), ARCH);
        let (version, release) = index.find(self.spec, &platform).map_err(|why| self.missing(&why))?;
        let id = RuntimeId { name: self.name().clone(), version: version.clone() };
        if !self.replace
            && let Some(there) = self.installer.store.list().into_iter().find(|runtime| runtime.id == id)
        {
            let message = format!("runtime {id} is already installed");
            let path = there.dir.clone();
            return Ok(Found::There(InstalledRuntime {
                id,
                path,
                message,
                registry: place.to_owned(),
                job: None,
            }));
        }
        let files = self.fetch(&downloads, release, tell)?;
        Ok(Found::Package(Unbuilt { files, version: Some(version), registry: place.to_owned(), steps: 4 }))
    }

    /// Downloads and unpacks an archive; its one directory, where it has no more.
    fn fetch(
        &self,
        downloads: &Downloads,
        release: &Release,
        tell: &mut impl FnMut(InstallEvent),
    ) -> Result<Staging, CommandError> {
        let limits = self.installer.limits;
        let promised: image::Digest = release.checksum.parse().map_err(|why: String| self.invalid(&why))?;
        if release.size > limits.bytes {
            let most = limits.bytes;
            return Err(self
                .invalid(&format!("it has {} bytes, and runtime.max_image_bytes is {most}", release.size)));
        }
        let most = if release.size == 0 { limits.bytes } else { release.size };
        let aside = self.stage()?;
        let archive = aside.path().join("archive");
        let mut file = self.disk(scratch(&archive))?;
        let room = self.disk(File::open(aside.path()))?;
        let url = &release.download_url;
        tell(InstallEvent::step(2, 4, format!("downloading {url}")));
        let mut told = 0;
        let found = downloads.file(url, &mut file, most, |got| {
            if got - told >= REPORT {
                told = got;
                tell(InstallEvent::step(
                    2,
                    4,
                    format!("downloaded {} of {} MiB", got >> 20, release.size >> 20),
                ));
                image::has_room(&room, 0)?;
            }
            Ok(())
        });
        let found = image::Digest::from_bytes(found.map_err(|why| self.unreachable(&why))?);
        if found != promised {
            let why = format!("the digest of {url} is {found}, and the registry says {promised}");
            return Err(self.invalid(&why));
        }
        tell(InstallEvent::step(3, 4, "unpacking".to_owned()));
        let tree = self.stage()?;
        let notes = image::extract(self.disk(File::open(&archive))?, tree.path(), limits);
        for note in notes.map_err(|why| self.invalid(&why.to_string()))? {
            tell(InstallEvent::Log(format!("{note}\n").into_bytes()));
        }
        self.top(tree)
    }

    /// The one directory of an archive that has nothing else at its top, else the whole.
    fn top(&self, tree: Staging) -> Result<Staging, CommandError> {
        let entries = self.disk(fs::read_dir(tree.path()))?;
        let mut entries = self.disk(entries.collect::<io::Result<Vec<_>>>())?;
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        match entries.pop() {
            Some(only) if entries.is_empty() && is_directory(&only) => {
                let top = self.stage()?;
                // Onto an empty directory.
                self.disk(fs::rename(only.path(), top.path()))?;
                Ok(top)
            }
            _ => Ok(tree),
        }
    }

    /// Publishes the files under the name and version of their runtime. `version` is the one of the request.
    fn publish(
        &self,
        staging: Staging,
        version: Option<&Version>,
        registry: String,
    ) -> Result<InstalledRuntime, CommandError> {
        let path = staging.path().join(FILE);
        let text = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() <= MAX_TEXT as u64 => {
                self.disk(fs::read_to_string(&path))?
            }
            Ok(_) => return Err(self.invalid("runtime.yml is no file, or too long")),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Err(self.invalid("it has neither runtime.yml nor setup.sh at its top"));
            }
            Err(why) => return Err(self.failed(&why)),
        };
        let read =
            Description::parse(&text, Path::new(FILE)).map_err(|why| self.invalid(&why.to_string()))?;
        let id = RuntimeId {
            name: self.name().clone(),
            version: version.cloned().unwrap_or_else(|| read.version.clone()),
        };
        let runtime = self.installer.store.publish(staging, &id, self.replace);
        let runtime = runtime.map_err(|why| refused("install", self.name(), why))?;
        let message = format!("runtime {id} was installed");
        Ok(InstalledRuntime { id, path: runtime.dir.clone(), message, registry, job: None })
    }

    /// The script that builds this package, if it has no description and thus is none yet.
    fn script(&self, dir: &Path) -> Option<String> {
        if fs::symlink_metadata(dir.join(FILE)).is_ok() {
            return None;
        }
        let platform = registry::platform(&fs::read_to_string(OS_RELEASE).unwrap_or_default(), ARCH);
        let is_file = |name: &String| fs::symlink_metadata(dir.join(name)).is_ok_and(|meta| meta.is_file());
        [format!("setup-{platform}.sh"), SCRIPT.to_owned()].into_iter().find(is_file)
    }

    fn stage(&self) -> Result<Staging, CommandError> {
        self.installer.store.stage().map_err(|why| refused("install", self.name(), why))
    }

    fn disk<T>(&self, result: io::Result<T>) -> Result<T, CommandError> {
        result.map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &io::Error) -> CommandError {
        CommandError::SetUp(format!(
            "cannot install runtime \"{}\": {why}; {}",
            self.name(),
            disk_remedy(why)
        ))
    }

    fn invalid(&self, why: &str) -> CommandError {
        CommandError::Invalid(format!("cannot install runtime \"{}\": {why}", self.name()))
    }

    fn missing(&self, why: &str) -> CommandError {
        CommandError::Missing(format!("cannot install runtime \"{}\": {why}", self.name()))
    }

    fn unreachable(&self, why: &str) -> CommandError {
        CommandError::Unreachable(format!("cannot install runtime \"{}\": {why}", self.name()))
    }
}
