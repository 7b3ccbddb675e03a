//! What a guest holds: hitscope, the live tests that are to run, PostgreSQL, and the libraries that these load.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::machine::Machine;
use super::tests::Suite;
use crate::process::{is_root, read, run};
use crate::workspace::PROGRAMS;

const POSTGRES: &str = "/usr/lib/postgresql/15";
const POSTGRES_SHARE: &str = "/usr/share/postgresql/15";
/// Of the user `postgres` in the guest.
const POSTGRES_USER: u32 = 100;
/// A database folder to copy, in the guest: making one there takes a minute.
const CLUSTER: &str = "/var/cluster";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:100:100::/tmp:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\npostgres:x:100:\nnogroup:x:65534:\n";

/// The guest's first program. Whoever reads its serial line goes by those that begin with `guest: `.
const INIT: &str = "#!/usr/bin/busybox sh
export PATH=/usr/bin:/usr/sbin HOME=/root LC_ALL=C
/usr/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=100% tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname guest
ip link set lo up
echo \"guest: up $(uname -r)\"
sh /tests
echo \"guest: ended $?\"
poweroff -f
";

/// Packages of which guests have something, with all that these depend on.
pub const PACKAGES: [&str; 5] = ["busybox", "openssl", "postgresql-15", "postgresql-client-15", "libgcc-s1"];

/// What a guest is to run, and what for.
pub struct Contents {
    pub machine: Machine,
    /// Where Debian's programs lie as in the guest.
    pub root: PathBuf,
    /// Folder of hitscope's own programs.
    pub release: PathBuf,
    pub suites: Vec<Suite>,
    /// Folder of [`super::tests::PROGRAMS`].
    pub programs: PathBuf,
}

/// Writes the archive; the same for all kernels, since none needs a module.
pub fn write(contents: &Contents, to: &Path) -> Result<()> {
    let Contents { machine, root, release, suites, programs } = contents;
    let mut image = Image::create(to, *machine, root, INIT)?;
    image.users("", "")?;
    image.postgres()?;
    for name in PROGRAMS {
        image.program(&release.join(name), &Path::new("/usr/bin").join(name))?;
    }
    image.tool("openssl")?;
    // The tests look for programs beside themselves.
    let programs = super::tests::PROGRAMS.map(|program| programs.join(program));
    for path in suites.iter().map(|suite| &suite.executable).chain(&programs) {
        image.program(path, path)?;
    }
    image.archive.text("/tests", 0o755, &script(suites))?;
    image.archive.finish()
}

/// Writes an archive that only says that it is up.
pub fn write_bare(to: &Path) -> Result<()> {
    let mut image = Image::create(to, Machine::X86_64, Path::new("/"), INIT)?;
    image.archive.text("/tests", 0o755, "")?;
    image.archive.finish()
}

/// Runs the tests; fails when one of their runners does.
fn script(suites: &[Suite]) -> String {
    let mut script = format!(
        "export HITSCOPE_LIMIT=300 HITSCOPE_BINARY=/usr/bin/hitscope HITSCOPE_SKIPS=/run/skips HITSCOPE_POSTGRES_CLUSTER={CLUSTER}\n\
         failed=0\n\
         echo \"guest: check $(hitscope check --format json)\"\n"
    );
    for suite in suites {
        let (folder, runner) = (suite.folder.display(), suite.executable.display());
        script += &format!(
            "mkdir -p {folder}; cd {folder}\nCARGO_MANIFEST_DIR={folder} {runner} --test-threads=1 --show-output --exact {} \
             || failed=1\n",
            suite.tests.join(" ")
        );
    }
    script + "sed 's/^/guest: skipped /' /run/skips 2>/dev/null\nexit $failed\n"
}

/// What a guest holds, as it is written.
pub struct Image {
    pub archive: Archive,
    machine: Machine,
    /// Where Debian's files lie as in the guest.
    root: PathBuf,
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    /// Begins one, with what every guest has.
    pub fn create(to: &Path, machine: Machine, root: &Path, init: &str) -> Result<Self> {
        let (archive, libraries) = (Archive::create(to)?, BTreeSet::new());
        let mut image = Self { archive, machine, root: root.to_owned(), libraries };
        for folder in ["/dev", "/proc", "/sys", "/run", "/root", "/usr/sbin"] {
            image.archive.folder(Path::new(folder), 0o755, 0)?;
        }
        image.archive.folder(Path::new("/tmp"), 0o1777, 0)?;
        image.archive.text("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n")?;
        let openssl = Path::new("/etc/ssl/openssl.cnf");
        // `openssl` looks for it under its own folder.
        for path in [openssl, Path::new("/usr/lib/ssl/openssl.cnf")] {
            image.archive.copy(&image.here(openssl), path, 0)?;
        }
        image.archive.text("/init", 0o755, init)?;
        image.tool("busybox")?;
        Ok(image)
    }

    /// Those of every guest, and lines of others.
    pub fn users(&mut self, users: &str, groups: &str) -> Result<()> {
        self.archive.text("/etc/passwd", 0o644, &format!("{PASSWD}{users}"))?;
        self.archive.text("/etc/group", 0o644, &format!("{GROUP}{groups}"))
    }

    /// Where a path of the guest's is on this machine.
    fn here(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// One of Debian's programs, at its place.
    pub fn debian(&mut self, path: &Path) -> Result<()> {
        self.program(&self.here(path), path)
    }

    /// One of Debian's programs, by its name.
    pub fn tool(&mut self, name: &str) -> Result<()> {
        let mut paths = ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name));
        let path = paths.find(|path| self.here(path).exists()).with_context(|| format!("no {name} here"))?;
        self.debian(&path)
    }

    /// A program and the libraries that it names.
    pub fn program(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.archive.copy(from, to, 0)?;
        for line in self.machine.ldd(&self.root, from)?.lines() {
            let Some(library) = library(line)? else { continue };
            if self.libraries.insert(library.clone()) {
                let inside = library.strip_prefix(&self.root).unwrap_or(&library);
                self.archive.copy(&library, &Path::new("/").join(inside), 0)?;
            }
        }
        Ok(())
    }

    /// Server and clients, and a fresh database folder.
    fn postgres(&mut self) -> Result<()> {
        let bin = Path::new(POSTGRES).join("bin");
        let (lib, share) = (Path::new(POSTGRES).join("lib"), Path::new(POSTGRES_SHARE));
        for program in ["pg_isready", "pgbench", "postgres", "psql"] {
            self.debian(&bin.join(program))?;
        }
        // The compiler of expressions is larger than all the rest, and is done without where it is missing.
        let wanted = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".so") && name != "llvmjit.so"
        };
        let here = self.here(&lib);
        for entry in fs::read_dir(&here).with_context(|| format!("reading {}", here.display()))? {
            let path = entry?.path();
            if wanted(&path) {
                self.program(&path, &lib.join(path.file_name().context("an entry has a name")?))?;
            }
        }
        let wanted = |path: &Path| path.extension().is_none_or(|extension| extension != "mo");
        self.archive.tree(&self.here(share), share, 0, &wanted)?;
        // The cache may lie where nobody else gets.
        let folder = std::env::temp_dir().join(format!("hitscope-cluster-{}", std::process::id()));
        make_cluster(&bin, &folder)?;
        self.archive.tree(&folder, Path::new(CLUSTER), POSTGRES_USER, &|_| true)?;
        let _ = fs::remove_dir_all(folder);
        Ok(())
    }
}

/// The path in a line of ldd's, if there is one.
fn library(line: &str) -> Result<Option<PathBuf>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [name, "=>", "not", "found"] => bail!("the library {name} is missing here"),
        [_, "=>", path, _] | [path, _] if path.starts_with('/') => Ok(Some(path.into())),
        // What the kernel itself brings, or a program without libraries.
        _ => Ok(None),
    }
}

/// A database folder as the live tests make theirs.
fn make_cluster(bin: &Path, folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    // The server's programs refuse to run as root.
    let mut initdb = if is_root() {
        let user = |flag| -> Result<u32> { Ok(read(Command::new("id").args([flag, "postgres"]))?.trim().parse()?) };
        let (uid, gid) = (user("-u")?, user("-g")?);
        chown(folder, Some(uid), Some(gid)).context("giving a folder to the user postgres")?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"])
            .arg(bin.join("initdb"));
        command
    } else {
        Command::new(bin.join("initdb"))
    };
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--pgdata"]);
    // The guest knows no other time zone.
    run(initdb.arg(folder).env("TZ", "GMT").stdout(std::process::Stdio::null()).current_dir("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let of = |line| library(line).unwrap();
        assert_eq!(
            of("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6".into())
        );
        assert_eq!(of("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"), Some("/lib64/ld-linux-x86-64.so.2".into()));
        assert_eq!(of("\tlinux-vdso.so.1 (0x7f)"), None);
        assert_eq!(of("\tnot a dynamic executable"), None);
        assert!(library("\tlibx.so => not found").is_err());
    }
}
