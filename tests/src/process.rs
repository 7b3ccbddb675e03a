//! Processes, and what the kernel says that they used.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    process::{Child, Command},
};

/// An ended process.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub pid: u32,
    /// As a shell shows it: the exit code, or 128 and the signal.
    pub exit_code: i32,
    /// CPU of its whole life, user and kernel mode, as `wait4` tells it, ns.
    pub cpu_ns: u64,
}

/// Runs a command to its end.
pub fn run_measured(command: &mut Command) -> Ended {
    ended(command.spawn().expect("the command starts"))
}

/// Waits for a process.
pub fn ended(child: Child) -> Ended {
    let pid = child.id();
    let mut status = 0;
    // SAFETY: an rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values of the right type.
    let waited = unsafe { libc::wait4(pid.cast_signed(), &mut status, 0, &mut usage) };
    assert_eq!(waited, pid.cast_signed(), "{}", io::Error::last_os_error());
    let exit_code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Ended { pid, exit_code, cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime) }
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: takes two numbers; the process is ours and not waited for yet, or the call fails.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Has the kernel end the child with this signal should the test end before it.
pub fn ends_with_us(command: &mut Command, signal: i32) {
    // SAFETY: between fork and exec there is only this system call.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, signal) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

/// Start of a process in ticks since boot, its identity beside the pid; `None` when there is no such process, or only its
/// zombie.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    (fields.next()? != "Z").then(|| fields.nth(18)?.parse().ok())?
}
