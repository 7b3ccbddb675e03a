//! Looks into ELF files through a small buffer: what programs name by symbols can be hundreds of megabytes.

use std::{fs::File, io, os::unix::fs::FileExt};

use memchr::memmem::Finder;
use object::{
    NativeEndian as Native, elf,
    pod::{self, Pod},
};

/// Read at a time, bytes.
const CHUNK_BYTES: u64 = 64 << 10;
/// Most headers of sections, and of segments; linkers write a few dozen.
const MAX_HEADERS: usize = 4096;
/// Most bytes of one table; a larger one passes for empty. Those of browsers, with all their symbols, have some 100 MiB.
const MAX_TABLE_BYTES: u64 = 256 << 20;
/// Most places of a name within a table of strings; a name may also be another's end.
const MAX_PLACES: usize = 64;

/// What a 64-bit ELF file of this machine's byte order says of its parts.
pub struct Elf {
    file: File,
    sections: Vec<elf::SectionHeader64<Native>>,
    segments: Vec<elf::ProgramHeader64<Native>>,
    names: usize,
}

impl Elf {
    /// # Errors
    /// When the file cannot be read, or is no such file.
    pub fn read(file: File) -> io::Result<Self> {
        let headers = read::<elf::FileHeader64<Native>>(&file, 0, 1)?;
        let header = &headers[0];
        let ident = &header.e_ident;
        let order = if cfg!(target_endian = "little") { elf::ELFDATA2LSB } else { elf::ELFDATA2MSB };
        if ident.magic != elf::ELFMAG || (ident.class, ident.data) != (elf::ELFCLASS64, order) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no 64-bit ELF file"));
        }
        let count = |count: u16| usize::from(count).min(MAX_HEADERS);
        let sections = read(&file, header.e_shoff.get(Native), count(header.e_shnum.get(Native)))?;
        let segments = read(&file, header.e_phoff.get(Native), count(header.e_phnum.get(Native)))?;
        let names = header.e_shstrndx.get(Native).into();
        Ok(Self { file, sections, segments, names })
    }

    /// Offsets in the file of the named functions, in the order of `names`: of those that it exports, or, where it
    /// exports none of them, of those that it otherwise names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn functions(&self, names: &[&str]) -> io::Result<Vec<Option<u64>>> {
        let exported = self.symbols(elf::SHT_DYNSYM, names)?;
        if exported.iter().any(Option::is_some) { Ok(exported) } else { self.symbols(elf::SHT_SYMTAB, names) }
    }

    /// Whether there is a section of one of these names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_section(&self, names: &[&str]) -> io::Result<bool> {
        let Some(table) = self.sections.get(self.names) else { return Ok(false) };
        let places = self.places(table, names)?;
        Ok(self.sections.iter().any(|section| places.iter().any(|(place, _)| *place == section.sh_name.get(Native))))
    }

    fn symbols(&self, kind: u32, names: &[&str]) -> io::Result<Vec<Option<u64>>> {
        let mut found = vec![None; names.len()];
        // A file has one of each kind.
        if let Some(table) = self.sections.iter().find(|section| section.sh_type.get(Native) == kind) {
            let Some(strings) = self.sections.get(table.sh_link.get(Native) as usize) else { return Ok(found) };
            let places = self.places(strings, names)?;
            if places.is_empty() {
                return Ok(found);
            }
            let size = size_of::<elf::Sym64<Native>>() as u64;
            let (count, step) = (table_bytes(table) / size, CHUNK_BYTES / size);
            for first in (0..count).step_by(step as usize) {
                let at = table.sh_offset.get(Native).saturating_add(first * size);
                for symbol in read::<elf::Sym64<Native>>(&self.file, at, step.min(count - first) as usize)? {
                    if symbol.st_shndx.get(Native) != elf::SHN_UNDEF
                        && let Ok(place) = places.binary_search_by_key(&symbol.st_name.get(Native), |place| place.0)
                    {
                        found[places[place].1] = self.offset(symbol.st_value.get(Native));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Where in a table of strings the names lie, with their index in `names`; sorted.
    fn places(&self, table: &elf::SectionHeader64<Native>, names: &[&str]) -> io::Result<Vec<(u32, usize)>> {
        let needles: Vec<Vec<u8>> = names.iter().map(|name| [name.as_bytes(), b"\0"].concat()).collect();
        let finders: Vec<Finder<'_>> = needles.iter().map(Finder::new).collect();
        let overlap = needles.iter().map(Vec::len).max().unwrap_or(1) as u64 - 1;
        let mut places = Vec::new();
        let (mut at, size) = (0, table_bytes(table));
        while at < size {
            let length = CHUNK_BYTES.min(size - at);
            let bytes: Vec<u8> = read(&self.file, table.sh_offset.get(Native).saturating_add(at), length as usize)?;
            for (index, finder) in finders.iter().enumerate() {
                let found = finder.find_iter(&bytes).take(MAX_PLACES);
                places.extend(found.filter_map(|place| Some((u32::try_from(at + place as u64).ok()?, index))));
            }
            if at + length == size {
                break;
            }
            at += length - overlap;
            if places.len() > MAX_PLACES * names.len() {
                break;
            }
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Where in the file an address lies.
    fn offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| segment.p_type.get(Native) == elf::PT_LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr.get(Native))?;
            (within < segment.p_filesz.get(Native)).then(|| segment.p_offset.get(Native).saturating_add(within))
        })
    }
}

fn table_bytes(section: &elf::SectionHeader64<Native>) -> u64 {
    let bytes = section.sh_size.get(Native);
    if section.sh_type.get(Native) == elf::SHT_NOBITS || bytes > MAX_TABLE_BYTES { 0 } else { bytes }
}

/// Reads so many items that lie one after the other.
fn read<T: Pod>(file: &File, offset: u64, count: usize) -> io::Result<Vec<T>> {
    let bytes = count * size_of::<T>();
    // In words, so that items lie where their type wants it.
    let mut words = vec![0_u64; bytes.div_ceil(size_of::<u64>())];
    let buffer = &mut bytemuck::cast_slice_mut(&mut words)[..bytes];
    file.read_exact_at(buffer, offset)?;
    match pod::slice_from_bytes(buffer, count) {
        Ok((items, _)) => Ok(items.to_vec()),
        Err(()) => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose only content is a table of strings.
    fn strings(text: &[u8]) -> (Elf, elf::SectionHeader64<Native>) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(text, 0).unwrap();
        let mut table = elf::SectionHeader64 {
            sh_name: Default::default(),
            sh_type: Default::default(),
            sh_flags: Default::default(),
            sh_addr: Default::default(),
            sh_offset: Default::default(),
            sh_size: Default::default(),
            sh_link: Default::default(),
            sh_info: Default::default(),
            sh_addralign: Default::default(),
            sh_entsize: Default::default(),
        };
        table.sh_size.set(Native, text.len() as u64);
        (Elf { file, sections: Vec::new(), segments: Vec::new(), names: 0 }, table)
    }

    /// Also where it lies across what is read at a time, and as another's end.
    #[test]
    fn names_are_found_wherever_they_lie() {
        let mut text = vec![b'x'; 3 * CHUNK_BYTES as usize];
        let chunk = CHUNK_BYTES as usize;
        let expected: Vec<usize> = (chunk - 12..chunk + 2).step_by(13).chain([0, 200, text.len() - 5]).collect();
        for place in &expected {
            text[*place..place + 5].copy_from_slice(b"name\0");
        }
        text[500..505].copy_from_slice(b"names");
        let (elf, table) = strings(&text);
        let mut expected: Vec<(u32, usize)> = expected.into_iter().map(|place| (place as u32, 1)).collect();
        expected.sort_unstable();
        assert_eq!(elf.places(&table, &["other", "name"]).unwrap(), expected);
    }

    #[test]
    fn places_are_bounded() {
        let (elf, table) = strings(&b"name\0".repeat(200_000));
        assert!(elf.places(&table, &["name"]).unwrap().len() <= 2 * MAX_PLACES);
    }
}
