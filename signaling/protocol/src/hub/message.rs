//! The messages that the Hub writes. Their fields are borrowed from where the Hub keeps them, and `meta` is passed on as
//! the text that the client sent, so that a list of 1,000 peers copies nothing. Each message is written once, however
//! many clients receive it.
//!
//! The shapes are those of [`ServerMessage`](crate::wire::ServerMessage), which clients read. The tests of the Hub parse
//! every message that it sends as a `ServerMessage`.

use crate::{
    id::{ClientId, Epoch, RoomId},
    wire::{ErrorCode, IceServer, LeftReason, Role},
};
use bytestring::ByteString;
use serde::Serialize;
use serde_json::value::RawValue;

/// A message of the server itself.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Message<'a> {
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
        peers: PeerList<'a>,
        ice_servers: Vec<&'a IceServer>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ice_ttl_s: Option<u64>,
    },
    Left,
    PeerJoined(ListedPeer<'a>),
    PeerLeft {
        client_id: &'a ClientId,
        reason: LeftReason,
    },
    Peers(PeerList<'a>),
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

impl Message<'_> {
    /// The JSON text.
    pub(super) fn text(&self) -> ByteString {
        serde_json::to_string(self).expect("text, numbers and checked JSON can always be written").into()
    }
}

/// The members that another member sees.
#[derive(Debug, Default, Serialize)]
pub(super) struct PeerList<'a> {
    pub(super) peers: Vec<ListedPeer<'a>>,
    /// How many there are, listed or not.
    pub(super) total: usize,
}

/// A member as others see it: [`PeerEntry`](crate::wire::PeerEntry), borrowed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ListedPeer<'a> {
    pub(super) client_id: &'a ClientId,
    pub(super) role: Role,
    pub(super) protocol: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<&'a Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<&'a RawValue>,
}
