//! Brings rows to the disk on a thread of its own: a disk that is slow for a second must keep nobody from emptying the ring
//! buffer, which is full in a fraction of one.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{self, TrySendError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hitscope_history::status::Status;

use crate::{boot::Kept, helpers::join_until, rows::Rows, run::Output};

/// Rows that wait while the disk is slow; what comes beyond them is lost, and counted.
const WAITING_BYTES: usize = 16 << 20;

/// What is written at once.
pub struct Batch {
    /// To the history.
    pub rows: Rows,
    /// To the status, which says when.
    pub status: Status,
    /// By what start times are told, where that is not written yet.
    pub boot: Option<Kept>,
}

/// What came of it, and what else was noted meanwhile.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows lost, by table.
    pub lost: BTreeMap<&'static str, u64>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The thread, and what waits for it.
pub struct WriterThread {
    // Without a buffer: it is taken only by a thread that waits for it.
    batches: mpsc::SyncSender<Batch>,
    written: mpsc::Receiver<Written>,
    notes: mpsc::Receiver<String>,
    thread: JoinHandle<()>,
    waiting: Rows,
}

impl WriterThread {
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(output: Output) -> io::Result<Self> {
        let Output { mut writer, data_dir, access, notes } = output;
        Self::with(notes, move |batch| {
            let written = match batch.rows.write(&mut writer, batch.status.updated_ns) {
                Ok(flushed) => Written { lost: flushed.lost, notes: flushed.notes },
                Err(error) => Written { notes: vec![error.to_string()], ..Written::default() },
            };
            if let Some(kept) = batch.boot
                && let Err(error) = kept.write(&data_dir)
            {
                tracing::warn!("cannot keep when this host was booted in {}: {error}", data_dir.display());
            }
            if let Err(error) = hitscope_history::status::write(&data_dir, &batch.status, access) {
                tracing::warn!("{error}");
            }
            written
        })
    }

    fn with(
        notes: mpsc::Receiver<String>,
        mut write: impl FnMut(Batch) -> Written + Send + 'static,
    ) -> io::Result<Self> {
        let (batches, received) = mpsc::sync_channel::<Batch>(0);
        let (send, written) = mpsc::channel();
        let work = move || {
            for batch in received {
                if send.send(write(batch)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("writer".into()).spawn(work)?;
        Ok(Self { batches, written, notes, thread, waiting: Rows::default() })
    }

    /// Has a batch written, together with the rows that wait; while the last one is not done, they wait on. Returns how many
    /// rows could not, by table.
    ///
    /// # Errors
    /// When the thread has ended, which it does in a panic only.
    pub fn write(&mut self, batch: Batch) -> io::Result<BTreeMap<&'static str, u64>> {
        let batch = self.with_waiting(batch);
        match self.batches.try_send(batch) {
            Ok(()) => Ok(BTreeMap::new()),
            Err(TrySendError::Full(batch)) => {
                self.waiting = batch.rows;
                Ok(self.waiting.shed(WAITING_BYTES))
            }
            Err(TrySendError::Disconnected(_)) => Err(io::Error::other("the thread that writes the history has ended")),
        }
    }

    /// What came of the batches that are done.
    pub fn written(&self) -> Written {
        gather(&self.written, &self.notes)
    }

    /// Writes a last batch; returns what came of this and of those before, `None` when the disk is not done by the deadline.
    pub fn finish(mut self, batch: Batch, deadline: Instant) -> Option<Written> {
        let mut batch = self.with_waiting(batch);
        let Self { batches, written, notes, thread, .. } = self;
        while let Err(TrySendError::Full(back)) = batches.try_send(batch) {
            if Instant::now() >= deadline {
                return None;
            }
            batch = back;
            thread::sleep(Duration::from_millis(2));
        }
        // Where the thread has ended there is nobody to tell.
        drop(batches);
        join_until(thread, deadline).then(|| gather(&written, &notes))
    }

    fn with_waiting(&mut self, mut batch: Batch) -> Batch {
        self.waiting.append(&mut batch.rows);
        batch.rows = std::mem::take(&mut self.waiting);
        batch
    }
}

fn gather(written: &mpsc::Receiver<Written>, notes: &mpsc::Receiver<String>) -> Written {
    let mut all = Written { notes: notes.try_iter().collect(), ..Written::default() };
    for Written { lost, notes } in written.try_iter() {
        lost.into_iter().for_each(|(table, count)| *all.lost.entry(table).or_default() += count);
        all.notes.extend(notes);
    }
    all
}

#[cfg(test)]
mod tests {
    use hitscope_schemas::tables;

    use super::*;

    fn event_row(number: i64) -> tables::Event {
        tables::Event { time: number, kind: "exec".into(), pid: 1, service: "x".into(), detail: "".into() }
    }

    fn notes(note: &str) -> mpsc::Receiver<String> {
        let (send, notes) = mpsc::channel();
        send.send(note.to_owned()).unwrap();
        notes
    }

    fn batch(numbers: std::ops::Range<i64>) -> Batch {
        let rows = Rows { events: numbers.map(event_row).collect(), ..Rows::default() };
        Batch { rows, status: Status::default(), boot: None }
    }

    /// Nobody is so slow.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A thread that writes a batch each time that it is told to, and what it wrote.
    fn slow() -> (WriterThread, mpsc::Sender<()>, mpsc::Receiver<Vec<tables::Event>>) {
        let (go, waits) = mpsc::channel();
        let (write, wrote) = mpsc::channel();
        let thread = WriterThread::with(notes("noted"), move |batch| {
            write.send(batch.rows.events).unwrap();
            let _ = waits.recv();
            Written { notes: vec!["done".into()], ..Written::default() }
        });
        (thread.unwrap(), go, wrote)
    }

    /// Begins to write a batch, which the thread takes as soon as it has started.
    fn begin(thread: &mut WriterThread, numbers: std::ops::Range<i64>, wrote: &mpsc::Receiver<Vec<tables::Event>>) {
        thread.write(batch(numbers)).unwrap();
        while wrote.try_recv().is_err() {
            thread.write(batch(0..0)).unwrap();
            thread::yield_now();
        }
    }

    #[test]
    fn rows_wait_in_their_order_while_the_disk_is_slow() {
        let (mut thread, go, wrote) = slow();
        begin(&mut thread, 0..1, &wrote);
        assert_eq!(thread.write(batch(1..3)).unwrap(), BTreeMap::new());
        assert_eq!(thread.write(batch(3..5)).unwrap(), BTreeMap::new());
        assert_eq!(thread.written().notes, ["noted"]);
        drop(go);
        let done = thread.finish(batch(5..6), soon()).unwrap();
        assert_eq!(wrote.iter().collect::<Vec<_>>(), [(1..6).map(event_row).collect::<Vec<_>>()]);
        assert_eq!(done.notes, ["done", "done"]);
    }

    #[test]
    fn what_cannot_wait_is_counted() {
        let (mut thread, go, wrote) = slow();
        begin(&mut thread, 0..1, &wrote);
        let room = (WAITING_BYTES / size_of::<tables::Event>()) as i64;
        assert_eq!(thread.write(batch(0..room)).unwrap(), BTreeMap::new());
        assert_eq!(thread.write(batch(0..7)).unwrap(), [("events", 7)].into());
        drop(go);
        thread.finish(batch(0..0), soon()).unwrap();
        assert_eq!(wrote.iter().map(|rows| rows.len() as i64).sum::<i64>(), room);
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up() {
        let (mut thread, _go, wrote) = slow();
        begin(&mut thread, 0..1, &wrote);
        assert_eq!(thread.finish(batch(1..2), Instant::now() + Duration::from_millis(20)), None);
    }

    #[test]
    fn a_thread_that_ended_is_an_error() {
        let mut thread = WriterThread::with(notes("noted"), |_| panic!("on purpose")).unwrap();
        while thread.write(batch(0..1)).is_ok() {
            thread::yield_now();
        }
    }
}
