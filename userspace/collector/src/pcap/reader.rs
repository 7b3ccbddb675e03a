//! Frames out of pcap and pcapng files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader, traits::PcapReaderIterator};

/// A block of a file is no longer.
const MAX_BLOCK: usize = 4 << 20;
const BUFFER: usize = 256 << 10;
/// Interfaces of a pcapng file that are told apart.
const MAX_INTERFACES: usize = 1024;

/// A capture that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// The capture.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another kind of file, or damaged at its very begin.
    #[error("{} is no packet capture that can be read: it begins like one, but {why}", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Whether a file begins as pcap or pcapng do.
///
/// # Errors
/// When it cannot be read.
pub fn is_capture(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    let magic = <[u8; 4]>::try_from(magic).map(u32::from_be_bytes).unwrap_or_default();
    // Of microseconds and of nanoseconds in both byte orders; a section header block.
    Ok(matches!(magic, 0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0x0a0d_0d0a))
}

/// One frame.
pub struct Captured<'a> {
    /// Wall clock, ns since the epoch.
    pub time_ns: u64,
    pub link_type: i32,
    pub bytes: &'a [u8],
    /// Bytes of it on the wire.
    pub length: u32,
}

impl Captured<'_> {
    /// Whether all of it was captured.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 >= u64::from(self.length)
    }
}

/// How an interface's frames are to be read.
#[derive(Clone, Copy)]
struct Interface {
    link_type: i32,
    /// Units of its clock per second.
    resolution: u64,
    offset_seconds: i64,
}

/// Goes through a file.
pub struct Reader {
    path: PathBuf,
    blocks: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    /// Bytes of the block handed out, to be passed over.
    consumed: usize,
    capacity: usize,
    read: u64,
    damaged: Option<&'static str>,
    last_ns: u64,
}

/// What a block is, without what it borrows.
enum Found {
    Frame { time_ns: u64, link_type: i32, length: u32 },
    Interface(Interface),
    Section,
    Nothing,
}

impl Reader {
    /// Opens a capture.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|cause| Error::Io { path: path.to_owned(), cause })?;
        let blocks = create_reader(BUFFER, file).map_err(|error| {
            let why = match error {
                PcapError::Eof | PcapError::UnexpectedEof | PcapError::Incomplete(_) => "ends within its header",
                _ => "its header makes no sense",
            };
            Error::NotACapture { path: path.to_owned(), why }
        })?;
        Ok(Self {
            path: path.to_owned(),
            blocks,
            interfaces: Vec::new(),
            consumed: 0,
            capacity: BUFFER,
            read: 0,
            damaged: None,
            last_ns: 0,
        })
    }

    /// After the last frame: how the file is cut short or damaged, if it is.
    pub fn warning(&self) -> Option<String> {
        let why = self.damaged?;
        let path = self.path.display();
        Some(format!("{path} {why} at byte {}; everything before was used", self.read))
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Io`]. A file cut short or damaged ends early, which [`Self::warning`] tells.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Captured<'_>>, Error> {
        let (time_ns, link_type, length) = loop {
            self.blocks.consume(std::mem::take(&mut self.consumed));
            let Some((size, found)) = self.block()? else { return Ok(None) };
            self.read += size as u64;
            match found {
                Found::Frame { time_ns, link_type, length } => {
                    self.consumed = size;
                    break (time_ns, link_type, length);
                }
                Found::Interface(interface) if self.interfaces.len() < MAX_INTERFACES => {
                    self.interfaces.push(interface)
                }
                // Interfaces are numbered anew.
                Found::Section => self.interfaces.clear(),
                Found::Interface(_) | Found::Nothing => {}
            }
            self.blocks.consume(size);
        };
        self.last_ns = time_ns;
        // The block is still in the reader's buffer: read again, it is the same.
        let bytes = match self.blocks.next() {
            Ok((_, PcapBlockOwned::Legacy(block))) => block.data,
            Ok((_, PcapBlockOwned::NG(Block::EnhancedPacket(block)))) => {
                &block.data[..block.data.len().min(block.caplen as usize)]
            }
            Ok((_, PcapBlockOwned::NG(Block::SimplePacket(block)))) => {
                &block.data[..block.data.len().min(block.origlen as usize)]
            }
            _ => &[],
        };
        Ok(Some(Captured { time_ns, link_type, bytes, length }))
    }

    /// Size and meaning of the block at hand.
    fn block(&mut self) -> Result<Option<(usize, Found)>, Error> {
        loop {
            let damage = match self.blocks.next() {
                Ok((size, block)) => {
                    let found = match block {
                        PcapBlockOwned::LegacyHeader(header) => {
                            let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                            // The upper bits say whether frames end in a checksum.
                            let link_type = header.network.0 & 0x0fff_ffff;
                            Found::Interface(Interface { link_type, resolution, offset_seconds: 0 })
                        }
                        PcapBlockOwned::Legacy(block) => match self.interfaces.first() {
                            Some(interface) => {
                                let units = u64::from(block.ts_sec) * interface.resolution + u64::from(block.ts_usec);
                                Found::Frame {
                                    time_ns: nanoseconds(units, interface),
                                    link_type: interface.link_type,
                                    length: block.origlen,
                                }
                            }
                            None => Found::Nothing,
                        },
                        PcapBlockOwned::NG(Block::SectionHeader(_)) => Found::Section,
                        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => Found::Interface(Interface {
                            link_type: block.linktype.0,
                            resolution: block.ts_resolution().filter(|units| *units > 0).unwrap_or(1_000_000),
                            offset_seconds: block.ts_offset(),
                        }),
                        PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                            match self.interfaces.get(block.if_id as usize) {
                                Some(interface) => {
                                    let units = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                                    Found::Frame {
                                        time_ns: nanoseconds(units, interface),
                                        link_type: interface.link_type,
                                        length: block.origlen,
                                    }
                                }
                                None => Found::Nothing,
                            }
                        }
                        PcapBlockOwned::NG(Block::SimplePacket(block)) => match self.interfaces.first() {
                            // It has no time of its own.
                            Some(interface) => Found::Frame {
                                time_ns: self.last_ns,
                                link_type: interface.link_type,
                                length: block.origlen,
                            },
                            None => Found::Nothing,
                        },
                        PcapBlockOwned::NG(_) => Found::Nothing,
                    };
                    return Ok(Some((size, found)));
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::UnexpectedEof) => "is cut short",
                Err(PcapError::Incomplete(_)) => match self.more()? {
                    true => continue,
                    false => "is cut short",
                },
                Err(PcapError::BufferTooSmall) if self.capacity < MAX_BLOCK => {
                    self.capacity *= 2;
                    self.blocks.grow(self.capacity);
                    continue;
                }
                Err(PcapError::ReadError) => return Err(self.failed()),
                Err(_) => "is damaged",
            };
            self.damaged = Some(damage);
            return Ok(None);
        }
    }

    /// Reads on; `false`: there is no more.
    fn more(&mut self) -> Result<bool, Error> {
        if self.blocks.reader_exhausted() {
            return Ok(false);
        }
        match self.blocks.refill() {
            Ok(()) => Ok(true),
            Err(PcapError::ReadError) => Err(self.failed()),
            Err(_) => Ok(false),
        }
    }

    fn failed(&self) -> Error {
        Error::Io { path: self.path.clone(), cause: io::Error::other("reading failed") }
    }
}

fn nanoseconds(units: u64, interface: &Interface) -> u64 {
    let ns = u128::from(units) * 1_000_000_000 / u128::from(interface.resolution);
    let offset = i128::from(interface.offset_seconds) * 1_000_000_000;
    // Up to the year 2262; what is beyond is damage.
    (ns as i128).saturating_add(offset).clamp(0, i64::MAX.into()) as u64
}
