//! Feeds the reader of DNS answers whatever a process may have received from port 53; see `wire.rs` for how to build.
#![no_main]

use hitscope_wire::dns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(answer) = dns::answer(data) {
        assert!(!answer.name.is_empty() && answer.name.is_ascii());
        // A record with an address takes at least 14 bytes, with a name of one byte.
        assert!(!answer.addresses.is_empty() && answer.addresses.len() * 14 <= data.len());
    }
});
