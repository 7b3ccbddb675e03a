//! `cargo xtask package`: what people install. All of it goes to `target/packages`: a Debian and an RPM package, a tarball
//! and a container image, each with both programs, made without a daemon and without root.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::apt::{self, Package, Shown};
use crate::process::{describe, read, run, say};
use crate::stamp::Inputs;
use crate::workspace::{PROGRAMS, Workspace};
use crate::{build, setup};

/// A tool from crates.io, pinned.
type Tool = (&'static str, &'static str, &'static [&'static str]);
/// It leaves the work to other programs, and so is built without optimisation.
const DEB: Tool = ("cargo-deb", "3.8.0", &["--no-default-features", "--debug"]);
/// It packs by itself.
const RPM: Tool = ("cargo-generate-rpm", "0.21.1", &[]);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How much work goes into them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All of it for users, and small.
    Small,
    /// What tests look at: Debian's package and the image.
    Fast,
}

/// Where they come to lie.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target/packages")
}

/// Builds the programs and makes all of it.
pub fn package(workspace: &Workspace) -> Result<PathBuf> {
    build::build(workspace)?;
    make(workspace, Effort::Small)
}

/// Makes all of it of the programs that are built.
pub fn make(workspace: &Workspace, effort: Effort) -> Result<PathBuf> {
    let to = folder(workspace);
    let stamp = to.join("stamp");
    let made_of = made_of(workspace, effort)?;
    // What was made for users is good for tests, too.
    if made_of.is_done(&stamp) || self::made_of(workspace, Effort::Small)?.is_done(&stamp) {
        return Ok(to);
    }
    empty(&to)?;
    generated(workspace)?;
    debian(workspace, effort, &to)?;
    image(workspace, effort, &to)?;
    if effort == Effort::Small {
        rpm(workspace, &to)?;
        tarball(workspace, &to)?;
    }
    made_of.mark_done(&stamp)?;
    Ok(to)
}

fn made_of(workspace: &Workspace, effort: Effort) -> Result<Inputs> {
    let mut inputs = Inputs::new().value(effort == Effort::Small).value([DEB, RPM]).value(VERSION);
    let own =
        ["packaging", "docs/operations.md", "CHANGELOG.md", "userspace/hitscope/Cargo.toml", "xtask/src/package.rs"];
    for path in
        own.map(|path| workspace.root.join(path)).into_iter().chain(PROGRAMS.map(|name| workspace.program(name)))
    {
        inputs = inputs.path(&path)?;
    }
    Ok(inputs)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

/// Installs a tool where it is missing, and returns it.
fn tool(workspace: &Workspace, tool: Tool) -> Result<PathBuf> {
    let (name, version, options) = tool;
    let prefix = workspace.tools().join(name);
    let stamp = prefix.join("stamp");
    let inputs = Inputs::new().value(tool);
    if !inputs.is_done(&stamp) {
        setup::compiler()?;
        say!("install {name} {version} from crates.io into {} (writes packages)", prefix.display());
        let mut command = Command::new("cargo");
        command
            .args(["install", "--locked", "--quiet", "--root"])
            .arg(&prefix)
            .args(["--version", version])
            .args(options);
        // What is built for it is of no use afterwards. At the highest level it would take twice as long, for nothing.
        command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        run(command.arg(name).current_dir(std::env::temp_dir()))?;
        inputs.mark_done(&stamp)?;
    }
    Ok(prefix.join("bin").join(name))
}

/// Man pages and completions, which the programs write themselves.
fn generated(workspace: &Workspace) -> Result<()> {
    let to = workspace.root.join("target/generated");
    empty(&to)?;
    for name in PROGRAMS {
        run(Command::new(workspace.program(name)).arg("generate").arg(&to))?;
    }
    Ok(())
}

fn debian(workspace: &Workspace, effort: Effort, to: &Path) -> Result<()> {
    apt::install(&[Package {
        name: "xz-utils",
        shown_by: Shown::Program(&["xz"]),
        why: "compresses the Debian package",
    }])?;
    let mut command = Command::new(tool(workspace, DEB)?);
    command.args(["--package", "hitscope", "--no-build", "--no-strip", "--locked", "--quiet"]);
    command.args(["--compress-type", "xz", "--compress-system"]);
    if effort == Effort::Fast {
        command.arg("--fast");
    }
    // Where the stripped programs are.
    command.env("CARGO_TARGET_DIR", workspace.root.join("target")).arg("--output").arg(to);
    run(command.current_dir(&workspace.root).stdout(Stdio::null()))
}

fn rpm(workspace: &Workspace, to: &Path) -> Result<()> {
    let mut command = Command::new(tool(workspace, RPM)?);
    command.args(["generate-rpm", "--package", "userspace/hitscope", "--auto-req", "builtin", "--output"]).arg(to);
    command.args(["--payload-compress", "zstd", "--target-dir"]).arg(workspace.root.join("target"));
    run(command.current_dir(&workspace.root).stdout(Stdio::null()))
}

/// Both programs and all that goes with them, for hosts without a package manager that we know.
fn tarball(workspace: &Workspace, to: &Path) -> Result<()> {
    apt::install(&[Package { name: "zstd", shown_by: Shown::Program(&["zstd"]), why: "compresses the tarball" }])?;
    let name = format!("hitscope-{VERSION}-{}", std::env::consts::ARCH);
    let staged = to.join(&name);
    for program in PROGRAMS {
        copy(&workspace.program(program), &staged.join("bin").join(program))?;
    }
    let files = [
        ("packaging/hitscope.service", "systemd/hitscope.service"),
        ("packaging/hitscope-server.service", "systemd/hitscope-server.service"),
        ("packaging/hitscope.sysusers", "sysusers.d/hitscope.conf"),
        ("packaging/hitscope.toml", "hitscope.toml"),
        ("docs/operations.md", "operations.md"),
        ("CHANGELOG.md", "CHANGELOG.md"),
        ("LICENSE-MIT", "LICENSE-MIT"),
        ("LICENSE-APACHE", "LICENSE-APACHE"),
    ];
    for (from, inside) in files {
        copy(&workspace.root.join(from), &staged.join(inside))?;
    }
    for folder in ["man", "completions"] {
        let from = workspace.root.join("target/generated").join(folder);
        for entry in fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
            let path = entry?.path();
            copy(&path, &staged.join(folder).join(path.file_name().context("an entry has a name")?))?;
        }
    }
    let archive = to.join(format!("{name}.tar.zst"));
    run(tar(to).args(["--use-compress-program", "zstd -q -15 -T0", "--create", "--file"]).arg(archive).arg(&name))?;
    fs::remove_dir_all(staged).context("removing what was staged")
}

/// tar in that folder; the same files make the same archive, whoever makes it.
fn tar(folder: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=posix"]);
    command.args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]).current_dir(folder);
    command
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::copy(from, to).map(drop).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// The users of the image; what runs in it may know no other. The numbers are those of `packaging/image`.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nhitscope:x:990:990:hitscope:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nhitscope:x:990:\n";

/// Files of Debian's that the programs need beside their libraries: who may be trusted in TLS, and the terms of what is in
/// the image.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/share/doc/ca-certificates/copyright",
    "/usr/share/doc/libc6/copyright",
    "/usr/share/doc/libgcc-s1/copyright",
];

/// A container image of one layer: the programs, the libraries that they name, and nothing else: no shell, no package
/// manager. An archive both of the Open Container Initiative's layout and as `docker load` reads it.
fn image(workspace: &Workspace, effort: Effort, to: &Path) -> Result<()> {
    let (root, layout) = (to.join("root"), to.join("layout"));
    for folder in ["usr/bin", "etc/hitscope", "var/lib/hitscope", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder)).context("creating the image's folders")?;
    }
    // Debian's folders, as its programs' loader expects them.
    for name in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(root.join("usr").join(name)).context("creating the image's folders")?;
        symlink(format!("usr/{name}"), root.join(name)).context("linking the image's folders")?;
    }
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for name in PROGRAMS {
        copy(&workspace.program(name), &root.join("usr/bin").join(name))?;
        let libraries = read(Command::new("ldd").arg(workspace.program(name)))?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), &inside(Path::new(library)))?;
        }
    }
    for path in SYSTEM {
        copy(Path::new(path), &inside(Path::new(path)))?;
    }
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", "hosts: files dns\n")] {
        fs::write(root.join(path), text).with_context(|| format!("writing {path}"))?;
    }
    let licences = root.join("usr/share/doc/hitscope");
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&workspace.root.join(name), &licences.join(name))?;
    }

    fs::create_dir_all(layout.join("blobs/sha256")).context("creating the image's layout")?;
    let layer = to.join("layer.tar");
    run(tar(&root).args(["--mode=go-w,a+rX", "--create", "--file"]).arg(&layer).arg("."))?;
    let uncompressed = digest(&layer)?;
    let level = if effort == Effort::Small { "-9" } else { "-1" };
    run(Command::new("gzip").args(["--no-name", level]).arg(&layer))?;
    let layer = blob(&layout, &to.join("layer.tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let labels = json!({
        "org.opencontainers.image.title": "hitscope",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
    });
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/hitscope"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/bin"],
            "Labels": labels,
            "StopSignal": "SIGTERM",
            "Volumes": { "/var/lib/hitscope": {} },
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{uncompressed}")] },
        "history": [{ "created_by": "cargo xtask package" }],
    });
    let config = json_blob(&layout, &config, "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
        "annotations": labels,
    });
    let mut entry = json_blob(&layout, &manifest, "application/vnd.oci.image.manifest.v1+json")?;
    entry["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/hitscope:{VERSION}"),
        "org.opencontainers.image.ref.name": VERSION,
    });
    let path =
        |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().replace("sha256:", "blobs/sha256/");
    let tags = [format!("hitscope:{VERSION}"), "hitscope:latest".to_owned()];
    for (name, value) in [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", json!({ "schemaVersion": 2, "manifests": [entry] })),
        ("manifest.json", json!([{ "Config": path(&config), "RepoTags": tags, "Layers": [path(&layer)] }])),
    ] {
        fs::write(layout.join(name), value.to_string()).with_context(|| format!("writing {name}"))?;
    }
    let archive = to.join(format!("hitscope-{VERSION}-{}.oci.tar", std::env::consts::ARCH));
    run(tar(&layout).arg("--create").arg("--file").arg(archive).args([
        "blobs",
        "index.json",
        "manifest.json",
        "oci-layout",
    ]))?;
    for (name, file) in [("compose.yaml", "compose.yaml"), ("daemonset.yaml", "daemonset.yaml")] {
        copy(&workspace.root.join("packaging/image").join(file), &to.join(name))?;
    }
    fs::remove_dir_all(root).and_then(|()| fs::remove_dir_all(layout)).context("removing what was staged")
}

/// Puts a file into the layout under its digest; returns what others refer to it by.
fn blob(layout: &Path, file: &Path, media_type: &str) -> Result<Value> {
    let digest = digest(file)?;
    let size = fs::metadata(file).with_context(|| format!("reading {}", file.display()))?.len();
    fs::rename(file, layout.join("blobs/sha256").join(&digest))
        .with_context(|| format!("moving {}", file.display()))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size }))
}

fn json_blob(layout: &Path, value: &Value, media_type: &str) -> Result<Value> {
    let file = layout.join("next");
    fs::write(&file, value.to_string()).with_context(|| format!("writing {}", file.display()))?;
    blob(layout, &file, media_type)
}

/// SHA-256 of a file, in hexadecimal.
fn digest(file: &Path) -> Result<String> {
    let mut command = Command::new("sha256sum");
    let command = command.stdin(File::open(file).with_context(|| format!("opening {}", file.display()))?);
    let said = read(command)?;
    let digest = said.split_whitespace().next();
    digest.map(str::to_owned).with_context(|| format!("`{}` said {said:?}", describe(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha_256() {
        let file = std::env::temp_dir().join(format!("xtask-digest-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        assert_eq!(digest(&file).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        fs::remove_file(file).unwrap();
    }
}
