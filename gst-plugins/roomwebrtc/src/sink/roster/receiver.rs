//! One receiver in the roster, and its states. A state contains only the data that is valid in it.

use super::{FIRST_RETRY, MAX_RETRY};
use crate::stream_key::StreamKey;
use room_signaling_client::{protocol::SessionId, wire::PeerEntry};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The maximum time for each of these: creation of the offer, arrival of the answer, establishment of the connection.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum time for an answer while other receivers wait for a slot.
const CROWDED_ANSWER: Duration = Duration::from_secs(5);
/// The maximum time for a connection while other receivers wait for a slot.
const CROWDED_CONNECTION: Duration = Duration::from_secs(10);
/// The maximum time between the offer becoming the local description and the first candidate.
const GATHERING: Duration = Duration::from_secs(2);

/// A receiver in the room.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) peer: PeerEntry,
    pub(crate) state: ReceiverState,
    /// The position in the queue: lower numbers are served first.
    pub(super) arrival: u64,
    /// The number of sessions that failed in a row.
    pub(super) failures: u32,
    /// Whether [`Input::Authorized`](super::Input::Authorized) is pending.
    pub(super) authorization_pending: bool,
    /// Whether signaling has reported the receiver since the last join.
    pub(super) confirmed: bool,
    /// The streams that the receiver rejected in an answer.
    pub(super) rejected: BTreeSet<StreamKey>,
    /// Whether the log already has an entry on its wait.
    pub(super) wait_noticed: bool,
}

/// The state of a receiver.
#[derive(Debug)]
pub(crate) enum ReceiverState {
    /// The application decides whether the receiver may have media.
    Authorizing,
    /// The receiver waits for a session.
    Waiting {
        /// The earliest start of the session, which may have to wait for a slot.
        not_before: Instant,
    },
    /// The receiver has a session.
    Active(Session),
    /// The receiver gets no session.
    Excluded(Exclusion),
}

/// Why a receiver gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// The application refused the receiver. Ends when its `meta` changes or it joins again, and the application allows it.
    Refused,
    /// The application kicked the receiver. Lasts as long as its process.
    Kicked,
    /// The receiver sent `bye`. Ends when it leaves the room.
    Bye,
    /// The receiver is an old one, which has only one peer connection, and got its offer. Ends when it leaves.
    AlreadyServed,
}

/// The session with a receiver.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) step: Step,
}

/// The progress of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The offer is being created.
    Preparing {
        since: Instant,
        /// The offer, once it is created.
        offer: Option<String>,
    },
    /// The offer is the local description, and is sent with the first candidate. While an address of this machine is
    /// tentative (IPv6 duplicate address detection, a second or two after an interface has come up), libnice 0.1.21 gathers
    /// nothing, and another session has to replace this one before the receiver knows it.
    Gathering { since: Instant, offer: String },
    /// The offer was sent.
    Offering { since: Instant },
    /// The answer arrived; ICE and DTLS connect.
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

    /// The session, if there is one.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            ReceiverState::Active(session) => Some(session),
            _ => None,
        }
    }

    /// The session, if it has this id.
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

    /// The earliest start of its next session. `None` if it does not wait for one.
    pub(super) fn waits_from(&self) -> Option<Instant> {
        match self.state {
            ReceiverState::Waiting { not_before } if self.confirmed && !self.authorization_pending => {
                Some(not_before)
            }
            _ => None,
        }
    }

    /// Counts a failure. Returns the delay before the next session: 1 s, 2 s, 4 s, … 30 s.
    pub(super) fn back_off(&mut self) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(5)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The state as statistics show it.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.state {
            ReceiverState::Active(session) => session.step.name(),
            _ => "idle",
        }
    }
}

impl Session {
    /// Whether the offer was sent.
    pub(super) fn is_offered(&self) -> bool {
        !matches!(self.step, Step::Preparing { .. } | Step::Gathering { .. })
    }

    /// When the session is overdue. `crowded`: other receivers wait for a slot.
    pub(super) fn deadline(&self, crowded: bool) -> Option<Instant> {
        Some(match self.step {
            Step::Preparing { since, .. } => since + STEP_TIMEOUT,
            Step::Gathering { since, .. } => since + GATHERING,
            Step::Offering { since } => since + if crowded { CROWDED_ANSWER } else { STEP_TIMEOUT },
            Step::Connecting { since } => since + if crowded { CROWDED_CONNECTION } else { STEP_TIMEOUT },
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
