//! A process whose use of the machine is known, for the live tests.
//!
//! `burn MS THREADS CODE` uses so many milliseconds of CPU per thread and exits with the code; `syscalls N M` makes N
//! failing `close` and M `getppid` calls, then waits for the end of its input; `attach PID` tries to become that process's
//! debugger and exits with the error number.

use std::{env, hint::black_box, io::Read, process::ExitCode, thread};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok()).expect("a number");
    match arguments.first().map(String::as_str) {
        Some("burn") => {
            let ns = number(1) * 1_000_000;
            let threads: Vec<_> = (1..number(2)).map(|_| thread::spawn(move || burn(ns))).collect();
            burn(ns);
            threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
            ExitCode::from(u8::try_from(number(3)).expect("an exit code"))
        }
        Some("syscalls") => {
            for _ in 0..number(1) {
                // SAFETY: closes no descriptor: -1 is none.
                unsafe { libc::close(-1) };
            }
            for _ in 0..number(2) {
                // SAFETY: has no preconditions and cannot fail.
                unsafe { libc::getppid() };
            }
            println!("done");
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ExitCode::SUCCESS
        }
        Some("attach") => {
            let pid = libc::pid_t::try_from(number(1)).expect("a pid");
            let none = std::ptr::null_mut::<libc::c_void>();
            // SAFETY: this request takes no pointers.
            let result = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, none, none) };
            let errno = std::io::Error::last_os_error().raw_os_error().filter(|_| result != 0);
            ExitCode::from(errno.and_then(|errno| u8::try_from(errno).ok()).unwrap_or(0))
        }
        _ => panic!("burn, syscalls or attach"),
    }
}

/// Uses this much of the thread's CPU time.
fn burn(ns: u64) {
    let mut number = 1_u64;
    while thread_cpu_ns() < ns {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005));
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: points to a live timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
