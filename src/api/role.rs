//! The roles of clients, which their certificates name in the organizational unit (OU).

/// The rights of a certificate's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The right to call every method.
    Admin,
    /// The right to call methods that change nothing.
    Viewer,
}

impl Role {
    /// The role that an organizational unit names. It is compared byte by byte: case and spaces count.
    pub(super) fn from_unit(unit: &[u8]) -> Option<Self> {
        match unit {
            b"admin" => Some(Role::Admin),
            b"viewer" => Some(Role::Viewer),
            _ => None,
        }
    }

    /// The name of the role in errors.
    pub(super) fn word(role: Option<Self>) -> &'static str {
        match role {
            Some(Role::Admin) => "admin",
            Some(Role::Viewer) => "viewer",
            None => "unknown",
        }
    }
}
