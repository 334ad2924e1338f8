//! URLs of STUN and TURN servers, checked as strictly as browsers check them, because a URL that a browser rejects makes
//! every session with it fail.

use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The URL of a STUN or TURN server: `SCHEME:HOST` or `SCHEME:HOST:PORT`, for TURN optionally with `?transport=udp` or
/// `?transport=tcp` (RFC 7064, RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IceUrl(String);

impl IceUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for IceUrl {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        // The message does not repeat the URL, because it may contain a password.
        if url.contains('@') {
            return Err(
                "the URL of an ICE server can't contain credentials: set username and credential".to_owned()
            );
        }
        let bad = |why: &str| {
            Err(format!(
                "{url:?} is not the URL of an ICE server: {why}. It must look like stun:stun.example.org:3478 or \
                 turn:turn.example.org:3478?transport=tcp"
            ))
        };
        let Some((scheme, rest)) = url.split_once(':') else { return bad("it has no scheme") };
        let (is_turn, rest) = match scheme {
            "stun" | "stuns" => (false, rest),
            "turn" | "turns" => (true, rest),
            _ => return bad("its scheme is none of stun, stuns, turn, turns"),
        };
        if rest.starts_with("//") {
            return bad("it has slashes after the scheme");
        }
        let (server, query) =
            rest.split_once('?').map_or((rest, None), |(server, query)| (server, Some(query)));
        match query {
            Some("transport=udp" | "transport=tcp") if is_turn => {}
            Some(_) => return bad("only a TURN URL may have a query: transport=udp or transport=tcp"),
            None => {}
        }
        match check_server(server) {
            Ok(()) => Ok(Self(url)),
            Err(why) => bad(why),
        }
    }
}

/// Checks `HOST` or `HOST:PORT`.
fn check_server(server: &str) -> Result<(), &'static str> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("its IPv6 address has no end bracket")?;
            host.parse::<Ipv6Addr>().map_err(|_| "its brackets contain no IPv6 address")?;
            match (rest, rest.strip_prefix(':')) {
                ("", _) => (None, None),
                (_, Some(port)) => (None, Some(port)),
                _ => return Err("text follows its IPv6 address"),
            }
        }
        None => match server.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address must be in brackets"),
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(server), None),
        },
    };
    if let Some(port) = port {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
            return Err("its port is not a number from 1 to 65535");
        }
    }
    host.map_or(Ok(()), check_name)
}

/// Checks a name or an IPv4 address.
fn check_name(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("it names no host");
    }
    let is_label = |label: &str| {
        let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_letter)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("its host is neither a name nor an address");
    }
    // Browsers read a name that ends in a number as an IPv4 address.
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if ends_in_number && name.parse::<Ipv4Addr>().is_err() {
        return Err("its host is not a valid IPv4 address");
    }
    Ok(())
}

/// The URL of a STUN server. Also accepts `host:port`, and `stun://` as GStreamer writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct StunUrl(IceUrl);

impl StunUrl {
    pub(crate) fn into_string(self) -> String {
        self.0.into_string()
    }
}

impl TryFrom<String> for StunUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("stun:").map_or(&*text, |rest| rest.strip_prefix("//").unwrap_or(rest));
        let is_turn = ["turn:", "turns:"].iter().any(|scheme| rest.starts_with(scheme));
        if is_turn {
            return Err(format!(
                "{text:?} is not a STUN server: TURN servers belong in [turn] or ice_servers"
            ));
        }
        let url = if rest.starts_with("stuns:") { rest.to_owned() } else { format!("stun:{rest}") };
        url.try_into().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_browsers_accept_are_accepted() {
        for url in [
            "stun:stun.example.org",
            "stun:stun.example.org:3478",
            "stuns:192.0.2.7:5349",
            "stun:[2001:db8::7]",
            "turn:[2001:db8::7]:3478?transport=udp",
            "turns:turn.example.org:443?transport=tcp",
            "turn:robot_7.local.:1",
            "turn:localhost:65535",
            "turn:münchen.example",
        ] {
            assert_eq!(IceUrl::try_from(url.to_owned()).as_ref().map(IceUrl::as_str), Ok(url));
        }
    }

    #[test]
    fn urls_that_browsers_reject_are_rejected_with_the_reason() {
        for (url, why) in [
            ("", "no scheme"),
            ("stun.example.org", "no scheme"),
            ("stun.example.org:3478", "none of stun"),
            ("http://stun.example.org", "none of stun"),
            ("STUN:stun.example.org", "none of stun"),
            ("stun:", "names no host"),
            ("turn:?transport=udp", "names no host"),
            ("stun::3478", "names no host"),
            ("stun://stun.example.org", "slashes"),
            ("stun:stun.example.org:", "port"),
            ("stun:stun.example.org:0", "port"),
            ("stun:stun.example.org:65536", "port"),
            ("stun:stun.example.org:+80", "port"),
            ("stun:stun.example.org:port", "port"),
            ("stun:2001:db8::7", "brackets"),
            ("stun:[2001:db8::7", "no end"),
            ("stun:[stun.example.org]", "IPv6"),
            ("stun:[2001:db8::7]3478", "follows"),
            ("stun:stun.example.org?transport=udp", "only a TURN URL"),
            ("turn:turn.example.org?transport=tls", "transport=udp or transport=tcp"),
            ("stun:stun example.org", "neither a name nor an address"),
            ("stun:stun..example.org", "neither a name nor an address"),
            ("stun:stun.example.org/path", "neither a name nor an address"),
            ("stun:1.2.3.256", "valid IPv4 address"),
            ("stun:7", "valid IPv4 address"),
        ] {
            let error = IceUrl::try_from(url.to_owned()).unwrap_err();
            assert!(error.contains(why) && error.contains(&format!("{url:?}")), "{url}: {error}");
        }
        let error = IceUrl::try_from("turn:user:password@turn.example.org".to_owned()).unwrap_err();
        assert!(error.contains("credentials") && !error.contains("password@"), "{error}");
    }

    #[test]
    fn stun_servers_may_be_written_shorter() {
        let url = |text: &str| StunUrl::try_from(text.to_owned()).map(StunUrl::into_string);
        for text in ["stun.example:1", "stun:stun.example:1", "stun://stun.example:1"] {
            assert_eq!(url(text).as_deref(), Ok("stun:stun.example:1"));
        }
        assert_eq!(url("stuns:stun.example").as_deref(), Ok("stuns:stun.example"));
        for (text, why) in [("", "no host"), ("turn:turn.example", "[turn]"), ("stun:http://x", "port")] {
            let error = url(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
