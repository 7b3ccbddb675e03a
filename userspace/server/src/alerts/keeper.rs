//! The thread that touches the disk for the alerts: it listens to the collector's status, has the folder's lock, and keeps the
//! alerts' state and the table `alerts`. A disk that hangs holds up this thread, and nobody who evaluates, sends or asks.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hitscope_base::{Durability, replace_file};
use hitscope_history::{Writer, folder::servers_part, status};
use hitscope_schemas::tables::{self, Row};
use tokio::sync::watch;

use super::{
    Stored,
    clock::{self, Now},
    folder::{self, Identity, Lock, NotLocked},
    liveness::Liveness,
};

/// How long it is waited before the table's writer is tried to be opened again.
const REOPEN_NS: i64 = 10_000_000_000;
/// How long the keeper may lag before that is told.
const LAG_NS: i64 = 10_000_000_000;

/// Whether this server tells people, and else why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It is not known yet.
    #[default]
    Starting,
    /// It tells.
    Teller,
    /// Another server over the folder does.
    Second(Option<u32>),
    /// The folder is not the one that its alerts came to be in.
    Copy(&'static str),
    /// No collector was seen to write into the folder.
    Unused,
    /// The folder cannot be locked.
    Closed(String),
}

impl Role {
    /// Why it does not tell, for people.
    pub fn why_not(&self) -> Option<String> {
        Some(match self {
            Self::Teller => return None,
            Self::Starting => "it is starting".into(),
            Self::Second(pid) => {
                let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                format!("another server over this folder{pid} does; this one takes over when that ends")
            }
            Self::Copy(how) => {
                format!(
                    "this is not the folder that its alerts came from: {how}. If it is to take that one's place, run `hitscope alerts adopt`"
                )
            }
            Self::Unused => "no collector was seen to write into this folder yet".into(),
            Self::Closed(error) => {
                format!("the server cannot make sure that it is the only one over this folder: {error}")
            }
        })
    }
}

/// What is kept, and where.
#[derive(Debug)]
pub struct Kept {
    pub data_dir: PathBuf,
    pub host: String,
    pub history: hitscope_history::Settings,
    /// As in the configuration.
    pub collector_silent: Duration,
}

/// What the thread has found out.
#[derive(Debug, Default)]
pub struct Report {
    pub role: Role,
    /// State that comes with the role, to be taken once.
    pub stored: Option<Stored>,
    pub liveness: Liveness,
    /// What keeps alerts from being recorded or kept, by what it is.
    pub troubles: BTreeMap<&'static str, String>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The last poke that was worked off.
    pub poke: u64,
    /// The newest version of the state on disk.
    pub version: u64,
    /// Rows before this one are in the table.
    pub rows: u64,
    /// It has ended, and let go of the lock.
    pub ended: bool,
}

/// What it is to do; what is newer replaces what it has not begun with.
#[derive(Default)]
struct Slot {
    now: Option<Now>,
    /// When the first of what is not worked off came, ns by the steady clock.
    since_ns: Option<i64>,
    poke: u64,
    state: Option<(u64, Vec<u8>)>,
    rows: Vec<(u64, tables::Alert)>,
    end: bool,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    poked: Condvar,
    report: Mutex<Report>,
}

/// The thread's handle.
pub struct Keeper {
    shared: Arc<Shared>,
    done: watch::Receiver<Done>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// When the host has no room for a thread.
    pub fn start(kept: Kept, now: Now) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (tell, done) = watch::channel(Done::default());
        let liveness = Liveness::new(kept.collector_silent, now);
        lock(&shared.report).liveness = liveness.clone();
        let work = Work {
            kept,
            liveness,
            lock: None,
            identity: None,
            role: Role::Starting,
            unwritten: None,
            writer: None,
            reopen_ns: i64::MIN,
            given: 0,
            done: Done::default(),
            troubles: BTreeMap::new(),
        };
        let theirs = shared.clone();
        thread::Builder::new().name("alerts".into()).spawn(move || run(work, &theirs, &tell))?;
        Ok(Self { shared, done })
    }

    /// Has it look at the folder, and keep the state and the rows.
    pub fn poke(&self, now: Now, state: Option<(u64, Vec<u8>)>, rows: Vec<(u64, tables::Alert)>) {
        let mut slot = lock(&self.shared.slot);
        slot.poke += 1;
        slot.now = Some(now);
        slot.since_ns.get_or_insert(now.steady_ns);
        slot.state = state.or(slot.state.take());
        if !rows.is_empty() {
            slot.rows = rows;
        }
        self.shared.poked.notify_one();
    }

    /// What it has found out; gives the state that comes with the role, once.
    pub fn report(&self) -> (Role, Option<Stored>, Liveness) {
        let mut report = lock(&self.shared.report);
        (report.role.clone(), report.stored.take(), report.liveness.clone())
    }

    /// What keeps alerts from being recorded or kept.
    pub fn troubles(&self, now: Now) -> Vec<String> {
        let mut troubles: Vec<String> = lock(&self.shared.report).troubles.values().cloned().collect();
        let waiting = lock(&self.shared.slot).since_ns.map_or(0, |since_ns| now.steady_ns.saturating_sub(since_ns));
        if waiting > LAG_NS {
            troubles.push(format!("the disk has not answered the alerts for {} s", waiting / 1_000_000_000));
        }
        troubles
    }

    /// How far it has come.
    pub fn done(&self) -> Done {
        *self.done.borrow()
    }

    /// Waits until it has come so far, or for as long as a disk may take.
    pub async fn wait_for(&self, far: impl FnMut(&Done) -> bool) {
        let mut done = self.done.clone();
        let _ = tokio::time::timeout(Duration::from_secs(2), done.wait_for(far)).await;
    }

    /// Waits until it has worked off what it was given.
    pub async fn settled(&self) {
        let poke = lock(&self.shared.slot).poke;
        self.wait_for(|done| done.poke >= poke || done.ended).await;
    }

    /// Has it let go of the lock, after what it was given.
    pub fn end(&self) {
        lock(&self.shared.slot).end = true;
        self.shared.poked.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(mut work: Work, shared: &Shared, tell: &watch::Sender<Done>) {
    loop {
        let (now, poke, state, rows, end) = {
            let mut slot = lock(&shared.slot);
            while slot.now.is_none() && !slot.end {
                slot = shared.poked.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            (slot.now.take(), slot.poke, slot.state.take(), mem::take(&mut slot.rows), slot.end)
        };
        if let Some(now) = now {
            let turn = catch_unwind(AssertUnwindSafe(|| work.turn(now, state, rows, shared)));
            if turn.is_err() {
                tracing::error!("the alerts' keeper panicked, and begins anew");
                (work.writer, work.reopen_ns) = (None, now.steady_ns.saturating_add(REOPEN_NS));
            }
            work.done.poke = poke;
            let mut slot = lock(&shared.slot);
            slot.since_ns = slot.now.map(|now| now.steady_ns);
        }
        tell.send_replace(work.done);
        if end {
            work.writer = None;
            work.lock = None;
            tell.send_replace(Done { ended: true, ..work.done });
            return;
        }
    }
}

/// What the thread works with.
struct Work {
    kept: Kept,
    liveness: Liveness,
    lock: Option<Lock>,
    identity: Option<Identity>,
    role: Role,
    /// The newest state, if the disk has not taken it yet.
    unwritten: Option<(u64, Vec<u8>)>,
    writer: Option<Writer>,
    /// When the writer may be opened again, ns by the steady clock.
    reopen_ns: i64,
    /// Rows before this one have been given to the writer.
    given: u64,
    done: Done,
    troubles: BTreeMap<&'static str, String>,
}

impl Work {
    fn turn(&mut self, now: Now, state: Option<(u64, Vec<u8>)>, rows: Vec<(u64, tables::Alert)>, shared: &Shared) {
        match status::read(&self.kept.data_dir) {
            Ok(Some(status)) => self.liveness.hear(&status, now),
            Ok(None) => {}
            // One that cannot be read is no news.
            Err(error) => tracing::debug!(%error, "the collector's status"),
        }
        let stored = self.claim();
        if self.role == Role::Teller {
            self.keep_state(state);
            self.keep_rows(rows, now);
        }
        let mut report = lock(&shared.report);
        if report.role != self.role {
            match self.role.why_not() {
                None => tracing::info!("this server tells of alerts"),
                Some(why) => tracing::warn!("this server does not tell of alerts: {why}"),
            }
            report.role = self.role.clone();
        }
        if stored.is_some() {
            report.stored = stored;
        }
        report.liveness = self.liveness.clone();
        report.troubles.clone_from(&self.troubles);
    }

    /// Finds out the role. Gives the state that comes with it, when it is another than before.
    fn claim(&mut self) -> Option<Stored> {
        if self.lock.as_ref().is_some_and(|lock| !lock.holds()) {
            tracing::error!("the lock of the alerts was taken away");
            (self.lock, self.identity, self.writer, self.role) = (None, None, None, Role::Starting);
        }
        if self.lock.is_none() {
            match Lock::take(&self.kept.data_dir) {
                Ok(lock) => self.lock = Some(lock),
                Err(NotLocked::Taken(pid)) => {
                    self.role = Role::Second(pid);
                    return None;
                }
                Err(NotLocked::Failed(error)) => {
                    self.role = Role::Closed(error.to_string());
                    return None;
                }
            }
            self.role = Role::Starting;
        }
        if self.role == Role::Teller {
            return None;
        }
        let identity = match Identity::of(&self.kept.data_dir) {
            Ok(identity) => identity,
            Err(error) => {
                self.role = Role::Closed(error.to_string());
                return None;
            }
        };
        let before = mem::replace(&mut self.role, Role::Teller);
        let path = state_path(&self.kept.data_dir);
        let stored = match read(&path) {
            Ok(Some(stored)) => Some(stored),
            Ok(None) => None,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the state of the alerts cannot be read; they start anew");
                let text = format!("{} could not be read and was set aside: {error}", path.display());
                self.troubles.insert("state read", text);
                let _ = fs::rename(&path, path.with_extension("json.broken"));
                None
            }
        };
        let mut stored = match stored {
            Some(mut stored) => {
                let differs = stored.folder.as_ref().and_then(|before| identity.differs_from(before));
                if let Some(how) = differs {
                    if !folder::take_adoption(&self.kept.data_dir, &identity) {
                        self.role = Role::Copy(how);
                        // What the copy knows is shown, once.
                        return (before != self.role).then_some(stored);
                    }
                    tracing::info!("the folder is adopted: this server tells of its alerts from now on");
                    stored.forget_outbox();
                }
                stored
            }
            None if self.liveness.beats => Stored { boot: clock::boot(), ..Stored::default() },
            None => {
                self.role = Role::Unused;
                return None;
            }
        };
        // At once, so that a copy that is made from now on is known as one.
        stored.folder = Some(identity);
        match serde_json::to_vec(&stored) {
            Ok(text) => self.keep_state(Some((self.done.version, text))),
            Err(error) => tracing::error!(%error, "the state of the alerts cannot be written"),
        }
        Some(stored)
    }

    fn keep_state(&mut self, state: Option<(u64, Vec<u8>)>) {
        self.unwritten = state.or(self.unwritten.take());
        let Some((version, text)) = &self.unwritten else { return };
        let path = state_path(&self.kept.data_dir);
        // Messages may name hosts and operations.
        match replace_file(&path, 0o600, Durability::Synced, |file| file.write_all(text)) {
            Ok(()) => {
                self.done.version = *version;
                self.unwritten = None;
                self.troubles.remove("state");
            }
            Err(error) => {
                let error: io::Error = error;
                self.trouble("state", format!("the state of the alerts cannot be kept in {}: {error}", path.display()));
            }
        }
    }

    /// Brings rows to the table. They count as recorded only once they are on disk there, so a crash in between may double a
    /// row, and loses none.
    fn keep_rows(&mut self, rows: Vec<(u64, tables::Alert)>, now: Now) {
        if self.writer.is_none() && now.steady_ns >= self.reopen_ns {
            let Kept { data_dir, host, history, .. } = &self.kept;
            match Writer::open(&servers_part(data_dir), host, &[tables::Alert::table()], history.clone()) {
                Ok((writer, _)) => (self.writer, self.given) = (Some(writer), self.done.rows),
                Err(error) => {
                    self.reopen_ns = now.steady_ns.saturating_add(REOPEN_NS);
                    self.trouble("history", format!("alerts are not recorded: {error}"));
                }
            }
        }
        let Some(writer) = &mut self.writer else { return };
        let rows: Vec<(u64, tables::Alert)> = rows.into_iter().filter(|(number, _)| *number >= self.given).collect();
        if let Some((last, _)) = rows.last() {
            self.given = last + 1;
            writer.append(rows.into_iter().map(|(_, row)| row).collect());
        }
        match writer.flush(now.wall_ns.unsigned_abs()) {
            Ok(_) => {
                self.done.rows = self.given;
                self.troubles.remove("history");
            }
            Err(error) => self.trouble("history", format!("alerts are not recorded: {error}")),
        }
    }

    fn trouble(&mut self, what: &'static str, text: String) {
        if self.troubles.get(what) != Some(&text) {
            tracing::error!("{text}");
            self.troubles.insert(what, text);
        }
    }
}

fn state_path(data_dir: &Path) -> PathBuf {
    servers_part(data_dir).join("alerts.json")
}

fn read(path: &Path) -> io::Result<Option<Stored>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
