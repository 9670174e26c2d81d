//! Further attempts of a job that failed.

use std::time::Duration;

use crate::job::ExitReason;

/// Most attempts after the first.
pub(super) const MAX_RETRIES: u32 = 100;
/// Longest pause before an attempt.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// When and how often a failed job is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first, 1..=100.
    pub max: u32,
    /// The pause before the second attempt; it doubles with each attempt, up to one hour.
    pub backoff: Duration,
    /// The ends that are tried again.
    pub on: Vec<RetryReason>,
}

/// An end that can be tried again. Running out of memory or time is tried again only when named: the next attempt
/// would end in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The program ended with a code other than 0.
    Exited,
    /// A signal ended it.
    Signaled,
    /// Its end is not known.
    Lost,
    /// It reached its memory limit.
    Oom,
    /// It reached its timeout.
    Timeout,
}

impl RetryReason {
    /// Each reason with its word in the file.
    pub const ALL: [(&'static str, RetryReason); 5] = [
        ("exited", RetryReason::Exited),
        ("signaled", RetryReason::Signaled),
        ("lost", RetryReason::Lost),
        ("oom", RetryReason::Oom),
        ("timeout", RetryReason::Timeout),
    ];

    /// The reasons in force where the file names none.
    pub const DEFAULT: [RetryReason; 3] = [RetryReason::Exited, RetryReason::Signaled, RetryReason::Lost];
}

impl Retries {
    /// The pause before the next attempt of a job that has failed so many times for this reason, the last one
    /// included; `None`: it has failed for good.
    pub fn pause(&self, failures: u32, reason: ExitReason) -> Option<Duration> {
        let reason = match reason {
            ExitReason::Exited => RetryReason::Exited,
            ExitReason::Signaled => RetryReason::Signaled,
            ExitReason::Lost => RetryReason::Lost,
            ExitReason::Oom => RetryReason::Oom,
            ExitReason::Timeout => RetryReason::Timeout,
            _ => return None,
        };
        if failures == 0 || failures > self.max || !self.on.contains(&reason) {
            return None;
        }
        let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
        Some(self.backoff.saturating_mul(doubled).min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_the_last_attempt() {
        let retries = Retries { max: 3, backoff: Duration::from_secs(5), on: RetryReason::DEFAULT.to_vec() };
        let pauses: Vec<_> =
            (1..=4).map(|n| retries.pause(n, ExitReason::Exited).map(|d| d.as_secs())).collect();
        assert_eq!(pauses, [Some(5), Some(10), Some(20), None]);
        let many = Retries { max: 100, ..retries.clone() };
        assert_eq!(many.pause(100, ExitReason::Lost), Some(MAX_PAUSE));
        for never in [ExitReason::Oom, ExitReason::Timeout, ExitReason::Canceled, ExitReason::StartFailed] {
            assert_eq!(retries.pause(1, never), None, "{never:?}");
        }
        let named = Retries { on: vec![RetryReason::Oom], ..retries };
        assert!(named.pause(1, ExitReason::Oom).is_some() && named.pause(1, ExitReason::Exited).is_none());
    }
}
