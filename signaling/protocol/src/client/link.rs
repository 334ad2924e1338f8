//! The connection to the server: its progress, its timeouts, and the time to renew credentials.

use crate::wire::ErrorCode;
use std::time::{Duration, Instant};

/// How long the server may take to answer `register` or `join`. It may have to probe an old socket for 2 s (rule 8).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence in excess of the server's heartbeat after which the client pings, and silence after that ping after which it
/// reconnects. Together with the usual heartbeat, that is less than the 30 s for which peers keep media sessions.
pub const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// The heartbeat of a server that names none (rule 10).
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest and the longest time between joins that renew credentials.
const REFRESH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(24));
/// The longest heartbeat that a client believes, because it bounds how late a dead connection is noticed.
const MAX_HEARTBEAT: Duration = Duration::from_mins(5);

/// The connection to the server, if there is one.
#[derive(Debug)]
pub(super) enum Link {
    Waiting { until: Instant },
    Connecting { until: Instant },
    Up(Connection),
    Closed,
}

/// One open WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) progress: Progress,
    /// When the last frame arrived.
    pub(super) heard: Instant,
    /// When the ping was sent that has no answer yet.
    pub(super) pinged: Option<Instant>,
    pub(super) heartbeat: Duration,
    /// The delay that `draining` asked for.
    pub(super) retry_after: Option<Duration>,
    /// The last error, which may explain a close code.
    pub(super) last_error: Option<(ErrorCode, String)>,
    /// When to join again, so that new media sessions get credentials that have not expired.
    pub(super) refresh_at: Option<Instant>,
}

/// How far the client has got on an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Registering { until: Instant },
    Joining { until: Instant },
    Joined,
}

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            progress: Progress::Registering { until: now + ANSWER_TIMEOUT },
            heard: now,
            pinged: None,
            heartbeat: DEFAULT_HEARTBEAT,
            retry_after: None,
            last_error: None,
            refresh_at: None,
        }
    }

    pub(super) fn set_heartbeat(&mut self, seconds: u64) {
        if seconds > 0 {
            self.heartbeat = Duration::from_secs(seconds).min(MAX_HEARTBEAT);
        }
    }

    /// The client is in the room, with credentials that are valid for `ttl_s` seconds, or for ever. They are renewed after
    /// half of that time, so that a session that begins later has the other half.
    pub(super) fn joined(&mut self, now: Instant, ttl_s: Option<u64>) {
        self.progress = Progress::Joined;
        self.refresh_at =
            ttl_s.map(|seconds| now + Duration::from_secs(seconds / 2).clamp(REFRESH.0, REFRESH.1));
    }

    /// When the next reaction to silence is due: first a ping, then the end of the connection.
    pub(super) fn silent_at(&self) -> Instant {
        match self.pinged {
            Some(at) => at + SILENCE_GRACE,
            None => self.heard + self.heartbeat + SILENCE_GRACE,
        }
    }

    /// Whether an answer is overdue.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        match self.progress {
            Progress::Registering { until } | Progress::Joining { until } if until <= now => true,
            _ => self.pinged.is_some() && self.silent_at() <= now,
        }
    }
}
