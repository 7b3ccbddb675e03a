//! What the probe `tls` adds to a call of the library, by a loop of short messages between two ends in one thread.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::daemon::Daemon;
use super::{Folder, median, spread};
use crate::process::{read, run as execute, say};
use crate::workspace::Workspace;

/// What runs besides, and the probes that are left off.
const VARIANTS: [(&str, Option<&[&str]>); 3] =
    [("nothing", None), ("hitscope without `tls`", Some(&["tls"])), ("hitscope, all probes", Some(&[]))];

pub fn run(workspace: &Workspace, folder: &Folder, rounds: usize) -> Result<()> {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    execute(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    let cost = || -> Result<f64> {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", include_str!("tls.py")]).args([&certificate, &key]).arg("2");
        read(&mut python)?.trim().parse().context("what the loop prints is a time")
    };
    let mut costs = VARIANTS.map(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..VARIANTS.len() {
            // Another order each round, so that none always comes after the same.
            let index = (turn + round) % VARIANTS.len();
            let (name, disabled) = VARIANTS[index];
            let daemon = match disabled {
                Some(disabled) => Some(Daemon::start(workspace, folder.path(), disabled, &["--no-serve"])?),
                None => None,
            };
            sleep(Duration::from_millis(500));
            let during = cost()?;
            drop(daemon);
            say!("round {}/{rounds}: {name:24} {during:6.0} ns per call", round + 1);
            costs[index].push(during);
        }
    }
    println!("Python's `ssl`, messages of a few bytes over loopback, {rounds} rounds in turn; CPU time of the calling");
    println!("thread per SSL_read or SSL_write, with the system call within.\n");
    println!("| runs besides | ns per call: median (least–most) | × nothing |");
    println!("|---|---|---|");
    for (index, (name, _)) in VARIANTS.iter().enumerate() {
        let ratios: Vec<f64> = costs[index].iter().zip(&costs[0]).map(|(of, to)| of / to).collect();
        println!("| {name} | {} | {:.2} |", spread(&costs[index], 0), median(&ratios));
    }
    let added: Vec<f64> = costs[2].iter().zip(&costs[1]).map(|(with, without)| with - without).collect();
    println!("\nThe probe `tls` adds {} ns to a call, which passes two uprobes.", spread(&added, 0));
    Ok(())
}
