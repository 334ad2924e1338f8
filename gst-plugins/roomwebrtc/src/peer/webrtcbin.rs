//! Creates and configures a webrtcbin, and wraps the calls to it.
//!
//! Callbacks run on webrtcbin's own thread. They must not hold a reference to the webrtcbin, because dropping the last
//! one there deadlocks; they must not take a lock that is held while webrtcbin is called; they only forward events.

use super::{EventSink, IceConfig, PeerEvent, ice};
use crate::log::CAT;
use gst::{glib, prelude::*};
use gst_webrtc::prelude::*;
use gst_webrtc::{WebRTCICE, WebRTCSDPType, WebRTCSessionDescription};

/// A new webrtcbin. Fails only if webrtcbin (gst-plugins-bad) is not installed.
pub(super) fn make(ice: &IceConfig) -> Result<gst::Element, glib::BoolError> {
    let webrtcbin =
        gst::ElementFactory::make("webrtcbin").property_from_str("bundle-policy", "max-bundle").build()?;
    webrtcbin.set_property("ice-transport-policy", ice.policy);
    configure_agent(&webrtcbin, ice);
    let uris = ice.server_uris();
    if let Some(uri) = uris.stun {
        webrtcbin.set_property("stun-server", uri);
    }
    for uri in uris.turn {
        if !webrtcbin.emit_by_name::<bool>("add-turn-server", &[&uri]) {
            gst::warning!(
                CAT,
                obj = webrtcbin,
                "webrtcbin refuses a TURN server; check the URL that names it"
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
        // UPnP sends multicast on every start. Connectivity checks as keep-alives notice a peer that was killed.
        for (name, value) in [("upnp", false), ("keepalive-conncheck", true)] {
            if nice.find_property(name).is_some() {
                nice.set_property(name, value);
            }
        }
    }
    if ice::needs_loopback() {
        agent.emit_add_local_ip_address("127.0.0.1");
    }
}

/// Forwards candidates and the connection state.
pub(super) fn watch(webrtcbin: &gst::Element, events: &EventSink) {
    let candidates = events.clone();
    webrtcbin.connect("on-ice-candidate", false, move |values| {
        let m_line = values.get(1).and_then(|value| value.get::<u32>().ok());
        let line = values.get(2).and_then(|value| value.get::<String>().ok());
        if let (Some(m_line), Some(line)) = (m_line, line) {
            candidates(PeerEvent::Candidate(m_line, line));
        }
        None
    });
    let states = events.clone();
    webrtcbin.connect_notify(Some("connection-state"), move |webrtcbin, _| {
        states(PeerEvent::Connection(webrtcbin.property("connection-state")));
    });
}

/// Requests an offer or an answer. `then` gets it, or an error.
pub(super) fn create_description(
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

/// Sets the local description, which must be unchanged from [`create_description`].
pub(super) fn set_local(
    webrtcbin: &gst::Element,
    description: &WebRTCSessionDescription,
    then: impl FnOnce(Result<(), String>) + Send + 'static,
) {
    set_description(webrtcbin, "set-local-description", description, then);
}

/// Sets the remote description, which must have passed the checks of `sdp`.
pub(super) fn set_remote(
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

/// Requests the statistics (W3C webrtc-stats, with webrtcbin's names). `then` gets a structure with one field for each
/// statistics object; it is not called while the webrtcbin stops.
pub(super) fn request_stats(webrtcbin: &gst::Element, then: impl FnOnce(gst::Structure) + Send + 'static) {
    let promise = gst::Promise::with_change_func(move |reply| {
        if let Ok(Some(reply)) = reply {
            then(reply.to_owned());
        }
    });
    webrtcbin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
}

type Reply<'a> = Result<Option<&'a gst::StructureRef>, gst::PromiseError>;

/// The reply of a promise, with an error inside it as the error.
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
    use gst_webrtc::WebRTCICETransportPolicy;
    use room_signaling_client::wire::IceServer;

    #[test]
    fn a_webrtcbin_is_made_as_configured() {
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
        let made = make(&ice).expect("webrtcbin");
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
    fn an_offer_comes_and_an_answer_to_no_offer_is_refused() {
        gst::init().expect("GStreamer");
        let pipeline = gst::Pipeline::new();
        let made = make(&IceConfig::default()).expect("webrtcbin");
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
        pipeline.set_state(gst::State::Null).expect("null");
    }
}
