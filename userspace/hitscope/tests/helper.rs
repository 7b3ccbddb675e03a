//! The collector's helper as a process: what it may, and what becomes of it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hitscope_helper::{Helper, use_program};

/// Generous: only that it ends at all is asserted.
const SOON: Duration = Duration::from_secs(30);

fn helper() -> Helper {
    use_program(env!("CARGO_BIN_EXE_hitscope").into());
    Helper::default()
}

/// This very test, which is an ELF file with symbols or at least sections.
fn program() -> File {
    File::open("/proc/self/exe").expect("this program")
}

fn of_process(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_start_matches(':').trim().to_owned()
}

fn works(helper: &mut Helper) {
    assert!(helper.has_section(&program(), &[".text"]).expect("an answer"));
    assert!(!helper.has_section(&program(), &[".no such section"]).expect("an answer"));
}

#[test]
fn it_can_do_nothing_else() {
    let mut helper = helper();
    works(&mut helper);
    let pid = helper.pid().expect("it runs");
    assert_eq!(of_process(pid, "Name"), "hitscope-helper");
    assert_eq!(of_process(pid, "NoNewPrivs"), "1");
    // A filter: 2, seccomp(2).
    assert_eq!(of_process(pid, "Seccomp"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(of_process(pid, set), "0000000000000000", "{set}");
    }
    // Its socket, and stdout and stderr.
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its files")
        .map(|file| fs::read_link(file.expect("a file").path()).expect("where it leads"))
        .collect();
    assert_eq!(open.len(), 3, "{open:?}");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("its environment"), b"");
    drop(helper);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it ends with who asks it");
}

#[test]
fn one_that_is_killed_or_stopped_is_replaced() {
    let mut helper = helper();
    works(&mut helper);
    for (number, signal) in [libc::SIGKILL, libc::SIGSTOP].into_iter().enumerate() {
        let pid = helper.pid().expect("it runs");
        // SAFETY: plain integers; the child has not been waited for.
        unsafe { libc::kill(pid.cast_signed(), signal) };
        let start = Instant::now();
        let error = helper.has_section(&program(), &[".text"]).expect_err("nobody answers").to_string();
        assert!(error.contains("the helper that looked into it was given up"), "{error}");
        assert!(start.elapsed() < SOON);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(helper.killed(), number as u64 + 1);
        works(&mut helper);
        assert_ne!(helper.pid(), Some(pid));
    }
}

/// 4,096 sections, each a table of symbols, whose names lie in one of 4 GiB that takes no room on the disk.
#[test]
fn a_file_made_to_take_long_costs_a_bounded_time() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(4 << 30).expect("a sparse file");
    let mut header = [0_u8; 64];
    File::open("/proc/self/exe").expect("this program").read_exact_at(&mut header, 0).expect("its header");
    let (sections, size) = (4096_u16, 64_u64);
    header[40..48].copy_from_slice(&64_u64.to_ne_bytes()); // e_shoff
    header[56..58].copy_from_slice(&0_u16.to_ne_bytes()); // e_phnum
    header[60..62].copy_from_slice(&sections.to_ne_bytes()); // e_shnum
    header[62..64].copy_from_slice(&0_u16.to_ne_bytes()); // e_shstrndx
    file.write_all_at(&header, 0).expect("a header");
    for number in 0..u64::from(sections) {
        let mut section = [0_u8; 64];
        let (kind, bytes): (u32, u64) = if number == 0 { (3, 4 << 30) } else { (11, 1 << 20) };
        section[4..8].copy_from_slice(&kind.to_ne_bytes()); // SHT_STRTAB, SHT_DYNSYM
        section[32..40].copy_from_slice(&bytes.to_ne_bytes()); // sh_size
        file.write_all_at(&section, 64 + number * size).expect("a section");
    }
    let mut helper = helper();
    let start = Instant::now();
    let names: Vec<&str> = std::iter::repeat_n("SSL_read", 12).collect();
    let answer = helper.functions(&file, &names);
    assert!(start.elapsed() < SOON);
    assert!(answer.is_err() || answer.is_ok_and(|offsets| offsets.iter().all(Option::is_none)));
    works(&mut helper);
}

#[test]
fn what_is_no_elf_file_says_so() {
    let mut helper = helper();
    let file = File::open("/etc/passwd").expect("a text");
    let error = helper.has_section(&file, &[".text"]).expect_err("no answer").to_string();
    assert_eq!(error, "no 64-bit ELF file");
    assert_eq!(helper.killed(), 0);
    let file = tempfile::tempfile().expect("an empty file");
    helper.has_section(&file, &[".text"]).expect_err("no answer");
    works(&mut helper);
}
