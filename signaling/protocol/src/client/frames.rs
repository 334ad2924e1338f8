//! Reads and writes the text frames of a client. Unknown messages and values of later protocol versions are tolerated.

use super::ClientConfig;
use crate::{
    id::{ClientId, RoomId},
    wire::{Body, LeftReason, PROTOCOL, PeerEntry, Role, ServerMessage, Signal},
};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A message that the client knows.
pub(super) enum Incoming {
    /// From the server itself.
    Server(ServerMessage),
    /// From a peer.
    Signal(ClientId, Signal),
}

/// Reads a frame. `None`: the message is unknown or invalid. Later versions may have more types.
pub(super) fn read(frame: &str) -> Option<Incoming> {
    let Ok(Value::Object(mut message)) = serde_json::from_str(frame) else { return None };
    match message.get("type")?.as_str()? {
        "offer" | "answer" | "candidate" | "bye" => read_signal(message),
        _ => {
            read_leniently(&mut message);
            serde_json::from_value(Value::Object(message)).ok().map(Incoming::Server)
        }
    }
}

fn read_signal(mut message: Map<String, Value>) -> Option<Incoming> {
    // The target is this client. An empty `session_id` counts as absent (rule 3).
    message.remove("target_id");
    if message.get("session_id").is_some_and(|id| id == "") {
        message.remove("session_id");
    }
    let signal: Signal = serde_json::from_value(Value::Object(message)).ok()?;
    let from = signal.from.clone()?;
    (!is_empty_candidate(&signal)).then_some(Incoming::Signal(from, signal))
}

/// Replaces values that only a later version knows, so that the rest can be read: an unreadable entry of `peers` is removed,
/// and an unknown `reason` becomes `disconnected`.
fn read_leniently(message: &mut Map<String, Value>) {
    if let Some(reason) = message.get_mut("reason")
        && LeftReason::deserialize(&*reason).is_err()
    {
        *reason = Value::from("disconnected");
    }
    let Some(Value::Array(peers)) = message.get_mut("peers") else { return };
    let sent = peers.len();
    peers.retain(|peer| PeerEntry::deserialize(peer).is_ok());
    let unreadable = (sent - peers.len()) as u64;
    if let Some(total) = message.get("total").and_then(Value::as_u64) {
        message.insert("total".to_owned(), total.saturating_sub(unreadable).into());
    }
}

/// An empty candidate means the end of candidates. No client needs it, and aiortc raises an exception on it (rule 15).
pub(super) fn is_empty_candidate(signal: &Signal) -> bool {
    matches!(&signal.body, Body::Candidate { candidate } if candidate.candidate.trim().is_empty())
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request<'a> {
    Register {
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a ClientId>,
        protocol: u32,
        instance: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
    },
    Join {
        room_id: &'a RoomId,
        role: Role,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        meta: Option<&'a Value>,
    },
    Leave,
}

pub(super) fn register(config: &ClientConfig) -> ByteString {
    write(&Request::Register {
        client_id: config.client_id.as_ref(),
        protocol: PROTOCOL,
        instance: config.instance.expose(),
        token: config.token.as_deref(),
    })
}

/// A `join` without a token, because the server knows it from `register`.
pub(super) fn join(config: &ClientConfig) -> ByteString {
    join_with(config, None)
}

/// A `join` with a new token.
pub(super) fn join_with_token(config: &ClientConfig) -> ByteString {
    join_with(config, config.token.as_deref())
}

fn join_with(config: &ClientConfig, token: Option<&str>) -> ByteString {
    write(&Request::Join {
        room_id: &config.room,
        role: config.role,
        token,
        password: config.password.as_deref(),
        meta: config.meta.as_ref(),
    })
}

pub(super) fn leave() -> ByteString {
    write(&Request::Leave)
}

pub(super) fn signal(signal: &Signal) -> ByteString {
    write(signal)
}

fn write(message: &impl Serialize) -> ByteString {
    // This can't fail: all keys are strings, and no type has a serializer that fails.
    serde_json::to_string(message).unwrap_or_default().into()
}
