//! The entries of an upload that a job gets.

/// Which entries of an upload a job gets. Several jobs of a workflow share its uploads, and each names its own.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All of them.
    All,
    /// Those with one of these paths, and what is below them.
    Named(&'a [String]),
}

impl Wanted<'_> {
    /// Whether the entry with this path is among them.
    pub fn has(&self, path: &[u8]) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Named(names) => names.iter().any(|name| is_at_or_below(name, path)),
        }
    }
}

/// Whether an entry stands at a path that a person wrote, or below it.
fn is_at_or_below(name: &str, path: &[u8]) -> bool {
    let plain = |path: &[u8]| path.strip_prefix(b"./").unwrap_or(path).to_vec();
    let (name, path) = (plain(name.as_bytes()), plain(path));
    let name = name.strip_suffix(b"/").unwrap_or(&name);
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_entries_are_those_at_and_below_a_path() {
        let names = ["a.py".to_owned(), "./data/".to_owned()];
        let wanted = Wanted::Named(&names);
        for (path, has) in [
            ("a.py", true),
            ("./a.py", true),
            ("data", true),
            ("data/x/y", true),
            ("a.pyc", false),
            ("database", false),
        ] {
            assert_eq!(wanted.has(path.as_bytes()), has, "{path}");
            assert!(Wanted::All.has(path.as_bytes()));
        }
    }
}
