//! The collector's main loop: one thread from the probes to the rows. Others sample processes, walk over open files, write, and
//! close cubes.
//!
//! It never waits for anything but records: a turn ends after so many of them, and what may block is asked of other threads.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hitscope_base::manager::{State, tell_manager};
use hitscope_history::{Writer, folder::Access};

pub use crate::rows::tables;
use crate::{
    boot::Kept,
    clocks::Boot,
    event::{Clock, Event},
    facts::{Fact, Facts, HostSample, ProcessSample, Question},
    helpers::{Avoided, Helper},
    hosts, kernel,
    pipeline::{Input, Pipeline, SocketCommand},
    probes::{ProbeState, Probes, Readable, Walker},
    record::Recorder,
    sampler::{LiveFacts, Sampler},
    settings::{Settings, window_start},
    source::{Source, Turn},
    status::Reporter,
    writing::{Batch, WriterThread, Written},
};

/// The loop turns at least this often, so that traffic too thin to fill a batch is seen soon.
const TURN: Duration = Duration::from_millis(100);
const SECOND_NS: u64 = 1_000_000_000;
/// How long the first sample is waited for.
const FIRST_SAMPLE: Duration = Duration::from_secs(10);
/// How long a second's counts wait for the walk over the open connections, ns.
const WALK_NS: u64 = 800_000_000;
/// Questions that wait for the thread that answers them.
const MAX_QUESTIONS: usize = 4096;
/// Clocks that moved to each other by more than this are told at once, ns; the wall clock's slow corrections, each second.
const MOVED_NS: u64 = 1_000_000;
/// What waits for others to end, waits no longer than this in all; the process is to end within 5 s.
const STOP: Duration = Duration::from_secs(4);

/// Where the collector runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the host, as in the history's folders.
    pub host: String,
    /// `/proc`, or a folder of the same form.
    pub procfs: PathBuf,
    /// `/etc/passwd`.
    pub passwd: PathBuf,
}

impl Place {
    /// This host.
    pub fn here(host: &str) -> Self {
        Self { host: host.into(), procfs: "/proc".into(), passwd: "/etc/passwd".into() }
    }
}

/// Where the collector writes.
pub struct Output {
    /// The open history.
    pub writer: Writer,
    /// The data folder, for the status.
    pub data_dir: PathBuf,
    /// Who may read the status.
    pub access: Access,
    /// What else the user should find in the status, such as that the server had to be started again.
    pub notes: Receiver<String>,
}

/// The pipeline and what goes along with each of its inputs.
struct Feeder {
    pipeline: Pipeline,
    recorder: Option<Recorder>,
}

impl Feeder {
    fn feed(&mut self, input: Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input);
        }
        self.pipeline.handle(input);
    }
}

/// Collects until `stop` is set. Without `output` nothing is kept but the recording.
///
/// # Errors
/// When the recording cannot be written, or a thread not started. A history that cannot be written is no end: what does
/// not fit in memory meanwhile is counted as lost.
pub fn run(
    settings: &Settings,
    place: &Place,
    mut probes: Probes,
    output: Option<Output>,
    recorder: Option<Recorder>,
    stop: &AtomicBool,
) -> Result<()> {
    let readable = probes.follow(&place.procfs).context("cannot start the thread that looks for libraries")?;
    let walker = probes.walker();
    Collector::new(settings, place, probes, (Some(readable), walker), output, recorder)?.run(stop)
}

type Sample = (ProcessSample, HostSample);

struct Collector<S> {
    feeder: Feeder,
    reporter: Reporter,
    source: S,
    sampler: Helper<i64, Sample>,
    resolver: Helper<Question, Fact>,
    walker: Option<Helper<(), std::io::Result<()>>>,
    writer: Option<WriterThread>,
    /// By what start times are told, where there is a folder to keep it in.
    kept: Option<Kept>,
    /// The clocks as last told.
    told: Clock,
    /// When the second ends, monotonic, ns.
    second_ns: u64,
    /// The window in which the last second ended.
    window: i64,
    /// Its end is not sampled yet.
    window_ended: bool,
    /// Until when the walk at the begin of a window is waited for, monotonic, ns.
    walking: Option<u64>,
}

/// When the wall clock's current second ends, monotonic, ns.
fn end_of_second(clock: Clock) -> u64 {
    clock.monotonic_ns + (SECOND_NS - clock.realtime_ns % SECOND_NS)
}

/// Whether the clocks moved to each other: the wall clock was set, or the host was suspended.
fn moved(before: Clock, now: Clock) -> bool {
    let offset = |later: u64, clock: Clock| later.wrapping_sub(clock.monotonic_ns);
    let differ = |a: u64, b: u64| (a.wrapping_sub(b) as i64).unsigned_abs() > MOVED_NS;
    differ(offset(now.realtime_ns, now), offset(before.realtime_ns, before))
        || differ(offset(now.boottime_ns, now), offset(before.boottime_ns, before))
}

impl<S: Source> Collector<S> {
    fn new(
        settings: &Settings,
        place: &Place,
        source: S,
        (readable, walker): (Option<Readable>, Option<Walker>),
        output: Option<Output>,
        recorder: Option<Recorder>,
    ) -> Result<Self> {
        let clock = kernel::clock();
        let avoided = Avoided::default();
        let (procfs, avoids) = (place.procfs.clone(), avoided.clone());
        let sampler = Helper::start("sampler", 1, avoided.clone(), move || {
            let (mut sampler, procfs) = (Sampler::new(&procfs, avoids.clone()), procfs.clone());
            Box::new(move |end_ns, beat| (sampler.sample(end_ns, beat), hosts::sample(&procfs, end_ns)))
        });
        let (procfs, passwd, avoids) = (place.procfs.clone(), place.passwd.clone(), avoided.clone());
        let resolver = Helper::start("resolver", MAX_QUESTIONS, avoided.clone(), move || {
            let mut facts = LiveFacts::new(&procfs, &passwd, readable.clone(), avoids.clone());
            Box::new(move |question, beat| {
                if let Question::Process(pid) | Question::Unreadable(pid) = question {
                    beat.at(pid);
                }
                facts.answer(question)
            })
        });
        let walker = walker.map(|walker| {
            Helper::start("walker", 1, avoided, move || {
                let walker = walker.clone();
                Box::new(move |(), _| walker.walk())
            })
        });
        Ok(Self {
            feeder: Feeder { pipeline: Pipeline::new(settings, std::env::consts::ARCH), recorder },
            reporter: Reporter::new(&place.host, &place.procfs, clock),
            source,
            sampler: sampler.context("cannot start the thread that samples processes")?,
            resolver: resolver.context("cannot start the thread that asks about processes")?,
            walker: walker.transpose().context("cannot start the thread that walks over open connections")?,
            kept: output.as_ref().map(|output| Kept::read(&output.data_dir, &place.procfs)),
            writer: output
                .map(WriterThread::start)
                .transpose()
                .context("cannot start the thread that writes the history")?,
            told: clock,
            second_ns: end_of_second(clock),
            window: window_start(clock.realtime_ns as i64),
            window_ended: false,
            walking: None,
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        self.start(stop);
        while !stop.load(Ordering::Relaxed) {
            let left_ns = self.second_ns.saturating_sub(kernel::clock().monotonic_ns);
            // At least a little, since a walk may be waited for.
            self.source.wait(Duration::from_nanos(left_ns).clamp(Duration::from_millis(1), TURN));
            self.turn();
            if self.second_is_over() {
                self.second()?;
            }
        }
        self.stop()
    }

    fn start(&mut self, stop: &AtomicBool) {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.boot != Boot::default()) {
            self.feeder.feed(Input::Boot(&kept.boot));
        }
        let clock = kernel::clock();
        self.tell(clock);
        self.feeder.feed(Input::Note("start", concat!("hitscope ", env!("CARGO_PKG_VERSION"))));
        for state in self.source.states() {
            self.feeder.feed(Input::Note("probe", &describe(state)));
        }
        self.walk(clock.monotonic_ns);
        self.request_sample(clock.realtime_ns as i64);
        // What the processes used is counted from here; so nothing else goes first.
        let until = Instant::now() + FIRST_SAMPLE;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            if let Some((processes, host)) = self.sampler.wait(TURN) {
                self.feeder.feed(Input::Processes(&processes));
                self.feeder.feed(Input::Host(&host));
                return;
            }
        }
    }

    /// Takes in what the probes and the other threads have ready, for a turn.
    fn turn(&mut self) {
        let clock = kernel::clock();
        // Told before the records that were made since.
        if moved(self.told, clock) {
            self.tell(kernel::clock());
        }
        let Self { source, feeder, .. } = self;
        let mut started = Vec::new();
        source.poll(Turn::default(), &mut |event| {
            if let Event::Exec(event) = event {
                started.push(event.header.pid);
            }
            feeder.feed(Input::Event(event));
        });
        started.into_iter().for_each(|pid| source.started(pid));
        for command in feeder.pipeline.commands() {
            match command {
                SocketCommand::Verdict(socket, verdict) => source.set_verdict(socket, verdict),
                SocketCommand::Forget(socket) => source.forget_socket(socket),
            }
        }
        while let Some(fact) = self.resolver.answer() {
            self.feeder.feed(Input::Fact(&fact));
        }
        self.ask();
        while let Some((processes, host)) = self.sampler.answer() {
            self.source.processes(&processes);
            self.feeder.feed(Input::Processes(&processes));
            self.feeder.feed(Input::Host(&host));
        }
        while let Some(walked) = self.walker.as_ref().and_then(Helper::answer) {
            self.walking = None;
            if let Err(error) = walked {
                self.feeder.pipeline.lost("connection_walks_failed", 1);
                self.reporter.note(format!("open connections could not be looked at: {error}"));
            }
        }
    }

    /// Passes on what the pipeline wants to know.
    fn ask(&mut self) {
        let pipeline = &mut self.feeder.pipeline;
        let refused = pipeline.questions().filter(|question| !self.resolver.ask(*question)).count();
        pipeline.lost("questions_over_limit", refused as u64);
    }

    fn tell(&mut self, clock: Clock) {
        self.told = clock;
        self.feeder.feed(Input::Event(Event::Clock(clock)));
    }

    /// Whether the second has passed. At the end of a window what went over the open connections is accounted first.
    fn second_is_over(&mut self) -> bool {
        let clock = kernel::clock();
        if clock.monotonic_ns < self.second_ns {
            return false;
        }
        if let Some(until_ns) = self.walking {
            if clock.monotonic_ns < until_ns {
                return false;
            }
            self.walking = None;
            self.feeder.pipeline.lost("connection_walks_late", 1);
            return true;
        }
        let window = window_start(clock.realtime_ns as i64);
        if std::mem::replace(&mut self.window, window) != window {
            self.window_ended = true;
            self.walk(clock.monotonic_ns);
        }
        self.walking.is_none()
    }

    /// Empties the kernel's maps, brings what has come together to the disk, and looks after the other threads.
    fn second(&mut self) -> Result<()> {
        tell_manager(State::Alive);
        self.drain();
        self.watch();
        self.write()?;
        self.flush_recording()?;
        // After the drain: the sample takes the processes' times up to there.
        if std::mem::take(&mut self.window_ended) {
            self.request_sample(self.window);
        }
        self.second_ns = end_of_second(kernel::clock());
        Ok(())
    }

    fn drain(&mut self) {
        let clock = kernel::clock();
        self.tell(clock);
        let Self { source, feeder, .. } = self;
        source.drain(&mut |event| feeder.feed(Input::Event(event)));
        feeder.feed(Input::Tick(clock.monotonic_ns));
    }

    /// Has what went over open connections accounted, for the window that ends.
    fn walk(&mut self, now_ns: u64) {
        let Some(walker) = &self.walker else { return };
        if walker.ask(()) {
            self.walking = Some(now_ns + WALK_NS);
        } else {
            self.feeder.pipeline.lost("connection_walks_late", 1);
        }
    }

    /// Says which threads ended or are stuck, and has others take their places.
    fn watch(&mut self) {
        let now_ns = kernel::clock().monotonic_ns;
        let Self { source, sampler, resolver, walker, .. } = self;
        let happened = [
            sampler.watch(now_ns),
            resolver.watch(now_ns),
            walker.as_mut().and_then(|walker| walker.watch(now_ns)),
            source.watch(now_ns),
        ];
        for note in happened.into_iter().flatten() {
            self.feeder.pipeline.lost("helper_threads_failed", 1);
            tracing::warn!("{note}");
            self.reporter.note(note);
        }
    }

    /// Has the rows written that have come together.
    fn write(&mut self) -> Result<()> {
        let Some(mut writer) = self.writer.take() else {
            self.feeder.pipeline.take_rows();
            return Ok(());
        };
        self.take_in(writer.written());
        let lost = writer.write(self.batch())?;
        self.take_in(Written { lost, ..Written::default() });
        self.writer = Some(writer);
        Ok(())
    }

    fn batch(&mut self) -> Batch {
        let pipeline = &mut self.feeder.pipeline;
        let rows = pipeline.take_rows();
        let now_ns = u64::try_from(pipeline.wall_ns()).unwrap_or(0);
        pipeline.notes().for_each(|note| self.reporter.note(note));
        let status = self.reporter.report(now_ns, self.source.states(), pipeline.losses(), pipeline.counters());
        let kept = self.kept.as_mut().filter(|kept| kept.boot != *self.feeder.pipeline.boot());
        let boot = kept.map(|kept| {
            kept.boot = self.feeder.pipeline.boot().clone();
            kept.clone()
        });
        Batch { rows, status, boot }
    }

    fn take_in(&mut self, written: Written) {
        for (table, count) in written.lost {
            self.feeder.pipeline.lost(&format!("history_{table}"), count);
        }
        written.notes.into_iter().for_each(|note| self.reporter.note(note));
    }

    fn flush_recording(&mut self) -> Result<()> {
        match &mut self.feeder.recorder {
            Some(recorder) => Ok(recorder.flush()?),
            None => Ok(()),
        }
    }

    fn request_sample(&mut self, end_ns: i64) {
        if !self.sampler.ask(end_ns) {
            self.feeder.pipeline.lost("samples_late", 1);
        }
    }

    /// Takes in what is still there, and closes everything in order, but waits for nobody for long: rows first.
    fn stop(mut self) -> Result<()> {
        let deadline = Instant::now() + STOP;
        self.walk(kernel::clock().monotonic_ns);
        self.turn();
        while self.walking.is_some_and(|until_ns| kernel::clock().monotonic_ns < until_ns) {
            self.source.wait(Duration::from_millis(1));
            self.turn();
        }
        self.drain();
        self.feeder.feed(Input::Note("stop", "stopped in order"));
        self.feeder.feed(Input::End);
        let mut left = Vec::new();
        if let Some(writer) = self.writer.take() {
            match writer.finish(self.batch(), deadline) {
                Some(written) => written.notes.iter().for_each(|note| tracing::warn!("{note}")),
                None => left.push("writer"),
            }
        }
        let flushed = self.flush_recording();
        // The walker holds the probes, too.
        drop(self.walker.take());
        left.extend(self.source.leave(deadline));
        for name in left {
            tracing::warn!("the thread {name} does not end: it is left to the end of the process");
        }
        flushed
    }
}

/// A probe's state in a sentence.
fn describe(state: &ProbeState) -> String {
    let how = if state.running { "running" } else { "not running" };
    match &state.reason {
        Some(reason) => format!("{}: {how}: {reason}", state.name),
        None => format!("{}: {how}", state.name),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hitscope_schemas::{
        event::{EventHeader, KIND_SEGMENT},
        sockets::{RECEIVED, SENT, SegmentEvent},
    };

    use super::*;

    /// A socket of an unknown protocol, on which both ends say something in turn, faster than anybody can listen.
    struct Endless<'a> {
        stop: &'a AtomicBool,
        offsets: [u64; 2],
        drains: u32,
        told: &'a Cell<u32>,
        begun: Instant,
    }

    impl Source for Endless<'_> {
        fn wait(&self, _: Duration) {}

        fn poll(&mut self, mut turn: Turn, sink: &mut dyn FnMut(Event<'_>)) {
            while turn.goes_on() {
                assert!(self.begun.elapsed() < Duration::from_secs(120), "nothing else got its turn");
                let time_ns = kernel::clock().monotonic_ns;
                let direction = if self.offsets[0] > self.offsets[1] { SENT } else { RECEIVED };
                let offset = &mut self.offsets[direction as usize & 1];
                let segment = SegmentEvent {
                    header: EventHeader { kind: KIND_SEGMENT, size: 0, time_ns, pid: 7, thread_id: 7 },
                    socket: 9,
                    enter_ns: time_ns,
                    offset: *offset,
                    length: 4,
                    head_len: 4,
                    direction,
                    ..bytemuck::Zeroable::zeroed()
                };
                *offset += 4;
                sink(Event::Segment(&segment, b"zzzz", b""));
            }
        }

        fn drain(&mut self, _: &mut dyn FnMut(Event<'_>)) {
            self.drains += 1;
            self.stop.store(self.drains >= 2, Ordering::Relaxed);
        }

        fn states(&self) -> &[ProbeState] {
            &[]
        }

        fn set_verdict(&mut self, _: u64, _: u16) {
            self.told.set(self.told.get() + 1);
        }

        fn forget_socket(&mut self, _: u64) {}

        fn started(&self, _: u32) {}

        fn processes(&self, _: &ProcessSample) {}

        fn watch(&mut self, _: u64) -> Option<String> {
            None
        }

        fn leave(self, _: Instant) -> Vec<&'static str> {
            Vec::new()
        }
    }

    #[test]
    fn seconds_verdicts_and_the_stop_get_their_turn_though_records_never_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { host: "h".into(), procfs: folder.path().into(), passwd: folder.path().join("passwd") };
        let (stop, told) = (AtomicBool::new(false), Cell::new(0));
        let source = Endless { stop: &stop, offsets: [0; 2], drains: 0, told: &told, begun: Instant::now() };
        let collector = Collector::new(&Settings::default(), &place, source, (None, None), None, None).unwrap();
        collector.run(&stop).unwrap();
        assert_eq!(told.get(), 1);
    }

    #[test]
    fn clocks_that_move_are_told_from_clocks_that_are_corrected() {
        let clock = |monotonic_ns, boottime_ns, realtime_ns| Clock { monotonic_ns, boottime_ns, realtime_ns };
        let before = clock(1_000_000_000, 1_000_000_000, 9_000_000_000);
        assert!(!moved(before, clock(1_100_000_000, 1_100_000_000, 9_100_400_000)));
        assert!(moved(before, clock(1_100_000_000, 1_100_000_000, 8_100_000_000)), "set back");
        assert!(moved(before, clock(1_100_000_000, 61_100_000_000, 69_100_000_000)), "suspended");
    }
}
