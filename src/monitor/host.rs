//! The host's name, system and times: `/etc/os-release` (os-release(5)), uname(2), `/proc/uptime`.

/// The system that the host runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    /// Its short name, such as `debian`.
    pub id: String,
    /// The family of systems, such as `debian` for ubuntu.
    pub family: String,
    /// Its version, such as `12`.
    pub version: String,
}

/// Facts of the host that stay while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The host's name.
    pub name: String,
    /// The system that runs there.
    pub system: System,
    /// Release of the kernel, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// The machine, such as `x86_64`.
    pub machine: String,
    /// The boot, in seconds since the epoch.
    pub booted: i64,
    /// Seconds since the boot.
    pub uptime: u64,
}

/// Parses `/etc/os-release`. A file without names is that of a Linux.
pub fn os_release(text: &str) -> System {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let plain = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        Some(plain.to_owned()).filter(|plain| !plain.is_empty())
    };
    let id = field("ID").unwrap_or_else(|| "linux".to_owned());
    // The closest relative stands first.
    let like = field("ID_LIKE").and_then(|like| like.split_whitespace().next().map(str::to_owned));
    System {
        family: like.unwrap_or_else(|| id.clone()),
        version: field("VERSION_ID").unwrap_or_default(),
        id,
    }
}

/// Parses `/proc/uptime`: whole seconds since the boot.
pub fn uptime(text: &str) -> Option<u64> {
    text.split(['.', ' ']).next()?.trim().parse().ok()
}

/// The name of the machine as other tools have it, such as `amd64` for `x86_64`.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn os_release_has_name_family_and_version() {
        let text = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=\"debian other\"\nVERSION_ID='22.04'\n";
        let system = os_release(text);
        assert_eq!(
            (system.id.as_str(), system.family.as_str(), system.version.as_str()),
            ("ubuntu", "debian", "22.04")
        );
        assert_eq!(os_release("ID=arch\nVERSION_ID=\n").family, "arch");
        assert_eq!(
            os_release(""),
            System { id: "linux".into(), family: "linux".into(), version: String::new() }
        );
    }

    #[test]
    fn uptime_is_in_whole_seconds() {
        assert_eq!((uptime("4711.99 9000.00\n"), uptime("0.5"), uptime("x")), (Some(4711), Some(0), None));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "((ID|ID_LIKE|VERSION_ID)=[\"' a-z]{0,9}\n?){0,4}[0-9. ]{0,9}") {
            let _ = (os_release(&text), uptime(&text));
        }
    }
}
