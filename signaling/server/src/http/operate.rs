//! What operators do over HTTP, always with the admin token: remove a member, close a room, deny users and tokens.
//!
//! | request | effect |
//! | --- | --- |
//! | `DELETE /api/rooms/ROOM/members/CLIENT` | removes the member |
//! | `DELETE /api/rooms/ROOM` | removes all members |
//! | `GET /api/denied` | lists denied users and tokens |
//! | `PUT`, `DELETE /api/denied/users/USER` | denies a user, or no longer |
//! | `PUT`, `DELETE /api/denied/tokens/ID` | denies a token by its id, or no longer |

use super::answer::{Answer, Body};
use crate::driver::shell::Shell;
use percent_encoding::percent_decode_str;
use room_protocol::{ClientId, RoomId, UserId};
use serde_json::{Value, json};
use tracing::warn;
use tungstenite::http::Method;

const PREFIX: &str = "/api/";

/// Whether a request is for this module. Its caller has to check the token.
pub(super) fn concerns(method: &Method, path: &str) -> bool {
    path == "/api/denied" || path.starts_with(PREFIX) && matches!(*method, Method::PUT | Method::DELETE)
}

/// Performs a request of somebody who has shown the token.
pub(super) fn perform(shell: &Shell, method: &Method, path: &str) -> Result<Answer, Answer> {
    let decoded: Result<Vec<String>, Answer> = path
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8().map(Into::into).map_err(|_| unreadable(part)))
        .collect();
    let parts = decoded?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method.as_str(), &parts[..]) {
        ("DELETE", ["rooms", room, "members", client]) => kick(shell, room, client),
        ("DELETE", ["rooms", room]) => close_room(shell, room),
        ("GET" | "HEAD", ["denied"]) => Ok(answer(&denied(shell))),
        ("PUT", ["denied", kind, name]) => deny(shell, kind, name),
        ("DELETE", ["denied", kind, name]) => allow(shell, kind, name),
        _ => Err(Answer::refusal(404, "There is no such resource.")),
    }
}

fn kick(shell: &Shell, room: &str, client: &str) -> Result<Answer, Answer> {
    let room_id = RoomId::new(room).map_err(|_| unreadable(room))?;
    let client_id = ClientId::new(client).map_err(|_| unreadable(client))?;
    if !shell.kick(&room_id, &client_id) {
        return Err(Answer::refusal(404, format!("Room {room:?} has no member {client:?}.")));
    }
    warn!(room, client, "an operator has removed a member");
    Ok(answer(&json!({"removed": 1})))
}

fn close_room(shell: &Shell, room: &str) -> Result<Answer, Answer> {
    let room_id = RoomId::new(room).map_err(|_| unreadable(room))?;
    let removed = shell.close_room(&room_id);
    if removed == 0 {
        return Err(Answer::refusal(404, format!("There is no room {room:?}.")));
    }
    warn!(room, removed, "an operator has closed a room");
    Ok(answer(&json!({"removed": removed})))
}

fn denied(shell: &Shell) -> Value {
    let denied = shell.denied();
    let users: Vec<&str> = denied.users.iter().map(UserId::as_str).collect();
    json!({"users": users, "tokens": denied.tokens})
}

fn deny(shell: &Shell, kind: &str, name: &str) -> Result<Answer, Answer> {
    match kind {
        "users" => {
            let user = UserId::new(name).map_err(|_| unreadable(name))?;
            shell.change_denied(|denied| denied.users.insert(user));
        }
        "tokens" if !name.is_empty() => {
            shell.change_denied(|denied| denied.tokens.insert(name.to_owned()));
        }
        _ => return Err(Answer::refusal(404, "There is no such resource.")),
    }
    warn!(kind, name, "an operator has denied a user or a token until the server restarts");
    Ok(answer(&denied(shell)))
}

fn allow(shell: &Shell, kind: &str, name: &str) -> Result<Answer, Answer> {
    let configured = &shell.config().hub.denied;
    let (is_configured, was_denied) = match kind {
        "users" => {
            let user = UserId::new(name).map_err(|_| unreadable(name))?;
            (configured.users.contains(&user), shell.change_denied(|denied| denied.users.remove(&user)))
        }
        "tokens" => {
            (configured.tokens.contains(name), shell.change_denied(|denied| denied.tokens.remove(name)))
        }
        _ => return Err(Answer::refusal(404, "There is no such resource.")),
    };
    if is_configured {
        let words =
            format!("The configuration denies {name:?}: remove it from auth.denied_{kind} and reload.");
        return Err(Answer::refusal(409, words));
    }
    if !was_denied {
        return Err(Answer::refusal(404, format!("{name:?} is not denied.")));
    }
    warn!(kind, name, "an operator no longer denies a user or a token");
    Ok(answer(&denied(shell)))
}

fn answer(body: &Value) -> Answer {
    Answer::current("application/json", Body::Bytes(format!("{body}\n").into_bytes().into()))
}

fn unreadable(part: &str) -> Answer {
    Answer::refusal(400, format!("{part:?} can't be a name."))
}
