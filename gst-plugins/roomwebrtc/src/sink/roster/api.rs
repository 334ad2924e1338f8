//! The inputs and outputs of the roster.

use crate::stream_key::StreamKey;
use room_signaling_client::{
    GoneReason, Media,
    protocol::{ClientId, SessionId},
    wire::{IceCandidate, PeerEntry, Signal},
};
use std::fmt;

/// The user's limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// The only receiver that is served; `None` serves every receiver.
    pub(crate) target_id: Option<String>,
    /// The maximum number of sessions at the same time (0: no limit).
    pub(crate) max_receivers: usize,
    /// Only relay candidates may be used. Because gathering these is slow, an offer does not wait for the first candidate.
    pub(crate) relay_only: bool,
}

/// An input of the roster.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Whether the element is in the room.
    InRoom(bool),
    /// A member needs a media session, or a new one.
    PeerReady(PeerEntry),
    /// A member changed its `meta`.
    PeerChanged(PeerEntry),
    /// The session with a member must end.
    PeerGone(ClientId, GoneReason),
    /// The application's decision on [`Output::Authorize`].
    Authorized(ClientId, bool),
    /// A message of a member.
    Signal(Signal),
    /// The server reports that another sender serves this receiver, which is an old one.
    Busy(ClientId),
    /// A session update.
    Session(ClientId, SessionId, Update),
    /// The streams that can be offered, in the order of their m-lines.
    Streams(Vec<StreamKey>),
    /// Whether any stream has not ended.
    Flowing(bool),
    /// The user changed the limits.
    Limits(Limits),
    /// The application kicks a receiver.
    Kick(String),
    /// The element stops.
    Stop,
}

/// A change in one session.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// The session failed to start, for this reason.
    NotStarted(String),
    /// No UDP port of the configured range is free.
    NoPort,
    /// The offer was created, but is not the local description yet.
    Offer(String),
    /// The offer is the local description: candidates are being gathered.
    OfferSet,
    /// A local candidate.
    Candidate(IceCandidate),
    /// The receiver rejected these streams, including that of the first m-line, but not all. Because all streams share the
    /// transport of the first m-line, the session cannot connect.
    FirstStreamRejected(Vec<StreamKey>),
    /// The session is connected.
    Connected,
    /// The session failed.
    Failed(EndReason),
}

/// An action for the conductor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// Ask the application whether this receiver may have media. [`Input::Authorized`] follows.
    Authorize {
        /// The receiver.
        id: ClientId,
        /// Its `meta`, as JSON.
        meta: Option<String>,
    },
    /// Start a session with these streams, and request its offer.
    ConductorConfig {
        /// The receiver.
        id: ClientId,
        /// The new session.
        session: SessionId,
        /// The streams in the order of their m-lines. Never empty.
        streams: Vec<StreamKey>,
    },
    /// Set the answer as the remote description. An [`Update`] follows if it is unusable.
    AcceptAnswer {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// The answer.
        sdp: String,
    },
    /// Pass a candidate of the receiver to the session.
    AddCandidate {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// The candidate.
        candidate: IceCandidate,
    },
    /// Let the accepted streams flow, from the next IDR picture on.
    OpenGates {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
    },
    /// Tear a session down, and emit `receiver-removed`.
    End {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// Why it ends.
        reason: EndReason,
    },
    /// Send a message to a member.
    Send(Signal),
    /// Report the state of a session to signaling, which needs it to decide which sessions survive a reconnect.
    Report {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// Its state.
        media: Media,
    },
    /// Write a log entry.
    Notice(Notice),
}

/// Why a session ended. The text is the reason in the signal `receiver-removed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The receiver left the room.
    Left,
    /// A new process has the receiver's id.
    Replaced,
    /// The server no longer lists the receiver as a member of the room.
    Absent,
    /// The receiver reconnected to the server before the session was connected.
    Restart,
    /// The receiver said `bye`.
    Bye,
    /// The application refused the receiver.
    Refused,
    /// The application removed the receiver.
    Kicked,
    /// Another sender serves the receiver, which is an old one.
    Busy,
    /// Pads were added or removed.
    StreamsChanged,
    /// The receiver rejected the first m-line, whose transport all streams share.
    FirstStreamRejected,
    /// Every stream has ended.
    Ended,
    /// The element stopped.
    Closed,
    /// No offer was created in time.
    NoOffer,
    /// No candidate was gathered in time.
    NoAddress,
    /// No UDP port is free in the configured range.
    NoPort,
    /// No answer arrived in time.
    NoAnswer,
    /// ICE and DTLS did not complete in time.
    NoConnection,
    /// No RTCP arrived for too long.
    Timeout,
    /// The session failed for this reason.
    Failed(String),
}

impl From<GoneReason> for EndReason {
    fn from(reason: GoneReason) -> Self {
        match reason {
            GoneReason::Left => Self::Left,
            GoneReason::Replaced => Self::Replaced,
            GoneReason::Absent => Self::Absent,
            GoneReason::Restart => Self::Restart,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Replaced => "replaced",
            Self::Absent => "absent",
            Self::Restart => "restart",
            Self::Bye => "bye",
            Self::Refused => "refused",
            Self::Kicked => "kicked",
            Self::Busy => "busy",
            Self::StreamsChanged => "streams changed",
            Self::FirstStreamRejected => "first stream rejected",
            Self::Ended => "ended",
            Self::Closed => "closed",
            Self::NoOffer => "no offer",
            Self::NoAddress => "no address of this machine to be reached at",
            Self::NoPort => "no free port",
            Self::NoAnswer => "no answer",
            Self::NoConnection => "no connection",
            Self::Timeout => "timeout",
            Self::Failed(text) => text,
        })
    }
}

/// A log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The application refused this receiver.
    Refused(ClientId),
    /// This receiver gets no session because it was kicked, said `bye`, or is an old one that was served before.
    StaysExcluded(ClientId),
    /// The argument of `kick` is not the id of a receiver in the room.
    NoSuchReceiver(String),
    /// The session with this receiver failed.
    Failed(ClientId, EndReason),
    /// This receiver waits because `max-receivers`, with this value, is reached.
    NoSlot(ClientId, usize),
    /// This receiver waits because no UDP port is free.
    NoPort(ClientId),
    /// This receiver gets another session without the streams that it rejected.
    WithoutRejected(ClientId, Vec<StreamKey>),
    /// This message of the receiver was ignored.
    Ignored(ClientId, &'static str),
}

impl Notice {
    /// Whether the entry is a warning.
    pub(crate) fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::NoSuchReceiver(_) | Self::Failed(..) | Self::NoPort(_) | Self::WithoutRejected(..)
        )
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(id) => write!(f, "{id} was refused by authorize-receiver"),
            Self::StaysExcluded(id) => {
                write!(f, "{id} gets no session: it was kicked, said bye, or was served before")
            }
            Self::NoSuchReceiver(id) => write!(f, "kick: there is no receiver {id:?} in the room"),
            Self::Failed(id, reason) => write!(f, "{id}: {reason}"),
            Self::NoSlot(id, limit) => write!(f, "max-receivers={limit} is reached: {id} waits"),
            Self::NoPort(id) => write!(
                f,
                "no UDP port is free between min-rtp-port and max-rtp-port: {id} waits; set a wider range"
            ),
            Self::WithoutRejected(id, streams) => {
                let pads: Vec<String> = streams.iter().map(ToString::to_string).collect();
                write!(f, "{id} rejects {}: it gets another session without", pads.join(", "))
            }
            Self::Ignored(id, what) => write!(f, "{id}: {what} is ignored"),
        }
    }
}
