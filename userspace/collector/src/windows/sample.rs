//! Which hits of an operation are kept of a second.

use hitscope_schemas::tables::Hit;

use crate::settings::Settings;

/// Numbers that look random and come the same in every run, so that a recording replays to the same rows.
pub(super) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// Evenly spread from 0 up to but not including `end` (xorshift64*, then the high half of a product).
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(number) * u128::from(end)) >> 64) as u64
    }
}

/// As many hits as its size, each of those offered equally likely to be among them.
#[derive(Default)]
struct Reservoir {
    offered: u64,
    kept: Vec<Hit>,
}

impl Reservoir {
    fn offer(&mut self, size: usize, random: &mut Random, keep: impl FnOnce() -> Hit) {
        self.offered += 1;
        if self.kept.len() < size {
            self.kept.push(keep());
        } else {
            let place = random.below(self.offered) as usize;
            if place < size {
                self.kept[place] = keep();
            }
        }
    }

    /// Writes the kept hits; each stands for an equal share of the offered ones, to the last.
    fn write(&mut self, rows: &mut Vec<Hit>) {
        let kept = self.kept.len() as u64;
        if kept == 0 {
            return;
        }
        let (share, rest) = (self.offered / kept, self.offered % kept);
        rows.extend(self.kept.drain(..).zip(0..).map(|(mut hit, index)| {
            hit.weight = share + u64::from(index < rest);
            hit
        }));
        self.offered = 0;
    }
}

/// The hits kept of one operation, in three layers, so that none stands for one of another kind.
#[derive(Default)]
pub(super) struct Sample {
    failed: Reservoir,
    slow: Reservoir,
    fast: Reservoir,
    slowest: Vec<Hit>,
}

impl Sample {
    /// Decides on a hit, which is made by `keep` only when it is kept.
    pub(super) fn offer(
        &mut self,
        settings: &Settings,
        random: &mut Random,
        failed: bool,
        slow: bool,
        duration_ns: u64,
        keep: impl FnOnce() -> Hit,
    ) {
        // At least one, or the weights would not sum to the count.
        let (whole, sampled) = (settings.whole_per_second.max(1), settings.sampled_per_second.max(1));
        if failed {
            self.failed.offer(whole, random, keep);
        } else if slow {
            self.slow.offer(whole, random, keep);
        } else if self.slowest.len() < settings.slowest_per_second {
            self.slowest.push(keep());
        } else {
            match self.slowest.iter_mut().min_by_key(|hit| hit.duration_ns) {
                Some(least) if least.duration_ns < duration_ns => {
                    let displaced = std::mem::replace(least, keep());
                    self.fast.offer(sampled, random, || displaced);
                }
                _ => self.fast.offer(sampled, random, keep),
            }
        }
    }

    /// Writes what was kept, and begins anew.
    pub(super) fn write(&mut self, rows: &mut Vec<Hit>) {
        self.failed.write(rows);
        self.slow.write(rows);
        self.fast.write(rows);
        rows.append(&mut self.slowest);
    }
}
