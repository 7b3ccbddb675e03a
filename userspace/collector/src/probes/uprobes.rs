//! Uprobes by links of many places each, which Linux has from 6.6 on, and aya 0.14 not yet.
//!
//! What is attached by a perf event, each place on its own, takes the kernel some 90 ms to let go of, one after the other,
//! while nobody on the host can attach anything. A link lets go of all its places at once, in the time of one.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CStr, CString, c_char},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object, ProgramSection,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info,
        bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};

/// Programs that attach so.
pub(super) struct Multi(HashMap<&'static str, Program>);

struct Program {
    fd: OwnedFd,
    /// It runs at the functions' return.
    returns: bool,
}

impl Multi {
    /// Loads programs of the object that `loaded` has the maps of; `None` where the kernel lacks such links.
    ///
    /// # Errors
    /// When the object or the kernel does not have what they need.
    pub(super) fn load(
        object: &[u8],
        loaded: &Ebpf,
        names: impl Iterator<Item = &'static str>,
    ) -> io::Result<Option<Self>> {
        if !are_known() {
            return Ok(None);
        }
        let mut object = Object::parse(object).map_err(io::Error::other)?;
        let maps = std::mem::take(&mut object.maps);
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = maps.iter().filter_map(|(name, map)| Some((name.as_str(), map_fd(loaded.map(name)?)?, map)));
        object.relocate_maps(maps, &text).map_err(io::Error::other)?;
        object.relocate_calls(&text).map_err(io::Error::other)?;
        let mut programs = HashMap::new();
        for name in names {
            let program = object.programs.get(name).ok_or_else(|| io::Error::other(format!("no program {name}")))?;
            let returns = matches!(program.section, ProgramSection::URetProbe { .. });
            let function = &object.functions[&program.function_key()];
            programs.insert(name, Program { fd: load(name, &function.instructions, &program.license)?, returns });
        }
        Ok(Some(Self(programs)))
    }

    fn program(&self, name: &str) -> io::Result<&Program> {
        self.0.get(name).ok_or_else(|| io::Error::other(format!("no program {name}")))
    }

    /// Attaches a program at offsets of a file, for all processes, until the descriptor is closed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn attach(&self, name: &str, path: &Path, offsets: &[u64]) -> io::Result<OwnedFd> {
        let program = self.program(name)?;
        link(&program.fd, path, offsets, program.returns)
    }

    /// Puts a program where others go on with it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set_tail(&self, name: &str, array: &Map, index: u32) -> io::Result<()> {
        let array = map_fd(array).ok_or_else(|| io::Error::other("no array of programs"))?;
        let program = self.program(name)?.fd.as_raw_fd();
        let mut attributes: bpf_attr = zeroed();
        attributes.__bindgen_anon_2.map_fd = array as u32;
        attributes.__bindgen_anon_2.key = (&raw const index) as u64;
        attributes.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const program) as u64;
        // SAFETY: key and value are of the array's sizes and outlive the call.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }

    /// Instructions that the verifier walked through.
    pub(super) fn verified_instructions(&self, name: &str) -> Option<u32> {
        Some(info(self.0.get(name)?.fd.as_fd()).ok()?.verified_insns)
    }
}

/// What the kernel says of a loaded program.
///
/// # Errors
/// When it says nothing.
pub(super) fn info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    let mut info: bpf_prog_info = zeroed();
    let mut attributes: bpf_attr = zeroed();
    attributes.info.bpf_fd = program.as_raw_fd() as u32;
    attributes.info.info_len = size_of::<bpf_prog_info>() as u32;
    attributes.info.info = (&raw mut info) as u64;
    // SAFETY: `info` is of the length said and outlives the call; it asks for nothing that is written elsewhere.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info)
}

/// Whether the kernel attaches uprobes by links, and lets us: it then finds that `/` is no file to attach to (as libbpf asks,
/// too).
pub fn are_known() -> bool {
    // r0 = 0; exit
    let instructions = [instruction(0xb7), instruction(0x95)];
    let refused = load("known", &instructions, c"GPL").and_then(|program| link(&program, Path::new("/"), &[0], false));
    refused.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}

fn instruction(code: u8) -> bpf_insn {
    bpf_insn { code, ..zeroed() }
}

fn load(name: &str, instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let mut attributes: bpf_attr = zeroed();
    attributes.__bindgen_anon_3.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    attributes.__bindgen_anon_3.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    attributes.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attributes.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attributes.__bindgen_anon_3.license = license.as_ptr() as u64;
    let mut short: [c_char; 16] = [0; 16];
    // The last stays the end.
    short[..15].iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from as c_char);
    attributes.__bindgen_anon_3.prog_name = short;
    // SAFETY: instructions and licence outlive the call; it gives a new descriptor.
    unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn link(program: &OwnedFd, path: &Path, offsets: &[u64], returns: bool) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes: bpf_attr = zeroed();
    attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attributes.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    attributes.link_create.__bindgen_anon_3.uprobe_multi.path = path.as_ptr() as u64;
    attributes.link_create.__bindgen_anon_3.uprobe_multi.offsets = offsets.as_ptr() as u64;
    attributes.link_create.__bindgen_anon_3.uprobe_multi.cnt = offsets.len() as u32;
    attributes.link_create.__bindgen_anon_3.uprobe_multi.flags = if returns { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
    // SAFETY: path and offsets outlive the call; it gives a new descriptor.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// # Safety
/// What the attributes point to must be valid for the command.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes the attributes within their size; the rest is the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attributes, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// One of the kernel's structures, all zero: what is not set has its default.
fn zeroed<T: Plain>() -> T {
    // SAFETY: they are made of integers alone.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Structures, and unions of them, that are made of integers alone.
trait Plain {}
impl Plain for bpf_attr {}
impl Plain for bpf_insn {}
impl Plain for bpf_prog_info {}

fn map_fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuHashMap(data)
    | Map::PerCpuLruHashMap(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}
