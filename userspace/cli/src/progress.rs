//! Progress on stderr where that is a terminal, for what takes longer than a second.

use std::{
    io::{IsTerminal, stderr},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shown only when it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the time that passed is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A line that appears after a second, says what is being done and for how long, and leaves nothing behind.
pub struct Progress {
    bar: ProgressBar,
    _done: mpsc::Sender<()>,
}

impl Progress {
    /// Begins.
    pub fn of(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(what.into());
        let (done, ended) = mpsc::channel();
        if stderr().is_terminal() {
            let shown = bar.clone();
            thread::spawn(move || {
                // Disconnected: it is over already.
                if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
                        shown.set_style(style);
                    }
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                    shown.enable_steady_tick(TICK);
                }
            });
        }
        Self { bar, _done: done }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
