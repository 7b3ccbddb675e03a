//! `sched`.

use aya::{
    programs::perf_event::{PerfEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    util::online_cpus,
};
use hitscope_schemas::sched::ProcessTimes;

use super::{
    Definition, ProgramState, Refusal,
    load::{self, Loader},
};

pub(super) const DEFINITION: Definition = Definition {
    name: "sched",
    doc: "Each process's time on CPUs and waiting for them, and the start and end of every process.",
    needs: &[
        "task_pid",
        "task_tgid",
        "task_state",
        "task_sum_exec_runtime",
        "task_group_leader",
        "task_start_boottime",
        "task_signal",
        "signal_live",
    ],
    attach,
};

/// How often a thread that keeps its CPU is accounted, Hz.
const TICK_HZ: u64 = 10;

fn attach(loader: &mut Loader) -> Result<Vec<ProgramState>, Refusal> {
    let mut programs = Vec::new();
    for (program, tracepoint) in [
        ("sched_process_exit", "sched_process_exit"),
        ("sched_process_exec", "sched_process_exec"),
        ("sched_wakeup", "sched_wakeup"),
        ("sched_wakeup_new", "sched_wakeup_new"),
        ("sched_switch", "sched_switch"),
    ] {
        programs.push(loader.attach_btf_tracepoint(program, tracepoint)?);
    }
    programs.push(attach_tick(loader)?);
    Ok(programs)
}

fn attach_tick(loader: &mut Loader) -> Result<ProgramState, Refusal> {
    const NAME: &str = "sched_tick";
    let program: &mut PerfEvent = loader.program(NAME)?;
    program.load().map_err(|error| load::explain(NAME, &error))?;
    for cpu in online_cpus().map_err(|(path, error)| format!("cannot read {path}: {error}"))? {
        program
            .attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Frequency(TICK_HZ),
                false,
            )
            .map_err(|error| load::explain(NAME, &error))?;
    }
    Ok(load::program_state(NAME, program.info().ok()))
}

/// One value out of those of all CPUs.
pub(super) fn sum(values: &[ProcessTimes]) -> ProcessTimes {
    values.iter().fold(ProcessTimes::default(), |sum, value| ProcessTimes {
        cpu_ns: sum.cpu_ns + value.cpu_ns,
        runqueue_ns: sum.runqueue_ns + value.runqueue_ns,
        voluntary_switches: sum.voluntary_switches + value.voluntary_switches,
        involuntary_switches: sum.involuntary_switches + value.involuntary_switches,
    })
}
