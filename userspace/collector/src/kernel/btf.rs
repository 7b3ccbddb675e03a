//! Field offsets of the running kernel, from its own description of its types.

use std::{collections::BTreeMap, fs, path::Path};

use btfparse::{Error as BtfError, ErrorKind, Offset, Readable, TypeInformation};
use hitscope_schemas::offsets::Offsets;

/// Where the kernel shows its types.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Why there are no offsets at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(
        "cannot read {path}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels from 5.10 on are"
    )]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no BTF.
    #[error("cannot make sense of {path}: {message}")]
    Parse {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
}

/// The offsets, and of each absent field why: its name in [`Offsets`] and what was looked for.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// For the probes.
    pub offsets: Offsets,
    /// Absent fields.
    pub absent: BTreeMap<&'static str, String>,
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BtfError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.0.get(start..).and_then(|rest| rest.get(..buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(BtfError::new(ErrorKind::IOError, "read beyond the end of the file")),
        }
    }
}

/// Looks every field of [`Offsets`] up in the BTF file at `path`.
pub fn resolve(path: &Path) -> Result<Resolved, Error> {
    let name = || path.display().to_string();
    let bytes = fs::read(path).map_err(|source| Error::Read { path: name(), source })?;
    let types = TypeInformation::new(&Bytes(bytes))
        .map_err(|error| Error::Parse { path: name(), message: error.message().to_owned() })?;
    let mut offsets = Offsets::NONE;
    let mut absent = BTreeMap::new();
    for (slot, (field, structure, paths)) in offsets.as_slice_mut().iter_mut().zip(Offsets::FIELDS) {
        let offset = types.id_of(structure).and_then(|id| {
            paths.iter().find_map(|path| match types.offset_of(id, path) {
                Ok((_, Offset::ByteOffset(offset) | Offset::BitOffsetAndSize(offset, _))) => Some(offset),
                Err(_) => None,
            })
        });
        match offset {
            Some(offset) => *slot = offset,
            None => {
                absent.insert(*field, format!("struct {structure} has no {}", paths.join(" or ")));
            }
        }
    }
    Ok(Resolved { offsets, absent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_field() {
        let resolved = resolve(Path::new(PATH)).expect("BTF of the running kernel");
        assert!(resolved.absent.is_empty(), "{:?}", resolved.absent);
        assert!(resolved.offsets.task_tgid > resolved.offsets.task_pid);
        // A bit field, in bits.
        assert!(resolved.offsets.task_in_iowait > 8 * resolved.offsets.task_state);
    }

    #[test]
    fn garbage_and_absence_are_told_apart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let garbage = folder.path().join("vmlinux");
        fs::write(&garbage, b"no types here").expect("write");
        assert!(matches!(resolve(&garbage), Err(Error::Parse { .. })));
        assert!(matches!(resolve(&folder.path().join("absent")), Err(Error::Read { .. })));
    }
}
