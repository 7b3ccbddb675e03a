//! The workers: processes that answer questions, started when there are some, killed when they take too long or too much.
//!
//! Statements that people write are bounded by what the kernel holds a process to, not by what the engine counts. Each lane has
//! workers of its own, so that neither alerts nor the page wait for anybody's statement. In the lane of statements, one that is
//! quick passes those that are not: a statement begins at once, and when it has not ended soon, it goes on as one of few long ones, or
//! is stopped until one of these ends.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow::{array::RecordBatch, ipc::reader::StreamReader};
use bytes::{Bytes, BytesMut};
use hitscope_schemas::tables::{self, Table};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    question::{Ask, Form, Kind, Question, Refusal},
    worker::{ASKED, Asked, END, PIECE, REFUSED, Setup, write_frame},
};

/// Whose question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The page's own.
    Page,
    /// The alert rules'.
    Alerts,
    /// Statements that people write.
    Statements,
}

/// How many questions of the page are answered at once.
const PAGE: usize = 2;
/// How many statements may be in their first moments.
const QUICK: usize = 3;
/// The first moments of a statement.
const FIRST: Duration = Duration::from_millis(400);
/// How many statements may be beyond these.
const LONG: usize = 2;
/// How many more are stopped until one of those ends, and for how long at the most.
const STOPPED: usize = 4;
const STOPPED_FOR: Duration = Duration::from_secs(8);
/// How long a question waits for its lane.
const QUEUE: Duration = Duration::from_secs(4);
/// A worker that nobody asks anything ends after this long.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked after workers.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest answer.
const ANSWER_BYTES: usize = 64 << 20;
/// What all answers that are not sent yet may hold, in units.
const UNSENT: usize = 128;
const UNIT_BYTES: usize = 1 << 20;
/// Niceness of a long statement's worker.
const LONG_NICE: libc::c_int = 10;
/// Of what a worker says on stderr, the end is kept.
const LAST_WORDS_BYTES: usize = 4 << 10;

/// What workers may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What one question may hold, in bytes, as far as the engine counts it.
    pub memory_bytes: usize,
    /// How long one may take.
    pub time: Duration,
}

impl Limits {
    /// What all workers may hold together; the one that holds most is killed where they hold more.
    fn all_bytes(&self) -> u64 {
        (384 << 20) + 2 * self.memory_bytes as u64
    }
}

/// An answer. What it holds counts until it is dropped.
#[derive(Debug)]
pub struct Answer {
    /// In the form that was asked for.
    pub bytes: Bytes,
    _held: Vec<OwnedSemaphorePermit>,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions.
    pub asked: AtomicU64,
    /// Those of them that were refused, by why.
    refused: Mutex<BTreeMap<Kind, u64>>,
    /// Workers started.
    pub started: AtomicU64,
    /// Workers killed.
    pub killed: AtomicU64,
}

impl Counters {
    /// How many questions were refused, by why.
    pub fn refused(&self) -> BTreeMap<Kind, u64> {
        lock(&self.refused).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All workers of a server.
pub struct Workers(Arc<Inner>);

struct Inner {
    program: PathBuf,
    setup: Setup,
    limits: Limits,
    tables: Vec<Table>,
    page: Semaphore,
    alerts: Semaphore,
    quick: Semaphore,
    long: Semaphore,
    stopped: Semaphore,
    unsent: Arc<Semaphore>,
    idle: Mutex<HashMap<Lane, Vec<(Worker, Instant)>>>,
    /// Those that answer now.
    busy: Mutex<HashMap<u32, Busy>>,
    counters: Counters,
}

/// A worker that answers.
struct Busy {
    lane: Lane,
    /// It was killed, since all together held too much.
    too_large: bool,
}

impl Workers {
    /// Workers over the data folder, which may still be empty or not exist yet. `program` is hitscope-server. None is started
    /// yet. Called within a runtime.
    ///
    /// # Errors
    /// When the folder's path cannot be told.
    pub fn new(program: &Path, data_dir: &Path, limits: Limits) -> io::Result<Self> {
        let data_dir = data_dir.canonicalize().or_else(|_| std::path::absolute(data_dir))?;
        let inner = Arc::new(Inner {
            program: program.to_owned(),
            setup: Setup { data_dir, memory_bytes: limits.memory_bytes },
            limits,
            tables: tables::all(),
            page: Semaphore::new(PAGE),
            alerts: Semaphore::new(1),
            quick: Semaphore::new(QUICK),
            long: Semaphore::new(LONG),
            stopped: Semaphore::new(STOPPED),
            unsent: Arc::new(Semaphore::new(UNSENT)),
            idle: Mutex::default(),
            busy: Mutex::default(),
            counters: Counters::default(),
        });
        tokio::spawn(look_after(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// The folder.
    pub fn data_dir(&self) -> &Path {
        &self.0.setup.data_dir
    }

    /// The stored tables.
    pub fn tables(&self) -> &[Table] {
        &self.0.tables
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Processes that answer or wait for questions.
    pub fn pids(&self) -> Vec<u32> {
        let idle = lock(&self.0.idle);
        let idle = idle.values().flatten().filter_map(|(worker, _)| worker.child.id());
        idle.chain(lock(&self.0.busy).keys().copied()).collect()
    }

    /// Asks a question.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, lane: Lane, question: Question, form: Form) -> Result<Answer, Refusal> {
        let counters = &self.0.counters;
        counters.asked.fetch_add(1, Ordering::Relaxed);
        let asked = Asked { question, form };
        let answer = match self.0.ask(lane, &asked).await {
            // The next worker is a fresh one.
            Err(Failed::Gone) => self.0.ask(lane, &asked).await,
            answered => answered,
        };
        let answer = answer.map_err(|failed| match failed {
            Failed::Refused(refusal) => refusal,
            Failed::Gone => Refusal::new(Kind::Broken, "query workers are killed by others"),
        });
        answer.inspect_err(|refusal| *lock(&counters.refused).entry(refusal.kind).or_default() += 1)
    }

    /// Asks for the rows of a statement, in one of the lanes.
    pub fn lane(&self, lane: Lane) -> impl Ask + '_ {
        InLane { workers: self, lane }
    }
}

struct InLane<'a> {
    workers: &'a Workers,
    lane: Lane,
}

impl Ask for InLane<'_> {
    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, Refusal> {
        let answer = self.workers.ask(self.lane, Question::Sql(sql.to_owned()), Form::Arrow).await?;
        let broken = |error: arrow::error::ArrowError| Refusal::new(Kind::Broken, error.to_string());
        StreamReader::try_new(&answer.bytes[..], None).map_err(broken)?.map(|batch| batch.map_err(broken)).collect()
    }
}

fn busy(message: &str) -> Refusal {
    Refusal::new(Kind::Busy, message).hint("try again in a moment")
}

/// Why there is no answer yet.
enum Failed {
    Refused(Refusal),
    /// A worker that had answered before was killed by somebody, most likely before it was asked.
    Gone,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Inner {
    async fn ask(self: &Arc<Self>, lane: Lane, asked: &Asked) -> Result<Answer, Failed> {
        match lane {
            Lane::Page => self.in_lane(lane, &self.page, asked).await,
            Lane::Alerts => self.in_lane(lane, &self.alerts, asked).await,
            Lane::Statements => self.statement(asked).await,
        }
    }

    async fn in_lane(self: &Arc<Self>, lane: Lane, places: &Semaphore, asked: &Asked) -> Result<Answer, Failed> {
        let _place = self.queue(places).await?;
        let (mut answering, turn) = self.begin(lane, asked).await?;
        match timeout(self.limits.time, &mut answering).await {
            Ok(answered) => turn.end(answered).await,
            Err(_) => Err(self.too_long().into()),
        }
    }

    async fn queue<'a>(&self, places: &'a Semaphore) -> Result<tokio::sync::SemaphorePermit<'a>, Refusal> {
        match timeout(QUEUE, places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(busy("too many queries at once")),
        }
    }

    async fn statement(self: &Arc<Self>, asked: &Asked) -> Result<Answer, Failed> {
        let place = self.queue(&self.quick).await?;
        let (mut answering, mut turn) = self.begin(Lane::Statements, asked).await?;
        if let Ok(answered) = timeout(FIRST, &mut answering).await {
            return turn.end(answered).await;
        }
        turn.long = true;
        renice(turn.pid, LONG_NICE);
        let _long = match self.long.try_acquire() {
            Ok(long) => {
                drop(place);
                long
            }
            Err(_) => {
                let many = || busy("as many long queries as the server allows are running");
                let _stopped = self.stopped.try_acquire().map_err(|_| many())?;
                signal(turn.pid, libc::SIGSTOP);
                drop(place);
                let long = timeout(STOPPED_FOR, self.long.acquire()).await;
                let long = long.ok().and_then(Result::ok).ok_or_else(many)?;
                signal(turn.pid, libc::SIGCONT);
                long
            }
        };
        match timeout(self.limits.time.saturating_sub(FIRST), &mut answering).await {
            Ok(answered) => turn.end(answered).await,
            Err(_) => Err(self.too_long().into()),
        }
    }

    /// Gives a question to a worker. The answer comes from the future; dropped before its end, it kills the worker.
    async fn begin<'a>(self: &'a Arc<Self>, lane: Lane, asked: &Asked) -> Result<(Answering, Turn<'a>), Refusal> {
        let broken = |error: io::Error| Refusal::new(Kind::Broken, format!("cannot start a query worker: {error}"));
        let payload = serde_json::to_vec(asked).map_err(|error| broken(error.into()))?;
        loop {
            let idle = lock(&self.idle).get_mut(&lane).and_then(Vec::pop);
            let fresh = idle.is_none();
            let mut worker = match idle {
                Some((worker, _)) => worker,
                None => self.start().await.map_err(broken)?,
            };
            match worker.write(&payload).await {
                Ok(()) => {
                    let pid = worker.child.id().ok_or_else(|| broken(io::ErrorKind::NotFound.into()))?;
                    lock(&self.busy).insert(pid, Busy { lane, too_large: false });
                    let turn = Turn { inner: self, lane, pid, fresh, long: false, done: false };
                    return Ok((Box::pin(answer(worker, Arc::clone(&self.unsent))), turn));
                }
                // It ended while it was idle.
                Err(_) if !fresh => {}
                Err(_) => return Err(self.why(worker, false).await),
            }
        }
    }

    fn too_long(&self) -> Refusal {
        Refusal::new(Kind::Time, format!("the query took longer than {} s", self.limits.time.as_secs_f64()))
            .hint("ask for a shorter time range, or raise server.query_timeout")
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the query needs more memory than the limit of {} MiB", self.limits.memory_bytes >> 20);
        Refusal::new(Kind::Memory, message)
            .hint("ask for fewer rows or columns, aggregate, add a LIMIT, or raise server.query_memory")
    }

    /// Why a worker ended amid a question.
    async fn why(&self, mut worker: Worker, too_large: bool) -> Refusal {
        let status = match worker.child.wait().await {
            Ok(status) => status,
            Err(error) => return Refusal::new(Kind::Broken, format!("a query worker is lost: {error}")),
        };
        let _ = (&mut worker.listening).await;
        let words = String::from_utf8_lossy(&lock(&worker.last_words)).trim().to_owned();
        // What Rust's runtime says before it aborts; and the kernel's signal when the host or the unit has no memory left.
        if too_large || words.contains("memory allocation of") || status.signal() == Some(libc::SIGKILL) {
            return self.too_large();
        }
        if words.contains("overflowed its stack") || status.signal() == Some(libc::SIGSEGV) {
            return Refusal::new(Kind::Statement, "the statement is nested too deeply")
                .hint("write a long chain of conditions as a list: x IN (…)");
        }
        tracing::error!(%status, words, "a query worker ended");
        Refusal::new(Kind::Broken, format!("a query worker ended ({status}): {words}"))
    }

    async fn start(&self) -> io::Result<Worker> {
        let mut command = std::process::Command::new(&self.program);
        command.arg0("hitscope-server").arg("worker").env_clear();
        // No backtraces: the runtime's last words say why it ends.
        command.envs(["RUST_LOG", "TZ"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A worker that is no longer looked after is killed: so an answer that nobody waits for ends.
        let mut child = Command::from(command).kill_on_drop(true).spawn()?;
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        let missing = || io::Error::other("a worker has no pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::with_capacity(64 << 10, child.stdout.take().ok_or_else(missing)?);
        let mut errors = child.stderr.take().ok_or_else(missing)?;
        let last_words = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&last_words);
        let listening = tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(length @ 1..) = errors.read(&mut piece).await {
                let mut kept = lock(&kept);
                kept.extend_from_slice(&piece[..length]);
                let excess = kept.len().saturating_sub(LAST_WORDS_BYTES);
                kept.drain(..excess);
            }
        });
        let mut worker = Worker { child, input, output, last_words, listening };
        let setup = serde_json::to_vec(&self.setup)?;
        worker.write(&setup).await?;
        Ok(worker)
    }
}

/// Looks after the workers for as long as somebody may ask them something.
async fn look_after(inner: Weak<Inner>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        for workers in lock(&inner.idle).values_mut() {
            // Dropped, they are killed.
            workers.retain(|(_, since)| now.duration_since(*since) < IDLE);
        }
        let mut busy = lock(&inner.busy);
        if busy.is_empty() {
            continue;
        }
        let held = |pid: u32| own_bytes(Path::new("/proc"), pid);
        let idle: u64 =
            lock(&inner.idle).values().flatten().filter_map(|(worker, _)| worker.child.id()).map(held).sum();
        let each: Vec<(u32, u64)> = busy.keys().map(|pid| (*pid, held(*pid))).collect();
        if idle + each.iter().map(|(_, bytes)| bytes).sum::<u64>() <= inner.limits.all_bytes() {
            continue;
        }
        lock(&inner.idle).clear();
        // People's statements go first.
        let largest = each
            .iter()
            .max_by_key(|(pid, bytes)| (busy.get(pid).is_some_and(|busy| busy.lane == Lane::Statements), *bytes));
        if let Some(&(pid, _)) = largest
            && let Some(worker) = busy.get_mut(&pid)
        {
            worker.too_large = true;
            inner.counters.killed.fetch_add(1, Ordering::Relaxed);
            signal(pid, libc::SIGKILL);
        }
    }
}

/// Memory of a process that is nobody else's and no file's, in bytes; 0 where it is gone. proc_pid_statm(5)
fn own_bytes(proc: &Path, pid: u32) -> u64 {
    let statm = fs::read_to_string(proc.join(pid.to_string()).join("statm")).unwrap_or_default();
    let mut fields = statm.split(' ').skip(1).map(|field| field.trim().parse::<u64>().unwrap_or(0));
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    // SAFETY: takes and gives a plain integer.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    resident.saturating_sub(shared) * page
}

/// Signals a worker that has not been waited for, so that the pid is its own.
fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: plain integers.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Sets the niceness of all threads of a worker.
fn renice(pid: u32, nice: libc::c_int) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|entry| entry.file_name().to_str()?.parse::<libc::id_t>().ok()) {
        // SAFETY: plain integers; a thread that is gone gives an error, which changes nothing.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, nice) };
    }
}

/// A process that answers.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_words: Arc<Mutex<Vec<u8>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Worker {
    async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 8);
        write_frame(&mut frame, ASKED, payload)?;
        self.input.write_all(&frame).await
    }
}

/// Dropped before its end, it kills the worker.
type Answering = Pin<Box<dyn Future<Output = (Worker, Ended)> + Send>>;

/// How a question ended, as far as the worker's pipe tells.
enum Ended {
    Answered(Answer),
    Refused(Refusal),
    /// More is not taken.
    Cut(Refusal),
    /// It says nothing more.
    Lost,
}

/// Takes the answer as it comes.
async fn answer(mut worker: Worker, unsent: Arc<Semaphore>) -> (Worker, Ended) {
    let mut bytes = BytesMut::new();
    let mut held = Vec::new();
    let ended =
        loop {
            let mut head = [0; 5];
            if worker.output.read_exact(&mut head).await.is_err() {
                break Ended::Lost;
            }
            let [tag, length @ ..] = head;
            let start = bytes.len();
            let end = start + u32::from_le_bytes(length) as usize;
            if end > ANSWER_BYTES {
                let message = format!("the answer is larger than {} MiB", ANSWER_BYTES >> 20);
                break Ended::Cut(Refusal::new(Kind::Large, message).hint(
                    "ask for fewer rows or columns, or use `hitscope query` on the host, which has no such limit",
                ));
            }
            while held.len() * UNIT_BYTES < end {
                match Arc::clone(&unsent).try_acquire_owned() {
                    Ok(unit) => held.push(unit),
                    Err(_) => break,
                }
            }
            if held.len() * UNIT_BYTES < end {
                break Ended::Cut(busy("too many large answers wait to be read"));
            }
            bytes.resize(end, 0);
            if worker.output.read_exact(&mut bytes[start..]).await.is_err() {
                break Ended::Lost;
            }
            match tag {
                PIECE => {}
                END => break Ended::Answered(Answer { bytes: bytes.freeze(), _held: held }),
                REFUSED => match serde_json::from_slice(&bytes[start..]) {
                    Ok(refusal) => break Ended::Refused(refusal),
                    Err(_) => break Ended::Lost,
                },
                _ => break Ended::Lost,
            }
        };
    (worker, ended)
}

/// A question that a worker answers.
struct Turn<'a> {
    inner: &'a Inner,
    lane: Lane,
    pid: u32,
    /// It is the worker's first.
    fresh: bool,
    /// Its niceness was raised, which cannot be undone.
    long: bool,
    done: bool,
}

impl Turn<'_> {
    /// Keeps the worker for the next question, if it is still good.
    async fn end(mut self, (mut worker, ended): (Worker, Ended)) -> Result<Answer, Failed> {
        self.done = true;
        let too_large = lock(&self.inner.busy).remove(&self.pid).is_some_and(|busy| busy.too_large);
        let result = match ended {
            Ended::Answered(answer) => Ok(answer),
            Ended::Refused(refusal) => Err(refusal.into()),
            Ended::Cut(refusal) => return Err(refusal.into()),
            Ended::Lost => {
                // Whatever it did instead of answering, it does not go on.
                let ended = match timeout(FIRST, worker.child.wait()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        let _ = worker.child.start_kill();
                        worker.child.wait().await
                    }
                };
                let killed = ended.is_ok_and(|status| status.signal() == Some(libc::SIGKILL));
                return Err(match !self.fresh && !too_large && killed {
                    true => Failed::Gone,
                    false => self.inner.why(worker, too_large).await.into(),
                });
            }
        };
        if !self.long {
            lock(&self.inner.idle).entry(self.lane).or_default().push((worker, Instant::now()));
        }
        result
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.inner.busy).remove(&self.pid);
            self.inner.counters.killed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processs_own_memory_is_what_no_file_holds() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(own_bytes(proc.path(), 7), 0);
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/statm"), "1000 300 100 20 0 400 0\n").unwrap();
        assert_eq!(own_bytes(proc.path(), 7) % 200, 0);
        assert!(own_bytes(proc.path(), 7) >= 200 * 4096);
    }
}
