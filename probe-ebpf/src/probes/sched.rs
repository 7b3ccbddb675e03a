//! `sched`: each process's time on CPUs and waiting for them, exact to the switch, what its threads sleep for, and the start
//! and end of programs.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel_buf},
    macros::{btf_tracepoint, map, perf_event},
    maps::{LruHashMap, PerCpuArray, PerCpuHashMap},
    programs::{BtfTracePointContext, PerfEventContext},
};
use hitscope_schemas::{
    event::{KIND_EXEC, KIND_EXIT, lost},
    offsets::ABSENT,
    sched::{ARGUMENTS_LEN, COMM_LEN, ExecEvent, ExitEvent, ProcessKey, ProcessTimes},
};

use super::{add, generation};
use crate::{
    arch::{wait, wait_of},
    kernel::{Address, Typed, current_task, process_start_ns, read, read_or_zero},
    lost::count,
    ring,
    ring::argument,
    thread::{self, Thread},
};

#[map]
static PROCESSES: PerCpuHashMap<ProcessKey, ProcessTimes> = PerCpuHashMap::with_max_entries(16384, 0);

/// Size of the host's memory pages.
#[unsafe(no_mangle)]
static PAGE_BYTES: u64 = 4096;

/// Records too large for the stack are made here.
#[map]
static EXEC: PerCpuArray<ExecEvent> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Ids of a task's thread and process.
#[inline(always)]
fn ids(task: Typed) -> (u32, u32) {
    (task.read(offset!(task_pid)).unwrap_or(0), task.read(offset!(task_tgid)).unwrap_or(0))
}

/// Scheduler state of a thread that leaves the CPU for good (include/linux/sched.h).
const TASK_DEAD: u32 = 0x80;
/// That of a sleep that no signal ends.
const TASK_UNINTERRUPTIBLE: u32 = 0x2;

/// A thread leaves the CPU and another gets it.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(context: BtfTracePointContext) -> i32 {
    let now = now();
    let preempted = argument(&context, 0) & 0xff != 0;
    let (previous, next) = (Typed::argument(&context, 1), Typed::argument(&context, 2));
    let thread_id: u32 = previous.read(offset!(task_pid)).unwrap_or(0);
    if thread_id != 0 {
        if let Some(thread) = thread::get(thread_id) {
            let state: u32 = previous.read(offset!(task_state)).unwrap_or(0);
            let running = preempted || state == 0;
            let cpu_ns = previous.read(offset!(task_sum_exec_runtime));
            if thread.came_unseen() {
                thread::catch_up(thread, now, cpu_ns.unwrap_or(0));
            }
            let times = account(thread, cpu_ns);
            thread.times.cpu_ns = thread.accounted_ns;
            thread.on_cpu_since = 0;
            if running {
                thread.runnable_since = now;
            } else {
                thread.blocked_since = now;
                thread.blocked_on = u32::from(blocked_on(thread, previous, state));
            }
            if let Some(times) = times {
                times.voluntary_switches += u64::from(!running);
                times.involuntary_switches += u64::from(running);
            }
            if state & TASK_DEAD != 0 {
                thread::remove(thread_id);
            }
        }
    }
    let (thread_id, pid) = ids(next);
    if thread_id != 0 {
        if let Some(thread) = thread::get_or_insert(thread_id, pid, || next.address()) {
            if thread.on_cpu_since != 0 {
                // It left unseen, and what it waited for is not known.
                thread.times.cpu_ns = next.read(offset!(task_sum_exec_runtime)).unwrap_or(thread.times.cpu_ns);
            }
            thread.came(now);
        }
    }
    0
}

/// What a thread that leaves its CPU in this scheduler state waits for: one of [`wait`].
#[inline(always)]
fn blocked_on(thread: &Thread, task: Typed, state: u32) -> u8 {
    if task.read_bit(offset!(task_in_iowait)) {
        return wait::DISK;
    }
    let uninterruptible = state & TASK_UNINTERRUPTIBLE != 0;
    if thread.inside == 0 {
        // In a page fault; those that read from disk say so by `in_iowait`.
        return if uninterruptible { wait::LOCK } else { wait::OTHER };
    }
    match wait_of(thread.syscall) {
        wait::MEMORY if uninterruptible => wait::LOCK,
        wait::OTHER | wait::AWAITED if uninterruptible => wait::DISK,
        wait => wait,
    }
}

/// Gives a thread's process the time since the thread was last accounted. By the scheduler's account, not the clock, since
/// a switch can go unseen.
#[inline(always)]
fn account(thread: &mut Thread, cpu_ns: Option<u64>) -> Option<&'static mut ProcessTimes> {
    let cpu_ns = cpu_ns?;
    let ran = cpu_ns.saturating_sub(thread.accounted_ns);
    thread.accounted_ns = cpu_ns;
    let key = ProcessKey { generation: generation(), ..thread.process };
    let times = process_times(&key)?;
    times.cpu_ns += ran;
    times.runqueue_ns += thread.runqueue_due_ns;
    thread.runqueue_due_ns = 0;
    Some(times)
}

#[inline(always)]
fn process_times(key: &ProcessKey) -> Option<&'static mut ProcessTimes> {
    let times = match PROCESSES.get_ptr_mut(key) {
        Some(times) => times,
        None => {
            if PROCESSES.insert(key, ProcessTimes::default(), 0).is_err() {
                count(lost::PROCESS_MAP_FULL);
                return None;
            }
            PROCESSES.get_ptr_mut(key)?
        }
    };
    // SAFETY: the pointer is this CPU's value; the scheduler's programs run with interrupts off.
    Some(unsafe { &mut *times })
}

/// A thread can run again.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(context: BtfTracePointContext) -> i32 {
    wakeup(Typed::argument(&context, 0))
}

/// A new thread can run.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(context: BtfTracePointContext) -> i32 {
    wakeup(Typed::argument(&context, 0))
}

#[inline(always)]
fn wakeup(task: Typed) -> i32 {
    let (thread_id, pid) = ids(task);
    if let Some(thread) = thread::get_or_insert(thread_id, pid, || task.address()) {
        if thread.on_cpu_since == 0 && thread.runnable_since == 0 {
            let now = now();
            if thread.blocked_since != 0 {
                thread.awake(now);
            }
            thread.runnable_since = now;
        }
    }
    0
}

/// From a timer on each CPU: a thread that never leaves its CPU is accounted too.
#[perf_event]
pub fn sched_tick(_context: PerfEventContext) -> i32 {
    let thread_id = bpf_get_current_pid_tgid() as u32;
    if thread_id != 0 {
        if let Some(thread) = thread::get(thread_id) {
            account(thread, read(current_task(), offset!(task_sum_exec_runtime)));
        }
    }
    0
}

/// A process replaced its program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    let task = argument(&context, 0);
    let old_thread_id = argument(&context, 1) as u32;
    let Some(event) = EXEC.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's element, and exec is not preempted here by another exec.
    let event = unsafe { &mut *event };
    event.header = ring::header(KIND_EXEC, size_of::<ExecEvent>());
    if old_thread_id != event.header.thread_id {
        // Another thread than the first did the exec, and took the first one's id.
        thread::remove(old_thread_id);
    }
    event.start_ns = process_start_ns(task);
    event.parent_pid = parent_pid(task);
    event.user_id = user_id(task);
    event.padding = 0;
    comm(task, &mut event.comm);
    let (start, end) = match read::<Address>(task, offset!(task_mm)) {
        Some(mm) => (read_or_zero(mm, offset!(mm_arg_start)), read_or_zero(mm, offset!(mm_arg_end))),
        None => (0, 0),
    };
    let mut length = end.saturating_sub(start);
    if length > ARGUMENTS_LEN as u64 {
        length = ARGUMENTS_LEN as u64;
    }
    // Whole pages may be missing behind a short argument list, so exactly `length` bytes are asked for.
    let read = unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_user(
            event.arguments.as_mut_ptr().cast(),
            length as u32,
            start as *const _,
        )
    };
    event.arguments_len = if read == 0 { length as u32 } else { 0 };
    ring::emit(event);
    0
}

/// What the threads of a process that have ended used in all: of those that the kernel has let go of its own `signal_struct`
/// says, of those that are on their way, only this.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ended {
    user_ns: u64,
    system_ns: u64,
    read_bytes: u64,
    written_bytes: u64,
    minor_faults: u64,
    major_faults: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

#[map]
static ENDED: LruHashMap<ProcessKey, Ended> = LruHashMap::with_max_entries(16384, 0);

/// A thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    let task = argument(&context, 0);
    let Some(signal) = read::<Address>(task, offset!(task_signal)) else { return 0 };
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = ProcessKey { start_ns: process_start_ns(task), pid, generation: 0 };
    let Some(ended) = ended(&key, signal) else {
        count(lost::PROCESS_MAP_FULL);
        return 0;
    };
    add_thread(ended, task);
    // When many end at once, all of them may find that none is left. Each tells what has come together, the last one all.
    if read::<i32>(signal, offset!(signal_live)).unwrap_or(1) == 0 {
        process_exit(task, signal, key.start_ns, ended);
    }
    0
}

/// The entry of a process; a new one begins with what the kernel knows of the threads that it has let go.
#[inline(never)]
fn ended(key: &ProcessKey, signal: Address) -> Option<&'static mut Ended> {
    if ENDED.get_ptr(key).is_none() {
        let before = Ended {
            user_ns: read_or_zero(signal, offset!(signal_utime)),
            system_ns: read_or_zero(signal, offset!(signal_stime)),
            read_bytes: read_or_zero(signal, offset!(signal_read_bytes)),
            written_bytes: read_or_zero(signal, offset!(signal_write_bytes)),
            minor_faults: read_or_zero(signal, offset!(signal_min_flt)),
            major_faults: read_or_zero(signal, offset!(signal_maj_flt)),
            voluntary_switches: read_or_zero(signal, offset!(signal_nvcsw)),
            involuntary_switches: read_or_zero(signal, offset!(signal_nivcsw)),
        };
        // Another thread may have inserted it meanwhile; then that one stays.
        let _ = ENDED.insert(key, &before, u64::from(aya_ebpf::bindings::BPF_NOEXIST));
    }
    // SAFETY: map values stay valid for the program's run; threads add to it atomically.
    ENDED.get_ptr_mut(key).map(|ended| unsafe { &mut *ended })
}

/// Adds what a thread used.
#[inline(always)]
fn add_thread(ended: &mut Ended, task: Address) {
    add(&mut ended.user_ns, read_or_zero(task, offset!(task_utime)));
    add(&mut ended.system_ns, read_or_zero(task, offset!(task_stime)));
    add(&mut ended.read_bytes, read_or_zero(task, offset!(task_read_bytes)));
    add(&mut ended.written_bytes, read_or_zero(task, offset!(task_write_bytes)));
    add(&mut ended.minor_faults, read_or_zero(task, offset!(task_min_flt)));
    add(&mut ended.major_faults, read_or_zero(task, offset!(task_maj_flt)));
    add(&mut ended.voluntary_switches, read_or_zero(task, offset!(task_nvcsw)));
    add(&mut ended.involuntary_switches, read_or_zero(task, offset!(task_nivcsw)));
}

/// Made in the ring buffer, not on the stack: there, older verifiers tell apart what each path has written, and every
/// field that may be absent doubles the paths.
#[inline(never)]
fn process_exit(task: Address, signal: Address, start_ns: u64, ended: &Ended) -> i32 {
    let waiting = ring::waiting_bytes();
    let Some(mut entry) = ring::reserve::<ExitEvent>() else {
        count(lost::EVENT_RING_FULL);
        return 0;
    };
    // SAFETY: there is room for one, of numbers only, and every field is written.
    let event = unsafe { &mut *entry.as_mut_ptr() };
    event.header = ring::header(KIND_EXIT, size_of::<ExitEvent>());
    event.start_ns = start_ns;
    event.parent_pid = parent_pid(task);
    event.user_id = user_id(task);
    event.exit_status = exit_status(task, signal);
    event.padding = 0;
    event.comm = [0; COMM_LEN];
    comm(task, &mut event.comm);
    event.max_rss_bytes = max_rss_bytes(task, signal);
    event.user_ns = known(ended.user_ns, offset!(task_utime), offset!(signal_utime));
    event.system_ns = known(ended.system_ns, offset!(task_stime), offset!(signal_stime));
    event.read_bytes = known(ended.read_bytes, offset!(task_read_bytes), offset!(signal_read_bytes));
    event.written_bytes = known(ended.written_bytes, offset!(task_write_bytes), offset!(signal_write_bytes));
    event.minor_faults = known(ended.minor_faults, offset!(task_min_flt), offset!(signal_min_flt));
    event.major_faults = known(ended.major_faults, offset!(task_maj_flt), offset!(signal_maj_flt));
    event.voluntary_switches = known(ended.voluntary_switches, offset!(task_nvcsw), offset!(signal_nvcsw));
    event.involuntary_switches = known(ended.involuntary_switches, offset!(task_nivcsw), offset!(signal_nivcsw));
    entry.submit(ring::flags(waiting));
    0
}

/// A figure; `u64::MAX` where the kernel lacks one of its fields.
#[inline(always)]
fn known(total: u64, task_offset: u32, signal_offset: u32) -> u64 {
    if task_offset == ABSENT || signal_offset == ABSENT { u64::MAX } else { total }
}

/// `signal->maxrss` is set as the address space is left; on kernels that report the exit before that, ask the space itself.
#[inline(always)]
fn max_rss_bytes(task: Address, signal: Address) -> u64 {
    let of_signal = read_or_zero(signal, offset!(signal_maxrss));
    let of_space = read::<Address>(task, offset!(task_mm)).map_or(0, |mm| read_or_zero(mm, offset!(mm_hiwater_rss)));
    of_signal.max(of_space) * global!(PAGE_BYTES)
}

/// A status set for the whole process (by a fatal signal or `exit_group`) goes before the last thread's own.
#[inline(always)]
fn exit_status(task: Address, signal: Address) -> i32 {
    match read::<i32>(signal, offset!(signal_group_exit_code)) {
        Some(status) if status != 0 => status,
        _ => read(task, offset!(task_exit_code)).unwrap_or(0),
    }
}

#[inline(always)]
fn parent_pid(task: Address) -> u32 {
    let leader = read::<Address>(task, offset!(task_group_leader)).unwrap_or(task);
    read::<Address>(leader, offset!(task_real_parent)).and_then(|parent| read(parent, offset!(task_tgid))).unwrap_or(0)
}

#[inline(always)]
fn user_id(task: Address) -> u32 {
    read::<Address>(task, offset!(task_cred)).and_then(|cred| read(cred, offset!(cred_euid))).unwrap_or(u32::MAX)
}

#[inline(always)]
fn comm(task: Address, buffer: &mut [u8; COMM_LEN]) {
    let offset = offset!(task_comm);
    if offset != ABSENT {
        // SAFETY: the helper checks the address and fails rather than faults.
        let _ = unsafe { bpf_probe_read_kernel_buf((task + u64::from(offset)) as *const u8, buffer) };
    }
}
