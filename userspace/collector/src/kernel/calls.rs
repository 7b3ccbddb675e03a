//! Which of the system calls that tracing takes this process may make: each is asked for something that changes nothing.

use std::{fs, io, path::Path};

use crate::probes::uprobe_links;

/// The kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It takes the call.
    Allowed,
    /// It refuses it, with this error number.
    Refused(i32),
}

/// What the kernel answers to each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// `bpf()`, which loads and attaches.
    pub bpf: Answer,
    /// `perf_event_open()` of a CPU's clock.
    pub perf_event: Answer,
    /// A link of uprobes, or else `perf_event_open()` of one. `None`: there is no kind of event for uprobes in sysfs.
    pub uprobe: Option<Answer>,
}

impl Calls {
    /// Asks the kernel; `sys` is its sysfs.
    pub fn ask(sys: &Path) -> Self {
        let kind = fs::read_to_string(sys.join("bus/event_source/devices/uprobe/type"));
        Self {
            bpf: bpf(),
            perf_event: perf_event(),
            uprobe: if uprobe_links() {
                Some(Answer::Allowed)
            } else {
                kind.ok().and_then(|kind| kind.trim().parse().ok()).map(uprobe)
            },
        }
    }
}

fn bpf() -> Answer {
    // No such command: the kernel says EINVAL, unless something refuses the call as such.
    const NO_COMMAND: libc::c_int = libc::c_int::MAX;
    let attributes = [0_u64; 16];
    // SAFETY: the attributes are as long as is said, and only read.
    answer(unsafe { libc::syscall(libc::SYS_bpf, NO_COMMAND, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// `struct perf_event_attr` in its second version (`PERF_ATTR_SIZE_VER1`, include/uapi/linux/perf_event.h).
#[repr(C)]
#[derive(Default)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_kind: u32,
    /// `uprobe_path` of a uprobe: a pointer.
    config1: u64,
    config2: u64,
}

const _: () = assert!(size_of::<EventAttributes>() == 72);

/// `PERF_TYPE_SOFTWARE`; its event 0 is `PERF_COUNT_SW_CPU_CLOCK`.
const SOFTWARE: u32 = 1;
/// The first of the flags: the event does not count.
const DISABLED: u64 = 1;

fn perf_event() -> Answer {
    open_event(EventAttributes { kind: SOFTWARE, ..EventAttributes::default() })
}

fn uprobe(kind: u32) -> Answer {
    // The kernel looks at who asks before it looks for the file.
    let path = c"/proc/self/no such file";
    open_event(EventAttributes { kind, config1: path.as_ptr() as u64, ..EventAttributes::default() })
}

fn open_event(attributes: EventAttributes) -> Answer {
    const ALL_PROCESSES: libc::pid_t = -1;
    const FIRST_CPU: libc::c_int = 0;
    const NO_GROUP: libc::c_int = -1;
    /// `PERF_FLAG_FD_CLOEXEC`
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    let attributes = EventAttributes { size: size_of::<EventAttributes>() as u32, flags: DISABLED, ..attributes };
    // SAFETY: the attributes have the size that they say and outlive the call, as does the path that they may point to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            ALL_PROCESSES,
            FIRST_CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    let answer = answer(result);
    if let Ok(file @ 0..) = libc::c_int::try_from(result) {
        // SAFETY: the kernel has just given us this file; nobody else knows it.
        unsafe { libc::close(file) };
    }
    answer
}

/// Which errors mean that the call as such is refused: the others come from what was asked for.
fn answer(result: libc::c_long) -> Answer {
    if result >= 0 {
        return Answer::Allowed;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP)) => Answer::Refused(errno),
        _ => Answer::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_sysfs_there_is_no_uprobe() {
        let sys = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Calls::ask(sys.path()).uprobe, uprobe_links().then_some(Answer::Allowed));
    }

    #[test]
    fn what_is_asked_for_leaves_nothing_open() {
        let open = || fs::read_dir("/proc/thread-self/fd").expect("open files").count();
        // Other tests open files at the same time: only a leak grows with each call.
        let before = open();
        for _ in 0..200 {
            Calls::ask(Path::new("/sys"));
        }
        assert!(open() < before + 200, "{before}");
    }
}
