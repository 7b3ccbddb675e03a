//! Whether the collector writes, told by its status and measured by the steady clock. No clock and no I/O of its own.

use std::time::Duration;

use hitscope_history::status::Status;

use super::clock::Now;

/// After this long without a new status there are no data. The collector writes it each second; a busy host may delay that.
const FRESH: Duration = Duration::from_secs(30);
/// After a silence, data must have come for this long before their absence means something: rules look back a while.
const SETTLING: Duration = Duration::from_secs(60);

/// Whether there are data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// It is not known yet: this process has not listened for long enough.
    Unknown,
    /// They come.
    Live,
    /// They do not.
    Silent,
}

/// What was heard of the collector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Liveness {
    /// When it was begun to listen, ns by the steady clock.
    started_ns: i64,
    /// How long a status counts, ns.
    fresh_ns: i64,
    /// The newest status: its process, when it was written, and of which host.
    newest: Option<(u32, u64, String)>,
    /// When it came, ns by the steady clock; none: it was old when it was begun to listen.
    beat_ns: Option<i64>,
    /// Since when they have come without a silence, ns by the steady clock.
    live_since_ns: i64,
    /// Whether a status came while this was listening.
    pub beats: bool,
}

impl Liveness {
    /// Begins to listen. With an alert on silence that is quicker than usual, a status counts no longer than that.
    pub fn new(collector_silent: Duration, now: Now) -> Self {
        let fresh = if collector_silent.is_zero() { FRESH } else { FRESH.min(collector_silent) };
        Self { started_ns: now.steady_ns, fresh_ns: ns(fresh), ..Self::default() }
    }

    /// Takes in the status as it is now.
    pub fn hear(&mut self, status: &Status, now: Now) {
        let newest = (status.pid, status.updated_ns, status.host.clone());
        if self.newest.as_ref() == Some(&newest) {
            return;
        }
        // Of the first one nobody knows when it came but the wall clock.
        let age_ns = now.wall_ns.saturating_sub(status.updated_ns.cast_signed());
        let first = self.newest.replace(newest).is_none();
        if first && age_ns.abs() > self.fresh_ns {
            return;
        }
        self.beats |= !first;
        let beat_ns = if first { now.steady_ns.saturating_sub(age_ns.max(0)) } else { now.steady_ns };
        if self.beat_ns.is_none_or(|before| beat_ns.saturating_sub(before) > self.fresh_ns) {
            self.live_since_ns = beat_ns;
        }
        self.beat_ns = Some(beat_ns);
    }

    /// Whether there are data.
    pub fn data(&self, now: Now) -> Data {
        let since = |from_ns: i64| now.steady_ns.saturating_sub(from_ns);
        match self.beat_ns {
            Some(beat_ns) if since(beat_ns) <= self.fresh_ns => Data::Live,
            None if since(self.started_ns) <= self.fresh_ns => Data::Unknown,
            _ => Data::Silent,
        }
    }

    /// How long nothing was heard, as far as this process knows, in ns. None where a collector never wrote here.
    pub fn silent_ns(&self, now: Now) -> Option<i64> {
        self.newest.as_ref()?;
        Some(now.steady_ns.saturating_sub(self.beat_ns.unwrap_or(self.started_ns)))
    }

    /// Whether the collector was heard of after that moment, by the steady clock: what it saw until then is there.
    pub fn heard_after(&self, steady_ns: i64) -> bool {
        self.beat_ns.is_some_and(|beat_ns| beat_ns > steady_ns)
    }

    /// Whether data have come for so long that what is absent in them is absent.
    pub fn settled(&self, now: Now) -> bool {
        self.data(now) == Data::Live && now.steady_ns.saturating_sub(self.live_since_ns) >= ns(SETTLING)
    }

    /// The host of the newest status, and when that was written, ns since the epoch.
    pub fn newest(&self) -> Option<(&str, u64)> {
        self.newest.as_ref().map(|(_, updated_ns, host)| (host.as_str(), *updated_ns))
    }
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const WALL: i64 = 1_700_000_000;

    fn at(seconds: i64) -> Now {
        Now { wall_ns: (WALL + seconds) * S, steady_ns: seconds * S }
    }

    fn status(wall_s: i64) -> Status {
        Status { pid: 1, host: "db1".into(), updated_ns: (wall_s * S).cast_unsigned(), ..Status::default() }
    }

    fn listening() -> Liveness {
        Liveness::new(Duration::from_secs(60), at(1000))
    }

    #[test]
    fn a_collector_that_writes_is_live_and_silent_half_a_minute_after_its_end() {
        let mut liveness = listening();
        assert_eq!((liveness.data(at(1000)), liveness.silent_ns(at(1000))), (Data::Unknown, None));
        liveness.hear(&status(WALL + 999), at(1000));
        assert!(liveness.data(at(1000)) == Data::Live && !liveness.beats);
        liveness.hear(&status(WALL + 1000), at(1001));
        assert!(
            liveness.beats && liveness.heard_after(at(1000).steady_ns) && !liveness.heard_after(at(1001).steady_ns)
        );
        for second in 1002..1040 {
            liveness.hear(&status(WALL + 1000), at(second));
        }
        assert_eq!(liveness.data(at(1031)), Data::Live);
        assert_eq!((liveness.data(at(1032)), liveness.silent_ns(at(1032))), (Data::Silent, Some(31 * S)));
        liveness.hear(&status(WALL + 1040), at(1041));
        assert!(liveness.data(at(1041)) == Data::Live && !liveness.settled(at(1041)));
        liveness.hear(&status(WALL + 1070), at(1071));
        liveness.hear(&status(WALL + 1100), at(1101));
        assert!(!liveness.settled(at(1100)) && liveness.settled(at(1101)));
    }

    #[test]
    fn an_old_status_is_silence_once_it_was_listened_for_long_enough() {
        let mut liveness = listening();
        liveness.hear(&status(WALL), at(1000));
        assert_eq!(liveness.data(at(1000)), Data::Unknown);
        assert_eq!((liveness.data(at(1031)), liveness.silent_ns(at(1031))), (Data::Silent, Some(31 * S)));
    }

    #[test]
    fn clocks_that_are_set_change_nothing() {
        for hours in [-1, 1] {
            let mut liveness = listening();
            for second in 1000..1100 {
                let clock = WALL + second + if second < 1050 { 0 } else { hours * 3600 };
                let now = Now { wall_ns: clock * S, steady_ns: second * S };
                liveness.hear(&status(clock), now);
                assert_eq!(liveness.data(now), Data::Live);
            }
            // And one that ends then is silent all the same.
            assert_eq!(liveness.data(at(1099 + 31)), Data::Silent);
        }
        // Begun after the clock was set back: the old status is from the future, the next ones are news.
        let mut liveness = listening();
        liveness.hear(&status(WALL + 7200), at(1000));
        assert_eq!(liveness.data(at(1000)), Data::Unknown);
        liveness.hear(&status(WALL + 1001), at(1001));
        assert_eq!(liveness.data(at(1001)), Data::Live);
    }
}
