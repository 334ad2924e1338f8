//! A webrtcbin made ready for a room, and the few calls to it that both ends need.
//!
//! Callbacks given to this module run on webrtcbin's own thread. They must hold no reference to the webrtcbin (its last
//! one may not go away there), take no lock that is held while calling webrtcbin, and only send what they learn on.

use super::certificate;
use crate::log::CAT;
use gst::{glib, prelude::*};
use gst_webrtc::prelude::*;
use gst_webrtc::{WebRTCICE, WebRTCICETransportPolicy, WebRTCSDPType, WebRTCSessionDescription};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use room_signaling_client::wire::{IceCandidate, IceServer};

/// How connections are found.
#[derive(Clone, Debug)]
pub(crate) struct IceConfig {
    /// As RTCPeerConnection takes them.
    pub(crate) servers: Vec<IceServer>,
    /// `stun://host:port`; goes before those in `servers`.
    pub(crate) stun_server: Option<String>,
    /// `turn://user:password@host:port`, beside those in `servers`.
    pub(crate) turn_servers: Vec<String>,
    /// Whether addresses other than a TURN server's may be used.
    pub(crate) policy: WebRTCICETransportPolicy,
    /// Lowest local UDP port; 0 is any.
    pub(crate) min_rtp_port: u16,
    /// Highest local UDP port.
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

/// A new webrtcbin, configured, in no bin yet. Fails only where webrtcbin (gst-plugins-bad) is not installed.
pub(crate) fn webrtcbin(ice: &IceConfig) -> Result<gst::Element, glib::BoolError> {
    let webrtcbin =
        gst::ElementFactory::make("webrtcbin").property_from_str("bundle-policy", "max-bundle").build()?;
    certificate::install(&webrtcbin);
    webrtcbin.set_property("ice-transport-policy", ice.policy);
    configure_agent(&webrtcbin, ice);
    let (stun, turn) = server_uris(ice);
    if let Some(uri) = stun {
        webrtcbin.set_property("stun-server", uri);
    }
    for uri in turn {
        if !webrtcbin.emit_by_name::<bool>("add-turn-server", &[&uri]) {
            gst::warning!(
                CAT,
                obj = webrtcbin,
                "a TURN server was not accepted, check the URL that names it"
            );
        }
    }
    Ok(webrtcbin)
}

fn configure_agent(webrtcbin: &gst::Element, ice: &IceConfig) {
    let Some(agent) = webrtcbin.property::<Option<WebRTCICE>>("ice-agent") else { return };
    agent.set_min_rtp_port(ice.min_rtp_port.into());
    agent.set_max_rtp_port(ice.max_rtp_port.into());
    if agent.find_property("agent").is_some()
        && let Some(nice) = agent.property::<Option<glib::Object>>("agent")
    {
        // UPnP would send multicast on every start; connectivity checks as keep-alives notice a peer that was killed.
        for (name, value) in [("upnp", false), ("keepalive-conncheck", true)] {
            if nice.find_property(name).is_some() {
                nice.set_property(name, value);
            }
        }
    }
    // libnice leaves loopback out, and so finds nothing where there is nothing else.
    if only_loopback() {
        agent.emit_add_local_ip_address("127.0.0.1");
    }
}

fn only_loopback() -> bool {
    match if_addrs::get_if_addrs() {
        Ok(addresses) => !addresses.is_empty() && addresses.iter().all(if_addrs::Interface::is_loopback),
        Err(_) => false,
    }
}

/// The one STUN server that webrtcbin takes, and all TURN servers, as it wants them written.
fn server_uris(ice: &IceConfig) -> (Option<String>, Vec<String>) {
    let mut stun = ice.stun_server.clone();
    let mut turn = ice.turn_servers.clone();
    for server in &ice.servers {
        for url in &server.urls {
            match gst_uri(url, server.username.as_deref(), server.credential.as_deref()) {
                Some(uri) if uri.starts_with("stun") => {
                    stun.get_or_insert(uri);
                }
                Some(uri) => turn.push(uri),
                None => gst::warning!(CAT, "ignoring the ICE server {url}: not a stun:, turn: or turns: URL"),
            }
        }
    }
    (stun, turn)
}

/// `stun:host:port` (RFC 7064) or `turn:host:port?transport=udp` (RFC 7065) with its credentials, in the form with
/// `//` that webrtcbin parses.
fn gst_uri(url: &str, username: Option<&str>, credential: Option<&str>) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let host = rest.strip_prefix("//").unwrap_or(rest);
    if host.is_empty() || host.starts_with('?') {
        return None;
    }
    match scheme {
        // webrtcbin knows no STUN over TLS, and takes no query.
        "stun" => Some(format!("stun://{}", host.split('?').next().unwrap_or(host))),
        "turn" | "turns" => {
            let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
            match (username, credential) {
                (Some(user), Some(password)) => {
                    Some(format!("{scheme}://{}:{}@{host}", escape(user), escape(password)))
                }
                _ => Some(format!("{scheme}://{host}")),
            }
        }
        _ => None,
    }
}

/// The `a=mid` of one m-line of a description (RFC 8843): candidates name their m-line by index and by this.
pub(crate) fn mid_of(sdp: &str, m_line: u32) -> Option<String> {
    sections(sdp).nth(usize::try_from(m_line).ok()?).and_then(mid_in)
}

/// The m-lines with what belongs to them. What comes before the first one is the session's own section.
fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.split("\nm=").skip(1)
}

fn mid_in(section: &str) -> Option<String> {
    section.lines().find_map(|line| line.strip_prefix("a=mid:")).map(|mid| mid.trim_end().to_owned())
}

/// What came over signaling, as webrtcbin wants it. The error is for the log.
pub(crate) fn parse(kind: WebRTCSDPType, sdp: &str) -> Result<WebRTCSessionDescription, String> {
    match gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()) {
        // The parser takes almost anything.
        Ok(message) if message.medias_len() > 0 => Ok(WebRTCSessionDescription::new(kind, message)),
        _ => Err("the peer's session description has no media or can't be parsed".to_owned()),
    }
}

/// Gives webrtcbin a candidate of the peer's. webrtcbin itself keeps those that come before the descriptions.
/// `remote_sdp` finds the m-line of a candidate that comes with a mid only.
pub(crate) fn add_candidate(webrtcbin: &gst::Element, candidate: &IceCandidate, remote_sdp: &str) {
    if candidate.candidate.is_empty() {
        // The end of candidates (RFC 8838): webrtcbin doesn't need to be told.
        return;
    }
    let by_mid = || {
        let mid = candidate.sdp_mid.as_deref()?;
        let line = sections(remote_sdp).position(|section| mid_in(section).as_deref() == Some(mid))?;
        u32::try_from(line).ok()
    };
    let m_line = candidate.sdp_m_line_index.or_else(by_mid).unwrap_or(0);
    webrtcbin.emit_by_name::<()>("add-ice-candidate", &[&m_line, &candidate.candidate]);
}

/// Asks for an offer or an answer; `then` gets it, or words for the log.
pub(crate) fn create_description(
    webrtcbin: &gst::Element,
    kind: WebRTCSDPType,
    then: impl FnOnce(Result<WebRTCSessionDescription, String>) + Send + 'static,
) {
    let (signal, field) = match kind {
        WebRTCSDPType::Offer => ("create-offer", "offer"),
        _ => ("create-answer", "answer"),
    };
    let promise = gst::Promise::with_change_func(move |reply| {
        then(checked(reply).and_then(|reply| {
            let reply = reply.ok_or_else(|| format!("{signal} gave no reply"))?;
            reply.get::<WebRTCSessionDescription>(field).map_err(|error| format!("{signal}: {error}"))
        }));
    });
    webrtcbin.emit_by_name::<()>(signal, &[&None::<gst::Structure>, &promise]);
}

/// Sets the local description, from [`create_description`] as it came.
pub(crate) fn set_local(
    webrtcbin: &gst::Element,
    description: &WebRTCSessionDescription,
    then: impl FnOnce(Result<(), String>) + Send + 'static,
) {
    set_description(webrtcbin, "set-local-description", description, then);
}

/// Sets the remote description, from [`parse`].
pub(crate) fn set_remote(
    webrtcbin: &gst::Element,
    description: &WebRTCSessionDescription,
    then: impl FnOnce(Result<(), String>) + Send + 'static,
) {
    set_description(webrtcbin, "set-remote-description", description, then);
}

fn set_description(
    webrtcbin: &gst::Element,
    signal: &'static str,
    description: &WebRTCSessionDescription,
    then: impl FnOnce(Result<(), String>) + Send + 'static,
) {
    let promise = gst::Promise::with_change_func(move |reply| {
        then(checked(reply).map(|_| ()).map_err(|error| format!("{signal}: {error}")));
    });
    webrtcbin.emit_by_name::<()>(signal, &[description, &promise]);
}

/// Asks for the statistics (W3C webrtc-stats, as webrtcbin names them); `then` gets a structure with one field a
/// statistics object. Never called when the webrtcbin is on its way down.
pub(crate) fn request_stats(webrtcbin: &gst::Element, then: impl FnOnce(gst::Structure) + Send + 'static) {
    let promise = gst::Promise::with_change_func(move |reply| {
        if let Ok(Some(reply)) = reply {
            then(reply.to_owned());
        }
    });
    webrtcbin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
}

type Reply<'a> = Result<Option<&'a gst::StructureRef>, gst::PromiseError>;

/// The reply of a promise, an error inside it turned into one.
fn checked(reply: Reply<'_>) -> Result<Option<&gst::StructureRef>, String> {
    let reply = reply.map_err(|error| format!("no reply: {error:?}"))?;
    match reply.and_then(|reply| reply.get::<glib::Error>("error").ok()) {
        Some(error) => Err(error.to_string()),
        None => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\na=group:BUNDLE 0 x\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:x\r\n";

    #[test]
    fn a_mid_is_found_by_its_m_line() {
        assert_eq!(mid_of(SDP, 0).as_deref(), Some("0"));
        assert_eq!(mid_of(SDP, 1).as_deref(), Some("x"));
        assert_eq!(mid_of(SDP, 2), None);
        assert_eq!(mid_of("v=0\r\nm=video 9 RTP/AVP 96\r\n", 0), None);
    }

    #[test]
    fn server_urls_are_written_as_webrtcbin_wants_them() {
        let uri = |url, user, password| gst_uri(url, user, password);
        assert_eq!(uri("stun:stun.example:3478", None, None).as_deref(), Some("stun://stun.example:3478"));
        assert_eq!(uri("stun://h:1", None, None).as_deref(), Some("stun://h:1"));
        assert_eq!(
            uri("turn:[2001:db8::1]:3478?transport=tcp", Some("1700:a@b"), Some("p/w%=+")).as_deref(),
            Some("turn://1700%3Aa%40b:p%2Fw%25%3D%2B@[2001:db8::1]:3478?transport=tcp")
        );
        assert_eq!(uri("turns:h:5349", Some("u"), Some("p")).as_deref(), Some("turns://u:p@h:5349"));
        for bad in ["", "h:3478", "http://h", "turn:", "stun"] {
            assert_eq!(uri(bad, None, None), None, "{bad}");
        }
    }

    #[test]
    fn the_property_goes_before_the_servers_stun_and_turn_adds_up() {
        let server = |url: &str| IceServer { urls: vec![url.to_owned()], username: None, credential: None };
        let mut ice = IceConfig {
            servers: vec![server("stun:first"), server("stun:second"), server("turn:third")],
            turn_servers: vec!["turn://zero".to_owned()],
            ..IceConfig::default()
        };
        let turn = vec!["turn://zero".to_owned(), "turn://third".to_owned()];
        assert_eq!(server_uris(&ice), (Some("stun://first".to_owned()), turn.clone()));
        ice.stun_server = Some("stun://mine".to_owned());
        assert_eq!(server_uris(&ice), (Some("stun://mine".to_owned()), turn));
    }

    #[test]
    fn a_webrtcbin_is_made_with_all_that_was_asked_for() {
        gst::init().expect("GStreamer");
        let ice = IceConfig {
            stun_server: Some("stun://127.0.0.1:3478".to_owned()),
            servers: vec![IceServer {
                urls: vec!["turn:127.0.0.1:3478".to_owned()],
                username: Some("u:1".to_owned()),
                credential: Some("p@2".to_owned()),
            }],
            policy: WebRTCICETransportPolicy::Relay,
            min_rtp_port: 50_000,
            max_rtp_port: 50_100,
            ..IceConfig::default()
        };
        let made = webrtcbin(&ice).expect("webrtcbin");
        assert_eq!(made.property::<String>("stun-server"), "stun://127.0.0.1:3478");
        assert_eq!(
            made.property::<WebRTCICETransportPolicy>("ice-transport-policy"),
            WebRTCICETransportPolicy::Relay
        );
        let agent = made.property::<WebRTCICE>("ice-agent");
        assert_eq!((agent.min_rtp_port(), agent.max_rtp_port()), (50_000, 50_100));
        assert!(!agent.property::<glib::Object>("agent").property::<bool>("upnp"));
    }

    #[test]
    fn an_offer_comes_and_nonsense_is_refused() {
        gst::init().expect("GStreamer");
        let pipeline = gst::Pipeline::new();
        let made = webrtcbin(&IceConfig::default()).expect("webrtcbin");
        pipeline.add(&made).expect("added");
        pipeline.set_state(gst::State::Playing).expect("playing");
        made.emit_by_name::<Option<gst_webrtc::WebRTCDataChannel>>(
            "create-data-channel",
            &[&"x", &None::<gst::Structure>],
        );
        let (tell, told) = std::sync::mpsc::channel();
        create_description(&made, WebRTCSDPType::Offer, move |offer| drop(tell.send(offer)));
        let offer =
            told.recv_timeout(std::time::Duration::from_secs(10)).expect("a reply").expect("an offer");
        assert!(offer.sdp().as_text().expect("text").contains("m=application"));
        let (tell, told) = std::sync::mpsc::channel();
        set_remote(
            &made,
            &WebRTCSessionDescription::new(WebRTCSDPType::Answer, offer.sdp().to_owned()),
            move |done| {
                drop(tell.send(done));
            },
        );
        let done = told.recv_timeout(std::time::Duration::from_secs(10)).expect("a reply");
        assert!(done.is_err(), "an answer to no offer was taken");
        assert!(parse(WebRTCSDPType::Offer, "nonsense").is_err());
        pipeline.set_state(gst::State::Null).expect("null");
    }
}
