//! Semantic versions (semver.org 2.0.0), in their order of precedence.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidField, shown};

/// Longest version, in bytes.
const LONGEST: usize = 63;

/// A semantic version: three numbers, and perhaps a pre-release and a build. Two that differ by their builds alone are
/// different versions; [`Version::precedence`] does not rank them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    numbers: [u64; 3],
    text: String,
    /// Where the pre-release stands in the text; empty without one.
    pre: std::ops::Range<usize>,
}

impl Version {
    /// The version as text, as it was written. It can be the name of a directory: it begins with a digit and has no `/`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The order of semver.org, section 11: builds do not count.
    pub fn precedence(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre_release(), other.pre_release()) {
                ("", "") => Ordering::Equal,
                // A pre-release comes before its release.
                ("", _) => Ordering::Greater,
                (_, "") => Ordering::Less,
                (a, b) => pre_releases(a, b),
            }
        })
    }

    fn pre_release(&self) -> &str {
        &self.text[self.pre.clone()]
    }
}

/// Identifier by identifier; fewer of them come first.
fn pre_releases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                // Without leading zeros the longer one is the larger one.
                (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence(other).then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Version {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let no = |why: &str| {
            Err(InvalidField::new(format!("\"{}\" cannot be the version of a runtime: {why}", shown(text))))
        };
        if text.is_empty() || text.len() > LONGEST {
            return no("it must have 1 to 63 characters");
        }
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = [0; 3];
        let mut texts = core.split('.');
        for number in &mut numbers {
            let given =
                texts.next().filter(|given| is_number(given) && (*given == "0" || !given.starts_with('0')));
            match given.map(str::parse) {
                Some(Ok(value)) => *number = value,
                _ => return no("it must be a semantic version such as 1.3.1 or 2.0.0-rc.1"),
            }
        }
        if texts.next().is_some() {
            return no("it must have three numbers, such as 1.3.1");
        }
        let identifier =
            |one: &str| !one.is_empty() && one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let zeros = |one: &str| is_number(one) && one.len() > 1 && one.starts_with('0');
        if pre.is_some_and(|pre| pre.split('.').any(|one| !identifier(one) || zeros(one)))
            || build.is_some_and(|build| !build.split('.').all(identifier))
        {
            return no(
                "what follows the three numbers must be -PRE.RELEASE or +BUILD of letters, digits and '-'",
            );
        }
        let pre = pre.map_or(0..0, |pre| core.len() + 1..core.len() + 1 + pre.len());
        Ok(Version { numbers, text: text.to_owned(), pre })
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, InvalidField> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_in_the_order_of_the_standard() {
        let order = [
            "0.0.9",
            "0.1.0-alpha",
            "1.0.0-0",
            "1.0.0-9",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ];
        let versions: Vec<Version> = order.iter().map(|text| text.parse().unwrap()).collect();
        for pair in versions.windows(2) {
            assert_eq!(pair[0].precedence(&pair[1]), Ordering::Less, "{} {}", pair[0], pair[1]);
        }
        let [a, b] = ["1.0.0+a", "1.0.0+b"].map(|text| text.parse::<Version>().unwrap());
        assert!(a != b && a.precedence(&b) == Ordering::Equal && a < b);
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0-a..b",
            "1.0.0+",
            "1.0.0+a+b",
            "v1.0.0",
            "1.0.0-\u{e4}",
            "1.0.0/..",
            "latest",
            "99999999999999999999.0.0",
            "-1.0.0",
            " 1.0.0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!("1".repeat(1 << 20).parse::<Version>().unwrap_err().0.len() < 300);
    }

    proptest! {
        #[test]
        fn order_is_total_and_texts_come_back(
            texts in proptest::collection::vec("[0-2]\\.[0-2]\\.[0-2](-[a0-2]{1,2}(\\.[a0-9]{1,2})?)?(\\+[a-c])?", 3)
        ) {
            let versions: Vec<Version> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            for (version, text) in versions.iter().zip(&texts) {
                prop_assert!(version.as_str().parse::<Version>().unwrap() == *version, "{}", text);
            }
            for a in &versions {
                for b in &versions {
                    prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
                    prop_assert_eq!(a.cmp(b) == Ordering::Equal, a == b);
                    for c in &versions {
                        prop_assert!(!(a <= b && b <= c) || a <= c);
                    }
                }
            }
        }

        #[test]
        fn texts_never_panic(text in "\\PC{0,40}") {
            let version = text.parse::<Version>();
            prop_assert!(version.is_err() || version.unwrap().as_str() == text);
        }
    }
}
