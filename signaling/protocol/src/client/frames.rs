//! Between text frames and what they mean to a client.

use super::ClientConfig;
use crate::{
    id::{ClientId, RoomId},
    wire::{Body, LeftReason, PROTOCOL, PeerEntry, Role, ServerMessage, Signal},
};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a frame of the server's says.
pub(super) enum Incoming {
    /// Something of the server's own.
    Server(ServerMessage),
    /// Something of a peer's, with `from`.
    Signal(ClientId, Signal),
}

/// Reads a frame. `None`: nothing that this client knows; a later version may have more words.
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
    // It came here, so whom it names is of no interest; and "" means absent (rule 3).
    message.remove("target_id");
    if message.get("session_id").is_some_and(|id| id == "") {
        message.remove("session_id");
    }
    let signal: Signal = serde_json::from_value(Value::Object(message)).ok()?;
    let from = signal.from.clone()?;
    (!is_empty_candidate(&signal)).then_some(Incoming::Signal(from, signal))
}

/// Words of a later version must not hide what this one can read: one entry of `peers` all the others, an unknown
/// reason that somebody left.
fn read_leniently(message: &mut Map<String, Value>) {
    if let Some(reason) = message.get_mut("reason")
        && LeftReason::deserialize(&*reason).is_err()
    {
        *reason = Value::from("disconnected");
    }
    let Some(Value::Array(peers)) = message.get_mut("peers") else { return };
    let told = peers.len();
    peers.retain(|peer| PeerEntry::deserialize(peer).is_ok());
    let unreadable = (told - peers.len()) as u64;
    if let Some(total) = message.get("total").and_then(Value::as_u64) {
        message.insert("total".to_owned(), total.saturating_sub(unreadable).into());
    }
}

/// End-of-candidates as some write it. Nobody needs it, and aiortc raises on it (rule 15).
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

/// The token is known from `register`.
pub(super) fn join(config: &ClientConfig) -> ByteString {
    join_with(config, None)
}

/// With the token, which is another one than that of `register`.
pub(super) fn join_anew(config: &ClientConfig) -> ByteString {
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
    // Can't fail: these types have text keys only and no serializer of their own that could.
    serde_json::to_string(message).unwrap_or_default().into()
}
