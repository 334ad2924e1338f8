//! ICE configuration: STUN and TURN servers in webrtcbin's format, ports, and the addresses of this machine.

use gst_webrtc::WebRTCICETransportPolicy;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use room_signaling_client::wire::IceServer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The prefixes of interface names that libnice ignores: bridges of containers and virtual machines.
const IGNORED_INTERFACES: [&str; 4] = ["docker", "veth", "virbr", "vnet"];

/// The ICE configuration of a session.
#[derive(Clone)]
pub(crate) struct IceConfig {
    /// In the format of RTCPeerConnection.
    pub(crate) servers: Vec<IceServer>,
    /// `stun://host:port`, instead of the STUN servers in `servers`.
    pub(crate) stun_server: Option<String>,
    /// `turn://user:password@host:port`, in addition to those in `servers`.
    pub(crate) turn_servers: Vec<String>,
    /// Whether only relay candidates may be used.
    pub(crate) policy: WebRTCICETransportPolicy,
    /// The lowest local UDP port (0: any).
    pub(crate) min_rtp_port: u16,
    /// The highest local UDP port.
    pub(crate) max_rtp_port: u16,
}

impl Default for IceConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            stun_server: None,
            turn_servers: Vec::new(),
            policy: WebRTCICETransportPolicy::All,
            min_rtp_port: 0,
            max_rtp_port: u16::MAX,
        }
    }
}

/// The servers of an [`IceConfig`] in webrtcbin's format.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerUris {
    /// webrtcbin supports one STUN server.
    pub(super) stun: Option<String>,
    pub(super) turn: Vec<String>,
    /// Warnings about servers that cannot be used.
    ignored: Vec<String>,
}

impl IceConfig {
    /// A warning for each server that cannot be used, without its credentials.
    pub(crate) fn unusable_servers(&self) -> Vec<String> {
        let ServerUris { turn, mut ignored, .. } = self.server_uris();
        if self.policy == WebRTCICETransportPolicy::Relay && turn.is_empty() {
            ignored.push(
                "ice-transport-policy=relay needs a TURN server, and there is none that can be used: no connection \
                 will come about"
                    .to_owned(),
            );
        }
        ignored
    }

    pub(super) fn server_uris(&self) -> ServerUris {
        let mut uris = ServerUris::default();
        let properties =
            self.stun_server.iter().chain(&self.turn_servers).map(|url| (url.as_str(), None, None));
        let listed = self.servers.iter().flat_map(|server| {
            let (user, password) = (server.username.as_deref(), server.credential.as_deref());
            server.urls.iter().map(move |url| (url.as_str(), user, password))
        });
        for (url, user, password) in properties.chain(listed) {
            match gst_uri(url, user, password) {
                Ok(uri) if uri.starts_with("stun") => {
                    uris.stun.get_or_insert(uri);
                }
                Ok(uri) => uris.turn.push(uri),
                Err(reason) => {
                    uris.ignored
                        .push(format!("the ICE server {:?} is not used: {reason}", without_user(url)));
                }
            }
        }
        uris
    }
}

/// Checks the URL of a STUN or TURN server in a property. The error is the reason. A TURN server over TLS passes, because the
/// list may contain others; a warning reports that it is not used.
pub(crate) fn check_url(url: &str) -> Result<(), &'static str> {
    match gst_uri(url, None, None) {
        Err(reason) if reason != NO_TLS => Err(reason),
        _ => Ok(()),
    }
}

/// Why a server cannot be used.
type Reason = &'static str;

const NO_TLS: Reason = "libnice, which connects the elements, has no TLS to STUN and TURN servers; give a turn: URL, \
    with ?transport=tcp where UDP is blocked (the media is encrypted in any case)";

/// `stun:host:port` (RFC 7064) or `turn:host:port?transport=udp` (RFC 7065) with its credentials, in the form with `//`
/// that webrtcbin parses. The `//` may be there already, with the credentials in front of the host.
fn gst_uri(url: &str, user: Option<&str>, password: Option<&str>) -> Result<String, Reason> {
    const EXPECTED: Reason = "it is not of the form stun:host:port or turn:host:port";
    let (scheme, rest) = url.split_once(':').ok_or(EXPECTED)?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, host) = address.rsplit_once('@').unwrap_or(("", address));
    match scheme {
        "stun" | "turn" if !is_authority(host) => Err("its host or port is malformed"),
        // webrtcbin accepts no query here.
        "stun" => Ok(format!("stun://{host}")),
        "turn" => {
            let query = match query {
                "" => "",
                "transport=udp" => "?transport=udp",
                "transport=tcp" => "?transport=tcp",
                _ => return Err("its transport is neither udp nor tcp"),
            };
            let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
            match (user, password) {
                (Some(user), Some(password)) => {
                    Ok(format!("turn://{}:{}@{host}{query}", escape(user), escape(password)))
                }
                _ if credentials.is_empty() => Ok(format!("turn://{host}{query}")),
                _ if credentials.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    Ok(format!("turn://{credentials}@{host}{query}"))
                }
                _ => Err("its user and password are not percent-encoded"),
            }
        }
        "turns" | "stuns" => Err(NO_TLS),
        _ => Err(EXPECTED),
    }
}

/// A URL without its user and password.
fn without_user(url: &str) -> String {
    match (url.split_once(':'), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn is_authority(text: &str) -> bool {
    let (host_fits, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (host, port) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        (!host.is_empty() && host.len() <= 253 && host.bytes().all(name), port)
    };
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    host_fits && port_fits
}

/// Whether libnice finds no address except loopback, which it ignores unless configured otherwise.
pub(super) fn needs_loopback() -> bool {
    // libnice reports an error if the addresses cannot be read.
    if_addrs::get_if_addrs().is_ok_and(|interfaces| {
        !interfaces.is_empty()
            && !interfaces.iter().any(|interface| {
                libnice_uses(&interface.name, interface.is_loopback(), interface.is_oper_up())
            })
    })
}

/// The addresses that sessions use, each with the scope id of a link-local address (RFC 4007), or 0.
pub(crate) fn local_addresses() -> Vec<(IpAddr, u32)> {
    if needs_loopback() {
        return vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces
        .iter()
        .filter(|interface| libnice_uses(&interface.name, interface.is_loopback(), interface.is_oper_up()))
        .map(|interface| (interface.ip(), interface.index.unwrap_or_default()))
        .collect()
}

/// Whether libnice uses the address of an interface.
fn libnice_uses(interface: &str, is_loopback: bool, is_running: bool) -> bool {
    is_running && !is_loopback && !IGNORED_INTERFACES.iter().any(|prefix| interface.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_are_written_as_webrtcbin_accepts_them() {
        let uri = |url, user, password| gst_uri(url, user, password).expect(url);
        assert_eq!(uri("stun:stun.example:3478", None, None), "stun://stun.example:3478");
        assert_eq!(uri("stun://h:1", None, None), "stun://h:1");
        assert_eq!(
            uri("turn:[2001:db8::1]:3478?transport=tcp", Some("1700:a@b"), Some("p/w%=+")),
            "turn://1700%3Aa%40b:p%2Fw%25%3D%2B@[2001:db8::1]:3478?transport=tcp"
        );
        assert_eq!(uri("turn://u:p%40@h", None, None), "turn://u:p%40@h");
        assert_eq!(uri("turn:h", None, None), "turn://h");
    }

    #[test]
    fn an_unusable_url_is_reported_without_its_password() {
        for bad in [
            "",
            "h:3478",
            "http://h",
            "turn:",
            "stun",
            "stun:?",
            "stun:a b",
            "turn:h:0",
            "turn:h:99999",
            "turn:[::1",
            "turn:[x]:1",
            "turn:h?transport=tls",
            "turn://ü:p@h",
            "turn:ü",
        ] {
            assert!(gst_uri(bad, None, None).is_err(), "{bad}");
        }
        let ice = IceConfig {
            turn_servers: vec![
                "turn://alice:secret@h:0".to_owned(),
                "turns://alice:secret@h:5349".to_owned(),
            ],
            policy: WebRTCICETransportPolicy::Relay,
            ..IceConfig::default()
        };
        let sentences = ice.unusable_servers();
        let [port, tls, relay] = sentences.as_slice() else { panic!("{sentences:?}") };
        assert!(port.contains("turn://…@h:0") && port.contains("port"), "{port}");
        assert!(tls.contains("turns://…@h:5349") && tls.contains("no TLS") && tls.contains("turn:"), "{tls}");
        assert!(relay.contains("relay"), "{relay}");
        assert!(!sentences.concat().contains("secret"));
    }

    #[test]
    fn the_stun_server_of_the_property_replaces_the_list_and_turn_servers_add_up() {
        let server = |url: &str| IceServer { urls: vec![url.to_owned()], username: None, credential: None };
        let mut ice = IceConfig {
            servers: vec![
                server("stun:first"),
                server("stun:second"),
                server("turns:third"),
                server("turn:third"),
            ],
            turn_servers: vec!["turn://zero".to_owned()],
            ..IceConfig::default()
        };
        let uris = ice.server_uris();
        assert_eq!(uris.stun.as_deref(), Some("stun://first"));
        assert_eq!(uris.turn, ["turn://zero", "turn://third"], "the server without TLS remains");
        assert_eq!(uris.ignored.len(), 1);
        ice.stun_server = Some("stun://mine".to_owned());
        assert_eq!(ice.server_uris().stun.as_deref(), Some("stun://mine"));
    }

    #[test]
    fn loopback_is_needed_if_the_only_other_interfaces_are_container_bridges() {
        assert!(libnice_uses("eth0", false, true));
        assert!(libnice_uses("wlp3s0", false, true));
        for (name, is_loopback, is_running) in [
            ("lo", true, true),
            ("docker0", false, true),
            ("virbr0", false, true),
            ("veth1a2b", false, true),
            ("eth0", false, false),
        ] {
            assert!(!libnice_uses(name, is_loopback, is_running), "{name}");
        }
    }
}
