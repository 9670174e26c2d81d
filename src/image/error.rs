//! Why an image cannot be taken.

use std::io;

use crate::diag::disk_remedy;

/// An image that is not taken. Nothing of it is offered then.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The archive that was sent cannot be read as one.
    #[error(
        "cannot read the image archive: {}; send what `docker save`, `podman save` or `skopeo copy` wrote", shown(.0)
    )]
    ReadArchive(io::Error),
    /// The archive has neither an index nor a manifest.
    #[error(
        "cannot find an image in the archive: it has neither index.json (an OCI layout) nor manifest.json (docker save)"
    )]
    FindImage,
    /// A file that the image names is not in the archive.
    #[error("cannot read {what} of the image: the archive has no file {name}; save the image again")]
    FindFile {
        /// The part of the image.
        what: &'static str,
        /// The name of the file in the archive.
        name: String,
    },
    /// A document of the image is no such document.
    #[error("cannot read {what} of the image: {why}")]
    Parse {
        /// The document that was read.
        what: &'static str,
        /// The mistake in it.
        why: String,
    },
    /// Bytes are not those that were promised.
    #[error(
        "cannot take {what} of the image: its digest is {found}, and not {promised}; the archive is damaged: save it again"
    )]
    Verify {
        /// The part of the image.
        what: &'static str,
        /// The promised digest.
        promised: String,
        /// The digest of the bytes.
        found: String,
    },
    /// Several images, and none was chosen.
    #[error("cannot choose an image: the archive has {}; name one with --image", .0.join(", "))]
    Choose(Vec<String>),
    /// No image has the chosen name.
    #[error("cannot find image \"{wanted}\": the archive has {}", there.join(", "))]
    FindReference {
        /// The name in the request.
        wanted: String,
        /// The names in the archive.
        there: Vec<String>,
    },
    /// The image is for another machine.
    #[error("cannot run the image here: it is for {}, and this host is {host}; save it for this platform", there.join(", "))]
    MatchPlatform {
        /// The platforms of the image.
        there: Vec<String>,
        /// The platform of the host.
        host: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {layer}{}: {}{}", entry(at), shown(source), disk_advice(source))]
    Unpack {
        /// The diff id of the layer.
        layer: String,
        /// The entry, empty where it is the stream itself.
        at: String,
        /// The mistake of the archive, or the disk's answer.
        source: io::Error,
    },
    /// An archive of files cannot be unpacked.
    #[error("cannot unpack the archive{}: {}{}", entry(at), shown(source), disk_advice(source))]
    Extract {
        /// The entry, empty where it is the stream itself.
        at: String,
        /// The mistake of the archive, or the disk's answer.
        source: io::Error,
    },
}

/// Longest text of an error that may repeat bytes of an archive, in characters.
const SHOWN: usize = 300;

/// An error that may repeat bytes of an archive, without what a terminal would obey.
fn shown(why: &io::Error) -> String {
    why.to_string().chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn entry(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(", at \"{at}\"") }
}

/// The advice where the system refused, and none where the archive is at fault.
fn disk_advice(source: &io::Error) -> String {
    source.raw_os_error().map(|_| format!("; {}", disk_remedy(source))).unwrap_or_default()
}
