//! The profile of a job's walls.

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// The number of ids of a job of the profile [`Profile::Container`]: those of systemd's ranges, from 0 to 65535 inside.
pub const CONTAINER_IDS: u32 = 65_536;

/// How much a job may do with its own ids. Neither profile gives it anything outside of its user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One id and no capability.
    #[default]
    Strict,
    /// 65536 ids, and inside the job's own user namespace the capabilities that images of containers expect.
    Container,
}

impl Profile {
    /// Both profiles, the default first.
    pub const ALL: [Profile; 2] = [Profile::Strict, Profile::Container];

    /// The word in requests and in workflows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Strict => "strict",
            Profile::Container => "container",
        }
    }

    /// How many ids of the host a job has.
    pub const fn ids(self) -> u32 {
        match self {
            Profile::Strict => 1,
            Profile::Container => CONTAINER_IDS,
        }
    }

    /// Whether it is the usual one, which records leave out.
    pub fn is_strict(&self) -> bool {
        *self == Profile::Strict
    }

    /// The profile of this name; the empty one is `strict`.
    ///
    /// # Errors
    /// Any other word; `shown` stands for it in the text.
    pub fn parse(name: &str, shown: &str) -> Result<Profile, InvalidField> {
        if name.is_empty() {
            return Ok(Profile::Strict);
        }
        let found = Profile::ALL.into_iter().find(|profile| profile.as_str() == name);
        found.ok_or_else(|| {
            InvalidField::new(format!(
                "invalid profile \"{shown}\": strict (one id, no capability) or container (65536 ids, and the capabilities \
                 of containers inside the job)"
            ))
        })
    }
}

/// The first id of the ranges of `each` ids that are leased from `count` ids at `base`, and the number of ranges. They
/// begin at a multiple of `each`, as systemd's do, where one whole range of that kind lies within; else at `base`.
pub const fn ranges(base: u32, count: u32, each: u32) -> (u32, u32) {
    let end = base.saturating_add(count);
    let aligned = base.saturating_add(each - 1) / each * each;
    let first = if end.saturating_sub(aligned) >= each { aligned } else { base };
    (first, (end - first) / each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_is_found_by_its_name_and_strict_by_none() {
        for profile in Profile::ALL {
            assert_eq!(Profile::parse(profile.as_str(), ""), Ok(profile));
            assert_eq!(serde_yaml::to_string(&profile).unwrap().trim(), profile.as_str());
        }
        assert_eq!(Profile::parse("", ""), Ok(Profile::Strict));
        for wrong in ["Strict", "docker", "privileged"] {
            let text = Profile::parse(wrong, wrong).unwrap_err().0;
            assert!(text.starts_with(&format!("invalid profile \"{wrong}\": strict ")), "{text}");
        }
    }

    #[test]
    fn ranges_are_aligned_where_a_whole_one_lies_within() {
        for (base, count, each, expected) in [
            (0x7000_0000, 65_536, 1, (0x7000_0000, 65_536)),
            (100_000, 10, 1, (100_000, 10)),
            (0x7000_0000, 3 * 65_536, 65_536, (0x7000_0000, 3)),
            (0x7000_0001, 3 * 65_536, 65_536, (0x7001_0000, 2)),
            (100_000, 65_536, 65_536, (100_000, 1)),
            (100_000, 65_535, 65_536, (100_000, 0)),
        ] {
            assert_eq!(ranges(base, count, each), expected, "{base} {count} {each}");
        }
    }
}
