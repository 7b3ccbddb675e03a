//! However the bytes of a stream come in pieces, the hits are the same.

use super::*;
use crate::testing::{same_by_head_and_tail, same_when_cut};

#[test]
fn cut_at_every_byte() {
    for turns in [session(), session()[2..].to_vec(), session()[20..].to_vec()] {
        for client in [false, true] {
            assert!(!same_when_cut(&turns, client).is_empty());
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&session());
}
