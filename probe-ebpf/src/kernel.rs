//! Reading kernel structures by the offsets that user space resolved.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use hitscope_schemas::offsets::ABSENT;

/// A kernel address.
pub type Address = u64;

/// Reads a `T` at `base + offset`; `None` where the field is absent or the address cannot be read.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: u32) -> Option<T> {
    if offset == ABSENT || base == 0 {
        return None;
    }
    // SAFETY: the helper checks the address and fails rather than faults.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T).ok() }
}

/// As [`read`], with zero for what is absent.
#[inline(always)]
pub fn read_or_zero(base: Address, offset: u32) -> u64 {
    read(base, offset).unwrap_or(0)
}

/// Reads a bit field whose offset is given in bits; `false` where the field is absent.
#[inline(always)]
pub fn read_bit(base: Address, offset: u32) -> bool {
    offset != ABSENT && read::<u8>(base, offset / 8).is_some_and(|byte| byte >> (offset % 8) & 1 != 0)
}

/// The running thread's `task_struct`.
#[inline(always)]
pub fn current_task() -> Address {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_get_current_task() }
}

/// When the process of a task started, ns since boot: with the pid, its identity.
#[inline(always)]
pub fn process_start_ns(task: Address) -> u64 {
    let leader = read(task, offset!(task_group_leader)).unwrap_or(task);
    read_or_zero(leader, offset!(task_start_boottime))
}
