//! Memory: `/proc/meminfo` (proc(5)).

/// Memory and swap, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All that the kernel can use.
    pub total: u64,
    /// Free, and used for nothing.
    pub free: u64,
    /// Available to new programs without swapping.
    pub available: u64,
    /// Contents of files, and kernel memory that can be given back.
    pub cached: u64,
    /// Raw blocks of disks.
    pub buffered: u64,
    /// Bytes of swap.
    pub swap_total: u64,
    /// Bytes of swap that are not in use.
    pub swap_free: u64,
}

/// Parses `/proc/meminfo`; `None` without a total.
pub fn meminfo(text: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        // KiB, although the file says kB.
        rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let of = |name| field(name).unwrap_or(0);
    let (free, cached, buffered) =
        (of("MemFree"), of("Cached").saturating_add(of("SReclaimable")), of("Buffers"));
    Some(Memory {
        total: field("MemTotal")?,
        free,
        // Kernels before 3.14 have no estimate.
        available: field("MemAvailable")
            .unwrap_or_else(|| free.saturating_add(cached).saturating_add(buffered)),
        cached,
        buffered,
        swap_total: of("SwapTotal"),
        swap_free: of("SwapFree"),
    })
}

impl Memory {
    /// Bytes in use: neither free nor given back on demand.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free).saturating_sub(self.cached).saturating_sub(self.buffered)
    }

    /// The share of memory in use, percent.
    pub fn used_percent(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.used() as f64 * 100.0 / self.total as f64 }
    }

    /// Bytes of swap in use.
    pub fn swap_used(&self) -> u64 {
        self.swap_total.saturating_sub(self.swap_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn meminfo_is_in_bytes() {
        let text = "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    700 kB\nBuffers:          50 kB\n\
                    Cached:          200 kB\nSwapCached:        9 kB\nSReclaimable:     50 kB\nSwapTotal:       100 kB\n\
                    SwapFree:         40 kB\nHugePages_Total:       0\n";
        let memory = meminfo(text).unwrap();
        assert_eq!((memory.total, memory.available, memory.cached), (1000 << 10, 700 << 10, 250 << 10));
        assert_eq!((memory.used(), memory.swap_used()), (400 << 10, 60 << 10));
        assert_eq!(memory.used_percent(), 40.0);
    }

    #[test]
    fn host_without_swap_or_estimate_is_read_too() {
        let memory = meminfo("MemTotal: 10 kB\nMemFree: 4 kB\nCached: 2 kB\n").unwrap();
        assert_eq!((memory.available, memory.swap_total, memory.swap_used()), (6 << 10, 0, 0));
        assert_eq!(meminfo("MemFree: 4 kB\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(Mem(Total|Free): )?[0-9 kB\n:A-Za-z]{0,60}") {
            if let Some(memory) = meminfo(&text) {
                prop_assert!(memory.used() <= memory.total);
            }
        }
    }
}
