//! Totals of the host from `/proc`, and the row of what it used between two of them.

use std::{fs, path::Path};

use hitscope_schemas::tables::Host;
use procfs::{DiskStats, ExplicitSystemInfo, FromRead, FromReadSI, KernelStats, LoadAverage};

use crate::{
    facts::{HostSample, TICK_NS},
    sampler::number,
};

const SECTOR_BYTES: u64 = 512;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_US: u64 = 1000;

/// Reads the host's totals. `root` is `/proc` or a folder of the same form; what cannot be read stays zero or `None`.
pub fn sample(root: &Path, end_ns: i64) -> HostSample {
    let mut sample = HostSample { end_ns, ..HostSample::default() };
    // The parser takes the tick's length along, and does not use it.
    let info = ExplicitSystemInfo { boot_time_secs: 0, ticks_per_second: 100, page_size: 4096, is_little_endian: true };
    if let Ok(stat) = KernelStats::from_file(root.join("stat"), &info) {
        let total = stat.total;
        let or_zero = |ticks: Option<u64>| ticks.unwrap_or(0);
        sample.cpus = stat.cpu_time.len() as u32;
        sample.user_ticks = total.user + total.nice;
        sample.system_ticks = total.system + or_zero(total.irq) + or_zero(total.softirq);
        sample.idle_ticks = total.idle + or_zero(total.iowait);
        sample.steal_ticks = or_zero(total.steal);
    }
    if let Ok(load) = LoadAverage::from_file(root.join("loadavg")) {
        sample.load1 = f64::from(load.one);
    }
    // Containers may see a `meminfo` with few of the fields, which the crate's parser refuses.
    let memory = fs::read_to_string(root.join("meminfo")).unwrap_or_default();
    let bytes = |key| number(&memory, key).map(|kib| kib * 1024);
    sample.memory_total_bytes = bytes("MemTotal:").unwrap_or(0);
    sample.memory_available_bytes = bytes("MemAvailable:").or(bytes("MemFree:")).unwrap_or(0);
    sample.memory_cached_bytes = bytes("Cached:").unwrap_or(0) + bytes("Buffers:").unwrap_or(0);
    sample.swap_total_bytes = bytes("SwapTotal:").unwrap_or(0);
    sample.swap_free_bytes = bytes("SwapFree:").unwrap_or(0);
    if let Ok(DiskStats(disks)) = DiskStats::from_file(root.join("diskstats")) {
        let names: Vec<String> = disks.iter().map(|disk| disk.name.clone()).collect();
        for disk in disks.iter().filter(|disk| whole_disk(&disk.name, &names)) {
            sample.disk_read_bytes += disk.sectors_read * SECTOR_BYTES;
            sample.disk_written_bytes += disk.sectors_written * SECTOR_BYTES;
            sample.disk_busy_ns += disk.time_in_progress * NS_PER_MS;
        }
    }
    if let Ok(procfs::net::InterfaceDeviceStatus(interfaces)) = FromRead::from_file(root.join("net/dev")) {
        for interface in interfaces.values().filter(|interface| interface.name != "lo") {
            sample.network_received_bytes += interface.recv_bytes;
            sample.network_sent_bytes += interface.sent_bytes;
        }
    }
    let pressure = |resource: &str| fs::read_to_string(root.join("pressure").join(resource)).unwrap_or_default();
    let (cpu, memory, io) = (pressure("cpu"), pressure("memory"), pressure("io"));
    sample.pressure_cpu_some_ns = stalled_ns(&cpu, "some");
    sample.pressure_memory_some_ns = stalled_ns(&memory, "some");
    sample.pressure_memory_full_ns = stalled_ns(&memory, "full");
    sample.pressure_io_some_ns = stalled_ns(&io, "some");
    sample.pressure_io_full_ns = stalled_ns(&io, "full");
    sample
}

/// Neither a partition of another disk, nor a device laid over others, whose bytes would count twice.
fn whole_disk(name: &str, names: &[String]) -> bool {
    let stacked = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"].iter().any(|prefix| name.starts_with(prefix));
    let partition_of = |disk: &String| {
        name.strip_prefix(disk.as_str()).is_some_and(|rest| {
            let number = rest.strip_prefix('p').unwrap_or(rest);
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    !stacked && !names.iter().any(partition_of)
}

/// `total` of a line of `/proc/pressure/*`, which counts microseconds.
fn stalled_ns(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find_map(|found| found.strip_prefix(line))?;
    let total = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()? * NS_PER_US)
}

/// What the host used between two samples; a total that went back (a disk or interface that is gone) counts as zero.
pub fn row(before: &HostSample, now: &HostSample) -> Host {
    let used = |total: fn(&HostSample) -> u64| total(now).saturating_sub(total(before));
    let stalled = |total: fn(&HostSample) -> Option<u64>| Some(total(now)?.saturating_sub(total(before)?));
    Host {
        time: now.end_ns,
        interval_ns: u64::try_from(now.end_ns - before.end_ns).unwrap_or(0),
        cpus: now.cpus,
        cpu_user_ns: used(|sample| sample.user_ticks) * TICK_NS,
        cpu_system_ns: used(|sample| sample.system_ticks) * TICK_NS,
        cpu_idle_ns: used(|sample| sample.idle_ticks) * TICK_NS,
        cpu_steal_ns: used(|sample| sample.steal_ticks) * TICK_NS,
        load1: now.load1,
        memory_total_bytes: now.memory_total_bytes,
        memory_available_bytes: now.memory_available_bytes,
        memory_cached_bytes: now.memory_cached_bytes,
        swap_total_bytes: now.swap_total_bytes,
        swap_used_bytes: now.swap_total_bytes.saturating_sub(now.swap_free_bytes),
        disk_read_bytes: used(|sample| sample.disk_read_bytes),
        disk_written_bytes: used(|sample| sample.disk_written_bytes),
        disk_busy_ns: used(|sample| sample.disk_busy_ns),
        network_received_bytes: used(|sample| sample.network_received_bytes),
        network_sent_bytes: used(|sample| sample.network_sent_bytes),
        pressure_cpu_some_ns: stalled(|sample| sample.pressure_cpu_some_ns),
        pressure_memory_some_ns: stalled(|sample| sample.pressure_memory_some_ns),
        pressure_memory_full_ns: stalled(|sample| sample.pressure_memory_full_ns),
        pressure_io_some_ns: stalled(|sample| sample.pressure_io_some_ns),
        pressure_io_full_ns: stalled(|sample| sample.pressure_io_full_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_host(root: &Path, work: u64) {
        fs::create_dir_all(root.join("net")).unwrap();
        fs::create_dir_all(root.join("pressure")).unwrap();
        let stat = format!(
            "cpu  {} 10 50 1000 20 3 4 5 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0 0 0\nctxt 1\nbtime 2\n\
             processes 3\n",
            100 + work
        );
        fs::write(root.join("stat"), stat).unwrap();
        fs::write(root.join("loadavg"), "1.50 0.70 0.20 2/570 4711\n").unwrap();
        let mut memory = String::new();
        for (name, kib) in [
            ("MemTotal", 4000),
            ("MemFree", 1000),
            ("MemAvailable", 2500),
            ("Buffers", 100),
            ("Cached", 1400),
            ("SwapCached", 0),
            ("SwapTotal", 800),
            ("SwapFree", 600),
        ] {
            memory += &format!("{name}:  {kib} kB\n");
        }
        fs::write(root.join("meminfo"), memory).unwrap();
        let disk = |name: &str| format!("8 0 {name} 1 0 {} 0 1 0 {} 0 0 {} 0\n", 10 * work, 20 * work, 7 * work);
        let disks: String = ["sda", "sda1", "nvme0n1", "nvme0n1p2", "loop0", "dm-0"].map(disk).concat();
        fs::write(root.join("diskstats"), disks).unwrap();
        let line = |name: &str| format!("{name}: {} 1 0 0 0 0 0 0 {} 1 0 0 0 0 0 0\n", 1000 * work, 3000 * work);
        fs::write(root.join("net/dev"), format!("a|b\nc|d\n{}{}", line("    lo"), line("  eth0"))).unwrap();
        for resource in ["cpu", "memory", "io"] {
            let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={work}\n");
            fs::write(root.join("pressure").join(resource), text).unwrap();
        }
    }

    #[test]
    fn a_row_is_the_difference_of_two_samples() {
        let root = tempfile::tempdir().unwrap();
        write_host(root.path(), 0);
        let before = sample(root.path(), 5_000_000_000);
        write_host(root.path(), 100);
        let now = sample(root.path(), 10_000_000_000);
        let row = row(&before, &now);
        assert_eq!((row.interval_ns, row.cpus, row.load1), (5_000_000_000, 2, 1.5));
        assert_eq!((row.cpu_user_ns, row.cpu_system_ns, row.cpu_idle_ns), (1_000_000_000, 0, 0));
        assert_eq!((row.memory_total_bytes, row.memory_available_bytes), (4000 * 1024, 2500 * 1024));
        assert_eq!((row.memory_cached_bytes, row.swap_used_bytes), (1500 * 1024, 200 * 1024));
        // Two whole disks, one interface.
        assert_eq!((row.disk_read_bytes, row.disk_written_bytes), (2 * 1000 * 512, 2 * 2000 * 512));
        assert_eq!(row.disk_busy_ns, 2 * 700 * NS_PER_MS);
        assert_eq!((row.network_received_bytes, row.network_sent_bytes), (100_000, 300_000));
        assert_eq!((row.pressure_cpu_some_ns, row.pressure_io_full_ns), (Some(100_000), None));
    }

    #[test]
    fn an_empty_folder_gives_an_empty_sample() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(sample(root.path(), 5), HostSample { end_ns: 5, ..HostSample::default() });
    }
}
