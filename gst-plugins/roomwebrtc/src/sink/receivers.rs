//! What the conductor knows of one receiver: one enum, with only the data that is valid in each state.

use super::session::{Answered, Session};
use crate::stream_key::StreamKey;
use room_signaling_client::wire::PeerEntry;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The longest time between two sessions that failed.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// A member of the room that receives.
pub(crate) struct Receiver {
    pub(crate) peer: PeerEntry,
    pub(crate) phase: Phase,
    /// Tells this session's events from those of an earlier one.
    pub(crate) serial: u64,
    pub(crate) webrtc_stats: Option<gst::Structure>,
    /// The streams that this receiver can't play.
    pub(crate) rejected: BTreeSet<StreamKey>,
    failures: u32,
}

/// Where a receiver stands. Draining has no entry here: a session on its way out belongs to its teardown thread and
/// nobody asks for it any more.
pub(crate) enum Phase {
    /// No media session yet, or none any more.
    Idle { retry: Retry },
    /// A media session, on its way or running.
    Active { session: Session, step: Step },
}

/// How far a media session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An offer is being made; the receiver was told nothing yet.
    Preparing { since: Instant },
    /// The offer waits for its answer.
    Offering { since: Instant },
    /// Answered; ICE and DTLS are at work.
    Connecting { since: Instant },
    /// Media flows.
    Connected,
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
            Phase::Active { session, .. } => Some(session),
            Phase::Idle { .. } => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Phase::Active { session, .. } => Some(session),
            Phase::Idle { .. } => None,
        }
    }

    /// The session if media flows.
    pub(crate) fn connected(&self) -> Option<&Session> {
        match self {
            Phase::Active { session, step: Step::Connected } => Some(session),
            _ => None,
        }
    }

    pub(crate) fn is_preparing(&self) -> bool {
        matches!(self, Phase::Active { step: Step::Preparing { .. }, .. })
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
            Phase::Active { step, .. } => match step {
                Step::Preparing { .. } => "preparing",
                Step::Offering { .. } => "offering",
                Step::Connecting { .. } => "connecting",
                Step::Connected => "connected",
            },
        }
    }
}

impl Receiver {
    /// Without a session.
    pub(crate) fn new(peer: PeerEntry, retry: Retry) -> Self {
        Self {
            peer,
            phase: Phase::Idle { retry },
            serial: 0,
            webrtc_stats: None,
            rejected: BTreeSet::new(),
            failures: 0,
        }
    }

    /// A session was started.
    pub(crate) fn started(&mut self, session: Session) {
        self.phase = Phase::Active { session, step: Step::Preparing { since: Instant::now() } };
    }

    /// The offer has just been sent.
    pub(crate) fn offered(&mut self) {
        if let Phase::Active { step: step @ Step::Preparing { .. }, .. } = &mut self.phase {
            *step = Step::Offering { since: Instant::now() };
        }
    }

    /// Accepts the answer to the offer that is out.
    pub(crate) fn answered(&mut self, sdp: &str) -> Result<Answered, String> {
        if let Phase::Active { session, step: step @ Step::Offering { .. } } = &mut self.phase {
            *step = Step::Connecting { since: Instant::now() };
            return session.accept_answer(sdp);
        }
        Ok(Answered::Accepted)
    }

    /// The connection is up; false if it was before.
    pub(crate) fn connected(&mut self) -> bool {
        match &mut self.phase {
            Phase::Active { session, step } if *step != Step::Connected => {
                *step = Step::Connected;
                session.connect_taps();
                self.failures = 0;
                true
            }
            _ => false,
        }
    }

    /// When to try again: 1 s, 2 s, 4 s, … 30 s. An old receiver has one peer connection in its life: once it got an
    /// offer there can't be another.
    pub(crate) fn retry_after_failure(&mut self) -> Retry {
        if self.peer.protocol == 0 && !self.phase.is_preparing() {
            return Retry::Never;
        }
        let wait = Duration::from_secs(1).saturating_mul(1 << self.failures.min(5)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        Retry::At(Instant::now() + wait)
    }
}
