//! `syscalls`: every syscall's count, errors and latency, per process. Also what brings the `sockets` probe into play:
//! one pair of programs sees every syscall, and hands on those that move bytes over a file descriptor.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::{PerCpuHashMap, ProgramArray},
    programs::RawTracePointContext,
};
use hitscope_schemas::{
    event::lost,
    sockets::{COPIES, SENT, TAILS_PER_COPY},
    syscalls::{COMPAT, HISTOGRAM_BUCKETS, SyscallKey, SyscallStats, histogram_bucket},
};

use super::{generation, sockets};
use crate::{
    arch::{Class, class, first_argument, mode, returning, wait, wait_of},
    kernel::current_task,
    lost::count,
    ring::argument,
    thread,
};

/// 1: count syscalls.
#[unsafe(no_mangle)]
static COUNT_SYSCALLS: u32 = 1;

#[map]
static SYSCALLS: PerCpuHashMap<SyscallKey, SyscallStats> = PerCpuHashMap::with_max_entries(16384, 0);

/// What a freshly inserted entry holds: too large for a program's stack beside the rest.
static EMPTY: SyscallStats = SyscallStats { calls: 0, errors: 0, total_ns: 0, max_ns: 0, histogram: [0; _] };

/// Programs of the `sockets` and `connections` probes, by `TAIL_*`, for each copy; empty where their probe is off.
#[map]
static TAILS: ProgramArray = ProgramArray::with_max_entries(COPIES * TAILS_PER_COPY, 0);

const TAIL_TRANSFER: u32 = 0;
const TAIL_CLOSE: u32 = 1;
pub const TAIL_PIECE: u32 = 2;
const TAIL_ACCEPT: u32 = 3;
pub const TAIL_DATAGRAM: u32 = 4;

/// Goes on in another program, or returns where there is none.
#[inline(always)]
pub fn tail_call<const COPY: u32>(context: &RawTracePointContext, program: u32) {
    // SAFETY: every program of the array takes the context of a raw tracepoint.
    unsafe { TAILS.tail_call(context, COPY * TAILS_PER_COPY + program) };
}

copies!(enter: sys_enter = 0, sys_enter_1 = 1, sys_enter_2 = 2, sys_enter_3 = 3);
copies!(exit: sys_exit = 0, sys_exit_1 = 1, sys_exit_2 = 2, sys_exit_3 = 3);

/// A syscall begins.
#[inline(always)]
fn enter<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread_id = pid_tgid as u32;
    let thread = thread::get_or_insert(thread_id, (pid_tgid >> 32) as u32, current_task)?;
    if thread.inside != 0 {
        if COPY != 0 {
            // A copy before this one saw it.
            return None;
        }
        // The kernel skipped what sees calls return.
        if let Some(direction) = class(thread.syscall).direction() {
            sockets::missed(thread.descriptor as u32, direction);
        }
    }
    // A thread changes its mode with its program only, so it is not asked for at each call.
    let mode = if thread.enter_ns == 0 { mode(argument(context, 0)) } else { thread.syscall & COMPAT };
    let syscall = argument(context, 1) as u32 & (COMPAT - 1) | mode;
    thread.syscall = syscall;
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    thread.enter_ns = now;
    thread.inside = 1;
    let class = class(syscall);
    match class.direction() {
        Some(direction) => {
            thread.descriptor = first_argument(argument(context, 0))?;
            if direction == SENT {
                thread.entered = thread.times(now);
            }
        }
        None if class == Class::Close => tail_call::<COPY>(context, TAIL_CLOSE),
        None => {}
    }
    Some(())
}

/// A syscall returns.
#[inline(always)]
fn exit<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    let thread_id = bpf_get_current_pid_tgid() as u32;
    // None for some that were inside a syscall when the probe was loaded.
    let thread = thread::get(thread_id)?;
    let result = argument(context, 1) as i64;
    if thread.inside == 0 && (COPY != 0 || result <= 0) {
        // A copy before this one saw it, or a seccomp filter refused it, which is before it counts as begun (kernel/entry/common.c).
        return None;
    }
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if thread.inside == 0 {
        // It began before the probe was loaded, or the kernel skipped what sees calls begin.
        thread.syscall = returning(argument(context, 0))?;
        thread.enter_ns = now;
        thread.entered = thread.times(now);
    }
    let syscall = thread.syscall;
    if thread.awaited_ns != 0 && result == 0 && wait_of(syscall) == wait::AWAITED {
        // Nothing came: it slept until a time.
        thread.awaited_ns = 0;
    }
    thread.exit_ns = now;
    if global!(COUNT_SYSCALLS) != 0 && thread.inside != 0 {
        let duration_ns = now.saturating_sub(thread.enter_ns);
        let key = SyscallKey { pid: thread.process.pid, syscall: syscall as u16, generation: generation() as u16 };
        record(&key, duration_ns, (-4095..0).contains(&result));
    }
    thread.inside = 0;
    match class(syscall) {
        Class::Other | Class::Close => {}
        Class::Exec => thread.enter_ns = 0,
        Class::Accept if result >= 0 => tail_call::<COPY>(context, TAIL_ACCEPT),
        Class::Accept => {}
        _ if result > 0 => tail_call::<COPY>(context, TAIL_TRANSFER),
        _ => {}
    }
    Some(())
}

#[inline(always)]
fn record(key: &SyscallKey, duration_ns: u64, failed: bool) {
    let stats = match SYSCALLS.get_ptr_mut(key) {
        Some(stats) => stats,
        None => {
            if SYSCALLS.insert(key, &EMPTY, 0).is_err() {
                return count(lost::SYSCALL_MAP_FULL);
            }
            match SYSCALLS.get_ptr_mut(key) {
                Some(stats) => stats,
                None => return,
            }
        }
    };
    // SAFETY: the pointer is this CPU's value; nothing else on this CPU writes it meanwhile.
    add(unsafe { &mut *stats }, duration_ns, failed);
}

#[inline(always)]
fn add(stats: &mut SyscallStats, duration_ns: u64, failed: bool) {
    stats.calls += 1;
    stats.errors += u64::from(failed);
    stats.total_ns += duration_ns;
    if duration_ns > stats.max_ns {
        stats.max_ns = duration_ns;
    }
    // SAFETY: the mask changes nothing; it is what the verifier bounds the index by, so it is hidden from the compiler.
    unsafe {
        let mut bucket = histogram_bucket(duration_ns) as u64;
        core::arch::asm!("{0} &= {mask}", inout(reg) bucket, mask = const HISTOGRAM_BUCKETS as i32 - 1);
        *(&raw mut stats.histogram).cast::<u32>().add(bucket as usize) += 1;
    }
}
