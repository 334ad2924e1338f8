//! What is written on the wire. Shapes only: what may be said when is the business of [`crate::hub`] and
//! [`crate::client`], whose internal inputs are other types than these.

use crate::id::{ClientId, Epoch, RoomId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this crate speaks. A client that names none is old: version 0.
pub const PROTOCOL: u32 = 1;
/// The port that everyone uses.
pub const DEFAULT_PORT: u16 = 8765;
/// The room of those who name none.
pub const DEFAULT_ROOM: &str = "room_default";

/// What a member of a room does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Offers media.
    Sender,
    /// Answers offers.
    #[default]
    Receiver,
}

impl Role {
    /// The role that messages without a target go to.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        }
    }
}

/// One ICE candidate as RTCIceCandidateInit has it (W3C WebRTC 1.0, section 4.8.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// The `candidate:` line.
    pub candidate: String,
    /// The media identification of its m-line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    /// The index of its m-line.
    #[serde(default, rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    pub sdp_m_line_index: Option<u32>,
}

/// One entry of what RTCPeerConnection takes as `iceServers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its id.
    pub client_id: ClientId,
    /// What it does in the room.
    pub role: Role,
    /// The protocol version that it speaks; 0 is old.
    #[serde(default)]
    pub protocol: u32,
    /// Which process it is, where it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// What it said of itself in `join`: any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

/// Why a member is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeftReason {
    /// It said so.
    Left,
    /// Its connection ended.
    Disconnected,
    /// Its connection went silent.
    Timeout,
    /// It lost the right to be there.
    Kicked,
}

/// The stable words of `error` messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of error codes in protocol.md says what each means")]
pub enum ErrorCode {
    NotRegistered,
    AlreadyRegistered,
    BadMessage,
    ForbiddenType,
    UnknownRole,
    InvalidId,
    NotJoined,
    TargetNotFound,
    TargetBusy,
    ClientIdTaken,
    Unauthorized,
    Forbidden,
    RoomFull,
    TooManyRooms,
    TooManyAttempts,
    SlowConsumer,
    ServerDraining,
    /// A word of a later version.
    #[serde(other)]
    Unknown,
}

/// WebSocket close codes of ours (RFC 6455 section 7.4.2 leaves 4000 to 4999 to applications).
pub mod close {
    /// Something came before `register`.
    pub const NOT_REGISTERED: u16 = 4000;
    /// The same process registered again elsewhere.
    pub const REPLACED: u16 = 4001;
    /// The id is in use by somebody else.
    pub const CLIENT_ID_TAKEN: u16 = 4002;
    /// Ten bad messages in a row.
    pub const BAD_MESSAGES: u16 = 4003;
    /// The outbound queue overflowed.
    pub const SLOW_CONSUMER: u16 = 4008;
    /// No token, a bad one or an expired one.
    pub const UNAUTHORIZED: u16 = 4010;
    /// Nothing was heard of it for too long (RFC 6455 registry: an unexpected condition).
    pub const SILENT: u16 = 1011;
    /// A frame over the limit (RFC 6455).
    pub const TOO_BIG: u16 = 1009;
    /// The server is going away and wants its clients back later (RFC 6455 registry).
    pub const SERVICE_RESTART: u16 = 1012;
}

/// What the server says of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "protocol.md, section From the server, says what each field means")]
pub enum ServerMessage {
    Registered {
        client_id: ClientId,
        #[serde(default)]
        protocol: u32,
        #[serde(default)]
        server: String,
        #[serde(default)]
        heartbeat_s: u64,
    },
    Joined {
        room_id: RoomId,
        role: Role,
        #[serde(default)]
        peers: Vec<PeerEntry>,
        #[serde(default)]
        total: usize,
        #[serde(default)]
        ice_servers: Vec<IceServer>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ice_ttl_s: Option<u64>,
    },
    Left,
    PeerJoined(PeerEntry),
    PeerLeft {
        client_id: ClientId,
        reason: LeftReason,
    },
    Peers {
        peers: Vec<PeerEntry>,
        total: usize,
    },
    Draining {
        retry_after_ms: u64,
    },
    Error {
        code: ErrorCode,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_id: Option<String>,
    },
}

/// What one peer says to another about one media session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "protocol.md, section From a client, says what each field means")]
pub enum Body {
    Offer { sdp: String },
    Answer { sdp: String },
    Candidate { candidate: IceCandidate },
    Bye,
}

/// A [`Body`] with its address. The server writes `from`, the sender of the message `target_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// What is said.
    #[serde(flatten)]
    pub body: Body,
    /// To whom; absent means all of the opposite role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<ClientId>,
    /// Of which session; absent means the current one with that peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// By whom, as the server vouches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ClientId>,
}
