//! The child: answers of files that it is given, until its socket is closed.

use std::{collections::BTreeMap, env, fs::File, io, os::fd::AsFd};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{
    elf::Elf,
    message::{self, Answer, Question},
};

/// Address space, bytes: the program itself, and what it holds of a file at a time.
const MEMORY_BYTES: u64 = 256 << 20;

/// Answers what comes by the socket that is stdin, confined from the start. Privileges must have been given up before.
///
/// # Errors
/// When it cannot be confined, or the socket fails.
pub fn serve() -> io::Result<()> {
    // What parses a stranger's file is not given another thread, so the calls of one are all that is allowed.
    confine()?;
    let stdin = io::stdin();
    while let Some((question, file)) = message::receive(stdin.as_fd())? {
        let answer = file.map_or_else(
            || Answer::Failed("no file came with the question".into()),
            |file| answer(&question, file.into()).unwrap_or_else(|error| Answer::Failed(error.to_string())),
        );
        message::send(stdin.as_fd(), &answer, None)?;
    }
    Ok(())
}

/// Looks into a file.
///
/// # Errors
/// When it cannot be read, or is no ELF file of this machine.
pub fn answer(question: &Question, file: File) -> io::Result<Answer> {
    let elf = Elf::read(file)?;
    Ok(match question {
        Question::Functions(names) => Answer::Functions(elf.functions(&borrowed(names))?),
        Question::HasSection(names) => Answer::HasSection(elf.has_section(&borrowed(names))?),
    })
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn confine() -> io::Result<()> {
    // What the collector's own starter may have left open. Kernels before 5.9 do not know the call.
    // SAFETY: nothing of this process uses a descriptor above those of stdin, stdout and stderr.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    for (what, limit) in [(libc::RLIMIT_AS, MEMORY_BYTES), (libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, 0)] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the limit is valid for the call.
        if unsafe { libc::setrlimit(what, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // Also sets no_new_privs. Whoever calls what is not allowed is killed.
    seccompiler::apply_filter(&filter().map_err(io::Error::other)?).map_err(io::Error::other)
}

/// What the child may call: read what it was given, take memory, answer, end.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let always = [
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_pread64,
        libc::SYS_statx,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = always.into_iter().map(|call| (call, Vec::new())).collect();
    // Memory, but none that could be executed.
    let no_code = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC.cast_unsigned().into()),
        0,
    )?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![no_code.clone()])?]);
    }
    // A panic's words.
    let to_stderr = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 2)?;
    rules.insert(libc::SYS_write, vec![SeccompRule::new(vec![to_stderr])?]);
    let architecture = env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?.try_into()
}
