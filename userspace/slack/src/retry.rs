use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::Error;

/// The longest wait that is granted to who asks for one: no answer silences the sender for longer.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// When to try again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, except where Slack asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failed`-th attempt (from 1) failed with `error`, or `None` when there should be no other
    /// because that makes no sense or the attempts are used up. Not shorter than Slack's `Retry-After`, of which an hour counts.
    pub fn pause(&self, failed: u32, error: &Error) -> Option<Duration> {
        if failed >= self.attempts || !error.is_retryable() {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = doubled.min(self.longest_pause);
        // Half of it is left to chance, so that several hosts do not come back at the same moment.
        let jittered = pause / 2 + (pause / 2).mul_f64(chance());
        Some(match error.retry_after() {
            Some(asked) => {
                let asked = asked.min(LONGEST_ASKED);
                asked + jittered.min(asked / 10)
            }
            None => jittered,
        })
    }
}

/// A number in [0, 1), from the randomness that the standard library seeds its hash maps with.
fn chance() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ApiError;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let policy =
            RetryPolicy { attempts: 8, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(10) };
        for (failed, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (7, 10)] {
            let full = Duration::from_secs(full);
            let pause = policy.pause(failed, &Error::Timeout).unwrap();
            assert!(pause >= full / 2 && pause <= full, "{failed}: {pause:?}");
        }
        assert_eq!(policy.pause(8, &Error::Timeout), None);
        assert_eq!(policy.pause(1, &Error::Api(ApiError::InvalidAuth)), None);
        let tireless = RetryPolicy { attempts: u32::MAX, ..policy };
        assert!(tireless.pause(1_000_000, &Error::Server(500)).unwrap() <= Duration::from_secs(10));
    }

    #[test]
    fn retry_after_is_a_floor_and_an_hour_is_its_most() {
        let asked = Duration::from_secs(120);
        let pause = RetryPolicy::default().pause(1, &Error::RateLimited { retry_after: asked }).unwrap();
        assert!(pause >= asked && pause <= asked + asked / 10);
        for asked in [Duration::from_secs(7200), Duration::from_secs(u64::MAX)] {
            let pause = RetryPolicy::default().pause(1, &Error::RateLimited { retry_after: asked }).unwrap();
            assert!(pause >= LONGEST_ASKED && pause <= LONGEST_ASKED + LONGEST_ASKED / 10, "{pause:?}");
        }
    }
}
