//! Tests of one session whose offers a real webrtcbin answers.

use super::*;
use crate::{
    codec::{self, MediaKind},
    peer::{certificate, hostile},
};
use gst_webrtc::WebRTCPeerConnectionState as Connection;
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// A stand-in for a certificate: the three bytes "abc", to which the fingerprints of the offer belong.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a b\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=setup:actpass\r\na=sendonly\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=rtcp-mux\r\n\
    a=fingerprint:sha-256 \
    BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD\r\n\
    a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 98\r\nc=IN IP4 0.0.0.0\r\na=mid:b\r\na=setup:actpass\r\na=sendonly\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=rtcp-mux\r\n\
    a=fingerprint:sha-256 \
    BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD\r\n\
    a=rtpmap:98 VP8/90000\r\n";

fn start(codecs: &[&str]) -> (Session, mpsc::Receiver<SessionEvent>) {
    start_with(OFFER.to_owned(), codecs).expect("a session")
}

fn start_with(offer: String, codecs: &[&str]) -> Result<(Session, mpsc::Receiver<SessionEvent>), String> {
    gst::init().expect("GStreamer");
    let settings =
        Settings { codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(), ..Settings::default() };
    let (sender, inbox) = mpsc::channel();
    let events: SessionEventSink = Arc::new(move |event| {
        let _ = sender.send(event);
    });
    let peer = (ClientId::new("camera").expect("an id"), None);
    let session = Session::start(peer, &offer, &IceConfig::default(), &settings, events)?;
    Ok((session, inbox))
}

fn next_action(session: &mut Session, inbox: &mpsc::Receiver<SessionEvent>) -> Action {
    loop {
        match session.handle(inbox.recv_timeout(PATIENCE).expect("an event")) {
            Action::None => {}
            action => return action,
        }
    }
}

fn end(session: &Session) {
    let (done, ended) = mpsc::channel();
    session.end(move || done.send(()).unwrap_or_default());
    ended.recv_timeout(PATIENCE).expect("an end");
}

#[test]
fn the_answer_accepts_the_wanted_streams_and_candidates_follow_it_with_their_mid() {
    let (mut session, inbox) = start(&["h264"]);
    let Action::Send(Body::Answer { sdp }) = next_action(&mut session, &inbox) else {
        panic!("no answer first")
    };
    let sections: Vec<&str> = sdp.split("\nm=").skip(1).collect();
    let [first, second] = sections.as_slice() else { panic!("{sdp}") };
    assert!(first.contains("a=recvonly") && first.contains("a=rtcp-fb:96 nack\r\n"), "{sdp}");
    assert!(second.contains("a=inactive") || second.starts_with("video 0 "), "{sdp}");
    assert_eq!(
        sdp.contains("a=fingerprint:sha-256 "),
        sdp.contains(certificate::fingerprint().expect("a certificate"))
    );
    let Action::Send(Body::Candidate { candidate }) = next_action(&mut session, &inbox) else {
        panic!("no candidate after the answer")
    };
    assert_eq!((candidate.sdp_mid.as_deref(), candidate.sdp_m_line_index), (Some("a"), Some(0)));
    assert!(!session.is_connected() && !session.is_complete(Instant::now()));
    end(&session);
}

#[test]
fn an_offer_of_several_codecs_in_one_line_is_answered_with_a_supported_one() {
    // Browsers offer codecs like this; VP9 is the first one.
    let offer = OFFER.replacen("SAVPF 96 97", "SAVPF 100 101 102 103 96 97", 1).replacen(
        "a=rtpmap:96 ",
        "a=rtpmap:100 VP9/90000\r\na=rtpmap:101 rtx/90000\r\na=fmtp:101 apt=100\r\na=rtpmap:102 VP8/90000\r\n\
         a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:96 ",
        1,
    );
    for (codecs, expected) in [(&["h264"][..], "96 H264"), (&["h264", "vp8"], "102 VP8")] {
        let (mut session, inbox) = start_with(offer.clone(), codecs).expect("a session");
        let Action::Send(Body::Answer { sdp }) = next_action(&mut session, &inbox) else {
            panic!("no answer")
        };
        let section = sdp.split("\nm=").nth(1).expect(&sdp);
        let formats: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")).collect();
        assert!(formats.iter().any(|format| format.starts_with(expected)), "{codecs:?}: {sdp}");
        assert!(!section.contains("VP9") && formats.len() <= 2, "{codecs:?}: {sdp}");
        end(&session);
    }
}

#[test]
fn a_stream_that_another_ssrc_replaces_is_closed() {
    let (mut session, _told) = start(&["vp8"]);
    let key = StreamKey { kind: MediaKind::Video, index: 0 };
    let stream = || {
        let source = gst_app::AppSrc::builder().build();
        session.peer.pipeline().add(&source).expect("added");
        let pad = source.static_pad("src").expect("a pad");
        Stream::build(session.peer.pipeline(), &pad, key, &codec::VP8, |_| ()).expect("a stream")
    };
    let (first, second) = (stream(), stream());
    let (first_closed, second_closed) = (first.closed(), second.closed());
    session.handle(SessionEvent::Stream(first));
    assert!(!first_closed());
    session.handle(SessionEvent::Stream(second));
    assert!(first_closed() && !second_closed());
    end(&session);
    assert!(second_closed());
}

#[test]
fn an_error_of_the_pipeline_ends_only_its_session() {
    let (mut session, inbox) = start(&["h264", "vp8"]);
    gst::element_error!(session.peer.webrtcbin(), gst::ResourceError::Failed, ("the handshake failed"));
    loop {
        if let Action::Over(error) = next_action(&mut session, &inbox) {
            assert!(error.contains("the handshake failed"), "{error}");
            break;
        }
    }
    assert!(session.peer.pipeline().bus().is_some_and(|bus| !bus.have_pending()));
    end(&session);
}

#[test]
fn a_session_without_a_connection_or_without_packets_ends() {
    let (mut session, _told) = start(&["h264"]);
    let now = Instant::now();
    assert!(matches!(session.handle_time(now + Duration::from_secs(29)), Action::None));
    assert!(matches!(session.handle_time(now + Duration::from_secs(31)), Action::Over(_)));
    let connection = |state| SessionEvent::Peer(PeerEvent::Connection(state));
    assert!(matches!(session.handle(connection(Connection::Connected)), Action::Over(_)), "no certificate");
    session.handle(SessionEvent::Peer(PeerEvent::Certificate(CERTIFICATE.to_owned())));
    assert!(matches!(session.handle(connection(Connection::Connected)), Action::Connected));
    assert!(matches!(session.handle(connection(Connection::Connected)), Action::None));
    assert!(matches!(session.handle_time(now + Duration::from_secs(14)), Action::None));
    assert!(matches!(session.handle_time(now + Duration::from_secs(40)), Action::Over(_)));
    assert!(matches!(session.handle(connection(Connection::Failed)), Action::Over(_)));
    end(&session);
}

#[test]
fn a_malformed_offer_is_answered_or_the_session_ends_with_a_reason() {
    let before = hostile::criticals();
    for (odd, offer) in hostile::variants(OFFER) {
        let Ok((mut session, inbox)) = start_with(offer, &["h264", "vp8"]) else { continue };
        let action = next_action(&mut session, &inbox);
        assert!(matches!(action, Action::Send(Body::Answer { .. }) | Action::Over(_)), "{odd}");
        end(&session);
        assert_eq!(hostile::criticals(), before, "{odd}");
    }
}

#[test]
fn media_of_an_unverified_peer_gets_no_pad() {
    let (mut session, _told) = start(&["h264"]);
    let key = StreamKey { kind: crate::codec::MediaKind::Video, index: 0 };
    let first = SessionEvent::First(key, gst::Caps::new_any());
    assert!(matches!(session.handle(first), Action::Over(_)));
    let other = "-----BEGIN CERTIFICATE-----\nYWJk\n-----END CERTIFICATE-----\n".to_owned();
    let refuted = session.handle(SessionEvent::Peer(PeerEvent::Certificate(other)));
    assert!(matches!(refuted, Action::Over(reason) if reason.contains("a=fingerprint")));
    end(&session);
}
