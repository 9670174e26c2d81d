//! The dynamic linker's cache, `/etc/ld.so.cache`: which file the C library loads by which name.
//!
//! The format is that of glibc since 2.2 (`sysdeps/generic/dl-cache.h`, `struct cache_file_new`): a head of 48 bytes, entries of 24,
//! texts. `ldconfig` writes an older format before it with `-c compat`, so the head is looked for. musl has no
//! such file.

use std::path::PathBuf;

/// The beginning of the head.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes of the head: magic, number of entries, bytes of texts, flags, offset of extensions, reserved.
const HEAD: usize = 48;
/// Bytes of an entry: kind, offset of the name, offset of the path, version of the kernel, wanted hardware.
const ENTRY: usize = 24;
/// The kind of a library for glibc on x86-64 (`FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`). Others are for programs of 32 bits.
const X86_64: u32 = 0x0303;

/// One entry: the name by which programs ask for a library, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name that programs ask for, such as `libcuda.so.1`.
    pub(super) name: String,
    /// An absolute path, perhaps of a link.
    pub(super) path: PathBuf,
}

/// The libraries for x86-64 programs, in the linker's own order: the first of a name is the one that it takes. Entries that only some
/// processors can use are left out, and those whose texts are odd. `None`: the bytes are no such cache.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &bytes[start..];
    let number = word(cache, MAGIC.len())? as usize;
    let entries = cache.get(HEAD..)?.get(..number.checked_mul(ENTRY)?)?;
    Some(entries.chunks_exact(ENTRY).filter_map(|entry| read(cache, entry)).collect())
}

fn read(cache: &[u8], entry: &[u8]) -> Option<Entry> {
    let hardware = entry.get(16..24)?.try_into().map(u64::from_le_bytes).ok()?;
    if word(entry, 0)? != X86_64 || hardware != 0 {
        return None;
    }
    let name = text(cache, word(entry, 4)?)?;
    let path = text(cache, word(entry, 8)?)?;
    let is_name = !name.is_empty() && name.len() < 256 && !name.contains('/') && !matches!(name, "." | "..");
    (is_name && path.starts_with('/')).then(|| Entry { name: name.to_owned(), path: path.into() })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().map(u32::from_le_bytes).ok()
}

/// The text at an offset, up to its NUL.
fn text(cache: &[u8], at: u32) -> Option<&str> {
    let rest = cache.get(at as usize..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A cache as ldconfig writes it.
    fn cache(entries: &[(u32, u64, &str, &str)]) -> Vec<u8> {
        let (mut head, mut texts) = (MAGIC.to_vec(), Vec::new());
        let texts_at = HEAD + entries.len() * ENTRY;
        head.extend((entries.len() as u32).to_le_bytes());
        head.resize(HEAD, 0);
        for (kind, hardware, name, path) in entries {
            let mut put = |text: &str| {
                let at = (texts_at + texts.len()) as u32;
                texts.extend_from_slice(text.as_bytes());
                texts.push(0);
                at.to_le_bytes()
            };
            let (name, path) = (put(name), put(path));
            head.extend(kind.to_le_bytes().into_iter().chain(name).chain(path).chain([0; 4]));
            head.extend(hardware.to_le_bytes());
        }
        head.extend(texts);
        head
    }

    fn entry(name: &str, path: &str) -> Entry {
        Entry { name: name.into(), path: path.into() }
    }

    #[test]
    fn libraries_of_this_processor_are_read_in_order() {
        let bytes = cache(&[
            (X86_64, 0, "libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1"),
            (0x0003, 0, "libcuda.so.1", "/lib/i386-linux-gnu/libcuda.so.1"),
            (X86_64, 1 << 62, "libm.so.6", "/lib/glibc-hwcaps/x86-64-v3/libm.so.6"),
            (X86_64, 0, "libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1"),
            (X86_64, 0, "../x", "/lib/x"),
            (X86_64, 0, "x", "relative"),
        ]);
        let first = entry("libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1");
        let second = entry("libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1");
        assert_eq!(parse(&bytes), Some(vec![first.clone(), second.clone()]));
        // The older format stands before it, and offsets count from the head.
        let both = [b"ld.so-1.7.0\0\0\0\0\0".as_slice(), &bytes].concat();
        assert_eq!(parse(&both), Some(vec![first, second]));
        assert_eq!(parse(b"ld.so-1.7.0\0"), None);
        assert_eq!(parse(&bytes[..HEAD + 3]), None);
    }

    #[test]
    fn cache_of_this_host_has_its_c_library() {
        // Other C libraries have none.
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else { return };
        let found = parse(&bytes).unwrap();
        assert!(found.iter().any(|entry| entry.name == "libc.so.6" && entry.path.exists()), "{found:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..400),
            magic in any::<bool>(),
        ) {
            if magic {
                bytes.splice(0..0, MAGIC.iter().copied());
            }
            for entry in parse(&bytes).into_iter().flatten() {
                prop_assert!(entry.path.is_absolute() && !entry.name.contains('/'));
            }
        }

        #[test]
        fn cut_or_changed_cache_gives_sound_entries(
            names in prop::collection::vec("[a-z./]{0,8}", 0..6), at in 0usize..200, byte in any::<u8>(), cut in 0usize..200,
        ) {
            let entries: Vec<_> = names.iter().map(|name| (X86_64, 0, name.as_str(), "/lib/x")).collect();
            let mut bytes = cache(&entries);
            let sound = parse(&bytes).map(|found| found.len());
            prop_assert_eq!(sound, Some(names.iter().filter(|name| {
                !name.is_empty() && !name.contains('/') && !matches!(name.as_str(), "." | "..")
            }).count()));
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            for entry in parse(&bytes).into_iter().flatten() {
                prop_assert!(entry.path.is_absolute() && !entry.name.contains('/'));
            }
        }
    }
}
