//! Latency buckets: log-linear, 16 to the octave, so that a bucket is at most 6.25 % wide, from 1 µs to over an hour.

/// Everything below 2^10 ns (about 1 µs) shares the first bucket.
const FIRST_OCTAVE: u32 = 10;
/// The last octave begins at 2^41 ns (37 minutes) and ends at 73 minutes.
const LAST_OCTAVE: u32 = 41;
const PER_OCTAVE: u32 = 16;

/// How many buckets there are; the last takes everything from 2^42 ns on.
pub const BUCKETS: usize = (2 + (LAST_OCTAVE - FIRST_OCTAVE + 1) * PER_OCTAVE) as usize;

/// The bucket of a duration in ns.
pub fn bucket(duration_ns: u64) -> usize {
    if duration_ns < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = 63 - duration_ns.leading_zeros();
    if octave > LAST_OCTAVE {
        return BUCKETS - 1;
    }
    let within = (duration_ns >> (octave - 4)) as u32 & (PER_OCTAVE - 1);
    (1 + (octave - FIRST_OCTAVE) * PER_OCTAVE + within) as usize
}

/// The bounds of a bucket in ns: from the first, up to but not including the second.
pub fn bounds(bucket: usize) -> (u64, u64) {
    let start = |bucket: usize| {
        let index = bucket as u32 - 1;
        let octave = FIRST_OCTAVE + index / PER_OCTAVE;
        u64::from(PER_OCTAVE + index % PER_OCTAVE) << (octave - 4)
    };
    match bucket {
        0 => (0, 1 << FIRST_OCTAVE),
        last if last >= BUCKETS - 1 => (1 << (LAST_OCTAVE + 1), u64::MAX),
        inner => (start(inner), start(inner + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_line_within_six_and_a_quarter_percent() {
        let mut end = 0;
        for index in 0..BUCKETS {
            let (low, high) = bounds(index);
            assert_eq!(low, end);
            assert_eq!(bucket(low), index);
            assert_eq!(bucket(high - 1), index);
            if index > 0 && index < BUCKETS - 1 {
                assert!((high - low) * 16 <= low, "bucket {index}: {low}..{high}");
            }
            end = high;
        }
        assert_eq!(end, u64::MAX);
        assert!(bounds(BUCKETS - 1).0 > 3_600_000_000_000);
    }
}
