//! One counter for each reason that something can be dropped.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use hitscope_schemas::event::lost::COUNT;

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNT, 0);

/// Counts one loss; `reason` is one of `hitscope_schemas::event::lost`.
#[inline(always)]
pub fn count(reason: u32) {
    if let Some(counter) = LOST.get_ptr_mut(reason) {
        // SAFETY: the pointer is this CPU's element; programs do not preempt each other here.
        unsafe { *counter += 1 }
    }
}
