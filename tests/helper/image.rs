//! Container images made by the test itself: layers entry by entry, and the archives that hold them.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use joblet::image::Digest;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{EntryType, Header};

/// A layer that is written entry by entry, hostile ones too.
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    pub fn new() -> Layer {
        Layer { tar: Vec::new() }
    }

    pub fn directory(self, path: &str) -> Layer {
        self.entry(EntryType::Directory, path, "", b"", |_| {})
    }

    pub fn file(self, path: &str, content: &[u8]) -> Layer {
        self.entry(EntryType::Regular, path, "", content, |_| {})
    }

    pub fn link(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, path, target, b"", |_| {})
    }

    pub fn hard_link(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, path, target, b"", |_| {})
    }

    /// An entry as the test names it. The name goes into the header as it is, where it fits.
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Layer {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the entry behind them.
    pub fn records(self, records: &[(&str, &str)]) -> Layer {
        let line = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            let digits = (rest.len() + (rest.len() + 3).to_string().len()).to_string().len();
            format!("{}{rest}", rest.len() + digits)
        };
        let text: String = records.iter().map(line).collect();
        self.entry(EntryType::XHeader, "records", "", text.as_bytes(), |_| {})
    }

    /// The layer's plain bytes.
    pub fn bytes(&self) -> Vec<u8> {
        [self.tar.as_slice(), &[0; 1024]].concat()
    }

    /// Its diff id.
    pub fn id(&self) -> Digest {
        Digest::of(&self.bytes())
    }
}

/// How layers are stored.
#[derive(Clone, Copy)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => bytes.to_vec(),
            Packing::Gzip => gzip(bytes),
            Packing::Zstd => compress_to_vec(bytes, CompressionLevel::Fastest),
        }
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The architecture of this host, as images write it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The configuration of an image with these layers; `defaults` is the JSON of its `config`.
pub fn config(layers: &[Layer], architecture: &str, defaults: &str) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| layer.id().to_string()).collect();
    let root = format!(r#"{{"type":"layers","diff_ids":{ids:?}}}"#);
    format!(r#"{{"os":"linux","architecture":"{architecture}","config":{defaults},"rootfs":{root}}}"#)
        .into_bytes()
}

/// The files of an archive.
pub struct Archive(Layer);

impl Archive {
    pub fn new() -> Archive {
        Archive(Layer::new())
    }

    pub fn file(self, name: &str, content: &[u8]) -> Archive {
        Archive(self.0.file(name, content))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes()
    }

    fn blob(self, kind: &str, content: &[u8], also: &str) -> (Archive, String) {
        let digest = Digest::of(content);
        let descriptor =
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{}{also}}}"#, content.len());
        (self.file(&format!("blobs/sha256/{}", digest.hex()), content), descriptor)
    }

    /// Adds an image; its descriptor, with the JSON members `also`.
    pub fn image(self, layers: &[Layer], config: &[u8], packing: Packing, also: &str) -> (Archive, String) {
        let (mut archive, config) = self.blob("application/vnd.oci.image.config.v1+json", config, "");
        let mut named = Vec::new();
        for layer in layers {
            let (next, descriptor) =
                archive.blob("application/vnd.oci.image.layer.v1.tar", &packing.pack(&layer.bytes()), "");
            archive = next;
            named.push(descriptor);
        }
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, named.join(","));
        archive.blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes(), also)
    }

    /// Adds an index of these descriptors; its own.
    pub fn index(self, manifests: &[String]) -> (Archive, String) {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
        self.blob("application/vnd.oci.image.index.v1+json", index.as_bytes(), "")
    }

    /// Completes an OCI layout.
    pub fn layout(self, manifests: &[String]) -> Vec<u8> {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.file("oci-layout", layout).file("index.json", index.as_bytes()).bytes()
    }
}

/// An OCI layout of one image.
pub fn layout(layers: &[Layer], defaults: &str, packing: Packing) -> Vec<u8> {
    let config = config(layers, architecture(), defaults);
    let (archive, descriptor) = Archive::new().image(layers, &config, packing, "");
    archive.layout(&[descriptor])
}

/// What `docker save` wrote before it knew OCI layouts.
pub fn docker_archive(layers: &[Layer], defaults: &str) -> Vec<u8> {
    let config = config(layers, architecture(), defaults);
    let name = format!("{}.json", Digest::of(&config).hex());
    let mut archive = Archive::new().file(&name, &config);
    let mut names = Vec::new();
    for layer in layers {
        let name = format!("{}/layer.tar", layer.id().hex());
        let name = &name[name.len() - 90.min(name.len())..];
        archive = archive.file(name, &layer.bytes());
        names.push(name.to_owned());
    }
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":["app:1"],"Layers":{names:?}}}]"#);
    archive.file("manifest.json", manifest.as_bytes()).bytes()
}
