//! The user of a payload by name or number, as images and clients write it: `USER[:GROUP]`.
//!
//! It is looked up in the job's own root, whose files an image brings: they are read as lines of colons, and nothing in them is
//! trusted beyond the ids that a job of the profile `container` has.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CONTAINER_IDS, InvalidField};

/// The user that a payload is to be inside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunAs {
    /// Nobody has named one. The image's, in a job that has its id; else that of the sandbox ([`User`](super::User)).
    #[default]
    Unnamed,
    /// That of the sandbox.
    Own,
    /// One of the root's /etc/passwd, or a number. Only in jobs of the profile `container`.
    Known(UserName),
}

impl RunAs {
    /// Whether nobody has named one, which records leave out.
    pub fn is_unnamed(&self) -> bool {
        *self == RunAs::Unnamed
    }
}

/// A user, and perhaps a group, each by its name or its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName {
    user: String,
    group: Option<String>,
}

/// Longest name of a user or group in characters: more than useradd(8) makes.
const MAX_NAME: usize = 64;

impl FromStr for UserName {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            let shown: String = text.chars().take(MAX_NAME).collect();
            return Err(InvalidField::new(format!(
                "invalid user \"{}\": it is a name or a number of at most {MAX_NAME} characters, and perhaps a colon and such \
                 a group",
                shown.escape_debug()
            )));
        }
        Ok(UserName { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl TryFrom<String> for UserName {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, InvalidField> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.to_string()
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

/// A user as the files of a root have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, or its number where it has no name.
    pub name: String,
    /// The uid inside, below [`CONTAINER_IDS`].
    pub uid: u32,
    /// The gid inside, likewise.
    pub gid: u32,
    /// The supplementary groups, likewise, in their order.
    pub groups: Vec<u32>,
    /// Its home directory, absolute; `None` where it has none.
    pub home: Option<String>,
}

impl UserName {
    /// Looks it up in the texts of /etc/passwd and /etc/group (passwd(5), group(5)). A number needs no line there; its group is 0
    /// then. A user without a group of the request has that of its line, and all groups that name it.
    ///
    /// # Errors
    /// There is no such name, or an id is beyond those of a job.
    pub fn find(&self, passwd: &[u8], group: &[u8]) -> Result<Found, String> {
        let number = number(&self.user);
        let line = lines(passwd).find(|fields| match number {
            Some(number) => id(fields.get(2)) == Some(number),
            None => fields.first() == Some(&self.user.as_bytes()),
        });
        let (uid, line) = match (number, line) {
            (None, None) => return Err(format!("its root's /etc/passwd has no user \"{}\"", self.user)),
            (Some(number), line) => (number, line.unwrap_or_default()),
            (None, Some(line)) => (id(line.get(2)).ok_or("its line in /etc/passwd has no number")?, line),
        };
        let name = line.first().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or(&self.user);
        let (gid, groups) = match &self.group {
            Some(group_name) => (find_group(group_name, group)?, BTreeSet::new()),
            None => (id(line.get(3)).unwrap_or(0), groups_of(name, group)),
        };
        let home = line.get(5).and_then(|home| std::str::from_utf8(home).ok());
        let home = home.filter(|home| home.starts_with('/') && !home.contains('\0')).map(str::to_owned);
        let groups = groups.into_iter().filter(|group| *group != gid).collect();
        Ok(Found { name: name.to_owned(), uid: bounded(uid)?, gid: bounded(gid)?, groups, home })
    }
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, String> {
    if let Some(number) = number(name) {
        return Ok(number);
    }
    let line = lines(group).find(|fields| fields.first() == Some(&name.as_bytes()));
    let line = line.ok_or_else(|| format!("its root's /etc/group has no group \"{name}\""))?;
    id(line.get(2)).ok_or_else(|| "its line in /etc/group has no number".to_owned())
}

/// The groups that name a user, without those that a job does not have.
fn groups_of(user: &str, group: &[u8]) -> BTreeSet<u32> {
    let names = |members: &[u8]| members.split(|b| *b == b',').any(|member| member == user.as_bytes());
    let of_user = lines(group).filter(|fields| fields.get(3).is_some_and(|members| names(members)));
    of_user.filter_map(|fields| id(fields.get(2))).filter(|gid| *gid < CONTAINER_IDS).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b':').collect())
}

/// A number in digits alone.
fn number(text: &str) -> Option<u32> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    // One that is too large for the type is one all the same, and no name.
    is_digits.then(|| text.parse().unwrap_or(u32::MAX))
}

fn id(field: Option<&&[u8]>) -> Option<u32> {
    let text = std::str::from_utf8(field?).ok().filter(|text| !text.is_empty())?;
    number(text)
}

fn bounded(id: u32) -> Result<u32, String> {
    let why = || format!("a job has the ids 0 to {}, and not {id}", CONTAINER_IDS - 1);
    (id < CONTAINER_IDS).then_some(id).ok_or_else(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbroken\n:::\npostgres:x:999:998:,,,:/var/lib/postgresql:/bin/sh\n\
        far:x:70000:0::/:/bin/sh\nbad:x:many:1::/:\nodd\xff:x:5:5::/:\nnohome:x:7:7::../x:/bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\npostgres:x:998:\nssl:x:101:a,postgres\nfar:x:70000:postgres\nadm:x:4:postgres,b\nx:x:9:postgresql\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let name: UserName = text.parse().map_err(|why: InvalidField| why.0)?;
        name.find(PASSWD, GROUP).map(|found| (found.uid, found.gid, found.groups))
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        for (text, found) in [
            ("root", (0, 0, vec![])),
            ("postgres", (999, 998, vec![4, 101])),
            ("999", (999, 998, vec![4, 101])),
            ("postgres:adm", (999, 4, vec![])),
            ("999:0", (999, 0, vec![])),
            ("1234", (1234, 0, vec![])),
            ("1234:5678", (1234, 5678, vec![])),
            ("65535:65535", (65535, 65535, vec![])),
        ] {
            assert_eq!(find(text), Ok(found), "{text}");
        }
        let found = "999".parse::<UserName>().unwrap().find(PASSWD, GROUP).unwrap();
        assert_eq!((found.name.as_str(), found.home.as_deref()), ("postgres", Some("/var/lib/postgresql")));
        let found = "7".parse::<UserName>().unwrap().find(PASSWD, b"").unwrap();
        assert_eq!((found.name.as_str(), found.home), ("nohome", None));
    }

    #[test]
    fn what_a_root_does_not_have_is_told_by_its_name() {
        for (text, why) in [
            ("nobody", "/etc/passwd has no user \"nobody\""),
            ("postgres:wheel", "/etc/group has no group \"wheel\""),
            ("far", "0 to 65535, and not 70000"),
            ("65536", "and not 65536"),
            ("1:65536", "and not 65536"),
            ("99999999999", "0 to 65535"),
            ("bad", "has no number"),
            ("", "invalid user \"\""),
            (":1", "invalid user"),
            ("a:", "invalid user"),
            ("a:b:c", "invalid user"),
            ("a b", "invalid user"),
            ("a\n", "invalid user \"a\\n\""),
        ] {
            let said = find(text).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(find(&"x".repeat(65)).is_err());
    }
}
