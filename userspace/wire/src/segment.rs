//! What a decoder is fed.

/// As the observed process saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Received,
    Sent,
}

impl Direction {
    /// 0 for received, 1 for sent.
    pub fn index(self) -> usize {
        self as usize
    }

    pub fn opposite(self) -> Self {
        match self {
            Direction::Received => Direction::Sent,
            Direction::Sent => Direction::Received,
        }
    }
}

/// Where a thread's time went up to a moment, ns: the difference of two says where it went between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable, but waiting for a CPU.
    pub runqueue_ns: u64,
    /// Blocked on a disk.
    pub disk_ns: u64,
    /// Blocked on a lock.
    pub lock_ns: u64,
    /// Blocked on a socket.
    pub network_ns: u64,
}

/// A moment on the observed thread: when, and where its time had gone by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// The kernel's id of the thread.
    pub thread_id: u32,
    /// Where the thread's time went so far.
    pub times: Times,
    /// How long the bytes had lain in the socket before the process took them; 0 where unknown, ns.
    pub queued_ns: u64,
}

/// Bytes that one call moved: captured from the front (`head`) and from the end (`tail`), the middle not.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub direction: Direction,
    /// When the call began, `CLOCK_MONOTONIC`, ns.
    pub enter_ns: u64,
    /// At the call's return; the thread's times are, where the call sent, those of its begin.
    pub mark: Mark,
    /// Stream offset, in this direction, of the first byte: tells of lost segments.
    pub offset: u64,
    /// Bytes moved; `length - head.len() - tail.len()` of them were not captured.
    pub length: u64,
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

impl Segment<'_> {
    /// The two ends of the call.
    pub(crate) fn moment(&self) -> Moment {
        Moment { enter_ns: self.enter_ns, mark: self.mark }
    }
}

/// The call in which something passed: its begin and its return.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    pub enter_ns: u64,
    pub mark: Mark,
}

impl Moment {
    /// The begin of the call: of one that sent, also by the thread's times.
    pub fn entered(&self) -> Mark {
        Mark { time_ns: self.enter_ns, ..self.mark }
    }

    /// The return of the call: of one that received, also by the thread's times.
    pub fn returned(&self) -> Mark {
        self.mark
    }
}
