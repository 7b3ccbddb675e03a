//! No loop without an end: the collector goes on, and ends, whatever its threads hang at and however much comes.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hitscope_tests::{Daemon, host::python, needs_probes, process::signal, wait_until};

/// A thread of a process by its name.
fn thread_of(pid: u32, name: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let mut named = tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|command| command.trim_end() == name));
    let task = named.next().unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().to_str().and_then(|id| id.parse().ok()).expect("a thread's id")
}

/// Stops one thread, as if it hung in the kernel, until the process ends.
fn stop_thread(thread: i32) {
    // SAFETY: these requests take no pointers; who is stopped is a thread of the daemon.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0), 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0), 0, "{}", std::io::Error::last_os_error());
    }
}

fn updated_ns(daemon: &Daemon) -> u64 {
    daemon.status().and_then(|status| status["updated_ns"].as_u64()).expect("a status")
}

/// The status goes on.
fn goes_on(daemon: &Daemon, what: &str) {
    let before_ns = updated_ns(daemon);
    wait_until(what, || (updated_ns(daemon) > before_ns + 1_500_000_000).then_some(()));
}

/// Ends it, whose threads we stopped: of these, the kernel tells us first.
fn ends(daemon: &mut Daemon, stopped: &[i32], what: &str) {
    let begin = Instant::now();
    signal(daemon.pid(), libc::SIGTERM);
    let status = wait_until(what, || {
        for thread in stopped {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(*thread, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
        }
        daemon.ended()
    });
    println!("{what}: {:?}", begin.elapsed());
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

#[test]
fn threads_that_hang_are_said_and_replaced_and_hold_nobody_up() {
    needs_probes!();
    let mut daemon = Daemon::prepare("").with_arguments(&["--no-serve"]);
    daemon.run();
    let pid = daemon.pid();
    let names = ["sampler", "resolver", "walker", "libraries"];
    let mut stopped: Vec<i32> = names.iter().map(|name| thread_of(pid, name)).collect();
    stopped.iter().for_each(|thread| stop_thread(*thread));
    goes_on(&daemon, "the status goes on while all helpers hang");
    for name in names {
        wait_until(&format!("{name} is replaced"), || {
            // Whom nobody asks anything, nobody misses.
            let _ = Command::new("true").status();
            let status = daemon.status()?;
            let notes = status["notes"].as_array()?;
            let note = |note: &serde_json::Value| {
                note.as_str().is_some_and(|note| note.contains(name) && note.contains("has taken its place"))
            };
            notes.iter().any(note).then_some(())
        });
    }
    let status = daemon.status().expect("a status");
    assert_eq!(status["lost"]["helper_threads_failed"], 4);
    // Those that took their places do what those before did.
    let before = daemon.settled("SELECT max(time) AS time FROM processes").remove(0);
    wait_until("samples come again", || {
        (daemon.query("SELECT max(time) AS time FROM processes").remove(0)["time"] != before["time"]).then_some(())
    });
    // One of the two may be the one that is stopped already.
    for name in ["sampler", "resolver", "walker", "libraries", "writer"] {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
        for task in tasks {
            let text = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            if text("comm").trim_end() == name && !text("stat").contains(") t ") {
                let thread = task.file_name().to_str().and_then(|id| id.parse().ok()).expect("a thread's id");
                stop_thread(thread);
                stopped.push(thread);
            }
        }
    }
    ends(&mut daemon, &stopped, "it ends though all helpers and the disk hang");
    assert!(daemon.log().contains("the thread writer does not end"), "{}", daemon.log());
}

/// Asks and answers on a socket, in a protocol that is decoded, as fast as it goes.
fn talk(stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (mut client, mut server) = UnixStream::pair().expect("a pair");
    let stops = stop.clone();
    thread::spawn(move || {
        let (request, answer) = (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
        let (mut asked, mut answered) = ([0; 14], [0; 7]);
        while !stops.load(Ordering::Relaxed) {
            client.write_all(request).expect("it is sent");
            server.read_exact(&mut asked).expect("it comes");
            server.write_all(answer).expect("it is sent");
            client.read_exact(&mut answered).expect("it comes");
        }
    })
}

/// Sixteen threads write a mebibyte each, and are there when the process ends.
const WRITERS: &str = "
import os, sys, threading, time
done = threading.Barrier(17)
def work(number):
    with open(f'{sys.argv[1]}/{number}', 'wb') as file:
        file.write(b'x' * (1 << 20))
    done.wait()
    time.sleep(600)
for number in range(16):
    threading.Thread(target=work, args=(number,), daemon=True).start()
done.wait()
os._exit(3)
";

#[test]
fn it_goes_on_and_ends_though_more_comes_than_it_can_take() {
    needs_probes!();
    let mut daemon = Daemon::prepare("").with_arguments(&["--no-serve"]);
    daemon.run();
    let own = std::process::id();
    let started = |daemon: &mut Daemon| {
        wait_until("this process is sampled", || {
            let rows = daemon.query(&format!("SELECT DISTINCT start_time FROM processes WHERE pid = {own}"));
            (!rows.is_empty()).then_some(rows)
        })
    };
    assert_eq!(started(&mut daemon).len(), 1);

    let folder = tempfile::Builder::new().tempdir_in("/var/tmp").expect("a folder on a disk");
    let mut command = Command::new(python());
    let mut writers = command.args(["-c", WRITERS]).arg(folder.path()).stdin(Stdio::null()).spawn().expect("it starts");
    let pid = writers.id();
    assert_eq!(writers.wait().expect("it ends").code(), Some(3));
    let ended = wait_until("its end is told", || {
        let rows =
            daemon.query(&format!("SELECT written_bytes, exit_code FROM processes WHERE pid = {pid} AND exited"));
        (!rows.is_empty()).then_some(rows)
    });
    daemon.settle();
    let sql = format!("SELECT sum(written_bytes)::BIGINT AS bytes FROM processes WHERE pid = {pid}");
    let bytes = daemon.query(&sql).remove(0)["bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes >= 16 << 20), "{bytes:?} {ended:?}");
    assert_eq!((ended.len(), &ended[0]["exit_code"]), (1, &3.into()));
    let told = daemon.query(&format!("SELECT time FROM events WHERE pid = {pid} AND kind = 'exit'"));
    assert_eq!(told.len(), 1);

    let stop = Arc::new(AtomicBool::new(false));
    let talkers: Vec<_> = (0..8).map(|_| talk(&stop)).collect();
    // It gets less of the CPU than it would need.
    let (slowed, ends_too) = (daemon.pid(), stop.clone());
    let slow = thread::spawn(move || {
        while !ends_too.load(Ordering::Relaxed) {
            signal(slowed, libc::SIGSTOP);
            thread::sleep(Duration::from_millis(180));
            signal(slowed, libc::SIGCONT);
            thread::sleep(Duration::from_millis(20));
        }
    });
    for _ in 0..3 {
        goes_on(&daemon, "the status goes on under all that");
    }
    let lost = daemon.status().expect("a status")["lost"].clone();
    assert!(lost["segment_ring_full"].as_u64() > Some(0), "{lost}");
    stop.store(true, Ordering::Relaxed);
    slow.join().expect("it ends");
    stop.store(false, Ordering::Relaxed);
    let more: Vec<_> = (0..8).map(|_| talk(&stop)).collect();
    ends(&mut daemon, &[], "it ends though records never do");
    stop.store(true, Ordering::Relaxed);
    talkers.into_iter().chain(more).for_each(|talker| talker.join().expect("it ends"));

    daemon.run();
    let before = daemon.settled("SELECT max(time) AS time FROM processes").remove(0);
    wait_until("it is sampled again", || {
        (daemon.query("SELECT max(time) AS time FROM processes").remove(0)["time"] != before["time"]).then_some(())
    });
    assert_eq!(started(&mut daemon).len(), 1, "a process stays the same when hitscope is started again");
}
