//! What a sample of many idle processes costs: `cargo run --release --example idle [processes] [samples]`.
//!
//! Starts so many `sleep`s, samples all processes of this host, and prints this process's CPU time per sample, and its share
//! of a core at one sample in 5 s. The first sample, which reads everything, is not counted.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hitscope_collector::{
    clocks::Clocks, helpers::Avoided, helpers::Beat, hosts, kernel, processes::Processes, sampler::Sampler,
    settings::Settings, settings::WINDOW,
};

fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let count: usize = arguments.next().unwrap_or(570);
    let samples: u32 = arguments.next().map_or(120, |samples| samples as u32);
    let sleep = || Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
    let mut sleepers: Vec<Child> = (0..count).map(|_| sleep()).collect::<Result<_, _>>()?;
    let root = Path::new("/proc");
    let (mut sampler, mut processes, mut clocks) =
        (Sampler::new(root, Avoided::default()), Processes::new(Settings::default().arguments), Clocks::default());
    clocks.set(kernel::clock());
    let mut rows = Vec::new();
    let mut take = |window: i64| {
        let end_ns = kernel::clock().realtime_ns as i64 + window;
        let sample = sampler.sample(end_ns, &Beat::default());
        std::hint::black_box(hosts::sample(root, end_ns));
        rows.clear();
        processes.sample(&sample, &clocks, &mut rows);
        processes.questions().for_each(drop);
        rows.len()
    };
    let (begin, first) = (Instant::now(), cpu());
    take(0);
    println!("first sample: {:?} CPU, {:?}", cpu() - first, begin.elapsed());
    let (begin, before) = (Instant::now(), cpu());
    let mut counted = 0;
    for index in 1..=samples {
        counted = take(i64::from(index));
    }
    let each = (cpu() - before) / samples;
    println!("{counted} processes: {each:?} CPU per sample ({:?} wall)", begin.elapsed() / samples);
    println!("{:.2} % of a core at a sample in {WINDOW:?}", 100.0 * each.as_secs_f64() / WINDOW.as_secs_f64());
    for sleeper in &mut sleepers {
        sleeper.kill()?;
        sleeper.wait()?;
    }
    Ok(())
}
