//! A worker: a process that answers one question after the other, and can be killed at any time.
//!
//! Questions come on stdin, answers go to stdout, both in frames: a byte that says what it is, the length (u32, little endian) and
//! that many bytes. It ends when stdin does.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
    thread,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    catalog::{Catalog, Options},
    question::{Form, Kind, Question, Refusal, answer},
};

/// What a frame is.
pub const PIECE: u8 = 0;
pub const END: u8 = 1;
pub const REFUSED: u8 = 2;
pub const ASKED: u8 = 3;

/// No frame is longer; a longer piece is several.
pub const FRAME_BYTES: usize = 1 << 20;

/// Room for a statement's nesting: planning one of some thousand terms takes several MiB of stack.
const STACK_BYTES: usize = 32 << 20;
const THREADS: usize = 2;
/// Reading files takes threads of its own.
const READING_THREADS: usize = 4;
/// What a worker needs beside its queries: code, caches of footers, the rows of open cubes, threads' arenas.
const BESIDE_BYTES: u64 = 256 << 20;

/// What a worker is told first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The data folder.
    pub data_dir: PathBuf,
    /// What one query may hold, in bytes, as far as the engine counts it.
    pub memory_bytes: usize,
}

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// How rows are written.
    pub form: Form,
}

/// Answers until stdin ends.
///
/// # Errors
/// When it cannot be set up, or its pipes break.
pub fn run() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let Setup { data_dir, memory_bytes } = read_json(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    limit(memory_bytes)?;
    end_with_the_server()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(READING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_name("query")
        .enable_all()
        .build()?;
    let options = Options { memory_bytes, spill: false };
    let catalog = Arc::new(Catalog::open(&data_dir, options).map_err(io::Error::other)?);
    while let Some(asked) = read_json::<Asked>(&mut input)? {
        let catalog = Arc::clone(&catalog);
        // On a thread with a large stack, which the main one has not.
        let answered = runtime.block_on(runtime.spawn(async move {
            let mut output = BufWriter::with_capacity(64 << 10, io::stdout());
            let mut give =
                |piece: &[u8]| piece.chunks(FRAME_BYTES).try_for_each(|chunk| write_frame(&mut output, PIECE, chunk));
            let answered = answer(&catalog, &asked.question, asked.form, &mut give).await;
            match answered {
                Ok(()) => write_frame(&mut output, END, &[])?,
                Err(refusal) => write_frame(&mut output, REFUSED, &serde_json::to_vec(&refusal)?)?,
            }
            output.flush()
        }));
        match answered {
            Ok(written) => written?,
            Err(panicked) => {
                let refusal = Refusal::new(Kind::Broken, format!("the engine failed: {panicked}"));
                let mut output = io::stdout();
                write_frame(&mut output, REFUSED, &serde_json::to_vec(&refusal)?)?;
                output.flush()?;
            }
        }
    }
    Ok(())
}

/// Sets hard limits; what goes beyond fails, and ends the process, whether the engine counts it or not.
fn limit(memory_bytes: usize) -> io::Result<()> {
    let stacks = ((THREADS + READING_THREADS) * STACK_BYTES) as u64;
    let bytes = BESIDE_BYTES + stacks + 2 * memory_bytes as u64;
    set_limit(libc::RLIMIT_DATA, bytes)?;
    set_limit(libc::RLIMIT_CORE, 0)?;
    // SAFETY: plain integers. Everything else on the host goes first, and so do questions that are answered at once.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 1) };
    Ok(())
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the limit is valid for the call, which only reads it.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process when the server has ended, also amid a question that would take long.
fn end_with_the_server() -> io::Result<()> {
    let pipe = io::stdin().as_raw_fd();
    thread::Builder::new().name("end".into()).stack_size(64 << 10).spawn(move || {
        let mut poll = libc::pollfd { fd: pipe, events: 0, revents: 0 };
        loop {
            // SAFETY: one valid entry; without events asked for, it returns when the other end is closed.
            let found = unsafe { libc::poll(&raw mut poll, 1, -1) };
            if found > 0 {
                // What is left in the pipe nobody waits for.
                std::process::exit(0);
            }
        }
    })?;
    Ok(())
}

/// Writes a frame.
///
/// # Errors
/// The pipe's.
pub fn write_frame(output: &mut impl Write, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    output.write_all(&[tag])?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(payload)
}

/// Reads a frame of JSON; none at the end.
fn read_json<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 5];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [tag, length @ ..] = head;
    if tag != ASKED {
        return Err(io::Error::other("this is no question: a worker is started by the server alone"));
    }
    let mut payload = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut payload)?;
    Ok(Some(serde_json::from_slice(&payload)?))
}
