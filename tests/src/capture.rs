//! Packets of the loopback interface in a file, and what Wireshark makes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    daemon::query,
    host::{binary, wait_until},
    postgres::succeed,
    process::signal,
    server::Server,
};

/// Between the values of a field that a packet has more than once.
const AND: char = '\u{1e}';

/// A `tcpdump` that writes what goes to and from a port of loopback.
pub struct Capture {
    tcpdump: Server,
    file: PathBuf,
}

impl Capture {
    pub fn start(folder: &Path, port: u16) -> Self {
        let file = folder.join("capture.pcap");
        let mut command = Command::new("tcpdump");
        // Whole packets, with room for 128 MiB that are not written yet; as root, since the folder is ours.
        command.args(["-i", "lo", "-n", "-s", "0", "-U", "-B", "131072", "-Z", "root"]);
        command.arg("-w").arg(&file).args(["tcp", "port", &port.to_string()]);
        let mut tcpdump = Server::start(&mut command, libc::SIGINT, &folder.join("tcpdump.log"));
        tcpdump.ready(|| None.or_else(|| fs::metadata(&file).ok().filter(|file| file.len() > 0)));
        Self { tcpdump, file }
    }

    /// Ends it once it has written all; returns the file.
    pub fn end(self) -> PathBuf {
        let mut sizes = Vec::new();
        wait_until("tcpdump has written all", || {
            sizes.push(fs::metadata(&self.file).expect("the capture").len());
            // The kernel hands packets over a second after the first at the latest.
            let latest = sizes.len().checked_sub(50).map(|from| &sizes[from..])?;
            latest.iter().all(|size| size == &latest[0]).then_some(())
        });
        signal(self.tcpdump.pid(), libc::SIGINT);
        let said = wait_until("tcpdump ends", || {
            let log = self.tcpdump.log();
            log.contains("dropped by kernel").then_some(log)
        });
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        self.file
    }
}

/// The values of the fields asked for, in each packet that a filter lets pass.
pub fn dissect(file: &Path, port: u16, protocol: &str, filter: &str, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-d", &format!("tcp.port=={port},{protocol}"), "-Y", filter]);
    command.args(["-T", "fields", "-E", "separator=/t", "-E", &format!("aggregator={AND}"), "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = succeed(&mut command);
    let values = |text: &str| match text {
        "" => Vec::new(),
        text => text.split(AND).map(str::to_owned).collect(),
    };
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split('\t').map(values).collect()).collect()
}

/// What hitscope makes of the file: each hit of a protocol, whole, in the order of their ends.
pub fn replay(file: &Path, protocol: &str, columns: &str) -> Vec<serde_json::Value> {
    let folder = file.parent().expect("its folder");
    let config = folder.join("replay.toml");
    fs::write(&config, "[collector]\nkeep_literals = true\nsampled_per_second = 1000000\n").expect("the configuration");
    let data = folder.join("data");
    succeed(Command::new(binary()).arg("replay").arg(file).arg("--data-dir").arg(&data).arg("--config").arg(&config));
    let lost = query(&data, "SELECT detail FROM events WHERE kind = 'lost'");
    assert!(lost.is_empty(), "{lost:?}");
    let rows =
        query(&data, &format!("SELECT {columns}, weight FROM hits WHERE protocol = '{protocol}' ORDER BY end_time"));
    assert!(rows.iter().all(|row| row["weight"] == 1), "{rows:?}");
    rows
}
