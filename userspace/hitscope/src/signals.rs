//! SIGTERM and SIGINT as one wish to end; SIGHUP as the wish to look at the configuration anew.

use std::{
    io::Read,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicBool},
};

use hitscope_base::{Explain, Failure};
use libc::{SIGHUP, SIGINT, SIGTERM};

/// A flag that the first SIGTERM or SIGINT sets, for code without a runtime; a second one ends the process at once.
///
/// # Errors
/// When the signals cannot be caught.
pub fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: at the first signal the flag is not set yet when the shutdown looks at it.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .explain("cannot catch signals")?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).explain("cannot catch signals")?;
    }
    Ok(stop)
}

/// SIGHUPs, which from here on end nothing.
pub struct Reloads(UnixStream);

impl Reloads {
    /// Catches them.
    ///
    /// # Errors
    /// When they cannot be caught.
    pub fn catch() -> Result<Self, Failure> {
        const WHAT: &str = "cannot catch signals";
        let (caught, sender) = UnixStream::pair().explain(WHAT)?;
        signal_hook::low_level::pipe::register(SIGHUP, sender).explain(WHAT)?;
        Ok(Self(caught))
    }

    /// Waits for the next; several that came meanwhile are one. False when none will ever come.
    pub fn next(&mut self) -> bool {
        self.0.read(&mut [0; 64]).is_ok_and(|length| length > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_is_a_wish_and_no_end() {
        let mut reloads = Reloads::catch().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert!(reloads.next());
    }
}
