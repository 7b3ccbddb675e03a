//! `tls`: looks for TLS libraries and attaches to each file once, for all processes that use it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use hitscope_helper::Helper;

use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeLink, UProbeScope},
    },
};

use super::{
    Definition, ProgramState, Refusal,
    load::{self, Loaded, Loader},
    uprobes::Multi,
};
use crate::{
    facts::ProcessSample,
    helpers::{Avoided, Beat, join_until, replacing},
    libraries::{self, FileId, Mapped, Programs},
    strangers,
};

pub(super) const DEFINITION: Definition = Definition {
    name: "tls",
    doc: "What goes over encrypted connections, read at the programs' own OpenSSL or GnuTLS.",
    needs: &["task_group_leader", "task_start_boottime"],
    attach,
};

/// A function of a TLS library, and the programs at its begin and its return.
struct Function {
    name: &'static str,
    enter: &'static str,
    returned: Option<&'static str>,
}

const fn function(name: &'static str, enter: &'static str, returned: Option<&'static str>) -> Function {
    Function { name, enter, returned }
}

const FUNCTIONS: &[Function] = &[
    function("SSL_read", "tls_enter", Some("tls_received")),
    function("SSL_read_ex", "tls_enter", Some("tls_received_ex")),
    function("SSL_write", "tls_enter", Some("tls_sent")),
    function("SSL_write_ex", "tls_enter", Some("tls_sent_ex")),
    function("SSL_do_handshake", "tls_enter", Some("tls_shaken")),
    function("SSL_shutdown", "tls_enter", Some("tls_shaken")),
    function("SSL_free", "tls_free", None),
    function("gnutls_record_recv", "tls_enter", Some("tls_received")),
    function("gnutls_record_send", "tls_enter", Some("tls_sent")),
    function("gnutls_handshake", "tls_enter", Some("tls_shaken")),
    function("gnutls_bye", "tls_enter", Some("tls_shaken")),
    function("gnutls_deinit", "tls_free", None),
];

/// The returns first: of a call whose begin was seen, the return is then seen, too.
const PROGRAMS: [&str; 7] =
    ["tls_received", "tls_sent", "tls_received_ex", "tls_sent_ex", "tls_shaken", "tls_enter", "tls_free"];
/// Goes on with a long call.
const TAIL: &str = "tls_piece";

fn attach(loader: &mut Loader) -> Result<Vec<ProgramState>, Refusal> {
    if !loader.runs("sockets") {
        return Err(Refusal::Needs("sockets"));
    }
    if let Some(states) = loader.load_multi(&PROGRAMS, TAIL) {
        loader.attach_libraries()?;
        return Ok(states);
    }
    let mut states = Vec::new();
    for name in PROGRAMS {
        let program: &mut UProbe = loader.program(name)?;
        program.load().map_err(|error| load::explain(name, &error))?;
        states.push(load::program_state(name, program.info().ok()));
    }
    states.push(loader.attach_tls_tail(TAIL)?);
    // A program attached to what this host's own programs use says whether the kernel lets us.
    loader.attach_libraries()?;
    Ok(states)
}

/// Files attached to, and those that were tried in vain.
#[derive(Default)]
pub(super) struct Libraries {
    /// By device and inode number, as `stat` has them.
    of_host: Arc<HashMap<(u64, u64), Result<(), String>>>,
    links: Links,
    /// How to attach to more; `None`: place by place.
    multi: Option<Arc<Multi>>,
}

impl Libraries {
    /// Attaches to the libraries in this host's folders: they stay attached, so that a program that is started is read
    /// from its first call on.
    pub(super) fn attach_host(loaded: &mut Ebpf, multi: Option<Multi>, root: &Path) -> Result<Self, String> {
        let mut of_host = HashMap::new();
        let mut links = Links::default();
        let mut refused = None;
        let mut helper = Helper::default();
        for path in libraries::of_host(root) {
            let Ok(file) = strangers::open_linked(&path) else { continue };
            let Ok(metadata) = file.metadata() else { continue };
            let single = |name, offset| attach_place(loaded, name, offset, &path);
            let result = attach_file(multi.as_ref(), &path, &file, &mut helper, single).map(|more| links.add(more));
            if let Err(reason) = &result {
                refused = Some(format!("{}: {reason}", path.display()));
            }
            of_host.insert((metadata.dev(), metadata.ino()), result);
        }
        match refused {
            Some(reason) if of_host.values().all(Result::is_err) => Err(reason),
            _ => Ok(Self { of_host: Arc::new(of_host), links, multi: multi.map(Arc::new) }),
        }
    }
}

impl Libraries {
    /// Leaves what is attached to the end of the process.
    pub(super) fn leave(&mut self) {
        self.links.leave();
    }
}

/// Attachments; dropped, they end. At each, the kernel waits until no CPU runs the program any more; and what then waits when
/// SIGKILL comes, it never lets go of.
#[derive(Default)]
struct Links {
    multi: Vec<OwnedFd>,
    single: Vec<UProbeLink>,
}

impl Links {
    fn add(&mut self, mut more: Self) {
        self.multi.append(&mut more.multi);
        self.single.append(&mut more.single);
    }

    /// Leaves them to the end of the process, in which no signal disturbs the kernel.
    fn leave(&mut self) {
        self.multi.drain(..).for_each(std::mem::forget);
        self.single.drain(..).for_each(std::mem::forget);
    }
}

/// Attaches to the functions that a file has, which can be opened again at `path`; says why nothing can be read by it. `single` attaches at one place.
fn attach_file(
    multi: Option<&Multi>,
    path: &Path,
    file: &File,
    helper: &mut Helper,
    mut single: impl FnMut(&'static str, u64) -> Result<UProbeLink, String>,
) -> Result<Links, String> {
    let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    let offsets = helper.functions(file, &names).map_err(|error| format!("cannot read it: {error}"))?;
    let has = |name| FUNCTIONS.iter().zip(&offsets).any(|(function, offset)| function.name == name && offset.is_some());
    if !(has("SSL_read") && has("SSL_write") || has("gnutls_record_recv") && has("gnutls_record_send")) {
        return Err("it has no symbols of OpenSSL or GnuTLS".to_owned());
    }
    let mut links = Links::default();
    for program in PROGRAMS {
        let takes = |function: &Function| function.enter == program || function.returned == Some(program);
        let places = FUNCTIONS.iter().zip(&offsets).filter(|(function, _)| takes(function));
        let places: Vec<u64> = places.filter_map(|(_, offset)| *offset).collect();
        match multi {
            _ if places.is_empty() => {}
            Some(multi) => {
                links.multi.push(multi.attach(program, path, &places).map_err(|error| format!("{program}: {error}"))?);
            }
            None => {
                for place in places {
                    links.single.push(single(program, place)?);
                }
            }
        }
    }
    Ok(links)
}

fn attach_place(loaded: &mut Ebpf, name: &'static str, offset: u64, path: &Path) -> Result<UProbeLink, String> {
    let program: &mut UProbe = load::program(loaded, name)?;
    let link = program.attach(offset, path, UProbeScope::AllProcesses).map_err(|error| load::explain(name, &error))?;
    Ok(program.take_link(link).map_err(|error| load::explain(name, &error))?)
}

/// What is known of the files by everyone.
#[derive(Default)]
struct Known {
    /// Files attached to, or why not.
    files: HashMap<FileId, Result<(), String>>,
}

/// Says of processes why their TLS cannot be read.
#[derive(Clone)]
pub struct Readable {
    procfs: PathBuf,
    off: Option<String>,
    known: Arc<Mutex<Known>>,
    helper: Arc<Mutex<Helper>>,
}

impl Readable {
    /// Nothing can be read, for this reason.
    pub(super) fn off(reason: String) -> Self {
        Self { procfs: PathBuf::new(), off: Some(reason), known: Arc::default(), helper: Arc::default() }
    }

    /// Why a process's TLS cannot be read; `None` where it can.
    pub fn why_not(&self, pid: u32) -> Option<String> {
        if let Some(reason) = &self.off {
            return Some(format!("the probe tls does not run ({reason})"));
        }
        let Ok(mapped) = libraries::mapped(&self.procfs, pid) else {
            return Some("the process ended before its libraries could be looked for".to_owned());
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reason = None;
        for mapped in &mapped {
            match known.files.get(&mapped.file) {
                Some(Ok(())) => return None,
                Some(Err(failed)) => reason = Some(format!("{} cannot be read: {failed}", mapped.path.display())),
                None if libraries::is_library(mapped) => {
                    reason = Some(format!("{} was loaded just before", mapped.path.display()));
                }
                None => {}
            }
        }
        drop(known);
        reason.or_else(|| {
            let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
            Some(libraries::why_not(&self.procfs, pid, &mapped, &mut helper).to_owned())
        })
    }
}

enum Request {
    Started(u32),
    /// Pid, start and address space of every process.
    Processes(Vec<(u32, u64, u64)>),
}

/// When a program that was started is looked at: the loader maps libraries within milliseconds, some load theirs later.
const LOOKS: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(100), Duration::from_millis(1000)];
/// Requests waiting, and programs to be looked at.
const MAX_WAITING: usize = 4096;

/// The thread that follows processes.
pub(super) const THREAD: &str = "libraries";

/// Follows processes on a thread of its own, since attaching may take milliseconds, and to look at strangers' files longer.
pub(super) struct Follower {
    loaded: Arc<Mutex<Loaded>>,
    readable: Readable,
    avoided: Avoided,
    looked: Arc<AtomicBool>,
    leaves: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    running: Running,
    /// Stuck threads left behind.
    left: u32,
}

struct Running {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
    beat: Arc<Beat>,
}

impl Follower {
    /// Looks at all processes, then at those that it is told of.
    pub(super) fn start(loaded: Arc<Mutex<Loaded>>, procfs: &Path) -> std::io::Result<Self> {
        let readable = Readable { procfs: procfs.to_owned(), off: None, known: Arc::default(), helper: Arc::default() };
        let (avoided, looked, leaves, refused) = (Avoided::default(), Arc::default(), Arc::default(), Arc::default());
        let running = Running::start(&loaded, &readable, &avoided, &looked, &leaves, &refused)?;
        Ok(Self { loaded, readable, avoided, looked, leaves, refused, running, left: 0 })
    }

    /// As of [`Helper::watch`](crate::helpers::Helper::watch).
    pub(super) fn watch(&mut self, now_ns: u64) -> Option<String> {
        let ended = self.running.thread.as_ref().is_some_and(JoinHandle::is_finished);
        let what = replacing(THREAD, ended, &self.running.beat, &self.avoided, &mut self.left, now_ns)?;
        let Ok(what) = what else { return what.err() };
        // What the thread before had attached ends with it.
        self.readable.known.lock().unwrap_or_else(PoisonError::into_inner).files.clear();
        Some(
            match Running::start(&self.loaded, &self.readable, &self.avoided, &self.looked, &self.leaves, &self.refused)
            {
                Ok(running) => {
                    // Not waited for: what is left behind may never end.
                    drop(std::mem::replace(&mut self.running, running).thread.take());
                    format!("{what}; another has taken its place")
                }
                Err(error) => format!("{what}, and another cannot be started: {error}"),
            },
        )
    }

    /// Leaves what is attached to the end of the process; false when the thread has not ended by the deadline.
    pub(super) fn leave(mut self, deadline: Instant) -> bool {
        self.leaves.store(true, Ordering::Relaxed);
        drop(self.running.requests.take());
        self.running.thread.take().is_none_or(|thread| join_until(thread, deadline))
    }

    /// How many files were not attached to since the last time, since there were enough.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// Whether the processes that ran before have all been looked at.
    pub(super) fn has_looked(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    pub(super) fn readable(&self) -> Readable {
        self.readable.clone()
    }

    fn request(&self, request: Request) {
        if let Some(requests) = &self.running.requests {
            self.running.beat.asked();
            match requests.try_send(request) {
                // The next sample makes up for what finds no place.
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// A program was started.
    pub(super) fn started(&self, pid: u32) {
        self.request(Request::Started(pid));
    }

    /// Every process of the host.
    pub(super) fn processes(&self, sample: &ProcessSample) {
        let stats = sample.processes.iter().map(|observed| &observed.stat).filter(|stat| !stat.kernel_thread);
        self.request(Request::Processes(stats.map(|it| (it.pid, it.start_ticks, it.virtual_bytes)).collect()));
    }
}

impl Running {
    fn start(
        loaded: &Arc<Mutex<Loaded>>,
        readable: &Readable,
        avoided: &Avoided,
        looked: &Arc<AtomicBool>,
        leaves: &Arc<AtomicBool>,
        refused: &Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        let (requests, waiting) = sync_channel(MAX_WAITING);
        let beat = Arc::new(Beat::default());
        let (of_host, multi) = match &loaded.lock().unwrap_or_else(PoisonError::into_inner).libraries {
            Some(libraries) => (libraries.of_host.clone(), libraries.multi.clone()),
            None => (Arc::default(), None),
        };
        let mut work = Work {
            of_host,
            multi,
            leaves: leaves.clone(),
            loaded: loaded.clone(),
            procfs: readable.procfs.clone(),
            known: readable.known.clone(),
            programs: Programs::default(),
            attached: HashMap::new(),
            processes: HashMap::new(),
            due: BinaryHeap::new(),
            beat: beat.clone(),
            avoided: avoided.clone(),
            helper: Helper::default(),
            quotas: Quotas::new(refused.clone()),
        };
        let done = looked.clone();
        let run = move || {
            work.all();
            done.store(true, Ordering::Relaxed);
            work.run(&waiting);
        };
        let thread = Builder::new().name(THREAD.into()).spawn(run)?;
        Ok(Self { requests: Some(requests), thread: Some(thread), beat })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.leaves.load(Ordering::Relaxed) {
            self.attached.values_mut().for_each(Links::leave);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.running.requests.take());
        if let Some(thread) = self.running.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A process as last looked at.
struct Process {
    start_ticks: u64,
    virtual_bytes: u64,
    files: Vec<FileId>,
}

/// Files attached to at a time that are none of the host's own libraries, in all, and by processes of one user other than root:
/// each costs memory and descriptors, and attaching takes the time of every process that maps it.
const MAX_FILES: usize = 256;
const MAX_FILES_OF_USER: usize = 32;
/// New files in so long, of one user: whoever maps ever new ones does not keep us busy.
const QUOTA_SPAN: Duration = Duration::from_secs(60);
const MAX_NEW_OF_USER: u32 = 64;

/// Shares out what may be attached to.
struct Quotas {
    files: HashMap<FileId, u32>,
    /// By user: since when, and how many new ones.
    new: HashMap<u32, (Instant, u32)>,
    refused: Arc<AtomicU64>,
}

impl Quotas {
    fn new(refused: Arc<AtomicU64>) -> Self {
        Self { files: HashMap::new(), new: HashMap::new(), refused }
    }

    /// Whether a process of this user may have us attach to a file.
    fn take(&mut self, user: u32, file: &FileId, now: Instant) -> bool {
        self.new.retain(|_, (since, _)| now.duration_since(*since) < QUOTA_SPAN);
        let held = self.files.values().filter(|holder| **holder == user).count();
        let (_, new) = self.new.entry(user).or_insert((now, 0));
        *new += 1;
        let may = self.files.len() < MAX_FILES && *new <= MAX_NEW_OF_USER && (user == 0 || held < MAX_FILES_OF_USER);
        if may {
            self.files.insert(file.clone(), user);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    fn keep(&mut self, used: impl Fn(&FileId) -> bool) {
        self.files.retain(|file, _| used(file));
    }
}

struct Work {
    loaded: Arc<Mutex<Loaded>>,
    of_host: Arc<HashMap<(u64, u64), Result<(), String>>>,
    multi: Option<Arc<Multi>>,
    /// Whether what is attached is left to the end of the process.
    leaves: Arc<AtomicBool>,
    procfs: PathBuf,
    known: Arc<Mutex<Known>>,
    programs: Programs,
    /// Links of files that are none of the host's own libraries.
    attached: HashMap<FileId, Links>,
    processes: HashMap<u32, Process>,
    /// Programs to be looked at, with how often they were.
    due: BinaryHeap<Reverse<(Instant, u32, usize)>>,
    beat: Arc<Beat>,
    avoided: Avoided,
    helper: Helper,
    quotas: Quotas,
}

impl Work {
    fn run(&mut self, requests: &Receiver<Request>) {
        loop {
            let now = Instant::now();
            while let Some(Reverse((at, pid, round))) = self.due.peek().copied()
                && at <= now
            {
                self.due.pop();
                if self.look(pid, 0, 0) {
                    self.look_again(pid, round + 1);
                }
            }
            self.beat.idle();
            self.helper.rest();
            let wait = self.due.peek().map_or(Duration::from_secs(3600), |Reverse((at, ..))| at.duration_since(now));
            match requests.recv_timeout(wait) {
                Ok(Request::Started(pid)) => {
                    // What it was before is over.
                    self.processes.remove(&pid);
                    self.look_again(pid, 0);
                }
                Ok(Request::Processes(processes)) => self.sample(&processes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look_again(&mut self, pid: u32, round: usize) {
        if let Some(after) = LOOKS.get(round)
            && self.due.len() < MAX_WAITING
        {
            self.due.push(Reverse((Instant::now() + *after, pid, round)));
        }
    }

    /// Looks at every process there is.
    fn all(&mut self) {
        let Ok(entries) = fs::read_dir(&self.procfs) else { return };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.collect::<Vec<_>>() {
            self.look(pid, 0, 0);
        }
    }

    /// Looks at the processes whose address space has changed, and lets go of files that nobody uses any more.
    fn sample(&mut self, processes: &[(u32, u64, u64)]) {
        for &(pid, start_ticks, virtual_bytes) in processes {
            let same = self
                .processes
                .get(&pid)
                .is_some_and(|it| (it.start_ticks, it.virtual_bytes) == (start_ticks, virtual_bytes));
            if !same {
                self.look(pid, start_ticks, virtual_bytes);
            }
        }
        let alive: HashSet<u32> = processes.iter().map(|(pid, ..)| *pid).collect();
        self.processes.retain(|pid, _| alive.contains(pid));
        self.avoided.keep(|pid| alive.contains(&pid));
        let used: HashSet<&FileId> = self.processes.values().flat_map(|process| &process.files).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.files.retain(|file, _| used.contains(file));
        drop(known);
        self.attached.retain(|file, _| used.contains(file));
        self.quotas.keep(|file| used.contains(file));
    }

    /// Finds out what a process uses; false when it is gone.
    fn look(&mut self, pid: u32, start_ticks: u64, virtual_bytes: u64) -> bool {
        self.beat.at(pid);
        if self.avoided.contains(pid) {
            return false;
        }
        let Ok(mapped) = libraries::mapped(&self.procfs, pid) else { return false };
        let program = libraries::program(&self.procfs, pid, &mapped);
        let mut files = Vec::new();
        for (index, mapped) in mapped.iter().enumerate() {
            let linked = Some(index) == program;
            if (linked || libraries::is_library(mapped)) && self.attach(pid, mapped, linked) {
                files.push(mapped.file.clone());
            }
        }
        self.processes.insert(pid, Process { start_ticks, virtual_bytes, files });
        true
    }

    /// Attaches to a file, if that was not done yet; false for a program without a TLS library in it.
    fn attach(&mut self, pid: u32, mapped: &Mapped, is_program: bool) -> bool {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).files.contains_key(&mapped.file) {
            return true;
        }
        let Some(file) = mapped.open(&self.procfs, pid) else { return false };
        let Ok(metadata) = file.metadata() else { return false };
        let of_host = self.of_host.get(&(metadata.dev(), metadata.ino())).cloned();
        let result = match of_host {
            Some(result) => result,
            None => {
                let helper = &mut self.helper;
                if is_program && !self.programs.may_hold(&mapped.file, &metadata, || holds_library(helper, &file)) {
                    return false;
                }
                let user = fs::metadata(self.procfs.join(pid.to_string())).map_or(u32::MAX, |process| process.uid());
                if !self.quotas.take(user, &mapped.file, Instant::now()) {
                    self.due.push(Reverse((Instant::now() + QUOTA_SPAN, pid, LOOKS.len())));
                    return false;
                }
                let path = strangers::path_of(&file);
                let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                attach_file(self.multi.as_deref(), &path, &file, helper, |name, offset| {
                    attach_place(&mut loaded().object, name, offset, &path)
                })
                .map(|links| drop(self.attached.insert(mapped.file.clone(), links)))
            }
        };
        if let Err(reason) = &result {
            tracing::debug!("{}: {reason}", mapped.path.display());
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).files.insert(mapped.file.clone(), result);
        true
    }
}

fn holds_library(helper: &mut Helper, file: &File) -> bool {
    helper.functions(file, &["SSL_read", "gnutls_record_recv"]).is_ok_and(|found| found.iter().any(Option::is_some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_only_a_part_of_what_may_be_attached_to() {
        let refused = Arc::new(AtomicU64::new(0));
        let mut quotas = Quotas::new(refused.clone());
        let (now, file) = (Instant::now(), |inode| -> FileId { ("fe:00".into(), inode) });
        let taken = (0..1000).filter(|inode| quotas.take(1000, &file(*inode), now)).count();
        assert_eq!((taken, refused.load(Ordering::Relaxed)), (MAX_FILES_OF_USER, 1000 - MAX_FILES_OF_USER as u64));
        assert!(quotas.take(1001, &file(2000), now), "another user's");
        // Files that are used no more make room, but not for ever new ones within a minute.
        quotas.keep(|_| false);
        assert!(!quotas.take(1000, &file(3000), now));
        assert!(quotas.take(1000, &file(3000), now + QUOTA_SPAN));
    }

    #[test]
    fn all_together_take_no_more_than_there_is_room() {
        let mut quotas = Quotas::new(Arc::default());
        let mut take = |number: u64| quotas.take(number as u32, &("fe:00".into(), number), Instant::now());
        assert_eq!((0..1000).filter(|number| take(*number)).count(), MAX_FILES);
    }
}
