//! Which TLS libraries the processes of this host use, and where in their files the functions lie.

mod elf;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use elf::Elf;

/// A file, by device and inode number as `/proc/<pid>/maps` shows them.
pub type FileId = (Box<str>, u64);

/// A program file or library that a process executes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The file.
    pub file: FileId,
    /// Its addresses, as `/proc/<pid>/map_files` names them.
    pub range: String,
    /// Where the process sees it.
    pub path: PathBuf,
}

impl Mapped {
    fn name(&self) -> &[u8] {
        self.path.file_name().unwrap_or_default().as_bytes()
    }

    /// A path to the very file, whatever the process's mount namespace, and also when it was removed meanwhile.
    pub fn reachable(&self, procfs: &Path, pid: u32) -> Option<PathBuf> {
        let process = procfs.join(pid.to_string());
        let mapping = process.join("map_files").join(&self.range);
        let rooted = process.join("root").join(self.path.strip_prefix("/").unwrap_or(&self.path));
        [mapping, rooted].into_iter().find(|path| fs::metadata(path).is_ok_and(|file| file.is_file()))
    }
}

/// The files that a process executes from, each once.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn mapped(procfs: &Path, pid: u32) -> io::Result<Vec<Mapped>> {
    Ok(parse_maps(&fs::read(procfs.join(pid.to_string()).join("maps"))?))
}

/// `/proc/<pid>/maps`: addresses, rights, offset, device, inode, path.
fn parse_maps(text: &[u8]) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut rest = line;
        let mut field = || {
            let start = rest.iter().position(|&byte| byte != b' ').unwrap_or(rest.len());
            let end = rest[start..].iter().position(|&byte| byte == b' ').map_or(rest.len(), |at| start + at);
            let (field, after) = (&rest[start..end], &rest[end..]);
            rest = after;
            std::str::from_utf8(field).unwrap_or("")
        };
        let (addresses, rights, _, device, inode) = (field(), field(), field(), field(), field());
        let path = rest.trim_ascii_start();
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let Ok(inode) = inode.parse::<u64>() else { continue };
        if !rights.contains('x') || inode == 0 || !path.starts_with(b"/") {
            continue;
        }
        let file = (device.into(), inode);
        if found.iter().all(|mapped| mapped.file != file) {
            // `map_files` writes its numbers without leading zeros.
            let range: Vec<&str> = addresses.split('-').map(|number| number.trim_start_matches('0')).collect();
            found.push(Mapped { file, range: range.join("-"), path: OsStr::from_bytes(path).into() });
        }
    }
    found
}

/// Whether a file's name is one of libraries that [`functions`] may find something in.
pub fn is_library(mapped: &Mapped) -> bool {
    is_library_name(mapped.name())
}

fn is_library_name(name: &[u8]) -> bool {
    let shared = name.windows(3).any(|part| part == b".so");
    // It hands on to GnuTLS proper.
    let wrapper = name.starts_with(b"libgnutls-openssl.");
    shared
        && !wrapper
        && [&b"libssl"[..], b"libgnutls.", b"libgnutls-", b"libboringssl"].iter().any(|start| name.starts_with(start))
}

/// TLS libraries in the folders where this host's own programs find theirs.
pub fn of_host(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut libraries = Vec::new();
    let mut folders: Vec<PathBuf> = ["lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64"]
        .map(|folder| root.join(folder))
        .into();
    for folder in ["lib", "usr/lib"] {
        folders.push(root.join(folder).join(concat_triple()));
    }
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            if !is_library_name(entry.file_name().as_bytes()) {
                continue;
            }
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            // Symbolic links lead to the same file.
            if file.is_file() && !found.contains(&(file.dev(), file.ino())) {
                found.push((file.dev(), file.ino()));
                libraries.push(entry.path());
            }
        }
    }
    libraries
}

fn concat_triple() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// Offsets in an ELF file of those of the named functions that it exports or otherwise names, in the order of `names`.
///
/// # Errors
/// When the file cannot be read, or is no 64-bit ELF file.
pub fn functions(path: &Path, names: &[&str]) -> io::Result<Vec<Option<u64>>> {
    Elf::open(path)?.functions(names)
}

/// A program file smaller than this has no TLS library of its own in it, bytes.
const LEAST_STATIC_BYTES: u64 = 1 << 20;
/// Program files remembered.
const MAX_PROGRAMS: usize = 4096;

/// Remembers what program files were found to hold, since thousands of processes may run the same few.
#[derive(Default)]
pub struct Programs(HashMap<FileId, (i64, u64, bool)>);

impl Programs {
    /// Whether a program may have a TLS library linked in.
    pub fn may_hold(&mut self, file: &FileId, path: &Path, look: impl FnOnce() -> bool) -> bool {
        let Ok(metadata) = fs::metadata(path) else { return false };
        let version = (metadata.mtime_nsec() ^ metadata.mtime(), metadata.size());
        if metadata.size() < LEAST_STATIC_BYTES {
            return false;
        }
        if let Some((time, size, holds)) = self.0.get(file)
            && (*time, *size) == version
        {
            return *holds;
        }
        if self.0.len() >= MAX_PROGRAMS {
            self.0.clear();
        }
        let holds = look();
        self.0.insert(file.clone(), (version.0, version.1, holds));
        holds
    }
}

/// The program file among what a process executes from.
pub fn program(procfs: &Path, pid: u32, mapped: &[Mapped]) -> Option<usize> {
    let path = fs::read_link(procfs.join(pid.to_string()).join("exe")).ok()?;
    let bytes = path.as_os_str().as_bytes();
    let path = Path::new(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)));
    mapped.iter().position(|mapped| mapped.path == path)
}

/// Why nothing of a process's TLS can be read, judging by the files that it executes from; for one that has none of the
/// libraries that can be looked into.
pub fn why_not(procfs: &Path, pid: u32, mapped: &[Mapped]) -> &'static str {
    let has = |start: &[u8]| mapped.iter().any(|mapped| mapped.name().starts_with(start));
    let program = program(procfs, pid, mapped).and_then(|index| mapped[index].reachable(procfs, pid));
    if has(b"libjvm.so") {
        "Java does TLS by itself"
    } else if program.is_some_and(|path| has_section(&path, &[".go.buildinfo", ".note.go.buildid"])) {
        "Go does TLS by itself"
    } else if has(b"libnss3.so") || has(b"libssl3.so") {
        "its TLS library is NSS, which is not looked into"
    } else if has(b"libmbedtls") || has(b"libwolfssl") {
        "its TLS library is not looked into (only OpenSSL and GnuTLS are)"
    } else {
        "its TLS library is linked in without symbols (as rustls and BoringSSL often are)"
    }
}

fn has_section(path: &Path, names: &[&str]) -> bool {
    Elf::open(path).and_then(|elf| elf.has_section(names)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5581d1a00000-5581d1a20000 r--p 00000000 fe:00 131                        /usr/bin/server
5581d1a20000-5581d1b20000 r-xp 00020000 fe:00 131                        /usr/bin/server
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7f1100000000-7f1100001000 r-xp 00000000 00:2d 77                         /usr/lib/a folder/libssl.so.3 (deleted)
00400000-00401000 r-xp 00000000 fe:00 132                                /opt/old
7f1200000000-7f1200001000 r-xp 00000000 00:2d 77                         /usr/lib/a folder/libssl.so.3
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
broken";

    #[test]
    fn files_executed_from_are_found_once() {
        let found = parse_maps(MAPS.as_bytes());
        let found: Vec<_> =
            found.iter().map(|it| (&*it.file.0, it.file.1, &*it.range, it.path.to_str().unwrap())).collect();
        assert_eq!(
            found,
            [
                ("fe:00", 131, "5581d1a20000-5581d1b20000", "/usr/bin/server"),
                ("00:2d", 77, "7f1100000000-7f1100001000", "/usr/lib/a folder/libssl.so.3"),
                ("fe:00", 132, "400000-401000", "/opt/old"),
            ]
        );
    }

    #[test]
    fn libraries_are_known_by_name() {
        for name in
            ["libssl.so.3", "libssl.so.1.1", "libssl-3e69114b.so.1.1.1k", "libgnutls.so.30", "libgnutls-1a.so.30"]
        {
            assert!(is_library_name(name.as_bytes()), "{name}");
        }
        for name in
            ["libcrypto.so.3", "libgnutlsxx.so.30", "libgnutls-openssl.so.27", "libssl.a", "ssl.so", "libgnutls"]
        {
            assert!(!is_library_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_file_of_another_namespace_is_reached_through_its_process() {
        let procfs = tempfile::tempdir().unwrap();
        let mapped = Mapped { file: ("fe:00".into(), 7), range: "7f00-7f01".into(), path: "/lib/libssl.so.3".into() };
        assert_eq!(mapped.reachable(procfs.path(), 42), None);
        let rooted = procfs.path().join("42/root/lib/libssl.so.3");
        fs::create_dir_all(rooted.parent().unwrap()).unwrap();
        fs::write(&rooted, "").unwrap();
        assert_eq!(mapped.reachable(procfs.path(), 42), Some(rooted));
        let mapping = procfs.path().join("42/map_files/7f00-7f01");
        fs::create_dir_all(mapping.parent().unwrap()).unwrap();
        fs::write(&mapping, "").unwrap();
        assert_eq!(mapped.reachable(procfs.path(), 42), Some(mapping));
    }

    #[test]
    fn functions_are_found_in_this_very_program() {
        let own = std::env::current_exe().unwrap();
        let names = ["SSL_surely_not", "gnutls_surely_not"];
        assert_eq!(functions(&own, &names).unwrap(), [None, None]);
        assert!(functions(&own, &["main"]).unwrap()[0].is_some());
        assert!(functions(Path::new("/proc/self/maps"), &names).is_err());
        assert!(!has_section(&own, &[".go.buildinfo"]) && has_section(&own, &[".text"]));
        let mapped = mapped(Path::new("/proc"), std::process::id()).unwrap();
        let program = program(Path::new("/proc"), std::process::id(), &mapped).unwrap();
        assert_eq!(mapped[program].path, own);
        assert!(why_not(Path::new("/proc"), std::process::id(), &mapped).contains("without symbols"));
    }

    #[test]
    fn functions_are_found_in_the_hosts_library() {
        for library in of_host(Path::new("/")) {
            if library.to_string_lossy().contains("libssl.so") {
                let found = functions(&library, &["SSL_read", "SSL_write", "SSL_nothing"]).unwrap();
                assert!(found[0].is_some() && found[1].is_some() && found[2].is_none(), "{}", library.display());
            }
        }
    }
}
