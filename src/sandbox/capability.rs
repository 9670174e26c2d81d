//! The capabilities that a job may have in its own user namespace.

/// A set of capabilities: bit n for the capability of number n (linux/capability.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Numbers and names of the capabilities of the profile `container`, those that images expect. All of them act on the ids,
/// processes and files of the job alone: nothing else is mapped in its user namespace. Absent are those that reach code of the
/// kernel which a job has no business with: `net_raw` and `net_admin`, `mknod`, `sys_admin`, `sys_ptrace`, `setfcap`.
const OF_CONTAINERS: [(u32, &str); 10] = [
    (0, "chown"),
    (1, "dac_override"),
    (3, "fowner"),
    (4, "fsetid"),
    (5, "kill"),
    (6, "setgid"),
    (7, "setuid"),
    (8, "setpcap"),
    (10, "net_bind_service"),
    (18, "sys_chroot"),
];

impl Capabilities {
    /// The empty set.
    pub const NONE: Capabilities = Capabilities(0);

    /// Those of the profile `container`.
    pub const CONTAINER: Capabilities = {
        let (mut bits, mut at) = (0, 0);
        while at < OF_CONTAINERS.len() {
            bits |= 1 << OF_CONTAINERS[at].0;
            at += 1;
        }
        Capabilities(bits)
    };

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has the capability of this number, 0..64.
    pub const fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    /// The bits, as `/proc/PID/status` shows them in hexadecimal.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The names of those that it has, separated by a comma.
    pub fn names(self) -> String {
        let held = OF_CONTAINERS.iter().filter(|(number, _)| self.has(*number as usize));
        held.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_exactly_the_ten_that_are_named() {
        assert_eq!(Capabilities::CONTAINER.bits(), 0x405fb);
        assert!(Capabilities::CONTAINER.names().starts_with("chown, dac_override, fowner, "));
        assert!(Capabilities::NONE.is_empty() && Capabilities::NONE.names().is_empty());
    }
}
