//! Which TLS libraries the processes of this host use, and where in their files the functions lie.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use hitscope_helper::Helper;

use crate::strangers;

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

    /// The very file, whatever the process's mount namespace, and also when it was removed meanwhile; where the kernel does not
    /// let us at mappings, what lies at its path now. Nothing where it is no regular file, or cannot be opened.
    pub fn open(&self, procfs: &Path, pid: u32) -> Option<File> {
        let mapping = procfs.join(pid.to_string()).join("map_files").join(&self.range);
        strangers::open_linked(&mapping).or_else(|_| strangers::open(procfs, pid, &self.path)).ok()
    }
}

/// The files that a process executes from, each once.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn mapped(procfs: &Path, pid: u32) -> io::Result<Vec<Mapped>> {
    let maps = File::open(procfs.join(pid.to_string()).join("maps"))?.take(MAX_MAPS_BYTES);
    parse_maps(BufReader::with_capacity(64 << 10, maps))
}

/// Most bytes of a process's list of mappings: it may have 65,530 (`vm.max_map_count`), of some hundred bytes each.
const MAX_MAPS_BYTES: u64 = 8 << 20;
/// Most files of one process; programs have some hundred at the most.
const MAX_MAPPED: usize = 1024;

/// `/proc/<pid>/maps`: addresses, rights, offset, device, inode, path.
fn parse_maps(mut text: impl BufRead) -> io::Result<Vec<Mapped>> {
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    let mut line = Vec::new();
    while found.len() < MAX_MAPPED {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let mut rest = line.strip_suffix(b"\n").unwrap_or(&line);
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
        let file: FileId = (device.into(), inode);
        if known.insert(file.clone()) {
            // `map_files` writes its numbers without leading zeros.
            let range: Vec<&str> = addresses.split('-').map(|number| number.trim_start_matches('0')).collect();
            found.push(Mapped { file, range: range.join("-"), path: OsStr::from_bytes(path).into() });
        }
    }
    Ok(found)
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

/// A program file smaller than this has no TLS library of its own in it, bytes.
const LEAST_STATIC_BYTES: u64 = 1 << 20;
/// Program files remembered.
const MAX_PROGRAMS: usize = 4096;

/// Remembers what program files were found to hold, since thousands of processes may run the same few.
#[derive(Default)]
pub struct Programs(HashMap<FileId, (i64, u64, bool)>);

impl Programs {
    /// Whether a program may have a TLS library linked in.
    pub fn may_hold(&mut self, file: &FileId, metadata: &Metadata, look: impl FnOnce() -> bool) -> bool {
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
pub fn why_not(procfs: &Path, pid: u32, mapped: &[Mapped], helper: &mut Helper) -> &'static str {
    let has = |start: &[u8]| mapped.iter().any(|mapped| mapped.name().starts_with(start));
    let mut of_go = |file: File| helper.has_section(&file, &[".go.buildinfo", ".note.go.buildid"]).unwrap_or(false);
    if has(b"libjvm.so") {
        "Java does TLS by itself"
    } else if program(procfs, pid, mapped).and_then(|index| mapped[index].open(procfs, pid)).is_some_and(&mut of_go) {
        "Go does TLS by itself"
    } else if has(b"libnss3.so") || has(b"libssl3.so") {
        "its TLS library is NSS, which is not looked into"
    } else if has(b"libmbedtls") || has(b"libwolfssl") {
        "its TLS library is not looked into (only OpenSSL and GnuTLS are)"
    } else {
        "its TLS library is linked in without symbols (as rustls and BoringSSL often are)"
    }
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
        let found = parse_maps(MAPS.as_bytes()).unwrap();
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

    /// As many as a process may have, each of a file of its own.
    #[test]
    fn what_a_process_maps_is_bounded() {
        let maps: String =
            (0..65_530).map(|inode| format!("{inode:x}000-{inode:x}fff r-xp 0 fe:00 {} /f\n", inode + 1)).collect();
        assert_eq!(parse_maps(maps.as_bytes()).unwrap().len(), MAX_MAPPED);
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
        let text = || mapped.open(procfs.path(), 42).map(|file| io::read_to_string(file).unwrap());
        assert_eq!(text(), None);
        let rooted = procfs.path().join("42/root/lib/libssl.so.3");
        fs::create_dir_all(rooted.parent().unwrap()).unwrap();
        fs::write(&rooted, "at its path").unwrap();
        assert_eq!(text().as_deref(), Some("at its path"));
        let mapping = procfs.path().join("42/map_files/7f00-7f01");
        fs::create_dir_all(mapping.parent().unwrap()).unwrap();
        fs::write(&mapping, "mapped").unwrap();
        assert_eq!(text().as_deref(), Some("mapped"));
    }

    #[test]
    fn functions_are_found_in_this_very_program() {
        let mut helper = Helper::default();
        let path = std::env::current_exe().unwrap();
        let own = File::open(&path).unwrap();
        let names = ["SSL_surely_not", "gnutls_surely_not"];
        assert_eq!(helper.functions(&own, &names).unwrap(), [None, None]);
        assert!(helper.functions(&own, &["main"]).unwrap()[0].is_some());
        assert!(helper.functions(&File::open("/proc/self/maps").unwrap(), &names).is_err());
        assert!(!helper.has_section(&own, &[".go.buildinfo"]).unwrap());
        assert!(helper.has_section(&own, &[".text"]).unwrap());
        let mapped = mapped(Path::new("/proc"), std::process::id()).unwrap();
        let program = program(Path::new("/proc"), std::process::id(), &mapped).unwrap();
        assert_eq!(mapped[program].path, path);
        assert!(why_not(Path::new("/proc"), std::process::id(), &mapped, &mut helper).contains("without symbols"));
    }

    #[test]
    fn functions_are_found_in_the_hosts_library() {
        for library in of_host(Path::new("/")) {
            if library.to_string_lossy().contains("libssl.so") {
                let file = File::open(&library).unwrap();
                let names = ["SSL_read", "SSL_write", "SSL_nothing"];
                let found = Helper::default().functions(&file, &names).unwrap();
                assert!(found[0].is_some() && found[1].is_some() && found[2].is_none(), "{}", library.display());
            }
        }
    }
}
