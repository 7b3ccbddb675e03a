//! The collector's main loop: one thread from the probes to the rows. Others sample processes, write, and close cubes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use anyhow::{Context, Result};
use hitscope_history::{Writer, folder::Access};

pub use crate::rows::tables;
use crate::{
    event::Event,
    facts::{Facts, ProcessFacts},
    kernel,
    pipeline::{Input, Pipeline, SocketCommand},
    probes::{ProbeState, Probes},
    record::Recorder,
    sampler::{LiveFacts, SamplerThread},
    settings::{Settings, window_start},
    status::Reporter,
    writing::{Batch, WriterThread, Written},
};

/// The loop turns at least this often, so that traffic too thin to fill a batch is seen soon.
const TURN: Duration = Duration::from_millis(100);
const SECOND_NS: i64 = 1_000_000_000;
/// How long the first sample is waited for.
const FIRST_SAMPLE: Duration = Duration::from_secs(10);

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

/// Facts of the running host, recorded as they are asked for.
struct RecordedLive<'a> {
    live: &'a mut LiveFacts,
    recorder: Option<&'a mut Recorder>,
}

impl Facts for RecordedLive<'_> {
    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let answer = self.live.process(pid);
        if let Some(recorder) = &mut self.recorder {
            recorder.process(pid, answer.as_ref());
        }
        answer
    }

    fn user(&mut self, user_id: u32) -> Option<Arc<str>> {
        let answer = self.live.user(user_id);
        if let Some(recorder) = &mut self.recorder {
            recorder.user(user_id, answer.as_deref());
        }
        answer
    }

    fn unreadable(&mut self, pid: u32) -> Option<Arc<str>> {
        let answer = self.live.unreadable(pid);
        if let Some(recorder) = &mut self.recorder {
            recorder.unreadable(pid, answer.as_deref());
        }
        answer
    }
}

/// The pipeline and what goes along with each of its inputs.
struct Feeder {
    pipeline: Pipeline,
    facts: LiveFacts,
    recorder: Option<Recorder>,
}

impl Feeder {
    fn feed(&mut self, input: Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input);
        }
        let mut facts = RecordedLive { live: &mut self.facts, recorder: self.recorder.as_mut() };
        self.pipeline.handle(input, &mut facts);
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
    probes: Probes,
    output: Option<Output>,
    recorder: Option<Recorder>,
    stop: &AtomicBool,
) -> Result<()> {
    let clock = kernel::clock();
    let mut collector = Collector {
        feeder: Feeder {
            pipeline: Pipeline::new(settings, std::env::consts::ARCH),
            facts: LiveFacts::new(&place.procfs, &place.passwd),
            recorder,
        },
        reporter: Reporter::new(&place.host, &place.procfs, clock),
        sampler: SamplerThread::start(&place.procfs).context("cannot start the thread that samples processes")?,
        probes,
        writer: output
            .map(WriterThread::start)
            .transpose()
            .context("cannot start the thread that writes the history")?,
        walked: 0,
    };
    let readable =
        collector.probes.follow(&place.procfs).context("cannot start the thread that looks for libraries")?;
    collector.feeder.facts.set_readable(readable);
    collector.start();
    let mut next_second_ns = next_second(clock.realtime_ns as i64);
    let mut window = window_start(clock.realtime_ns as i64);
    while !stop.load(Ordering::Relaxed) {
        let left_ns = next_second_ns - kernel::clock().realtime_ns as i64;
        collector.probes.wait(TURN.min(Duration::from_nanos(left_ns.clamp(0, SECOND_NS) as u64)));
        collector.turn();
        let now_ns = kernel::clock().realtime_ns as i64;
        // The second condition: the wall clock was set back.
        if now_ns >= next_second_ns || now_ns < next_second_ns - 2 * SECOND_NS {
            collector.second()?;
            next_second_ns = next_second(now_ns);
            if std::mem::replace(&mut window, window_start(now_ns)) != window {
                collector.request_sample(window);
            }
        }
    }
    collector.stop()
}

/// The first whole second after a moment.
fn next_second(now_ns: i64) -> i64 {
    (now_ns.div_euclid(SECOND_NS) + 1) * SECOND_NS
}

struct Collector {
    feeder: Feeder,
    reporter: Reporter,
    sampler: SamplerThread,
    probes: Probes,
    writer: Option<WriterThread>,
    /// The window at whose begin the open connections were last walked over.
    walked: i64,
}

impl Collector {
    fn start(&mut self) {
        let clock = kernel::clock();
        self.feeder.feed(Input::Event(Event::Clock(clock)));
        self.feeder.feed(Input::Note("start", concat!("hitscope ", env!("CARGO_PKG_VERSION"))));
        for state in self.probes.states() {
            self.feeder.feed(Input::Note("probe", &describe(state)));
        }
        self.walk(clock.realtime_ns as i64);
        self.request_sample(clock.realtime_ns as i64);
        // What the processes used is counted from here; so nothing else goes first.
        if let Some((processes, host)) = self.sampler.wait(FIRST_SAMPLE) {
            self.feeder.feed(Input::Processes(&processes));
            self.feeder.feed(Input::Host(&host));
        }
    }

    /// Takes in what the probes and the sampler have ready.
    fn turn(&mut self) {
        let Self { probes, feeder, .. } = self;
        let mut started = Vec::new();
        probes.poll(&mut |event| {
            if let Event::Exec(event) = event {
                started.push(event.header.pid);
            }
            feeder.feed(Input::Event(event));
        });
        started.into_iter().for_each(|pid| probes.started(pid));
        for command in self.feeder.pipeline.commands() {
            match command {
                SocketCommand::Verdict(socket, verdict) => self.probes.set_verdict(socket, verdict),
                SocketCommand::Forget(socket) => self.probes.forget_socket(socket),
            }
        }
        while let Some((processes, host)) = self.sampler.ready() {
            self.probes.processes(&processes);
            self.feeder.feed(Input::Processes(&processes));
            self.feeder.feed(Input::Host(&host));
        }
    }

    /// Empties the kernel's maps, and brings what has come together to the disk.
    fn second(&mut self) -> Result<()> {
        self.drain();
        self.write()?;
        self.flush_recording()
    }

    fn drain(&mut self) {
        let clock = kernel::clock();
        if window_start(clock.realtime_ns as i64) != self.walked {
            self.walk(clock.realtime_ns as i64);
        }
        let Self { probes, feeder, .. } = self;
        feeder.feed(Input::Event(Event::Clock(clock)));
        probes.drain(&mut |event| feeder.feed(Input::Event(event)));
        feeder.feed(Input::Tick(clock.monotonic_ns));
    }

    /// Has what went over open connections accounted, for the window that ends.
    fn walk(&mut self, now_ns: i64) {
        self.walked = window_start(now_ns);
        if let Err(error) = self.probes.walk() {
            self.feeder.pipeline.lost("connection_walks_failed", 1);
            self.reporter.note(format!("open connections could not be looked at: {error}"));
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
        let status = self.reporter.report(now_ns, self.probes.states(), pipeline.losses(), pipeline.counters());
        Batch { rows, status }
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
        if !self.sampler.request(end_ns) {
            self.feeder.pipeline.lost("samples_late", 1);
        }
    }

    /// Takes in what is still there, and closes everything in order.
    fn stop(mut self) -> Result<()> {
        self.turn();
        self.walk(0);
        self.drain();
        self.feeder.feed(Input::Note("stop", "stopped in order"));
        self.feeder.feed(Input::End);
        if let Some(writer) = self.writer.take() {
            writer.finish(self.batch()).notes.iter().for_each(|note| tracing::warn!("{note}"));
        }
        let flushed = self.flush_recording();
        self.probes.leave();
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
