//! What is installed: the units, that they open as little as they need, and the packages.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hitscope_tests::{
    host::{binary, is_root},
    postgres::succeed,
    skip,
};
use serde_json::Value;
use tempfile::TempDir;

const UNITS: [&str; 2] = ["hitscope.service", "hitscope-server.service"];

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}

fn has_systemd() -> bool {
    Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn systemd_accepts_the_units() {
    if !has_systemd() {
        skip!("there is no systemd-analyze");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A unit names programs that may not be installed here.
    let programs = binary().parent().expect("a folder").display().to_string();
    for name in UNITS {
        let text = fs::read_to_string(packaging(name)).expect("the unit");
        assert!(text.contains("ExecStart=/usr/bin/hitscope"), "{text}");
        let text = text.replace("=/usr/bin/hitscope", &format!("={programs}/hitscope"));
        fs::write(folder.path().join(name), text).expect("a copy of the unit");
    }
    let units = UNITS.map(|name| folder.path().join(name));
    let output = succeed(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units));
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("hitscope")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// By systemd's own reckoning, from 0 to 10. What is left is what each of them is there for.
#[test]
fn the_units_expose_little() {
    if !has_systemd() {
        skip!("there is no systemd-analyze");
    }
    for (name, most) in UNITS.into_iter().zip([4.0, 1.5]) {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager"]).arg(packaging(name));
        let output = succeed(&mut command);
        let said = String::from_utf8_lossy(&output.stdout);
        let level = said.split_once("exposure level for ").expect("a level").1.split(' ').nth(1).expect("a number");
        assert!(level.parse::<f64>().expect("a number") <= most, "{said}");
    }
}

/// What `cargo xtask package` made of this kind, by the end of its name.
fn made(end: &str) -> PathBuf {
    let folder = env::var_os("HITSCOPE_PACKAGES").expect("HITSCOPE_PACKAGES, which xtask sets");
    let entries = fs::read_dir(&folder).expect("the folder of packages").flatten();
    let mut found = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(end));
    found.next().unwrap_or_else(|| panic!("no {end} in {}", Path::new(&folder).display()))
}

/// This machine as it is, of which a test may do what it likes with a copy: what it writes lies in memory and goes with it.
struct Root {
    _folder: TempDir,
    path: PathBuf,
}

impl Root {
    fn copy_of_the_host() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (memory, path) = (folder.path().join("memory"), folder.path().join("root"));
        fs::create_dir(&memory).expect("a folder");
        fs::create_dir(&path).expect("a folder");
        succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&memory));
        for name in ["upper", "work"] {
            fs::create_dir(memory.join(name)).expect("a folder");
        }
        let layers = format!("lowerdir=/,upperdir={0}/upper,workdir={0}/work", memory.display());
        succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&path));
        let root = Self { _folder: folder, path };
        succeed(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.path.join("proc")));
        root
    }

    /// Runs a program in it, without the host's variables.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("chroot");
        command.arg(&self.path).args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").current_dir("/");
        command.output().expect("chroot starts")
    }

    /// What it printed.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn user(&self, name: &str) -> (u32, u32) {
        let id = |option: &str| self.says(&["id", option, name]).trim().parse().expect("a number");
        (id("-u"), id("-g"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let memory = self.path.with_file_name("memory");
        for path in [&self.path.join("proc"), &self.path, &memory] {
            // A panic may have come before it was mounted.
            let _ = Command::new("umount").arg(path).output();
        }
    }
}

/// The package with another version, as of another day.
fn with_version(package: &Path, version: &str, folder: &Path) -> PathBuf {
    let (contents, changed) = (folder.join("contents"), folder.join(format!("hitscope_{version}.deb")));
    succeed(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&contents));
    let control = contents.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("the package's description");
    let lines = text
        .lines()
        .map(|line| if line.starts_with("Version:") { format!("Version: {version}\n") } else { format!("{line}\n") });
    fs::write(&control, lines.collect::<String>()).expect("the package's description");
    succeed(
        Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--root-owner-group", "--build"]).arg(&contents).arg(&changed),
    );
    fs::remove_dir_all(contents).expect("the contents go");
    changed
}

/// In a copy of this machine: what an upgrade and a removal leave alone, and what a purge takes.
#[test]
fn the_deb_is_installed_upgraded_removed_and_purged() {
    if !is_root() {
        skip!("must be root to mount a copy of this machine");
    }
    let package = made(".deb");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let before = with_version(&package, "0.0.1", folder.path());
    let root = Root::copy_of_the_host();
    for (from, to) in [(&before, "before.deb"), (&package, "after.deb")] {
        fs::copy(from, root.at(to)).expect("a copy of the package");
    }

    // Installed, in the days when one user did it all.
    root.says(&["dpkg", "--install", "/before.deb"]);
    assert!(root.says(&["hitscope", "--version"]).starts_with("hitscope "));
    let collector = root.user("hitscope");
    let server = root.user("hitscope-server");
    assert!(collector.0 != 0 && server.0 != 0 && collector.0 != server.0);
    assert!(root.says(&["id", "-G", "hitscope-server"]).split_whitespace().any(|id| id == collector.1.to_string()));
    for unit in UNITS {
        assert_eq!(root.says(&["systemctl", "is-enabled", unit]), "enabled\n");
    }
    for file in [
        "usr/share/man/man1/hitscope-run.1.gz",
        "usr/share/man/man1/hitscope-server.1.gz",
        "usr/share/bash-completion/completions/hitscope",
        "usr/share/doc/hitscope/examples/hitscope.toml",
        "usr/share/doc/hitscope/copyright",
    ] {
        assert!(root.at(file).exists(), "{file}");
    }
    let example = root.says(&["hitscope", "config", "check", "/usr/share/doc/hitscope/examples/hitscope.toml"]);
    assert!(example.contains("is valid"), "{example}");

    // Used: a history and a configuration.
    root.write("etc/hitscope/hitscope.toml", "[history]\nmax_age = \"7d\"\n");
    root.write("etc/hitscope/hitscope.d/local.toml", "[history]\nmax_bytes = \"1GiB\"\n");
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("replays");
    let capture = fs::read_dir(capture).expect("replays").flatten().map(|entry| entry.path());
    let capture = capture.filter(|path| path.extension().is_some_and(|end| end == "hitscope" || end == "rec")).min();
    fs::copy(capture.expect("a recording"), root.at("capture")).expect("a copy of a recording");
    root.says(&["hitscope", "replay", "/capture"]);
    root.says(&["chown", "-R", "hitscope:hitscope", "/var/lib/hitscope"]);
    let count = ["hitscope", "query", "--format", "json", "SELECT count(*) AS n, sum(calls) AS calls FROM operations"];
    let rows: Value = serde_json::from_str(&root.says(&count)).expect("rows");
    assert!(rows[0]["n"].as_i64().is_some_and(|rows| rows > 0), "{rows}");
    root.says(&["systemctl", "disable", "hitscope-server.service"]);

    // Upgraded: all of that is there as before, and what was disabled stays so.
    root.says(&["dpkg", "--install", "/after.deb"]);
    assert_eq!(serde_json::from_str::<Value>(&root.says(&count)).expect("rows"), rows);
    let config = root.says(&["hitscope", "config", "check"]);
    assert!(config.contains("max_age = \"7d\"") && config.contains("max_bytes = \"1GiB\""), "{config}");
    assert_eq!((root.user("hitscope"), root.user("hitscope-server")), (collector, server));
    assert_eq!(root.says(&["systemctl", "is-enabled", "hitscope.service"]), "enabled\n");
    assert_eq!(root.run(&["systemctl", "is-enabled", "hitscope-server.service"]).stdout, b"disabled\n");

    // Removed: the programs are gone, what they made is not.
    root.says(&["dpkg", "--remove", "hitscope"]);
    for file in ["usr/bin/hitscope", "usr/bin/hitscope-server", "usr/lib/systemd/system/hitscope.service"] {
        assert!(!root.at(file).exists(), "{file}");
    }
    for file in ["etc/hitscope/hitscope.toml", "etc/hitscope/hitscope.d/local.toml", "var/lib/hitscope/history"] {
        assert!(root.at(file).exists(), "{file}");
    }

    // Purged: nothing of it is left but the users, who may own files elsewhere.
    root.says(&["dpkg", "--purge", "hitscope"]);
    for folder in ["etc/hitscope", "var/lib/hitscope", "usr/share/doc/hitscope"] {
        assert!(!root.at(folder).exists(), "{folder}");
    }
    let links = fs::read_dir(root.at("etc/systemd/system")).expect("units").flatten();
    let names: Vec<_> =
        links.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("hitscope")).collect();
    assert!(names.is_empty(), "{names:?}");
    assert_eq!(root.user("hitscope"), collector);
}

/// The layers put together, without a daemon: that the programs find all that they need in them.
#[test]
fn the_image_holds_all_that_the_programs_need() {
    if !is_root() {
        skip!("must be root to enter the image");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (layout, root) = (folder.path().join("layout"), folder.path().join("root"));
    for path in [&layout, &root] {
        fs::create_dir(path).expect("a folder");
    }
    succeed(Command::new("tar").arg("--extract").arg("--file").arg(made(".oci.tar")).arg("--directory").arg(&layout));
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON") };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
        let path = layout.join("blobs/sha256").join(digest);
        let said = succeed(Command::new("sha256sum").arg(&path));
        assert!(String::from_utf8_lossy(&said.stdout).starts_with(digest));
        assert_eq!(descriptor["size"].as_u64(), Some(fs::metadata(&path).expect("a blob").len()));
        path
    };
    assert_eq!(read(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let manifest = read(&blob(&read(&layout.join("index.json"))["manifests"][0]));
    let config = read(&blob(&manifest["config"]));
    for layer in manifest["layers"].as_array().expect("layers") {
        succeed(
            Command::new("tar").args(["--extract", "--gzip", "--file"]).arg(blob(layer)).arg("--directory").arg(&root),
        );
    }
    // As `docker load` finds it.
    let docker = &read(&layout.join("manifest.json"))[0];
    assert!(layout.join(docker["Config"].as_str().expect("a path")).exists());
    assert!(layout.join(docker["Layers"][0].as_str().expect("a path")).exists());

    let entry = config["config"]["Entrypoint"][0].as_str().expect("an entry point");
    let run = |words: &[&str]| {
        Command::new("chroot")
            .arg(&root)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .output()
            .expect("chroot starts")
    };
    for program in [entry, "/usr/bin/hitscope-server"] {
        let output = run(&[program, "--version"]);
        assert!(output.status.success() && output.stdout.starts_with(b"hitscope"), "{output:?}");
    }
    let output = run(&[entry, "config", "check"]);
    assert!(output.status.success(), "{output:?}");
    // The server finds its user, and its page's programs what they need for SQL.
    fs::create_dir_all(root.join("var/lib/hitscope/history")).expect("a folder");
    let output = run(&[entry, "query", "--format", "csv", "SELECT 40 + 2 AS n"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n42\n", "{output:?}");
    let mounted = root.join("proc");
    succeed(Command::new("mount").args(["-t", "proc", "proc"]).arg(&mounted));
    let output = run(&[entry, "check", "--format", "json"]);
    succeed(Command::new("umount").arg(&mounted));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(facts.as_array().is_some_and(|facts| !facts.is_empty()), "{facts}");

    let meta = fs::metadata(root.join("usr/bin/hitscope")).expect("the program");
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (0, 0o755));
    let names: Vec<_> =
        fs::read_dir(root.join("usr/bin")).expect("programs").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// The containers get what the unit gets, beside what root in a container needs to give the server its files.
#[test]
fn the_containers_have_the_units_capabilities() {
    let unit = fs::read_to_string(packaging("hitscope.service")).expect("the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a set");
    let names: Vec<&str> =
        line.split(' ').map(|name| name.trim_start_matches("CAP_")).chain(["CHOWN", "FOWNER"]).collect();
    let list = format!("[{}]", names.join(", "));
    for name in ["image/compose.yaml", "image/daemonset.yaml"] {
        let text = fs::read_to_string(packaging(name)).expect("a description of containers");
        assert_eq!(text.matches(&list).count(), 1, "{name}: {list}");
        assert!(text.contains("990"), "the user of the image");
    }
}
