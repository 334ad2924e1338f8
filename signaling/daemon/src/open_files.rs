//! The limit of open files. Each connection is an open file, and many systems start programs with a limit of 1,024.

use room_signaling_server::SPARE_FILES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// The most descriptors for which the table is prepared at the start. Each takes 8 bytes of memory.
const PREPARED: u64 = 1 << 16;

/// Why there may be too few open files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooFew {
    #[error(
        "the limit of open files is {hard}, but max_connections needs {wanted}: raise the limit (ulimit -Hn, or LimitNOFILE= \
         in a systemd unit), or lower max_connections"
    )]
    Limited { hard: u64, wanted: u64 },
}

/// Raises the limit of open files as far as needed and allowed, and makes the kernel's table of this process grow now.
///
/// Otherwise the table would double again and again as connections arrive. In a process with threads, each doubling stops
/// the process for about 10 ms, because all processors have to see the new table. Call this before the first thread starts.
pub(crate) fn raise_limit(max_connections: usize) -> Result<(), TooFew> {
    let connections = max_connections as u64;
    let wanted = connections.saturating_add(SPARE_FILES as u64);
    let limits = getrlimit(Resource::Nofile);
    // `None` means no limit.
    let (soft, hard) = (limits.current.unwrap_or(u64::MAX), limits.maximum.unwrap_or(u64::MAX));
    let more = Rlimit { current: Some(wanted.min(hard)), ..limits };
    let raised = soft >= wanted || setrlimit(Resource::Nofile, more).is_ok();
    let last = wanted.min(if raised { hard } else { soft }).min(PREPARED).saturating_sub(1);
    // A duplicate with the last number, closed immediately, makes the table grow. If that fails, the table grows later.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), i32::try_from(last).unwrap_or_default());
    if raised && hard >= wanted { Ok(()) } else { Err(TooFew::Limited { hard, wanted }) }
}
