//! Finds the image of an archive that runs on this host: its configuration, and its layers bottom to top.

use std::collections::HashSet;

use super::archive::{Archive, Blob};
use super::digest::Digest;
use super::document::{ConfigFile, Defaults, Descriptor, Node, Platform, Saved, parse};
use super::{Choice, ImageConfig, ImageError};

/// overlayfs takes 500 lower directories (Linux 5.15), docker 127 layers; images have a tenth of that.
const MOST_LAYERS: usize = 127;
/// An index leads to an index at most this often.
const DEEPEST: usize = 4;
/// The most images that are looked at in one archive.
const MOST_IMAGES: usize = 256;
/// The names that tools give an image in an index.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
const VERSION_LABEL: &str = "org.opencontainers.image.version";
const DESCRIPTION_LABEL: &str = "org.opencontainers.image.description";

/// The image to unpack.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<Layer>,
}

/// One layer: its file in the archive, and the digest of its plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

/// An image that the archive offers, before its platform is known.
#[derive(Debug)]
struct Candidate {
    names: Vec<String>,
    platform: Option<Platform>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Manifest(Descriptor),
    Saved(Saved),
}

/// The chosen image; every digest of its documents and compressed layers is right.
pub(super) fn find(archive: &Archive, choice: &Choice) -> Result<Image, ImageError> {
    let mut candidates = candidates(archive)?;
    if let Some(wanted) = &choice.reference {
        let there: Vec<_> = candidates.iter().flat_map(|one| one.names.clone()).collect();
        candidates.retain(|one| one.names.iter().any(|name| is_called(name, wanted)));
        if candidates.is_empty() {
            return Err(ImageError::FindReference { wanted: super::printable(wanted.as_bytes()), there });
        }
    }
    let mut fit = Vec::new();
    let mut others = Vec::new();
    for candidate in candidates {
        let (config, layers) = parts(archive, &candidate)?;
        let platform = candidate.platform.filter(|p| !p.architecture.is_empty()).unwrap_or_default();
        let platform = if platform.architecture.is_empty() { config.platform.clone() } else { platform };
        if is_for(&platform, choice) && is_for(&config.platform, choice) {
            fit.push((candidate.names, config, layers));
        } else {
            others.push(words(&config.platform));
        }
    }
    if fit.len() > 1 {
        let name =
            |names: &Vec<String>| names.first().cloned().unwrap_or_else(|| "an image without a name".into());
        return Err(ImageError::Choose(fit.iter().map(|(names, ..)| name(names)).collect()));
    }
    match fit.pop() {
        Some((_, config, layers)) => image(archive, config, layers),
        None if others.is_empty() => Err(ImageError::FindImage),
        None => {
            Err(ImageError::MatchPlatform { there: others, host: format!("linux/{}", choice.architecture) })
        }
    }
}

/// The images of the archive. An OCI layout comes first: its digests cover the compressed layers too.
fn candidates(archive: &Archive) -> Result<Vec<Candidate>, ImageError> {
    let mut found = Vec::new();
    if archive.find("index.json").is_some() {
        let index: Node = parse("index.json", &archive.document("index.json", "index.json")?)?;
        descend(archive, index.manifests, &[], DEEPEST, &mut found)?;
    } else if archive.find("manifest.json").is_some() {
        let saved: Vec<Saved> = parse("manifest.json", &archive.document("manifest.json", "manifest.json")?)?;
        found.extend(saved.into_iter().map(|one| Candidate {
            names: one.repo_tags.clone().unwrap_or_default(),
            platform: None,
            place: Place::Saved(one),
        }));
    }
    if found.len() > MOST_IMAGES {
        return Err(too_many(found.len(), "images", MOST_IMAGES));
    }
    if found.is_empty() { Err(ImageError::FindImage) } else { Ok(found) }
}

fn descend(
    archive: &Archive,
    manifests: Vec<Descriptor>,
    above: &[String],
    levels: usize,
    found: &mut Vec<Candidate>,
) -> Result<(), ImageError> {
    for descriptor in manifests {
        if found.len() > MOST_IMAGES || levels == 0 {
            return Err(too_many(found.len(), "images or nested indexes", MOST_IMAGES));
        }
        let is_attestation = descriptor.annotations.contains_key("vnd.docker.reference.type")
            || descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown");
        // An index may name images that were not saved with it.
        let is_there = descriptor.digest.parse().is_ok_and(|digest| archive.find(&path_of(digest)).is_some());
        if is_attestation || !is_there {
            continue;
        }
        let own = NAMES.iter().filter_map(|name| descriptor.annotations.get(*name).cloned());
        let names: Vec<String> = above.iter().cloned().chain(own).collect();
        let node = node(archive, &descriptor)?;
        if node.config.is_some() {
            let platform = descriptor.platform.clone();
            found.push(Candidate { names, platform, place: Place::Manifest(descriptor) });
        } else {
            descend(archive, node.manifests, &names, levels - 1, found)?;
        }
    }
    Ok(())
}

/// A verified index or manifest.
fn node(archive: &Archive, at: &Descriptor) -> Result<Node, ImageError> {
    parse("a manifest", &verified(archive, "a manifest", at)?)
}

fn verified(archive: &Archive, what: &'static str, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let digest = digest(what, &at.digest)?;
    let bytes = archive.document(what, &path_of(digest))?;
    digest.expect(what, Digest::of(&bytes))?;
    if bytes.len() as u64 != at.size {
        let why = format!("{digest} has {} bytes, and not {}", bytes.len(), at.size);
        return Err(ImageError::Parse { what, why });
    }
    Ok(bytes)
}

/// The configuration, and the files of the layers with their digests and sizes where they are known.
type Parts = (ConfigFile, Vec<(Blob, Option<(Digest, u64)>)>);

fn parts(archive: &Archive, candidate: &Candidate) -> Result<Parts, ImageError> {
    let mut layers = Vec::new();
    let config = match &candidate.place {
        Place::Manifest(descriptor) => {
            let manifest = node(archive, descriptor)?;
            for layer in &manifest.layers {
                if layer.media_type.contains("encrypted") {
                    return Err(ImageError::Parse { what: "a layer", why: "it is encrypted".into() });
                }
                let digest = digest("a layer", &layer.digest)?;
                layers.push((archive.need("a layer", &path_of(digest))?, Some((digest, layer.size))));
            }
            let at = manifest.config.ok_or(ImageError::FindImage)?;
            verified(archive, "the configuration", &at)?
        }
        Place::Saved(saved) => {
            for layer in &saved.layers {
                layers.push((archive.need("a layer", layer)?, None));
            }
            let bytes = archive.document("the configuration", &saved.config)?;
            // Its name is its digest: `<hex>.json`, or `blobs/sha256/<hex>`.
            let name = saved.config.rsplit('/').next().unwrap_or_default();
            match Digest::from_hex(name.trim_end_matches(".json")) {
                Some(promised) => promised.expect("the configuration", Digest::of(&bytes))?,
                None => {
                    let why = format!("its name {name:?} is no digest");
                    return Err(ImageError::Parse { what: "the configuration", why });
                }
            }
            bytes
        }
    };
    Ok((parse("the configuration", &config)?, layers))
}

fn image(
    archive: &Archive,
    config: ConfigFile,
    layers: Vec<(Blob, Option<(Digest, u64)>)>,
) -> Result<Image, ImageError> {
    let ids = &config.rootfs.diff_ids;
    if ids.len() != layers.len() {
        let why = format!("it names {} layers, and the manifest {}", ids.len(), layers.len());
        return Err(ImageError::Parse { what: "the configuration", why });
    }
    if layers.len() > MOST_LAYERS {
        return Err(too_many(layers.len(), "layers", MOST_LAYERS));
    }
    let mut found: Vec<Layer> = Vec::new();
    for (id, (blob, promised)) in ids.iter().zip(layers) {
        if let Some((digest, bytes)) = promised {
            archive.verify("a layer", blob, digest, Some(bytes))?;
        }
        found.push(Layer { blob, diff_id: digest("the configuration", id)? });
    }
    // A layer that comes twice hides its lower self entirely, and overlayfs takes no directory twice.
    let mut seen = HashSet::new();
    found.reverse();
    found.retain(|layer| seen.insert(layer.diff_id));
    found.reverse();
    Ok(Image { config: defaults(&config.platform, config.config.unwrap_or_default()), layers: found })
}

fn defaults(platform: &Platform, given: Defaults) -> ImageConfig {
    let label = |name: &str| given.labels.as_ref().and_then(|labels| labels.get(name).cloned());
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let env = given.env.clone().unwrap_or_default();
    let pair = |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    ImageConfig {
        architecture: platform.architecture.clone(),
        version: label(VERSION_LABEL),
        description: label(DESCRIPTION_LABEL),
        entrypoint: given.entrypoint.unwrap_or_default(),
        cmd: given.cmd.unwrap_or_default(),
        env: env.into_iter().filter_map(pair).collect(),
        working_dir: some(given.working_dir),
        user: some(given.user),
    }
}

fn digest(what: &'static str, text: &str) -> Result<Digest, ImageError> {
    text.parse().map_err(|why| ImageError::Parse { what, why })
}

/// The place of a file in an OCI layout.
fn path_of(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Whether `wanted` is this name, or its end behind a slash or a colon: `app:1` is `docker.io/library/app:1`.
fn is_called(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with(['/', ':']))
}

fn is_for(platform: &Platform, choice: &Choice) -> bool {
    let is_same = |there: &str, wanted: &str| there.is_empty() || there == wanted;
    let variant = choice.variant.as_deref();
    is_same(&platform.os, "linux")
        && is_same(&platform.architecture, &choice.architecture)
        && variant.is_none_or(|variant| is_same(&platform.variant, variant))
}

fn words(platform: &Platform) -> String {
    let variant = if platform.variant.is_empty() { String::new() } else { format!("/{}", platform.variant) };
    super::printable(format!("{}/{}{variant}", platform.os, platform.architecture).as_bytes())
}

fn too_many(count: usize, of: &str, most: usize) -> ImageError {
    ImageError::Parse { what: "the manifest", why: format!("it has {count} {of}, and {most} are the most") }
}
