//! What the roster knows of one receiver. Each state has only the data that is valid in it.

use super::{FIRST_RETRY, MAX_RETRY};
use crate::stream_key::StreamKey;
use room_signaling_client::{protocol::SessionId, wire::PeerEntry};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long an offer may take to be made, its answer to arrive, and the connection to come up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take while other receivers wait for this one's place.
const CROWDED_ANSWER: Duration = Duration::from_secs(5);
/// How long a connection may take while other receivers wait for this one's place.
const CROWDED_CONNECTION: Duration = Duration::from_secs(10);
/// How long the first candidate may take, counted from when the offer is in force.
const GATHERING: Duration = Duration::from_secs(2);

/// A member of the room that receives.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) peer: PeerEntry,
    pub(crate) state: ReceiverState,
    /// Its place in the queue: lower ones are served first.
    pub(super) arrival: u64,
    /// How many sessions failed in a row.
    pub(super) failures: u32,
    /// The application was asked, and has not answered yet.
    pub(super) authorization_pending: bool,
    /// The server listed it since the last join.
    pub(super) confirmed: bool,
    /// The streams that it rejected in an answer.
    pub(super) rejected: BTreeSet<StreamKey>,
    /// The log says already that it waits.
    pub(super) wait_noticed: bool,
}

/// Where a receiver stands.
#[derive(Debug)]
pub(crate) enum ReceiverState {
    /// The application decides whether it may have media.
    Authorizing,
    /// It gets a session at this time, or as soon as there is a place for it afterwards.
    Waiting {
        /// The earliest time.
        not_before: Instant,
    },
    /// It has a session.
    Active(Session),
    /// It gets no session.
    Excluded(Exclusion),
}

/// Why a receiver gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// The application refused it. Lasts until its `meta` changes or it joins again, and the application allows it.
    Refused,
    /// The application removed it. Lasts as long as its process.
    Kicked,
    /// It said `bye`. Lasts until it leaves the room.
    Bye,
    /// It is an old receiver, which has one peer connection in its life, and got its offer. Lasts until it leaves.
    AlreadyServed,
}

/// The session of a receiver.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) step: Step,
}

/// How far a session has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The offer is being made; the receiver knows nothing yet.
    Preparing {
        since: Instant,
        /// The offer, once it is made.
        offer: Option<String>,
    },
    /// The offer is in force. It goes out with the first candidate, because libnice 0.1.21 gathers nothing while an
    /// address of this machine is tentative (IPv6 duplicate address detection, a second or two after an interface has
    /// come up), and such a session has to be made anew before the receiver hears of it.
    Gathering { since: Instant, offer: String },
    /// The offer waits for its answer.
    Offering { since: Instant },
    /// AnswerOutcome; ICE and DTLS are at work.
    Connecting { since: Instant },
    /// Media flows.
    Connected { since: Instant },
}

impl Receiver {
    pub(super) fn new(peer: PeerEntry, arrival: u64, state: ReceiverState) -> Self {
        Self {
            peer,
            state,
            arrival,
            failures: 0,
            authorization_pending: false,
            confirmed: true,
            rejected: BTreeSet::new(),
            wait_noticed: false,
        }
    }

    /// The session if there is one.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            ReceiverState::Active(session) => Some(session),
            _ => None,
        }
    }

    /// The session if it is this one.
    pub(super) fn session_named(&mut self, id: &SessionId) -> Option<&mut Session> {
        match &mut self.state {
            ReceiverState::Active(session) if session.id == *id => Some(session),
            _ => None,
        }
    }

    /// Whether media flows.
    pub(crate) fn is_connected(&self) -> bool {
        self.session().is_some_and(|session| matches!(session.step, Step::Connected { .. }))
    }

    /// The time from which it waits for a session.
    pub(super) fn waits_from(&self) -> Option<Instant> {
        match self.state {
            ReceiverState::Waiting { not_before } if self.confirmed && !self.authorization_pending => {
                Some(not_before)
            }
            _ => None,
        }
    }

    /// The wait after a failure: 1 s, 2 s, 4 s, … 30 s.
    pub(super) fn back_off(&mut self) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(5)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The state in statistics.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.state {
            ReceiverState::Active(session) => session.step.name(),
            _ => "idle",
        }
    }
}

impl Session {
    /// Whether the receiver has heard of it.
    pub(super) fn is_offered(&self) -> bool {
        !matches!(self.step, Step::Preparing { .. } | Step::Gathering { .. })
    }

    /// When it has taken too long. `crowded`: others wait for its place.
    pub(super) fn deadline(&self, crowded: bool) -> Option<Instant> {
        Some(match self.step {
            Step::Preparing { since, .. } => since + PATIENCE,
            Step::Gathering { since, .. } => since + GATHERING,
            Step::Offering { since } => since + if crowded { CROWDED_ANSWER } else { PATIENCE },
            Step::Connecting { since } => since + if crowded { CROWDED_CONNECTION } else { PATIENCE },
            Step::Connected { .. } => return None,
        })
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Preparing { .. } | Step::Gathering { .. } => "preparing",
            Step::Offering { .. } => "offering",
            Step::Connecting { .. } => "connecting",
            Step::Connected { .. } => "connected",
        }
    }
}
