//! Threads that do what may block, asked by the main loop, which never waits for them.
//!
//! Each is watched: one that ended (by a panic) is started again; one that does not come back from a piece of work is left
//! behind and another takes its place, and what it was stuck at is avoided from then on.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::kernel;

/// A thread that has been at one piece of work for so long is stuck, ns.
const STUCK_NS: u64 = 30_000_000_000;
/// Threads left behind by one helper: each keeps its memory for as long as it is stuck.
const MAX_LEFT: u32 = 8;

/// What a thread says of itself while it works.
#[derive(Default)]
pub struct Beat {
    /// Since when it has been at this piece of work, monotonic, ns; 0: it waits for some.
    since_ns: AtomicU64,
    /// The process that it looks at; 0: none.
    pid: AtomicU32,
}

impl Beat {
    /// It begins with another piece of work: looks at a process, or, with 0, does something else.
    pub fn at(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
        self.since_ns.store(kernel::clock().monotonic_ns.max(1), Ordering::Relaxed);
    }

    /// It is given work, which it should begin with.
    pub fn asked(&self) {
        let now_ns = kernel::clock().monotonic_ns.max(1);
        // It may be at work already, since before.
        let _ = self.since_ns.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It waits for work.
    pub fn idle(&self) {
        self.since_ns.store(0, Ordering::Relaxed);
    }

    /// The process that it has been stuck at, or 0; `None` when it is not stuck.
    pub fn stuck(&self, now_ns: u64) -> Option<u32> {
        let since_ns = self.since_ns.load(Ordering::Relaxed);
        (since_ns != 0 && now_ns.saturating_sub(since_ns) >= STUCK_NS).then(|| self.pid.load(Ordering::Relaxed))
    }
}

/// Processes that a thread was stuck at: of these only what cannot block is read.
#[derive(Clone, Default)]
pub struct Avoided(Arc<Mutex<BTreeSet<u32>>>);

impl Avoided {
    /// Whether this process is avoided.
    pub fn contains(&self, pid: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }

    /// Forgets those that are gone.
    pub fn keep(&self, alive: impl Fn(u32) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| alive(*pid));
    }

    fn insert(&self, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }
}

/// What a thread does with a request.
pub type Work<Q, A> = Box<dyn FnMut(Q, &Beat) -> A + Send>;

struct Running<Q, A> {
    requests: SyncSender<Q>,
    answers: Receiver<A>,
    beat: Arc<Beat>,
    thread: JoinHandle<()>,
}

/// A thread that answers requests in their order.
pub struct Helper<Q, A> {
    name: &'static str,
    capacity: usize,
    make: Box<dyn Fn() -> Work<Q, A>>,
    avoided: Avoided,
    running: Running<Q, A>,
    left: u32,
}

impl<Q: Send + 'static, A: Send + 'static> Helper<Q, A> {
    /// Starts it. `capacity` requests may wait; `make` makes what it works with, for each thread anew.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        name: &'static str,
        capacity: usize,
        avoided: Avoided,
        make: impl Fn() -> Work<Q, A> + 'static,
    ) -> io::Result<Self> {
        let running = start(name, capacity, make())?;
        Ok(Self { name, capacity, make: Box::new(make), avoided, running, left: 0 })
    }

    /// Asks; false when too many requests wait already.
    pub fn ask(&self, request: Q) -> bool {
        // Before it can be taken: who is done with it says so.
        self.running.beat.asked();
        self.running.requests.try_send(request).is_ok()
    }

    /// An answer that is ready.
    pub fn answer(&self) -> Option<A> {
        self.running.answers.try_recv().ok()
    }

    /// The next answer, waited for.
    pub fn wait(&self, timeout: Duration) -> Option<A> {
        self.running.answers.recv_timeout(timeout).ok()
    }

    /// To be called each second: sees to it that there is a thread that works. Returns what happened, if anything did; the
    /// requests of the thread before are not answered any more.
    pub fn watch(&mut self, now_ns: u64) -> Option<String> {
        let ended = self.running.thread.is_finished();
        match replacing(self.name, ended, &self.running.beat, &self.avoided, &mut self.left, now_ns)? {
            Ok(what) => Some(self.replace(&what)),
            Err(what) => Some(what),
        }
    }

    fn replace(&mut self, what: &str) -> String {
        match start(self.name, self.capacity, (self.make)()) {
            Ok(running) => {
                self.running = running;
                format!("{what}; another has taken its place")
            }
            Err(error) => format!("{what}, and another cannot be started: {error}"),
        }
    }
}

/// Whether a thread should be replaced, and why; the error: why, and that it is not. `left` counts those left behind.
pub fn replacing(
    name: &str,
    ended: bool,
    beat: &Beat,
    avoided: &Avoided,
    left: &mut u32,
    now_ns: u64,
) -> Option<Result<String, String>> {
    if ended {
        return Some(Ok(format!("the thread {name} ended by an error of hitscope")));
    }
    let pid = beat.stuck(now_ns)?;
    let what = match pid {
        0 => format!("the thread {name} does not come back"),
        pid => format!("the thread {name} does not come back from reading about process {pid}"),
    };
    if *left >= MAX_LEFT {
        return Some(Err(format!("{what}, and {MAX_LEFT} before it have not either: it is not replaced any more")));
    }
    if pid != 0 {
        avoided.insert(pid);
    }
    *left += 1;
    Some(Ok(what))
}

fn start<Q: Send + 'static, A: Send + 'static>(
    name: &'static str,
    capacity: usize,
    mut work: Work<Q, A>,
) -> io::Result<Running<Q, A>> {
    let (requests, waiting) = mpsc::sync_channel(capacity);
    let (send, answers) = mpsc::channel();
    let beat = Arc::new(Beat::default());
    let own = beat.clone();
    let run = move || {
        for request in waiting {
            own.at(0);
            let answer = work(request, &own);
            own.idle();
            if send.send(answer).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name(name.into()).spawn(run)?;
    Ok(Running { requests, answers, beat, thread })
}

/// Waits for a thread to end, up to a moment; false when it has not.
pub fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = thread.join();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < deadline, "nothing came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn doubling() -> Work<u32, u32> {
        Box::new(|number, beat| {
            beat.at(number);
            match number {
                13 => panic!("on purpose"),
                666 => loop {
                    thread::park();
                },
                number => 2 * number,
            }
        })
    }

    #[test]
    fn a_thread_that_ended_is_said_and_started_again() {
        let mut helper = Helper::start("sampler", 4, Avoided::default(), doubling).unwrap();
        assert!(helper.ask(4));
        assert_eq!(until(|| helper.answer()), 8);
        assert_eq!(helper.watch(kernel::clock().monotonic_ns), None);
        assert!(helper.ask(13));
        let said = until(|| helper.watch(kernel::clock().monotonic_ns));
        assert_eq!(said, "the thread sampler ended by an error of hitscope; another has taken its place");
        assert!(helper.ask(5));
        assert_eq!(until(|| helper.answer()), 10);
    }

    #[test]
    fn a_stuck_thread_is_said_and_replaced_and_what_it_was_stuck_at_is_avoided() {
        let avoided = Avoided::default();
        let mut helper = Helper::start("sampler", 1, avoided.clone(), doubling).unwrap();
        assert!(helper.ask(666));
        until(|| (helper.running.beat.pid.load(Ordering::Relaxed) == 666).then_some(()));
        let now_ns = kernel::clock().monotonic_ns;
        assert_eq!(helper.watch(now_ns), None);
        let said = helper.watch(now_ns + STUCK_NS).unwrap();
        assert!(said.contains("process 666; another has taken its place"), "{said}");
        assert!(avoided.contains(666) && !avoided.contains(4));
        assert!(helper.ask(4));
        assert_eq!(until(|| helper.answer()), 8);
        avoided.keep(|pid| pid < 6);
        assert!(!avoided.contains(666));
    }

    #[test]
    fn so_many_stuck_threads_are_left_behind_and_no_more() {
        let mut helper = Helper::start("sampler", 1, Avoided::default(), doubling).unwrap();
        for round in 0..=MAX_LEFT {
            assert!(helper.ask(666));
            until(|| (helper.running.beat.pid.load(Ordering::Relaxed) == 666).then_some(()));
            let said = helper.watch(kernel::clock().monotonic_ns + STUCK_NS).unwrap();
            assert_eq!(said.contains("not replaced any more"), round == MAX_LEFT, "{said}");
        }
        assert_eq!(helper.left, MAX_LEFT);
    }

    #[test]
    fn nobody_waits_for_longer_than_asked() {
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(!join_until(
            thread::spawn(|| loop {
                thread::park()
            }),
            soon()
        ));
        assert!(join_until(thread::spawn(|| {}), Instant::now() + Duration::from_secs(60)));
    }
}
