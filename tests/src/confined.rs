//! Programs that may do less than root: with few capabilities, under a filter of system calls, with parts of the host hidden.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};
use serde_json::{Value, json};

use crate::host::binary;

/// A user that owns nothing and is in no group.
pub const STRANGER: u32 = 54_321;

/// What the collector cannot do without, by the documentation.
pub const NEEDED: [&str; 4] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];
/// What its unit gives it.
pub const UNIT: [&str; 5] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search", "sys_admin"];

/// The start of a command line that runs what follows as [`STRANGER`], who has these capabilities and can get no others.
pub fn stranger(capabilities: &[&str]) -> Vec<String> {
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--no-new-privs"].map(str::to_owned);
    let sets = ["inh-caps", "ambient-caps", "bounding-set"].map(|option| format!("--{option}=-all{set}"));
    user.into_iter().chain(sets).collect()
}

/// The start of a command line that runs what follows in a mount namespace of its own, after this script of the shell.
pub fn with_mounts(script: &str) -> Vec<String> {
    let run = format!("set -e\n{script}\nexec \"$@\"");
    ["unshare", "--mount", "--propagation=private", "sh", "-c", &run, "sh"].map(str::to_owned).into()
}

/// The command of which this is the start.
pub fn command(start: &[String], program: impl AsRef<Path>) -> Command {
    let mut words = start.iter();
    let Some(first) = words.next() else { return Command::new(program.as_ref()) };
    let mut command = Command::new(first);
    command.args(words).arg(program.as_ref()).stdin(Stdio::null());
    command
}

/// A folder that [`STRANGER`] owns, below one that is open to all.
pub fn strangers_folder(parent: &Path) -> PathBuf {
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("a folder open to all");
    let folder = parent.join("stranger");
    fs::create_dir(&folder).expect("a folder");
    chown(&folder, Some(STRANGER), Some(STRANGER)).expect("a folder of another user");
    folder
}

/// Copies of both programs that every user may run, `hitscope` given; the clone may be closed to them.
pub fn binary_for_all(folder: &Path) -> PathBuf {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder open to all");
    for name in ["hitscope", "hitscope-server"] {
        let copy = folder.join(name);
        fs::copy(binary().with_file_name(name), &copy).expect("a copy of the program");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a program open to all");
    }
    folder.join("hitscope")
}

/// Has the kernel answer these system calls, where one of their rules applies or they have none, with the action.
pub fn filter(command: &mut Command, calls: BTreeMap<i64, Vec<SeccompRule>>, action: SeccompAction) {
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, action, architecture).expect("a filter");
    under(command, filter.try_into().expect("a filter's program"));
}

/// Has the command's process and its children run under a filter of system calls.
pub fn under(command: &mut Command, program: BpfProgram) {
    // SAFETY: between fork and exec there are only system calls; the program was made before.
    unsafe { command.pre_exec(move || seccompiler::apply_filter(&program).map_err(std::io::Error::other)) };
}

/// The unit's own filter of system calls, with the death of who calls another; `None` where systemd does not tell its groups.
pub fn units_filter() -> Option<BpfProgram> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/hitscope.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).expect("its filter");
    let mut names: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let mut calls = Vec::new();
    while let Some(name) = names.pop() {
        if name.starts_with('@') {
            let output = Command::new("systemd-analyze").args(["syscall-filter", &name]).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let members = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            names.extend(members.skip(1).map(str::to_owned));
        } else {
            calls.push(name);
        }
    }
    // Those of other architectures have no number here.
    let known: Vec<&str> = calls.iter().map(String::as_str).filter(|name| allow_list(&[name]).is_some()).collect();
    assert!(known.len() > 200, "{known:?}");
    allow_list(&known)
}

fn allow_list(calls: &[&str]) -> Option<BpfProgram> {
    let rules: Vec<Value> = calls.iter().map(|name| json!({ "syscall": name })).collect();
    let filter = json!({ "mismatch_action": "kill_process", "match_action": "allow", "filter": rules });
    let text = json!({ "unit": filter }).to_string();
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    seccompiler::compile_from_json(text.as_bytes(), architecture).ok()?.remove("unit")
}

/// What `hitscope check` said.
#[derive(Debug)]
pub struct Checked {
    pub code: Option<i32>,
    facts: Vec<Value>,
}

impl Checked {
    /// Runs `check` by a command that ends with the program.
    pub fn by(command: &mut Command) -> Self {
        let output = command.args(["check", "--format", "json"]).output().expect("hitscope starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let facts =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}, {output:?}, of {command:?}"));
        Self { code: output.status.code(), facts }
    }

    /// State, reason and mend of a fact: `limited: …; mend: …`.
    #[track_caller]
    pub fn say(&self, name: &str) -> String {
        let fact = self.facts.iter().find(|fact| fact["name"] == name);
        let fact = fact.unwrap_or_else(|| panic!("nothing of {name} in {self:#?}"));
        let text = |key: &str| fact[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(fact["state"] == "ok", fact["mend"].is_null(), "{fact}");
        format!("{}: {}; mend: {}", text("state"), text("reason"), text("mend"))
    }

    /// The fact's state and words contain all of these.
    #[track_caller]
    pub fn assert_says(&self, name: &str, parts: &[&str]) {
        let said = self.say(name);
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}\n{self:#?}");
        }
    }

    /// Names of what is not ok.
    pub fn wanting(&self) -> Vec<&str> {
        self.facts.iter().filter(|fact| fact["state"] != "ok").filter_map(|fact| fact["name"].as_str()).collect()
    }
}
