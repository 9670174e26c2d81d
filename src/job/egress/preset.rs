//! Lists that have a name: what installers of packages and git need to reach.
//!
//! The names are those that the tools ask for themselves, with the one port that they use. Where a service answers with
//! another name (CNAME), its addresses count for the name of the question, so the names of delivery networks are not
//! here. docs/networking.md has the same table.

/// The presets by name.
const PRESETS: [(&str, &[&str]); 5] = [
    ("pypi", &["pypi.org:443", "files.pythonhosted.org:443"]),
    ("npm", &["registry.npmjs.org:443", "registry.yarnpkg.com:443"]),
    (
        "debian",
        &["deb.debian.org:80", "deb.debian.org:443", "security.debian.org:80", "security.debian.org:443"],
    ),
    (
        "git",
        &[
            "github.com:443",
            "codeload.github.com:443",
            "raw.githubusercontent.com:443",
            "objects.githubusercontent.com:443",
            "release-assets.githubusercontent.com:443",
            "gitlab.com:443",
            "bitbucket.org:443",
            "codeberg.org:443",
        ],
    ),
    ("crates", &["index.crates.io:443", "static.crates.io:443", "crates.io:443"]),
];

/// The entries of a preset; `None` where there is none of that name.
pub fn entries(name: &str) -> Option<&'static [&'static str]> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, entries)| *entries)
}

/// The names of all presets, for people.
pub fn names() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_in_the_document_with_all_its_names() {
        let page = include_str!("../../../docs/networking.md");
        for (preset, entries) in PRESETS {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{preset}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/networking.md has no row for {preset}"));
            for entry in entries {
                assert!(row.contains(&format!("`{entry}`")), "{preset}: {entry}");
            }
        }
    }
}
