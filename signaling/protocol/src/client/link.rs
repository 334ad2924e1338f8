//! The connection to the server: how far it is, and whether anybody is at the other end.

use crate::wire::ErrorCode;
use std::time::{Duration, Instant};

/// A server that hasn't answered `register` or `join` by then will not. It probes an old socket for 2 s (rule 8).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// More silence than the server's heartbeat explains, after which we ask; and after which we stop waiting for an answer.
/// Together with the usual heartbeat less than the 30 s that others keep our media sessions for.
pub const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// The heartbeat of a server that names none (rule 10).
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// No server may make a client join again more often, nor need it be longer until then.
const REFRESH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(24));
/// No server may make a client deaf for longer than this.
const MAX_HEARTBEAT: Duration = Duration::from_mins(5);

/// The way to the server.
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
    pub(super) stage: Stage,
    /// When the last frame came.
    pub(super) heard: Instant,
    /// Since when a ping of ours waits for an answer.
    pub(super) pinged: Option<Instant>,
    pub(super) heartbeat: Duration,
    /// What a `draining` server wants.
    pub(super) retry_after: Option<Duration>,
    /// The last error, which may explain a close code.
    pub(super) said: Option<(ErrorCode, String)>,
    /// When to join again, so that new media sessions don't get credentials that have expired.
    pub(super) refresh_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Registering { until: Instant },
    Joining { until: Instant },
    Joined,
}

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Registering { until: now + ANSWER_TIMEOUT },
            heard: now,
            pinged: None,
            heartbeat: DEFAULT_HEARTBEAT,
            retry_after: None,
            said: None,
            refresh_at: None,
        }
    }

    pub(super) fn set_heartbeat(&mut self, seconds: u64) {
        if seconds > 0 {
            self.heartbeat = Duration::from_secs(seconds).min(MAX_HEARTBEAT);
        }
    }

    /// In the room, with credentials that are good for so many seconds, or for ever: half of that time is left for
    /// sessions that begin with them late.
    pub(super) fn joined(&mut self, now: Instant, ttl_s: Option<u64>) {
        self.stage = Stage::Joined;
        self.refresh_at =
            ttl_s.map(|seconds| now + Duration::from_secs(seconds / 2).clamp(REFRESH.0, REFRESH.1));
    }

    /// When the next step against silence is due: first a ping, then the end.
    pub(super) fn silent_at(&self) -> Instant {
        match self.pinged {
            Some(at) => at + SILENCE_GRACE,
            None => self.heard + self.heartbeat + SILENCE_GRACE,
        }
    }

    /// Whether nobody answers.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        match self.stage {
            Stage::Registering { until } | Stage::Joining { until } if until <= now => true,
            _ => self.pinged.is_some() && self.silent_at() <= now,
        }
    }
}
