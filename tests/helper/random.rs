//! Random numbers for moments and interleavings. Assertions never depend on them.

/// A xorshift generator (Marsaglia, 2003). It prints its start value, and takes it from `JOBLET_TEST_SEED` where that is set.
pub struct Random(u64);

impl Random {
    /// A generator that starts from the time.
    pub fn new() -> Random {
        let given = std::env::var("JOBLET_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64 | 1;
        let seed = given.unwrap_or_else(now);
        println!("JOBLET_TEST_SEED={seed}");
        Random(seed)
    }

    /// A separate generator for another thread.
    pub fn another(&mut self) -> Random {
        Random(self.below(u64::MAX) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
