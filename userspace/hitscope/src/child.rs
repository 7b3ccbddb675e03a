//! `hitscope run` starts `hitscope serve` through this: as an ordinary user, without capabilities, and never without `run`.
//!
//! The server gets its configuration as one line of JSON on a pipe, its stdin, and ends when that pipe does. So it ends with
//! `run` however that ends; a kernel's signal at its parent's death is the second net.

use std::{
    io::{self, Write},
    os::unix::process::{CommandExt, parent_id},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hitscope_base::{Explain, Failure};
use hitscope_config::Sources;

use crate::{
    account::Account,
    capabilities::{Capabilities, drop_bounding_set},
    os,
    sibling::Held,
};

/// Pause before the first restart; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After running for this long, a server counts as well, and the pause begins anew.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How long the server may take to end before it is killed; and how long that may take then: the kernel may not let it go.
/// With the time to look, less than the 5 s in which `run` is to end.
const GRACE: Duration = Duration::from_secs(4);
const KILL_GRACE: Duration = Duration::from_millis(500);
/// How often it is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Variables that the server gets; hitscope's secrets come through the pipe, and the rest is none of its business.
const ENVIRONMENT: [&str; 13] = [
    "RUST_LOG",
    "RUST_BACKTRACE",
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
];

/// Looks after the server until it is told to stop.
pub struct Keeper {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

/// What the thread that looks after the server is told.
pub enum Order {
    /// End the server.
    Stop,
    /// Give this configuration to the server, and to each that is started after it.
    Configure(Box<Sources>),
}

impl Keeper {
    /// Starts the server and a thread that starts it again whenever it ends, and says so to `notes`. Once `ends` is set, it has the
    /// server end, while the collector does.
    ///
    /// # Errors
    /// When it cannot be started this first time.
    pub fn start(mut launch: Launch, notes: mpsc::Sender<String>, ends: Arc<AtomicBool>) -> Result<Self, Failure> {
        let (orders, told) = mpsc::channel();
        let (started, first_start) = mpsc::channel();
        // The kernel's signal at the parent's death is one at the death of the thread that forked; so this one forks, and lives
        // as long as the server.
        let thread = thread::Builder::new()
            .name("server-keeper".into())
            .spawn(move || keep(&mut launch, &Orders { told, ends }, &started, &notes))
            .explain("cannot start a thread")?;
        match first_start.recv() {
            Ok(Ok(())) => Ok(Self { orders, thread }),
            Ok(Err(error)) => Err(error).explain_help(
                "cannot start the server",
                "the file of hitscope-server must be executable for the user that the server runs as (server.user), or use --no-serve",
            ),
            Err(_) => Err(Failure::new("cannot start the server: its thread ended")),
        }
    }

    /// Takes orders for the server.
    pub fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// Tells the server to end, waits for it, and kills it when it takes too long.
    pub fn stop(self) {
        // The thread has ended only if it panicked; then nothing is left to stop.
        let _ = self.orders.send(Order::Stop);
        let _ = self.thread.join();
    }
}

/// What the thread is told.
struct Orders {
    told: mpsc::Receiver<Order>,
    ends: Arc<AtomicBool>,
}

impl Orders {
    /// The next, waited for up to so long.
    fn next(&self, timeout: Duration) -> Option<Order> {
        match self.told.recv_timeout(timeout) {
            _ if self.ends.load(Ordering::Relaxed) => Some(Order::Stop),
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
        }
    }
}

fn keep(
    launch: &mut Launch,
    orders: &Orders,
    first_start: &mpsc::Sender<io::Result<()>>,
    notes: &mpsc::Sender<String>,
) {
    let mut server = match launch.start() {
        Ok(server) => server,
        Err(error) => return drop(first_start.send(Err(error))),
    };
    if first_start.send(Ok(())).is_err() {
        return server.stop();
    }
    let (mut failures, mut in_all) = (0, 0);
    loop {
        let started = Instant::now();
        let ended = match server.watch(launch, orders) {
            Watched::Stop => return server.stop(),
            Watched::Ended(status) => describe(status),
        };
        failures = if started.elapsed() >= WELL_AFTER { 1 } else { failures + 1 };
        in_all += 1;
        let note = format!("the server ended ({ended}) and is started again; that makes {in_all} since the start");
        tracing::warn!("{note}; the next start is in {} s", pause_after(failures).as_secs());
        // Nobody listens any more when the collector has ended already.
        let _ = notes.send(note);
        loop {
            match orders.next(pause_after(failures)) {
                None => {}
                Some(Order::Configure(sources)) => {
                    launch.configure(&sources);
                    continue;
                }
                Some(Order::Stop) => return,
            }
            match launch.start() {
                Ok(again) => {
                    server = again;
                    break;
                }
                Err(error) => tracing::warn!("cannot start the server: {error}"),
            }
            failures += 1;
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE)
}

fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// How to start the server.
pub struct Launch {
    program: Held,
    handed: String,
    data_dir: PathBuf,
    account: Option<Account>,
    verbose: u8,
}

impl Launch {
    /// A server over that folder with the configuration that these sources make, as that user.
    ///
    /// # Errors
    /// When there is no such program, or a path in the configuration is not Unicode.
    pub fn new(sources: &Sources, data_dir: &Path, account: Option<Account>, verbose: u8) -> Result<Self, Failure> {
        let handed = handed(sources)?;
        Ok(Self { program: Held::open()?, handed, data_dir: data_dir.to_owned(), account, verbose })
    }

    /// From the next start on with this configuration. False where it cannot be handed over.
    fn configure(&mut self, sources: &Sources) -> bool {
        let handed = handed(sources);
        if let Err(failure) = &handed {
            tracing::error!("{}", failure.report());
        }
        handed.map(|handed| self.handed = handed).is_ok()
    }

    fn start(&self) -> io::Result<Server> {
        let mut command = self.program.command();
        command.args(["serve", "--supervised"]);
        command.args((0..self.verbose).map(|_| "--verbose"));
        command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // It starts inside the data folder, so that it can use that even where a folder above is closed to its user.
        command.current_dir(&self.data_dir).stdin(Stdio::piped());
        // A group of its own, so that Ctrl-C reaches `run` alone, which then ends the server in order.
        command.process_group(0);
        let account = self.account.clone();
        let parent = std::process::id();
        // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
        unsafe { command.pre_exec(move || restrict(account.as_ref(), parent)) };
        let mut child = command.spawn()?;
        let mut pipe = child.stdin.take().ok_or_else(|| io::Error::other("the server has no stdin"))?;
        // A server that is gone already shows in its exit status.
        let _ = pipe.write_all(self.handed.as_bytes());
        Ok(Server { child, pipe: Some(pipe) })
    }
}

/// The configuration as one line.
fn handed(sources: &Sources) -> Result<String, Failure> {
    let mut handed = serde_json::to_string(sources).explain("cannot hand the configuration to the server")?;
    handed.push('\n');
    Ok(handed)
}

/// Makes the forked process an ordinary one. Everything here is final: it cannot get back what it gives up.
fn restrict(account: Option<&Account>, parent: u32) -> io::Result<()> {
    drop_bounding_set();
    if let Some(account) = account {
        os::become_user(account.ids)?;
    }
    Capabilities::NONE.keep_only()?;
    os::set_no_new_privileges()?;
    os::die_with_parent()?;
    if parent_id() != parent {
        // The parent died before the signal was set.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

enum Watched {
    Stop,
    Ended(io::Result<ExitStatus>),
}

/// A server that was started.
struct Server {
    child: Child,
    /// Its end is the server's sign to end.
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Waits until the server ends or is to be stopped, and hands it new configurations meanwhile.
    fn watch(&mut self, launch: &mut Launch, orders: &Orders) -> Watched {
        loop {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Watched::Ended(Ok(status)),
                Err(error) => return Watched::Ended(Err(error)),
            }
            match orders.next(LOOK_EVERY) {
                None => {}
                Some(Order::Configure(sources)) => {
                    if launch.configure(&sources)
                        && let Some(pipe) = &mut self.pipe
                    {
                        // One that is gone gets it at its next start.
                        let _ = pipe.write_all(launch.handed.as_bytes());
                    }
                }
                Some(Order::Stop) => return Watched::Stop,
            }
        }
    }

    fn stop(mut self) {
        self.pipe = None;
        os::terminate(&self.child);
        if self.ends_within(GRACE) {
            return;
        }
        tracing::warn!("the server did not end within {} s and is killed", GRACE.as_secs());
        let _ = self.child.kill();
        if !self.ends_within(KILL_GRACE) {
            tracing::warn!("the kernel does not let the server go yet");
        }
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=8).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
