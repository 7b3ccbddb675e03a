//! Files of processes that are not ours, opened so that nothing which they could have prepared leads elsewhere or holds us up.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// Opens a regular file where a process sees it: `path` is looked up within the process's own root, as it would itself, so that
/// neither `..` nor links lead out of it (`RESOLVE_IN_ROOT`, openat2(2)). What is no regular file is not opened at all: a pipe
/// would wait for a writer, and a device may do something.
///
/// # Errors
/// Where there is no such process or file, it may not be read, or is none.
pub fn open(procfs: &Path, pid: u32, path: &Path) -> io::Result<File> {
    let root = procfs.join(pid.to_string()).join("root");
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    // SAFETY: all zero is a valid value of it.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let mut text = path.as_os_str().as_bytes().to_vec();
    text.push(0);
    // SAFETY: path and `how` outlive the call; the path ends in zero, and one with a zero within only ends earlier.
    let opened = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), text.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and it is nobody else's.
    let place = unsafe { OwnedFd::from_raw_fd(opened as i32) };
    reopen(File::from(place))
}

/// Opens what a link of the kernel's own below `/proc` leads to, such as `map_files/…`, where it is a regular file.
///
/// # Errors
/// As of [`open`].
pub fn open_linked(link: &Path) -> io::Result<File> {
    reopen(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(link)?)
}

/// Where a file that is open can be opened again, by this process.
pub fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// From a place in the file system, which opens nothing yet, to the file.
fn reopen(place: File) -> io::Result<File> {
    if !place.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
    }
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path_of(&place))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use super::*;

    /// A process 42 whose root is a folder of its own; beside it lies a file that it must not reach.
    fn process() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("42/root/etc")).unwrap();
        fs::write(folder.path().join("secret"), "of the host").unwrap();
        fs::write(folder.path().join("42/root/etc/hostname"), "web-0").unwrap();
        folder
    }

    fn text(folder: &tempfile::TempDir, path: &str) -> io::Result<String> {
        let mut text = String::new();
        open(folder.path(), 42, Path::new(path))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn nothing_leads_out_of_its_root() {
        let folder = process();
        let etc = folder.path().join("42/root/etc");
        assert_eq!(text(&folder, "etc/hostname").unwrap(), "web-0");
        symlink(folder.path().join("secret"), etc.join("absolute")).unwrap();
        symlink("../../../secret", etc.join("upwards")).unwrap();
        symlink("/proc/self/root", etc.join("magic")).unwrap();
        symlink("/etc/hostname", etc.join("within")).unwrap();
        for path in ["etc/absolute", "etc/upwards", "../../secret", "/../secret", "etc/magic/etc/passwd"] {
            assert!(text(&folder, path).is_err(), "{path}");
        }
        assert_eq!(text(&folder, "etc/within").unwrap(), "web-0", "as the process itself would see it");
    }

    #[test]
    fn what_would_wait_is_not_opened() {
        let folder = process();
        let pipe = folder.path().join("42/root/etc/pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends in zero and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let reasons = ["etc/pipe", "etc"].map(|path| text(&folder, path).unwrap_err().to_string());
        assert_eq!(reasons, ["no regular file"; 2]);
        assert_eq!(text(&folder, "etc/none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
