//! Room URIs: `room://host:port/name` is the room `name` of the signaling server `ws://host:port`; `rooms://` is the
//! same over TLS. Names are percent-encoded UTF-8 (RFC 3986), so that every name can be expressed.
//!
//! Segments in front of the name are the path of `signaling-uri`: `rooms://host/ws/name` is a room of `wss://host/ws`.
//! With a path, the default port is that of the scheme, 80 or 443, as in `signaling-uri`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use room_signaling_client::wire::{DEFAULT_PORT, DEFAULT_ROOM};

/// The schemes, without and with TLS.
pub(super) const PROTOCOLS: [&str; 2] = ["room", "rooms"];

/// All characters except the unreserved ones (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of a room URI.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RoomUri {
    /// The value for the property `signaling-uri`.
    pub(super) signaling_uri: String,
    /// The decoded name of the room.
    pub(super) room: String,
}

/// Parses a room URI. The port and the room are optional. The error names the fault.
pub(super) fn parse(uri: &str) -> Result<RoomUri, String> {
    let wrong =
        |what: &str| format!("{uri:?} is not a room URI: {what}; write room://host:{DEFAULT_PORT}/name");
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| wrong("it has no ://"))?;
    let socket = match scheme.to_ascii_lowercase().as_str() {
        "room" => "ws",
        "rooms" => "wss",
        _ => return Err(wrong("it begins with neither room:// nor rooms://")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err(wrong("it has no plain host"));
    }
    let (path, name) = path.rsplit_once('/').unwrap_or(("", path));
    let room = match name {
        "" => DEFAULT_ROOM.to_owned(),
        name => percent_decode_str(name)
            .decode_utf8()
            .map_err(|_| wrong("the name of the room is not percent-encoded UTF-8"))?
            .into_owned(),
    };
    let server = if path.is_empty() { with_port(authority) } else { format!("{authority}/{path}") };
    Ok(RoomUri { signaling_uri: format!("{socket}://{server}"), room })
}

/// Builds the room URI of these properties, if there is one.
pub(super) fn build(signaling_uri: &str, room: &str) -> Option<String> {
    let (scheme, server) = signaling_uri.split_once("://")?;
    let scheme = match scheme {
        "ws" => "room",
        "wss" => "rooms",
        _ => return None,
    };
    // A query may contain a secret, and is not part of a room URI.
    let server = server.split(['?', '#']).next()?.trim_end_matches('/');
    Some(format!("{scheme}://{server}/{}", utf8_percent_encode(room, ESCAPED)))
}

fn with_port(authority: &str) -> String {
    // An IPv6 address has colons inside its brackets.
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    if authority.get(host_end..).is_some_and(|rest| rest.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:{DEFAULT_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_server_and_room() {
        for (uri, server, room) in [
            ("room://127.0.0.1:8765/living_room", "ws://127.0.0.1:8765", "living_room"),
            ("rooms://example.org/a", "wss://example.org:8765", "a"),
            ("room://[::1]/a", "ws://[::1]:8765", "a"),
            ("room://[::1]:99/a", "ws://[::1]:99", "a"),
            ("room://h", "ws://h:8765", "room_default"),
            ("room://h:1/", "ws://h:1", "room_default"),
            ("room://h:1/%E5%AE%A2%E5%8E%85", "ws://h:1", "客厅"),
            ("room://h:1/a%2Fb%3F%25", "ws://h:1", "a/b?%"),
            ("room://h:1/客厅", "ws://h:1", "客厅"),
            ("room://h:1/base/ws/a", "ws://h:1/base/ws", "a"),
            ("rooms://h/ws/a?x=1", "wss://h/ws", "a"),
            ("room://h/ws/", "ws://h/ws", "room_default"),
        ] {
            let expected = RoomUri { signaling_uri: server.to_owned(), room: room.to_owned() };
            assert_eq!(parse(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn other_uris_are_refused_with_the_correct_form() {
        for uri in ["", "h", "http://h/a", "room:///a", "room://u@h/a", "room://h/%FF"] {
            let error = parse(uri).expect_err(uri);
            assert!(error.contains("room://host:8765/name"), "{error}");
        }
    }

    #[test]
    fn a_built_uri_can_be_parsed() {
        for server in ["wss://h:1", "wss://h:1/ws", "wss://h/base/ws", "ws://[::1]:8765"] {
            for room in ["living_room", "客厅", "a/b c?#%"] {
                let uri = build(server, room).expect("a URI");
                assert!(uri.is_ascii(), "{uri}");
                let expected = RoomUri { signaling_uri: server.to_owned(), room: room.to_owned() };
                assert_eq!(parse(&uri), Ok(expected), "{uri}");
            }
        }
        assert_eq!(build("wss://h:1/ws?key=secret", "a").as_deref(), Some("rooms://h:1/ws/a"));
        assert_eq!(build("http://h", "a"), None);
    }
}
