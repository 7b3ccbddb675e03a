//! The table of operations: one `Arc<str>` per statement shape.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use hashbrown::HashMap;

use super::shape::{self, Dialect};

/// A request's shape. The id is FNV-1a (64 bit) of its UTF-8 text: the same over versions, runs and hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub text: Arc<str>,
    pub id: u64,
}

/// One statement of a text, as [`Operations::statements`] finds it.
pub(crate) struct Statement {
    pub operation: Operation,
    /// Where in the text it stands, without surrounding blanks and its semicolon.
    pub range: Range<usize>,
}

/// The operations seen: a handle, cheap to clone. Bounded: a full table is emptied and fills anew.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<Mutex<Table>>);

/// Operations kept.
const MAX_OPERATIONS: usize = 16 << 10;
/// Bytes of text kept.
const MAX_BYTES: usize = 8 << 20;

#[derive(Debug, Default)]
struct Table {
    ids: HashMap<Arc<str>, u64>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl Operations {
    /// Splits `text` at its top-level semicolons and hands out each statement. `cut`: the text was longer.
    pub(crate) fn statements(&self, text: &[u8], cut: bool, dialect: Dialect, each: &mut dyn FnMut(Statement)) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shape = std::mem::take(&mut table.scratch);
        let mut position = 0;
        while position < text.len() {
            shape.clear();
            let scanned = shape::scan(text, position, cut, dialect, &mut shape);
            position = scanned.next;
            if !shape.is_empty() {
                each(Statement { operation: table.intern(&shape), range: scanned.range });
            }
        }
        table.scratch = shape;
    }

    /// The operation of this very text.
    pub(crate) fn named(&self, text: &str) -> Operation {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).intern(text.as_bytes())
    }
}

impl Table {
    fn intern(&mut self, shape: &[u8]) -> Operation {
        // Most often it is UTF-8, which is found out faster so.
        let text = str::from_utf8(shape).map_or_else(|_| String::from_utf8_lossy(shape), Cow::Borrowed);
        if let Some((text, id)) = self.ids.get_key_value(&*text) {
            return Operation { text: text.clone(), id: *id };
        }
        if self.ids.len() >= MAX_OPERATIONS || self.bytes + text.len() > MAX_BYTES {
            self.ids.clear();
            self.bytes = 0;
        }
        let (text, id) = (Arc::<str>::from(&*text), fnv1a(text.as_bytes()));
        self.bytes += text.len();
        self.ids.insert(text.clone(), id);
        Operation { text, id }
    }
}

/// FNV-1a, 64 bit (Fowler, Noll, Vo).
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_table_is_bounded_and_shared() {
        let operations = Operations::default();
        let first = operations.named("a");
        assert!(Arc::ptr_eq(&first.text, &operations.clone().named("a").text));
        for n in 0..40_000 {
            operations.named(&n.to_string());
        }
        assert!(operations.0.lock().unwrap().ids.len() <= MAX_OPERATIONS);
        assert_eq!(operations.named("a"), first);
    }
}
