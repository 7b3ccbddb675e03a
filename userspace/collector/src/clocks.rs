//! From the kernel's clocks to the wall clock.

use serde::{Deserialize, Serialize};

use crate::{event::Clock, facts::TICK_NS};

/// The two clocks of the kernel stand still to each other but for a step of the wall clock or a suspend; reading one
/// after the other makes them seem to move a little, which is ignored below this, ns.
const JITTER_NS: i64 = 50_000;
/// The moment of boot, from which start times are told, is moved only by a step of the wall clock above this, ns: the start
/// time is part of a process's identity.
const STEP_NS: i64 = 1_000_000_000;
/// Steps remembered; then the oldest goes.
const MAX_STEPS: usize = 64;

/// When the host was booted, by the wall clock as it stood then and after each step: what started before a step keeps its start
/// time, also for a hitscope that is started later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// From so many ticks after boot on: the moment of boot, in whole ticks, ns since the epoch. In order.
    steps: Vec<(u64, i64)>,
}

impl Boot {
    /// For what started so many ticks after boot.
    fn booted_ns(&self, start_ticks: u64) -> i64 {
        let step = self.steps.iter().rev().find(|(from_ticks, _)| *from_ticks <= start_ticks);
        step.or(self.steps.first()).map_or(0, |(_, booted_ns)| *booted_ns)
    }

    /// Takes in where the clocks stand.
    fn set(&mut self, booted_ns: i64, now_ticks: u64) {
        let moved = |(_, known): &(u64, i64)| (booted_ns - known).abs() > STEP_NS;
        if self.steps.last().is_none_or(moved) {
            let tick = TICK_NS as i64;
            let from_ticks = if self.steps.is_empty() { 0 } else { now_ticks };
            self.steps.push((from_ticks, (booted_ns + tick / 2).div_euclid(tick) * tick));
            self.steps.drain(..self.steps.len().saturating_sub(MAX_STEPS));
        }
    }
}

/// How the clocks stand to each other.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    known: bool,
    /// Wall clock less monotonic clock, ns.
    wall_offset_ns: i64,
    /// Boot clock less monotonic clock, ns.
    boot_offset_ns: i64,
    /// Up to which moment on the monotonic clock the wall clock stood otherwise, and how, ns.
    before: Option<(u64, i64)>,
    /// The last reading, monotonic, ns.
    read_ns: u64,
    boot: Boot,
}

impl Clocks {
    /// Takes in a reading of the three clocks.
    pub fn set(&mut self, clock: Clock) {
        let difference = |later: u64, earlier: u64| later.wrapping_sub(earlier) as i64;
        let wall_offset_ns = difference(clock.realtime_ns, clock.monotonic_ns);
        let boot_offset_ns = difference(clock.boottime_ns, clock.monotonic_ns);
        if !self.known || (wall_offset_ns - self.wall_offset_ns).abs() > JITTER_NS {
            if self.known && (wall_offset_ns - self.wall_offset_ns).abs() > STEP_NS {
                // Records that were made before the step may still come.
                self.before = Some((self.read_ns, self.wall_offset_ns));
            }
            self.wall_offset_ns = wall_offset_ns;
        }
        if !self.known || (boot_offset_ns - self.boot_offset_ns).abs() > JITTER_NS {
            self.boot_offset_ns = boot_offset_ns;
        }
        self.boot.set(self.wall_offset_ns - self.boot_offset_ns, clock.boottime_ns / TICK_NS);
        self.read_ns = self.read_ns.max(clock.monotonic_ns);
        self.known = true;
    }

    /// Takes over what an earlier run on the same boot told start times by. To be called before the clocks are set.
    pub fn set_boot(&mut self, boot: Boot) {
        self.boot = boot;
    }

    /// What start times are told by.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    /// Wall clock, ns since the epoch, of a moment on the monotonic clock.
    pub fn wall(&self, monotonic_ns: u64) -> i64 {
        let offset_ns = match self.before {
            Some((until_ns, offset_ns)) if monotonic_ns <= until_ns => offset_ns,
            _ => self.wall_offset_ns,
        };
        (monotonic_ns as i64).wrapping_add(offset_ns)
    }

    /// Boot clock, ns, of a moment on the monotonic clock.
    pub fn boottime(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.boot_offset_ns)
    }

    /// Wall clock, ns since the epoch, of a process's start, to the tick.
    pub fn start_time(&self, start_ticks: u64) -> i64 {
        self.boot.booted_ns(start_ticks).saturating_add_unsigned(start_ticks.saturating_mul(TICK_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_stay_while_the_clocks_jitter() {
        let mut clocks = Clocks::default();
        let at = |monotonic_ns, jitter| Clock {
            monotonic_ns,
            boottime_ns: monotonic_ns + 500,
            realtime_ns: 1_700_000_000_004_999_000 + monotonic_ns + jitter,
        };
        clocks.set(at(1_000_000_000, 0));
        let start = clocks.start_time(42);
        assert_eq!(start % TICK_NS as i64, 0);
        clocks.set(at(2_000_000_000, 3_000));
        assert_eq!(clocks.start_time(42), start);
        assert_eq!(clocks.wall(0), 1_700_000_000_004_999_000);
        assert_eq!(clocks.boottime(7), 507);
        clocks.set(at(3_000_000_000, 60_000_000_000));
        // What started before a step keeps its start time; what starts after it is told by the clock as it stands.
        assert_eq!(clocks.start_time(42), start);
        assert_eq!(clocks.start_time(300), start + 2_580_000_000 + 60_000_000_000);
        // So do records that were made before it.
        assert_eq!(clocks.wall(2_000_000_000), 1_700_000_002_004_999_000);
        assert_eq!(clocks.wall(2_000_000_001), 1_700_000_062_004_999_001);
    }

    #[test]
    fn a_later_run_on_the_same_boot_tells_the_same_start_times() {
        let at = |boottime_ns, slewed_ns| Clock {
            monotonic_ns: boottime_ns,
            boottime_ns,
            realtime_ns: 1_700_000_000_000_000_000 + boottime_ns + slewed_ns,
        };
        let mut first = Clocks::default();
        first.set(at(5_000_000_000, 0));
        for (slewed_ns, stepped_ns) in [(400_000_000, 0), (0, 90_000_000_000)] {
            let mut second = Clocks::default();
            second.set_boot(first.boot().clone());
            second.set(at(60_000_000_000, slewed_ns + stepped_ns));
            assert_eq!(second.start_time(42), first.start_time(42), "{slewed_ns} {stepped_ns}");
            let new = 1_700_000_000_000_000_000 + 70_000_000_000 + stepped_ns as i64;
            assert_eq!(second.start_time(7000), new, "{slewed_ns} {stepped_ns}");
        }
    }
}
