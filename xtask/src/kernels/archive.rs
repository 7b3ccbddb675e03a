//! The first file system of a guest, as the archive that a kernel unpacks at its start: cpio, in the form "newc" of
//! Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

pub struct Archive {
    output: BufWriter<File>,
    entries: u32,
    known: BTreeSet<PathBuf>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Archive {
    pub fn create(path: &Path) -> Result<Self> {
        let output = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut archive = Self { output: BufWriter::new(output), entries: 0, known: BTreeSet::new() };
        // Debian's folders of programs are links; whoever writes to /lib means /usr/lib.
        for name in ["bin", "lib", "lib64", "sbin"] {
            archive.folder(&Path::new("/usr").join(name), 0o755, 0)?;
            archive.entry(Path::new(name), LINK | 0o777, 0, format!("usr/{name}").as_bytes())?;
        }
        Ok(archive)
    }

    /// A folder, of this user and group.
    pub fn folder(&mut self, path: &Path, mode: u32, owner: u32) -> Result<()> {
        let path = inside(path);
        self.parents(&path)?;
        self.entry(&path, FOLDER | mode, owner, b"")
    }

    /// A file with these contents; root's.
    pub fn text(&mut self, path: &str, mode: u32, contents: &str) -> Result<()> {
        let path = inside(Path::new(path));
        self.parents(&path)?;
        self.entry(&path, FILE | mode, 0, contents.as_bytes())
    }

    /// A file of this machine's, or what a link to it shows; with the mode it has here.
    pub fn copy(&mut self, from: &Path, to: &Path, owner: u32) -> Result<()> {
        let name = || format!("reading {}", from.display());
        let mode = fs::metadata(from).with_context(name)?.permissions().mode() & 0o777;
        let path = inside(to);
        self.parents(&path)?;
        self.entry(&path, FILE | mode, owner, &fs::read(from).with_context(name)?)
    }

    /// A folder of this machine's with all that is wanted of it.
    pub fn tree(&mut self, from: &Path, to: &Path, owner: u32, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let name = || format!("reading {}", from.display());
        self.folder(to, fs::metadata(from).with_context(name)?.permissions().mode() & 0o777, owner)?;
        for entry in fs::read_dir(from).with_context(name)? {
            let path = entry.with_context(name)?.path();
            let to = to.join(path.file_name().context("an entry has a name")?);
            match path.metadata() {
                Ok(data) if data.is_dir() => self.tree(&path, &to, owner, wanted)?,
                Ok(data) if data.is_file() && wanted(&path) => self.copy(&path, &to, owner)?,
                // Of no use, or a link to nothing.
                _ => {}
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, 0, b"")?;
        self.output.flush().context("writing the archive")
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let parents: Vec<&Path> = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            self.entry(parent, FOLDER | 0o755, 0, b"")?;
        }
        Ok(())
    }

    /// Writes an entry, the first time that it comes.
    fn entry(&mut self, path: &Path, mode: u32, owner: u32, contents: &[u8]) -> Result<()> {
        if !self.known.insert(path.to_owned()) {
            return Ok(());
        }
        self.entries += 1;
        write(&mut self.output, self.entries, path, mode, owner, contents).context("writing the archive")
    }
}

fn write(output: &mut impl Write, inode: u32, path: &Path, mode: u32, owner: u32, contents: &[u8]) -> io::Result<()> {
    let name = path.as_os_str().as_encoded_bytes();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
    // Inode, mode, user, group, links, time, size, four device numbers, length of the name, no checksum.
    let name_length = length(name)? + 1;
    let fields = [inode, mode, owner, owner, 1, 0, length(contents)?, 0, 0, 0, 0, name_length, 0];
    output.write_all(b"070701")?;
    for field in fields {
        write!(output, "{field:08X}")?;
    }
    output.write_all(name)?;
    output.write_all(&[0; 4][..1 + padding(110 + name.len() + 1)])?;
    output.write_all(contents)?;
    output.write_all(&[0; 4][..padding(contents.len())])
}

/// What is missing to a multiple of four.
fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// The path in the archive, with Debian's links followed.
fn inside(path: &Path) -> PathBuf {
    let relative: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    match relative.iter().next().and_then(|first| first.to_str()) {
        Some("bin" | "lib" | "lib64" | "sbin") => Path::new("usr").join(relative),
        _ => relative,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_written_unpacks_to_the_same() {
        let folder = std::env::temp_dir().join(format!("xtask-archive-{}", std::process::id()));
        fs::create_dir_all(folder.join("from")).unwrap();
        fs::write(folder.join("from/one"), "abc").unwrap();
        fs::write(folder.join("from/two"), "").unwrap();
        let mut archive = Archive::create(&folder.join("cpio")).unwrap();
        archive.text("/lib/x/text", 0o600, "four").unwrap();
        archive.tree(&folder.join("from"), Path::new("/a/b"), 7, &|path| !path.ends_with("two")).unwrap();
        archive.finish().unwrap();
        let input = File::open(folder.join("cpio")).unwrap();
        let list = Command::new("busybox").args(["cpio", "-t"]).stdin(input).stderr(Stdio::null()).output();
        let list = String::from_utf8(list.unwrap().stdout).unwrap();
        let last: Vec<&str> = list.lines().skip_while(|line| *line != "usr/lib/x").collect();
        assert_eq!(last, ["usr/lib/x", "usr/lib/x/text", "a", "a/b", "a/b/one"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
