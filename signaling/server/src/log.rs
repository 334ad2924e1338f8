//! The lines that the server logs. Everything that a client chose is escaped; tokens, passwords and `instance` come
//! near no line, and what peers say to each other is only shown at `trace`.

use room_protocol::hub::{ConnId, Event};
use std::net::SocketAddr;
use tracing::{Level, debug, enabled, info, trace};

pub(crate) fn connected(ConnId(connection): ConnId, remote: SocketAddr) {
    info!(connection, %remote, "connected");
}

pub(crate) fn disconnected(ConnId(connection): ConnId, remote: SocketAddr) {
    info!(connection, %remote, "disconnected");
}

pub(crate) fn closing(ConnId(connection): ConnId, remote: SocketAddr, code: u16, reason: &str) {
    info!(connection, %remote, code, reason, "closing");
}

pub(crate) fn event(ConnId(connection): ConnId, remote: SocketAddr, event: &Event) {
    match event {
        Event::Registered { client_id, protocol } => {
            info!(connection, %remote, client = client_id.as_str(), protocol, "registered");
        }
        Event::Joined { client_id, room_id, role } => {
            let (client, room) = (client_id.as_str(), room_id.as_str());
            info!(connection, %remote, client, room, role = word(role), "joined");
        }
        Event::Left { client_id, room_id, reason } => {
            let (client, room) = (client_id.as_str(), room_id.as_str());
            info!(connection, %remote, client, room, reason = word(reason), "left");
        }
        Event::Refused { code } => info!(connection, %remote, code = word(code), "refused"),
    }
}

/// The word that stands for it on the wire.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// A request over HTTP was refused.
pub(crate) fn turned_away(remote: SocketAddr, status: u16, why: &str) {
    info!(%remote, status, why, "turned away");
}

/// A request over HTTP was answered.
pub(crate) fn answered(remote: SocketAddr, status: u16, path: &str) {
    debug!(%remote, status, path, "answered");
}

/// A message goes out. Only descriptions and candidates are shown, and only at `trace`: other messages may carry
/// credentials.
pub(crate) fn sending(ConnId(connection): ConnId, text: &str) {
    if enabled!(Level::TRACE) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        trace!(connection, kind = %message["type"], from = %message["from"], sdp = %message["sdp"],
            candidate = %message["candidate"], "sending");
    }
}
