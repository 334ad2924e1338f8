//! The metrics of the process, as Linux provides them. A value that it does not provide is omitted.

use super::exposition::Exposition;
use std::fs;

/// The ticks per second of /proc: USER_HZ, which is 100 on all supported systems.
const TICKS: f64 = 100.0;

/// The metrics that the conventions of Prometheus define for every process.
pub(super) fn describe(out: &mut Exposition, started: f64) {
    if let Some(seconds) = cpu_seconds() {
        out.counter("process_cpu_seconds_total", "User and system CPU time of this process.", seconds);
    }
    if let Some(bytes) = resident_bytes() {
        out.gauge("process_resident_memory_bytes", "Resident memory of this process.", bytes);
    }
    // Since Linux 6.2, the size of the folder is the number of open files.
    if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|files| files.len()).filter(|open| *open > 0) {
        out.gauge("process_open_fds", "Open files, including one for each connection.", open);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.gauge("process_max_fds", "The limit of open files.", limit);
    }
    out.gauge("process_start_time_seconds", "The start of this process, in UNIX time.", started);
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may contain anything. User and system time are the 14th and 15th fields.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u32>().ok().map(f64::from);
    Some((next()? + next()?) / TICKS)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
