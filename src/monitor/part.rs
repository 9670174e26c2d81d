//! The parts of a sample, which a reader chooses.

/// A part of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Processors and load.
    Cpu,
    /// Memory and swap.
    Memory,
    /// File systems and their room.
    Disk,
    /// Interfaces and their counters.
    Network,
    /// Disks at work.
    Io,
    /// Processes in numbers, and the largest.
    Process,
}

impl Part {
    /// All parts with their names on the wire.
    pub const NAMED: [(Part, &'static str); 6] = [
        (Part::Cpu, "cpu"),
        (Part::Memory, "memory"),
        (Part::Disk, "disk"),
        (Part::Network, "network"),
        (Part::Io, "io"),
        (Part::Process, "process"),
    ];
}

/// Some parts of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts(u8);

impl Parts {
    /// All of them.
    pub const ALL: Parts = Parts(0b11_1111);

    /// The parts of these names; without names all.
    ///
    /// # Errors
    /// The first name that no part has.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Parts, &'a str> {
        let mut parts = Parts::default();
        for name in names {
            let (part, _) = Part::NAMED.iter().find(|(_, known)| *known == name).ok_or(name)?;
            parts.0 |= 1 << *part as u8;
        }
        Ok(if parts.0 == 0 { Parts::ALL } else { parts })
    }

    /// Whether a part is among them.
    pub fn has(self, part: Part) -> bool {
        self.0 & 1 << part as u8 != 0
    }

    /// The parts of both.
    #[must_use]
    pub fn and(self, other: Parts) -> Parts {
        Parts(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names_and_none_means_all() {
        assert_eq!(Parts::named([]), Ok(Parts::ALL));
        let some = Parts::named(["cpu", "io"]).unwrap();
        assert!(some.has(Part::Cpu) && some.has(Part::Io) && !some.has(Part::Disk));
        assert_eq!(Parts::named(["cpu", "gpu"]), Err("gpu"));
        assert!(some.and(Parts::named(["disk"]).unwrap()).has(Part::Disk));
    }
}
