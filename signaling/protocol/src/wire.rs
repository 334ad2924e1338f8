//! The shapes of messages on the wire, and the strings and numbers in them: roles, reasons, error codes, close codes.
//!
//! The rules of their exchange are in [`crate::hub`] and [`crate::client`]. A new error code is added here; see
//! `hub/refusal.rs` for the other places.

use crate::id::{ClientId, Epoch, RoomId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this crate implements. A client that names no version is old: version 0.
pub const PROTOCOL: u32 = 1;
/// The default port of the server.
pub const DEFAULT_PORT: u16 = 8765;
/// The room of old clients that name none.
pub const DEFAULT_ROOM: &str = "room_default";

/// Defines an enum whose variants are strings on the wire, each written once.
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$attribute:meta])* $variant:ident = $name_on_wire:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$attribute])* #[serde(rename = $name_on_wire)] $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The string on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name_on_wire,)* }
            }
        }
    };
}

string_enum! {
    /// The role of a member in its room.
    #[derive(Default)]
    Role {
        /// Offers media.
        Sender = "sender",
        /// Answers offers.
        #[default]
        Receiver = "receiver",
    }
}

impl Role {
    /// Parses the string on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }

    /// The role that receives messages without a target.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        }
    }
}

/// One ICE candidate in the form of RTCIceCandidateInit (W3C WebRTC 1.0, section 4.8.2).
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

/// One entry of the `iceServers` of an RTCPeerConnection.
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
    /// Its role in the room.
    pub role: Role,
    /// The protocol version that it speaks; 0 is old.
    #[serde(default)]
    pub protocol: u32,
    /// The digest that identifies its process, if it sent an `instance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The `meta` of its `join`: any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

string_enum! {
    /// Why a member is no longer in its room.
    LeftReason {
        /// The member left by request.
        Left = "left",
        /// The connection ended.
        Disconnected = "disconnected",
        /// The connection went silent.
        Timeout = "timeout",
        /// The member lost the right to be there.
        Kicked = "kicked",
    }
}

string_enum! {
    /// The stable codes of `error` messages.
    #[expect(missing_docs, reason = "the table of error codes in protocol.md defines each of them")]
    ErrorCode {
        NotRegistered = "not_registered",
        AlreadyRegistered = "already_registered",
        BadMessage = "bad_message",
        ForbiddenType = "forbidden_type",
        UnknownRole = "unknown_role",
        InvalidId = "invalid_id",
        NotJoined = "not_joined",
        TargetNotFound = "target_not_found",
        TargetBusy = "target_busy",
        ClientIdTaken = "client_id_taken",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        RoomFull = "room_full",
        TooManyRooms = "too_many_rooms",
        TooManyAttempts = "too_many_attempts",
        SlowConsumer = "slow_consumer",
        ServerDraining = "server_draining",
        /// A code of a later version.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// The WebSocket close codes of this protocol (RFC 6455, section 7.4.2, leaves 4000 to 4999 to applications).
pub mod close {
    /// A message arrived before `register`.
    pub const NOT_REGISTERED: u16 = 4000;
    /// The same process registered again elsewhere.
    pub const REPLACED: u16 = 4001;
    /// Another client uses the id.
    pub const CLIENT_ID_TAKEN: u16 = 4002;
    /// Ten bad messages in a row.
    pub const BAD_MESSAGES: u16 = 4003;
    /// The outbound queue overflowed.
    pub const SLOW_CONSUMER: u16 = 4008;
    /// The token is missing, invalid or expired.
    pub const UNAUTHORIZED: u16 = 4010;
    /// The connection was silent for too long (RFC 6455 registry: an unexpected condition).
    pub const SILENT: u16 = 1011;
    /// A message was longer than the limit (RFC 6455).
    pub const TOO_BIG: u16 = 1009;
    /// The server restarts; clients should reconnect later (RFC 6455 registry).
    pub const SERVICE_RESTART: u16 = 1012;
}

/// A message of the server itself, as clients read it. The Hub writes the same shapes from borrowed fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "protocol.md, section From the server, defines each field")]
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

/// A message from one peer to another about a media session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "protocol.md, section From a client, defines each field")]
pub enum Body {
    Offer { sdp: String },
    Answer { sdp: String },
    Candidate { candidate: IceCandidate },
    Bye,
}

/// A [`Body`] with its addresses. The author writes `target_id`; the server writes `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The message itself.
    #[serde(flatten)]
    pub body: Body,
    /// The recipient. Absent: all members of the opposite role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<ClientId>,
    /// The session. Absent: the current one with that peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The author, as the server established it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ClientId>,
}
