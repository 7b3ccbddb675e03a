//! Header blocks, RFC 7541, for one direction.
//!
//! Of the table that both ends share only what hits are made of is kept; all else takes a place and nothing more,
//! credentials among it. An index counts from the newest entry, so entries that the other end has evicted and this
//! one not do no harm, and after a hole the table fills anew from the front: an entry from before it is unknown, and
//! never taken for another. Huffman codes are the library's part.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// Fields that hits are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Method,
    Path,
    Authority,
    Host,
    Status,
    ContentType,
    ContentLength,
    GrpcStatus,
    GrpcMessage,
    Other,
    /// Its entry in the table was not seen.
    Unknown,
}

/// Names whose values are looked at.
const KEPT: usize = Name::Other as usize;

/// The longest name whose value is looked at has 14 letters.
const MAX_NAME_BYTES: usize = 16;
/// Bytes of values other than paths and messages.
const MAX_VALUE_BYTES: usize = 256;

impl Name {
    fn of(text: &[u8]) -> Self {
        match text {
            b":method" => Name::Method,
            b":path" => Name::Path,
            b":authority" => Name::Authority,
            b"host" => Name::Host,
            b":status" => Name::Status,
            b"content-type" => Name::ContentType,
            b"content-length" => Name::ContentLength,
            b"grpc-status" => Name::GrpcStatus,
            b"grpc-message" => Name::GrpcMessage,
            _ => Name::Other,
        }
    }

    fn is_kept(self) -> bool {
        (self as usize) < KEPT
    }
}

/// RFC 7541, appendix A. Entries and values that are not looked at are left empty.
fn static_entry(index: usize) -> Option<(Name, &'static [u8])> {
    Some(match index {
        1 => (Name::Authority, b""),
        2 => (Name::Method, b"GET"),
        3 => (Name::Method, b"POST"),
        4 => (Name::Path, b"/"),
        5 => (Name::Path, b"/index.html"),
        8 => (Name::Status, b"200"),
        9 => (Name::Status, b"204"),
        10 => (Name::Status, b"206"),
        11 => (Name::Status, b"304"),
        12 => (Name::Status, b"400"),
        13 => (Name::Status, b"404"),
        14 => (Name::Status, b"500"),
        28 => (Name::ContentLength, b""),
        31 => (Name::ContentType, b""),
        38 => (Name::Host, b""),
        0 | 62.. => return None,
        _ => (Name::Other, b""),
    })
}

const STATIC_ENTRIES: usize = 61;

/// A field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// The block has none.
    Absent,
    /// It may be there, in a part of the table or block that was not seen.
    Unresolved,
    Value {
        bytes: &'a [u8],
        /// There was more.
        cut: bool,
    },
}

impl<'a> Field<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Field::Value { bytes, .. } => Some(bytes),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    end: usize,
    cut: bool,
}

/// What the fields of one block say; used again for the next.
#[derive(Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    places: [Option<Place>; KEPT],
    /// Some field was not resolved, or the block's end not seen.
    pub unresolved: bool,
}

/// What the buffers keep from block to block, bytes.
const IDLE_BYTES: usize = 1024;

impl Fields {
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(IDLE_BYTES);
        self.places = [None; KEPT];
        self.unresolved = false;
    }

    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }

    pub fn get(&self, name: Name) -> Field<'_> {
        match self.places.get(name as usize).copied().flatten() {
            Some(Place { start, end, cut }) => Field::Value { bytes: &self.text[start..end], cut },
            None if self.unresolved => Field::Unresolved,
            None => Field::Absent,
        }
    }

    /// The first of several counts.
    fn add(&mut self, name: Name, value: &[u8], cut: bool) {
        if let Some(place @ None) = self.places.get_mut(name as usize) {
            let start = self.text.len();
            self.text.extend_from_slice(value);
            *place = Some(Place { start, end: self.text.len(), cut });
        }
        self.unresolved |= name == Name::Unknown;
    }
}

#[derive(Debug)]
struct Entry {
    name: Name,
    cut: bool,
    value: Box<[u8]>,
}

/// A block, or the rest of one, that is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid;

#[derive(Debug)]
pub struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// Of values.
    bytes: usize,
    max_bytes: usize,
    max_entries: usize,
    /// Bytes of a path that are looked at.
    path_bytes: usize,
    huffman: Huffman,
}

/// What an entry counts for at least in the size that both ends have agreed on, bytes.
const ENTRY_BYTES: usize = 32;
/// The size unless another was agreed on, bytes.
pub const DEFAULT_TABLE_BYTES: usize = 4096;

impl Table {
    /// `max_bytes`: of memory. `table_bytes`: the size that is agreed on, where it is known.
    pub fn new(max_bytes: usize, table_bytes: Option<usize>, path_bytes: usize) -> Self {
        let mut table = Self {
            entries: VecDeque::new(),
            bytes: 0,
            max_bytes: max_bytes / 2,
            max_entries: 0,
            path_bytes,
            huffman: Huffman::default(),
        };
        table.allow(table_bytes.unwrap_or(usize::MAX));
        table
    }

    /// The receiver agreed to so large a table. A smaller one needs nothing: what the sender evicts is not used again.
    pub fn allow(&mut self, table_bytes: usize) {
        let room = self.max_bytes / size_of::<Entry>();
        self.max_entries = self.max_entries.max(room.min(table_bytes / ENTRY_BYTES));
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.bytes + self.huffman.memory_bytes()
    }

    /// Blocks were missed.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Reads a block. What comes before an error is in `fields`.
    pub fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), Invalid> {
        self.huffman.text.shrink_to(IDLE_BYTES);
        let mut rest = block;
        while let Some(first) = rest.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.indexed(index, fields)?;
                }
                0x40.. => self.literal(&mut rest, 6, fields)?,
                0x20.. => {
                    if integer(&mut rest, 5)? == 0 {
                        self.clear();
                    }
                }
                _ => self.literal(&mut rest, 4, fields)?,
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, fields: &mut Fields) -> Result<(), Invalid> {
        if let Some((name, value)) = static_entry(index) {
            fields.add(name, value, false);
            return Ok(());
        }
        let place = index.checked_sub(STATIC_ENTRIES + 1).ok_or(Invalid)?;
        match self.entries.get(place) {
            Some(entry) => fields.add(entry.name, &entry.value, entry.cut),
            None => fields.unresolved = true,
        }
        Ok(())
    }

    fn name(&self, index: usize) -> Name {
        match static_entry(index) {
            Some((name, _)) => name,
            None => self.entries.get(index.wrapping_sub(STATIC_ENTRIES + 1)).map_or(Name::Unknown, |entry| entry.name),
        }
    }

    /// A field with its value. With a prefix of 6 bits it is to be remembered.
    fn literal(&mut self, rest: &mut &[u8], prefix: u32, fields: &mut Fields) -> Result<(), Invalid> {
        let name = match integer(rest, prefix)? {
            0 => {
                let name = Text::read(rest)?;
                match name.bytes.len() {
                    ..=MAX_NAME_BYTES => Name::of(name.decoded(MAX_NAME_BYTES, &mut self.huffman)?.0),
                    _ => Name::Other,
                }
            }
            index => self.name(index),
        };
        let value = Text::read(rest)?;
        let (value, cut) = match name {
            Name::Path | Name::GrpcMessage => value.decoded(self.path_bytes, &mut self.huffman)?,
            _ if name.is_kept() => value.decoded(MAX_VALUE_BYTES, &mut self.huffman)?,
            _ => (&[][..], false),
        };
        fields.add(name, value, cut);
        if prefix == 6 {
            let entry = Entry { name, cut, value: value.into() };
            self.insert(entry);
        }
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        let bytes = entry.value.len();
        while self.entries.len() >= self.max_entries || self.bytes + bytes > self.max_bytes {
            match self.entries.pop_back() {
                Some(entry) => self.bytes -= entry.value.len(),
                // Not even alone: it and what is older is unknown from now on.
                None => return,
            }
        }
        if self.entries.len() == self.entries.capacity() {
            let more = self.entries.capacity().max(4).min(self.max_entries - self.entries.len());
            self.entries.reserve_exact(more);
        }
        self.bytes += bytes;
        self.entries.push_front(entry);
    }
}

/// A text of a block.
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl<'a> Text<'a> {
    fn read(rest: &mut &'a [u8]) -> Result<Self, Invalid> {
        let huffman = rest.first().ok_or(Invalid)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (bytes, after) = rest.split_at_checked(length).ok_or(Invalid)?;
        *rest = after;
        Ok(Self { bytes, huffman })
    }

    /// Its first `limit` bytes, and whether there are more.
    fn decoded<'b>(&self, limit: usize, huffman: &'b mut Huffman) -> Result<(&'b [u8], bool), Invalid>
    where
        'a: 'b,
    {
        if !self.huffman {
            return Ok((&self.bytes[..self.bytes.len().min(limit)], self.bytes.len() > limit));
        }
        // No code is longer than 30 bits, the common ones have 5 to 8.
        let coded = &self.bytes[..self.bytes.len().min(limit)];
        let whole = coded.len() == self.bytes.len();
        let (text, valid) = huffman.decode(coded);
        if whole && !valid {
            return Err(Invalid);
        }
        Ok((&text[..text.len().min(limit)], !whole || text.len() > limit))
    }
}

/// Decodes Huffman codes, and remembers a few texts, since most come again with each request and the library reads five bits at
/// a time.
#[derive(Debug, Default)]
struct Huffman {
    text: Vec<u8>,
    known: [Known; KNOWN_TEXTS],
}

/// A valid code and its text.
#[derive(Debug, Default)]
struct Known {
    coded: Box<[u8]>,
    text: Box<[u8]>,
}

const KNOWN_TEXTS: usize = 8;
/// Longer ones are not remembered.
const KNOWN_BYTES: usize = 32;

impl Huffman {
    /// The text, and whether the code is valid to its end.
    fn decode(&mut self, coded: &[u8]) -> (&[u8], bool) {
        let place = coded.iter().fold(coded.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte)) % KNOWN_TEXTS;
        if *self.known[place].coded == *coded {
            return (&self.known[place].text, true);
        }
        self.text.clear();
        let valid = httlib_huffman::decode(coded, &mut self.text, DecoderSpeed::FiveBits).is_ok();
        if valid && coded.len() <= KNOWN_BYTES {
            self.known[place] = Known { coded: coded.into(), text: self.text.as_slice().into() };
        }
        (&self.text, valid)
    }

    fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.known.iter().map(|known| known.coded.len() + known.text.len()).sum::<usize>()
    }
}

/// RFC 7541, 5.1; `prefix`: bits of the first byte that belong to it. Larger ones than any block has are refused.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Invalid> {
    let (first, mut after) = rest.split_first().ok_or(Invalid)?;
    let mask = (1 << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, next) = after.split_first().ok_or(Invalid)?;
            after = next;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Invalid);
            }
        }
    }
    *rest = after;
    Ok(value)
}

#[cfg(test)]
mod tests;
