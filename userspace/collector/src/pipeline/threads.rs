//! Which threads serve several connections at once: where one worked on other requests while a hit was under way, what the
//! thread spent says nothing of that hit.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_wire::{Direction, Side};

/// Threads followed at most: of the hits of others nothing is said of where their time went.
const MAX_THREADS: usize = 1 << 17;
/// A thread without traffic and without open requests is forgotten after this, ns.
const IDLE_NS: u64 = 60_000_000_000;

/// The last traffic of a thread on the connections of one side.
#[derive(Default)]
struct Traffic {
    socket: u64,
    last_ns: u64,
    /// The last on any other socket than `socket`.
    others_ns: u64,
    /// Connections with a request that was not answered since.
    open: u32,
}

impl Traffic {
    fn on(&mut self, socket: u64, now_ns: u64) {
        if socket != self.socket {
            self.others_ns = self.last_ns;
            self.socket = socket;
        }
        self.last_ns = now_ns;
    }

    fn others(&self, socket: u64) -> u64 {
        if socket == self.socket { self.others_ns } else { self.last_ns }
    }
}

#[derive(Default)]
struct Thread {
    server: Traffic,
    client: Traffic,
}

impl Thread {
    fn side(&mut self, side: Side) -> &mut Traffic {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }
}

/// A request that waits for its answer: the thread that moved it, and on which side.
pub(super) type Open = Option<(u32, Side)>;

/// A thread moved bytes on a connection.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    pub(super) thread_id: u32,
    pub(super) socket: u64,
    pub(super) side: Side,
    pub(super) direction: Direction,
    pub(super) now_ns: u64,
    /// Whether requests wait for their answers now; `None`: they do if the last that was said was one.
    pub(super) busy: Option<bool>,
}

/// Every thread with traffic on decoded connections.
#[derive(Default)]
pub(super) struct Threads {
    table: HashMap<u32, Thread, FixedState>,
}

impl Threads {
    /// Takes note of it; `open` is the connection's.
    pub(super) fn moved(&mut self, moved: Moved, open: &mut Open) {
        let Moved { thread_id, socket, side, direction, now_ns, busy } = moved;
        let asks = matches!((side, direction), (Side::Server, Direction::Received) | (Side::Client, Direction::Sent));
        let now_open = match busy {
            // What was answered was not all.
            Some(true) if !asks && open.is_some() => *open,
            Some(busy) => busy.then_some((thread_id, side)),
            None => asks.then_some((thread_id, side)),
        };
        let opens = now_open.is_some() && *open != now_open;
        if *open != now_open {
            self.close(open);
            *open = now_open;
        }
        if self.table.len() >= MAX_THREADS && !self.table.contains_key(&thread_id) {
            *open = None;
            return;
        }
        let traffic = self.table.entry(thread_id).or_default().side(side);
        traffic.open += u32::from(opens);
        traffic.on(socket, now_ns);
    }

    /// A connection has no open request any more.
    pub(super) fn close(&mut self, open: &mut Open) {
        if let Some((thread_id, side)) = open.take()
            && let Some(thread) = self.table.get_mut(&thread_id)
        {
            let traffic = thread.side(side);
            traffic.open = traffic.open.saturating_sub(1);
        }
    }

    /// Whether a thread worked on other requests between a hit's start and now. A server's own calls to others are part of its
    /// request; but a call during which the thread served is shared with what it served.
    pub(super) fn shared(&self, thread_id: u32, socket: u64, side: Side, start_ns: u64, open: Open) -> bool {
        let Some(Thread { server, client }) = self.table.get(&thread_id) else {
            return self.table.len() >= MAX_THREADS;
        };
        let others =
            |traffic: &Traffic, side| traffic.open - u32::from(open == Some((thread_id, side))).min(traffic.open);
        match side {
            Side::Server => server.others(socket) > start_ns || others(server, side) > 0,
            Side::Client => {
                client.others(socket) > start_ns
                    || others(client, side) > 0
                    || server.last_ns > start_ns
                    || server.open > 1
            }
        }
    }

    /// Forgets idle threads. To be called each second.
    pub(super) fn expire(&mut self, now_ns: u64) {
        self.table.retain(|_, Thread { server, client }| {
            server.open + client.open > 0 || server.last_ns.max(client.last_ns) + IDLE_NS > now_ns
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, Side::*, *};

    const T: u32 = 7;

    /// Connections by number, and the threads that move their bytes.
    #[derive(Default)]
    struct Bench {
        threads: Threads,
        open: HashMap<u64, Open, FixedState>,
    }

    impl Bench {
        fn moved(&mut self, thread_id: u32, socket: u64, side: Side, direction: Direction, now_ns: u64) {
            let moved = Moved { thread_id, socket, side, direction, now_ns, busy: None };
            self.threads.moved(moved, self.open.entry(socket).or_default());
        }

        /// As a server, on a connection of which it is known whether requests are under way.
        fn serves(&mut self, socket: u64, direction: Direction, now_ns: u64, busy: bool) {
            let moved = Moved { thread_id: T, socket, side: Server, direction, now_ns, busy: Some(busy) };
            self.threads.moved(moved, self.open.entry(socket).or_default());
        }

        fn shared(&self, socket: u64, side: Side, start_ns: u64) -> bool {
            self.threads.shared(T, socket, side, start_ns, self.open.get(&socket).copied().flatten())
        }
    }

    #[test]
    fn one_connection_at_a_time_is_its_own() {
        let mut bench = Bench::default();
        for (socket, start) in [(1, 10), (2, 20), (1, 30)] {
            bench.moved(T, socket, Server, Received, start);
            // Another thread's work is of no concern.
            bench.moved(T + 1, 9, Server, Received, start + 1);
            assert!(!bench.shared(socket, Server, start));
            bench.moved(T, socket, Server, Sent, start + 5);
        }
    }

    #[test]
    fn a_request_within_another_is_seen_from_both() {
        let mut bench = Bench::default();
        bench.moved(T, 1, Server, Received, 10);
        bench.moved(T, 2, Server, Received, 20);
        // The first one is open while the second is answered, and the second came while the first was under way.
        assert!(bench.shared(2, Server, 20));
        bench.moved(T, 2, Server, Sent, 30);
        assert!(bench.shared(1, Server, 10));
        bench.moved(T, 1, Server, Sent, 40);
        bench.moved(T, 2, Server, Received, 50);
        assert!(!bench.shared(2, Server, 50));
    }

    #[test]
    fn what_is_answered_in_any_order_stays_open_to_the_last() {
        let mut bench = Bench::default();
        // Two streams, of which one is answered.
        bench.serves(1, Received, 10, true);
        bench.serves(1, Sent, 20, true);
        bench.serves(2, Received, 30, true);
        assert!(bench.shared(2, Server, 30));
        bench.serves(2, Sent, 40, false);
        bench.serves(1, Sent, 50, false);
        // What is no request, such as a window's update, opens nothing.
        bench.serves(1, Received, 60, false);
        bench.serves(2, Received, 70, true);
        assert!(!bench.shared(2, Server, 70));
    }

    #[test]
    fn a_servers_own_calls_are_part_of_its_request() {
        let mut bench = Bench::default();
        bench.moved(T, 1, Server, Received, 10);
        bench.moved(T, 2, Client, Sent, 20);
        assert!(!bench.shared(2, Client, 19));
        bench.moved(T, 2, Client, Received, 30);
        assert!(!bench.shared(1, Server, 10));
        bench.moved(T, 1, Server, Sent, 40);
        // But where the thread serves others while it waits for an answer, neither is only its own.
        bench.moved(T, 1, Server, Received, 50);
        bench.moved(T, 2, Client, Sent, 60);
        bench.moved(T, 3, Server, Received, 70);
        bench.moved(T, 3, Server, Sent, 75);
        assert!(bench.shared(2, Client, 59));
        bench.moved(T, 2, Client, Received, 80);
        assert!(bench.shared(1, Server, 50));
    }

    #[test]
    fn clients_with_several_calls_under_way_share() {
        let mut bench = Bench::default();
        bench.moved(T, 1, Client, Sent, 10);
        bench.moved(T, 2, Client, Sent, 20);
        assert!(bench.shared(1, Client, 9));
        bench.moved(T, 1, Client, Received, 30);
        assert!(bench.shared(2, Client, 19));
        bench.moved(T, 2, Client, Received, 40);
        bench.moved(T, 1, Client, Sent, 50);
        assert!(!bench.shared(1, Client, 49));
    }

    #[test]
    fn what_was_never_answered_ends_with_its_connection() {
        let mut bench = Bench::default();
        bench.moved(T, 1, Server, Received, 10);
        bench.moved(T, 2, Server, Received, 20);
        assert!(bench.shared(2, Server, 20));
        bench.threads.close(bench.open.get_mut(&1).unwrap());
        assert!(!bench.shared(2, Server, 20));
        // The request goes on in another thread.
        bench.moved(T + 1, 2, Server, Received, 30);
        bench.moved(T, 3, Server, Received, 40);
        assert!(!bench.shared(3, Server, 40));
        bench.threads.expire(2 * IDLE_NS);
        assert_eq!(bench.threads.table.len(), 2);
        bench.moved(T, 3, Server, Sent, 50);
        bench.moved(T + 1, 2, Server, Sent, 60);
        bench.threads.expire(2 * IDLE_NS);
        assert_eq!(bench.threads.table.len(), 0);
    }

    #[test]
    fn of_more_threads_than_are_followed_nothing_is_said() {
        let mut threads = Threads::default();
        let moved = |thread_id, now_ns| Moved {
            thread_id,
            socket: u64::from(thread_id),
            side: Server,
            direction: Received,
            now_ns,
            busy: None,
        };
        for thread_id in 1..=200_000 {
            let mut open = None;
            threads.moved(moved(thread_id, 5), &mut open);
            assert_eq!(open.is_some(), thread_id as usize <= MAX_THREADS);
            threads.close(&mut open);
        }
        assert_eq!(threads.table.len(), MAX_THREADS);
        assert!(threads.shared(200_000, 200_000, Server, 1, None));
        assert!(!threads.shared(1, 1, Server, 1, None));
        threads.expire(5 + IDLE_NS);
        assert!(threads.table.is_empty());
        assert!(!threads.shared(200_000, 200_000, Server, 1, None));
    }
}
