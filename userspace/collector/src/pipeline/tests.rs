use hitscope_schemas::{
    connections::{self, CLIENT, DnsEvent},
    event::KIND_DNS,
    sockets::{PLAINTEXT, PLAINTEXT_KEY, RECEIVED, SENT, UNTIED, VERDICT_DECODED, VERDICT_ENCRYPTED, VERDICT_IGNORED},
};
use hitscope_wire::Times;

use super::{hits::split, *};
use crate::testing::{EPOCH, FakeFacts, MS, SECOND, clock, dns_answer, exec, exit, header, segment, socket};

const SERVER: u32 = 42;
const SOCKET: u64 = 900;

/// A pipeline, what it is fed, and where the streams of one socket stand.
struct Bench {
    pipeline: Pipeline,
    facts: FakeFacts,
    offsets: [u64; 2],
    /// The process that uses it.
    pid: u32,
    /// Whether questions are answered, at once.
    answers: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut bench = Self {
            pipeline: Pipeline::new(&settings, "x86_64"),
            facts: FakeFacts::default(),
            offsets: [0; 2],
            pid: SERVER,
            answers: true,
        };
        bench.facts.add(SERVER, 100, "postgres", "0::/system.slice/postgresql.service\n");
        bench.event(Event::Clock(clock(5 * SECOND)));
        bench
    }

    fn event(&mut self, event: Event<'_>) {
        match self.answers {
            true => self.pipeline.handle_with(Input::Event(event), &mut self.facts),
            false => self.pipeline.handle(Input::Event(event)),
        }
    }

    /// Bytes that the server moved.
    fn moved(&mut self, time_ns: u64, direction: u32, bytes: &[u8]) {
        let offset = &mut self.offsets[direction as usize];
        let event = segment(time_ns, self.pid, SOCKET, direction, *offset, bytes.len());
        *offset += bytes.len() as u64;
        self.event(Event::Segment(&event, bytes, b""));
    }

    /// A connection up to its first ready-for-query.
    fn connect(&mut self) {
        self.event(Event::Socket(&socket(5 * SECOND, SERVER, SOCKET, 4711)));
        let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
        startup.extend(b"user\0app\0database\0shop\0\0");
        startup[3] = startup.len() as u8;
        self.moved(5 * SECOND + MS, RECEIVED, &startup);
        self.moved(5 * SECOND + 2 * MS, SENT, &[message(b'R', &[0; 4]), message(b'Z', b"I")].concat());
    }

    /// A query that was answered within `duration_ns`.
    fn query(&mut self, time_ns: u64, duration_ns: u64, text: &str) {
        self.moved(time_ns, RECEIVED, &message(b'Q', &[text.as_bytes(), b"\0"].concat()));
        let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        self.moved(time_ns + duration_ns, SENT, &answer);
    }

    fn tick(&mut self, now_ns: u64) -> Rows {
        match self.answers {
            true => self.pipeline.handle_with(Input::Tick(now_ns), &mut self.facts),
            false => self.pipeline.handle(Input::Tick(now_ns)),
        }
        self.pipeline.take_rows()
    }

    fn commands(&mut self) -> Vec<SocketCommand> {
        self.pipeline.commands().collect()
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

#[test]
fn bytes_become_hits_of_their_process_and_connection() {
    let mut bench = Bench::new(Settings::default());
    bench.connect();
    bench.query(6 * SECOND, 3 * MS, "select * from orders where id = 4711");
    bench.query(7 * SECOND, 200 * MS, "select * from orders where id = 4712");
    assert!(bench.commands().contains(&SocketCommand::Verdict(SOCKET, VERDICT_DECODED)));
    let rows = bench.tick(8 * SECOND);
    assert_eq!(rows.operations.len(), 1);
    let operation = &rows.operations[0];
    assert_eq!((operation.calls, operation.errors, operation.rows), (2, 0, 2));
    assert_eq!((&*operation.service, &*operation.protocol, &*operation.side), ("postgresql", "postgres", "server"));
    assert!(!operation.operation.contains("471") && operation.operation.contains("orders"), "{}", operation.operation);
    assert_eq!(operation.window_start, EPOCH + 5 * SECOND as i64);
    assert_eq!(rows.hitmap.iter().map(|row| row.hits).sum::<u64>(), 2);
    assert_eq!(rows.hits.len(), 2);
    let slow = rows.hits.iter().find(|hit| hit.duration_ns > 100 * MS).unwrap();
    // From the return of the receive to the begin of the send, 1 µs before its return.
    assert_eq!(slow.duration_ns, 200 * MS - 1000);
    assert_eq!(slow.end_time, EPOCH + (7 * SECOND + 200 * MS) as i64 - 1000);
    assert_eq!((slow.pid, slow.thread_id, slow.weight), (SERVER, SERVER, 1));
    assert_eq!((&*slow.remote_address, slow.remote_port, slow.local_port), ("10.0.0.7", 4711, 5432));
    assert_eq!((slow.cpu_ns, slow.runqueue_ns), (Some(50 * MS), Some(25 * MS)));
    assert_eq!((slow.disk_ns, slow.lock_ns, slow.network_ns, slow.queued_ns), (Some(0), Some(0), Some(0), None));
    assert_eq!((slow.text.as_ref(), slow.encrypted), (None, false));
    assert_eq!(bench.pipeline.counters()["hits"], 2);
}

#[test]
fn the_fastest_of_many_are_sampled_with_exact_weights() {
    let mut bench = Bench::new(Settings::default());
    bench.connect();
    for index in 0..3000 {
        bench.query(6 * SECOND + index * 100_000, 10_000 + index, "select 1");
    }
    let rows = bench.tick(7 * SECOND);
    assert_eq!(rows.hits.len(), 6);
    assert_eq!(rows.hits.iter().map(|hit| hit.weight).sum::<u64>(), 3000);
    assert_eq!(rows.operations.iter().map(|row| row.calls).sum::<u64>(), 3000);
}

#[test]
fn what_a_process_left_unanswered_is_aborted() {
    let mut bench = Bench::new(Settings::default());
    bench.connect();
    bench.moved(6 * SECOND, RECEIVED, &message(b'Q', b"select pg_sleep(99)\0"));
    bench.event(Event::Exit(&exit(8 * SECOND, SERVER, SECOND, 9)));
    let rows = bench.tick(9 * SECOND);
    assert_eq!(rows.hits.len(), 1);
    assert_eq!((&*rows.hits[0].status, rows.hits[0].duration_ns), ("aborted", 2 * SECOND));
    assert_eq!((rows.operations[0].errors, &*rows.operations[0].service), (1, "postgresql"));
    assert!(bench.commands().contains(&SocketCommand::Forget(SOCKET)));
    assert_eq!(bench.pipeline.counters()["connections_open"], 0);
    let ended = rows.events.iter().find(|event| &*event.kind == "exit").unwrap();
    assert!(ended.detail.contains("exit code 137"), "{}", ended.detail);
}

#[test]
fn sockets_that_speak_nothing_known_are_ignored() {
    let mut bench = Bench::new(Settings::default());
    bench.event(Event::Socket(&socket(5 * SECOND, SERVER, SOCKET, 4711)));
    for index in 0..40 {
        bench.moved(6 * SECOND + index * MS, (index % 2) as u32, b"\xff\xfe\xfd\xfc nothing that anyone knows \xff");
    }
    assert_eq!(bench.commands(), [SocketCommand::Verdict(SOCKET, VERDICT_IGNORED)]);
    assert_eq!(bench.pipeline.counters()["connections_open"], 0);
    // The inode number comes back as another socket.
    bench.offsets = [0; 2];
    bench.connect();
    bench.query(7 * SECOND, MS, "select 1");
    assert_eq!(bench.tick(8 * SECOND).operations.len(), 1);
}

/// PostgreSQL's way into TLS, from the server's side.
fn ask_for_tls(bench: &mut Bench, at: u64) {
    bench.moved(at + MS, RECEIVED, &[0, 0, 0, 8, 4, 210, 22, 47]);
    bench.moved(at + 2 * MS, SENT, b"S");
    bench.moved(at + 3 * MS, RECEIVED, &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
}

#[test]
fn what_cannot_be_read_is_counted_and_told_once() {
    let mut bench = Bench::new(Settings::default());
    bench.facts.unreadable = Some("Java does TLS by itself".into());
    for connection in 0..3 {
        let at = 6 * SECOND + connection * 10 * MS;
        bench.event(Event::Socket(&socket(at, SERVER, SOCKET, 5000 + connection as u16)));
        bench.offsets = [0; 2];
        ask_for_tls(&mut bench, at);
    }
    let rows = bench.tick(7 * SECOND);
    assert_eq!(bench.pipeline.counters()["connections_encrypted"], 3);
    assert_eq!(bench.pipeline.counters()["connections_unreadable"], 3);
    assert_eq!(bench.pipeline.losses()["encrypted_unreadable"], 3);
    let told: Vec<_> = rows.events.iter().filter(|event| &*event.kind == "lost" && event.pid != 0).collect();
    assert_eq!((told.len(), told[0].pid, &*told[0].service), (1, SERVER, "postgresql"));
    let reason = "encrypted, not readable, because Java does TLS by itself: postgres connections of this process";
    assert!(told[0].detail.starts_with(reason), "{}", told[0].detail);
    let notes: Vec<String> = bench.pipeline.notes().collect();
    assert!(notes.len() == 1 && notes[0].contains(reason), "{notes:?}");
    // Nothing more of it is wanted, but its plaintext would be.
    assert!(bench.commands().contains(&SocketCommand::Verdict(SOCKET, VERDICT_ENCRYPTED)));
}

#[test]
fn plaintext_of_an_encrypted_connection_is_decoded() {
    let mut bench = Bench::new(Settings::default());
    bench.event(Event::Socket(&socket(5 * SECOND, SERVER, SOCKET, 4711)));
    ask_for_tls(&mut bench, 5 * SECOND);
    let mut plain = [0_u64; 2];
    let mut moved = |bench: &mut Bench, time_ns, direction: u32, bytes: &[u8]| {
        let offset = &mut plain[direction as usize];
        let mut event = segment(time_ns, SERVER, SOCKET, direction, *offset, bytes.len());
        event.flags = PLAINTEXT;
        *offset += bytes.len() as u64;
        bench.event(Event::Segment(&event, bytes, b""));
    };
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend(b"user\0app\0database\0shop\0\0");
    startup[3] = startup.len() as u8;
    moved(&mut bench, 5 * SECOND + 10 * MS, RECEIVED, &startup);
    // Ciphertext that was on its way does no harm.
    bench.moved(5 * SECOND + 11 * MS, RECEIVED, &[23; 300]);
    moved(&mut bench, 5 * SECOND + 12 * MS, SENT, &[message(b'R', &[0; 4]), message(b'Z', b"I")].concat());
    moved(&mut bench, 6 * SECOND, RECEIVED, &message(b'Q', b"select 1\0"));
    moved(&mut bench, 6 * SECOND + MS, SENT, &[message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat());
    moved(&mut bench, 6 * SECOND + 2 * MS, RECEIVED, &message(b'Q', b"select pg_sleep(9)\0"));
    bench.event(Event::Exit(&exit(7 * SECOND, SERVER, SECOND, 0)));
    let rows = bench.tick(8 * SECOND);
    let mut hits: Vec<_> =
        rows.hits.iter().map(|hit| (&*hit.status, hit.encrypted, hit.remote_port, hit.local_port)).collect();
    hits.sort_unstable();
    assert_eq!(hits, [("aborted", true, 4711, 5432), ("ok", true, 4711, 5432)]);
    let counters = bench.pipeline.counters();
    assert_eq!((counters["connections_encrypted"], counters["connections_decrypted"]), (1, 1));
    assert_eq!((counters["connections"], counters["connections_unreadable"]), (1, 0));
    let commands = bench.commands();
    let verdict = SocketCommand::Verdict;
    let expected = [verdict(SOCKET, VERDICT_ENCRYPTED), verdict(SOCKET | PLAINTEXT_KEY, VERDICT_DECODED)];
    assert!(expected.iter().all(|command| commands.contains(command)), "{commands:?}");
}

#[test]
fn plaintext_without_a_socket_has_no_address() {
    let mut bench = Bench::new(Settings::default());
    for (offset, direction, bytes) in [
        (0, RECEIVED, [message(b'Q', b"select 1\0"), message(b'Q', b"select 2\0")].concat()),
        (0, SENT, [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()),
    ] {
        let mut event = segment(6 * SECOND + u64::from(direction), SERVER, UNTIED | 77, direction, offset, bytes.len());
        event.flags = PLAINTEXT;
        bench.event(Event::Segment(&event, &bytes, b""));
    }
    let rows = bench.tick(8 * SECOND);
    assert_eq!((&*rows.hits[0].remote_address, rows.hits[0].remote_port, rows.hits[0].encrypted), ("unknown", 0, true));
}

#[test]
fn the_oldest_connection_makes_room_and_is_counted() {
    let mut bench = Bench::new(Settings { max_connections: 2, ..Settings::default() });
    bench.connect();
    bench.query(6 * SECOND, MS, "select 1");
    for index in 1..=3 {
        bench.event(Event::Socket(&socket(7 * SECOND + index, SERVER, SOCKET + index, 4711 + index as u16)));
    }
    assert_eq!(bench.pipeline.counters()["connections_open"], 2);
    // Of the two that went, one was decoded.
    assert_eq!(bench.pipeline.losses()["connections_over_limit"], 1);
    assert!(bench.commands().contains(&SocketCommand::Forget(SOCKET)));
}

#[test]
fn losses_are_told_once_a_window() {
    let mut bench = Bench::new(Settings { events_per_second: 2, ..Settings::default() });
    bench.tick(6 * SECOND);
    for pid in 100..105 {
        bench.event(Event::Exec(&exec(6 * SECOND, pid, 6 * SECOND, 1, "make all")));
    }
    bench.event(Event::Lost(&[("segment_ring_full", 3), ("socket_map_full", 0)]));
    bench.event(Event::Lost(&[("segment_ring_full", 4)]));
    let rows = bench.tick(7 * SECOND);
    assert_eq!(rows.events.iter().filter(|event| &*event.kind == "exec" && &*event.detail == "make all").count(), 2);
    let told: Vec<String> = bench.tick(10 * SECOND).events.iter().map(|event| event.detail.to_string()).collect();
    assert_eq!(told, ["process_events_over_limit: 3 (3 since the start)", "segment_ring_full: 7 (7 since the start)"]);
    assert!(bench.tick(15 * SECOND).events.is_empty());
}

#[test]
fn a_connection_moves_with_the_process_that_uses_it() {
    let mut bench = Bench::new(Settings::default());
    bench.facts.add(SERVER + 1, 200, "worker", "0::/\n");
    bench.connect();
    bench.query(6 * SECOND, MS, "select 1");
    // Handed to another process, which becomes another program.
    bench.pid = SERVER + 1;
    bench.query(6 * SECOND + 10 * MS, MS, "select 1");
    bench.event(Event::Exec(&exec(6 * SECOND + 15 * MS, SERVER + 1, 2 * SECOND, 1, "other")));
    bench.facts.add(SERVER + 1, 200, "other", "0::/\n");
    bench.query(6 * SECOND + 20 * MS, MS, "select 1");
    let rows = bench.tick(7 * SECOND);
    let mut services: Vec<&str> = rows.operations.iter().map(|row| &*row.service).collect();
    services.sort_unstable();
    assert_eq!(services, ["other", "postgresql", "worker"]);
    // Gone without a word: its connections go at the second sample without it.
    for second in [10, 15] {
        assert_eq!(bench.pipeline.counters()["connections_open"], 1);
        let sample = ProcessSample { end_ns: EPOCH + (second * SECOND) as i64, processes: vec![] };
        bench.pipeline.handle_with(Input::Processes(&sample), &mut bench.facts);
    }
    assert_eq!(bench.pipeline.counters()["connections_open"], 0);
}

#[test]
fn who_was_gone_too_soon_is_known_by_the_record_of_its_end() {
    let mut bench = Bench::new(Settings::default());
    let parent = exec(5 * SECOND, 50, 4 * SECOND, 1, "postgres -D /data");
    bench.facts.add(50, 400, "postgres", "0::/system.slice/postgresql.service\n");
    bench.event(Event::Exec(&parent));
    bench.facts.processes.remove(&SERVER);
    bench.connect();
    bench.query(6 * SECOND, MS, "select 1");
    let mut end = exit(6 * SECOND + 5 * MS, SERVER, 5 * SECOND, 0);
    end.parent_pid = 50;
    bench.event(Event::Exit(&end));
    let rows = bench.tick(7 * SECOND);
    assert_eq!((rows.operations.len(), &*rows.operations[0].service), (1, "postgresql"));
    assert_eq!((rows.hits.len(), rows.hits[0].pid), (1, SERVER));
    // Without such a record, a second is waited, or two.
    bench.pid = 77;
    bench.offsets = [0; 2];
    bench.event(Event::Socket(&socket(8 * SECOND, 77, SOCKET, 4711)));
    bench.query(8 * SECOND, MS, "select 1");
    assert!(bench.tick(9 * SECOND).operations.is_empty());
    assert_eq!(&*bench.tick(10 * SECOND).operations[0].service, "unknown");
}

#[test]
fn a_split_is_at_most_the_duration() {
    let mark = |cpu_ns, disk_ns, lock_ns| Times { cpu_ns, disk_ns, lock_ns, ..Times::default() };
    assert_eq!(split(&mark(10, 0, 0), &mark(40, 20, 5), 100), Some(mark(30, 20, 5)));
    // CPU by the scheduler's account, a little more than the clock leaves room for.
    assert_eq!(split(&mark(10, 0, 0), &mark(90, 20, 5), 100), Some(mark(75, 20, 5)));
    // A little less than what the clock had said before.
    assert_eq!(split(&mark(50, 0, 0), &mark(40, 20, 0), 100), Some(mark(0, 20, 0)));
    // A thread that was counted anew.
    assert_eq!(split(&mark(50, 30, 0), &mark(60, 20, 0), 100), None);
}

#[test]
fn hits_that_share_a_thread_have_no_split() {
    let mut bench = Bench::new(Settings::default());
    bench.connect();
    let mut other = [0_u64; 2];
    let mut moved = |bench: &mut Bench, time_ns, direction: u32, bytes: &[u8]| {
        let event = segment(time_ns, SERVER, SOCKET + 1, direction, other[direction as usize], bytes.len());
        other[direction as usize] += bytes.len() as u64;
        bench.event(Event::Segment(&event, bytes, b""));
    };
    bench.event(Event::Socket(&socket(5 * SECOND, SERVER, SOCKET + 1, 4712)));
    moved(&mut bench, 6 * SECOND, RECEIVED, &message(b'Q', b"select 1 as outer\0"));
    bench.query(6 * SECOND + 10 * MS, MS, "select 1 as inner");
    let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    moved(&mut bench, 6 * SECOND + 20 * MS, SENT, &answer);
    bench.query(6 * SECOND + 30 * MS, MS, "select 1 as alone");
    let hits = bench.tick(7 * SECOND).hits;
    let split = |name: &str| {
        let hit = hits.iter().find(|hit| hit.operation.ends_with(name)).unwrap();
        (hit.cpu_ns.is_some(), hit.network_ns.is_some(), hit.thread_id)
    };
    assert_eq!(
        ["outer", "inner", "alone"].map(split),
        [(false, false, SERVER), (false, false, SERVER), (true, true, SERVER)]
    );
}

#[test]
fn connections_carry_the_names_that_led_there() {
    let mut bench = Bench::new(Settings::default());
    let answer = dns_answer();
    let other = DnsEvent { header: header(KIND_DNS, 6 * SECOND, 7), length: answer.len() as u32, padding: 0 };
    bench.event(Event::Dns(&other, &answer));
    bench.event(Event::Dns(&other, b"no answer at all"));
    let key = |address: [u8; 4], side| {
        let [a, b, c, d] = address;
        RemoteKey {
            address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            pid: SERVER,
            port: if side == CLIENT { 443 } else { 0 },
            side,
            generation: 1,
        }
    };
    let stats = RemoteStats { connects: 3, connect_failures: 1, rtt_ns: 500, sent_bytes: 9, ..RemoteStats::default() };
    bench.event(Event::Clock(clock(11 * SECOND)));
    bench.event(Event::Remotes(&[
        (key([192, 0, 2, 1], CLIENT), stats),
        (key([192, 0, 2, 1], connections::SERVER), RemoteStats::default()),
        (key([192, 0, 2, 9], CLIENT), RemoteStats::default()),
    ]));
    let rows = bench.tick(11 * SECOND).sockets;
    let told = |row: &tables::Socket| {
        (row.side.to_string(), row.remote_address.to_string(), row.remote_port, row.remote_name.clone(), row.rtt_ns)
    };
    let name = || Some("pay.example".into());
    assert_eq!(
        rows.iter().map(told).collect::<Vec<_>>(),
        [
            ("client".into(), "192.0.2.1".into(), 443, name(), Some(500)),
            ("server".into(), "192.0.2.1".into(), 0, None, None),
            ("client".into(), "192.0.2.9".into(), 443, None, None),
        ]
    );
    assert_eq!((rows[0].connects, rows[0].connect_failures, rows[0].sent_bytes), (3, 1, 9));
    assert_eq!((&*rows[0].service, rows[0].pid), ("postgresql", SERVER));
    assert_eq!(rows[0].window_start, EPOCH + 10 * SECOND as i64);
}

#[test]
fn hits_wait_for_who_is_asked_about_and_not_for_long() {
    let silent = || Bench { answers: false, ..Bench::new(Settings::default()) };
    let mut bench = silent();
    bench.connect();
    bench.query(6 * SECOND, MS, "select 1");
    assert_eq!(bench.pipeline.questions().collect::<Vec<_>>(), [Question::Process(SERVER)]);
    assert!(bench.tick(6 * SECOND + 500 * MS).operations.is_empty(), "it waits");
    let fact = bench.facts.answer(Question::Process(SERVER));
    bench.pipeline.handle(Input::Fact(&fact));
    let rows = bench.tick(7 * SECOND);
    assert_eq!((rows.operations.len(), &*rows.operations[0].service), (1, "postgresql"));
    assert_eq!(bench.pipeline.losses().get("hits_of_unknown_process"), None);
    // What nobody answers for is nobody's.
    let mut bench = silent();
    bench.connect();
    bench.query(6 * SECOND, MS, "select 1");
    assert!(bench.tick(6 * SECOND + 500 * MS).operations.is_empty());
    let rows = bench.tick(8 * SECOND);
    assert_eq!((rows.operations.len(), &*rows.operations[0].service), (1, "unknown"));
    assert_eq!(bench.pipeline.losses()["hits_of_unknown_process"], 1);
    assert_eq!(bench.pipeline.losses()["process_facts_late"], 1);
}

#[test]
fn each_program_that_a_process_becomes_is_told_as_itself() {
    let mut bench = Bench { answers: false, ..Bench::new(Settings::default()) };
    bench.event(Event::Exec(&exec(6 * SECOND, 60, 5 * SECOND, 1, "sh -c job")));
    bench.event(Event::Exec(&exec(6 * SECOND + MS, 60, 5 * SECOND, 1, "job --all")));
    bench.facts.add(60, 500, "job", "0::/system.slice/job.service\n");
    let fact = bench.facts.answer(Question::Process(60));
    bench.pipeline.handle(Input::Fact(&fact));
    let rows = bench.tick(7 * SECOND).events;
    let told: Vec<_> = rows.iter().map(|row| (&*row.detail, &*row.service)).collect();
    assert_eq!(told, [("sh -c job", "sh"), ("job", "job")]);
}

#[test]
fn a_sample_that_comes_before_the_answer_ends_no_connection() {
    let mut bench = Bench { answers: false, ..Bench::new(Settings::default()) };
    bench.connect();
    let sample = ProcessSample { end_ns: EPOCH + 5 * SECOND as i64, processes: vec![] };
    bench.pipeline.handle(Input::Processes(&sample));
    bench.query(6 * SECOND, MS, "select 1");
    let fact = bench.facts.answer(Question::Process(SERVER));
    bench.pipeline.handle(Input::Fact(&fact));
    let rows = bench.tick(7 * SECOND);
    assert_eq!((rows.operations.len(), &*rows.operations[0].service), (1, "postgresql"));
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench { answers: false, ..Bench::new(Settings::default()) };
    bench.connect();
    for index in 0..20_000 {
        bench.query(6 * SECOND + index * 10_000, 1000, "select 1");
    }
    let losses = bench.tick(6 * SECOND + 900 * MS);
    // What finds no room counts for nobody at once.
    assert_eq!(losses.operations.iter().map(|row| row.calls).sum::<u64>(), 20_000 - (16 << 10));
    assert_eq!(bench.pipeline.losses()["hits_of_unknown_process"], 20_000 - (16 << 10));
}

#[test]
fn counts_are_of_the_window_in_which_they_were_made() {
    let mut bench = Bench::new(Settings::default());
    let key = SyscallKey { pid: SERVER, ..bytemuck::Zeroable::zeroed() };
    let stats = SyscallStats { calls: 2, ..bytemuck::Zeroable::zeroed() };
    let counted = |bench: &mut Bench, at: u64| {
        bench.event(Event::Clock(clock(at)));
        bench.event(Event::Syscalls(&[(key, stats)]));
        bench.tick(at).syscalls[0].window_start - EPOCH
    };
    assert_eq!(counted(&mut bench, 9 * SECOND), 5 * SECOND as i64);
    assert_eq!(counted(&mut bench, 10 * SECOND), 5 * SECOND as i64);
    // The drain was late: what it counts is mostly of the window before.
    assert_eq!(counted(&mut bench, 16 * SECOND + 600 * MS), 10 * SECOND as i64);
}
