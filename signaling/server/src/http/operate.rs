//! The requests by which operators change something, always with the admin token: they remove a member, close a room, and
//! deny users and tokens.
//!
//! | request | effect |
//! | --- | --- |
//! | `DELETE /api/rooms/ROOM/members/CLIENT` | removes the member |
//! | `DELETE /api/rooms/ROOM` | removes all members |
//! | `GET /api/denied` | lists denied users and tokens |
//! | `PUT`, `DELETE /api/denied/users/USER` | denies a user, or ends that |
//! | `PUT`, `DELETE /api/denied/tokens/ID` | denies a token by its id (`jti`), or ends that |

use super::response::{Body, Response};
use crate::{context::ServerContext, driver::Driver};
use percent_encoding::percent_decode_str;
use room_protocol::{ClientId, RoomId, UserId};
use serde_json::{Value, json};
use tracing::warn;
use tungstenite::http::Method;

const PREFIX: &str = "/api/";

/// Whether this module handles a request. The caller has to check the token.
pub(super) fn handles(method: &Method, path: &str) -> bool {
    path == "/api/denied" || path.starts_with(PREFIX) && matches!(*method, Method::PUT | Method::DELETE)
}

/// Performs a request that has shown the token.
pub(super) fn perform(
    driver: &Driver,
    context: &ServerContext,
    method: &Method,
    path: &str,
) -> Result<Response, Response> {
    let decoded: Result<Vec<String>, Response> = path
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8().map(Into::into).map_err(|_| invalid(part)))
        .collect();
    let parts = decoded?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method.as_str(), &parts[..]) {
        ("DELETE", ["rooms", room, "members", client]) => kick(driver, room, client),
        ("DELETE", ["rooms", room]) => close_room(driver, room),
        ("GET" | "HEAD", ["denied"]) => Ok(json_response(&denied(driver))),
        ("PUT", ["denied", kind, name]) => deny(driver, kind, name),
        ("DELETE", ["denied", kind, name]) => allow(driver, context, kind, name),
        _ => Err(Response::refusal(404, "There is no such resource.")),
    }
}

fn kick(driver: &Driver, room: &str, client: &str) -> Result<Response, Response> {
    let room_id = RoomId::new(room).map_err(|_| invalid(room))?;
    let client_id = ClientId::new(client).map_err(|_| invalid(client))?;
    if !driver.kick(&room_id, &client_id) {
        return Err(Response::refusal(404, format!("Room {room:?} has no member {client:?}.")));
    }
    warn!(room, client, "an operator removed a member");
    Ok(json_response(&json!({"removed": 1})))
}

fn close_room(driver: &Driver, room: &str) -> Result<Response, Response> {
    let room_id = RoomId::new(room).map_err(|_| invalid(room))?;
    let removed = driver.close_room(&room_id);
    if removed == 0 {
        return Err(Response::refusal(404, format!("There is no room {room:?}.")));
    }
    warn!(room, removed, "an operator closed a room");
    Ok(json_response(&json!({"removed": removed})))
}

fn denied(driver: &Driver) -> Value {
    let denied = driver.denied();
    let users: Vec<&str> = denied.users.iter().map(UserId::as_str).collect();
    json!({"users": users, "tokens": denied.tokens})
}

fn deny(driver: &Driver, kind: &str, name: &str) -> Result<Response, Response> {
    match kind {
        "users" => {
            let user = UserId::new(name).map_err(|_| invalid(name))?;
            driver.change_denied(|denied| denied.users.insert(user));
        }
        "tokens" if !name.is_empty() => {
            driver.change_denied(|denied| denied.tokens.insert(name.to_owned()));
        }
        _ => return Err(Response::refusal(404, "There is no such resource.")),
    }
    warn!(kind, name, "an operator denied a user or a token until the server restarts");
    Ok(json_response(&denied(driver)))
}

fn allow(driver: &Driver, context: &ServerContext, kind: &str, name: &str) -> Result<Response, Response> {
    let configured = &context.config().hub.denied;
    let (is_configured, was_denied) = match kind {
        "users" => {
            let user = UserId::new(name).map_err(|_| invalid(name))?;
            (configured.users.contains(&user), driver.change_denied(|denied| denied.users.remove(&user)))
        }
        "tokens" => {
            (configured.tokens.contains(name), driver.change_denied(|denied| denied.tokens.remove(name)))
        }
        _ => return Err(Response::refusal(404, "There is no such resource.")),
    };
    if is_configured {
        let text =
            format!("The configuration denies {name:?}: remove it from auth.denied_{kind} and reload.");
        return Err(Response::refusal(409, text));
    }
    if !was_denied {
        return Err(Response::refusal(404, format!("{name:?} is not denied.")));
    }
    warn!(kind, name, "an operator no longer denies a user or a token");
    Ok(json_response(&denied(driver)))
}

fn json_response(body: &Value) -> Response {
    Response::current("application/json", Body::Bytes(format!("{body}\n").into_bytes().into()))
}

fn invalid(part: &str) -> Response {
    Response::refusal(400, format!("{part:?} is not a valid name."))
}
