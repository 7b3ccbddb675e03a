//! Reads processes from `/proc`: all of them each interval, or one that the pipeline asks for.
//!
//! `/proc/<pid>/stat` is read for every process each time. What costs more is read when the process is new, executed
//! another program, used CPU or changed in memory, and otherwise in slow rotation.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::{
    facts::{Facts, Identity, Observed, ProcessFacts, ProcessSample, Stat, Usage},
    helpers::{Avoided, Beat},
    kernel,
    probes::Readable,
    services, strangers,
};

/// Each process is read completely once in so many samples.
const ROTATION: u64 = 60;
/// Time per sample for `smaps_rollup`, for which the kernel walks the pages of the process.
const PSS_BUDGET: Duration = Duration::from_millis(10);
/// Arguments are cut at this length, bytes.
const ARGUMENTS_BYTES: usize = 4096;
/// The longest name of a host, bytes (RFC 1123).
const MAX_HOST_NAME_BYTES: usize = 253;
/// `PF_KTHREAD` of the kernel's `sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Reads files below a `/proc`, with its buffers used again.
pub struct Proc {
    root: PathBuf,
    page_bytes: u64,
    path: String,
    buffer: Vec<u8>,
}

impl Proc {
    /// `root` is `/proc`, or a folder of the same form.
    pub fn new(root: &Path) -> Self {
        // SAFETY: sysconf takes no pointers.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Self {
            root: root.to_owned(),
            page_bytes: u64::try_from(page_bytes).unwrap_or(4096),
            path: String::new(),
            buffer: vec![0; 16 * 1024],
        }
    }

    /// Up to a buffer full of `/proc/<pid>/<file>`; these files come whole in one read, and short.
    fn read(&mut self, pid: u32, file: &str) -> Option<&[u8]> {
        use std::fmt::Write;
        self.path.clear();
        let _ = write!(self.path, "{}/{pid}/{file}", self.root.display());
        let mut file = File::open(&self.path).ok()?;
        let mut length = 0;
        loop {
            match file.read(&mut self.buffer[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            // A short read is the end, but of cgroup fixtures and long lists; a second read tells.
            if length == self.buffer.len() {
                break;
            }
        }
        Some(&self.buffer[..length])
    }

    fn text(&mut self, pid: u32, file: &str) -> Option<&str> {
        std::str::from_utf8(self.read(pid, file)?).ok()
    }

    /// Pids of all processes, in order.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let mut pids: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// `/proc/<pid>/stat`; `None` when the process is gone.
    pub fn stat(&mut self, pid: u32) -> Option<Stat> {
        let page_bytes = self.page_bytes;
        parse_stat(self.read(pid, "stat")?, page_bytes)
    }

    /// What a process is; what cannot be read stays empty.
    pub fn identity(&mut self, pid: u32) -> Identity {
        let user_id = self
            .text(pid, "status")
            .and_then(|status| value(status, "Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok())
            .unwrap_or(u32::MAX);
        let arguments = self.read(pid, "cmdline").map(arguments).unwrap_or_default();
        let cgroup: Arc<str> = self.text(pid, "cgroup").unwrap_or_default().into();
        let host_name = services::in_pod(&cgroup).then(|| self.host_name(pid)).flatten();
        Identity { user_id, arguments, cgroup, host_name }
    }

    /// A process's own `/etc/hostname`, where it is a name.
    fn host_name(&self, pid: u32) -> Option<Arc<str>> {
        let file = strangers::open(&self.root, pid, Path::new("etc/hostname")).ok()?;
        let mut text = String::new();
        file.take(MAX_HOST_NAME_BYTES as u64 + 2).read_to_string(&mut text).ok()?;
        let name = text.trim();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        ((1..=MAX_HOST_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)).then(|| name.into())
    }

    /// What a process uses besides what `stat` says; what cannot be read is `None`.
    pub fn usage(&mut self, pid: u32) -> Usage {
        let mut usage = Usage { open_files: self.open_files(pid), ..Usage::default() };
        if let Some(status) = self.text(pid, "status") {
            usage.swap_bytes = number(status, "VmSwap:").map(|kib| kib * 1024);
            usage.voluntary_switches = number(status, "voluntary_ctxt_switches:");
            usage.involuntary_switches = number(status, "nonvoluntary_ctxt_switches:");
        }
        if let Some(io) = self.text(pid, "io") {
            usage.read_bytes = number(io, "read_bytes:");
            usage.written_bytes = number(io, "write_bytes:");
        }
        usage
    }

    /// Resident memory with shared pages divided, bytes.
    fn pss_bytes(&mut self, pid: u32) -> Option<u64> {
        Some(number(self.text(pid, "smaps_rollup")?, "Pss:")? * 1024)
    }

    /// The largest that the resident memory has been, bytes.
    pub fn peak_rss_bytes(&mut self, pid: u32) -> Option<u64> {
        Some(number(self.text(pid, "status")?, "VmHWM:")? * 1024)
    }

    fn open_files(&self, pid: u32) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        let folder = self.root.join(pid.to_string()).join("fd");
        // Since Linux 6.2 the folder's size is the number of open files (fs/proc/fd.c, proc_readfd_count).
        match fs::metadata(&folder) {
            Ok(metadata) if metadata.size() > 0 && metadata.dev() != 0 && self.is_proc() => {
                u32::try_from(metadata.size()).ok()
            }
            _ => u32::try_from(fs::read_dir(folder).ok()?.count()).ok(),
        }
    }

    /// Whether the root is the kernel's, not a folder of its form: there, sizes of folders mean something else.
    fn is_proc(&self) -> bool {
        self.root == Path::new("/proc")
    }
}

/// Reads `/proc/<pid>/stat`. The command may hold blanks and parentheses, so its end is the last one.
fn parse_stat(text: &[u8], page_bytes: u64) -> Option<Stat> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
    let command = String::from_utf8_lossy(text.get(open + 1..close)?);
    let mut fields = std::str::from_utf8(&text[close + 1..]).ok()?.split_ascii_whitespace();
    // Fields are counted from 1 as in proc(5); `state` is the third.
    let mut field = 3;
    let mut get = |number: usize| {
        let found = fields.nth(number - field);
        field = number + 1;
        found
    };
    let state = get(3)?.chars().next()?;
    let parent_pid = get(4)?.parse().ok()?;
    let flags: u64 = get(9)?.parse().ok()?;
    let kernel_thread = flags & KERNEL_THREAD != 0;
    let command = match kernel_thread {
        // A kernel worker's name ends in what it works on at the moment.
        true => {
            command.split_once('-').filter(|(name, _)| name.starts_with("kworker/")).map_or(&*command, |(name, _)| name)
        }
        false => &command,
    };
    Some(Stat {
        pid,
        command: command.into(),
        state,
        parent_pid,
        kernel_thread,
        minor_faults: get(10)?.parse().ok()?,
        major_faults: get(12)?.parse().ok()?,
        user_ticks: get(14)?.parse().ok()?,
        system_ticks: get(15)?.parse().ok()?,
        threads: get(20)?.parse().ok()?,
        start_ticks: get(22)?.parse().ok()?,
        virtual_bytes: get(23)?.parse().ok()?,
        rss_bytes: get(24)?.parse::<u64>().ok()? * page_bytes,
    })
}

/// Arguments, each ended by NUL, as one line in which NUL keeps them apart.
pub(crate) fn arguments(bytes: &[u8]) -> Arc<str> {
    let cut = &bytes[..bytes.len().min(ARGUMENTS_BYTES)];
    let end = cut.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let line: String = String::from_utf8_lossy(&cut[..end])
        .chars()
        .map(|c| if c.is_control() && c != '\0' { ' ' } else { c })
        .collect();
    line.into()
}

/// What follows a key at the start of a line.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

/// The number that follows a key at the start of a line.
pub(crate) fn number(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.split_ascii_whitespace().next()?.parse().ok()
}

/// What a process looked like when last read completely.
struct Known {
    start_ticks: u64,
    command: Arc<str>,
    cpu_ticks: u64,
    rss_bytes: u64,
    pss_bytes: Option<u64>,
    round: u64,
}

/// Takes samples, and remembers what need not be read again.
pub struct Sampler {
    proc: Proc,
    avoided: Avoided,
    known: HashMap<u32, Known>,
    round: u64,
}

impl Sampler {
    /// `root` is `/proc`, or a folder of the same form.
    pub fn new(root: &Path, avoided: Avoided) -> Self {
        Self { proc: Proc::new(root), avoided, known: HashMap::new(), round: 0 }
    }

    /// Reads every process. `end_ns` is the end of the interval, wall clock.
    pub fn sample(&mut self, end_ns: i64, beat: &Beat) -> ProcessSample {
        self.round += 1;
        let mut pss_budget = PSS_BUDGET;
        let pids = self.proc.pids();
        self.avoided.keep(|pid| pids.binary_search(&pid).is_ok());
        let mut observe = |pid| {
            beat.at(pid);
            self.observe(pid, &mut pss_budget)
        };
        let processes = pids.into_iter().filter_map(&mut observe).collect();
        beat.at(0);
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        ProcessSample { end_ns, processes }
    }

    fn observe(&mut self, pid: u32, pss_budget: &mut Duration) -> Option<Observed> {
        let stat = self.proc.stat(pid)?;
        let cpu_ticks = stat.user_ticks + stat.system_ticks;
        let before = self.known.get_mut(&pid).filter(|known| known.start_ticks == stat.start_ticks);
        let new = before.as_ref().is_none_or(|known| known.command != stat.command);
        let turn = (self.round + u64::from(pid)).is_multiple_of(ROTATION);
        let moved =
            before.as_ref().is_some_and(|known| known.cpu_ticks != cpu_ticks || known.rss_bytes != stat.rss_bytes);
        let mut pss_bytes = before.as_ref().and_then(|known| known.pss_bytes);
        if let (false, Some(known)) = (new, before) {
            known.round = self.round;
            known.cpu_ticks = cpu_ticks;
            known.rss_bytes = stat.rss_bytes;
            if !moved && !turn {
                return Some(Observed { stat, identity: None, usage: None });
            }
        }
        // Of a kernel thread there is nothing more to know.
        let avoided = self.avoided.contains(pid);
        let read_all = !stat.kernel_thread && !avoided;
        if read_all && (new || turn) && !pss_budget.is_zero() {
            let begin = Instant::now();
            pss_bytes = self.proc.pss_bytes(pid);
            *pss_budget = pss_budget.saturating_sub(begin.elapsed());
        }
        let usage = read_all.then(|| Usage { pss_bytes, ..self.proc.usage(pid) });
        let identity = (new && !avoided || (turn && read_all)).then(|| self.proc.identity(pid));
        let known = Known {
            start_ticks: stat.start_ticks,
            command: stat.command.clone(),
            cpu_ticks,
            rss_bytes: stat.rss_bytes,
            pss_bytes,
            round: self.round,
        };
        self.known.insert(pid, known);
        Some(Observed { stat, identity, usage })
    }
}

/// Facts of the running host.
pub struct LiveFacts {
    proc: Proc,
    passwd: PathBuf,
    readable: Option<Readable>,
    avoided: Avoided,
}

impl LiveFacts {
    /// `procfs` is `/proc`, `passwd` is `/etc/passwd`; `readable` knows why a process's TLS cannot be read.
    pub fn new(procfs: &Path, passwd: &Path, readable: Option<Readable>, avoided: Avoided) -> Self {
        Self { proc: Proc::new(procfs), passwd: passwd.to_owned(), readable, avoided }
    }
}

impl Facts for LiveFacts {
    fn unreadable(&mut self, pid: u32) -> Option<Arc<str>> {
        if self.avoided.contains(pid) {
            return Some("its files do not answer".into());
        }
        self.readable.as_ref()?.why_not(pid).map(Into::into)
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let read_ns = kernel::clock().monotonic_ns;
        let stat = self.proc.stat(pid)?;
        let identity = match self.avoided.contains(pid) {
            true => Identity { user_id: u32::MAX, ..Identity::default() },
            false => self.proc.identity(pid),
        };
        Some(ProcessFacts { read_ns, stat, identity })
    }

    fn user(&mut self, user_id: u32) -> Option<Arc<str>> {
        let users = fs::read_to_string(&self.passwd).ok()?;
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(user_id)).then(|| name.into())
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A process in a folder of the form of `/proc`.
    pub(crate) fn write_process(root: &Path, stat: &str, uid: u32, command_line: &str, cgroup: &str) {
        let pid = stat.split(' ').next().unwrap();
        let folder = root.join(pid);
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::write(folder.join("stat"), stat).unwrap();
        let status = format!(
            "Name:\tx\nUid:\t0\t{uid}\t0\t0\nVmSwap:\t      12 kB\nvoluntary_ctxt_switches:\t7\n\
             nonvoluntary_ctxt_switches:\t3\n"
        );
        fs::write(folder.join("status"), status).unwrap();
        fs::write(folder.join("io"), "rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\n").unwrap();
        fs::write(folder.join("cmdline"), command_line).unwrap();
        fs::write(folder.join("cgroup"), cgroup).unwrap();
        fs::write(folder.join("smaps_rollup"), "Rss: 900 kB\nPss:      500 kB\nPss_Dirty: 1 kB\n").unwrap();
        for fd in 0..3 {
            fs::write(folder.join("fd").join(fd.to_string()), "").unwrap();
        }
    }

    /// A line of `/proc/<pid>/stat`.
    pub(crate) fn stat_line(pid: u32, command: &str, parent: u32, flags: u64, ticks: (u64, u64), start: u64) -> String {
        format!(
            "{pid} ({command}) S {parent} 1 1 0 -1 {flags} 10 0 2 0 {} {} 0 0 20 0 5 0 {start} 8192000 256 \
             18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n",
            ticks.0, ticks.1
        )
    }

    #[test]
    fn a_command_may_hold_parentheses_and_blanks() {
        let stat = parse_stat(stat_line(42, "a) (b c", 7, 0, (11, 13), 900).as_bytes(), 4096).unwrap();
        assert_eq!((stat.pid, &*stat.command, stat.parent_pid), (42, "a) (b c", 7));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start_ticks), (11, 13, 900));
        assert_eq!((stat.threads, stat.virtual_bytes, stat.rss_bytes), (5, 8_192_000, 1024 * 1024));
        assert_eq!((stat.minor_faults, stat.major_faults), (10, 2));
        let worker = parse_stat(stat_line(43, "kworker/u8:1-events", 2, KERNEL_THREAD, (0, 0), 1).as_bytes(), 4096);
        assert_eq!(&*worker.unwrap().command, "kworker/u8:1");
        assert_eq!(parse_stat(b"42 (x) S 1", 4096), None);
        assert_eq!(parse_stat(b"", 4096), None);
    }

    #[test]
    fn only_what_moved_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let write = |ticks| {
            let line = stat_line(42, "db", 1, 0, (ticks, 0), 900);
            write_process(root.path(), &line, 1000, "db\0-D\0/data\0", "0::/system.slice/db.service\n");
        };
        write(1);
        let mut sampler = Sampler::new(root.path(), Avoided::default());
        let beat = Beat::default();
        let first = sampler.sample(5, &beat).processes.remove(0);
        assert_eq!(&*first.identity.as_ref().unwrap().arguments, "db\0-D\0/data");
        assert_eq!(first.identity.unwrap().user_id, 1000);
        let usage = first.usage.unwrap();
        assert_eq!((usage.swap_bytes, usage.pss_bytes, usage.open_files), (Some(12288), Some(512_000), Some(3)));
        assert_eq!((usage.read_bytes, usage.written_bytes), (Some(4096), Some(8192)));
        assert_eq!((usage.voluntary_switches, usage.involuntary_switches), (Some(7), Some(3)));

        let idle = sampler.sample(10, &beat).processes.remove(0);
        assert_eq!((idle.identity, idle.usage), (None, None));
        write(2);
        let busy = sampler.sample(15, &beat).processes.remove(0);
        assert_eq!((busy.identity, busy.usage.is_some()), (None, true));

        // The pid is used again.
        write_process(root.path(), &stat_line(42, "db", 1, 0, (2, 0), 901), 0, "other", "");
        assert_eq!(&*sampler.sample(20, &beat).processes.remove(0).identity.unwrap().arguments, "other");
    }

    #[test]
    fn this_very_process_can_be_read() {
        let mut facts = LiveFacts::new(Path::new("/proc"), Path::new("/etc/passwd"), None, Avoided::default());
        let own = facts.process(std::process::id()).unwrap();
        assert_eq!(own.stat.pid, std::process::id());
        assert!(own.stat.rss_bytes > 0 && !own.identity.arguments.is_empty());
        assert_eq!(facts.user(0).as_deref(), Some("root"));
        assert!(Proc::new(Path::new("/proc")).usage(std::process::id()).open_files.unwrap() > 0);
    }
}
