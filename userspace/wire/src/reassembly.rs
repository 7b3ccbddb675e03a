//! One direction's bytes in order, with the holes between them.

use crate::segment::Segment;

/// A stretch of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Data(&'a [u8]),
    /// Bytes that a call moved and nobody captured.
    Uncaptured(u64),
    /// Segments that never came; how many bytes, where that is known.
    Missing(Option<u64>),
}

/// Where a direction stands.
#[derive(Debug, Default)]
pub struct Reassembly {
    next: Option<u64>,
    last: u64,
}

impl Reassembly {
    /// The pieces of `segment` in order; what was there before is left out.
    pub fn pieces<'a>(&mut self, segment: &Segment<'a>) -> impl Iterator<Item = Piece<'a>> + use<'a> {
        let Segment { offset, head, tail, .. } = *segment;
        // A head or tail longer than the call would be an error of the source; the length is corrected.
        let length = segment.length.max((head.len() as u64).saturating_add(tail.len() as u64));
        let mut missing = None;
        let mut repeated = 0;
        match self.next {
            Some(next) if offset > next => missing = Some(Piece::Missing(Some(offset - next))),
            // The same segment again, or one that overlaps the last.
            Some(next) if offset < next && offset >= self.last => repeated = next - offset,
            // The source began to count anew.
            Some(next) if offset < next => missing = Some(Piece::Missing(None)),
            _ => {}
        }
        self.next = Some(offset.saturating_add(length.max(repeated)));
        self.last = offset;

        let uncaptured = length - head.len() as u64 - tail.len() as u64;
        let head_cut = repeated.min(head.len() as u64);
        let middle_cut = (repeated - head_cut).min(uncaptured);
        let tail_cut = (repeated - head_cut - middle_cut).min(tail.len() as u64);
        let (head, tail) = (&head[head_cut as usize..], &tail[tail_cut as usize..]);
        [
            missing,
            (!head.is_empty()).then_some(Piece::Data(head)),
            (uncaptured > middle_cut).then_some(Piece::Uncaptured(uncaptured - middle_cut)),
            (!tail.is_empty()).then_some(Piece::Data(tail)),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Direction, Mark};

    fn pieces(
        reassembly: &mut Reassembly,
        offset: u64,
        length: u64,
        head: &'static [u8],
        tail: &'static [u8],
    ) -> Vec<Piece<'static>> {
        let mark = Mark::default();
        let segment = Segment { direction: Direction::Sent, enter_ns: 0, mark, offset, length, head, tail };
        reassembly.pieces(&segment).collect()
    }

    #[test]
    fn holes_and_repeats() {
        let mut stream = Reassembly::default();
        assert_eq!(pieces(&mut stream, 100, 3, b"abc", b""), [Piece::Data(b"abc")]);
        assert_eq!(
            pieces(&mut stream, 103, 10, b"de", b"f"),
            [Piece::Data(b"de"), Piece::Uncaptured(7), Piece::Data(b"f")]
        );
        assert_eq!(pieces(&mut stream, 103, 10, b"de", b"f"), []);
        assert_eq!(pieces(&mut stream, 112, 2, b"fg", b""), [Piece::Data(b"g")]);
        assert_eq!(pieces(&mut stream, 120, 1, b"h", b""), [Piece::Missing(Some(6)), Piece::Data(b"h")]);
        assert_eq!(pieces(&mut stream, 0, 1, b"a", b""), [Piece::Missing(None), Piece::Data(b"a")]);
        assert_eq!(
            pieces(&mut stream, u64::MAX, u64::MAX, b"a", b""),
            [Piece::Missing(Some(u64::MAX - 1)), Piece::Data(b"a"), Piece::Uncaptured(u64::MAX - 1)]
        );
    }
}
