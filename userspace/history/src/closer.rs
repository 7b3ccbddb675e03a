//! The thread that closes cubes and evicts old ones, so that writing never waits for it.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use hitscope_schemas::tables::Table;

use crate::{
    Error, Settings,
    close::{Closed, Cube},
    retention::{Catalogue, Evicted, Room, SteadyClock},
};

/// A cube to be closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// The table's position.
    pub(crate) table: u8,
    pub(crate) start_ns: u64,
    /// The newest file of the open cube that nothing more is written to.
    pub(crate) last_part: u32,
}

enum Order {
    Close(Job),
    Evict { now_ns: Option<u64> },
}

/// What the thread has done.
pub(crate) enum Done {
    Closed(Closed),
    Failed {
        job: Job,
        error: Error,
    },
    Evicted(Evicted),
    /// Whether the disk has the room that is left to others, or what it has.
    Room(Option<Room>),
    Note(String),
}

/// How often it looks for cubes to evict, though none was closed.
const EVICT_NS: u64 = 60_000_000_000;

pub(crate) struct Closer {
    orders: Option<Sender<Order>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// When eviction was ordered last.
    evicted_ns: Option<u64>,
    /// Whether a cube was closed since.
    closed: bool,
    clock: SteadyClock,
    started: Instant,
}

impl Closer {
    pub(crate) fn start(
        data_dir: PathBuf,
        host: String,
        tables: Vec<Table>,
        settings: Settings,
        catalogue: Catalogue,
    ) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (done, results) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { data_dir, host, tables, settings, catalogue, done };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("close cubes".into()).spawn(move || work.run(&received, &stopped))?;
        Ok(Self {
            orders: Some(orders),
            done: results,
            thread: Some(thread),
            stop,
            evicted_ns: None,
            closed: false,
            clock: SteadyClock::default(),
            started: Instant::now(),
        })
    }

    /// Has a cube closed.
    pub(crate) fn close(&mut self, job: Job) {
        self.closed = true;
        self.order(Order::Close(job));
    }

    /// Has old cubes evicted, where it is time to or the disk lacks room.
    pub(crate) fn evict(&mut self, now_ns: u64, lacks_room: bool) {
        let steady = self.clock.is_steady(self.started.elapsed(), now_ns);
        if self.closed || lacks_room || self.evicted_ns.is_none_or(|last| last.abs_diff(now_ns) >= EVICT_NS) {
            self.closed = false;
            self.evicted_ns = Some(now_ns);
            self.order(Order::Evict { now_ns: steady.then_some(now_ns) });
        }
    }

    fn order(&mut self, order: Order) {
        // The thread ends only once this end is dropped; were it to panic, the cubes stay open for the next start.
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::error!("the thread that closes cubes has ended: history stays open until the next start");
        }
    }

    /// Something that was done since it was asked last.
    pub(crate) fn next_done(&mut self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Waits until all orders are done.
    pub(crate) fn finish(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that closes cubes has panicked: history stays open until the next start");
        }
    }
}

impl Drop for Closer {
    /// Waits for the cube that is being closed; the others stay open for the next start.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.finish();
    }
}

struct Work {
    data_dir: PathBuf,
    host: String,
    tables: Vec<Table>,
    settings: Settings,
    catalogue: Catalogue,
    done: Sender<Done>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>, stop: &AtomicBool) {
        while let Ok(order) = orders.recv() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match order {
                Order::Close(job) => self.close(job),
                Order::Evict { now_ns } => self.evict(now_ns),
            }
        }
    }

    fn close(&mut self, job: Job) {
        let table = &self.tables[usize::from(job.table)];
        let cube = Cube { data_dir: &self.data_dir, host: &self.host, table, start_ns: job.start_ns };
        let mut notes = Vec::new();
        let closed = cube.close(job.last_part, self.settings.access, &mut notes);
        notes.into_iter().for_each(|note| self.tell(Done::Note(note)));
        match closed {
            Ok(Some(closed)) => {
                self.catalogue.set(job.start_ns, job.table, &self.host, closed.bytes);
                self.tell(Done::Closed(closed));
            }
            Ok(None) => {}
            Err(error) => self.tell(Done::Failed { job, error }),
        }
    }

    fn evict(&mut self, now_ns: Option<u64>) {
        // A file system that does not tell has room until it says otherwise. A replay keeps all, wherever it goes.
        let looks = self.settings.max_bytes.0 < u64::MAX;
        let room = || Room::of(&self.data_dir).ok().filter(|_| looks);
        let mut notes = Vec::new();
        let evicted = self.catalogue.evict(&self.data_dir, &self.tables, &self.settings, now_ns, room(), &mut notes);
        notes.into_iter().for_each(|note| self.tell(Done::Note(note)));
        if evicted.files > 0 {
            self.tell(Done::Evicted(evicted));
        }
        self.tell(Done::Room(room().filter(|room| room.free < room.kept_free())));
    }

    fn tell(&self, done: Done) {
        // Nobody listens any more where the writer is being dropped.
        let _ = self.done.send(done);
    }
}
