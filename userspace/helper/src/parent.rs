//! The process with privileges: asks a child, and replaces it.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::{
    child,
    message::{self, Answer, Question},
};

/// How long the child may look into one file.
const PATIENCE: Duration = Duration::from_secs(3);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that helpers of this process are started as, `PROGRAM helper`. Where it is not said, as in tests of what
/// asks them, files are looked into by the process itself.
pub fn use_program(path: PathBuf) {
    // Whoever is second names the same.
    let _ = PROGRAM.set(path);
}

/// Asks a child of strangers' files; one that does not answer in time, or ends, is replaced with the next question.
#[derive(Debug, Default)]
pub struct Helper {
    /// It, and its end of the socket; started when it is needed.
    child: Option<(Child, OwnedFd)>,
    killed: u64,
}

impl Helper {
    /// Ends the child until the next question, so that it takes no memory meanwhile.
    pub fn rest(&mut self) {
        if let Some((child, _)) = self.child.take() {
            end(child);
        }
    }

    /// How many children ended before their time, or had to be killed.
    pub fn killed(&self) -> u64 {
        self.killed
    }

    /// The child that runs, if one does.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|(child, _)| child.id())
    }

    /// Offsets in an ELF file of those of the named functions that it exports or otherwise names, in the order of `names`.
    ///
    /// # Errors
    /// When the file cannot be read, is no 64-bit ELF file, or looking into it took too long.
    pub fn functions(&mut self, file: &File, names: &[&str]) -> io::Result<Vec<Option<u64>>> {
        let question = Question::Functions(names.iter().map(|name| (*name).to_owned()).collect());
        let bytes = file.metadata()?.len();
        match self.ask(file, &question)? {
            Answer::Functions(offsets)
                if offsets.len() == names.len() && offsets.iter().flatten().all(|offset| *offset < bytes) =>
            {
                Ok(offsets)
            }
            _ => Err(self.dismiss("it answered something else")),
        }
    }

    /// Whether an ELF file has a section of one of these names.
    ///
    /// # Errors
    /// As of [`Self::functions`].
    pub fn has_section(&mut self, file: &File, names: &[&str]) -> io::Result<bool> {
        let question = Question::HasSection(names.iter().map(|name| (*name).to_owned()).collect());
        match self.ask(file, &question)? {
            Answer::HasSection(has) => Ok(has),
            _ => Err(self.dismiss("it answered something else")),
        }
    }

    fn ask(&mut self, file: &File, question: &Question) -> io::Result<Answer> {
        let Some(program) = PROGRAM.get() else { return child::answer(question, file.try_clone()?) };
        if self.child.is_none() {
            self.child = Some(start(program)?);
        }
        let Some((_, socket)) = &self.child else { return Err(io::ErrorKind::NotFound.into()) };
        let answer =
            message::send(socket.as_fd(), question, Some(file.as_fd())).and_then(|()| match wait(socket, PATIENCE)? {
                true => message::receive(socket.as_fd()),
                false => Err(io::ErrorKind::TimedOut.into()),
            });
        match answer {
            Ok(Some((Answer::Failed(reason), _))) => Err(io::Error::other(reason)),
            Ok(Some((answer, _))) => Ok(answer),
            Ok(None) => Err(self.dismiss("it ended")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.dismiss(&format!("it took longer than {} s", PATIENCE.as_secs())))
            }
            Err(error) => Err(self.dismiss(&error.to_string())),
        }
    }

    /// Ends the child; the next question starts another.
    fn dismiss(&mut self, why: &str) -> io::Error {
        self.killed += 1;
        let end = self.child.take().map(|(child, _)| end(child));
        let signal = end.flatten().filter(|signal| *signal != libc::SIGKILL);
        let signal = signal.map(|signal| format!(" by signal {signal}")).unwrap_or_default();
        io::Error::other(format!("the helper that looked into it was given up: {why}{signal}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.rest();
    }
}

/// Kills a child, also one that is stopped, and gives the signal that ended it. One that hangs in the kernel, at a file of a disk
/// that does not answer, is not waited for.
fn end(mut child: Child) -> Option<i32> {
    // It may have ended by itself.
    let _ = child.kill();
    for _ in 0..200 {
        match child.try_wait() {
            Ok(Some(status)) => return status.signal(),
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    None
}

fn start(program: &Path) -> io::Result<(Child, OwnedFd)> {
    let (here, there) = pair()?;
    let child = Command::new(program)
        .arg("helper")
        // Secrets of the configuration may be there.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(there))
        .spawn()?;
    Ok((child, here))
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for the two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) } != 0
    {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are new, and nobody else's.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Whether something comes in time; also the end does.
fn wait(socket: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, valid for the call.
        match unsafe { libc::poll(&raw mut polled, 1, left.as_millis() as libc::c_int) } {
            0 => return Ok(false),
            ready if ready > 0 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
