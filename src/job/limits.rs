//! Resource limits of a job, in the units of the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// CPU time in percent of one core, 1..=10000 (250 is two and a half cores).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuPercent(u32);

impl CpuPercent {
    /// # Errors
    /// Outside 1..=10000.
    pub fn new(percent: i64) -> Result<Self, InvalidField> {
        if percent < 0 {
            return Err(InvalidField::new("maxCPU cannot be negative"));
        }
        match u32::try_from(percent) {
            Ok(p @ 1..=10_000) => Ok(CpuPercent(p)),
            _ => Err(InvalidField::new(format!(
                "maxCPU {percent} is out of range: 1..10000 percent of one core"
            ))),
        }
    }

    /// Percent of one core.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Memory in MiB, at least 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMib(u32);

impl MemoryMib {
    /// # Errors
    /// Negative, below 4, or above `ceiling` MiB (the node's own bound).
    pub fn new(mib: i64, ceiling: u64) -> Result<Self, InvalidField> {
        if mib < 0 {
            return Err(InvalidField::new("maxMemory cannot be negative"));
        }
        if u64::try_from(mib).is_ok_and(|m| m > ceiling) {
            return Err(InvalidField::new(format!(
                "job creation failed: maxMemory exceeds system limits ({mib} MB asked, allowed: 4..{ceiling} MB)"
            )));
        }
        match u32::try_from(mib) {
            Ok(m) if m >= 4 => Ok(MemoryMib(m)),
            _ => Err(InvalidField::new(format!("maxMemory {mib} is out of range: 4..{ceiling} MB"))),
        }
    }

    /// The limit in MiB.
    pub fn mib(self) -> u32 {
        self.0
    }

    /// The limit in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

/// Bytes per second to and from each block device, at least 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoBytes(u32);

impl IoBytes {
    /// # Errors
    /// Negative or below 4096.
    pub fn new(bytes: i64) -> Result<Self, InvalidField> {
        if bytes < 0 {
            return Err(InvalidField::new("maxIOBPS cannot be negative"));
        }
        match u32::try_from(bytes) {
            Ok(b) if b >= 4096 => Ok(IoBytes(b)),
            _ => {
                Err(InvalidField::new(format!("maxIOBPS {bytes} is out of range: 4096..2147483647 bytes/s")))
            }
        }
    }

    /// Bytes per second.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A set of CPUs, as `cpuset.cpus` takes it: ranges in rising order, none empty, none overlapping.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CoreSet(Vec<(u32, u32)>);

/// Largest CPU number we accept: far above the kernel's NR_CPUS.
const MAX_CORE: u32 = 65_535;

impl CoreSet {
    /// Parses `3`, `0-2`, `0,2,4` and mixtures such as `0-2,5`; spaces around items are allowed.
    ///
    /// # Errors
    /// Letters, reversed ranges, duplicates, empty items, numbers above 65535.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let bad =
            |why: String| InvalidField::new(format!("invalid cpuCores \"{}\": {why}", text.escape_debug()));
        let mut ranges = Vec::new();
        for item in text.split(',') {
            let item = item.trim();
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let number = |s: &str| match s.trim().parse::<u32>() {
                Ok(n) if n <= MAX_CORE && s.trim().bytes().all(|b| b.is_ascii_digit()) => Ok(n),
                _ => Err(bad(format!("\"{}\" is not a core number (0..{MAX_CORE})", item.escape_debug()))),
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad(format!("the range {item} runs backwards")));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            return Err(bad(format!("core {} is named twice", pair[1].0)));
        }
        Ok(CoreSet(ranges))
    }

    /// Whether every core of this set is in `other`.
    pub fn is_subset_of(&self, other: &CoreSet) -> bool {
        self.0.iter().all(|&(first, last)| (first..=last).all(|core| other.contains(core)))
    }

    /// Whether the set holds this core.
    pub fn contains(&self, core: u32) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&core))
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Everything that bounds one job, defaults already applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time; `None` is no limit.
    pub cpu: Option<CpuPercent>,
    /// Memory, swap excluded; `None` is no limit.
    pub memory: Option<MemoryMib>,
    /// Block I/O; `None` is no limit.
    pub io: Option<IoBytes>,
    /// Cores the job may run on; `None` is all of the node's.
    pub cores: Option<CoreSet>,
    /// Processes and threads at one time.
    pub pids: u32,
}

impl Limits {
    /// Whether these limits, written over `others`, leave none of them in force. The number of processes does not
    /// change once a job's PID 1 exists.
    pub fn covers(&self, others: &Limits) -> bool {
        (self.cpu.is_some() || others.cpu.is_none())
            && (self.memory.is_some() || others.memory.is_none())
            && (self.io.is_some() || others.io.is_none())
            && (self.cores.is_some() || others.cores.is_none())
            && self.pids == others.pids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_cover_others_that_have_no_more_kinds() {
        let none = Limits { cpu: None, memory: None, io: None, cores: None, pids: 7 };
        let some = Limits { cpu: CpuPercent::new(1).ok(), io: IoBytes::new(4096).ok(), ..none.clone() };
        assert!(some.covers(&none) && some.covers(&some) && !none.covers(&some));
        assert!(!some.covers(&Limits { pids: 8, ..none }));
    }

    #[test]
    fn numbers_out_of_range_name_the_field_and_the_range() {
        assert_eq!(CpuPercent::new(-1).unwrap_err().0, "maxCPU cannot be negative");
        assert!(CpuPercent::new(10_001).unwrap_err().0.contains("1..10000"));
        assert_eq!(CpuPercent::new(250).unwrap().get(), 250);
        assert!(MemoryMib::new(3, 1024).unwrap_err().0.contains("4..1024"));
        let above = MemoryMib::new(2048, 1024).unwrap_err().0;
        assert!(above.starts_with("job creation failed: maxMemory exceeds system limits"), "{above}");
        assert_eq!(MemoryMib::new(512, 1024).unwrap().bytes(), 536_870_912);
        assert!(IoBytes::new(4095).is_err());
    }

    #[test]
    fn core_sets_of_every_form_print_as_the_kernel_reads_them() {
        for (text, printed) in [("3", "3"), ("0-2", "0-2"), ("0, 2 ,4", "0,2,4"), ("5,0-2", "0-2,5")] {
            assert_eq!(CoreSet::parse(text).unwrap().to_string(), printed);
        }
        for bad in ["", "a", "3-1", "-1", "1,1", "0-3,2", "0-99999", "1,,2", "+1"] {
            assert!(CoreSet::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subsets_are_seen() {
        let host = CoreSet::parse("0-3,8").unwrap();
        assert!(CoreSet::parse("1-2,8").unwrap().is_subset_of(&host));
        assert!(!CoreSet::parse("3-4").unwrap().is_subset_of(&host));
    }
}
