//! Loading the probes' object and attaching its programs.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapError, ProgramArray},
    programs::{
        BtfTracePoint, Iter, Program, ProgramError, ProgramFd, ProgramInfo, ProgramType, RawTracePoint, UProbe,
    },
    sys::{BpfHelper, is_helper_supported},
};
use aya_log::{EbpfLogger, Level};
use hitscope_schemas::sockets::TAILS_PER_COPY;

use super::{Definition, ProbeState, ProgramState, Settings, copies, tls::Libraries, uprobes::Multi};
use crate::kernel::btf::{self, Resolved};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hitscope-probes.o"));

/// Where programs find those that go on with their work. They stay with the object: the kernel empties such an array once
/// nobody holds it.
const TAILS: &str = "TAILS";
/// The same of the probe `tls`.
const TLS_TAILS: &str = "TLS_TAILS";

/// Why no probe at all could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No BTF.
    #[error(transparent)]
    Btf(#[from] btf::Error),
    /// The kernel refused the object's maps.
    #[error("the kernel refused the probes' maps: {}", cause(.0))]
    Load(#[from] aya::EbpfError),
    /// The kernel's types cannot be read a second time.
    #[error("cannot read the kernel's types: {0}")]
    Types(#[from] aya::BtfError),
    /// A map is not what it should be.
    #[error("map {name} of the probes: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// A map is not there.
    #[error("the probes have no map {0}; the program and its probes were built from different sources")]
    NoMap(&'static str),
}

impl Error {
    /// The kernel's error number, where it refused something.
    pub fn errno(&self) -> Option<i32> {
        errno(self)
    }
}

/// Why a probe does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration says so.
    #[error("turned off by `disabled` in the section [probes] of the configuration")]
    Disabled,
    /// Another probe does not run.
    #[error("it needs the probe `{0}`, which does not run")]
    Needs(&'static str),
    /// The kernel refused one of its programs.
    #[error("{program}: {text}")]
    Kernel {
        /// The program.
        program: String,
        /// The system call, such as `perf_event_open`; of `bpf()` the command, such as `bpf_prog_load`.
        call: &'static str,
        /// The error number, where there is one.
        errno: Option<i32>,
        /// What the kernel said.
        text: String,
    },
    /// Something else is not as it must be.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.to_string()
    }
}

/// The first error number among an error and what caused it.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let io_error = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    io_error.or_else(|| error.source().and_then(errno))
}

/// An error with what caused it, in one line.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Takes a map out of the loaded object.
pub(super) fn map<T>(loaded: &mut Ebpf, name: &'static str) -> Result<T, Error>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = loaded.take_map(name).ok_or(Error::NoMap(name))?;
    T::try_from(map).map_err(|source| Error::Map { name, source })
}

/// A program of the loaded object.
pub(super) fn program<'a, T>(loaded: &'a mut Ebpf, name: &str) -> Result<&'a mut T, Refusal>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    loaded
        .program_mut(name)
        .ok_or_else(|| format!("the probes have no program {name}"))?
        .try_into()
        .map_err(|error: ProgramError| explain(name, &error))
}

/// What programs say for whoever looks for a fault, at the level `debug`.
pub(super) type Log = EbpfLogger<&'static dyn log::Log>;

/// The object in the kernel with its programs attached.
pub(super) struct Loaded {
    pub(super) object: Ebpf,
    pub(super) log: Option<Log>,
    /// Where the probe `tls` runs.
    pub(super) libraries: Option<Libraries>,
}

/// The object in the kernel, while programs are attached one by one.
pub(super) struct Loader {
    loaded: Ebpf,
    log: Option<Log>,
    types: Btf,
    multi: Option<Multi>,
    running: Vec<&'static str>,
    libraries: Option<Libraries>,
    syscall_programs: Option<Result<Vec<ProgramState>, Refusal>>,
    /// Raw tracepoints that are taken for missing.
    absent: &'static [&'static str],
}

impl Loader {
    pub(super) fn new(
        settings: &Settings,
        resolved: &Resolved,
        absent: &'static [&'static str],
    ) -> Result<Self, Error> {
        let types = Btf::from_sys_fs()?;
        // A ring buffer has at most 2 GiB.
        let ring_bytes = (settings.ring_buffer_bytes.0.clamp(64 << 10, 1 << 31) as u32).next_power_of_two();
        let count_syscalls = u32::from(!settings.disabled.contains("syscalls"));
        // The reader is woken early enough to drain at leisure, and life-cycle records always find room.
        let wake_bytes = u64::from(ring_bytes) / 32;
        let segment_limit_bytes = u64::from(ring_bytes) / 8 * 7;
        let page_bytes = procfs::page_size();
        let typed_task =
            is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_get_current_task_btf).unwrap_or(false);
        let typed_task = u32::from(typed_task);
        // The verifier leaves out what is not to be said.
        let talks = tracing::enabled!(tracing::Level::DEBUG);
        let log_level = if talks { Level::Debug as u8 } else { 0 };
        let mut loaded = EbpfLoader::new()
            .btf(Some(&types))
            .override_global(aya_log::LEVEL, &log_level, true)
            .override_global("TYPED_TASK", &typed_task, true)
            .override_global("OFFSETS", &resolved.offsets, true)
            .override_global("COUNT_SYSCALLS", &count_syscalls, true)
            .override_global("WAKE_BYTES", &wake_bytes, true)
            .override_global("SEGMENT_LIMIT_BYTES", &segment_limit_bytes, true)
            .override_global("PAGE_BYTES", &page_bytes, true)
            .override_global("RUN_BYTES", &settings.capture_bytes.0, true)
            .map_max_entries("EVENTS", ring_bytes)
            .map_max_entries("SYSCALLS", settings.max_syscalls)
            .map_max_entries("PROCESSES", settings.max_processes)
            .map_max_entries("CONNECTIONS", settings.max_tcp_connections)
            .map_max_entries("REMOTES", settings.max_remotes)
            .map_max_entries("SOCKETS", settings.max_sockets)
            .map_max_entries("VERDICTS", settings.max_sockets)
            .map_max_entries("TLS_SOCKETS", settings.max_sockets)
            .map_max_entries("TLS_HANDLES", settings.max_sockets)
            .load(OBJECT)?;
        let log = talks.then(|| EbpfLogger::init(&mut loaded)).transpose();
        let log =
            log.inspect_err(|error| tracing::warn!("what the programs say is not heard: {error}")).unwrap_or(None);
        Ok(Self {
            loaded,
            log,
            types,
            multi: None,
            running: Vec::new(),
            libraries: None,
            syscall_programs: None,
            absent,
        })
    }

    /// The object, with everything attached, and what belongs to it.
    pub(super) fn finish(self) -> Loaded {
        Loaded { object: self.loaded, log: self.log, libraries: self.libraries }
    }

    /// Whether a probe was attached.
    pub(super) fn runs(&self, probe: &str) -> bool {
        self.running.contains(&probe)
    }

    /// Attaches to the TLS libraries of the host's own programs.
    pub(super) fn attach_libraries(&mut self) -> Result<(), Refusal> {
        self.libraries = Some(Libraries::attach_host(&mut self.loaded, self.multi.take(), Path::new("/"))?);
        Ok(())
    }

    /// Loads programs so that one link attaches each at all places of a file, and puts the last where they find it; `None`
    /// where the kernel does not have it so.
    pub(super) fn load_multi(&mut self, names: &[&'static str], tail: &'static str) -> Option<Vec<ProgramState>> {
        let names = || names.iter().copied().chain([tail]);
        let array = self.loaded.map(TLS_TAILS)?;
        let multi = Multi::load(OBJECT, &self.loaded, names())
            .and_then(|multi| multi.map(|multi| multi.set_tail(tail, array, 0).map(|()| multi)).transpose());
        match multi {
            Ok(multi) => self.multi = multi,
            Err(error) => tracing::debug!("uprobes are attached one by one: {error}"),
        }
        let multi = self.multi.as_ref()?;
        let state = |name| ProgramState { name, verified_instructions: multi.verified_instructions(name) };
        Some(names().map(state).collect())
    }

    /// Puts the program that goes on with a long call where the others find it.
    pub(super) fn attach_tls_tail(&mut self, name: &'static str) -> Result<ProgramState, Refusal> {
        let program: &mut UProbe = program(&mut self.loaded, name)?;
        program.load().map_err(|error| explain(name, &error))?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| explain(name, &error))?;
        let state = program_state(name, program.info().ok());
        self.set_tail(TLS_TAILS, 0, name, &fd)?;
        Ok(state)
    }

    fn set_tail(&mut self, array: &'static str, index: u32, name: &str, program: &ProgramFd) -> Result<(), Refusal> {
        let array = self.loaded.map_mut(array).ok_or_else(|| format!("the probes have no map {array}"))?;
        ProgramArray::try_from(array)
            .and_then(|mut array| array.set(index, program, 0))
            .map_err(|error| Refusal::Other(format!("{name}: {}", cause(&error))))
    }

    /// Attaches one probe, if it is wanted and can run.
    pub(super) fn attach(&mut self, probe: &Definition, settings: &Settings, resolved: &Resolved) -> ProbeState {
        let missing: Vec<&str> =
            probe.needs.iter().filter_map(|field| resolved.absent.get(field).map(String::as_str)).collect();
        let result = if settings.disabled.contains(probe.name) {
            Err(Refusal::Disabled)
        } else if !missing.is_empty() {
            Err(format!("this kernel differs from those hitscope knows: {}", missing.join(", ")).into())
        } else {
            (probe.attach)(self)
        };
        let (programs, refusal) = match result {
            Ok(programs) => (programs, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        if refusal.is_none() {
            self.running.push(probe.name);
        }
        let reason = refusal.as_ref().map(ToString::to_string);
        ProbeState { name: probe.name, doc: probe.doc, running: refusal.is_none(), reason, refusal, programs }
    }

    /// A program of the object.
    pub(super) fn program<'a, T>(&'a mut self, name: &str) -> Result<&'a mut T, Refusal>
    where
        &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        program(&mut self.loaded, name)
    }

    /// The pair that sees every syscall; `syscalls` and `sockets` share it.
    pub(super) fn attach_syscall_programs(&mut self) -> Result<Vec<ProgramState>, Refusal> {
        if self.syscall_programs.is_none() {
            let exit = self.attach_copies(copies::EXIT, "sys_exit");
            let both = exit.and_then(|exit| Ok([exit, self.attach_copies(copies::ENTER, "sys_enter")?].concat()));
            self.syscall_programs = Some(both);
        }
        self.syscall_programs.clone().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Attaches a program that takes its arguments as plain numbers.
    pub(super) fn attach_raw_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<ProgramState, Refusal> {
        if self.absent.contains(&tracepoint) {
            return Err(format!("{name}: the tracepoint {tracepoint} is taken for missing").into());
        }
        let state = self.load_raw_tracepoint(name)?;
        let program: &mut RawTracePoint = program(&mut self.loaded, name)?;
        program.attach(tracepoint).map_err(|error| explain(name, &error))?;
        Ok(state)
    }

    /// The same of the first of a program's copies; loads the others.
    pub(super) fn attach_copies(
        &mut self,
        names: copies::Names,
        tracepoint: &str,
    ) -> Result<Vec<ProgramState>, Refusal> {
        let [first, others @ ..] = names;
        let mut states = vec![self.attach_raw_tracepoint(first, tracepoint)?];
        for name in others {
            states.push(self.load_raw_tracepoint(name)?);
        }
        Ok(states)
    }

    fn load_raw_tracepoint(&mut self, name: &'static str) -> Result<ProgramState, Refusal> {
        let program: &mut RawTracePoint = program(&mut self.loaded, name)?;
        program.load().map_err(|error| explain(name, &error))?;
        Ok(program_state(name, program.info().ok()))
    }

    /// Attaches a program with typed arguments.
    pub(super) fn attach_btf_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<ProgramState, Refusal> {
        let program: &mut BtfTracePoint = program(&mut self.loaded, name)?;
        program.load(tracepoint, &self.types).map_err(|error| explain(name, &error))?;
        program.attach().map_err(|error| explain(name, &error))?;
        Ok(program_state(name, program.info().ok()))
    }

    /// Loads a program that walks over things of the kernel; it runs when somebody reads from it.
    pub(super) fn load_iterator(&mut self, name: &'static str, kind: &str) -> Result<ProgramState, Refusal> {
        let program: &mut Iter = program(&mut self.loaded, name)?;
        program.load(kind, &self.types).map_err(|error| explain(name, &error))?;
        Ok(program_state(name, program.info().ok()))
    }

    /// Puts programs where the syscall programs find them, for each of their copies.
    pub(super) fn attach_tail(&mut self, names: copies::Names, index: u32) -> Result<Vec<ProgramState>, Refusal> {
        let mut states: Vec<ProgramState> = Vec::new();
        for (copy, name) in (0..).zip(names) {
            if states.iter().all(|state| state.name != name) {
                states.push(self.load_raw_tracepoint(name)?);
            }
            let program: &mut RawTracePoint = program(&mut self.loaded, name)?;
            let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| explain(name, &error))?;
            self.set_tail(TAILS, copy * TAILS_PER_COPY + index, name, &fd)?;
        }
        Ok(states)
    }
}

pub(super) fn program_state(name: &'static str, info: Option<ProgramInfo>) -> ProgramState {
    ProgramState { name, verified_instructions: info.and_then(|info| info.verified_instruction_count()) }
}

/// Why a program could not be loaded or attached; what the user can do about it, `hitscope check` says.
pub(super) fn explain(program: &str, error: &ProgramError) -> Refusal {
    let (call, text) = match error {
        ProgramError::LoadError { verifier_log, .. } => {
            let log = verifier_log.to_string();
            // The verifier's verdict stands at the end of its log, before the statistics.
            let statistics = ["processed ", "verification time ", "stack depth "];
            let said = log.lines().rev().filter(|line| !statistics.iter().any(|start| line.starts_with(start)));
            let last: Vec<&str> = said.take(3).collect();
            let verdict: Vec<&str> = last.into_iter().rev().map(str::trim).filter(|line| !line.is_empty()).collect();
            if verdict.is_empty() {
                let reason = errno(error).map_or_else(|| cause(error), describe);
                ("bpf_prog_load", format!("the kernel does not take it: {reason}"))
            } else {
                ("bpf_prog_load", format!("the kernel's verifier refused it: {}", verdict.join("; ")))
            }
        }
        ProgramError::SyscallError(error) => (error.call, cause(error)),
        other => ("", cause(other)),
    };
    Refusal::Kernel { program: program.to_owned(), call, errno: errno(error), text }
}

fn describe(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
