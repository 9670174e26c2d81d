//! Images of containers become layers on disk, and hostile archives become errors.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use joblet::image::{Choice, Digest, ImageConfig, ImageError, Limits, OpenImage};
use proptest::prelude::*;
use tar::EntryType;

use crate::helper::image::{Archive, Layer, Packing, architecture, config, docker_archive, gzip, layout};
use crate::helper::skip::is_root;

/// Layers of its own, and what is half made beside them.
struct Shelf {
    dir: tempfile::TempDir,
    limits: Limits,
    reference: Option<String>,
}

/// An image whose layers lie on the shelf.
#[derive(Debug)]
struct Imported {
    config: ImageConfig,
    layers: Vec<Digest>,
    bytes: u64,
    notes: Vec<String>,
}

impl Shelf {
    fn new() -> Shelf {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layers")).unwrap();
        fs::create_dir(dir.path().join("staging")).unwrap();
        Shelf { dir, limits: Limits { bytes: 16 << 20, entries: 2000 }, reference: None }
    }

    fn path(&self, layer: Digest) -> PathBuf {
        self.dir.path().join("layers").join(layer.hex())
    }

    fn import(&self, archive: &[u8]) -> Result<Imported, ImageError> {
        let staging = tempfile::tempdir_in(self.dir.path().join("staging")).unwrap();
        let path = staging.path().join("sent");
        fs::write(&path, archive).unwrap();
        let choice =
            Choice { architecture: architecture().into(), variant: None, reference: self.reference.clone() };
        let scratch =
            || File::options().read(true).write(true).create_new(true).open(staging.path().join("plain"));
        let sent = File::open(path).unwrap();
        let mut image = OpenImage::open(sent, &choice, self.limits, scratch)?;
        let (config, layers) = (image.config().clone(), image.layers());
        let mut bytes = 0;
        for layer in &layers {
            let aside = staging.path().join("layer");
            fs::create_dir(&aside).unwrap();
            bytes += image.unpack(*layer, &aside)?;
            fs::rename(&aside, self.path(*layer)).unwrap();
        }
        Ok(Imported { config, layers, bytes, notes: image.into_notes() })
    }

    /// Unpacks one layer and gives its directory.
    fn unpack(&self, layer: &Layer) -> Result<(PathBuf, Imported), ImageError> {
        let imported = self.import(&layout(std::slice::from_ref(layer), "{}", Packing::Plain))?;
        Ok((self.path(layer.id()), imported))
    }

    fn refusal(&self, layer: &Layer) -> String {
        let why = self.unpack(layer).map(|_| ()).unwrap_err().to_string();
        assert!(!self.path(layer.id()).exists(), "{why}");
        why
    }
}

fn small() -> Vec<Layer> {
    vec![
        Layer::new().directory("etc/").file("etc/name", b"below").file("etc/gone", b"").directory("var"),
        Layer::new().directory("etc").file("etc/.wh.gone", b"").file("etc/name", b"above"),
    ]
}

#[test]
fn layouts_and_saved_archives_give_the_same_layers() {
    needs!(is_root(), "whiteouts need root");
    let layers = small();
    let archives = [
        layout(&layers, "{}", Packing::Plain),
        layout(&layers, "{}", Packing::Gzip),
        layout(&layers, "{}", Packing::Zstd),
        gzip(&layout(&layers, "{}", Packing::Gzip)),
        docker_archive(&layers, "{}"),
    ];
    for archive in archives {
        let shelf = Shelf::new();
        let imported = shelf.import(&archive).unwrap();
        assert_eq!(imported.layers, [layers[0].id(), layers[1].id()]);
        assert_eq!((imported.bytes, imported.notes.len()), (10, 0), "{:?}", imported.notes);
        let upper = shelf.path(layers[1].id());
        assert_eq!(fs::read(upper.join("etc/name")).unwrap(), b"above");
        let gone = fs::symlink_metadata(upper.join("etc/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        assert_eq!(fs::read_dir(shelf.dir.path().join("staging")).unwrap().count(), 0);
    }
}

#[test]
fn a_layer_that_comes_twice_counts_where_it_is_uppermost() {
    needs!(is_root(), "whiteouts need root");
    let [below, above] = small().try_into().ok().unwrap();
    let [first, second] = small().try_into().ok().unwrap();
    let ids = [below.id(), above.id()];
    let shelf = Shelf::new();
    assert_eq!(
        shelf.import(&docker_archive(&[above, below, second, first], "{}")).unwrap().layers,
        [ids[1], ids[0]]
    );
}

#[test]
fn configuration_and_platform_come_from_the_image() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let defaults = r#"{"Entrypoint":["/bin/app"],"Cmd":["-v"],"Env":["A=1=2","B="],"WorkingDir":"/srv",
        "User":"app:users","Labels":{"org.opencontainers.image.version":"2.1.0"}}"#;
    let layers = small();
    let own = config(&layers, architecture(), defaults);
    let foreign = config(&layers, "riscv64", "{}");
    let platform = |name: &str| format!(r#","platform":{{"os":"linux","architecture":"{name}"}}"#);
    let (archive, one) = Archive::new().image(&layers, &own, Packing::Gzip, &platform(architecture()));
    let (archive, other) = archive.image(&layers, &foreign, Packing::Gzip, &platform("riscv64"));
    let attestation = other.replace("riscv64", "unknown").replace("linux", "unknown");
    let (archive, nested) = archive.index(&[other.clone(), attestation, one]);
    let found = shelf.import(&archive.layout(&[nested])).unwrap().config;
    assert_eq!((found.entrypoint, found.cmd), (vec!["/bin/app".to_owned()], vec!["-v".to_owned()]));
    assert_eq!(found.env, [("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())]);
    assert_eq!((found.working_dir.as_deref(), found.user.as_deref()), (Some("/srv"), Some("app:users")));
    assert_eq!(found.version.as_deref(), Some("2.1.0"));

    let (archive, other) = Archive::new().image(&layers, &foreign, Packing::Gzip, "");
    let why = shelf.import(&archive.layout(&[other])).unwrap_err().to_string();
    assert!(why.contains("linux/riscv64") && why.contains(architecture()), "{why}");
}

#[test]
fn one_image_of_several_is_chosen_by_name() {
    needs!(is_root(), "owners need root");
    let mut shelf = Shelf::new();
    let layers = small();
    let named =
        |name: &str| format!(r#","annotations":{{"io.containerd.image.name":"docker.io/library/{name}"}}"#);
    let one = config(&layers, architecture(), r#"{"Cmd":["one"]}"#);
    let two = config(&layers, architecture(), r#"{"Cmd":["two"]}"#);
    let (archive, first) = Archive::new().image(&layers, &one, Packing::Plain, &named("one:1"));
    let (archive, second) = archive.image(&layers, &two, Packing::Plain, &named("two:1"));
    let archive = archive.layout(&[first, second]);
    let why = shelf.import(&archive).unwrap_err().to_string();
    assert!(why.contains("docker.io/library/one:1") && why.contains("--image"), "{why}");
    shelf.reference = Some("two:1".into());
    assert_eq!(shelf.import(&archive).unwrap().config.cmd, ["two"]);
    shelf.reference = Some("wo:1".into());
    let why = shelf.import(&archive).unwrap_err().to_string();
    assert!(why.contains("\"wo:1\"") && why.contains("two:1"), "{why}");
}

#[test]
fn damaged_images_are_refused_with_both_digests() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let good = layout(&small(), "{}", Packing::Plain);
    let at = good.windows(5).rposition(|bytes| bytes == b"above").unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    let why = shelf.import(&bad).unwrap_err().to_string();
    assert!(why.contains("digest is sha256:") && why.contains("and not sha256:"), "{why}");
    // `docker save` gives no digest of files; the configuration has those of the layers.
    let saved = docker_archive(&small(), "{}");
    let at = saved.windows(5).rposition(|bytes| bytes == b"above").unwrap();
    let mut bad = saved.clone();
    bad[at] ^= 1;
    let why = shelf.import(&bad).unwrap_err().to_string();
    assert!(why.contains("digest is sha256:"), "{why}");
    assert!(!shelf.path(small()[1].id()).exists());
    for length in [0, 100, 512, good.len() / 2] {
        assert!(shelf.import(&good[..length]).is_err(), "{length}");
    }
    assert!(
        shelf.import(&Archive::new().file("x", b"").bytes()).unwrap_err().to_string().contains("neither")
    );
}

#[test]
fn owners_modes_times_links_and_pipes_are_kept() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let layer = Layer::new()
        .entry(EntryType::Directory, "tmp", "", b"", |h| h.set_mode(0o1777))
        .entry(EntryType::Regular, "tmp/f", "", b"x", |h| {
            h.set_mode(0o640);
            h.set_uid(1000);
            h.set_gid(65535);
        })
        .hard_link("g", "./tmp/f")
        .link("tmp/l", "../../../etc/passwd")
        .entry(EntryType::Fifo, "p", "", b"", |h| h.set_mode(0o622))
        .records(&[("path", &format!("{}/long", "d/".repeat(200))), ("mtime", "5.5")])
        .file("short", b"long");
    let (root, _) = shelf.unpack(&layer).unwrap();
    let file = fs::metadata(root.join("tmp/f")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()), (0o640, 1000, 65535, 2));
    assert_eq!(fs::metadata(root.join("g")).unwrap().ino(), file.ino());
    let dir = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.mtime(), file.mtime()), (0o1777, 1_000_000_000, 1_000_000_000));
    assert_eq!(fs::read_link(root.join("tmp/l")).unwrap(), Path::new("../../../etc/passwd"));
    let pipe = fs::symlink_metadata(root.join("p")).unwrap();
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o777 == 0o622);
    assert_eq!(fs::read(root.join(format!("{}long", "d/".repeat(200)))).unwrap(), b"long");
}

#[test]
fn whiteouts_and_opaque_directories_are_those_of_overlayfs() {
    needs!(is_root(), "whiteouts need root");
    let shelf = Shelf::new();
    let layer = Layer::new()
        .directory("a")
        .file("a/.wh..wh..opq", b"")
        .file("b/.wh.gone", b"")
        // Whatever the order: a directory of this layer that hides the one below.
        .file(".wh.c", b"")
        .file("c/d", b"")
        .directory("e")
        .file(".wh.e", b"")
        .file(".wh.f", b"")
        .file("f", b"new")
        .file("b/.wh..wh.plnk", b"");
    let (root, _) = shelf.unpack(&layer).unwrap();
    for opaque in ["a", "c", "e"] {
        let mut value = [0; 8];
        let got = rustix::fs::lgetxattr(root.join(opaque), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..got], b"y", "{opaque}");
    }
    assert!(fs::symlink_metadata(root.join("b/gone")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read(root.join("f")).unwrap(), b"new");
    assert_eq!(fs::read_dir(root.join("b")).unwrap().count(), 1);
}

#[test]
fn privileges_of_files_are_dropped_and_noted() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let layer = Layer::new()
        .entry(EntryType::Regular, "su", "", b"", |h| h.set_mode(0o6755))
        .records(&[
            ("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}\0 \0\0"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ])
        .file("ping", b"")
        .entry(EntryType::Char, "dev/null", "", b"", |h| h.set_device_major(1).unwrap());
    let (root, imported) = shelf.unpack(&layer).unwrap();
    assert_eq!(fs::metadata(root.join("su")).unwrap().mode() & 0o7777, 0o755);
    let mut names = [0; 64];
    assert_eq!(rustix::fs::llistxattr(root.join("ping"), &mut names[..]).unwrap(), 0);
    assert!(!root.join("dev/null").exists());
    let notes = imported.notes.join("\n");
    assert_eq!(imported.notes.len(), 3, "{notes}");
    assert!(notes.contains("setuid") && notes.contains("\"ping\"") && notes.contains("dev/null"), "{notes}");
}

#[test]
fn entries_that_would_leave_the_layer_are_refused() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let outside = shelf.dir.path().join("layers/outside");
    let target = outside.to_str().unwrap();
    let link =
        || Layer::new().link("out", "..").link("abs", shelf.dir.path().join("layers").to_str().unwrap());
    let device = |kind| Layer::new().entry(kind, "disk", "", b"", |h| h.set_device_major(8).unwrap());
    let cases = [
        (Layer::new().file("../outside", b"x"), "\"..\""),
        (Layer::new().file("a/../../outside", b"x"), "\"..\""),
        (Layer::new().records(&[("path", "../outside")]).file("a", b"x"), "\"..\""),
        (link().file("out/outside", b"x"), "through a symbolic link"),
        (link().file("abs/outside", b"x"), "through a symbolic link"),
        (link().directory("abs/outside"), "through a symbolic link"),
        (link().file("abs/.wh.outside", b"x"), "through a symbolic link"),
        (link().file("abs/.wh..wh..opq", b"x"), "through a symbolic link"),
        (link().link("abs/outside", "x"), "through a symbolic link"),
        (Layer::new().hard_link("a", "/etc/passwd"), "not in the layer"),
        (Layer::new().hard_link("a", "../../etc/passwd"), "\"..\""),
        (link().hard_link("a", "abs/staging"), "behind a symbolic link"),
        (Layer::new().records(&[("linkpath", "../x")]).hard_link("a", "b"), "\"..\""),
        (Layer::new().directory("d").hard_link("a", "d"), "no file"),
        (Layer::new().file(".wh.a", b"").hard_link("b", "a"), "no file"),
        (Layer::new().file("a", b"").hard_link("a", "a"), "itself"),
        (Layer::new().file("a/.wh...", b""), "hides no name"),
        (Layer::new().file("a/.wh.", b""), "hides no name"),
        (Layer::new().file(".", b"x"), "root of the layer"),
        (Layer::new().file("a", b"").file("a/b", b""), "through a file"),
        (Layer::new().directory("a").file("a", b""), "same name"),
        (device(EntryType::Block), "device"),
        (device(EntryType::Char), "device"),
        (Layer::new().entry(EntryType::Char, "wh", "", b"", |_| {}), "device"),
        (Layer::new().entry(EntryType::Regular, "a", "", b"", |h| h.set_uid(65536)), "65536"),
        (Layer::new().records(&[("gid", "4294967296")]).file("a", b""), "4294967296"),
        (Layer::new().records(&[("GNU.sparse.major", "1")]).file("a", b""), "sparse"),
        (Layer::new().entry(EntryType::new(b'M'), "a", "", b"", |_| {}), "unknown kind"),
        (Layer::new().entry(EntryType::Symlink, "a", "", b"", |_| {}), "without a target"),
    ];
    for (layer, why) in cases {
        let said = shelf.refusal(&layer);
        assert!(said.contains(why), "{why}: {said}");
        assert!(!outside.exists(), "{target}: {said}");
    }
}

#[test]
fn duplicate_names_replace_and_never_write_through() {
    needs!(is_root(), "owners need root");
    let shelf = Shelf::new();
    let passwd = fs::read("/etc/passwd").unwrap();
    let layer = Layer::new()
        .file("a", b"first")
        .hard_link("b", "a")
        .file("a", b"second")
        .link("c", "/etc/passwd")
        .file("c", b"third")
        .link("d", "/etc")
        .directory("d")
        .file("d/passwd", b"fourth")
        .file("/abs", b"fifth");
    let (root, _) = shelf.unpack(&layer).unwrap();
    for (name, content) in
        [("a", "second"), ("b", "first"), ("c", "third"), ("d/passwd", "fourth"), ("abs", "fifth")]
    {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(fs::read("/etc/passwd").unwrap(), passwd);
}

#[test]
fn bombs_end_at_the_configured_bounds() {
    needs!(is_root(), "owners need root");
    let mut shelf = Shelf::new();
    let zeros = vec![0; 17 << 20];
    let bomb = Layer::new().file("zeros", &zeros);
    for packing in [Packing::Gzip, Packing::Zstd] {
        let archive = layout(std::slice::from_ref(&bomb), "{}", packing);
        assert!(archive.len() < 1 << 20);
        let why = shelf.import(&archive).unwrap_err().to_string();
        assert!(why.contains("more than 16MiB") && why.contains("runtime.max_image_bytes"), "{why}");
    }
    let why = shelf.import(&gzip(&layout(&[bomb], "{}", Packing::Plain))).unwrap_err().to_string();
    assert!(why.contains("runtime.max_image_bytes"), "{why}");
    // A size that the archive only claims: refused before anything of it is written.
    let claimed = Layer::new().entry(EntryType::Regular, "huge", "", b"", |h| h.set_size(1 << 62));
    assert!(shelf.refusal(&claimed).contains("No space"));
    let claimed = Layer::new().records(&[("size", "18446744073709551615")]).file("huge", b"");
    assert!(shelf.refusal(&claimed).contains("overflow"));
    // Names of two megabytes, which a reader of tar holds in memory.
    let long = vec![b'x'; 2 << 20];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let layer = Layer::new().entry(kind, "long", "", &long, |h| h.as_gnu_like()).file("a", b"");
        assert!(shelf.refusal(&layer).contains("headers are longer"));
    }
    shelf.limits.entries = 5;
    let many = (0..6).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), b""));
    assert!(shelf.refusal(&many).contains("more than 5 entries"));
}

/// Headers of the kinds for which `tar` looks at the magic.
trait GnuLike {
    fn as_gnu_like(&mut self);
}

impl GnuLike for tar::Header {
    fn as_gnu_like(&mut self) {
        self.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Names that point everywhere: whatever is taken lies in the layer, and all else is as it was.
    #[test]
    fn no_archive_changes_anything_outside_of_its_layer(
        entries in proptest::collection::vec(
            ("[a-c./]{1,6}|(\\.\\./){0,3}[ab]|\\.wh\\.[a-c.]{0,3}", "[a-c./]{0,6}|(\\.\\./){1,4}witness", 0..6_u8), 1..12)
    ) {
        if !is_root() {
            return Ok(());
        }
        let shelf = Shelf::new();
        let witness = shelf.dir.path().join("layers/witness");
        fs::write(&witness, "untouched").unwrap();
        let layer = entries.iter().fold(Layer::new(), |layer, (name, target, kind)| {
            let kind = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link,
                EntryType::Fifo, EntryType::Char][usize::from(*kind)];
            let content: &[u8] = if kind == EntryType::Regular { b"written" } else { b"" };
            layer.entry(kind, name, target, content, |_| {})
        });
        let taken = shelf.unpack(&layer);
        prop_assert_eq!(fs::read_to_string(&witness).unwrap(), "untouched");
        prop_assert_eq!(fs::metadata(&witness).unwrap().nlink(), 1);
        let expected = if taken.is_ok() { 2 } else { 1 };
        prop_assert_eq!(fs::read_dir(shelf.dir.path().join("layers")).unwrap().count(), expected);
        prop_assert_eq!(fs::read_dir(shelf.dir.path().join("staging")).unwrap().count(), 0);
        prop_assert_eq!(fs::read_dir(shelf.dir.path()).unwrap().count(), 2);
    }
}
