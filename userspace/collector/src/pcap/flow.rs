//! One direction of a TCP connection, put in order.
//!
//! Written here because no crate does just this: `protolens` couples reassembly to its own protocol parsers and buffer
//! pools, `smoltcp`'s assembler is that of an endpoint, which can ask again for what it missed.

use std::collections::BTreeMap;

/// Segments that wait for others before them, per direction, and bytes of them.
const MAX_WAITING: usize = 512;
const MAX_WAITING_BYTES: usize = 1 << 20;
/// What is this far off belongs to another connection or is nonsense.
const MAX_AHEAD: i64 = 1 << 30;
/// Once the other end has confirmed bytes that were not captured, so many more packets may pass before these are given
/// up: some captures tell packets of several CPUs in another order.
const PATIENCE: u32 = 2;

/// Bytes in order, ready to be decoded.
#[derive(Debug, PartialEq)]
pub struct Piece<'a> {
    /// Where in the direction they begin; what lies between this and the end of the piece before was not captured.
    pub offset: u64,
    pub captured: &'a [u8],
    /// Bytes; those beyond `captured` were cut off.
    pub length: u32,
}

#[derive(Debug)]
struct Waiting {
    captured: Box<[u8]>,
    length: u32,
}

#[derive(Debug, Default)]
pub struct Flow {
    /// Sequence number of the next byte.
    next: Option<u32>,
    /// Where in the direction it is.
    offset: u64,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    /// What the other end has confirmed.
    confirmed: u64,
    /// Packets since it confirmed more than there is.
    patience: u32,
    /// Where the direction ends.
    end: Option<u64>,
    /// Stretches that were given up.
    pub gaps: u64,
}

impl Flow {
    /// The connection begins: the first byte follows this sequence number.
    pub fn begin(&mut self, sequence: u32) {
        if self.next.is_none() {
            self.next = Some(sequence.wrapping_add(1));
        }
    }

    /// Whether this begins another connection than the one that goes on.
    pub fn is_another(&self, sequence: u32) -> bool {
        self.next.is_some_and(|next| {
            let first = next.wrapping_sub(self.offset as u32).wrapping_sub(1);
            first != sequence
        })
    }

    /// Memory held for what waits, bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Everything up to its end was seen.
    pub fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.offset >= end)
    }

    /// Where in the direction a sequence number is: they wrap around.
    fn place(&self, sequence: u32) -> i64 {
        let next = self.next.unwrap_or(sequence);
        (self.offset as i64).saturating_add(i64::from(sequence.wrapping_sub(next) as i32))
    }

    /// Takes a segment; `each` gets what is in order now.
    pub fn take(&mut self, sequence: u32, captured: &[u8], length: u32, fin: bool, each: &mut dyn FnMut(Piece<'_>)) {
        if length == 0 && !fin {
            return;
        }
        self.next.get_or_insert(sequence);
        let place = self.place(sequence);
        if place - self.offset as i64 > MAX_AHEAD {
            return;
        }
        let end = place + i64::from(length);
        if fin && end >= 0 {
            self.end = Some(end as u64);
        }
        if end <= self.offset as i64 {
            // Sent once more.
            return;
        }
        if place > self.offset as i64 {
            self.wait(place as u64, captured, length);
            if self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
                self.give_up(each);
            }
            return;
        }
        let known = (self.offset as i64 - place) as u32;
        self.pass(captured.get(known as usize..).unwrap_or_default(), length - known, each);
        self.pass_waiting(each);
    }

    /// The other end has confirmed all before this sequence number.
    pub fn confirm(&mut self, sequence: u32, each: &mut dyn FnMut(Piece<'_>)) {
        if self.next.is_none() {
            return;
        }
        let place = self.place(sequence);
        if place > self.offset as i64 && place - (self.offset as i64) < MAX_AHEAD {
            self.confirmed = self.confirmed.max(place as u64);
        }
        if self.waiting.is_empty() || self.confirmed <= self.offset {
            self.patience = 0;
            return;
        }
        self.patience += 1;
        if self.patience > PATIENCE {
            self.give_up(each);
        }
    }

    /// Goes on behind the bytes that are missing.
    pub fn give_up(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        self.patience = 0;
        if let Some(&place) = self.waiting.keys().next() {
            self.gaps += 1;
            self.skip_to(place);
            self.pass_waiting(each);
        }
    }

    /// No more comes: hands out whatever waits.
    pub fn finish(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        while !self.waiting.is_empty() {
            self.give_up(each);
        }
    }

    fn skip_to(&mut self, place: u64) {
        let skipped = place.saturating_sub(self.offset);
        self.next = self.next.map(|next| next.wrapping_add(skipped as u32));
        self.offset = self.offset.max(place);
    }

    fn pass(&mut self, captured: &[u8], length: u32, each: &mut dyn FnMut(Piece<'_>)) {
        if length == 0 {
            return;
        }
        each(Piece { offset: self.offset, captured, length });
        self.skip_to(self.offset + u64::from(length));
    }

    fn wait(&mut self, place: u64, captured: &[u8], length: u32) {
        // Of two that begin at one place the longer one says more.
        if self.waiting.get(&place).is_some_and(|waiting| waiting.length >= length) {
            return;
        }
        self.waiting_bytes += captured.len();
        if let Some(before) = self.waiting.insert(place, Waiting { captured: captured.into(), length }) {
            self.waiting_bytes -= before.captured.len();
        }
    }

    fn pass_waiting(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        while let Some(entry) = self.waiting.first_entry() {
            let place = *entry.key();
            if place > self.offset {
                return;
            }
            let Waiting { captured, length } = entry.remove();
            self.waiting_bytes -= captured.len();
            let known = self.offset - place;
            if known < u64::from(length) {
                let rest = captured.get(known as usize..).unwrap_or_default();
                self.pass(rest, length - known as u32, each);
            }
        }
        self.patience = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|n| n as u8).collect()
    }

    /// Takes segments, as (place, length), of a stream that begins at `first`; says what came out, by place.
    fn play(first: u32, segments: &[(usize, usize)]) -> (Vec<u8>, Vec<(u64, u32)>, Flow) {
        let stream = text(4096);
        let (mut flow, mut out, mut pieces) = (Flow::default(), Vec::new(), Vec::new());
        flow.begin(first.wrapping_sub(1));
        for (place, length) in segments {
            let bytes = &stream[*place..place + length];
            flow.take(first.wrapping_add(*place as u32), bytes, *length as u32, false, &mut |piece| {
                out.extend_from_slice(piece.captured);
                pieces.push((piece.offset, piece.length));
            });
        }
        (out, pieces, flow)
    }

    #[test]
    fn order_overlap_and_repetition() {
        for first in [1000, u32::MAX - 5, u32::MAX - 200, 0] {
            for segments in [
                &[(0, 100), (100, 200), (300, 50)][..],
                &[(100, 200), (300, 50), (0, 100)],
                &[(0, 100), (0, 100), (50, 100), (140, 210)],
                &[(300, 50), (100, 10), (100, 200), (290, 20), (0, 110), (0, 100)],
                &[(0, 350), (100, 50), (349, 1)],
            ] {
                let (out, _, flow) = play(first, segments);
                assert_eq!(out, text(350), "{first} {segments:?}");
                assert_eq!((flow.waiting_bytes, flow.waiting.len(), flow.gaps), (0, 0, 0));
            }
        }
    }

    #[test]
    fn what_is_missing_is_given_up_once_it_was_confirmed() {
        let (out, _, mut flow) = play(7, &[(0, 100), (200, 100), (400, 10)]);
        assert_eq!(out, text(100));
        let mut pieces = Vec::new();
        for _ in 0..PATIENCE {
            flow.confirm(7 + 300, &mut |piece| pieces.push((piece.offset, piece.length)));
        }
        assert!(pieces.is_empty());
        flow.confirm(7 + 300, &mut |piece| pieces.push((piece.offset, piece.length)));
        assert_eq!(pieces, [(200, 100)]);
        flow.finish(&mut |piece| pieces.push((piece.offset, piece.length)));
        assert_eq!((pieces, flow.gaps), (vec![(200, 100), (400, 10)], 2));
    }

    #[test]
    fn memory_is_bounded() {
        let mut flow = Flow::default();
        flow.begin(0);
        for n in 0..100_000_u32 {
            flow.take(2 + 3 * n * 700, &[0; 1400], 1400, false, &mut |_| {});
            assert!(flow.waiting_bytes <= MAX_WAITING_BYTES && flow.waiting.len() <= MAX_WAITING);
        }
        assert!(flow.gaps > 0);
    }

    #[test]
    fn cut_off_payloads_leave_a_hole() {
        let mut flow = Flow::default();
        let mut pieces = Vec::new();
        let mut each = |piece: Piece<'_>| pieces.push((piece.offset, piece.captured.len(), piece.length));
        flow.take(1, b"abc", 10, false, &mut each);
        flow.take(16, b"fg", 5, false, &mut each);
        flow.take(6, b"", 10, true, &mut each);
        assert_eq!(pieces, [(0, 3, 10), (10, 0, 5), (15, 2, 5)]);
        assert!(flow.ended());
    }
}
