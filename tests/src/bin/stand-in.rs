//! A server whose use of time is known, for the live tests. It speaks as much of PostgreSQL's protocol as a statement needs.
//!
//! `stand-in` serves each connection in a thread of its own: the statement says what that thread waits for and how long, in
//! ms. `stand-in loop` serves all in one thread: `park` is answered after the next other statement. Prints its port.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// What an eventfd is told.
static ONE: [u8; 8] = 1_u64.to_ne_bytes();
const READY: &[u8] = b"Z\0\0\0\x05I";
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const DONE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    if env::args().nth(1).as_deref() == Some("loop") {
        return serve_all(&listener);
    }
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    startup(&mut stream)?;
    loop {
        let statement = statement(&mut stream)?;
        let (what, ms) = statement.split_once(' ').unwrap_or((&statement, "0"));
        spend(what, Duration::from_millis(ms.parse().map_err(io::Error::other)?))?;
        answer(&mut stream)?;
    }
}

fn serve_all(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut parked: Option<TcpStream> = None;
    loop {
        let waits = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<_> = streams.iter().map(|stream| waits(stream.as_raw_fd())).collect();
        fds.push(waits(listener.as_raw_fd()));
        // SAFETY: points at as many pollfds as it says.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        for index in (0..streams.len()).rev().filter(|index| fds[*index].revents != 0) {
            match statement(&mut streams[index]) {
                Ok(statement) if statement == "park" => parked = Some(streams[index].try_clone()?),
                Ok(_) => {
                    answer(&mut streams[index])?;
                    if let Some(mut parked) = parked.take() {
                        answer(&mut parked)?;
                    }
                }
                Err(_) => drop(streams.remove(index)),
            }
        }
        if let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            startup(&mut stream)?;
            streams.push(stream);
        }
    }
}

fn startup(stream: &mut TcpStream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut rest)?;
    stream.write_all(WELCOME)
}

/// The text of a `Query` message; any other ends the connection.
fn statement(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = [0; 256];
    let length = stream.read(&mut bytes)?;
    match bytes.get(..length) {
        Some([b'Q', _, _, _, _, text @ .., 0]) => String::from_utf8(text.to_vec()).map_err(io::Error::other),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn answer(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[DONE, READY].concat())
}

/// Has the calling thread spend about this long.
fn spend(what: &str, time: Duration) -> io::Result<()> {
    match what {
        "sleep" => thread::sleep(time),
        "burn" => {
            let begin = Instant::now();
            while begin.elapsed() < time {}
        }
        "mutex" => {
            static MUTEX: Mutex<()> = Mutex::new(());
            let (held, is_held) = mpsc::channel();
            thread::spawn(move || {
                let _guard = MUTEX.lock();
                let _ = held.send(());
                thread::sleep(time);
            });
            is_held.recv().map_err(io::Error::other)?;
            drop(MUTEX.lock());
        }
        "flock" => {
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("lock");
            let (ours, theirs) = (File::create(&path)?, File::create(&path)?);
            theirs.lock()?;
            thread::spawn(move || {
                thread::sleep(time);
                drop(theirs);
            });
            ours.lock()?;
        }
        "eventfd" => {
            // SAFETY: takes two numbers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
            // SAFETY: the descriptor is new and nobody else's.
            poll_and_read(unsafe { OwnedFd::from_raw_fd(fd) }.into(), time, &ONE)?;
        }
        "socket" => {
            let (ours, mut theirs) = UnixStream::pair()?;
            thread::spawn(move || {
                thread::sleep(time);
                theirs.write_all(b"x")
            });
            // By `read`, which does not tell by itself that it is a socket's.
            File::from(OwnedFd::from(ours)).read_exact(&mut [0])?;
        }
        "poll" => {
            // SAFETY: takes no descriptors.
            unsafe { libc::poll(std::ptr::null_mut(), 0, time.as_millis() as libc::c_int) };
        }
        "fsync" => {
            let mut file = tempfile::tempfile_in("/var/tmp")?;
            let begin = Instant::now();
            while begin.elapsed() < time {
                file.write_all(&[1; 4096])?;
                file.sync_data()?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Waits with `poll` until another thread has written to the file, then reads that.
fn poll_and_read(mut file: File, time: Duration, bytes: &'static [u8]) -> io::Result<()> {
    let mut theirs = file.try_clone()?;
    thread::spawn(move || {
        thread::sleep(time);
        theirs.write_all(bytes)
    });
    let mut ready = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: points at one pollfd.
    unsafe { libc::poll(&mut ready, 1, -1) };
    file.read_exact(&mut vec![0; bytes.len()])
}
