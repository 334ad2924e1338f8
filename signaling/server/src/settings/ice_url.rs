//! URLs of STUN and TURN servers, read as strictly as browsers read them: one that they refuse ends every session that is
//! offered to them.

use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The URL of a STUN or TURN server: `SCHEME:HOST`, `SCHEME:HOST:PORT`, and of TURN with `?transport=udp` or `tcp`
/// (RFC 7064, RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IceUrl(String);

impl IceUrl {
    /// The text.
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
        // The URL is not shown where it might hold a password.
        if url.contains('@') {
            return Err(
                "a URL of an ICE server has no credentials in it: those are settings of their own".to_owned()
            );
        }
        let bad = |why: &str| {
            Err(format!(
                "{url:?} is no URL of an ICE server: {why}. It must look like stun:stun.example.org:3478 or \
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
            return bad("it has slashes");
        }
        let (server, query) =
            rest.split_once('?').map_or((rest, None), |(server, query)| (server, Some(query)));
        match query {
            Some("transport=udp" | "transport=tcp") if is_turn => {}
            Some(_) => return bad("only TURN has a query, which is transport=udp or transport=tcp"),
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
            let (host, rest) = rest.split_once(']').ok_or("its IPv6 address has no end")?;
            host.parse::<Ipv6Addr>().map_err(|_| "it has no IPv6 address in its brackets")?;
            match (rest, rest.strip_prefix(':')) {
                ("", _) => (None, None),
                (_, Some(port)) => (None, Some(port)),
                _ => return Err("something follows its IPv6 address"),
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
            return Err("its port is no number from 1 to 65535");
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
    // A browser takes a name that ends in a number for an IPv4 address.
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if ends_in_number && name.parse::<Ipv4Addr>().is_err() {
        return Err("its host is no IPv4 address");
    }
    Ok(())
}

/// The URL of a STUN server. Takes `host:port` and the `stun://` that GStreamer writes as well.
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
            return Err(format!("{text:?} is no STUN server: TURN servers go into [turn] or ice_servers"));
        }
        let url = if rest.starts_with("stuns:") { rest.to_owned() } else { format!("stun:{rest}") };
        url.try_into().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_browsers_take_are_taken() {
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
    fn urls_that_browsers_refuse_are_refused_with_the_reason() {
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
            ("stun:stun.example.org?transport=udp", "only TURN"),
            ("turn:turn.example.org?transport=tls", "transport=udp or transport=tcp"),
            ("stun:stun example.org", "neither a name nor an address"),
            ("stun:stun..example.org", "neither a name nor an address"),
            ("stun:stun.example.org/path", "neither a name nor an address"),
            ("stun:1.2.3.256", "no IPv4 address"),
            ("stun:7", "no IPv4 address"),
        ] {
            let told = IceUrl::try_from(url.to_owned()).unwrap_err();
            assert!(told.contains(why) && told.contains(&format!("{url:?}")), "{url}: {told}");
        }
        let told = IceUrl::try_from("turn:user:password@turn.example.org".to_owned()).unwrap_err();
        assert!(told.contains("credentials") && !told.contains("password@"), "{told}");
    }

    #[test]
    fn stun_servers_may_be_written_shorter() {
        let url = |text: &str| StunUrl::try_from(text.to_owned()).map(StunUrl::into_string);
        for text in ["stun.example:1", "stun:stun.example:1", "stun://stun.example:1"] {
            assert_eq!(url(text).as_deref(), Ok("stun:stun.example:1"));
        }
        assert_eq!(url("stuns:stun.example").as_deref(), Ok("stuns:stun.example"));
        for (text, why) in [("", "no host"), ("turn:turn.example", "[turn]"), ("stun:http://x", "port")] {
            let told = url(text).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
