//! The media session with one sender: a [`Peer`] that answers, and a [`Stream`] for each m-line that is received.
//!
//! Threading: the control thread owns a session. Callbacks run on other threads; each only sends a [`SessionEvent`]
//! there. Pads of webrtcbin get their streams on the streaming thread that announces them. The pipeline runs on the
//! system clock with base time 0, whatever clock the element has; an output converts.

use super::{offer, output::Output, settings::Settings, stream::Stream};
use crate::{
    codec::Codec,
    log::CAT,
    peer::{EventSink, IceConfig, Peer, PeerAction, PeerEvent, Side},
    sdp::Description,
    stream_key::StreamKey,
};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCRTPTransceiver;
use room_signaling_client::{
    protocol::{ClientId, SessionId},
    wire::{Body, IceCandidate},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest time from the offer until media can flow: a browser's own limit for ICE is about the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// A sender that sends no packet for this long, RTCP included, is gone. Senders report at least every 7 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// How long the first stream waits for the others before the element announces that there are no more.
const STREAMS_LIMIT: Duration = Duration::from_secs(2);
/// The least time between two RTCP packets of this end, in ns. webrtcbin's default leaves senders without a report for up
/// to 7 s. Feedback such as NACK is sent at once in any case (RFC 4585).
const RTCP_INTERVAL: u64 = 1_000_000_000;

/// What happens in a session.
pub(super) enum SessionEvent {
    /// The connection to the sender reports.
    Peer(PeerEvent),
    /// The first packet of a stream came.
    Stream(Stream),
    /// The first access unit of a stream came, with these caps.
    First(StreamKey, gst::Caps),
    /// The session can't go on; the text says why.
    Failed(String),
}

/// Where the events of a session go.
pub(super) type SessionEvents = Arc<dyn Fn(SessionEvent) + Send + Sync>;

/// What a [`SessionEvent`] asks of the session's owner.
pub(super) enum Action {
    None,
    /// Send this to the sender.
    Send(Body),
    /// Media can flow.
    Connected,
    /// Make sure that this output exists, and give it to [`Session::attach`].
    NeedOutput(StreamKey, gst::Caps),
    /// Keep these statistics.
    Stats(gst::Structure),
    /// End the session; the text says why.
    Over(String),
}

/// A session.
pub(super) struct Session {
    pub(super) sender: ClientId,
    pub(super) id: Option<SessionId>,
    peer: Peer,
    keys: Arc<[Option<StreamKey>]>,
    streams: Vec<Stream>,
    phase: Phase,
    first_stream: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { since: Instant },
    Connected,
}

impl Session {
    /// Begins to answer `offer`. The error says why that can't be.
    pub(super) fn start(
        (sender, id): (ClientId, Option<SessionId>),
        offer: &str,
        ice: &IceConfig,
        settings: &Settings,
        events: SessionEvents,
    ) -> Result<Self, String> {
        let mut offer = Description::offer(offer).map_err(|error| error.to_string())?;
        let choices = offer::choices(&offer, &settings.codecs);
        let keys: Arc<[Option<StreamKey>]> =
            choices.iter().map(|choice| choice.as_ref().map(|choice| choice.key)).collect();
        if keys.iter().all(Option::is_none) {
            return Err(format!("it has no stream in one of the codecs {}", settings.codecs.join(", ")));
        }
        offer::reduce(&mut offer, &choices);
        let peer_events: EventSink = {
            let events = events.clone();
            Arc::new(move |event| events(SessionEvent::Peer(event)))
        };
        let peer = Peer::new(Side::Answers, ice, peer_events).map_err(|error| error.to_string())?;
        peer.webrtcbin().set_property("latency", settings.latency_ms);
        set_up_rtpbin(&peer);
        let mut session = Self {
            sender,
            id,
            peer,
            keys,
            streams: Vec::new(),
            phase: Phase::Connecting { since: Instant::now() },
            first_stream: None,
        };
        session.watch(settings.retransmission, events);
        if let Err(error) = session.peer.play() {
            session.end(|| ());
            return Err(error.to_string());
        }
        session.peer.accept_offer(offer);
        Ok(session)
    }

    /// Deals with an event.
    pub(super) fn handle(&mut self, event: SessionEvent) -> Action {
        match event {
            SessionEvent::Peer(event) => {
                let action = self.peer.handle(event);
                self.act(action)
            }
            SessionEvent::Stream(stream) => {
                // If the old SSRC sends again, its units must not mix with those of the new one.
                self.streams.iter().filter(|old| old.key == stream.key).for_each(Stream::close);
                self.streams.retain(|old| old.key != stream.key);
                self.streams.push(stream);
                Action::None
            }
            // Media can be decrypted only after DTLS has presented its certificate, so this is known by now.
            SessionEvent::First(..) if !self.peer.is_verified() => {
                Action::Over("media came from a peer whose certificate was not verified".to_owned())
            }
            SessionEvent::First(key, caps) => {
                self.first_stream.get_or_insert_with(Instant::now);
                Action::NeedOutput(key, caps)
            }
            SessionEvent::Failed(reason) => Action::Over(reason),
        }
    }

    /// Whether a message that names this session, or none, is about this one.
    pub(super) fn is_named(&self, id: Option<&SessionId>) -> bool {
        id.is_none_or(|id| self.id.as_ref().is_none_or(|own| own == id))
    }

    /// Gives the sender's candidate to webrtcbin.
    pub(super) fn add_candidate(&self, candidate: &IceCandidate) {
        self.peer.add_candidate(candidate);
    }

    /// From now on this stream goes to `output`.
    pub(super) fn attach(&mut self, output: &Arc<Output>) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.key == output.key()) {
            stream.attach(output.clone());
        }
    }

    /// Asks for a keyframe of this stream.
    pub(super) fn ask_for_keyframe(&self, key: StreamKey) {
        if let Some(stream) = self.streams.iter().find(|stream| stream.key == key) {
            stream.request_keyframe();
        }
    }

    /// Does what only the passing of time shows. Call it a few times a second.
    pub(super) fn handle_time(&mut self, now: Instant) -> Action {
        self.streams.iter().filter(|stream| stream.needs_keyframe()).for_each(Stream::request_keyframe);
        match self.phase {
            Phase::Connecting { since } if now.saturating_duration_since(since) > CONNECT_LIMIT => {
                Action::Over(
                    "no connection came about; are the two networks kept apart, and is a TURN server needed?"
                        .to_owned(),
                )
            }
            Phase::Connected if self.silence(now) > SILENCE_LIMIT => {
                Action::Over("the sender is silent".to_owned())
            }
            _ => Action::None,
        }
    }

    /// Whether all streams that will come have an output, as far as can be known.
    pub(super) fn is_complete(&self, now: Instant) -> bool {
        let Some(since) = self.first_stream else { return false };
        let here = self.streams.iter().filter(|stream| stream.is_attached()).count();
        here >= self.keys.iter().flatten().count() || now.saturating_duration_since(since) > STREAMS_LIMIT
    }

    /// Whether media could flow at some time.
    pub(super) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Asks webrtcbin for statistics, which come as [`Action::Stats`].
    pub(super) fn request_stats(&self) {
        self.peer.request_stats();
    }

    /// Ends the session. Returns at once; the teardown calls `done` on a thread of its own.
    pub(super) fn end(&self, done: impl FnOnce() + Send + 'static) {
        self.streams.iter().for_each(Stream::close);
        self.peer.end(done);
    }

    fn act(&mut self, action: PeerAction) -> Action {
        match action {
            PeerAction::None | PeerAction::Reports(_) => Action::None,
            // Candidates come after this: the answer is on its way before them.
            PeerAction::Describe(sdp) => Action::Send(Body::Answer { sdp }),
            PeerAction::LocalSet => {
                if let Some(session) = self.peer.rtp_session() {
                    session.set_property("rtcp-min-interval", RTCP_INTERVAL);
                }
                Action::None
            }
            PeerAction::Candidate(candidate) => Action::Send(Body::Candidate { candidate }),
            PeerAction::Connected if self.is_connected() => Action::None,
            PeerAction::Connected => {
                self.phase = Phase::Connected;
                Action::Connected
            }
            PeerAction::Stats(stats) => Action::Stats(stats),
            PeerAction::Over(reason) => Action::Over(reason),
        }
    }

    fn watch(&mut self, retransmission: bool, events: SessionEvents) {
        let webrtcbin = self.peer.webrtcbin();
        webrtcbin.connect("on-new-transceiver", false, move |values| {
            // Made while webrtcbin answers. Lines that are not received have no use for it.
            if let Some(Ok(transceiver)) = values.get(1).map(glib::Value::get::<WebRTCRTPTransceiver>) {
                transceiver.set_property("do-nack", retransmission);
            }
            None
        });
        let incoming =
            Incoming { pipeline: self.peer.pipeline().downgrade(), keys: self.keys.clone(), events };
        webrtcbin.connect_pad_added(move |_, pad| incoming.add(pad));
    }

    /// How long no packet came from the sender.
    fn silence(&self, now: Instant) -> Duration {
        let rtcp = self.peer.silence(now).map(|(silence, _)| silence);
        self.streams.iter().filter_map(Stream::silence).chain(rtcp).min().unwrap_or(Duration::ZERO)
    }
}

fn set_up_rtpbin(peer: &Peer) {
    let Some(rtpbin) = peer.rtpbin() else { return };
    // Each buffer carries the sender's time as a GstReferenceTimestampMeta (caps timestamp/x-ntp) once the sender's
    // RTCP has given it.
    if rtpbin.has_property("add-reference-timestamp-meta") {
        rtpbin.set_property("add-reference-timestamp-meta", true);
    }
    rtpbin.connect("new-jitterbuffer", false, |values| {
        if let Some(Ok(buffer)) = values.get(1).map(glib::Value::get::<gst::Element>) {
            set_up_jitter_buffer(&buffer);
        }
        None
    });
}

fn set_up_jitter_buffer(buffer: &gst::Element) {
    // With retransmission the jitter buffer estimates when the next packet is due, and counts it as lost when it is
    // later than the latency: a sender that pauses for 50 ms would lose frames. Only gaps are losses.
    if buffer.has_property("rtx-next-seqnum") {
        buffer.set_property("rtx-next-seqnum", false);
    }
    // Once two packets show where the stream begins, the first ones need not wait for the latency to pass.
    if buffer.has_property("faststart-min-packets") {
        buffer.set_property("faststart-min-packets", 2u32);
    }
}

/// What new pads of webrtcbin need.
struct Incoming {
    pipeline: glib::WeakRef<gst::Pipeline>,
    keys: Arc<[Option<StreamKey>]>,
    events: SessionEvents,
}

impl Incoming {
    /// Adds the stream of `pad`. Runs on the streaming thread, before the pad's first packet.
    fn add(&self, pad: &gst::Pad) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let Some((key, codec)) = self.recognize(pad) else {
            gst::warning!(
                CAT,
                obj = pad,
                "discarding a stream that comes although the answer did not accept it"
            );
            return discard(&pipeline, pad);
        };
        let events = self.events.clone();
        let first = move |caps| events(SessionEvent::First(key, caps));
        match Stream::build(&pipeline, pad, key, codec, first) {
            Ok(stream) => (self.events)(SessionEvent::Stream(stream)),
            Err(error) => {
                (self.events)(SessionEvent::Failed(format!("{} can't be received: {error}", codec.name)));
            }
        }
    }

    fn recognize(&self, pad: &gst::Pad) -> Option<(StreamKey, &'static Codec)> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let codec = Codec::of_encoding(caps.structure(0)?.get::<&str>("encoding-name").ok()?)?;
        let m_line = pad.property::<Option<WebRTCRTPTransceiver>>("transceiver")?.mlineindex();
        let key = self.keys.get(usize::try_from(m_line).ok()?).copied().flatten()?;
        (key.kind == codec.kind).then_some((key, codec))
    }
}

/// Links `pad` to a fakesink, because an unlinked pad would end the streams beside it.
fn discard(pipeline: &gst::Pipeline, pad: &gst::Pad) {
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build();
    let linked = sink.ok().and_then(|sink| {
        pipeline.add(&sink).ok()?;
        sink.sync_state_with_parent().ok()?;
        pad.link(&sink.static_pad("sink")?).ok()
    });
    if linked.is_none() {
        gst::warning!(CAT, obj = pad, "the stream can't be discarded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{self, MediaKind},
        peer::{certificate, hostile},
    };
    use gst_webrtc::WebRTCPeerConnectionState as Connection;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Stands for a certificate: the three bytes "abc", which is what the fingerprints of the offer are of.
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
        let settings = Settings {
            codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
            ..Settings::default()
        };
        let (sender, told) = mpsc::channel();
        let events: SessionEvents = Arc::new(move |event| drop(sender.send(event)));
        let peer = (ClientId::new("camera").expect("an id"), None);
        let session = Session::start(peer, &offer, &IceConfig::default(), &settings, events)?;
        Ok((session, told))
    }

    fn next_action(session: &mut Session, told: &mpsc::Receiver<SessionEvent>) -> Action {
        loop {
            match session.handle(told.recv_timeout(PATIENCE).expect("an event")) {
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
    fn the_answer_takes_what_is_wanted_and_candidates_follow_it_with_their_mid() {
        let (mut session, told) = start(&["h264"]);
        let Action::Send(Body::Answer { sdp }) = next_action(&mut session, &told) else {
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
        let Action::Send(Body::Candidate { candidate }) = next_action(&mut session, &told) else {
            panic!("no candidate after the answer")
        };
        assert_eq!((candidate.sdp_mid.as_deref(), candidate.sdp_m_line_index), (Some("a"), Some(0)));
        assert!(!session.is_connected() && !session.is_complete(Instant::now()));
        end(&session);
    }

    #[test]
    fn an_offer_of_many_codecs_in_one_line_is_answered_in_one_that_can_be_received() {
        // As browsers do; VP9 comes first.
        let offer = OFFER.replacen("SAVPF 96 97", "SAVPF 100 101 102 103 96 97", 1).replacen(
            "a=rtpmap:96 ",
            "a=rtpmap:100 VP9/90000\r\na=rtpmap:101 rtx/90000\r\na=fmtp:101 apt=100\r\na=rtpmap:102 VP8/90000\r\n\
             a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:96 ",
            1,
        );
        for (codecs, expected) in [(&["h264"][..], "96 H264"), (&["h264", "vp8"], "102 VP8")] {
            let (mut session, told) = start_with(offer.clone(), codecs).expect("a session");
            let Action::Send(Body::Answer { sdp }) = next_action(&mut session, &told) else {
                panic!("no answer")
            };
            let section = sdp.split("\nm=").nth(1).expect(&sdp);
            let formats: Vec<&str> =
                section.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")).collect();
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
    fn an_error_inside_ends_the_session_and_nothing_else() {
        let (mut session, told) = start(&["h264", "vp8"]);
        gst::element_error!(session.peer.webrtcbin(), gst::ResourceError::Failed, ("the handshake failed"));
        loop {
            if let Action::Over(words) = next_action(&mut session, &told) {
                assert!(words.contains("the handshake failed"), "{words}");
                break;
            }
        }
        assert!(session.peer.pipeline().bus().is_some_and(|bus| !bus.have_pending()));
        end(&session);
    }

    #[test]
    fn what_never_connects_or_falls_silent_is_over() {
        let (mut session, _told) = start(&["h264"]);
        let now = Instant::now();
        assert!(matches!(session.handle_time(now + Duration::from_secs(29)), Action::None));
        assert!(matches!(session.handle_time(now + Duration::from_secs(31)), Action::Over(_)));
        let connection = |state| SessionEvent::Peer(PeerEvent::Connection(state));
        assert!(
            matches!(session.handle(connection(Connection::Connected)), Action::Over(_)),
            "no certificate"
        );
        session.handle(SessionEvent::Peer(PeerEvent::Certificate(CERTIFICATE.to_owned())));
        assert!(matches!(session.handle(connection(Connection::Connected)), Action::Connected));
        assert!(matches!(session.handle(connection(Connection::Connected)), Action::None));
        assert!(matches!(session.handle_time(now + Duration::from_secs(14)), Action::None));
        assert!(matches!(session.handle_time(now + Duration::from_secs(40)), Action::Over(_)));
        assert!(matches!(session.handle(connection(Connection::Failed)), Action::Over(_)));
        end(&session);
    }

    #[test]
    fn an_odd_offer_is_answered_or_the_session_ends_with_a_reason() {
        let before = hostile::criticals();
        for (odd, offer) in hostile::variants(OFFER) {
            let Ok((mut session, told)) = start_with(offer, &["h264", "vp8"]) else { continue };
            let action = next_action(&mut session, &told);
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
}
