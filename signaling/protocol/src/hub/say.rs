//! What the Hub says, borrowed from where it is kept: each message is written once, however many get it. The shapes
//! are those of [`crate::wire::ServerMessage`], `meta` being passed on as the text that it came as.

use crate::{
    id::{ClientId, Epoch, RoomId},
    wire::{ErrorCode, IceServer, LeftReason, Role},
};
use bytestring::ByteString;
use serde::Serialize;
use serde_json::value::RawValue;

/// A message of the server's own.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say<'a> {
    Registered {
        client_id: &'a ClientId,
        protocol: u32,
        server: &'a str,
        heartbeat_s: u64,
    },
    Joined {
        room_id: &'a RoomId,
        role: Role,
        #[serde(flatten)]
        peers: Peers<'a>,
        ice_servers: Vec<&'a IceServer>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ice_ttl_s: Option<u64>,
    },
    Left,
    PeerJoined(Entry<'a>),
    PeerLeft {
        client_id: &'a ClientId,
        reason: LeftReason,
    },
    Peers(Peers<'a>),
    Draining {
        retry_after_ms: u64,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_id: Option<&'a str>,
    },
}

impl Say<'_> {
    /// The message as it goes onto the wire.
    pub(super) fn text(&self) -> ByteString {
        serde_json::to_string(self).expect("text, numbers and checked JSON can always be written").into()
    }
}

/// Those whom a member sees.
#[derive(Debug, Default, Serialize)]
pub(super) struct Peers<'a> {
    pub(super) peers: Vec<Entry<'a>>,
    /// How many there are, listed or not.
    pub(super) total: usize,
}

/// A member as others see it: [`crate::wire::PeerEntry`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Entry<'a> {
    pub(super) client_id: &'a ClientId,
    pub(super) role: Role,
    pub(super) protocol: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<&'a Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<&'a RawValue>,
}
