//! What the roster is told and what it wants done.

use crate::stream_key::StreamKey;
use room_signaling_client::{
    GoneReason, Media,
    protocol::{ClientId, SessionId},
    wire::{IceCandidate, PeerEntry, Signal},
};
use std::fmt;

/// The user's limits on who is served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// The only member that is served; `None` serves every receiver.
    pub(crate) target_id: Option<String>,
    /// The most sessions at a time; 0 is no limit.
    pub(crate) max_receivers: usize,
    /// Only addresses of TURN servers may be used. They take their time, so an offer does not wait for the first one.
    pub(crate) relay_only: bool,
}

/// What happens to the roster.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Signaling joined the room, or lost it.
    InRoom(bool),
    /// A member wants a (new) media session.
    PeerReady(PeerEntry),
    /// A member changed what it says of itself.
    PeerChanged(PeerEntry),
    /// The session with a member has to end.
    PeerGone(ClientId, GoneReason),
    /// The application's decision that [`Output::Authorize`] asked for.
    Authorized(ClientId, bool),
    /// A message of a member.
    Signal(Signal),
    /// The server reports that this receiver is an old one and has another sender.
    Busy(ClientId),
    /// News of a session.
    Session(ClientId, SessionId, Update),
    /// The streams that can be offered, in the order of their m-lines.
    Streams(Vec<StreamKey>),
    /// Whether any of the streams has not ended yet.
    Flowing(bool),
    /// The user changed a limit.
    Limits(Limits),
    /// The application removes a receiver.
    Kick(String),
    /// The element stops.
    Stop,
}

/// News of one session.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// The session could not be started, for this reason.
    NotStarted(String),
    /// No UDP port of the configured range is free.
    NoPort,
    /// The offer was made, and will be in force soon.
    Offer(String),
    /// The offer is in force: candidates are being gathered.
    OfferSet,
    /// A candidate of this machine.
    Candidate(IceCandidate),
    /// The receiver rejected these streams, the first m-line among them, but not all. That line carries the transport of
    /// all streams, so the session cannot connect.
    FirstStreamRejected(Vec<StreamKey>),
    /// Media can flow.
    Connected,
    /// The session cannot go on.
    Failed(EndReason),
}

/// What the roster wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// Ask the application whether this receiver may have media; the answer is [`Input::Authorized`].
    Authorize {
        /// The receiver.
        id: ClientId,
        /// What it says of itself, as JSON.
        meta: Option<String>,
    },
    /// Start a session that offers these streams, and ask it for an offer.
    ConductorConfig {
        /// The receiver.
        id: ClientId,
        /// The new session.
        session: SessionId,
        /// The streams in the order of their m-lines. Never empty.
        streams: Vec<StreamKey>,
    },
    /// Put an answer in force. What is wrong with it is an [`Update`].
    AcceptAnswer {
        /// The receiver.
        id: ClientId,
        /// The session that it answers.
        session: SessionId,
        /// The answer.
        sdp: String,
    },
    /// Give the session a candidate of its peer.
    AddCandidate {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// The candidate.
        candidate: IceCandidate,
    },
    /// Let the streams that the receiver accepted flow, from the next IDR picture on.
    OpenGates {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
    },
    /// Tear a session down, and announce that its receiver was removed.
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
    /// Report the state of a session to signaling, which decides by it what a reconnect keeps.
    Report {
        /// The receiver.
        id: ClientId,
        /// The session.
        session: SessionId,
        /// Its state.
        media: Media,
    },
    /// Log this.
    Notice(Notice),
}

/// Why a session ended. The text is what the signal `receiver-removed` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The receiver left the room.
    Left,
    /// A new process has the receiver's id.
    Replaced,
    /// The receiver is not in the room any more, as far as the server knows.
    Absent,
    /// The receiver has a new connection to the server, and its session was not connected yet.
    Restart,
    /// The receiver said `bye`.
    Bye,
    /// The application refused the receiver.
    Refused,
    /// The application removed the receiver.
    Kicked,
    /// The receiver is an old one and has another sender.
    Busy,
    /// Pads were added or removed.
    StreamsChanged,
    /// The receiver rejected the m-line that carries the transport, but not all of them.
    FirstStreamRejected,
    /// Every stream has ended.
    Ended,
    /// The element stopped.
    Closed,
    /// No offer was made.
    NoOffer,
    /// No candidate was gathered.
    NoAddress,
    /// No UDP port is free in the configured range.
    NoPort,
    /// The offer was not answered in time.
    NoAnswer,
    /// ICE and DTLS took too long.
    NoConnection,
    /// Nothing was heard of the receiver for too long.
    Timeout,
    /// The session failed, in its own words.
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

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The application refused this receiver.
    Refused(ClientId),
    /// This receiver was kicked, said goodbye or is an old one that was served, so it gets no session.
    StaysExcluded(ClientId),
    /// `kick` named a receiver that is not there.
    NoSuchReceiver(String),
    /// The session failed.
    Failed(ClientId, EndReason),
    /// This receiver waits because `max-receivers`, which has this value, is reached.
    NoSlot(ClientId, usize),
    /// This receiver waits because no UDP port is free.
    NoPort(ClientId),
    /// This receiver gets another session, without the streams that it rejected.
    WithoutRejected(ClientId, Vec<StreamKey>),
    /// A message of this receiver was ignored.
    Ignored(ClientId, &'static str),
}

impl Notice {
    /// Whether a user should see it without asking for more.
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
            Self::NoSuchReceiver(id) => write!(f, "kick: there is no receiver {id:?}"),
            Self::Failed(id, reason) => write!(f, "{id}: {reason}"),
            Self::NoSlot(id, limit) => write!(f, "max-receivers={limit} is reached: {id} waits for a place"),
            Self::NoPort(id) => write!(
                f,
                "no UDP port is free between min-rtp-port and max-rtp-port: {id} waits for one; widen the range"
            ),
            Self::WithoutRejected(id, streams) => {
                let pads: Vec<String> = streams.iter().map(ToString::to_string).collect();
                write!(f, "{id} rejects {}: it gets a session without", pads.join(", "))
            }
            Self::Ignored(id, what) => write!(f, "{id}: {what} is ignored"),
        }
    }
}
