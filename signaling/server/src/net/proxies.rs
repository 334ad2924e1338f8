//! Who the client is when a proxy stands between: `X-Forwarded-For`, as far as it was written by those whom the
//! operator trusts. Anybody else may write into it what he likes.

use ipnet::IpNet;
use std::{fmt, net::IpAddr, str::FromStr};
use tungstenite::http::HeaderMap;

/// A proxy, or a network of them, whose word is taken for where a connection comes from: `192.0.2.1`, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedProxy(IpNet);

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = match text.parse::<IpAddr>() {
            Ok(ip) => Ok(ip.into()),
            Err(_) => text.parse(),
        };
        let words = || format!("{text:?} must be an IP address or a network such as 10.0.0.0/8");
        net.map(Self).map_err(|_| words())
    }
}

impl TryFrom<String> for TrustedProxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TrustedProxy {
    /// Whether all addresses of another entry belong to this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }
}

/// Whether one of them has this address.
pub(crate) fn is_trusted(proxies: &[TrustedProxy], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    proxies.iter().any(|proxy| proxy.0.contains(&ip))
}

/// Whom a request is from that came from `peer`. Each proxy adds whom it got the request from at the right end of
/// `X-Forwarded-For`, so that is where to begin; what a stranger has said, and all before it, proves nothing.
pub(crate) fn client(proxies: &[TrustedProxy], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while is_trusted(proxies, client) {
        let Some(ip) = hops.next().and_then(hop) else { break };
        client = ip;
    }
    client
}

/// An address as proxies write it: with and without port.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    let ip = ip.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(proxies: &[&str], peer: &str, lines: &[&str]) -> String {
        let proxies: Vec<TrustedProxy> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        client(&proxies, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert_eq!(client_of(&[], "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(client_of(&["10.0.0.1"], "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_that_no_trusted_proxy_wrote_counts() {
        let proxies = ["10.0.0.0/8", "2001:db8::1"];
        for (lines, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.1", "203.0.113.9, 10.2.3.4"], "203.0.113.9"),
            (&["203.0.113.9,2001:db8::1 , 10.9.9.9"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8:7::1]:4711"], "2001:db8:7::1"),
            (&["[2001:db8:7::1]"], "2001:db8:7::1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            // All of them ours, or something that is no address: the last one that is known.
            (&["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            (&["203.0.113.9, unknown"], "10.0.0.1"),
            (&["203.0.113.9, unknown, 10.3.3.3"], "10.3.3.3"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(client_of(&proxies, "10.0.0.1", lines), expected, "{lines:?}");
        }
        assert_eq!(client_of(&proxies, "::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.1:80"] {
            assert!(text.parse::<TrustedProxy>().unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }
}
