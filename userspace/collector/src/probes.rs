//! The probes' user side: loading, attaching each on its own, and reading what they found.
//!
//! [`REGISTRY`] is the one list of probes: settings, `check`, `status` and the docs come from it. A probe is one file
//! here, of the same name as its records in `schemas` and its programs in `probe-ebpf`.

mod connections;
mod copies;
mod load;
mod sched;
mod sockets;
mod syscalls;
mod tls;
mod uprobes;

use std::{
    hash::Hash,
    io::{self, Read},
    os::fd::AsRawFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::Iter,
};
pub use hitscope_config::Probes as Settings;
use hitscope_schemas::{
    connections::{DnsEvent, RemoteKey, RemoteStats},
    event::{self, EventHeader},
    sched::{ExecEvent, ExitEvent, ProcessKey, ProcessTimes},
    sockets::{CloseEvent, PLAINTEXT_KEY, SegmentEvent, SocketEvent},
    syscalls::{SyscallKey, SyscallStats},
};
pub use load::{Error, Refusal};
use load::{Loaded, Loader};
use serde::Serialize;
pub use tls::Readable;
pub use uprobes::are_known as uprobe_links;

use crate::{
    event::Event,
    facts::ProcessSample,
    kernel::{self, btf::Resolved},
    source::{Source, Turn},
};

/// One probe.
pub struct Definition {
    /// As in settings, `check` and `status`.
    pub name: &'static str,
    /// What it shows, one sentence.
    pub doc: &'static str,
    /// Kernel fields without which it cannot run, by their name in [`hitscope_schemas::offsets::Offsets`].
    pub needs: &'static [&'static str],
    /// Loads and attaches its programs; says why not.
    attach: fn(&mut Loader) -> Result<Vec<ProgramState>, Refusal>,
}

/// Every probe, in the order they are attached.
pub const REGISTRY: &[Definition] =
    &[syscalls::DEFINITION, sched::DEFINITION, sockets::DEFINITION, connections::DEFINITION, tls::DEFINITION];

/// How a probe fares.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeState {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub doc: &'static str,
    /// Whether it runs.
    pub running: bool,
    /// Why it does not, or what it lacks.
    pub reason: Option<String>,
    /// The same, for who decides what to do about it.
    #[serde(skip)]
    pub refusal: Option<Refusal>,
    /// Its programs in the kernel.
    pub programs: Vec<ProgramState>,
}

/// A program in the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramState {
    /// Its name.
    pub name: &'static str,
    /// Instructions that the verifier walked through, where the kernel tells (5.16 on).
    pub verified_instructions: Option<u32>,
}

/// What each probe would do on this host. Loads them and lets them go again.
pub fn check(settings: &Settings) -> Result<Vec<ProbeState>, Error> {
    Ok(Probes::load(settings)?.states)
}

/// What each probe would do where the kernel's fields are these.
pub fn check_with(settings: &Settings, resolved: &Resolved) -> Result<Vec<ProbeState>, Error> {
    Ok(Probes::load_on(settings, resolved, &[])?.states)
}

/// The loaded probes. They detach when this is dropped.
pub struct Probes {
    states: Vec<ProbeState>,
    ring: RingBuf<MapData>,
    generation: Array<MapData, u32>,
    current_generation: u32,
    syscalls: PerCpuHashMap<MapData, SyscallKey, SyscallStats>,
    processes: PerCpuHashMap<MapData, ProcessKey, ProcessTimes>,
    remotes: PerCpuHashMap<MapData, RemoteKey, RemoteStats>,
    walker: Option<Walker>,
    sockets: HashMap<MapData, u64, hitscope_schemas::sockets::SocketState>,
    verdicts: HashMap<MapData, u64, u16>,
    lost: PerCpuArray<MapData, u64>,
    lost_before: [u64; event::lost::COUNT as usize],
    skips: copies::Skips,
    loaded: Arc<Mutex<Loaded>>,
    /// Attaches more of the probe `tls` as processes come.
    follower: Option<tls::Follower>,
}

impl Probes {
    /// Loads and attaches every probe that is not disabled. One that cannot run says why in [`Self::states`].
    ///
    /// # Errors
    /// Where nothing at all can be loaded: no privileges, no BTF.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        Self::load_without(settings, &[])
    }

    /// As on a kernel that lacks these raw tracepoints: so tests see what older kernels would do.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub fn load_without(settings: &Settings, absent: &'static [&'static str]) -> Result<Self, Error> {
        Self::load_on(settings, &kernel::btf::resolve(Path::new(kernel::btf::PATH))?, absent)
    }

    fn load_on(settings: &Settings, resolved: &Resolved, absent: &'static [&'static str]) -> Result<Self, Error> {
        let mut loader = Loader::new(settings, resolved, absent)?;
        let states: Vec<ProbeState> = REGISTRY.iter().map(|probe| loader.attach(probe, settings, resolved)).collect();
        let mut finished = loader.finish();
        let loaded = &mut finished.object;
        // Types of the whole kernel were read for a few offsets; the allocator would keep their memory.
        // SAFETY: takes no pointers.
        unsafe { libc::malloc_trim(0) };
        let round = Arc::new(Mutex::new((load::map(loaded, "ROUND")?, 0)));
        let ring = load::map(loaded, "EVENTS")?;
        let generation = load::map(loaded, "GENERATION")?;
        let syscalls = load::map(loaded, "SYSCALLS")?;
        let processes = load::map(loaded, "PROCESSES")?;
        let remotes = load::map(loaded, "REMOTES")?;
        let sockets = load::map(loaded, "SOCKETS")?;
        let verdicts = load::map(loaded, "VERDICTS")?;
        let lost = load::map(loaded, "LOST")?;
        let loaded = Arc::new(Mutex::new(finished));
        let runs = states.iter().any(|state| state.name == connections::DEFINITION.name && state.running);
        let walker = runs.then(|| Walker { loaded: loaded.clone(), round });
        Ok(Self {
            states,
            ring,
            generation,
            current_generation: 0,
            syscalls,
            processes,
            remotes,
            sockets,
            verdicts,
            lost,
            lost_before: [0; event::lost::COUNT as usize],
            skips: copies::Skips::default(),
            walker,
            loaded,
            follower: None,
        })
    }

    /// Looks for the TLS libraries of all processes, where the probe `tls` runs, and says which can be read.
    ///
    /// # Errors
    /// When the thread that does so cannot be started.
    pub fn follow(&mut self, procfs: &Path) -> io::Result<Readable> {
        let state = self.states.iter().find(|state| state.name == tls::DEFINITION.name && !state.running);
        if let Some(reason) = state.and_then(|state| state.reason.clone()) {
            return Ok(Readable::off(reason));
        }
        let follower = match self.follower.take() {
            Some(follower) => follower,
            None => tls::Follower::start(self.loaded.clone(), procfs)?,
        };
        let readable = self.follower.insert(follower).readable();
        self.note_libraries();
        Ok(readable)
    }

    /// Says in the state of `tls` whether the processes that ran before it are still being looked at.
    fn note_libraries(&mut self) {
        let Some(follower) = &self.follower else { return };
        let looking = !follower.has_looked();
        if let Some(state) = self.states.iter_mut().find(|state| state.name == tls::DEFINITION.name) {
            state.reason = looking.then(|| "still looking for libraries of programs that ran before".to_owned());
        }
    }

    /// A program was started: it may load a TLS library.
    pub fn started(&self, pid: u32) {
        if let Some(follower) = &self.follower {
            follower.started(pid);
        }
    }

    /// Every process: some may have loaded a TLS library, some are gone.
    pub fn processes(&self, sample: &ProcessSample) {
        if let Some(follower) = &self.follower {
            follower.processes(sample);
        }
    }

    /// Done with, in a process that ends: uprobes are left to its end, where SIGKILL cannot keep the kernel from letting go
    /// of them. Returns which thread did not end by the deadline.
    pub fn leave(mut self, deadline: Instant) -> Vec<&'static str> {
        let left = self.follower.take().is_some_and(|follower| !follower.leave(deadline));
        if left {
            // It may hold the lock; the end of the process takes everything away.
            std::mem::forget(self);
            return vec![tls::THREAD];
        }
        if let Some(libraries) = &mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner).libraries {
            libraries.leave();
        }
        Vec::new()
    }

    /// To be called each second: says what happened to the thread that looks for libraries, if anything did.
    pub fn watch(&mut self, now_ns: u64) -> Option<String> {
        self.follower.as_mut()?.watch(now_ns)
    }

    /// How each probe fares, in the order of [`REGISTRY`].
    pub fn states(&self) -> &[ProbeState] {
        &self.states
    }

    /// Sleeps until a batch of records waits or the time is up.
    pub fn wait(&self, timeout: Duration) {
        let mut ready = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `ready` is one valid pollfd. An interrupted call returns early, which does no harm.
        unsafe { libc::poll(&mut ready, 1, milliseconds) };
    }

    /// Hands over records of the ring buffer, for a turn. It may never be empty: new records come while these are taken.
    pub fn poll(&mut self, mut turn: Turn, sink: &mut dyn FnMut(Event<'_>)) {
        while turn.goes_on()
            && let Some(record) = self.ring.next()
        {
            if let Some(event) = decode(&record) {
                sink(event);
            }
        }
    }

    /// Hands over what the per-CPU maps counted since the last time, and the losses.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.note_libraries();
        let finished = self.current_generation;
        self.current_generation ^= 1;
        if self.generation.set(0, self.current_generation, 0).is_err() {
            self.current_generation = finished;
            return;
        }
        // A program that read the old generation just before may still be writing to it.
        std::thread::sleep(Duration::from_millis(1));
        let syscalls = take(&mut self.syscalls, |key| u32::from(key.generation) == finished, syscalls::sum);
        sink(Event::Syscalls(&syscalls));
        let processes = take(&mut self.processes, |key| key.generation == finished, sched::sum);
        sink(Event::ProcessTimes(&processes));
        let remotes = take(&mut self.remotes, |key| key.generation == finished, connections::sum);
        sink(Event::Remotes(&remotes));
        let mut losses = Vec::new();
        for (index, before) in self.lost_before.iter_mut().enumerate() {
            let Ok(counts) = self.lost.get(&(index as u32), 0) else { continue };
            let count: u64 = counts.iter().sum();
            if count > *before {
                losses.push((event::lost::NAMES[index], count - *before));
                *before = count;
            }
        }
        // While more is being attached, it can wait.
        if let Ok(mut loaded) = self.loaded.try_lock() {
            if let Some(log) = &mut loaded.log {
                log.flush();
            }
            let skipped = self.skips.take(&mut loaded.object);
            if skipped > 0 {
                losses.push(("program_skipped", skipped));
            }
        }
        if let Some(refused) = self.follower.as_ref().map(tls::Follower::take_refused).filter(|count| *count > 0) {
            losses.push(("tls_files_over_limit", refused));
        }
        sink(Event::Lost(&losses));
    }

    /// Has the next copies of programs run beside those before, as happens where the kernel skips these. To be called before that shows on
    /// a kernel that is known to: until it shows and they are attached, things go by unseen.
    pub fn attach_next_copies(&mut self) {
        self.skips.attach_next(&mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner).object);
    }

    /// Takes the copies before the last away, as if the kernel skipped them each time: so tests see that nothing is missing.
    ///
    /// # Errors
    /// When they cannot be taken away.
    pub fn detach_other_copies(&mut self) -> Result<(), Refusal> {
        self.skips.detach_others(&mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner).object)
    }

    /// Does something while the kernel lacks one of the programs that have copies, as where it skips it: so tests see what comes of
    /// that.
    ///
    /// # Errors
    /// Where the kernel does not take it back.
    pub fn without(&mut self, program: &'static str, meanwhile: impl FnOnce()) -> Result<(), Refusal> {
        copies::Skips::without(
            &mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner).object,
            program,
            meanwhile,
        )
    }

    /// What walks over the open connections, where the probe `connections` runs.
    pub fn walker(&self) -> Option<Walker> {
        self.walker.clone()
    }

    /// Whether the kernel lets the calling thread do what comes after loading: write to the maps, run the iterator.
    pub fn usable(&mut self) -> bool {
        self.generation.set(0, self.current_generation, 0).is_ok()
            && self.walker.as_ref().is_none_or(|walker| walker.walk().is_ok())
    }

    /// Tells the kernel side what to do with a socket: one of `hitscope_schemas::sockets::VERDICT_*`.
    pub fn set_verdict(&mut self, socket: u64, verdict: u16) {
        // It can fail only for want of kernel memory; the socket then stays as it is.
        let _ = self.verdicts.insert(socket, verdict, 0);
    }

    /// Frees the kernel side's entries of a socket that is gone.
    pub fn forget_socket(&mut self, socket: u64) {
        // Most often the kernel side has seen the close and freed them itself.
        for key in [socket, socket | PLAINTEXT_KEY] {
            let _ = self.sockets.remove(&key);
            let _ = self.verdicts.remove(&key);
        }
    }
}

impl Source for Probes {
    fn wait(&self, timeout: Duration) {
        self.wait(timeout);
    }

    fn poll(&mut self, turn: Turn, sink: &mut dyn FnMut(Event<'_>)) {
        self.poll(turn, sink);
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.drain(sink);
    }

    fn states(&self) -> &[ProbeState] {
        self.states()
    }

    fn set_verdict(&mut self, socket: u64, verdict: u16) {
        self.set_verdict(socket, verdict);
    }

    fn forget_socket(&mut self, socket: u64) {
        self.forget_socket(socket);
    }

    fn started(&self, pid: u32) {
        self.started(pid);
    }

    fn processes(&self, sample: &ProcessSample) {
        self.processes(sample);
    }

    fn watch(&mut self, now_ns: u64) -> Option<String> {
        self.watch(now_ns)
    }

    fn leave(self, deadline: Instant) -> Vec<&'static str> {
        self.leave(deadline)
    }
}

/// Has the kernel side account what went over the connections that are open, and find those it does not know: it goes over
/// all open files of the host, which takes long where there are many.
#[derive(Clone)]
pub struct Walker {
    loaded: Arc<Mutex<Loaded>>,
    /// The kernel side's number of the walk.
    round: Arc<Mutex<(Array<MapData, u32>, u32)>>,
}

impl Walker {
    /// # Errors
    /// When the kernel has no memory for it, or no more files may be opened.
    pub fn walk(&self) -> io::Result<()> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(program) = loaded.object.program_mut(connections::WALK) else { return Ok(()) };
        let program: &mut Iter = program.try_into().map_err(io::Error::other)?;
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let next = round.1.wrapping_add(1);
        round.0.set(0, next, 0).map_err(io::Error::other)?;
        round.1 = next;
        drop(round);
        let link = program.attach().and_then(|link| program.take_link(link)).map_err(io::Error::other)?;
        drop(loaded);
        let mut files = link.into_file().map_err(io::Error::other)?;
        loop {
            match files.read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // After a million files the kernel takes a breath.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Empties the entries of one generation out of a per-CPU map.
fn take<K: Pod + Eq + Hash, V: Pod>(
    map: &mut PerCpuHashMap<MapData, K, V>,
    finished: impl Fn(&K) -> bool,
    sum: impl Fn(&[V]) -> V,
) -> Vec<(K, V)> {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).filter(finished).collect();
    let mut entries = Vec::with_capacity(keys.len());
    for key in keys {
        if let Ok(values) = map.get(&key, 0) {
            entries.push((key, sum(&values)));
            let _ = map.remove(&key);
        }
    }
    entries
}

/// A ring buffer record as an event; `None` for a kind or size that these sources do not know.
pub(crate) fn decode(record: &[u8]) -> Option<Event<'_>> {
    fn whole<T: bytemuck::AnyBitPattern>(record: &[u8]) -> Option<&T> {
        bytemuck::try_from_bytes(record.get(..size_of::<T>())?).ok()
    }
    match whole::<EventHeader>(record)?.kind {
        event::KIND_EXEC => whole::<ExecEvent>(record).map(Event::Exec),
        event::KIND_EXIT => whole::<ExitEvent>(record).map(Event::Exit),
        event::KIND_SOCKET => whole::<SocketEvent>(record).map(Event::Socket),
        event::KIND_CLOSE => whole::<CloseEvent>(record).map(Event::Close),
        event::KIND_DNS => {
            let event: &DnsEvent = whole(record)?;
            Some(Event::Dns(event, record.get(size_of::<DnsEvent>()..)?.get(..event.length as usize)?))
        }
        event::KIND_SEGMENT => {
            let segment: &SegmentEvent = whole(record)?;
            let captured = record.get(size_of::<SegmentEvent>()..)?;
            let (head, rest) = captured.split_at_checked(segment.head_len as usize)?;
            Some(Event::Segment(segment, head, rest.get(..segment.tail_len as usize)?))
        }
        _ => None,
    }
}
