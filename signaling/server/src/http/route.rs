//! Chooses the response to a request. A route is added in [`route`], or, if a plain GET reads it, in `pages.rs`:
//!
//! | request | response | file |
//! | --- | --- | --- |
//! | WebSocket on `/` or `/ws` | opens a WebSocket | here |
//! | `GET /ws` | why a WebSocket is refused | here |
//! | `GET /healthz`, `/readyz`, `/metrics` | health, metrics | `pages.rs` |
//! | `GET /api/rooms` | the members of all rooms | `rooms.rs` |
//! | `DELETE /api/rooms/…`, `/api/denied…` | what operators change | `operate.rs` |
//! | any other `GET` | a file of the viewer page | `viewer.rs` |

use super::{access, operate, pages, response::Response, site::Site, visitor::Visitor};
use crate::{
    Config,
    net::{admission::TurnedAway, door::Door, proxies},
};
use room_protocol::RoomId;
use std::{net::SocketAddr, time::Instant};
use tungstenite::{
    error::{Error, ProtocolError},
    handshake::server::{Request, create_response, write_response},
    http::{HeaderMap, Method, Version},
};

/// Headers of a response that pages of other origins may read.
const FOR_ANY_PAGE: &str =
    "Cache-Control: no-store\r\nUpgrade: websocket\r\nAccess-Control-Allow-Origin: *\r\n";

/// The reply to a request.
pub(super) enum Reply {
    /// A WebSocket, which these bytes open.
    Upgrade(Vec<u8>),
    /// A response, after which the connection ends.
    Response(Response),
}

/// Chooses the response to a request.
pub(super) fn reply(site: &Site, visitor: &mut Visitor, request: &Request) -> Reply {
    let config = site.context.config();
    let assigned = assign(&config, visitor, request).map_err(|reason| {
        site.count_turned_away(visitor.remote, reason);
        Response::turned_away(reason)
    });
    assigned.and_then(|()| route(site, visitor, request)).unwrap_or_else(Reply::Response)
}

impl Site {
    /// Counts a connection that a limit turns away.
    pub(super) fn count_turned_away(&self, remote: SocketAddr, reason: TurnedAway) {
        self.context.metrics().turned_away(reason.as_str());
        if reason != TurnedAway::Full {
            self.context.log().address_limit(remote.ip());
        }
    }
}

/// If the connection comes from a trusted proxy: finds the client in the request, and counts the seat for its address.
fn assign(config: &Config, visitor: &mut Visitor, request: &Request) -> Result<(), TurnedAway> {
    let Visitor { remote, door, seat, .. } = visitor;
    if !proxies::is_trusted(&config.trusted_proxies, remote.ip()) {
        return Ok(());
    }
    remote.set_ip(proxies::client(&config.trusted_proxies, remote.ip(), request.headers()));
    if *door == Door::Operators {
        return Ok(());
    }
    seat.assign(Instant::now(), remote.ip(), &config.limits)
}

fn route(site: &Site, visitor: &mut Visitor, request: &Request) -> Result<Reply, Response> {
    let config = &*site.context.config();
    let path = below(&config.base_path, request.uri().path());
    let is_operation = operate::handles(request.method(), path);
    if !is_operation && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Response::refusal(405, "Only GET and HEAD are allowed here.")
            .with_headers("Allow: GET, HEAD\r\n"));
    }
    let host = single(request.headers(), "host")?;
    match host {
        Some(host) => {
            access::check_host(config, visitor.local, host).map_err(|text| Response::refusal(403, text))?;
        }
        None if request.version() == Version::HTTP_11 => {
            return Err(Response::refusal(400, "The request has no Host header."));
        }
        None => {}
    }
    if is_operation {
        pages::check_token(&site.context, single(request.headers(), "authorization")?)?;
        return operate::perform(&site.driver, &site.context, request.method(), path).map(Reply::Response);
    }
    if is_upgrade(request.headers()) {
        if !matches!(path, "" | "/" | "/ws") || visitor.door != Door::Public {
            return Err(Response::refusal(404, "WebSockets are accepted at / and /ws."));
        }
        if let Some(origin) = single(request.headers(), "origin")? {
            access::check_origin(config, host, origin).map_err(|text| Response::refusal(403, text))?;
        }
        if site.driver.is_draining() {
            return Err(Response::refusal(503, "The server is shutting down. Try again later.").retry_later());
        }
        visitor.seat.may_stay(&config.limits).map_err(|reason| {
            site.count_turned_away(visitor.remote, reason);
            Response::turned_away(reason)
        })?;
        visitor.room = named_room(request.uri().query().unwrap_or_default())?;
        return upgrade(request).map(Reply::Upgrade);
    }
    if path == "/ws" && visitor.door == Door::Public {
        return Err(explain_refusal(config, host, request.uri().query()));
    }
    if path.is_empty() {
        return Ok(Reply::Response(Response::add_slash(&config.base_path, request.uri().query())));
    }
    let authorization = single(request.headers(), "authorization")?;
    pages::page(site, visitor.door, path, authorization).map(Reply::Response)
}

/// The room that a query names: its first `room`, unless that is empty.
fn named_room(query: &str) -> Result<Option<RoomId>, Response> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "room").map(|(_, room)| room);
    let room = named.filter(|room| !room.is_empty()).map(RoomId::new).transpose();
    room.map_err(|error| Response::refusal(400, format!("The room in the URL is not valid: {error}.")))
}

/// The path without `base`, which a proxy in front of the server may have kept or stripped. The result is empty if the
/// path is `base` itself, without the slash that relative links on the page need.
fn below<'a>(base: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(base) {
        Some(rest) if !base.is_empty() && (rest.is_empty() || rest.starts_with('/')) => rest,
        _ => path,
    }
}

/// Explains to a page why its WebSocket was refused, because browsers do not: `?origin=` names the page's origin. Any page
/// may read this, because it reveals no more than the refused WebSocket did.
fn explain_refusal(config: &Config, host: Option<&str>, query: Option<&str>) -> Response {
    let origin = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("origin="));
    if let Some(Err(text)) = origin.map(|origin| access::check_origin(config, host, origin)) {
        return Response::refusal(403, text).with_headers(FOR_ANY_PAGE);
    }
    Response::refusal(426, "This address is for WebSockets only. The page is at /.")
        .with_headers(FOR_ANY_PAGE)
}

/// The value of a header that may occur once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Response> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Response::refusal(400, format!("The request has more than one {name} header.")));
    }
    first
        .map(|value| {
            value
                .to_str()
                .map_err(|_| Response::refusal(400, format!("The {name} header is not valid text.")))
        })
        .transpose()
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The response that opens a WebSocket. No extension is accepted, because compression costs 40 KB a connection.
fn upgrade(request: &Request) -> Result<Vec<u8>, Response> {
    let response = create_response(request).map_err(|error| match error {
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            Response::refusal(426, "Only version 13 of the WebSocket protocol (RFC 6455) is supported.")
                .with_headers("Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n")
        }
        error => Response::refusal(400, format!("This request does not open a WebSocket: {error}.")),
    })?;
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|error| Response::refusal(500, error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_can_name_a_room() {
        for (query, expected) in [
            ("", None),
            ("room=", None),
            ("other=x&x", None),
            ("room=lab", Some("lab")),
            ("a=b&room=lab+1&room=lab+2", Some("lab 1")),
            ("room=%E5%AE%A2%E5%8E%85", Some("客厅")),
            ("room=cafe%CC%81", Some("caf\u{e9}")),
        ] {
            let room = named_room(query).unwrap();
            assert_eq!(room.as_ref().map(RoomId::as_str), expected, "{query}");
        }
        for query in ["room=%20x", "room=%00", "room=%FF%E2%80%8B", &format!("room={}", "x".repeat(129))] {
            assert_eq!(named_room(query).unwrap_err().status, 400, "{query}");
        }
    }
}
