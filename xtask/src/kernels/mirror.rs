//! Debian's kernel packages, from the mirror that this machine's own apt uses, by an apt configuration of our own: the
//! machine's package lists and its installed packages stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::machine::Machine;
use crate::process::{is_root, read, run, say};
use crate::stamp::Inputs;

/// Suites with kernels of other versions. The security suites follow the long-term ones, backports the newest.
const SECURITY_SUITES: [&str; 2] = ["bullseye-security", "bookworm-security"];
const SUITES: [&str; 1] = ["trixie-backports"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Lists are read again after this long.
const LISTS_LAST: Duration = Duration::from_secs(24 * 3600);

/// Major and minor version: `6.12`.
pub type Series = (u32, u32);

/// The image packages of one series are told apart by their name's numbers; the newest counts.
pub struct Mirror {
    pub machine: Machine,
    folder: PathBuf,
    newest: BTreeMap<Series, Package>,
}

/// A package that holds a kernel's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `6.12.117+deb12-cloud-amd64`
    pub release: String,
}

impl Mirror {
    /// Reads the package lists, anew where they are older than a day.
    pub fn open(machine: Machine, folder: &Path) -> Result<Self> {
        let mut mirror = Self { machine, folder: folder.join("apt"), newest: BTreeMap::new() };
        let stamp = mirror.folder.join("updated");
        let age = stamp.metadata().and_then(|data| data.modified()).map(|time| SystemTime::now().duration_since(time));
        let fresh = matches!(age, Ok(Ok(age)) if age < LISTS_LAST);
        if !fresh && let Err(error) = mirror.update(&stamp) {
            if !stamp.exists() {
                return Err(error.context("reading the lists of Debian's kernel packages"));
            }
            say!("the lists of Debian's kernel packages stay as they are: {error:#}");
        }
        mirror.newest = mirror.images()?;
        if mirror.newest.is_empty() {
            bail!("Debian's package lists name no kernel for {}", machine.debian());
        }
        Ok(mirror)
    }

    fn update(&self, stamp: &Path) -> Result<()> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install debian-archive-keyring");
        }
        let archives = Archives::of(&read(
            Command::new("apt-get")
                .args(["indextargets", "--no-release-info", "--format"])
                .args(["$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]),
        )?)?;
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        fs::write(self.folder.join("sources.list"), archives.sources(self.machine))?;
        say!("apt-get update, with lists of our own ({} and {})", SECURITY_SUITES.join(", "), SUITES.join(", "));
        run(self.apt("apt-get").args(["-qq", "update"]))?;
        fs::write(stamp, "").with_context(|| format!("writing {}", stamp.display()))
    }

    /// apt-get or apt-cache with nothing of the machine's but how it reaches the mirror.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: String| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        option("APT::Architecture", self.machine.debian().into());
        option("APT::Architectures", self.machine.debian().into());
        option("Dir::Etc::sourcelist", self.folder.join("sources.list").display().to_string());
        option("Dir::State::lists", self.folder.join("lists").display().to_string());
        option("Dir::Cache", self.folder.display().to_string());
        for name in
            ["Dir::Etc::sourceparts", "Dir::Etc::preferences", "Dir::Etc::preferencesparts", "Dir::State::status"]
        {
            option(name, "/dev/null".into());
        }
        option("Acquire::Languages", "none".into());
        option("Acquire::Retries", "3".into());
        // An old suite is no longer signed anew; its kernels are just what is wanted.
        option("Acquire::Check-Valid-Until", "false".into());
        if is_root() {
            // The user that apt would fetch as may not write here.
            option("APT::Sandbox::User", "root".into());
        }
        command
    }

    /// The newest image of each series: what a metapackage names, or else what is there.
    fn images(&self) -> Result<BTreeMap<Series, Package>> {
        let architecture = self.machine.debian();
        let names = read(self.apt("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let meta: Vec<String> = names
            .lines()
            .filter(|name| is_metapackage(name, architecture))
            .map(ToOwned::to_owned)
            .chain([format!("linux-image-cloud-{architecture}")])
            .collect();
        let depends = read(self.apt("apt-cache").arg("show").args(meta))?;
        let mut newest = newest(depends.split([' ', ',', '\n']), architecture);
        for (series, package) in self::newest(names.lines(), architecture) {
            newest.entry(series).or_insert(package);
        }
        Ok(newest)
    }

    /// The package of a series.
    pub fn package(&self, series: Series) -> Option<&Package> {
        self.newest.get(&series)
    }

    /// Every series there is, oldest first.
    pub fn series(&self) -> impl DoubleEndedIterator<Item = Series> {
        self.newest.keys().copied()
    }

    /// Fetches the package and unpacks its image, `vmlinuz`, somewhere into `folder`.
    pub fn fetch(&self, package: &Package, folder: &Path) -> Result<PathBuf> {
        let release = &package.release;
        let image = format!("linux-image-{release}");
        let record = read(self.apt("apt-cache").args(["show", &image]))?;
        // From 7.x on, the image package only names the one that has it.
        let binary = format!("linux-binary-{release}");
        let name = if record.contains(&binary) { binary } else { image };
        say!("fetch {name} from Debian into {} (a kernel to test with)", folder.display());
        run(self.apt("apt-get").args(["-qq", "download", &name]).current_dir(folder))?;
        let package = find(folder, &|name| name.ends_with(".deb")).context("apt-get left no package")?;
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder))?;
        find(folder, &|name| name.starts_with("vmlinuz")).with_context(|| format!("{name} holds no vmlinuz"))
    }

    /// Fetches packages with all that they depend on, and unpacks them below `root`; costs a look-up when they are there.
    pub fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let stamp = root.with_extension("stamp");
        let inputs = Inputs::new().value(packages);
        if inputs.is_done(&stamp) && root.exists() {
            return Ok(());
        }
        say!("fetch {} for {} from Debian into {}", packages.join(", "), self.machine.debian(), root.display());
        let _ = fs::remove_dir_all(root);
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let archives = self.folder.join("archives");
        // Others may be older ones of the same.
        run(self.apt("apt-get").arg("clean"))?;
        run(self
            .apt("apt-get")
            .args(["-qq", "--yes", "--no-install-recommends", "--download-only", "install"])
            .args(packages))?;
        for entry in fs::read_dir(&archives).with_context(|| format!("reading {}", archives.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(root))?;
            }
        }
        run(self.apt("apt-get").arg("clean"))?;
        inputs.mark_done(&stamp)
    }
}

/// `linux-image-6.12-cloud-amd64`
fn is_metapackage(name: &str, architecture: &str) -> bool {
    release(name, architecture).and_then(|release| release.split('-').next()).is_some_and(|version| {
        version.split('.').count() == 2 && version.split('.').all(|part| part.parse::<u32>().is_ok())
    })
}

/// The part of an image package's name after `linux-image-`, where it begins with a version.
fn release<'a>(name: &'a str, architecture: &str) -> Option<&'a str> {
    let release = name.strip_prefix("linux-image-")?;
    let ours = release.strip_suffix(architecture)?.ends_with("-cloud-");
    (ours && release.starts_with(|first: char| first.is_ascii_digit())).then_some(release)
}

/// The newest of the image packages among these words, for each series.
fn newest<'a>(names: impl Iterator<Item = &'a str>, architecture: &str) -> BTreeMap<Series, Package> {
    let mut found: BTreeMap<Series, (Vec<u32>, Package)> = BTreeMap::new();
    for name in names.filter(|name| !is_metapackage(name, architecture)) {
        let Some(release) = release(name, architecture) else { continue };
        let numbers: Vec<u32> =
            release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        let [major, minor, ..] = numbers[..] else { continue };
        let package = Package { release: release.to_owned() };
        match found.get(&(major, minor)) {
            Some((known, _)) if *known >= numbers => {}
            _ => drop(found.insert((major, minor), (numbers, package))),
        }
    }
    found.into_iter().map(|(series, (_, package))| (series, package)).collect()
}

/// The first file below the folder whose name is wanted.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        match entry.file_type().ok()? {
            kind if kind.is_dir() => find(&path, wanted),
            kind if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) => Some(path),
            _ => None,
        }
    })
}

/// Where Debian's archives are, as this machine's apt knows them.
#[derive(Debug, PartialEq)]
struct Archives {
    main: String,
    security: String,
    /// That of this machine.
    suite: String,
}

impl Archives {
    /// From lines of URI, suite and component.
    fn of(targets: &str) -> Result<Self> {
        let find = |path: &str, secures: bool| {
            targets.lines().find_map(|line| {
                let mut words = line.split(' ');
                let (uri, suite, component) = (words.next()?, words.next()?, words.next()?);
                let ours = component == "main" && suite.ends_with("-security") == secures;
                (ours && uri.trim_end_matches('/').ends_with(path)).then(|| (uri.to_owned(), suite.to_owned()))
            })
        };
        match (find("/debian", false), find("/debian-security", true)) {
            (Some((main, _)), Some((security, suite))) => {
                Ok(Self { main, security, suite: suite.trim_end_matches("-security").to_owned() })
            }
            _ => {
                bail!("this machine's apt has no sources of Debian and its security updates, so no kernels can be had")
            }
        }
    }

    fn sources(&self, machine: Machine) -> String {
        let line = |uri: &str, suite: &str| format!("deb [target=Packages signed-by={KEYRING}] {uri} {suite} main\n");
        let security = SECURITY_SUITES.iter().map(|suite| line(&self.security, suite));
        // Of another architecture programs are wanted, too.
        let programs = (machine != Machine::X86_64).then(|| line(&self.main, &self.suite));
        security.chain(SUITES.iter().map(|suite| line(&self.main, suite))).chain(programs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_image_of_each_series_counts() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-image-6.18.9+deb13-cloud-amd64",
            "linux-image-6.18.15+deb13-cloud-amd64",
            "linux-image-6.18.16+deb13-amd64",
            "linux-image-6.18.17+deb13-cloud-amd64-unsigned",
            "linux-image-6.18.17+deb13-cloud-arm64",
        ];
        let found = newest(names.into_iter(), "amd64");
        let releases: Vec<_> = found.iter().map(|(series, package)| (*series, &*package.release)).collect();
        assert_eq!(releases, [((6, 1), "6.1.0-56-cloud-amd64"), ((6, 18), "6.18.15+deb13-cloud-amd64")]);
    }

    #[test]
    fn debians_archives_are_found_among_others() {
        let targets = "http://mirror/docker/debian bookworm stable\nhttp://mirror/debian/ bookworm main\n\
                       http://mirror/debian/ bookworm-updates main\nhttp://safe/debian-security bookworm-security main\n";
        let archives = Archives::of(targets).unwrap();
        assert_eq!((&*archives.main, &*archives.security), ("http://mirror/debian/", "http://safe/debian-security"));
        let has = |machine, line| archives.sources(machine).contains(line);
        assert!(has(Machine::X86_64, "http://safe/debian-security bullseye-security main\n"));
        const PROGRAMS: &str = "http://mirror/debian/ bookworm main\n";
        assert!(has(Machine::Arm64, PROGRAMS) && !has(Machine::X86_64, PROGRAMS));
        assert!(Archives::of("http://mirror/debian/ bookworm main\n").is_err());
    }
}
