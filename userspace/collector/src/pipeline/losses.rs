//! What was dropped, by reason: nothing is lost silently.

use std::collections::BTreeMap;

use hitscope_schemas::tables::Event;

#[derive(Clone, Copy, Default)]
struct Loss {
    total: u64,
    reported: u64,
}

/// Counters by reason.
#[derive(Default)]
pub(super) struct Losses(BTreeMap<String, Loss>);

impl Losses {
    pub(super) fn add(&mut self, reason: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.get_mut(reason) {
            Some(loss) => loss.total += count,
            None => {
                self.0.insert(reason.to_owned(), Loss { total: count, reported: 0 });
            }
        }
    }

    pub(super) fn totals(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(reason, loss)| (reason.clone(), loss.total)).collect()
    }

    /// A row for each counter that moved since the last time.
    pub(super) fn report(&mut self, time: i64, rows: &mut Vec<Event>) {
        for (reason, loss) in &mut self.0 {
            let moved = loss.total - std::mem::replace(&mut loss.reported, loss.total);
            if moved > 0 {
                let detail = format!("{reason}: {moved} ({} since the start)", loss.total);
                rows.push(Event { time, kind: "lost".into(), pid: 0, service: "".into(), detail: detail.into() });
            }
        }
    }
}
