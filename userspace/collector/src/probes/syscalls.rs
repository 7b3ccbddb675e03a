//! `syscalls`.

use hitscope_schemas::syscalls::SyscallStats;

use super::{Definition, load::Loader};

pub(super) const DEFINITION: Definition = Definition {
    name: "syscalls",
    doc: "Each syscall's count, errors and latency, per process.",
    needs: &["task_group_leader", "task_start_boottime"],
    attach: Loader::attach_syscall_programs,
};

/// One value out of those of all CPUs.
pub(super) fn sum(values: &[SyscallStats]) -> SyscallStats {
    let mut sum = SyscallStats::default();
    values.iter().for_each(|value| add(&mut sum, value));
    sum
}

fn add(sum: &mut SyscallStats, value: &SyscallStats) {
    sum.calls += value.calls;
    sum.errors += value.errors;
    sum.total_ns += value.total_ns;
    sum.max_ns = sum.max_ns.max(value.max_ns);
    for (total, count) in sum.histogram.iter_mut().zip(value.histogram) {
        *total += count;
    }
}
