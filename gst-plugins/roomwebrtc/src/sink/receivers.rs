//! What the conductor knows of one receiver: one enum, with only the data that is valid in each state.

use super::receiver::{Session, Tell};
use room_signaling_client::wire::PeerEntry;
use std::time::{Duration, Instant};

/// The longest time between two sessions that failed.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// A member of the room that receives.
pub(crate) struct Receiver {
    pub(crate) peer: PeerEntry,
    pub(crate) phase: Phase,
    /// Tells this session's events from those of an earlier one.
    pub(crate) serial: u64,
    pub(crate) webrtc_stats: Option<gst::Structure>,
    failures: u32,
}

/// Where the media session with a receiver stands. Draining has no entry here: a session on its way out belongs to its
/// teardown thread and nobody asks for it any more.
pub(crate) enum Phase {
    /// None yet, or none any more.
    Idle { retry: Retry },
    /// An offer is being made; the receiver was told nothing yet.
    Preparing { session: Session, since: Instant },
    /// The offer waits for its answer.
    Offering { session: Session, since: Instant },
    /// Answered; ICE and DTLS are at work.
    Connecting { session: Session, since: Instant },
    /// Media flows.
    Connected { session: Session },
}

/// When an idle receiver gets a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    Now,
    At(Instant),
    /// Not before it comes anew.
    Never,
}

impl Phase {
    pub(crate) fn session(&self) -> Option<&Session> {
        match self {
            Phase::Idle { .. } => None,
            Phase::Preparing { session, .. }
            | Phase::Offering { session, .. }
            | Phase::Connecting { session, .. }
            | Phase::Connected { session } => Some(session),
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Phase::Idle { .. } => None,
            Phase::Preparing { session, .. }
            | Phase::Offering { session, .. }
            | Phase::Connecting { session, .. }
            | Phase::Connected { session } => Some(session),
        }
    }

    pub(crate) fn into_session(self) -> Option<Session> {
        match self {
            Phase::Idle { .. } => None,
            Phase::Preparing { session, .. }
            | Phase::Offering { session, .. }
            | Phase::Connecting { session, .. }
            | Phase::Connected { session } => Some(session),
        }
    }

    /// Whether a session is to be started now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self {
            Phase::Idle { retry: Retry::Now } => true,
            Phase::Idle { retry: Retry::At(at) } => now >= *at,
            _ => false,
        }
    }

    /// The receiver joined again: one that waited, or had said bye, gets a session now.
    pub(crate) fn wake(&mut self) {
        if let Phase::Idle { retry } = self {
            *retry = Retry::Now;
        }
    }

    /// The word for statistics and logs.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Phase::Idle { .. } => "idle",
            Phase::Preparing { .. } => "preparing",
            Phase::Offering { .. } => "offering",
            Phase::Connecting { .. } => "connecting",
            Phase::Connected { .. } => "connected",
        }
    }
}

impl Receiver {
    /// Without a session.
    pub(crate) fn new(peer: PeerEntry, retry: Retry) -> Self {
        Self { peer, phase: Phase::Idle { retry }, serial: 0, webrtc_stats: None, failures: 0 }
    }

    /// The offer has just been sent.
    pub(crate) fn offered(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle { retry: Retry::Never });
        self.phase = match phase {
            Phase::Preparing { session, .. } => Phase::Offering { session, since: Instant::now() },
            other => other,
        };
    }

    /// Takes the answer to the offer that is out.
    pub(crate) fn answered(&mut self, sdp: &str, tell: &Tell) -> Result<(), String> {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle { retry: Retry::Never });
        let (phase, result) = match phase {
            Phase::Offering { mut session, .. } => {
                let result = session.take_answer(sdp, tell);
                (Phase::Connecting { session, since: Instant::now() }, result)
            }
            other => (other, Ok(())),
        };
        self.phase = phase;
        result
    }

    /// The connection is up; false if it was before.
    pub(crate) fn connected(&mut self) -> bool {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle { retry: Retry::Never });
        let (phase, changed) = match phase {
            Phase::Offering { session, .. } | Phase::Connecting { session, .. } => {
                session.connect_taps();
                self.failures = 0;
                (Phase::Connected { session }, true)
            }
            other => (other, false),
        };
        self.phase = phase;
        changed
    }

    /// When to try again: 1 s, 2 s, 4 s, … 30 s. An old receiver has one peer connection in its life: once it got an
    /// offer there can't be another.
    pub(crate) fn retry_after_failure(&mut self) -> Retry {
        if self.peer.protocol == 0 && !matches!(self.phase, Phase::Preparing { .. }) {
            return Retry::Never;
        }
        let wait = Duration::from_secs(1).saturating_mul(1 << self.failures.min(5)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        Retry::At(Instant::now() + wait)
    }
}
