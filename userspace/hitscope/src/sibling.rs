//! `hitscope-server`, the other program: it has the SQL engine, the page and the alerts, and lies beside this one.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use hitscope_base::{Explain, Failure};

/// Its name.
pub const NAME: &str = "hitscope-server";

/// Where it is: beside this program, or else in the path.
///
/// # Errors
/// When it is in neither.
pub fn find() -> Result<PathBuf, Failure> {
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = beside.iter().cloned().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(NAME)).find(|program| is_program(program)).ok_or_else(|| {
        let place = beside.map_or_else(String::new, |folder| format!("in {} nor ", folder.display()));
        Failure::new(format!("cannot find the program {NAME}: it is neither {place}in the path"))
            .help("install it beside hitscope: both come in one package, and `cargo xtask build` builds both")
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Becomes that program, with the arguments of this one. Returns only where that fails.
pub fn hand_over() -> Failure {
    let program = match find() {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let error = Command::new(&program).args(env::args_os().skip(1)).exec();
    Failure::new(format!("cannot start {}: {error}", program.display())).help("it must be executable for this user")
}

/// The program's file, held open: so it can be started also by a user who may not enter its folder, and remains the one that
/// this program was installed with.
pub struct Held(File);

impl Held {
    /// Opens it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, Failure> {
        let program = find()?;
        let file: io::Result<File> = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&program);
        Ok(Self(file.explain(format!("cannot open {}", program.display()))?))
    }

    /// A command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        command.arg0(NAME);
        command
    }
}
