use super::*;
use crate::{
    facts::{Fact, Facts, Observed},
    testing::{EPOCH, FakeFacts, MS, SECOND, clock, exec, exit, identity, observed, times},
};

/// The table with what it is fed and what it gives.
struct Bench {
    processes: Processes,
    clocks: Clocks,
    facts: FakeFacts,
    rows: Vec<tables::Process>,
}

impl Bench {
    fn new() -> Self {
        let mut clocks = Clocks::default();
        clocks.set(clock(0));
        Self { processes: Processes::new(Arguments::Redacted), clocks, facts: FakeFacts::default(), rows: Vec::new() }
    }

    fn sample(&mut self, second: u64, processes: Vec<Observed>) -> Vec<tables::Process> {
        let sample = ProcessSample { end_ns: EPOCH + (second * SECOND) as i64, processes };
        self.processes.sample(&sample, &self.clocks, &mut self.rows);
        self.answer();
        std::mem::take(&mut self.rows)
    }

    fn drain(&mut self, now_ns: u64, all: &[(ProcessKey, ProcessTimes)]) -> Vec<tables::Process> {
        self.processes.times(all, now_ns, &self.clocks, &mut self.rows);
        self.answer();
        std::mem::take(&mut self.rows)
    }

    fn exec(&mut self, event: &ExecEvent) -> Rc<Info> {
        self.processes.exec(event, &self.clocks);
        self.answer();
        self.processes.info(event.header.pid).unwrap()
    }

    fn exit(&mut self, event: &ExitEvent) -> Rc<Info> {
        self.processes.exit(event, &self.clocks);
        self.answer();
        self.processes.info(event.header.pid).unwrap()
    }

    fn lookup(&mut self, pid: u32) -> Rc<Info> {
        let before = self.processes.lookup(pid);
        self.answer();
        if before.superseded() { self.processes.lookup(pid) } else { before }
    }

    /// Answers at once what is asked.
    fn answer(&mut self) {
        loop {
            let questions: Vec<_> = self.processes.questions().collect();
            if questions.is_empty() {
                return;
            }
            for question in questions {
                match self.facts.answer(question) {
                    Fact::Process(pid, found) => self.processes.answer(pid, found.as_ref(), &self.clocks),
                    Fact::User(user_id, name) => self.processes.name_user(user_id, name.as_ref()),
                    Fact::Unreadable(..) => unreachable!("the pipeline asks for that"),
                }
            }
        }
    }
}

#[test]
fn what_started_after_us_is_counted_from_its_start() {
    let mut bench = Bench::new();
    bench.processes.begin(EPOCH + 2 * SECOND as i64);
    bench.drain(4 * SECOND, &[times(42, SECOND, 900 * MS), times(43, 3 * SECOND, 200 * MS)]);
    let rows = bench.sample(5, vec![observed(42, 100, "old", (80, 10)), observed(43, 300, "new", (15, 5))]);
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [43]);
    assert_eq!((rows[0].interval_ns, rows[0].cpu_user_ns, rows[0].cpu_system_ns), (2 * SECOND, 150 * MS, 50 * MS));
    // And only once.
    bench.drain(9 * SECOND, &[times(43, 3 * SECOND, 8 * MS)]);
    let rows = bench.sample(10, vec![observed(43, 300, "new", (16, 5))]);
    assert_eq!((rows[0].interval_ns, rows[0].cpu_user_ns), (5 * SECOND, 8 * MS));
}

#[test]
fn a_row_holds_the_schedulers_time_divided_as_the_kernel_divides_it() {
    let mut bench = Bench::new();
    // What is counted before the first sample belongs to no interval.
    bench.drain(4 * SECOND, &[times(42, SECOND, 9 * SECOND)]);
    assert_eq!(bench.sample(5, vec![observed(42, 100, "db", (10, 10))]), []);
    bench.drain(6 * SECOND, &[times(42, SECOND, 300 * MS)]);
    bench.drain(10 * SECOND, &[times(42, SECOND, 100 * MS)]);
    let rows = bench.sample(10, vec![observed(42, 100, "db", (40, 20))]);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.time, row.interval_ns), (EPOCH + 10 * SECOND as i64, 5 * SECOND));
    assert_eq!((row.pid, row.start_time), (42, EPOCH + SECOND as i64));
    assert_eq!((row.cpu_user_ns, row.cpu_system_ns, row.runqueue_ns), (300 * MS, 100 * MS, Some(40 * MS)));
    assert_eq!((row.voluntary_switches, row.involuntary_switches), (4, 2));
    assert_eq!((row.read_bytes, row.written_bytes), (Some(40_000), Some(0)));
    assert_eq!((&*row.command, &*row.service, &*row.user, &*row.state), ("db", "db", "root", "sleeping"));
    assert_eq!((row.threads, row.rss_bytes, row.exited), (3, 4096, false));
    // Idle, and read no further than `stat`.
    let idle = Observed { identity: None, usage: None, ..observed(42, 100, "db", (40, 20)) };
    let row = bench.sample(15, vec![idle]).remove(0);
    assert_eq!((row.cpu_user_ns + row.cpu_system_ns, row.read_bytes), (0, Some(0)));
}

#[test]
fn without_the_scheduler_ticks_count() {
    let mut bench = Bench::new();
    bench.sample(5, vec![observed(42, 100, "db", (10, 10)), observed(43, 100, "gone", (1, 1))]);
    let rows = bench.sample(10, vec![observed(42, 100, "db", (13, 11))]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].cpu_user_ns, rows[0].cpu_system_ns, rows[0].runqueue_ns), (30 * MS, 10 * MS, None));
    // Nobody told of the end of the other; two samples without it do.
    let rows = bench.sample(15, vec![observed(42, 100, "db", (13, 11))]);
    let ended = &rows[1];
    assert_eq!((ended.pid, ended.exited, ended.exit_code), (43, true, None));
    assert_eq!((ended.time, ended.interval_ns), (EPOCH + 10 * SECOND as i64, 5 * SECOND));
    assert_eq!(bench.processes.len(), 1);
}

#[test]
fn a_process_of_milliseconds_has_its_row() {
    let mut bench = Bench::new();
    bench.sample(5, vec![]);
    let start = 6 * SECOND + 3 * MS;
    bench.exec(&exec(start + MS, 77, start, 1, "psql -c secret"));
    bench.exit(&exit(start + 50 * MS, 77, start, 3 << 8));
    // The drain at once after the exit may come before the thread's last switch.
    assert_eq!(bench.drain(start + 60 * MS, &[times(77, start, 39 * MS)]), []);
    let rows = bench.drain(start + SECOND, &[times(77, start, MS)]);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((&*row.command, &*row.arguments, &*row.service), ("psql", "psql -c secret", "psql"));
    assert_eq!((row.time, row.interval_ns), (EPOCH + (start + 50 * MS) as i64, 50 * MS));
    assert_eq!((row.cpu_user_ns, row.cpu_system_ns, row.runqueue_ns), (30 * MS, 10 * MS, Some(39 * MS / 10 + MS / 10)));
    assert_eq!((row.exited, row.exit_code, &*row.state), (true, Some(3), "exited"));
    assert_eq!((row.rss_bytes, row.minor_faults), (1 << 20, 77));
    assert_eq!((row.read_bytes, row.written_bytes), (Some(5000), None));
    assert_eq!(bench.sample(10, vec![]), []);
    assert!(bench.processes.is_empty());
}

#[test]
fn the_row_at_exit_holds_what_no_sample_counted() {
    let mut bench = Bench::new();
    bench.sample(5, vec![]);
    bench.drain(6 * SECOND, &[]);
    bench.sample(10, vec![observed(42, 600, "job", (1, 1))]);
    bench.exit(&exit(12 * SECOND, 42, 6 * SECOND, 9));
    let row = bench.drain(13 * SECOND, &[times(42, 6 * SECOND, 20 * MS)]).remove(0);
    assert_eq!((row.interval_ns, row.exit_code), (2 * SECOND, Some(128 + 9)));
    // Of 30 + 10 ms in all, the sample had 10 + 10.
    assert_eq!((row.cpu_user_ns, row.cpu_system_ns, row.read_bytes), (20 * MS, 0, Some(3000)));
    assert_eq!(row.threads, 3);
    // As long as it is a zombie it goes on being one.
    let mut zombie = observed(42, 600, "job", (3, 1));
    zombie.stat.state = 'Z';
    let row = bench.sample(15, vec![zombie]).remove(0);
    assert_eq!((&*row.state, row.exited, row.cpu_user_ns, row.read_bytes), ("zombie", false, 0, Some(0)));
}

#[test]
fn a_pid_used_again_is_another_process() {
    let mut bench = Bench::new();
    bench.sample(5, vec![observed(42, 100, "old", (5, 5))]);
    bench.exit(&exit(6 * SECOND, 42, SECOND, 0));
    bench.exec(&exec(6 * SECOND + 2 * MS, 42, 6 * SECOND + MS, 1, "new"));
    assert_eq!(&*bench.lookup(42).command, "new");
    let rows = bench.drain(7 * SECOND, &[times(42, SECOND, 8 * MS), times(42, 6 * SECOND + MS, 2 * MS)]);
    assert_eq!((rows.len(), &*rows[0].command, rows[0].cpu_user_ns + rows[0].cpu_system_ns), (1, "old", 8 * MS));
    let rows = bench.sample(10, vec![observed(42, 600, "new", (1, 0))]);
    assert_eq!((rows.len(), &*rows[0].command, rows[0].cpu_user_ns), (1, "new", 2 * MS));
    assert_eq!(rows[0].interval_ns, 4 * SECOND);
    assert_ne!(rows[0].start_time, EPOCH + SECOND as i64);
}

#[test]
fn the_cgroup_names_the_service_and_children_inherit_it() {
    let mut bench = Bench::new();
    let mut server = observed(50, 100, "postgres", (0, 0));
    server.identity = Some(identity("postgres -D /data", "0::/system.slice/postgresql.service\n"));
    bench.sample(5, vec![server]);
    // A backend forks without exec and is gone before anyone could look.
    bench.drain(6 * SECOND, &[times(51, 5 * SECOND, MS)]);
    let mut event = exit(6 * SECOND, 51, 5 * SECOND, 0);
    event.parent_pid = 50;
    let info = bench.exit(&event);
    assert_eq!((&*info.command, &*info.service), ("ended", "postgresql"));
    // A child of the service manager is asked about at once.
    bench.facts.add(60, 600, "nginx", "0::/system.slice/nginx.service\n");
    let info = bench.exec(&exec(6 * SECOND + MS, 60, 6 * SECOND, 1, "nginx -g"));
    assert_eq!(&*info.service, "nginx");
    assert!(bench.facts.asked.contains(&60));
}

#[test]
fn who_is_first_met_on_a_socket_is_asked_about_once() {
    let mut bench = Bench::new();
    bench.facts.add(70, 600, "curl", "0::/user.slice/user-0.slice/session-1.scope\n");
    assert_eq!(&*bench.lookup(70).service, "curl");
    let info = bench.lookup(70);
    assert_eq!(bench.facts.asked, [70]);
    // Another program in the same process.
    bench.exec(&exec(7 * SECOND, 70, 6 * SECOND, 1, "wget x"));
    assert!(info.superseded());
    assert_eq!(&*bench.lookup(70).service, "wget");
    // Nobody there; asked again only after the next sample.
    let stranger = bench.lookup(71);
    assert_eq!((&*stranger.service, stranger.superseded()), ("unknown", false));
    bench.sample(10, vec![]);
    assert!(stranger.superseded());
}

#[test]
fn encrypted_connections_are_reported_once_per_process() {
    let mut bench = Bench::new();
    bench.facts.add(70, 600, "app", "");
    let info = bench.lookup(70);
    assert_eq!(bench.processes.first_encrypted(&info, "postgres"), Some(true));
    assert_eq!(bench.processes.first_encrypted(&info, "postgres"), Some(false));
}

#[test]
fn threads_that_end_together_are_one_end() {
    let mut bench = Bench::new();
    bench.sample(5, vec![observed(42, 100, "db", (1, 1))]);
    let told = |at_ms, written_bytes, minor_faults| {
        let event = exit(6 * SECOND + at_ms * MS, 42, SECOND, 9);
        ExitEvent { written_bytes, minor_faults, ..event }
    };
    let ends = [told(0, 1000, 70), told(1, 16_000, 90), told(2, 15_000, 89)];
    let first = ends.map(|event| bench.processes.exit(&event, &bench.clocks).1);
    assert_eq!(first, [true, false, false]);
    let rows = bench.drain(7 * SECOND, &[]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].written_bytes, rows[0].minor_faults, rows[0].exit_code), (Some(16_000), 90, Some(137)));
}

#[test]
fn answers_that_do_not_come_are_not_waited_for() {
    let mut bench = Bench::new();
    let tick = |bench: &mut Bench, second| bench.processes.tick(second * SECOND, &bench.clocks, &mut bench.rows);
    bench.processes.exec(&exec(5 * SECOND, 42, 5 * SECOND, 1, "db"), &bench.clocks);
    let info = bench.processes.lookup(42);
    assert!(bench.processes.is_pending(42) && !info.is_known());
    tick(&mut bench, 6);
    assert!(bench.processes.is_pending(42));
    tick(&mut bench, 7);
    assert!(!bench.processes.is_pending(42) && info.is_known());
    assert_eq!(bench.processes.unanswered(), 1);
    // What was read of the process before it became this program, says nothing of it.
    bench.facts.add(42, 500, "shell", "0::/user.slice\n");
    let mut found = bench.facts.processes[&42].clone();
    found.read_ns = 4 * SECOND;
    bench.processes.answer(42, Some(&found), &bench.clocks);
    assert_eq!(&*bench.processes.info(42).unwrap().command, "db");
    found.read_ns = 8 * SECOND;
    bench.processes.answer(42, Some(&found), &bench.clocks);
    assert_eq!(&*bench.processes.info(42).unwrap().command, "shell");
}

#[test]
fn a_hundred_thousand_processes_are_asked_about_in_turn() {
    let mut bench = Bench::new();
    for pid in 1..=100_000 {
        bench.processes.lookup(pid);
    }
    assert_eq!(bench.processes.questions().count(), READS_PER_SECOND as usize);
    assert_eq!(bench.processes.unanswered(), 100_000 - MAX_PENDING as u64);
    bench.processes.tick(SECOND, &bench.clocks, &mut bench.rows);
    assert_eq!(bench.processes.questions().count(), READS_PER_SECOND as usize);
}
