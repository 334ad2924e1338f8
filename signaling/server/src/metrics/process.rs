//! What this process uses, as Linux tells it. What it doesn't tell is left out.

use super::exposition::Exposition;
use std::fs;

/// Parts of a second in which /proc counts: USER_HZ, which is 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// The metrics of all programs that Prometheus' conventions name.
pub(super) fn describe(out: &mut Exposition, started: f64) {
    if let Some(seconds) = cpu_seconds() {
        out.counter("process_cpu_seconds_total", "Processor time of this process.", seconds);
    }
    if let Some(bytes) = resident_bytes() {
        out.gauge("process_resident_memory_bytes", "Memory that this process has in RAM.", bytes);
    }
    // Newer kernels tell how many there are without a look at each.
    if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|files| files.len()).filter(|open| *open > 0) {
        out.gauge("process_open_fds", "Open files, each connection among them.", open);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.gauge("process_max_fds", "How many files may be open.", limit);
    }
    out.gauge("process_start_time_seconds", "When this process began, in UNIX time.", started);
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything; user and system time are the 14th and 15th field.
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
