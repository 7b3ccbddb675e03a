//! What a client can call by name or number: prepared statements and portals.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::sql::Operation;

/// A prepared statement, or a portal bound to one.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub operation: Operation,
    /// As written; only where literals are allowed.
    pub text: Option<Arc<str>>,
    /// A portal: it ran before, so that it is resumed.
    pub ran: bool,
}

impl Prepared {
    pub fn bytes(&self) -> usize {
        self.operation.text.len() + self.text.as_ref().map_or(0, |text| text.len())
    }
}

/// Names and what they stand for. The one without a name stands apart: it is the most used.
#[derive(Debug)]
pub struct Names {
    unnamed: Option<Prepared>,
    named: HashMap<Box<[u8]>, (Prepared, u64)>,
    named_bytes: usize,
    max_bytes: usize,
    uses: u64,
}

impl Names {
    pub fn new(max_bytes: usize) -> Self {
        Self { unnamed: None, named: HashMap::new(), named_bytes: 0, max_bytes, uses: 0 }
    }

    pub fn memory_bytes(&self) -> usize {
        self.named.allocation_size() + self.named_bytes + self.unnamed.as_ref().map_or(0, Prepared::bytes)
    }

    /// Returns how many names had to go to make room: those not used for longest.
    pub fn insert(&mut self, name: &[u8], prepared: Prepared) -> u64 {
        if name.is_empty() {
            self.unnamed = Some(prepared);
            return 0;
        }
        self.remove(name);
        let bytes = name.len() + prepared.bytes();
        let mut evicted = 0;
        while !self.named.is_empty() && self.memory_with(bytes) > self.max_bytes {
            evicted += self.evict();
        }
        if self.memory_with(bytes) > self.max_bytes {
            return evicted + 1;
        }
        self.uses += 1;
        self.named_bytes += bytes;
        self.named.insert(name.into(), (prepared, self.uses));
        evicted
    }

    /// Memory that the named ones take with one more of `bytes`: a full map doubles.
    fn memory_with(&self, bytes: usize) -> usize {
        let map = self.named.allocation_size();
        let map = if self.named.len() < self.named.capacity() { map } else { 2 * map + 512 };
        map + self.named_bytes + bytes
    }

    pub fn get(&mut self, name: &[u8]) -> Option<&mut Prepared> {
        if name.is_empty() {
            return self.unnamed.as_mut();
        }
        self.uses += 1;
        let (prepared, used) = self.named.get_mut(name)?;
        *used = self.uses;
        Some(prepared)
    }

    pub fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else if let Some((prepared, _)) = self.named.remove(name) {
            self.named_bytes -= name.len() + prepared.bytes();
        }
    }

    pub fn clear(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
            self.named.shrink_to(16);
            self.named_bytes = 0;
        }
    }

    /// Drops the quarter not used for longest.
    fn evict(&mut self) -> u64 {
        let mut used: Vec<u64> = self.named.values().map(|(_, used)| *used).collect();
        let quarter = used.len() / 4;
        let (_, &mut limit, _) = used.select_nth_unstable(quarter);
        let before = std::mem::take(&mut self.named);
        let count = before.len();
        // Into a new map: one that only had entries removed could grow all the same.
        self.named = before.into_iter().filter(|(_, (_, used))| *used > limit).collect();
        self.named_bytes = self.named.iter().map(|(name, (prepared, _))| name.len() + prepared.bytes()).sum();
        (count - self.named.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Operations;

    #[test]
    fn bounded_and_the_used_stay() {
        let prepared = Prepared { operation: Operations::default().named("select ?"), text: None, ran: false };
        let mut names = Names::new(16 << 10);
        let mut evicted = 0;
        names.insert(b"kept", prepared.clone());
        for n in 0..5000 {
            evicted += names.insert(format!("S_{n}").as_bytes(), prepared.clone());
            assert!(names.get(b"kept").is_some());
            assert!(names.memory_bytes() <= 16 << 10, "{}", names.memory_bytes());
        }
        assert!(names.get(b"S_4999").is_some() && names.get(b"S_0").is_none());
        assert!(evicted as usize == 5001 - names.named.len());
        names.clear();
        assert_eq!(names.named_bytes, 0);
        assert!(names.get(b"kept").is_none());
    }
}
