//! Room for open files: each connection is one, and many systems start programs with room for 1,024.

use room_signaling_server::SPARE_FILES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Descriptors that the table has room for from the start, at most: each takes 8 bytes of the system's memory.
const PREPARED: u64 = 1 << 16;

/// Why there may be too little room.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooFew {
    #[error(
        "the limit of open files is {hard}, and max_connections needs {wanted}: raise the limit (ulimit -Hn, LimitNOFILE= \
         of systemd), or lower max_connections"
    )]
    Limited { hard: u64, wanted: u64 },
}

/// Raises the limit of open files as far as needed and allowed, and has the process's table grow to that size now.
///
/// Grown one doubling after the other as connections come, in a process that has threads, it would stand still for
/// 10 ms or so each time: the system lets all processors see the new table first. So this is best called before there
/// is a second thread.
pub(crate) fn make_room(max_connections: usize) -> Result<(), TooFew> {
    let connections = max_connections as u64;
    let wanted = connections.saturating_add(SPARE_FILES as u64);
    let limits = getrlimit(Resource::Nofile);
    // None is no limit.
    let (soft, hard) = (limits.current.unwrap_or(u64::MAX), limits.maximum.unwrap_or(u64::MAX));
    let more = Rlimit { current: Some(wanted.min(hard)), ..limits };
    let raised = soft >= wanted || setrlimit(Resource::Nofile, more).is_ok();
    let last = wanted.min(if raised { hard } else { soft }).min(PREPARED).saturating_sub(1);
    // For a moment it is there twice. Where that fails, the table grows later.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), i32::try_from(last).unwrap_or_default());
    if raised && hard >= wanted { Ok(()) } else { Err(TooFew::Limited { hard, wanted }) }
}
