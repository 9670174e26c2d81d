//! The registry of runtimes: where it is, what its `registry.json` says, and which version of it this host takes.
//!
//! `registry.json` is `{"version": "1", "runtimes": {NAME: {VERSION: {"version", "description", "download_url", "checksum",
//! "size", "platforms"}}}}`. This file is pure: it reads texts, and fetches nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::job::runtime::{RuntimeSpec, Version, Wanted};

/// The schema that is understood.
const SCHEMA: &str = "1";
/// Where distributions say what they are (os-release(5)).
pub const OS_RELEASE: &str = "/etc/os-release";
/// Most candidates that an error names.
const SHOWN: usize = 10;

/// The index of a registry.
#[derive(Debug, Deserialize)]
pub struct Index {
    version: String,
    #[serde(default)]
    runtimes: BTreeMap<String, BTreeMap<String, Release>>,
}

/// One version of a runtime in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Release {
    /// A sentence for people; may be empty.
    #[serde(default)]
    pub description: String,
    /// The URL of its archive, a compressed tar file.
    pub download_url: String,
    /// The digest of the archive, `sha256:` and 64 digits.
    pub checksum: String,
    /// Bytes of the archive; 0: not told.
    #[serde(default)]
    pub size: u64,
    /// The platforms that it is made for, such as `ubuntu-amd64`; empty: all.
    #[serde(default)]
    pub platforms: Vec<String>,
}

impl Index {
    /// Reads a `registry.json`.
    ///
    /// # Errors
    /// The mistake, as a sentence.
    pub fn parse(text: &str) -> Result<Index, String> {
        let index: Index =
            serde_json::from_str(text).map_err(|why| format!("it is no registry.json: {why}"))?;
        if index.version != SCHEMA {
            let found: String = index.version.chars().take(20).collect();
            let found = found.escape_debug();
            return Err(format!("its schema is {found}, and only {SCHEMA} is understood"));
        }
        Ok(index)
    }

    /// All releases with their names and versions, the highest version of a name first. A version that is none is left out.
    pub fn releases(&self) -> Vec<(&str, Version, &Release)> {
        let mut all = Vec::new();
        for (name, releases) in &self.runtimes {
            let mut of_name: Vec<(Version, &Release)> =
                releases.iter().filter_map(|(text, one)| Some((text.parse().ok()?, one))).collect();
            of_name.sort_by(|one, other| other.0.precedence(&one.0));
            all.extend(of_name.into_iter().map(|(version, one)| (name.as_str(), version, one)));
        }
        all
    }

    /// The release that a client asks for: the exact version, or the highest one.
    ///
    /// # Errors
    /// There is none, or none for this platform; as a sentence with what there is.
    pub fn find(&self, asked: &RuntimeSpec, platform: &str) -> Result<(Version, &Release), String> {
        let name = &asked.name;
        let Some(releases) = self.runtimes.get(name.as_str()) else {
            let there: Vec<&str> = self.runtimes.keys().map(String::as_str).take(SHOWN).collect();
            return Err(format!(
                "the registry has no runtime \"{name}\"; it has: {}",
                there.join(", ").escape_debug()
            ));
        };
        let versions =
            || releases.iter().filter_map(|(text, one)| Some((text.parse::<Version>().ok()?, one)));
        let found = match &asked.version {
            Wanted::Exactly(version) => versions().find(|(there, _)| there == version),
            Wanted::Latest => versions().max_by(|one, other| one.0.precedence(&other.0)),
        };
        let Some((version, release)) = found else {
            let there: Vec<String> = versions().map(|(version, _)| version.to_string()).take(SHOWN).collect();
            return Err(format!("the registry has no \"{asked}\"; it has {name}: {}", there.join(", ")));
        };
        let suits = release.platforms.is_empty() || release.platforms.iter().any(|one| one == platform);
        if !suits {
            let there = release.platforms.join(", ");
            return Err(format!(
                "\"{name}@{version}\" is for {}, and this host is {platform}",
                there.escape_debug()
            ));
        }
        Ok((version, release))
    }
}

/// The URL of the `registry.json` of `OWNER/REPOSITORY`, of a repository of GitHub, or of a directory on any server.
/// `branch` is that of the repository.
///
/// # Errors
/// It is none of these, as a sentence.
pub fn index_url(registry: &str, branch: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("registry \"{}\" {why}", cut(registry)));
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !word.is_empty() && word.len() <= 100 && word.chars().all(plain) && !word.starts_with('.')
    };
    let branch = if branch.is_empty() { "main" } else { branch };
    let bare = registry.strip_prefix("https://github.com/").unwrap_or(registry).trim_end_matches('/');
    if let Some((owner, repository)) = bare.split_once('/') {
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        if is_word(owner) && is_word(repository) {
            if !branch.split('/').all(is_word) {
                return Err(format!("branch \"{}\" is no name of a branch", cut(branch)));
            }
            return Ok(format!(
                "https://raw.githubusercontent.com/{owner}/{repository}/{branch}/registry.json"
            ));
        }
    }
    let is_url = bare.starts_with("https://") || bare.starts_with("http://");
    if !is_url || bare.len() > 1024 || bare.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong("is neither OWNER/REPOSITORY nor a URL with https");
    }
    if bare.contains(['?', '#', '@']) {
        return wrong("has a query, a fragment or a user, which a registry has not");
    }
    Ok(format!("{bare}/registry.json"))
}

/// The beginning of a text, for an error.
fn cut(text: &str) -> String {
    text.chars().take(100).collect::<String>().escape_debug().to_string()
}

/// The platform of this host, in the words of registries: the family of its distribution and its processor.
pub fn platform(os_release: &str, architecture: &str) -> String {
    let field = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let ids = format!("{} {}", field("ID"), field("ID_LIKE"));
    let family = ids.split(' ').find_map(|id| match id {
        "ubuntu" | "debian" => Some("ubuntu"),
        "rhel" | "centos" | "rocky" | "almalinux" | "fedora" => Some("rhel"),
        "amzn" => Some("amzn"),
        _ => None,
    });
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{architecture}", family.unwrap_or("linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version":"1","updated_at":"x","runtimes":{"python-3.11":{
        "1.3.1":{"version":"1.3.1","description":"d","download_url":"https://x/a.tgz","checksum":"sha256:00","size":7,
                 "platforms":["ubuntu-amd64"]},
        "1.10.0":{"download_url":"https://x/b.tgz","checksum":"sha256:00","platforms":["rhel-arm64"]},
        "odd":{"download_url":"","checksum":""}}}}"#;

    fn find(spec: &str, platform: &str) -> Result<String, String> {
        let index = Index::parse(TEXT).unwrap();
        index.find(&spec.parse().unwrap(), platform).map(|(version, _)| version.to_string())
    }

    #[test]
    fn release_is_the_exact_or_the_highest_for_this_platform() {
        assert_eq!(find("python-3.11@1.3.1", "ubuntu-amd64").unwrap(), "1.3.1");
        assert_eq!(find("python-3.11", "rhel-arm64").unwrap(), "1.10.0");
        assert!(find("python-3.11", "ubuntu-amd64").unwrap_err().contains("is for rhel-arm64"));
        assert!(find("python-3.11@2.0.0", "ubuntu-amd64").unwrap_err().contains("1.3.1"));
        assert!(find("go", "ubuntu-amd64").unwrap_err().contains("it has: python-3.11"));
        assert!(Index::parse(r#"{"version":"2"}"#).unwrap_err().contains("only 1"));
        assert!(Index::parse("<html>").unwrap_err().contains("no registry.json"));
    }

    #[test]
    fn releases_are_listed_with_the_highest_version_first() {
        let index = Index::parse(TEXT).unwrap();
        let found = index.releases().into_iter().map(|(name, version, _)| format!("{name}@{version}"));
        assert_eq!(found.collect::<Vec<_>>(), ["python-3.11@1.10.0", "python-3.11@1.3.1"]);
    }

    #[test]
    fn registries_are_repositories_or_addresses_with_https() {
        let raw = "https://raw.githubusercontent.com/owner/repo";
        assert_eq!(index_url("owner/repo", "").unwrap(), format!("{raw}/main/registry.json"));
        assert_eq!(
            index_url("https://github.com/owner/repo.git/", "v1").unwrap(),
            format!("{raw}/v1/registry.json")
        );
        assert_eq!(index_url("https://x.org/a/", "").unwrap(), "https://x.org/a/registry.json");
        for bad in [
            "",
            "x",
            "file:///etc",
            "https://x/?a",
            "https://u@x/",
            "owner/repo/more",
            "../..",
            "https://x\n/",
        ] {
            assert!(index_url(bad, "").is_err(), "{bad}");
        }
        assert!(index_url("owner/repo", "../x").is_err());
    }

    #[test]
    fn platform_is_the_family_of_the_distribution_and_the_processor() {
        assert_eq!(platform("ID=debian\n", "x86_64"), "ubuntu-amd64");
        assert_eq!(
            platform("NAME=\"Rocky\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "aarch64"),
            "rhel-arm64"
        );
        assert_eq!(platform("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "x86_64"), "ubuntu-amd64");
        assert_eq!(platform("", "riscv64"), "linux-riscv64");
    }
}
