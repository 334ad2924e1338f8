//! A real session of the sink, with answers of a simulated receiver.

use super::*;
use crate::{
    codec::{H264, MediaKind, VP8},
    peer::hostile,
};
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// A session with an H.264 stream, a VP8 stream and a data channel, which has made its offer.
struct Offered {
    session: Session,
    offer: String,
    events: mpsc::Receiver<SessionEvent>,
}

fn stream(index: u32, codec: &'static Codec) -> StreamInfo {
    StreamInfo { key: key(index), codec, fanout: Arc::default() }
}

fn key(index: u32) -> StreamKey {
    StreamKey { kind: MediaKind::Video, index }
}

impl Offered {
    fn new() -> Self {
        gst::init().expect("GStreamer");
        let (sender, events) = mpsc::channel();
        let session_events: SessionEvents = Arc::new(move |event| drop(sender.send(event)));
        let config = SessionConfig {
            id: SessionId::new("s").expect("an id"),
            streams: &[stream(0, &H264), stream(1, &VP8)],
            ice: &IceConfig::default(),
            retransmission: true,
            data_channel: true,
        };
        let session = Session::start(config, &session_events).expect("a session");
        session.make_offer();
        let mut offered = Self { session, offer: String::new(), events };
        while offered.offer.is_empty() {
            if let PeerAction::Describe(offer) = offered.next() {
                offered.offer = offer;
            }
        }
        while !matches!(offered.next(), PeerAction::LocalSet) {}
        offered
    }

    fn next(&mut self) -> PeerAction {
        loop {
            if let SessionEvent::Peer(event) = self.events.recv_timeout(PATIENCE).expect("an event") {
                return self.session.handle(event);
            }
        }
    }

    /// An answer that accepts both streams and the data channel.
    fn answer(&self) -> String {
        let mids: Vec<&str> =
            self.offer.lines().filter_map(|line| line.strip_prefix("a=mid:")).map(str::trim).collect();
        let [first, second, data] = mids.as_slice() else { panic!("{}", self.offer) };
        let shared = format!(
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:active\r\n",
            ["A1"; 32].join(":")
        );
        format!(
            "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {first} {second} {data}\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{shared}a=mid:{first}\r\na=recvonly\r\na=rtcp-mux\r\n\
             a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
             a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 98\r\n{shared}a=mid:{second}\r\na=recvonly\r\na=rtcp-mux\r\n\
             a=rtpmap:98 VP8/90000\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{shared}a=mid:{data}\r\na=sctp-port:5000\r\n"
        )
    }

    /// Waits until webrtcbin has the answer. The error is the reason why the session ends instead.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            match self.events.recv_timeout(PATIENCE).expect("the answer in force, or a reason") {
                SessionEvent::Peer(PeerEvent::RemoteSet) => return Ok(()),
                SessionEvent::Peer(event) => {
                    if let PeerAction::Over(reason) = self.session.handle(event) {
                        return Err(reason);
                    }
                }
                _ => {}
            }
        }
    }

    fn end(self) {
        if let Some(thread) = self.session.end() {
            thread.join().expect("teardown");
        }
    }
}

#[test]
fn every_stream_has_two_payload_types_outside_the_range_of_rtcp() {
    let mut types: Vec<u8> =
        (0..MAX_STREAMS).filter_map(payload_type).flat_map(|first| [first, first + 1]).collect();
    assert_eq!(types.first(), Some(&96));
    assert_eq!(types.len(), 2 * MAX_STREAMS);
    assert!(types.iter().all(|kind| matches!(kind, 35..=63 | 96..=127)), "{types:?}");
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), 2 * MAX_STREAMS);
    assert_eq!(payload_type(MAX_STREAMS), None);
}

#[test]
fn an_answer_opens_the_gates_of_the_streams_that_it_accepts() {
    let mut offered = Offered::new();
    let answer =
        offered.answer().replacen("m=video 9 UDP/TLS/RTP/SAVPF 98", "m=video 0 UDP/TLS/RTP/SAVPF 98", 1);
    let mids: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
    let answer = answer.replace(&mids.join(" "), &[mids[0], mids[2]].join(" "));
    assert_eq!(offered.session.accept_answer(&answer), Ok(AnswerOutcome::Accepted));
    assert_eq!(offered.settle(), Ok(()));
    offered.session.open_gates();
    let gates: Vec<_> = offered.session.subscribers().map(Subscriber::gate).collect();
    assert_eq!(gates, [super::super::fanout::Gate::Waiting, super::super::fanout::Gate::Closed]);
    offered.end();
}

#[test]
fn a_rejected_first_stream_requires_an_offer_without_it() {
    let mut offered = Offered::new();
    let answer =
        offered.answer().replacen("m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video 0 UDP/TLS/RTP/SAVPF 96", 1);
    let mids: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
    let answer = answer.replace(&mids.join(" "), &[mids[1], mids[2]].join(" "));
    assert_eq!(offered.session.accept_answer(&answer), Ok(AnswerOutcome::NeedsOfferWithout(vec![key(0)])));
    let none = offered.answer().replace("m=video 9", "m=video 0");
    assert!(offered.session.accept_answer(&none).is_err());
    offered.end();
}

#[test]
fn a_malformed_answer_is_accepted_or_ends_the_session_with_a_reason() {
    let before = hostile::criticals();
    // Most variants do not reach webrtcbin, so all of these share one session.
    let mut offered = Offered::new();
    let mut accepted = 0;
    for (variant, answer) in hostile::variants(&offered.answer()) {
        if !matches!(offered.session.accept_answer(&answer), Ok(AnswerOutcome::Accepted)) {
            continue;
        }
        accepted += 1;
        // webrtcbin may accept the answer or refuse it.
        let _ = offered.settle();
        offered.end();
        offered = Offered::new();
        assert_eq!(hostile::criticals(), before, "{variant}");
    }
    assert!(accepted > 20, "only {accepted} variants reached webrtcbin");
    offered.end();
}
