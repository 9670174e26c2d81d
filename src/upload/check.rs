//! The rules for paths, all of them syntax.

use super::{LinkRoots, Upload, UploadError, link, printable};

/// Longest path in bytes, as PATH_MAX counts it less its NUL (linux/limits.h).
const LONGEST_PATH: usize = 4096;
/// Longest component in bytes: NAME_MAX.
const LONGEST_NAME: usize = 255;
/// Deepest path in components: far beyond any source tree, and a bound for the cleanup that has to remove it.
const DEEPEST: usize = 128;
/// Most entries of one request.
const MOST: usize = 100_000;

/// Whether these uploads may be written.
///
/// A path is relative and canonical: no empty component (so no leading, doubled or trailing `/`), no `.`,
/// no `..`, no NUL, at most 4096 bytes, 255 a component, 128 components. No file may be where another entry
/// needs a directory. The same file twice is fine: the later one holds. A symbolic link leads to a place within the
/// directory, or into one of `roots`.
///
/// # Errors
/// The first entry that breaks a rule, or too many entries; never a fault of this host.
pub fn check(uploads: &[Upload], roots: &LinkRoots) -> Result<(), UploadError> {
    if uploads.len() > MOST {
        return Err(UploadError::Count { count: uploads.len(), limit: MOST });
    }
    for upload in uploads {
        alone(upload, roots).map_err(|why| refused(&upload.path, why))?;
    }
    together(uploads)
}

fn refused(path: &[u8], why: String) -> UploadError {
    UploadError::Check { entry: printable(path), why }
}

/// The rules for one entry.
fn alone(upload: &Upload, roots: &LinkRoots) -> Result<(), String> {
    let path = upload.path.as_slice();
    let relative = "give a path relative to /work, such as data/input.csv";
    if path.is_empty() {
        return Err(format!("it is empty; {relative}"));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("it has {} bytes, at most {LONGEST_PATH} are allowed", path.len()));
    }
    if path.contains(&0) {
        return Err("it contains a NUL character".to_owned());
    }
    if path.starts_with(b"/") {
        return Err(format!("it is absolute; {relative}"));
    }
    if path.split(|byte| *byte == b'/').count() > DEEPEST {
        return Err(format!("it is more than {DEEPEST} directories deep"));
    }
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" => return Err("it has a doubled or trailing \"/\"; leave that out".to_owned()),
            b"." => return Err("it has a component \".\"; leave that out".to_owned()),
            _ if name.split(|byte| *byte == b'\\').any(|part| part == b"..") => {
                return Err(format!("\"..\" is not allowed; {relative}"));
            }
            _ if name.len() > LONGEST_NAME => {
                return Err(format!(
                    "a component has {} bytes, at most {LONGEST_NAME} are allowed",
                    name.len()
                ));
            }
            _ => {}
        }
    }
    if upload.is_directory && !upload.content.is_empty() {
        return Err("a directory cannot have content".to_owned());
    }
    let Some(target) = &upload.target else { return Ok(()) };
    if upload.is_directory || !upload.content.is_empty() {
        return Err("a symbolic link is no directory and has no content".to_owned());
    }
    link::check(path, target, roots)
}

/// The rules for entries beside each other.
///
/// Sorted with `/` before every other character, the entries below a directory follow it at once. So looking at
/// neighbours finds every conflict, whatever the paths' depth.
fn together(uploads: &[Upload]) -> Result<(), UploadError> {
    let mut sorted: Vec<&Upload> = uploads.iter().collect();
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    sorted.sort_unstable_by(|a, b| a.path.iter().copied().map(rank).cmp(b.path.iter().copied().map(rank)));
    for pair in sorted.windows(2) {
        let (upper, lower) = (pair[0], pair[1]);
        if upper.path == lower.path && kind(upper) != kind(lower) {
            let why = format!("it is uploaded as a {} and as a {}", kind(upper), kind(lower));
            return Err(refused(&lower.path, why));
        }
        let below = lower.path.strip_prefix(upper.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
        if below && !upper.is_directory {
            let why =
                format!("\"{}\" is uploaded as a {}, not a directory", printable(&upper.path), kind(upper));
            return Err(refused(&lower.path, why));
        }
    }
    Ok(())
}

/// The kind of an entry in words.
fn kind(upload: &Upload) -> &'static str {
    match (upload.is_directory, &upload.target) {
        (true, _) => "directory",
        (false, Some(_)) => "symbolic link",
        (false, None) => "file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str) -> Upload {
        Upload { path: path.into(), ..Upload::default() }
    }

    fn directory(path: &str) -> Upload {
        Upload { is_directory: true, ..file(path) }
    }

    fn link(path: &str, target: &str) -> Upload {
        Upload { target: Some(target.to_owned()), ..file(path) }
    }

    fn taken(uploads: &[Upload]) -> Result<(), UploadError> {
        check(uploads, &LinkRoots::default())
    }

    fn refusal(uploads: &[Upload]) -> String {
        let error = taken(uploads).unwrap_err();
        assert!(error.is_invalid_request());
        error.to_string()
    }

    #[test]
    fn paths_that_could_leave_the_directory_are_refused_by_name() {
        for bad in ["../x", "/etc/x", "a/../../x", "a/..", "..", "..\\x", "a\\..\\x", "/", "//etc"] {
            let text = refusal(&[file("fine"), file(bad)]);
            assert!(text.starts_with(&format!("invalid upload path \"{}\": ", bad.escape_debug())), "{text}");
            assert!(text.contains("relative to /work"), "{text}");
        }
    }

    #[test]
    fn paths_that_are_not_canonical_are_refused() {
        for bad in ["", ".", "./x", ".//./x", "a//b", "a/./b", "a/", "a\0b"] {
            refusal(&[file(bad)]);
            refusal(&[directory(bad)]);
        }
    }

    #[test]
    fn paths_are_as_long_and_deep_as_the_kernel_takes() {
        let name = "n".repeat(255);
        let longest = [name.as_str(); 16].join("/");
        assert_eq!(longest.len(), 4095);
        taken(&[file(&longest)]).unwrap();
        taken(&[file(&["d"; 128].join("/"))]).unwrap();
        assert!(refusal(&[file(&["d"; 129].join("/"))]).contains("128"));
        assert!(refusal(&[file(&"n".repeat(256))]).contains("255"));
        let text = refusal(&[file(&"é".repeat(2049))]);
        assert!(text.contains("4098 bytes") && text.len() < 400, "{text}");
        assert!(refusal(&vec![file("a"); MOST + 1]).contains("100001"));
    }

    #[test]
    fn odd_names_that_are_only_names_are_taken() {
        for fine in ["a b", "a\\b", "...", "..a", "a..", ".hidden", "-rf", "new\nline", "日本", "a/b/c.txt"]
        {
            taken(&[file(fine)]).unwrap();
        }
        taken(&[]).unwrap();
    }

    #[test]
    fn a_file_cannot_be_a_directory_too() {
        for pair in [
            [file("a"), file("a/b")],
            [file("a/b"), file("a")],
            [file("a"), directory("a/b/c")],
            [file("a"), directory("a")],
            [directory("a"), file("a")],
        ] {
            refusal(&pair);
        }
        // Names between "a" and "a/b" in byte order must not hide the conflict.
        let text = refusal(&[file("a"), file("a-b"), file("a b"), file("a!"), file("a/b")]);
        assert_eq!(text, "invalid upload path \"a/b\": \"a\" is uploaded as a file, not a directory");
        taken(&[directory("a"), file("a/b"), file("a-b"), file("ab"), directory("a"), file("ab")]).unwrap();
        assert!(refusal(&[Upload { content: vec![1], ..directory("d") }]).contains("content"));
    }

    #[test]
    fn names_that_are_not_utf_8_are_taken_and_checked_alike() {
        let raw = |path: &[u8]| Upload { path: path.into(), ..Upload::default() };
        taken(&[raw(b"caf\xe9"), raw(b"\xff/\xfe"), raw(b"caf\xc3")]).unwrap();
        for bad in [&b"\xff/../x"[..], b"/\xff", b"\xff//x", b"\xff\0"] {
            assert!(refusal(&[raw(bad)]).contains('\u{fffd}'), "{bad:?}");
        }
    }

    #[test]
    fn a_link_is_no_parent_and_no_other_kind() {
        taken(&[link("a", "b"), link("a", "c"), file("b")]).unwrap();
        let text = refusal(&[link("a", "b"), file("a/x")]);
        assert!(text.ends_with("\"a\" is uploaded as a symbolic link, not a directory"), "{text}");
        for pair in [[link("a", "b"), file("a")], [directory("a"), link("a", "b")]] {
            refusal(&pair);
        }
        assert!(refusal(&[link("a/b", "../../etc/shadow")]).contains("invalid upload path \"a/b\""));
        refusal(&[Upload { content: vec![1], ..link("a", "b") }]);
        refusal(&[Upload { is_directory: true, ..link("a", "b") }]);
    }

    #[test]
    fn hostile_names_do_not_reach_the_terminal() {
        let text = refusal(&[file("../\u{1b}]52;c;\u{202e}x\n")]);
        assert!(!text.contains(['\u{1b}', '\n', '\u{202e}']), "{text:?}");
    }

    proptest! {
        #[test]
        fn neighbours_find_what_comparing_all_pairs_finds(
            entries in prop::collection::vec(("[ab!]{1,2}(/[ab!]{1,2}){0,2}", any::<bool>()), 0..8),
        ) {
            let uploads: Vec<_> =
                entries.iter().map(|(path, dir)| Upload { is_directory: *dir, ..file(path) }).collect();
            let conflict = uploads.iter().any(|a| uploads.iter().any(|b| {
                let below = b.path.starts_with(&[&a.path[..], b"/"].concat());
                (below && !a.is_directory) || (a.path == b.path && a.is_directory != b.is_directory)
            }));
            prop_assert_eq!(taken(&uploads).is_err(), conflict);
        }
    }
}
