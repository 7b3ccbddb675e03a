//! The kernels to test with: kept in the cache, each as an image that QEMU boots and the description of its types.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::machine::Machine;
use super::mirror::{Mirror, Package, Series};
use crate::process::{describe, run, say};
use crate::workspace::Workspace;

/// A kernel in the cache.
pub struct Kernel {
    pub machine: Machine,
    /// As `uname -r` says.
    pub release: String,
    /// What QEMU boots.
    pub vmlinux: PathBuf,
}

/// Which kernel is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Exactly(Series),
    /// This one, or the nearest to be had.
    About(Series),
    Newest,
}

impl Wanted {
    /// `6.12` or `newest`
    pub fn parse(text: &str) -> Result<Self> {
        if text == "newest" {
            return Ok(Self::Newest);
        }
        parse_series(text).map(Self::Exactly).with_context(|| format!("`{text}` is no kernel: write 6.12, or newest"))
    }

    /// Which of these series, oldest first, is meant.
    fn among(self, series: &[Series]) -> Result<Series> {
        let found = match self {
            Self::Exactly(wanted) => series.iter().find(|known| **known == wanted),
            Self::About(wanted) => series.iter().find(|known| **known >= wanted).or(series.last()),
            Self::Newest => series.last(),
        };
        found.copied().with_context(|| {
            let known: Vec<String> = series.iter().map(|series| name(*series)).collect();
            format!("Debian has no {self:?}, but the kernels {}", known.join(", "))
        })
    }
}

/// `6.12`
fn name((major, minor): Series) -> String {
    format!("{major}.{minor}")
}

fn parse_series(text: &str) -> Option<Series> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// These kernels, with what is missing or old fetched; costs a few files' look-ups when nothing is.
pub fn fetch(workspace: &Workspace, machine: Machine, wanted: &[Wanted]) -> Result<Vec<Kernel>> {
    let folder = machine.kernels(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mirror = match Mirror::open(machine, &folder) {
        Ok(mirror) => mirror,
        Err(error) => {
            say!("taking kernels of an earlier run, if there are any: {error:#}");
            let series = kept(&folder)?;
            let kernels = wanted.iter().map(|wanted| cached(machine, &folder.join(name(wanted.among(&series)?))));
            return kernels.collect::<Result<_>>().map_err(|_| error);
        }
    };
    let series: Vec<Series> = mirror.series().collect();
    wanted
        .iter()
        .map(|wanted| {
            let series = wanted.among(&series)?;
            if let Wanted::About(meant) = wanted
                && *meant != series
            {
                say!("Debian has no kernel {} now; the nearest is {}", name(*meant), name(series));
            }
            let package = mirror.package(series).context("every series has a package")?;
            kernel(&mirror, package, &folder.join(name(series)))
        })
        .collect()
}

/// The series in the cache, oldest first.
fn kept(folder: &Path) -> Result<Vec<Series>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut series: Vec<Series> =
        entries.flatten().filter_map(|entry| parse_series(&entry.file_name().to_string_lossy())).collect();
    series.sort_unstable();
    Ok(series)
}

/// What an earlier run left in the folder of a series.
fn cached(machine: Machine, folder: &Path) -> Result<Kernel> {
    let release =
        fs::read_to_string(folder.join("release")).with_context(|| format!("reading {}", folder.display()))?;
    Ok(Kernel { machine, release, vmlinux: folder.join("vmlinux") })
}

/// The newest of a series, from the cache where it is there; an older one where the newest cannot be fetched.
fn kernel(mirror: &Mirror, package: &Package, folder: &Path) -> Result<Kernel> {
    let old = cached(mirror.machine, folder).ok();
    match old {
        Some(old) if old.release == package.release => Ok(old),
        old => match (unpack(mirror, package, folder), old) {
            (Ok(()), _) => cached(mirror.machine, folder),
            (Err(error), Some(old)) => {
                say!("taking {} of an earlier run: {error:#}", old.release);
                Ok(old)
            }
            (Err(error), None) => Err(error.context(format!("fetching the kernel {}", package.release))),
        },
    }
}

/// Fetches a kernel into its folder: `vmlinux`, the `btf` of this machine's kind, and `release`, which comes last.
fn unpack(mirror: &Mirror, package: &Package, folder: &Path) -> Result<()> {
    let next = folder.with_file_name("next");
    let _ = fs::remove_dir_all(&next);
    let packed = next.join("package");
    fs::create_dir_all(&packed).with_context(|| format!("creating {}", packed.display()))?;
    let image = mirror.fetch(package, &packed)?;
    let vmlinux = next.join("vmlinux");
    match mirror.machine {
        Machine::X86_64 => {
            decompress(&image, &vmlinux)?;
            let mut section = Command::new("objcopy");
            section.arg("--dump-section").arg(format!(".BTF={}", next.join("btf").display())).arg(&vmlinux);
            // Without an output it would write the input anew.
            run(section.arg("/dev/null"))?;
        }
        // It is neither compressed nor has it sections.
        Machine::Arm64 => fs::rename(&image, &vmlinux)?,
    }
    fs::remove_dir_all(&packed)?;
    fs::write(next.join("release"), &package.release)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&next, folder).with_context(|| format!("replacing {}", folder.display()))
}

/// Unpacks a bzImage, which saves the guest some seconds of doing so; where the payload lies is said in
/// Documentation/arch/x86/boot.rst of the kernel.
fn decompress(image: &Path, to: &Path) -> Result<()> {
    let name = || image.display().to_string();
    let mut file = File::open(image).with_context(name)?;
    let mut header = [0; 0x250];
    file.read_exact(&mut header).with_context(name)?;
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if &header[0x202..0x206] != b"HdrS" {
        bail!("{} is no bzImage", name());
    }
    // Old images say 0 and mean 4 sectors of set-up code, after the boot sector.
    let sectors = u64::from(if header[0x1f1] == 0 { 4 } else { header[0x1f1] }) + 1;
    let (offset, length) = (number(0x248), number(0x24c));
    file.seek(SeekFrom::Start(sectors * 512 + u64::from(offset)))?;
    let mut payload = vec![0; length as usize];
    file.read_exact(&mut payload).with_context(name)?;
    let program = match payload[..] {
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => bail!("{} is compressed in a way that is not known here", name()),
    };
    // The length of the image follows the compressed data.
    payload.truncate(payload.len().saturating_sub(4));
    let mut command = Command::new(program);
    command.arg("-dc").stdin(Stdio::piped()).stdout(File::create(to).with_context(|| to.display().to_string())?);
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    std::io::Write::write_all(&mut child.stdin.take().context("a pipe")?, &payload)?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(&command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_one_of_those_there_are() {
        let series = [(5, 10), (6, 12), (6, 19), (7, 3)];
        let among = |text| Wanted::parse(text).unwrap().among(&series);
        assert_eq!(among("6.12").unwrap(), (6, 12));
        assert_eq!(among("newest").unwrap(), (7, 3));
        assert!(among("5.15").unwrap_err().to_string().contains("5.10, 6.12"));
        assert_eq!(Wanted::About((6, 18)).among(&series).unwrap(), (6, 19));
        assert_eq!(Wanted::About((8, 0)).among(&series).unwrap(), (7, 3));
        assert!(Wanted::Newest.among(&[]).is_err());
        assert!(Wanted::parse("new").is_err());
    }
}
