//! The few system calls that the standard library has no safe form of.

use std::{ffi::CString, io, ptr, time::Duration};

use procfs::process::{Process, StatFlags};

/// A user's numbers in the system's user database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub user: u32,
    /// Its main group.
    pub group: u32,
}

/// Those that this process has.
pub fn own_ids() -> Ids {
    // SAFETY: these two cannot fail and touch no memory.
    unsafe { Ids { user: libc::geteuid(), group: libc::getegid() } }
}

/// Looks a user up; none where there is none of that name.
///
/// # Errors
/// When the database cannot be read.
pub fn find_user(name: &str) -> io::Result<Option<Ids>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: passwd is plain integers and pointers, for which zero is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the buffer has the length that is given.
        let error = unsafe {
            libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match error {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(Ids { user: entry.pw_uid, group: entry.pw_gid })),
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            // Some libraries say so when there is none of that name, getpwnam_r(3).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether a user or a group of the system has this number.
///
/// # Errors
/// When the database cannot be read.
pub fn is_users_or_groups(id: u32) -> io::Result<bool> {
    let mut buffer = vec![0; 1024];
    // SAFETY: passwd and group are plain integers and pointers, for which zero is a valid value.
    let (mut user, mut group): (libc::passwd, libc::group) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let (mut found_user, mut found_group) = (ptr::null_mut(), ptr::null_mut());
    loop {
        let (start, length) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: all pointers are valid for the calls, and the buffer has the length that is given; only whether something
        // was found is looked at.
        let errors = unsafe {
            [
                libc::getpwuid_r(id, &raw mut user, start, length, &raw mut found_user),
                libc::getgrgid_r(id, &raw mut group, start, length, &raw mut found_group),
            ]
        };
        match errors.into_iter().find(|error| ![0, libc::ENOENT, libc::ESRCH].contains(error)) {
            None => return Ok(!found_user.is_null() || !found_group.is_null()),
            Some(libc::ERANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            Some(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Becomes that user, with its main group alone. For a process of one thread, between fork and exec.
///
/// # Errors
/// The kernel's.
pub fn become_user(ids: Ids) -> io::Result<()> {
    // SAFETY: one group is read from a valid pointer; the others take plain integers.
    unsafe {
        check(libc::setgroups(1, &raw const ids.group))?;
        check(libc::setgid(ids.group))?;
        check(libc::setuid(ids.user))
    }
}

/// Gives up, for this process and all it starts, to gain privileges by starting a program.
///
/// # Errors
/// The kernel's.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Closes this process to debuggers without privileges, also of the same user, and keeps its memory, which holds what others
/// said, out of core dumps.
///
/// # Errors
/// The kernel's.
pub fn close_to_debuggers() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Has the kernel kill this process when the thread that forked it ends. Becoming another user resets it.
///
/// # Errors
/// The kernel's.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

/// Sends SIGTERM to a child of this process that has not been waited for.
pub fn terminate(child: &std::process::Child) {
    // SAFETY: plain integers. The pid is the child's own as long as it has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
}

/// Waits for threads that are in the middle of their end, up to a second. The last thread of a process closes its files; one that
/// had begun to end by itself does so with SIGKILL pending, by which the others end it, and then the kernel does not
/// let go of uprobes ("failed to unregister, leaking uprobe").
pub fn await_ending_threads() {
    let ending = || -> procfs::ProcResult<bool> {
        let stats = Process::myself()?.tasks()?.flatten().filter_map(|thread| thread.stat().ok());
        Ok(stats
            .map(|stat| StatFlags::from_bits_truncate(stat.flags))
            .any(|flags| flags.contains(StatFlags::PF_EXITING)))
    };
    for _ in 0..200 {
        if !ending().unwrap_or(false) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the callers give options that take an integer, or a pointer that is valid.
    check(unsafe { libc::prctl(option, argument, none, none, none) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        assert_eq!(find_user("root").unwrap(), Some(Ids { user: 0, group: 0 }));
        assert_eq!(find_user("no such user").unwrap(), None);
        assert_eq!(find_user("a\0b").unwrap(), None);
        assert!(is_users_or_groups(0).unwrap());
        assert!(!is_users_or_groups(61_184 + 4321).unwrap());
    }
}
