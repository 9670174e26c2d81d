//! Processors: `/proc/stat` and `/proc/loadavg` (proc(5)).

/// The time of one processor, or of all, in ticks since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticks {
    /// In programs, those with a nice value and those of guests included.
    pub user: u64,
    /// In the kernel, interrupts included.
    pub system: u64,
    /// With nothing to do.
    pub idle: u64,
    /// Idle while a disk was awaited.
    pub io_wait: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

/// The contents of `/proc/stat`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stat {
    /// All processors together.
    pub all: Ticks,
    /// Each processor that is online, in the order of their numbers.
    pub each: Vec<Ticks>,
    /// The boot, in seconds since the epoch.
    pub booted: i64,
}

/// Shares of an interval in percent; they add up to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shares {
    /// The share of programs.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// With nothing to do.
    pub idle: f64,
    /// Idle while a disk was awaited.
    pub io_wait: f64,
    /// Taken by the hypervisor.
    pub steal: f64,
}

/// Parses `/proc/stat`; `None` without the line of all processors.
pub fn stat(text: &str) -> Option<Stat> {
    let mut found = Stat::default();
    let mut has_all = false;
    for line in text.lines() {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key.strip_prefix("cpu") {
            Some("") => (found.all, has_all) = (ticks(rest)?, true),
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => found.each.push(ticks(rest)?),
            _ if key == "btime" => found.booted = rest.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    has_all.then_some(found)
}

/// user nice system idle iowait irq softirq steal: guests' time is in user already.
fn ticks(numbers: &str) -> Option<Ticks> {
    let mut n = [0u64; 8];
    let mut words = numbers.split_whitespace();
    for (at, place) in n.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *place = word.parse().ok()?,
            // Kernels before 2.6.11 have seven of them.
            None if at >= 4 => break,
            None => return None,
        }
    }
    let [user, nice, system, idle, io_wait, irq, soft_irq, steal] = n;
    Some(Ticks {
        user: user.saturating_add(nice),
        system: system.saturating_add(irq).saturating_add(soft_irq),
        idle,
        io_wait,
        steal,
    })
}

impl Ticks {
    fn sum(&self) -> u64 {
        [self.user, self.system, self.idle, self.io_wait, self.steal]
            .iter()
            .fold(0, |a, b| a.saturating_add(*b))
    }

    /// The shares of the time since `before`. Idle time and time for a disk may run backwards (proc(5)): such a part is
    /// none. No time at all is idle.
    pub fn shares_since(&self, before: &Ticks) -> Shares {
        let past = Ticks {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            io_wait: self.io_wait.saturating_sub(before.io_wait),
            steal: self.steal.saturating_sub(before.steal),
        };
        let sum = past.sum();
        if sum == 0 {
            return Shares { idle: 100.0, ..Shares::default() };
        }
        let share = |part: u64| part as f64 * 100.0 / sum as f64;
        Shares {
            user: share(past.user),
            system: share(past.system),
            idle: share(past.idle),
            io_wait: share(past.io_wait),
            steal: share(past.steal),
        }
    }
}

impl Shares {
    /// The share of the time in which the processor worked, for this host or for others.
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.steal
    }
}

/// Parses the three averages of `/proc/loadavg`: of one, five and fifteen minutes.
pub fn load_average(text: &str) -> Option<[f64; 3]> {
    let mut words =
        text.split_whitespace().map(|word| word.parse().ok().filter(|load: &f64| load.is_finite()));
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stat_has_all_processors_and_each() {
        let text = "cpu  10 2 3 40 5 6 7 8 9 1\ncpu0 5 1 1 20 2 3 3 4 0 0\ncpu255 5 1 2 20 3 3 4 4 9 1\n\
                    intr 1 2\nctxt 5\nbtime 1700000000\nprocesses 3\n";
        let found = stat(text).unwrap();
        assert_eq!(found.all, Ticks { user: 12, system: 16, idle: 40, io_wait: 5, steal: 8 });
        assert_eq!((found.each.len(), found.booted), (2, 1_700_000_000));
        assert_eq!(stat("cpu  1 2 3 4\n").unwrap().all.idle, 4);
        assert_eq!(stat("cpu  1 2 3\n"), None);
        assert_eq!(stat("btime 1\n"), None);
        assert!(stat(&std::fs::read_to_string("/proc/stat").unwrap()).unwrap().booted > 0);
    }

    #[test]
    fn shares_are_of_the_interval() {
        let before = Ticks { user: 100, system: 100, idle: 100, io_wait: 100, steal: 100 };
        let after = Ticks { user: 125, system: 125, idle: 150, io_wait: 90, steal: 100 };
        let shares = after.shares_since(&before);
        assert_eq!((shares.user, shares.system, shares.idle, shares.io_wait), (25.0, 25.0, 50.0, 0.0));
        assert_eq!(shares.busy(), 50.0);
        assert_eq!(after.shares_since(&after).idle, 100.0);
    }

    #[test]
    fn load_average_has_three_numbers_or_none() {
        assert_eq!(load_average("0.50 1.25 2.00 3/177 4711\n"), Some([0.5, 1.25, 2.0]));
        assert_eq!(load_average("0.50 1.25"), None);
        assert_eq!(load_average("nan 1 2"), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "(cpu[0-9]{0,3} |btime )?[0-9 \n.a-z]{0,80}") {
            let _ = (stat(&text), load_average(&text));
        }

        #[test]
        fn shares_are_percents(a in any::<[u64; 5]>(), b in any::<[u64; 5]>()) {
            let of = |[user, system, idle, io_wait, steal]: [u64; 5]| Ticks { user, system, idle, io_wait, steal };
            let shares = of(a).shares_since(&of(b));
            for share in [shares.user, shares.system, shares.idle, shares.io_wait, shares.steal] {
                prop_assert!((0.0..=100.01).contains(&share), "{shares:?}");
            }
        }
    }
}
