//! The user that a job is inside.

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// The user that the processes of a job are inside. Outside they are the leased host id, whichever it is, and neither has
/// a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// uid and gid 0: installers and tools that look for root find it.
    #[default]
    Root,
    /// uid and gid 1000: programs that refuse to run as root do not.
    Job,
}

impl User {
    /// Both, each at the place of its [`User::index`].
    pub const ALL: [User; 2] = [User::Root, User::Job];

    /// The name in requests, in `/etc/passwd` of a job and in its `USER`.
    pub const fn as_str(self) -> &'static str {
        match self {
            User::Root => "root",
            User::Job => "job",
        }
    }

    /// The uid and gid inside, one number.
    pub const fn id(self) -> u32 {
        match self {
            User::Root => 0,
            User::Job => 1000,
        }
    }

    /// The place in an array with one element for each user.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is uid 0, which records leave out.
    pub fn is_root(&self) -> bool {
        *self == User::Root
    }

    /// The user of this name.
    ///
    /// # Errors
    /// Any other word; `shown` stands for it in the text.
    pub fn parse(name: &str, shown: &str) -> Result<User, InvalidField> {
        let found = User::ALL.into_iter().find(|user| user.as_str() == name);
        let why = || {
            InvalidField::new(format!(
                "invalid user \"{shown}\": root (uid 0 inside the job) or job (uid 1000 inside)"
            ))
        };
        found.ok_or_else(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_found_by_its_name_and_at_its_place() {
        for (place, user) in User::ALL.into_iter().enumerate() {
            assert_eq!((User::parse(user.as_str(), ""), user.index()), (Ok(user), place));
            assert_eq!(serde_yaml::to_string(&user).unwrap().trim(), user.as_str());
        }
        for wrong in ["", "Root", "1000", "nobody"] {
            let text = User::parse(wrong, wrong).unwrap_err().0;
            assert!(text.starts_with(&format!("invalid user \"{wrong}\": root ")), "{text}");
        }
    }
}
