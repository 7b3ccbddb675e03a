//! The least that tracing each syscall can cost: a program that does nothing, at both its ends.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// `bpf_cmd` and `bpf_prog_type`, include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit`, as `struct bpf_insn`.
static PROGRAM: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; the rest is zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instructions: u32,
    program: u64,
    license: u64,
    rest: [u64; 12],
}

#[repr(C)]
#[derive(Default)]
struct Open {
    name: u64,
    program: u32,
    padding: u32,
    rest: [u64; 12],
}

/// Attached while it lives.
pub struct EmptyPair {
    _links: [OwnedFd; 2],
}

impl EmptyPair {
    pub fn attach() -> Result<Self> {
        Ok(Self { _links: [attach(c"sys_enter")?, attach(c"sys_exit")?] })
    }
}

fn attach(tracepoint: &CStr) -> Result<OwnedFd> {
    let load = Load {
        program_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
        instructions: PROGRAM.len() as u32,
        program: PROGRAM.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("loading the empty program")?;
    let open = Open { name: tracepoint.as_ptr() as u64, program: program.as_raw_fd() as u32, ..Open::default() };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &open).with_context(|| format!("attaching to {tracepoint:?}"))
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `attributes` and what it points at, all of which outlives the call.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>() as libc::c_uint)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a file descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
