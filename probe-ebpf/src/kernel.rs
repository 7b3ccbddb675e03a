//! Reading kernel structures by the offsets that user space resolved.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel, generated::bpf_get_current_task_btf},
    programs::BtfTracePointContext,
};
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

/// 1: the kernel gives the running task with its type (`bpf_get_current_task_btf`, Linux 5.11 on).
#[unsafe(no_mangle)]
static TYPED_TASK: u32 = 0;

/// A structure of which the verifier knows the type, so that its fields are read without a helper's call: a `task_struct` that a
/// BTF tracepoint was given or that runs, and what is reached from there. Offsets must be those of fields of `T`'s size.
#[derive(Clone, Copy)]
pub struct Typed(*const u8);

impl Typed {
    /// Argument `index` of a BTF tracepoint.
    #[inline(always)]
    pub fn argument(context: &BtfTracePointContext, index: usize) -> Self {
        // SAFETY: as in `ring::argument`.
        Self(unsafe { *context.as_ptr().cast::<*const u8>().add(index) })
    }

    /// The running thread's `task_struct`; `None` where the kernel does not give it so.
    #[inline(always)]
    pub fn current_task() -> Option<Self> {
        // SAFETY: the helper takes no arguments.
        (global!(TYPED_TASK) != 0).then(|| Self(unsafe { bpf_get_current_task_btf() }.cast()))
    }

    /// Reads a field; `None` where it is absent.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: u32) -> Option<T> {
        if offset == ABSENT {
            return None;
        }
        // SAFETY: the verifier checks that the field is there; the kernel catches a fault.
        Some(unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) })
    }

    /// The structure that a field points at.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        self.read(offset).map(Self)
    }

    /// Reads a bit field whose offset is given in bits; `false` where it is absent.
    #[inline(always)]
    pub fn read_bit(self, offset: u32) -> bool {
        offset != ABSENT && self.read::<u8>(offset / 8).is_some_and(|byte| byte >> (offset % 8) & 1 != 0)
    }

    /// For those who read by a helper.
    #[inline(always)]
    pub fn address(self) -> Address {
        self.0 as Address
    }
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
