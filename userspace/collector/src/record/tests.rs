use std::{fs, os::unix::fs::PermissionsExt};

use hitscope_schemas::{connections::CLIENT, event::KIND_DNS};

use super::*;
use crate::{
    clocks::Clocks,
    facts::Facts,
    pipeline::Pipeline,
    replay,
    rows::Rows,
    settings::Settings,
    testing::{FakeFacts, SECOND, clock, dns_answer, exec, exit, header, observed, segment, socket, times},
};

/// Feeds a bit of everything to a pipeline and a recording.
fn record(path: &Path) -> Rows {
    let mut recorder = Recorder::create(path, &Header::here("test")).unwrap();
    let mut pipeline = Pipeline::new(&Settings::default(), std::env::consts::ARCH);
    let mut facts = FakeFacts::default();
    facts.add(42, 100, "postgres", "0::/system.slice/postgresql.service\n");
    let mut rows = Rows::default();
    let mut feed = |input: Input<'_>| {
        recorder.input(&input);
        pipeline.handle(input);
        // As the main loop does; an answer may raise more questions.
        loop {
            let questions: Vec<_> = pipeline.questions().collect();
            if questions.is_empty() {
                break;
            }
            for question in questions {
                let fact = facts.answer(question);
                recorder.input(&Input::Fact(&fact));
                pipeline.handle(Input::Fact(&fact));
            }
        }
        rows.append(&mut pipeline.take_rows());
    };
    let mut earlier = Clocks::default();
    earlier.set(clock(3 * SECOND + 77_000_000));
    feed(Input::Boot(earlier.boot()));
    feed(Input::Event(Event::Clock(clock(4 * SECOND))));
    feed(Input::Note("start", "a test"));
    let sample = |second: u64, ticks| ProcessSample {
        end_ns: clock(second * SECOND).realtime_ns as i64,
        processes: vec![observed(41, 100, "init", (ticks, 0))],
    };
    let host = |second: u64| HostSample {
        end_ns: clock(second * SECOND).realtime_ns as i64,
        cpus: 2,
        ..HostSample::default()
    };
    feed(Input::Processes(&sample(5, 1)));
    feed(Input::Host(&host(5)));
    feed(Input::Event(Event::Exec(&exec(5 * SECOND, 50, 5 * SECOND, 1, "psql -l"))));
    feed(Input::Event(Event::Socket(&socket(5 * SECOND, 42, 900, 4711))));
    feed(Input::Event(Event::Segment(&segment(5 * SECOND, 42, 900, 0, 0, 8), b"\0\0\0\x08zzzz", b"")));
    feed(Input::Event(Event::Exit(&exit(5 * SECOND + 7, 50, 5 * SECOND, 0))));
    let key = SyscallKey { pid: 42, ..bytemuck::Zeroable::zeroed() };
    feed(Input::Event(Event::Syscalls(&[(key, SyscallStats { calls: 2, ..SyscallStats::default() })])));
    feed(Input::Event(Event::ProcessTimes(&[times(42, SECOND, 700), times(50, 5 * SECOND, 900)])));
    let answer = dns_answer();
    let told = DnsEvent { header: header(KIND_DNS, 5 * SECOND, 42), length: answer.len() as u32, padding: 0 };
    feed(Input::Event(Event::Dns(&told, &answer)));
    let address = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
    let remote = RemoteKey { address, pid: 42, port: 443, side: CLIENT, generation: 0 };
    feed(Input::Event(Event::Remotes(&[(remote, RemoteStats { connects: 2, ..RemoteStats::default() })])));
    feed(Input::Event(Event::Lost(&[("segment_ring_full", 3)])));
    feed(Input::Tick(6 * SECOND));
    feed(Input::Processes(&sample(10, 3)));
    feed(Input::Host(&host(10)));
    feed(Input::Tick(10 * SECOND));
    feed(Input::Note("stop", "done"));
    feed(Input::End);
    recorder.flush().unwrap();
    rows
}

fn replayed(path: &Path) -> Result<(Rows, replay::Replayed), Error> {
    let mut all = Rows::default();
    let replayed = replay::rows(&Settings::default(), &mut Player::open(path)?, |mut rows, _| {
        all.append(&mut rows);
        Ok::<(), Error>(())
    })?;
    Ok((all, replayed))
}

#[test]
fn a_replay_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hitscope");
    let rows = record(&path);
    assert!(rows.processes.len() == 2 && rows.events.len() >= 5 && rows.hosts.len() == 1 && rows.syscalls.len() == 1);
    assert_eq!(rows.sockets[0].remote_name.as_deref(), Some("pay.example"));
    let (again, replayed) = replayed(&path).unwrap();
    assert_eq!(again, rows);
    assert_eq!(replayed.warning, None);
    assert_eq!(replayed.from_ns, clock(6 * SECOND).realtime_ns as i64);
    assert_eq!(replayed.to_ns, clock(10 * SECOND).realtime_ns as i64);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_cut_short_is_good_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hitscope");
    record(&path);
    let whole = fs::read(&path).unwrap();
    let (rows, _) = replayed(&path).unwrap();
    let first_frame = 16 + u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    for length in (first_frame..whole.len()).step_by(37) {
        fs::write(&path, &whole[..length]).unwrap();
        let (part, replayed) = replayed(&path).unwrap();
        assert!(part.processes.len() <= rows.processes.len());
        assert!(replayed.warning.unwrap().contains("a.hitscope"), "{length}");
    }
    // Damage inside is found too, at the latest by the frame that it makes senseless.
    let mut damaged = whole.clone();
    damaged[first_frame] = 99;
    fs::write(&path, &damaged).unwrap();
    assert!(replayed(&path).unwrap().1.warning.unwrap().contains("damaged at byte"));
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hitscope");
    for text in ["", "HITS", "something else entirely"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Player::open(&path), Err(Error::NotARecording(_))), "{text}");
    }
    record(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 77;
    fs::write(&path, &bytes).unwrap();
    let error = Player::open(&path).err().unwrap().to_string();
    assert!(error.contains("format 77") && error.contains("replay it with the version that recorded it"), "{error}");
    assert!(matches!(Player::open(&folder.path().join("none")), Err(Error::Io { action: "open", .. })));
}
