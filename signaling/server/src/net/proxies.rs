//! Finds the client of a request behind proxies in `X-Forwarded-For`. Only entries of proxies that the operator trusts
//! count, because anybody can write into the header.

use ipnet::IpNet;
use std::{fmt, net::IpAddr, str::FromStr};
use tungstenite::http::HeaderMap;

/// The address of a proxy, or a network of proxies, that is trusted to name its clients: `192.0.2.1`, `10.0.0.0/8`.
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
        let error = || format!("{text:?} must be an IP address or a network such as 10.0.0.0/8");
        net.map(Self).map_err(|_| error())
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

/// Whether a trusted proxy has this address.
pub(crate) fn is_trusted(proxies: &[TrustedProxy], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    proxies.iter().any(|proxy| proxy.0.contains(&ip))
}

/// The client of a request that arrived from `peer`. Each proxy appends the address of its own peer to `X-Forwarded-For`, so
/// the search begins at the right end. It ends at the first address that is not a trusted proxy, because anything before
/// that could be forged.
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

/// An address as proxies write it, with or without a port.
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
    fn no_proxy_is_trusted_by_default() {
        assert_eq!(client_of(&[], "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(client_of(&["10.0.0.1"], "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_address_that_is_not_a_trusted_proxy_counts() {
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
            // If all are trusted proxies, or one is not an address, the last address that is known counts.
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
    fn an_invalid_network_is_reported() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.1:80"] {
            assert!(text.parse::<TrustedProxy>().unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }
}
