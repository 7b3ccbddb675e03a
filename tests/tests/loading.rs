//! How the kernel takes the probes: what its verifier makes of each program, and what is done without a field that it lacks.

use std::{
    ffi::{CStr, c_char, c_long},
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use hitscope_collector::{
    event::Event,
    kernel::btf,
    probes::{self, Probes, REGISTRY, Settings},
    source::Turn,
};
use hitscope_schemas::{
    offsets::{ABSENT, Offsets},
    sockets::{MISSED_BYTES, RECEIVED, SENT},
};
use hitscope_tests::{
    host::{self, wait_until},
    needs_probes,
};

/// Half of what the verifier walks through before it gives up.
const MOST_INSTRUCTIONS: u64 = 500_000;
/// Longer than any test takes to make what it looks for.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);
/// Of the 512 that the programs of one chain of calls may use.
const MOST_STACK_BYTES: u64 = 480;

/// What the verifier said of a program that it took.
#[derive(Debug)]
struct Load {
    /// As much of its name as the kernel keeps.
    name: String,
    instructions: u64,
    stack_bytes: u64,
}

static LOADS: Mutex<Vec<Load>> = Mutex::new(Vec::new());

/// Stands before the C library's function of this name, by which the loader speaks to the kernel: it asks the verifier
/// for its account of each program. The loader asks only of those that are refused, and kernels before 5.16 tell it in no
/// other way.
///
/// # Safety
/// As that function. It takes as many arguments as the call has; what is read beyond those is handed on and ignored.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    type Function = unsafe extern "C" fn(c_long, ...) -> c_long;
    // SAFETY: the C library has the function, and it has this type.
    let next: Function = unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr())) };
    const PROG_LOAD: c_long = 5;
    if number == libc::SYS_bpf && a == PROG_LOAD && c as usize >= size_of::<Attributes>() {
        // SAFETY: `bpf` takes a pointer to attributes of the length `c`, which was compared.
        let mut attributes = unsafe { (b as *const Attributes).read_unaligned() };
        if attributes.log_level == 0 {
            // Behind those that are known here come others.
            let mut copy = vec![0_u64; (c as usize).div_ceil(8)];
            let mut log = vec![0_u8; 64 << 10];
            const STATISTICS: u32 = 4;
            attributes.log_level = STATISTICS;
            attributes.log_size = log.len() as u32;
            attributes.log_buf = log.as_mut_ptr() as u64;
            // SAFETY: both are `c` bytes long at least, and do not overlap; the attributes fit in those.
            unsafe {
                std::ptr::copy_nonoverlapping(b as *const u8, copy.as_mut_ptr().cast(), c as usize);
                copy.as_mut_ptr().cast::<Attributes>().write(attributes);
            }
            // SAFETY: the call as it was, but for the log, to which the attributes point.
            let result = unsafe { next(number, a, copy.as_ptr(), c) };
            if result >= 0 {
                let name = attributes.name.map(|byte| byte as u8);
                let name = CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy();
                let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
                match account(&name, &log) {
                    Some(load) => LOADS.lock().unwrap_or_else(PoisonError::into_inner).push(load),
                    None => println!("the verifier gave no account of {name}: {log}"),
                }
            }
            return result;
        }
    }
    // SAFETY: the call as it was.
    unsafe { next(number, a, b, c, d, e, f) }
}

/// The first of the attributes of `BPF_PROG_LOAD` in `union bpf_attr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    kind: u32,
    instructions: u32,
    addresses: [u64; 2],
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kernel_version: u32,
    flags: u32,
    name: [c_char; 16],
}

/// `stack depth 64+0` and `processed 1234 insns (limit 1000000) …`. Each function of a program has a part of the stack; in the
/// worst case, all are on it at once. From 7.x on it is `stack depth max 64`, of the worst case itself.
fn account(name: &str, log: &str) -> Option<Load> {
    let after = |start| log.lines().find_map(|line| line.strip_prefix(start));
    let depths = after("stack depth ")?.trim_start_matches("max ").split('+').map(|depth| depth.trim().parse::<u64>());
    Some(Load {
        name: name.to_owned(),
        instructions: after("processed ")?.split(' ').next()?.parse().ok()?,
        stack_bytes: depths.sum::<Result<_, _>>().ok()?,
    })
}

#[test]
fn no_program_is_near_the_verifiers_limits() {
    needs_probes!();
    let states = probes::check(&Settings::default()).expect("the probes load");
    let mut loads = std::mem::take(&mut *LOADS.lock().unwrap_or_else(PoisonError::into_inner));
    for state in &states {
        assert!(state.running, "{state:?}");
        // In the order in which they were loaded: two names begin alike.
        for program in &state.programs {
            let kept = &program.name[..program.name.len().min(15)];
            let load = loads.iter().position(|load| load.name == kept).map(|index| loads.remove(index));
            let load = load.unwrap_or_else(|| panic!("no account of {}; of others: {loads:?}", program.name));
            println!("verifier: {} {} instructions {} bytes", program.name, load.instructions, load.stack_bytes);
            // Kernels from 5.16 on tell it later as well.
            if let Some(verified) = program.verified_instructions {
                assert_eq!(u64::from(verified), load.instructions, "{}", program.name);
            }
            assert!(load.instructions <= MOST_INSTRUCTIONS && load.stack_bytes <= MOST_STACK_BYTES, "{load:?}");
        }
    }
}

/// As on kernels that skip programs: beside the first copies the others count nothing twice, and in their place nothing is missing.
#[test]
fn copies_do_what_those_before_could_not() {
    needs_probes!();
    const CALLS: u64 = 1000;
    const BYTES: usize = 471;
    let disabled = ["sched", "tls", "connections"].map(str::to_owned).into();
    let settings = Settings { disabled, ..Settings::default() };
    for (copies, beside_others) in [(1, true), (1, false), (3, true), (3, false)] {
        let mut probes = Probes::load(&settings).expect("the probes");
        for _ in 0..copies {
            probes.attach_next_copies();
        }
        if !beside_others {
            probes.detach_other_copies().expect("those before are gone");
        }
        let (mut one, mut other) = UnixStream::pair().expect("a pair");
        for _ in 0..CALLS {
            // SAFETY: takes no arguments.
            unsafe { libc::getppid() };
            one.write_all(&[b'x'; BYTES]).expect("it is sent");
            other.read_exact(&mut [0; BYTES]).expect("it comes");
        }
        let [mut calls, mut sent, mut received] = [0; 3];
        let mut count = |event: Event<'_>| match event {
            Event::Segment(segment, ..) if segment.length == BYTES as u64 => {
                *if segment.direction == SENT { &mut sent } else { &mut received } += 1;
            }
            Event::Syscalls(counts) => {
                let own = counts
                    .iter()
                    .filter(|(key, _)| key.pid == std::process::id() && i64::from(key.syscall) == libc::SYS_getppid);
                calls += own.map(|(_, stats)| stats.calls).sum::<u64>();
            }
            _ => {}
        };
        probes.poll(Turn::of(1 << 20, LONG), &mut count);
        probes.drain(&mut count);
        assert_eq!([calls, sent, received], [CALLS; 3], "{copies}, {beside_others}");
    }
}

/// As on kernels that skip programs, where no copy was there to take their place: a call whose begin was not seen is told all the
/// same, and one whose return was not seen leaves a gap in its direction, by which the decoder knows that something is missing.
#[test]
fn what_was_skipped_leaves_a_gap() {
    needs_probes!();
    let disabled = ["sched", "tls", "connections"].map(str::to_owned).into();
    let mut probes = Probes::load(&Settings { disabled, ..Settings::default() }).expect("the probes");
    let (mut one, mut other) = UnixStream::pair().expect("a pair");
    let sends = |mut stream: &UnixStream, bytes| stream.write_all(&vec![b'x'; bytes]).expect("it is sent");
    sends(&one, 101);
    probes.without("sys_exit", || sends(&one, 10)).expect("it is taken back");
    sends(&one, 102);
    probes.without("sys_enter", || sends(&one, 103)).expect("it is taken back");
    sends(&one, 104);
    for bytes in [101 + 10, 102] {
        other.read_exact(&mut vec![0; bytes]).expect("it comes");
    }
    probes.without("sys_exit", || other.read_exact(&mut [0; 103]).expect("it comes")).expect("it is taken back");
    other.read_exact(&mut [0; 104]).expect("it comes");
    // That of the other end is its own.
    sends(&other, 105);
    one.read_exact(&mut [0; 105]).expect("it comes");

    let mut seen = Vec::new();
    let mut take = |event: Event<'_>| match event {
        Event::Segment(segment, ..) if segment.header.pid == std::process::id() => {
            seen.push((segment.direction, segment.offset, segment.length));
        }
        _ => {}
    };
    probes.poll(Turn::of(1 << 20, LONG), &mut take);
    probes.drain(&mut take);
    let sent = [(0, 101), (101 + MISSED_BYTES, 102), (203 + MISSED_BYTES, 103), (306 + MISSED_BYTES, 104), (0, 105)];
    let received = [(0, 111), (111, 102), (213 + MISSED_BYTES, 104), (0, 105)];
    for (direction, expected) in [(SENT, &sent[..]), (RECEIVED, &received)] {
        let of: Vec<_> = seen.iter().filter(|it| it.0 == direction).map(|it| (it.1, it.2)).collect();
        assert_eq!(of, expected, "{seen:?}");
    }
}

#[test]
fn programs_say_what_they_follow() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("said");
    let mut command = Command::new(host::binary());
    command.args(["-vv", "record", "--duration", "2s"]).arg(folder.path().join("recording"));
    let mut recording = command.stderr(File::create(&said).expect("a file")).spawn().expect("hitscope starts");
    let ended = wait_until("it has recorded", || {
        let (mut one, mut other) = UnixStream::pair().expect("a pair");
        one.write_all(b"x").expect("it is sent");
        other.read_exact(&mut [0]).expect("it comes");
        recording.try_wait().expect("its state")
    });
    let said = std::fs::read_to_string(said).expect("what it said");
    assert!(ended.success(), "{said}");
    let own = format!("of process {}: looking for its protocol", std::process::id());
    assert!(said.lines().any(|line| line.contains("hitscope_probes") && line.contains(&own)), "{said}");
}

#[test]
fn without_a_field_what_needs_it_is_off() {
    needs_probes!();
    let resolved = btf::resolve(Path::new(btf::PATH)).expect("the kernel's types");
    let without = |gone: &dyn Fn(&str) -> bool| {
        let mut resolved = resolved.clone();
        for (slot, (field, structure, paths)) in resolved.offsets.as_slice_mut().iter_mut().zip(Offsets::FIELDS) {
            if gone(field) {
                *slot = ABSENT;
                resolved.absent.insert(field, format!("struct {structure} has no {}", paths.join(" or ")));
            }
        }
        probes::check_with(&Settings::default(), &resolved).expect("the probes load")
    };
    // What no probe needs, all do without.
    let needed = |field: &str| REGISTRY.iter().any(|probe| probe.needs.contains(&field));
    for state in without(&|field| !needed(field)) {
        assert!(state.running, "{state:?}");
    }
    // Of what some need, those are off that do, and what builds on them.
    for (gone, expected, reason) in [
        ("task_sum_exec_runtime", &["sched"][..], "struct task_struct has no se.sum_exec_runtime"),
        ("tcp_bytes_acked", &["connections"], "struct tcp_sock has no bytes_acked"),
        ("sock_num", &["sockets", "tls"], "struct sock has no __sk_common.skc_num"),
    ] {
        let states = without(&|field| field == gone);
        let off: Vec<_> = states.iter().filter(|state| !state.running).collect();
        assert_eq!(off.iter().map(|state| state.name).collect::<Vec<_>>(), expected, "{states:?}");
        assert!(off[0].reason.as_deref().is_some_and(|text| text.contains(reason)), "{:?}", off[0]);
    }
}
