//! Importing an image: an archive comes in pieces, and becomes a runtime or nothing.
//!
//! Layers are held from before the first look whether they are there, so that no removal takes one away in between. A client
//! that goes before its last piece leaves nothing; behind it the import is completed without one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::Level;
use openssl::sha::Sha256;

use super::{Claim, Installer, refused, scratch};
use crate::daemon::command::CommandError;
use crate::diag::{self, disk_remedy};
use crate::image::{self, Choice, ImageConfig, ImageError, OpenImage};
use crate::job::runtime::{RuntimeId, RuntimeName, Version};
use crate::runtime::description::FILE;
use crate::runtime::{Base, Description, Image, LayerDigest, Requirements, RuntimeError, Sharing};

/// The longest wait for the next piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are written between two syncs: a flood of dirty pages would hold up the next fsync of others.
const SYNC: u64 = 8 << 20;
/// The version of an image that has none.
const FIRST_VERSION: &str = "1.0.0";

/// An image that a client wants as a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The name of the runtime.
    pub name: RuntimeName,
    /// Its version; `None`: that of the image's label, where it is one, else 1.0.0.
    pub version: Option<Version>,
    /// The platform of an image with several, `linux/ARCHITECTURE[/VARIANT]`; empty: that of the host.
    pub platform: String,
    /// The name of the image, or its end, where the archive has several; empty: it has one.
    pub image: String,
    /// Whether it replaces the same version.
    pub replace: bool,
}

/// A piece of an archive.
#[derive(Debug)]
pub struct ImportPiece {
    /// The next bytes.
    pub data: Vec<u8>,
    /// The digest of all bytes, with the last piece.
    pub sha256: Option<[u8; 32]>,
}

/// A runtime that an import has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRuntime {
    /// Its name and version.
    pub id: RuntimeId,
    /// Bytes on disk of all its layers.
    pub bytes: u64,
    /// Layers that were unpacked for it.
    pub new_layers: usize,
    /// Layers that were there already.
    pub shared_layers: usize,
    /// Parts of the image that were changed or left out, one sentence each.
    pub notes: Vec<String>,
}

impl Installer {
    /// The right to an import of this name, which no other has meanwhile. Never waits.
    ///
    /// # Errors
    /// The name is being installed, there are as many installations as may be, the platform is not that of the host, or the
    /// version is there.
    pub fn import(&self, request: ImportRequest) -> Result<Import, CommandError> {
        let choice = choice(&request)?;
        if let (Some(version), false) = (&request.version, request.replace) {
            let id = RuntimeId { name: request.name.clone(), version: version.clone() };
            if self.store.list().iter().any(|runtime| runtime.id == id) {
                return Err(refused("import", &id.name, RuntimeError::Exists(id.clone())));
            }
        }
        Ok(Import { claim: self.claim(&request.name)?, request, choice })
    }
}

/// The image for this host that a request names.
fn choice(request: &ImportRequest) -> Result<Choice, CommandError> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let given: Vec<&str> = request.platform.split('/').collect();
    let variant = match given.as_slice() {
        [""] => None,
        ["linux", wanted] if *wanted == architecture => None,
        ["linux", wanted, variant] if *wanted == architecture => Some((*variant).to_owned()),
        _ => {
            let (name, platform) = (&request.name, request.platform.escape_debug());
            return Err(CommandError::Invalid(format!(
                "cannot import runtime \"{name}\": platform \"{platform}\" does not run here; this host is linux/{architecture}"
            )));
        }
    };
    let reference = Some(request.image.clone()).filter(|image| !image.is_empty());
    Ok(Choice { architecture: architecture.to_owned(), variant, reference })
}

/// An import of one name, from its first piece to its end.
#[derive(Debug)]
pub struct Import {
    claim: Claim,
    request: ImportRequest,
    choice: Choice,
}

impl Import {
    /// Takes the archive in and makes the runtime. `ready` is called for each piece that may be sent. Waits for the client and
    /// for the disk.
    ///
    /// # Errors
    /// The archive is not whole or not good; a bound; the version is there or in use; the disk's refusal. Nothing is
    /// offered then.
    pub fn run(
        &self,
        pieces: &Receiver<ImportPiece>,
        mut ready: impl FnMut(),
    ) -> Result<ImportedRuntime, CommandError> {
        let name = &self.request.name;
        let staging = self.claim.installer.store.stage().map_err(|why| refused("import", name, why))?;
        let archive = self.receive(&staging.path().join("archive"), pieces, &mut ready)?;
        let plain = staging.path().join("plain");
        let image = OpenImage::open(archive, &self.choice, self.claim.installer.limits, || scratch(&plain));
        let imported = self.install(image.map_err(|why| unfit(name, &why))?)?;
        let (bytes, layers) = (imported.bytes, imported.new_layers);
        diag::event!(
            Level::Info,
            "image imported",
            runtime = imported.id,
            bytes = bytes,
            new_layers = layers
        );
        Ok(imported)
    }

    fn receive(
        &self,
        path: &Path,
        pieces: &Receiver<ImportPiece>,
        ready: &mut impl FnMut(),
    ) -> Result<File, CommandError> {
        let failed = |source: io::Error| {
            let (name, remedy) = (&self.request.name, disk_remedy(&source));
            CommandError::SetUp(format!(
                "cannot import runtime \"{name}\": cannot write the archive: {source}; {remedy}"
            ))
        };
        let bad = |why: String| {
            CommandError::Invalid(format!("cannot import runtime \"{}\": {why}", self.request.name))
        };
        let mut file = scratch(path).map_err(failed)?;
        let (mut hash, mut received, mut synced) = (Sha256::new(), 0, 0);
        ready();
        loop {
            ready();
            let piece = match pieces.recv_timeout(PATIENCE) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(bad(format!(
                        "the archive ended behind {received} bytes, without its digest"
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = PATIENCE.as_secs();
                    return Err(bad(format!(
                        "nothing of the archive came for {seconds} seconds; send it again"
                    )));
                }
            };
            received += piece.data.len() as u64;
            if received > self.claim.installer.limits.bytes {
                let most = crate::job::units::format_size(self.claim.installer.limits.bytes);
                return Err(bad(format!("the archive has more than {most} (runtime.max_image_bytes)")));
            }
            file.write_all(&piece.data).map_err(failed)?;
            hash.update(&piece.data);
            if received - synced >= SYNC {
                image::has_room(&file, 0).and_then(|()| file.sync_data()).map_err(failed)?;
                synced = received;
            }
            match piece.sha256 {
                None => {}
                Some(promised) if promised == hash.finish() => return Ok(file),
                Some(_) => {
                    return Err(
                        bad("the archive has another digest than was sent; send it again".to_owned()),
                    );
                }
            }
        }
    }

    fn install(&self, mut image: OpenImage) -> Result<ImportedRuntime, CommandError> {
        let (name, store) = (&self.request.name, &self.claim.installer.store);
        let refused = |why| refused("import", name, why);
        let ids = image.layers();
        let digest = |id: &image::Digest| id.to_string().parse::<LayerDigest>();
        let layers = ids.iter().map(digest).collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let held = store.hold_layers(&layers);
        let made = self.make(&mut image, &ids, layers);
        if made.is_err() {
            store.give_up(held);
        }
        Ok(ImportedRuntime { notes: image.into_notes(), ..made? })
    }

    /// Unpacks the layers that are missing, and publishes the runtime.
    fn make(
        &self,
        image: &mut OpenImage,
        ids: &[image::Digest],
        layers: Vec<LayerDigest>,
    ) -> Result<ImportedRuntime, CommandError> {
        let (name, store) = (&self.request.name, &self.claim.installer.store);
        let refused = |why| refused("import", name, why);
        let mut new_layers = 0;
        for (id, layer) in ids.iter().zip(&layers) {
            if store.layer(layer).is_none() {
                let aside = store.stage().map_err(refused)?;
                image.unpack(*id, aside.path()).map_err(|why| unfit(name, &why))?;
                new_layers += usize::from(store.publish_layer(aside, layer).map_err(refused)?);
            }
        }
        let shared_layers = layers.len() - new_layers;
        let description = self.describe(image.config(), layers)?;
        let id = description.id();
        let staging = store.stage().map_err(refused)?;
        let write = fs::write(staging.path().join(FILE), description.to_yaml());
        write.map_err(|source| {
            CommandError::SetUp(format!(
                "cannot import runtime \"{name}\": {source}; {}",
                disk_remedy(&source)
            ))
        })?;
        let runtime = store.publish(staging, &id, self.request.replace).map_err(refused)?;
        let (bytes, _) = store.sizes(&runtime, &Sharing::default());
        Ok(ImportedRuntime { id, bytes, new_layers, shared_layers, notes: Vec::new() })
    }

    fn describe(&self, config: &ImageConfig, layers: Vec<LayerDigest>) -> Result<Description, CommandError> {
        let labelled = config.version.as_ref().and_then(|version| version.parse().ok());
        let version = match self.request.version.clone().or(labelled) {
            Some(version) => version,
            None => FIRST_VERSION.parse().map_err(|why| CommandError::Invalid(format!("{why}")))?,
        };
        let line = |text: &str| text.chars().filter(|c| !c.is_control()).take(256).collect::<String>();
        let image = Image {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            user: config.user.clone().unwrap_or_default(),
        };
        Ok(Description {
            name: self.request.name.clone(),
            version,
            description: config.description.as_deref().map(line).unwrap_or_default(),
            language: String::new(),
            language_version: String::new(),
            base: Base::None,
            mounts: Vec::new(),
            layers,
            environment: std::collections::BTreeMap::new(),
            requirements: Requirements { architectures: vec![config.architecture.clone()], gpu: false },
            packages: Vec::new(),
            libraries: Vec::new(),
            image: Some(image),
        })
    }
}

fn unfit(name: &RuntimeName, why: &ImageError) -> CommandError {
    let text = format!("cannot import runtime \"{name}\": {why}");
    match why {
        ImageError::Unpack { source, .. } if source.raw_os_error().is_some() => CommandError::SetUp(text),
        _ => CommandError::Invalid(text),
    }
}
