//! Recordings: everything that went into the pipeline, in its order, so that it can be gone through again, anywhere.
//!
//! A file begins with a magic, a version, and a [`Header`] in JSON. Frames follow, each a kind and a length (`u32`, little
//! endian) and a payload: kernel records as the kernel made them, what was read from `/proc` as JSON, the answers to the
//! pipeline's questions among it. Flushed each second; a file cut short is good up to there.
//!
//! A recording holds the captured bytes of every socket looked at, before any decoder took secrets out: only its owner may
//! read the file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytemuck::Pod;
use hitscope_schemas::{
    connections::{DnsEvent, RemoteKey, RemoteStats},
    event::lost,
    sched::{ProcessKey, ProcessTimes},
    sockets::SegmentEvent,
    syscalls::{SyscallKey, SyscallStats},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clocks::Boot,
    event::{Clock, Event},
    facts::{Fact, HostSample, ProcessSample},
    pipeline::Input,
};

const MAGIC: [u8; 8] = *b"HITSCOPE";
/// Raised whenever a frame or a kernel record changes.
const VERSION: u32 = 2;
/// No frame is longer; a longer one is damage, bytes.
const MAX_FRAME: usize = 256 << 20;

const CLOCK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 3;
const SOCKET: u32 = 4;
const SEGMENT: u32 = 5;
const CLOSE: u32 = 6;
const SYSCALLS: u32 = 7;
const PROCESS_TIMES: u32 = 8;
const LOST: u32 = 9;
const PROCESSES: u32 = 10;
const HOST: u32 = 11;
const NOTE: u32 = 12;
const TICK: u32 = 13;
const END: u32 = 14;
const FACT_PROCESS: u32 = 15;
const FACT_USER: u32 = 16;
const FACT_UNREADABLE: u32 = 17;
const REMOTES: u32 = 18;
const DNS: u32 = 19;
const BOOT: u32 = 20;

/// Where a recording was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of hitscope.
    pub hitscope: String,
    /// Name of the host, as configured.
    pub host: String,
    /// As [`std::env::consts::ARCH`].
    pub architecture: String,
}

impl Header {
    /// Of a recording on this machine.
    pub fn here(host: &str) -> Self {
        Self {
            hitscope: env!("CARGO_PKG_VERSION").into(),
            host: host.into(),
            architecture: std::env::consts::ARCH.into(),
        }
    }
}

/// A recording that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// The recording.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another kind of file.
    #[error("{} is not a hitscope recording: make one with `hitscope record`", .0.display())]
    NotARecording(PathBuf),
    /// A recording of another version.
    #[error(
        "{} is a recording of format {found}, and this hitscope reads format {VERSION}: replay it with the version that \
         recorded it",
        path.display()
    )]
    Version {
        /// The recording.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Writes a recording.
pub struct Recorder {
    path: PathBuf,
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins a recording, which only this user may read: it has all that processes send. A file of this user's with that name
    /// is replaced; what is somebody else's, or leads elsewhere, is not.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let fail = |cause| Error::Io { action: "create", path: path.to_owned(), cause };
        // SAFETY: has no preconditions and cannot fail.
        let own = unsafe { libc::geteuid() };
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_file() && there.uid() == own => fs::remove_file(path).map_err(fail)?,
            Ok(_) => {
                let reason =
                    "there is already something that is no file of this user: remove it, or choose another name";
                return Err(fail(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
            }
            Err(_) => {}
        }
        // Not one that somebody has just put there, and not through a link.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
        let mut recorder = Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 18, file), failed: None };
        let header = serde_json::to_vec(header).map_err(|cause| fail(cause.into()))?;
        recorder.bytes(&[&MAGIC, &VERSION.to_le_bytes(), &(header.len() as u32).to_le_bytes(), &header]);
        recorder.flush()?;
        Ok(recorder)
    }

    /// Writes an input. A failure is told by the next [`Self::flush`].
    pub fn input(&mut self, input: &Input<'_>) {
        match *input {
            Input::Event(event) => self.event(event),
            Input::Processes(sample) => self.json(PROCESSES, sample),
            Input::Host(sample) => self.json(HOST, sample),
            Input::Note(kind, detail) => self.json(NOTE, &(kind, detail)),
            Input::Fact(Fact::Process(pid, answer)) => self.json(FACT_PROCESS, &(pid, answer)),
            Input::Fact(Fact::User(user_id, answer)) => self.json(FACT_USER, &(user_id, answer)),
            Input::Fact(Fact::Unreadable(pid, answer)) => self.json(FACT_UNREADABLE, &(pid, answer)),
            Input::Boot(boot) => self.json(BOOT, boot),
            Input::Tick(now_ns) => self.frame(TICK, &[&now_ns.to_le_bytes()]),
            Input::End => self.frame(END, &[]),
        }
    }

    /// Brings everything to the file.
    ///
    /// # Errors
    /// [`Error::Io`] of this or an earlier write.
    pub fn flush(&mut self) -> Result<(), Error> {
        let failed = self.failed.take().or_else(|| self.file.flush().err());
        failed.map_or(Ok(()), |cause| Err(Error::Io { action: "write", path: self.path.clone(), cause }))
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Clock(Clock { monotonic_ns, boottime_ns, realtime_ns }) => {
                self.frame(CLOCK, &[bytemuck::bytes_of(&[monotonic_ns, boottime_ns, realtime_ns])]);
            }
            Event::Exec(event) => self.frame(EXEC, &[bytemuck::bytes_of(event)]),
            Event::Exit(event) => self.frame(EXIT, &[bytemuck::bytes_of(event)]),
            Event::Socket(event) => self.frame(SOCKET, &[bytemuck::bytes_of(event)]),
            Event::Segment(event, head, tail) => self.frame(SEGMENT, &[bytemuck::bytes_of(event), head, tail]),
            Event::Close(event) => self.frame(CLOSE, &[bytemuck::bytes_of(event)]),
            Event::Syscalls(counts) => self.pairs(SYSCALLS, counts),
            Event::ProcessTimes(times) => self.pairs(PROCESS_TIMES, times),
            Event::Remotes(remotes) => self.pairs(REMOTES, remotes),
            Event::Dns(event, bytes) => self.frame(DNS, &[bytemuck::bytes_of(event), bytes]),
            Event::Lost(reasons) => self.json(LOST, reasons),
        }
    }

    fn pairs<K: Pod, V: Pod>(&mut self, kind: u32, pairs: &[(K, V)]) {
        let mut bytes = Vec::with_capacity(pairs.len() * (size_of::<K>() + size_of::<V>()));
        for (key, value) in pairs {
            bytes.extend_from_slice(bytemuck::bytes_of(key));
            bytes.extend_from_slice(bytemuck::bytes_of(value));
        }
        self.frame(kind, &[&bytes]);
    }

    fn json<T: Serialize + ?Sized>(&mut self, kind: u32, value: &T) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.frame(kind, &[&bytes]),
            Err(error) => self.failed = self.failed.take().or(Some(error.into())),
        }
    }

    fn frame(&mut self, kind: u32, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes(&[&kind.to_le_bytes(), &(length as u32).to_le_bytes()]);
        self.bytes(parts);
    }

    fn bytes(&mut self, parts: &[&[u8]]) {
        for part in parts {
            if self.failed.is_none() {
                self.failed = self.file.write_all(part).err();
            }
        }
    }
}

/// A frame's payload as the pipeline wants it; kernel records stay in the player's buffer.
enum Decoded {
    Record(u32),
    Syscalls(Vec<(SyscallKey, SyscallStats)>),
    ProcessTimes(Vec<(ProcessKey, ProcessTimes)>),
    Remotes(Vec<(RemoteKey, RemoteStats)>),
    Lost(Vec<(&'static str, u64)>),
    Processes(ProcessSample),
    Host(HostSample),
    Note(String, String),
    Fact(Fact),
    Boot(Boot),
}

/// Goes through a recording.
pub struct Player {
    path: PathBuf,
    header: Header,
    file: BufReader<File>,
    /// Payload of the current frame, aligned for the kernel's records.
    buffer: Vec<u64>,
    length: usize,
    decoded: Decoded,
    position: u64,
    damaged: Option<u64>,
    ended: bool,
}

impl Player {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotARecording`], [`Error::Version`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fail = |action| move |cause| Error::Io { action, path: path.to_owned(), cause };
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(fail("open"))?);
        let mut start = [0; 16];
        let not_a_recording = || Error::NotARecording(path.to_owned());
        if let Err(error) = file.read_exact(&mut start) {
            let short = error.kind() == io::ErrorKind::UnexpectedEof;
            return Err(if short { not_a_recording() } else { fail("read")(error) });
        }
        let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
        if start[..8] != MAGIC {
            return Err(not_a_recording());
        }
        if number(8) != VERSION {
            return Err(Error::Version { path: path.to_owned(), found: number(8) });
        }
        let mut header = Vec::new();
        let length = u64::from(number(12)).min(1 << 20);
        file.by_ref().take(length).read_to_end(&mut header).map_err(fail("read"))?;
        let position = 16 + header.len() as u64;
        let header = serde_json::from_slice(&header).map_err(|_| not_a_recording())?;
        Ok(Self {
            path: path.to_owned(),
            header,
            file,
            buffer: Vec::new(),
            length: 0,
            decoded: Decoded::Record(0),
            position,
            damaged: None,
            ended: false,
        })
    }

    /// Where it was made.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// After the last input: how the file is cut short or damaged, if it is.
    pub fn warning(&self) -> Option<String> {
        let path = self.path.display();
        match self.damaged {
            Some(position) => {
                Some(format!("{path} is cut short or damaged at byte {position}; everything before was used"))
            }
            None => {
                (!self.ended).then(|| format!("{path} ends without a last frame: its recording did not end in order"))
            }
        }
    }

    /// The next input; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Io`]. A file cut short ends early, which [`Self::warning`] tells.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Input<'_>>, Error> {
        let Some(kind) = self.frame()? else { return Ok(None) };
        match self.decode(kind) {
            Some(decoded) => self.decoded = decoded,
            None => {
                self.damaged = Some(self.position);
                return Ok(None);
            }
        }
        self.ended = kind == END;
        let bytes = &bytemuck::cast_slice::<u64, u8>(&self.buffer)[..self.length];
        Ok(input(&self.decoded, bytes))
    }

    /// Reads a frame into the buffer.
    fn frame(&mut self) -> Result<Option<u32>, Error> {
        let Some((kind, length)) = self.begin()? else { return Ok(None) };
        self.buffer.resize(length.div_ceil(8), 0);
        self.length = length;
        let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut self.buffer)[..length];
        let whole = read_whole(&mut self.file, bytes);
        self.whole(whole, length).map(|whole| whole.then_some(kind))
    }

    /// Kind and length of the next frame; `None` at the end and from damage on.
    fn begin(&mut self) -> Result<Option<(u32, usize)>, Error> {
        if self.damaged.is_some() {
            return Ok(None);
        }
        if self.file.fill_buf().map(<[u8]>::is_empty).map_err(|cause| Error::Io {
            action: "read",
            path: self.path.clone(),
            cause,
        })? {
            return Ok(None);
        }
        let mut start = [0; 8];
        let whole = read_whole(&mut self.file, &mut start);
        if !self.whole(whole, start.len())? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = start;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
        if length > MAX_FRAME {
            self.damaged = Some(self.position);
            return Ok(None);
        }
        Ok(Some((kind, length)))
    }

    /// Notes what was read, or that it was not all there.
    fn whole(&mut self, result: io::Result<bool>, length: usize) -> Result<bool, Error> {
        let whole = result.map_err(|cause| self.io(cause))?;
        if whole {
            self.position += length as u64;
        } else {
            self.damaged = Some(self.position);
        }
        Ok(whole)
    }

    fn io(&self, cause: io::Error) -> Error {
        Error::Io { action: "read", path: self.path.clone(), cause }
    }

    /// Reads what is not left in the buffer; `None` when the frame is damaged.
    fn decode(&mut self, kind: u32) -> Option<Decoded> {
        let bytes = &bytemuck::cast_slice::<u64, u8>(&self.buffer)[..self.length];
        Some(match kind {
            SYSCALLS => Decoded::Syscalls(pairs(bytes)?),
            PROCESS_TIMES => Decoded::ProcessTimes(pairs(bytes)?),
            REMOTES => Decoded::Remotes(pairs(bytes)?),
            LOST => Decoded::Lost(json::<Vec<(String, u64)>>(bytes)?.iter().map(known_reason).collect()),
            PROCESSES => Decoded::Processes(json(bytes)?),
            HOST => Decoded::Host(json(bytes)?),
            NOTE => json(bytes).map(|(kind, detail)| Decoded::Note(kind, detail))?,
            FACT_PROCESS => json(bytes).map(|(pid, answer)| Decoded::Fact(Fact::Process(pid, answer)))?,
            FACT_USER => json(bytes).map(|(user_id, answer)| Decoded::Fact(Fact::User(user_id, answer)))?,
            FACT_UNREADABLE => json(bytes).map(|(pid, answer)| Decoded::Fact(Fact::Unreadable(pid, answer)))?,
            BOOT => Decoded::Boot(json(bytes)?),
            _ => {
                input(&Decoded::Record(kind), bytes)?;
                Decoded::Record(kind)
            }
        })
    }
}

/// A record in the buffer, or what was decoded from it, as an input; `None` when the bytes are not what the kind says.
fn input<'a>(decoded: &'a Decoded, bytes: &'a [u8]) -> Option<Input<'a>> {
    let event = match decoded {
        Decoded::Syscalls(counts) => Event::Syscalls(counts),
        Decoded::ProcessTimes(times) => Event::ProcessTimes(times),
        Decoded::Remotes(remotes) => Event::Remotes(remotes),
        Decoded::Lost(reasons) => Event::Lost(reasons),
        Decoded::Processes(sample) => return Some(Input::Processes(sample)),
        Decoded::Host(sample) => return Some(Input::Host(sample)),
        Decoded::Note(kind, detail) => return Some(Input::Note(kind, detail)),
        Decoded::Fact(fact) => return Some(Input::Fact(fact)),
        Decoded::Boot(boot) => return Some(Input::Boot(boot)),
        Decoded::Record(TICK) => return record(bytes).copied().map(Input::Tick),
        Decoded::Record(END) => return Some(Input::End),
        Decoded::Record(CLOCK) => {
            let [monotonic_ns, boottime_ns, realtime_ns] = *record(bytes)?;
            Event::Clock(Clock { monotonic_ns, boottime_ns, realtime_ns })
        }
        Decoded::Record(EXEC) => Event::Exec(record(bytes)?),
        Decoded::Record(EXIT) => Event::Exit(record(bytes)?),
        Decoded::Record(SOCKET) => Event::Socket(record(bytes)?),
        Decoded::Record(CLOSE) => Event::Close(record(bytes)?),
        Decoded::Record(SEGMENT) => {
            let (event, captured) = bytes.split_at_checked(size_of::<SegmentEvent>())?;
            let event: &SegmentEvent = record(event)?;
            let (head, tail) = captured.split_at_checked(event.head_len as usize)?;
            (tail.len() == event.tail_len as usize).then_some(Event::Segment(event, head, tail))?
        }
        Decoded::Record(DNS) => {
            let (event, datagram) = bytes.split_at_checked(size_of::<DnsEvent>())?;
            let event: &DnsEvent = record(event)?;
            (datagram.len() == event.length as usize).then_some(Event::Dns(event, datagram))?
        }
        Decoded::Record(_) => return None,
    };
    Some(Input::Event(event))
}

fn record<T: Pod>(bytes: &[u8]) -> Option<&T> {
    bytemuck::try_from_bytes(bytes).ok()
}

fn pairs<K: Pod, V: Pod>(bytes: &[u8]) -> Option<Vec<(K, V)>> {
    let pairs = bytes.chunks_exact(size_of::<K>() + size_of::<V>());
    if !pairs.remainder().is_empty() {
        return None;
    }
    let pair = |bytes: &[u8]| {
        let (key, value) = bytes.split_at(size_of::<K>());
        (bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value))
    };
    Some(pairs.map(pair).collect())
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The kernel's reasons are a fixed list; one that is not in it is of another version.
fn known_reason((reason, count): &(String, u64)) -> (&'static str, u64) {
    (lost::NAMES.iter().find(|known| *known == reason).copied().unwrap_or("other"), *count)
}

/// Fills the buffer; false when the file ends before.
fn read_whole(file: &mut BufReader<File>, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
