//! `cargo xtask test`: every check and test, the quick ones first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{as_root, can_be_root, find_program, read, run, version};
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{arm64, build, fuzz, kernels, package, probes, setup, web};

/// The crate whose tests load probes and start servers, as root.
const LIVE: &str = "tests";

const QUICK: Duration = Duration::from_secs(5 * 60);
const LONG: Duration = Duration::from_secs(20 * 60);

/// Runs everything, or with a filter only the tests whose name contains it. False when something failed.
pub fn run_all(workspace: &Workspace, filter: Option<&str>) -> bool {
    let mut tally = Tally::default();
    if filter.is_none() {
        checks(workspace, &mut tally);
    }
    part(&mut tally, "web page", |tally| web_tests(workspace, filter, tally));
    if build_and_set_up(workspace, &mut tally) {
        if filter.is_none() {
            lints_of_probes(workspace, &mut tally);
        }
        tally.check("packages", || package::make(workspace, package::Effort::Fast).map(drop));
        part(&mut tally, "Rust tests", |tally| rust_tests(workspace, filter, tally));
        part(&mut tally, "browser tests", |tally| browser_tests(workspace, filter, tally));
    }
    if filter.is_none() {
        fuzz::run_in(workspace, Duration::from_secs(60), &mut tally);
        arm64::run_in(workspace, &mut tally);
    }
    tally.finish()
}

/// A part that cannot even begin is a failure of its own; the others go on.
fn part(tally: &mut Tally, name: &str, run: impl FnOnce(&mut Tally) -> Result<()>) {
    if let Err(error) = run(tally) {
        tally.check(name, || Err(error));
    }
}

fn checks(workspace: &Workspace, tally: &mut Tally) {
    if version("cargo", &["fmt", "--version"]).is_none() {
        return tally.skip("format", "this Rust has no rustfmt");
    }
    for (name, folder) in
        [("format", ""), ("format of the probes", "probe-ebpf"), ("format of the fuzz targets", "tests/fuzz")]
    {
        let folder = workspace.root.join(folder);
        if folder.join("Cargo.toml").exists() {
            tally.check(name, || run(Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(folder)));
        }
    }
}

fn web_tests(workspace: &Workspace, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    if filter.is_none() {
        tally.check("types of the web page", || run(web::npm(workspace, "web")?.args(["run", "--silent", "check"])));
    }
    let build = workspace.web().join("build");
    if build.exists() {
        // Left by tests that are gone.
        fs::remove_dir_all(&build)?;
    }
    let compiled = tally.check("build of the web page's tests", || {
        run(web::npm(workspace, "web")?.args(["exec", "--", "tsc", "-p", "tsconfig.test.json"]))
    });
    if compiled {
        let mut command = setup::with_path(node_tests(filter), &setup::node(workspace)?)?;
        command.args(test_files(&build.join("test"))?).current_dir(workspace.web());
        tally.runner("unit tests of the web page", QUICK, &mut command);
    }
    Ok(())
}

/// Node's test runner; the files come after.
fn node_tests(filter: Option<&str>) -> Command {
    let mut command = Command::new("node");
    command.args(["--test", "--test-concurrency=1"]);
    command.args(filter.map(|filter| format!("--test-name-pattern={filter}")));
    command
}

/// `*.test.*` in the folder, in order.
fn test_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(".test")))
        .collect();
    files.sort();
    Ok(files)
}

/// Builds the programs; beside it what the tests need is fetched, which takes the network's time, not the processors'.
/// False where the programs were not built.
fn build_and_set_up(workspace: &Workspace, tally: &mut Tally) -> bool {
    // Before: two must not install packages at once.
    if !tally.check("probes and page", || build::prepare(workspace)) {
        return false;
    }
    thread::scope(|scope| {
        let fetched = scope.spawn(|| {
            let set_up = timed(|| setup::tests(workspace));
            // A test reads how each of them lays out its structures.
            let kernels = kernels::cannot_run().is_none().then(|| timed(|| kernels::fetch(workspace)));
            (set_up, kernels)
        });
        let built = tally.check("build", || build::programs(workspace).map(drop));
        let (set_up, kernels) = fetched.join().expect("fetching does not panic");
        tally.timed("set-up of the tests", set_up);
        match (kernels, kernels::cannot_run()) {
            (Some(kernels), _) => drop(tally.timed("kernels to test with", kernels)),
            (None, reason) => tally.skip("kernels to test with", reason.unwrap_or_default()),
        }
        built
    })
}

fn timed(work: impl FnOnce() -> Result<()>) -> (Duration, Result<()>) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn has_clippy() -> bool {
    version("cargo", &["clippy", "--version"]).is_some()
}

/// The lints of the probes, as far as a host compiler can read them. Those of the workspace come with the build of its tests.
fn lints_of_probes(workspace: &Workspace, tally: &mut Tally) {
    if !has_clippy() {
        return tally.skip("lints of the probes", "this Rust has no clippy");
    }
    tally.check("lints of the probes", || {
        run(Command::new("cargo")
            .args(["clippy", "--release", "--locked", "--", "-D", "warnings"])
            .current_dir(workspace.root.join("probe-ebpf"))
            .env("CARGO_TARGET_DIR", workspace.probes_target())
            // The probes use unstable features, which the compiler that builds them has anyway.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", probes::host_flags()))
    });
}

/// A compiled test runner.
#[derive(Debug, PartialEq)]
pub struct Runner {
    /// Folder of its crate, where cargo would start it.
    pub package: PathBuf,
    pub target: String,
    pub executable: PathBuf,
}

/// Builds some files of tests; returns the runners of the live ones, and the others.
pub fn build_tests<'a>(
    workspace: &Workspace,
    files: impl Iterator<Item = &'a str>,
) -> Result<(Vec<Runner>, Vec<Runner>)> {
    let mut command = build::cargo(workspace, "test");
    command.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let listing = read(command.args(files.flat_map(|file| ["--test", file])))?;
    sort_runners(workspace, &listing)
}

/// Builds all there is, tests and examples, by the compiler that also lints, where there is one: a `cargo clippy` would check
/// all that the workspace stands on once more, the SQL engine first of all. Returns the runners, and how many lints were broken.
fn build_and_lint(workspace: &Workspace) -> Result<(Vec<Runner>, Vec<Runner>, usize)> {
    let mut command = build::cargo(workspace, "test");
    command.args(["--all-targets", "--no-run", "--message-format=json"]);
    if has_clippy() {
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    }
    let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
    let listing = String::from_utf8(output.stdout).context("cargo's messages")?;
    let said = diagnostics(&listing)?;
    said.iter().for_each(|text| eprint!("{text}"));
    if !output.status.success() {
        bail!("the tests cannot be built ({})", output.status);
    }
    let (live, unit) = sort_runners(workspace, &listing)?;
    Ok((live, unit, said.len()))
}

fn sort_runners(workspace: &Workspace, listing: &str) -> Result<(Vec<Runner>, Vec<Runner>)> {
    let live = workspace.root.join(LIVE);
    Ok(runners(listing)?.into_iter().partition(|runner| runner.package == live && runner.target != "hitscope_tests"))
}

/// What the compiler says in cargo's messages of the workspace's own crates, each once: a crate is also built with its tests.
fn diagnostics(listing: &str) -> Result<BTreeSet<String>> {
    let mut said = BTreeSet::new();
    for line in listing.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("reading cargo's messages")?;
        let what = &message["message"];
        // A crate's last one only counts those before; it has no code and points nowhere.
        if message["reason"] == "compiler-message" && what["spans"].as_array().is_some_and(|spans| !spans.is_empty()) {
            said.insert(what["rendered"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(said)
}

fn rust_tests(workspace: &Workspace, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let (mut live, mut unit, mut broken) = (Vec::new(), Vec::new(), 0);
    let built = tally.check("build of the tests", || {
        (live, unit, broken) = build_and_lint(workspace)?;
        Ok(())
    });
    if !built {
        return Ok(());
    }
    if !has_clippy() {
        tally.skip("lints", "this Rust has no clippy");
    } else if filter.is_none() {
        tally.check("lints", || match broken {
            0 => Ok(()),
            broken => bail!("{broken} warnings, see above"),
        });
    }
    for runner in unit {
        let mut command = Command::new(&runner.executable);
        command.current_dir(&runner.package).env("CARGO_MANIFEST_DIR", &runner.package).args(filter);
        command.envs(environment(workspace));
        run_rust(workspace, &name(workspace, &runner), &mut command, tally);
    }
    if filter.is_none() {
        tally.runner("examples in docs", LONG, build::cargo(workspace, "test").args(["--doc", "--quiet"]));
    }
    for runner in &live {
        let name = name(workspace, runner);
        if !can_be_root() {
            tally.skip(&name, "must be root to load probes, and sudo asks for a password");
            continue;
        }
        // By `env`, since sudo drops variables. One at a time: they watch the whole host.
        let mut command = as_root("env")?;
        command.arg(format!("CARGO_MANIFEST_DIR={}", runner.package.display()));
        command.args(environment(workspace).map(|(key, value)| format!("{key}={}", value.display())));
        command.arg(&runner.executable).arg("--test-threads=1").args(filter).current_dir(&runner.package);
        run_rust(workspace, &name, &mut command, tally);
    }
    if filter.is_none() && kernels::cannot_run().is_none() {
        part(tally, "tests on other kernels", |tally| kernels::run_ends(workspace, &live, tally));
    }
    Ok(())
}

/// What tests may ask for.
fn environment(workspace: &Workspace) -> impl Iterator<Item = (&'static str, PathBuf)> {
    [
        ("HITSCOPE_BINARY", workspace.binary()),
        ("HITSCOPE_PACKAGES", package::folder(workspace)),
        ("HITSCOPE_PROBES", workspace.probes_object()),
        ("HITSCOPE_PYTHON", workspace.venv().join("bin/python")),
        ("HITSCOPE_KERNELS", workspace.kernels()),
        // A test that finds it cannot run here appends a line with its name and the reason.
        ("HITSCOPE_SKIPS", workspace.root.join("target/skips")),
    ]
    .into_iter()
}

fn run_rust(workspace: &Workspace, name: &str, command: &mut Command, tally: &mut Tally) {
    let skips = workspace.root.join("target/skips");
    let _ = fs::remove_file(&skips);
    tally.runner(name, LONG, command);
    for line in fs::read_to_string(&skips).unwrap_or_default().lines() {
        tally.passed_was_skipped(line);
    }
}

pub fn name(workspace: &Workspace, runner: &Runner) -> String {
    let package = runner.package.strip_prefix(&workspace.root).unwrap_or(&runner.package);
    format!("{} ({})", package.display(), runner.target)
}

/// The test executables that cargo's JSON messages name.
pub fn runners(listing: &str) -> Result<Vec<Runner>> {
    let mut runners = Vec::new();
    for line in listing.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("reading cargo's messages")?;
        let executable = message["executable"].as_str();
        // Examples, and programs that say they have no tests, are built to be looked at by the lints.
        let target = &message["target"];
        let has_tests = target["test"] != false && target["kind"][0] != "example";
        if let (Some(executable), Some(true), true) = (executable, message["profile"]["test"].as_bool(), has_tests) {
            let manifest = Path::new(message["manifest_path"].as_str().context("a message without manifest_path")?);
            runners.push(Runner {
                package: manifest.parent().context("a manifest lies in a folder")?.to_owned(),
                target: message["target"]["name"].as_str().unwrap_or_default().to_owned(),
                executable: executable.into(),
            });
        }
    }
    if runners.is_empty() {
        bail!("cargo named no test executables");
    }
    runners.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(runners)
}

/// Tests in a real browser: `tests/browser/*.test.*`, by node's runner.
fn browser_tests(workspace: &Workspace, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    const NAME: &str = "browser tests";
    let folder = workspace.root.join("tests/browser");
    let Some(chromium) = find_program("chromium") else {
        tally.skip(NAME, "no chromium");
        return Ok(());
    };
    if !can_be_root() {
        tally.skip(NAME, "must be root to load probes, and sudo asks for a password");
        return Ok(());
    }
    let path = setup::node(workspace)?;
    if folder.join("package.json").exists() {
        web::npm(workspace, "tests/browser")?;
    }
    let mut command = as_root("env")?;
    command.arg(format!("PATH={}", setup::path(&path)?.to_string_lossy()));
    command.arg(format!("HITSCOPE_CHROMIUM={}", chromium.display()));
    command.arg(format!("HITSCOPE_SCREENSHOTS={}", workspace.root.join("target/screenshots").display()));
    command.args(environment(workspace).map(|(key, value)| format!("{key}={}", value.display())));
    let node = node_tests(filter);
    command.arg(node.get_program()).args(node.get_args()).args(test_files(&folder)?).current_dir(&folder);
    tally.runner(NAME, LONG, &mut command);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_says_is_taken_once() {
        let warning = |spans: &str, text: &str| {
            format!(r#"{{"reason":"compiler-message","message":{{"spans":[{spans}],"rendered":"{text}"}}}}"#)
        };
        let listing = [warning("{}", "unused"), warning("{}", "unused"), warning("", "1 warning emitted")].join("\n");
        assert_eq!(diagnostics(&listing).unwrap().into_iter().collect::<Vec<_>>(), ["unused"]);
    }

    #[test]
    fn test_executables_are_found_in_cargos_messages() {
        let listing = concat!(
            "text that a build script printed\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"#,
            r#""profile":{"test":true},"executable":"/t/a-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"b"},"#,
            r#""profile":{"test":false},"executable":"/t/b"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"x","kind":["example"]},"#,
            r#""profile":{"test":true},"executable":"/t/x"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let expected = Runner { package: "/w/a".into(), target: "a".into(), executable: "/t/a-1".into() };
        assert_eq!(runners(listing).unwrap(), [expected]);
        assert!(runners("{}").is_err());
    }
}
