//! Sockets and what goes over them: each connection to its decoder, and what that finds to the windows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hitscope_schemas::sockets::{
    PLAINTEXT, PLAINTEXT_KEY, SENT, SegmentEvent, SocketEvent, VERDICT_DECODED, VERDICT_ENCRYPTED, VERDICT_IGNORED,
    VERDICT_UNKNOWN,
};
use hitscope_wire::{Direction, Mark, Segment, Verdict};

use super::{
    Pipeline, SocketCommand,
    connections::{Connection, End, Plaintext, is_decoded},
    hits::{Sink, times},
    threads::Moved,
};

/// Takes what the decoder of a connection finds. A macro, since a function would borrow the whole of the pipeline and the connection.
macro_rules! sink {
    ($pipeline:ident, $connection:ident, $socket:ident) => {
        Sink {
            windows: &mut $pipeline.windows,
            holding: &mut $pipeline.holding,
            now_ns: $pipeline.now_ns,
            losses: &mut $pipeline.losses,
            threads: &$pipeline.threads,
            open: $connection.open,
            socket: $socket,
            clocks: &$pipeline.clocks,
            info: &$connection.info,
            origin: &$connection.origin,
            group: &mut $connection.group,
            found_encrypted: None,
        }
    };
}

/// The reason of connections that are followed no more, since their decoder failed.
const FAILED: &str = "decoder_failed";

/// Runs a decoder. One that panics, which none should, costs its connection and not the collector: what it has left behind is not
/// looked at again.
fn guarded<T>(decode: impl FnOnce() -> T) -> Option<T> {
    // The panic itself is said on stderr.
    catch_unwind(AssertUnwindSafe(decode)).ok()
}

impl Pipeline {
    pub(super) fn socket(&mut self, event: &SocketEvent) {
        let (socket, pid, now_ns) = (event.socket, event.header.pid, event.header.time_ns);
        self.now_ns = self.now_ns.max(now_ns);
        let end = self.connections.end(Some(event));
        if let Some(connection) = self.connections.get(socket, now_ns) {
            if connection.is(pid, &end) {
                // The kernel's entry had to make room meanwhile: it does not know the verdict any more.
                if connection.verdict != VERDICT_UNKNOWN {
                    self.commands.push(SocketCommand::Verdict(socket, connection.verdict));
                }
                if let Some(plaintext) = connection.plaintext.as_ref().filter(|it| it.verdict != VERDICT_UNKNOWN) {
                    self.commands.push(SocketCommand::Verdict(socket | PLAINTEXT_KEY, plaintext.verdict));
                }
                return;
            }
            self.close(socket, now_ns);
        }
        self.connect(socket, pid, end, now_ns);
    }

    fn connect(&mut self, socket: u64, pid: u32, end: End, now_ns: u64) {
        while self.connections.len() >= self.settings.max_connections.max(1) {
            let Some(oldest) = self.connections.oldest() else { break };
            let decoded = self.connections.get(oldest, now_ns).is_some_and(|connection| is_decoded(connection));
            self.losses.add("connections_over_limit", u64::from(decoded));
            self.remove(oldest, now_ns);
        }
        self.counters.connections += 1;
        let info = self.processes.lookup(pid);
        let mut decoder = hitscope_wire::Connection::new(self.wire.clone());
        decoder.set_service(&info.service);
        self.connections.insert(socket, Connection::new(info, end, decoder, now_ns));
    }

    pub(super) fn segment(&mut self, event: &SegmentEvent, head: &[u8], tail: &[u8]) {
        let (socket, pid, now_ns) = (event.socket, event.header.pid, event.header.time_ns);
        self.now_ns = self.now_ns.max(now_ns);
        self.counters.segments += 1;
        self.counters.segment_bytes += event.length;
        let is_plaintext = event.flags & PLAINTEXT != 0;
        if !is_plaintext && self.connections.is_ignored(socket) {
            return;
        }
        match self.connections.get(socket, now_ns) {
            Some(connection) if connection.info.pid == pid && !connection.info.superseded() => {}
            Some(_) => {
                let info = self.processes.lookup(pid);
                self.connections.hand_over(socket, info);
            }
            // Its first record was lost.
            None => self.connect(socket, pid, self.connections.end(None), now_ns),
        }
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let segment = Segment {
            direction: if event.direction == SENT { Direction::Sent } else { Direction::Received },
            enter_ns: event.enter_ns,
            mark: Mark {
                time_ns: now_ns,
                thread_id: event.header.thread_id,
                times: times(&event.times),
                queued_ns: event.queued_ns,
            },
            offset: event.offset,
            length: event.length,
            head,
            tail,
        };
        if is_plaintext {
            if !std::mem::replace(&mut connection.encrypted, true) {
                self.counters.encrypted += 1;
            }
            if connection.plaintext.is_none() {
                self.counters.decrypted += 1;
                connection.read.set(true);
                let decoder = hitscope_wire::Connection::plaintext(self.wire.clone());
                connection.plaintext = Some(Box::new(Plaintext { decoder, verdict: VERDICT_UNKNOWN }));
            }
        }
        let (decoder, told) = match &mut connection.plaintext {
            Some(plaintext) if is_plaintext => (&mut plaintext.decoder, &mut plaintext.verdict),
            _ => (&mut connection.decoder, &mut connection.verdict),
        };
        let mut sink = sink!(self, connection, socket);
        let fed = guarded(|| decoder.feed(&segment, &mut |outcome, session| sink.take(outcome, session)));
        let newly_encrypted = sink.found_encrypted.filter(|_| !std::mem::replace(&mut connection.encrypted, true));
        self.losses.add(FAILED, u64::from(fed.is_none()));
        let verdict = match fed {
            None => VERDICT_IGNORED,
            Some(Verdict::Unknown) => VERDICT_UNKNOWN,
            Some(Verdict::Decoded) => VERDICT_DECODED,
            Some(Verdict::Ignored) if connection.encrypted && !is_plaintext => VERDICT_ENCRYPTED,
            Some(Verdict::Ignored) => VERDICT_IGNORED,
        };
        let side = decoder.facts().side.filter(|_| verdict != VERDICT_IGNORED);
        let busy = decoder.is_busy();
        if verdict != *told {
            *told = verdict;
            let key = if is_plaintext { socket | PLAINTEXT_KEY } else { socket };
            self.commands.push(SocketCommand::Verdict(key, verdict));
        }
        let unwanted = verdict == VERDICT_IGNORED && (!is_plaintext || fed.is_none());
        if let Some(side) = side {
            let (thread_id, direction) = (event.header.thread_id, segment.direction);
            let moved = Moved { thread_id, socket, side, direction, now_ns, busy };
            self.threads.moved(moved, &mut connection.open);
        }
        if let Some(protocol) = newly_encrypted {
            self.encrypted(socket, protocol, now_ns);
        }
        if unwanted && let Some(mut connection) = self.connections.ignore(socket, now_ns) {
            self.threads.close(&mut connection.open);
        }
    }

    /// Takes a connection out; what it had begun and not finished becomes aborted hits.
    pub(super) fn close(&mut self, socket: u64, time_ns: u64) {
        let Some(mut connection) = self.connections.remove(socket) else { return };
        let mut sink = sink!(self, connection, socket);
        let closed = guarded(|| {
            connection.decoder.close(time_ns, &mut |outcome, session| sink.take(outcome, session));
            if let Some(plaintext) = &mut connection.plaintext {
                plaintext.decoder.close(time_ns, &mut |outcome, session| sink.take(outcome, session));
            }
        });
        self.losses.add(FAILED, u64::from(closed.is_none()));
        self.threads.close(&mut connection.open);
    }

    /// As [`Self::close`], where the kernel does not know that the socket is gone.
    pub(super) fn remove(&mut self, socket: u64, time_ns: u64) {
        self.close(socket, time_ns);
        self.commands.push(SocketCommand::Forget(socket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_fails_ends_nothing_else() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u8 { panic!("a test's") }), None);
    }
}
