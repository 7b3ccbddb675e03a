//! What other users and containers of the host write, or are, neither steers hitscope nor holds it up.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use hitscope_tests::{
    Daemon, Postgres,
    confined::{command, stranger, strangers_folder},
    host::python,
    needs_probes, number, skip, wait_until,
};

const CONTAINER: &str = "3f4b0c9d8e7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c";

/// Ends a process with its scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn python(script: &str, folder: &Path) -> Self {
        let mut command = command(&stranger(&[]), "/usr/bin/python3");
        Self(
            command.args(["-c", script]).arg("\u{1b}]0;title\u{7}").current_dir(folder).spawn().expect("python starts"),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// A cgroup named like a pod's, where this host lets one be made.
struct Pod(PathBuf);

impl Pod {
    fn make() -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
        let root = roots.iter().map(Path::new).find(|root| root.join("cgroup.procs").exists())?;
        let folder = root.join("kubepods/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9").join(CONTAINER);
        fs::create_dir_all(&folder).ok()?;
        Some(Self(folder))
    }

    /// A process within it whose root is this folder.
    fn run(&self, root: &Path) -> Running {
        fs::copy("/bin/busybox", root.join("busybox")).expect("a program without libraries");
        let procs = self.0.join("cgroup.procs");
        let root = CString::new(root.as_os_str().as_bytes()).expect("a path");
        let mut command = Command::new("/busybox");
        command.args(["sleep", "600"]);
        let enter = move || {
            fs::write(&procs, "0")?;
            // SAFETY: the path ends in zero.
            if unsafe { libc::chroot(root.as_ptr()) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            std::env::set_current_dir("/")
        };
        // SAFETY: the closure writes to a file and changes the root; it allocates little, and no other thread of the child runs.
        unsafe { command.pre_exec(enter) };
        Running(command.spawn().expect("busybox starts"))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        wait_until("the pod's processes are gone", || {
            fs::read_to_string(self.0.join("cgroup.procs")).map_or(true, |pids| pids.is_empty()).then_some(())
        });
        for folder in self.0.ancestors().take(3) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// An ELF file whose 4,096 sections are all tables of symbols, with their names in one of 4 GiB; it takes no room on the disk.
fn sparse_library(path: &Path) {
    let file = File::create(path).expect("a file");
    file.set_len(8 << 30).expect("a sparse file");
    let own = fs::read("/proc/self/exe").expect("this program");
    let mut header = own[..64].to_vec();
    header[40..48].copy_from_slice(&64_u64.to_ne_bytes()); // e_shoff
    header[56..58].copy_from_slice(&0_u16.to_ne_bytes()); // e_phnum
    header[60..62].copy_from_slice(&4096_u16.to_ne_bytes()); // e_shnum
    file.write_all_at(&header, 0).expect("a header");
    for index in 0..4096_u64 {
        let mut section = [0_u8; 64];
        let (kind, bytes): (u32, u64) = if index == 0 { (3, 4 << 30) } else { (11, 4 << 30) };
        section[4..8].copy_from_slice(&kind.to_ne_bytes()); // SHT_STRTAB, SHT_DYNSYM
        section[32..40].copy_from_slice(&bytes.to_ne_bytes()); // sh_size
        file.write_all_at(&section, 64 + index * 64).expect("a section");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("open to all");
}

#[test]
fn what_strangers_prepare_neither_steers_nor_stops_it() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open to all");
    let theirs = strangers_folder(folder.path());
    let daemon = Daemon::start();

    // Names that would steer a terminal.
    let script = "import ctypes, time\n\
                  ctypes.CDLL(None).prctl(15, b'\\x1b[2Jx\\xe2\\x80\\xae', 0, 0, 0)\n\
                  time.sleep(600)";
    let named = Running::python(script, &theirs);

    // A library that takes for ever to be looked into, and more mappings than anybody needs.
    sparse_library(&theirs.join("libssl.so.9"));
    let script = "import ctypes, os, time\n\
                  libc = ctypes.CDLL(None)\n\
                  libc.mmap.restype = ctypes.c_void_p\n\
                  libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]\n\
                  fd = os.open('libssl.so.9', os.O_RDONLY)\n\
                  for _ in range(60000):\n libc.mmap(None, 4096, 5, 2, fd, 0)\n\
                  time.sleep(600)";
    let mapping = Running::python(script, &theirs);
    wait_until("it has mapped them", || {
        let maps = fs::read(format!("/proc/{}/maps", mapping.pid())).ok()?;
        (maps.iter().filter(|byte| **byte == b'\n').count() > 60_000).then_some(())
    });

    // A pod's own `etc/hostname` that leads out of its root, or never comes.
    let secret = folder.path().join("secret");
    File::create(&secret).expect("a file").write_all(b"of-the-host\n").expect("its text");
    let pod = Pod::make();
    let mut pods = Vec::new();
    if let Some(pod) = &pod {
        for (name, absolute) in [("link", true), ("pipe", false)] {
            let root = folder.path().join(name);
            fs::create_dir_all(root.join("etc")).expect("a root");
            let host_name = root.join("etc/hostname");
            if absolute {
                symlink(&secret, &host_name).expect("a link");
            } else {
                let path = CString::new(host_name.as_os_str().as_bytes()).expect("a path");
                // SAFETY: the path ends in zero.
                assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
            }
            pods.push(pod.run(&root));
        }
    }

    let row = |running: &Running| {
        let sql = format!("SELECT command, arguments, service FROM processes WHERE pid = {} LIMIT 1", running.pid());
        daemon.wait_for(&sql).remove(0)
    };
    let sql = format!("SELECT 1 FROM processes WHERE pid = {} AND command = '\u{fffd}[2Jx\u{fffd}'", named.pid());
    daemon.wait_for(&sql);
    let arguments = row(&named)["arguments"].to_string();
    assert!(!arguments.contains('\u{7}') && !arguments.contains("\\u001b"), "{arguments}");
    for pod in &pods {
        assert_eq!(row(pod)["service"], "pod-0a1b2c3d");
    }
    let found = daemon.query("SELECT count(*) AS n FROM processes WHERE service LIKE '%of-the-host%'");
    assert_eq!(number(&found[0]["n"]), 0);

    // It goes on to trace, also encrypted connections of libraries that come later.
    let script = format!(
        "import psycopg, time\n\
         where = 'host=127.0.0.1 port={} user=postgres dbname=postgres'\n\
         with psycopg.connect(where, sslmode='disable') as c:\n \
          c.execute('select 1 as \"by\\x1b[31mname\"')\n\
         with psycopg.connect(where, sslmode='require') as c:\n \
          while True:\n  c.execute('select 1 as after_all', prepare=False); time.sleep(0.1)",
        postgres.port()
    );
    let client = Running(Command::new(python()).args(["-c", &script]).spawn().expect("python starts"));
    let found =
        daemon.wait_for("SELECT operation FROM hits WHERE side = 'client' AND operation LIKE '%[31mname%' LIMIT 1");
    assert_eq!(found[0]["operation"], "select ? as \"by\u{fffd}[31mname\"");
    daemon.wait_for("SELECT 1 FROM hits WHERE encrypted AND side = 'client' AND operation LIKE '%after_all' LIMIT 1");
    drop((client, pods, named, mapping));
    if pod.is_none() {
        skip!("this host lets no cgroup be made");
    }
}
