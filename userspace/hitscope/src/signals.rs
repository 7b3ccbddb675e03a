//! SIGTERM and SIGINT as one wish to end.

use std::sync::{Arc, atomic::AtomicBool};

use hitscope_base::{Explain, Failure};
use libc::{SIGINT, SIGTERM};

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
