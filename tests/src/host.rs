//! What the host must offer for a live test.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// No wait takes this long unless something hangs; where everything is slow, `HITSCOPE_LIMIT` says how many seconds that is.
pub fn limit() -> Duration {
    let seconds = env::var("HITSCOPE_LIMIT").ok().map_or(90, |seconds| seconds.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

/// Whether everything is slow here: in an emulated guest.
pub fn is_slow() -> bool {
    env::var_os("HITSCOPE_LIMIT").is_some()
}

/// Ends the test here, as skipped, where the host cannot be traced.
#[macro_export]
macro_rules! needs_probes {
    () => {
        if let Some(reason) = $crate::host::cannot_trace() {
            $crate::skip!(reason);
        }
    };
}

/// Ends the test here, and has it counted as skipped.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        $crate::host::skipped(name, $reason);
        return;
    }};
}

/// Why the host cannot be traced, if so.
pub fn cannot_trace() -> Option<&'static str> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON
        .get_or_init(|| {
            if !is_root() {
                return Some("must be root to load probes".into());
            }
            let check = Command::new(binary()).arg("check").output().expect("hitscope starts");
            (!check.status.success()).then(|| {
                let lines = String::from_utf8_lossy(&check.stdout).replace('\n', "; ");
                format!("hitscope check: {lines}")
            })
        })
        .as_deref()
}

/// Tells xtask that a test could not run; without xtask, nobody would know, so the test fails.
pub fn skipped(test: &str, reason: &str) {
    let list = env::var_os("HITSCOPE_SKIPS").unwrap_or_else(|| panic!("cannot run here: {reason}"));
    let mut list = fs::OpenOptions::new().create(true).append(true).open(list).expect("the list of skipped tests");
    writeln!(list, "{test}: {reason}").expect("the list of skipped tests");
}

/// Whether the running kernel skips a program in which another thread has lost its CPU: seen in 7.3, and in none up to 6.18.
pub fn skips_programs() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.expect("a number") >= 7
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    // SAFETY: has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The hitscope under test.
pub fn binary() -> PathBuf {
    match env::var_os("HITSCOPE_BINARY") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/hitscope"),
    }
}

/// A Python with psycopg.
pub fn python() -> PathBuf {
    env::var_os("HITSCOPE_PYTHON").expect("HITSCOPE_PYTHON, which xtask sets").into()
}

/// Looks again and again until there is an answer.
///
/// # Panics
/// After [`limit`], with what was waited for.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A TCP port on 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
