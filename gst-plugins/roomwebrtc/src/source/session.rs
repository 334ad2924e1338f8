//! One media session with one sender: a pipeline of its own, with a webrtcbin that answers and a [`Stream`] for each of
//! the sender's m-lines that is taken. Its errors and its teardown are nobody else's.
//!
//! Threading: owned by the control thread. webrtcbin's callbacks run on other threads, hold no reference to it, and do
//! nothing but send a [`Note`]; pads are given their streams on the streaming thread that announces them. The pipeline
//! runs on the system clock with base time 0, whatever clock the element has: an output converts.

use super::{
    offer::{self, StreamKey},
    output::Output,
    settings::Settings,
    stream::{LastTime, Stream},
};
use crate::{
    codec::Codec,
    log::CAT,
    peer::{
        certificate,
        connection::{self, IceConfig},
        relays,
    },
};
use gst::{glib, prelude::*};
use gst_webrtc::{
    WebRTCPeerConnectionState as Connection, WebRTCRTPTransceiver, WebRTCSDPType, WebRTCSessionDescription,
};
use room_signaling_client::{
    protocol::{ClientId, SessionId},
    wire::{Body, IceCandidate},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a session may take until media can flow: a browser's own limit for ICE is about the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// A sender that is silent for this long, RTCP included, is gone. Senders report at least every 7 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// How long the first stream waits for the others before the element says that there are no more.
const STREAMS_LIMIT: Duration = Duration::from_secs(2);
/// The least time between two RTCP packets of ours, in ns. webrtcbin's own pace leaves senders in the dark for up to
/// 7 s; feedback such as NACK doesn't wait for it (RFC 4585).
const RTCP_INTERVAL: u64 = 1_000_000_000;

/// What happens in a session.
pub(super) enum Note {
    /// The offer is in force.
    OfferSet,
    /// webrtcbin's answer.
    Answer(WebRTCSessionDescription),
    /// A local candidate: m-line and line.
    Candidate(u32, String),
    /// The connection moved on.
    Connection(Connection),
    /// Packets of a stream come.
    Stream(Stream),
    /// The first access unit of a stream, and its caps.
    First(StreamKey, gst::Caps),
    /// Statistics of webrtcbin.
    Stats(gst::Structure),
    /// It can't go on, in words for people.
    Failed(String),
}

/// Where a session's notes go.
pub(super) type Tell = Arc<dyn Fn(Note) + Send + Sync>;

/// What a [`Note`] asks of the session's owner.
pub(super) enum Effect {
    None,
    /// Say this to the sender.
    Say(Body),
    /// Media can flow.
    Connected,
    /// Make sure that this output is there, and give it to [`Session::attach`].
    NeedOutput(StreamKey, gst::Caps),
    /// Keep these statistics.
    Stats(gst::Structure),
    /// End the session: why.
    Over(String),
}

/// A session.
pub(super) struct Session {
    pub(super) peer: ClientId,
    pub(super) id: Option<SessionId>,
    pipeline: gst::Pipeline,
    webrtcbin: gst::Element,
    tell: Tell,
    offer: String,
    answer: String,
    keys: Arc<[Option<StreamKey>]>,
    streams: Vec<Stream>,
    phase: Phase,
    heard: Arc<LastTime>,
    retransmission: bool,
    first_stream: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { since: Instant },
    Connected,
}

impl Session {
    /// Begins to answer `offer`. Words for the log where that can't be.
    pub(super) fn start(
        (peer, id): (ClientId, Option<SessionId>),
        offer: String,
        ice: &IceConfig,
        settings: &Settings,
        tell: Tell,
    ) -> Result<Self, String> {
        let keys: Arc<[Option<StreamKey>]> = offer::streams(&offer, &settings.codecs).into();
        let offer = offer::without_refused(&offer, &keys);
        let description = connection::parse(WebRTCSDPType::Offer, &offer)?;
        if keys.iter().all(Option::is_none) {
            return Err(format!("there is no stream in one of the codecs {}", settings.codecs.join(", ")));
        }
        let pipeline = gst::Pipeline::new();
        let clock = gst::SystemClock::obtain();
        pipeline.use_clock(Some(&clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(gst::ClockTime::ZERO);
        contain_messages(&pipeline, &tell);
        let webrtcbin = connection::webrtcbin(ice).map_err(|error| error.to_string())?;
        webrtcbin.set_property("latency", settings.latency_ms);
        set_up_rtpbin(&webrtcbin);
        pipeline.add(&webrtcbin).map_err(|error| error.to_string())?;
        let session = Self {
            peer,
            id,
            pipeline,
            webrtcbin,
            tell,
            offer,
            answer: String::new(),
            keys,
            streams: Vec::new(),
            phase: Phase::Connecting { since: Instant::now() },
            heard: Arc::default(),
            retransmission: settings.retransmission,
            first_stream: None,
        };
        session.watch(&clock);
        if session.pipeline.set_state(gst::State::Playing).is_err() {
            session.end(|| ());
            return Err("the receiving pipeline does not start".to_owned());
        }
        let tell = session.tell.clone();
        connection::set_remote(&session.webrtcbin, &description, move |set| match set {
            Ok(()) => tell(Note::OfferSet),
            Err(words) => tell(Note::Failed(words)),
        });
        Ok(session)
    }

    /// Follows what happened.
    pub(super) fn handle(&mut self, note: Note) -> Effect {
        match note {
            Note::OfferSet => {
                let tell = self.tell.clone();
                connection::create_description(&self.webrtcbin, WebRTCSDPType::Answer, move |answer| {
                    match answer {
                        Ok(answer) => tell(Note::Answer(answer)),
                        Err(words) => tell(Note::Failed(words)),
                    }
                });
                Effect::None
            }
            Note::Answer(answer) => self.say_answer(&answer),
            // An empty one, the end of candidates, is nothing to others.
            Note::Candidate(_, line) if line.is_empty() => Effect::None,
            Note::Candidate(m_line, candidate) => Effect::Say(Body::Candidate {
                candidate: IceCandidate {
                    candidate,
                    sdp_mid: connection::mid_of(&self.answer, m_line),
                    sdp_m_line_index: Some(m_line),
                },
            }),
            Note::Connection(connection) => self.connection_changed(connection),
            Note::Stream(stream) => {
                self.streams.retain(|old| old.key != stream.key);
                self.streams.push(stream);
                Effect::None
            }
            Note::First(key, caps) => {
                self.first_stream.get_or_insert_with(Instant::now);
                Effect::NeedOutput(key, caps)
            }
            Note::Stats(stats) => Effect::Stats(stats),
            Note::Failed(words) => Effect::Over(words),
        }
    }

    /// Whether something that names this session, or none, is about this one.
    pub(super) fn is_named(&self, id: Option<&SessionId>) -> bool {
        id.is_none_or(|id| self.id.as_ref().is_none_or(|own| own == id))
    }

    /// A candidate of the sender's. webrtcbin keeps those that come too early.
    pub(super) fn add_candidate(&self, candidate: &IceCandidate) {
        connection::add_candidate(&self.webrtcbin, candidate, &self.offer);
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
            stream.ask_for_keyframe();
        }
    }

    /// Looks after what only time shows. To be called a few times a second.
    pub(super) fn handle_time(&mut self, now: Instant) -> Effect {
        self.streams.iter().filter(|stream| stream.needs_keyframe()).for_each(Stream::ask_for_keyframe);
        match self.phase {
            Phase::Connecting { since } if now.saturating_duration_since(since) > CONNECT_LIMIT => {
                Effect::Over(
                    "no connection came about; are the two networks kept apart, and is a TURN server needed?"
                        .to_owned(),
                )
            }
            Phase::Connected if self.silence() > SILENCE_LIMIT => {
                Effect::Over("the sender is silent".to_owned())
            }
            _ => Effect::None,
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

    /// Asks webrtcbin for statistics, which come as [`Note::Stats`].
    pub(super) fn request_stats(&self) {
        let tell = self.tell.clone();
        connection::request_stats(&self.webrtcbin, move |stats| tell(Note::Stats(stats)));
    }

    /// Ends the session. Returns at once; the work is done on a thread of its own, which then calls `done`.
    pub(super) fn end(&self, done: impl FnOnce() + Send + 'static) {
        self.streams.iter().for_each(Stream::close);
        let (pipeline, webrtcbin) = (self.pipeline.clone(), self.webrtcbin.clone());
        let work = move || {
            // To NULL never fails.
            let _ = pipeline.set_state(gst::State::Null);
            relays::release(&webrtcbin);
            drop((pipeline, webrtcbin));
            done();
        };
        if let Err(error) = std::thread::Builder::new().name("room-session-end".into()).spawn(work) {
            gst::error!(CAT, "a session stays, as there is no thread to end it: {error}");
        }
    }

    fn watch(&self, clock: &gst::Clock) {
        let tell = self.tell.clone();
        self.webrtcbin.connect("on-ice-candidate", false, move |values| {
            let m_line = values.get(1).and_then(|value| value.get::<u32>().ok());
            let line = values.get(2).and_then(|value| value.get::<String>().ok());
            if let (Some(m_line), Some(line)) = (m_line, line) {
                tell(Note::Candidate(m_line, line));
            }
            None
        });
        let tell = self.tell.clone();
        self.webrtcbin.connect_notify(Some("connection-state"), move |webrtcbin, _| {
            tell(Note::Connection(webrtcbin.property("connection-state")));
        });
        let retransmission = self.retransmission;
        self.webrtcbin.connect("on-new-transceiver", false, move |values| {
            // Made while webrtcbin answers; what is refused makes no difference.
            if let Some(Ok(transceiver)) = values.get(1).map(glib::Value::get::<WebRTCRTPTransceiver>) {
                transceiver.set_property("do-nack", retransmission);
            }
            None
        });
        let incoming = Incoming {
            pipeline: self.pipeline.downgrade(),
            keys: self.keys.clone(),
            clock: clock.clone(),
            heard: self.heard.clone(),
            tell: self.tell.clone(),
        };
        self.webrtcbin.connect_pad_added(move |_, pad| incoming.take(pad));
    }

    fn say_answer(&mut self, answer: &WebRTCSessionDescription) -> Effect {
        let Ok(sdp) = answer.sdp().as_text() else {
            return Effect::Over("webrtcbin's answer can't be written".to_owned());
        };
        self.answer = certificate::with_fingerprint(&sdp);
        gst::trace!(CAT, "answering {}:\n{}\nwith\n{}", self.peer, self.offer, self.answer);
        // Candidates come from here on; the answer is on its way before them.
        let tell = self.tell.clone();
        connection::set_local(&self.webrtcbin, answer, move |set| {
            if let Err(words) = set {
                tell(Note::Failed(words));
            }
        });
        Effect::Say(Body::Answer { sdp: self.answer.clone() })
    }

    fn connection_changed(&mut self, connection: Connection) -> Effect {
        match connection {
            Connection::Connected if !self.is_connected() => {
                self.phase = Phase::Connected;
                self.heard.now();
                self.pace_rtcp();
                Effect::Connected
            }
            Connection::Failed => Effect::Over("the connection failed".to_owned()),
            Connection::Closed => Effect::Over("the sender closed the connection".to_owned()),
            // `disconnected` may pass; if not, silence tells.
            _ => Effect::None,
        }
    }

    /// Makes reports frequent, and takes note of the sender's.
    fn pace_rtcp(&self) {
        let session = rtpbin_of(&self.webrtcbin)
            .and_then(|rtpbin| rtpbin.emit_by_name::<Option<glib::Object>>("get-internal-session", &[&0u32]));
        let Some(session) = session else { return };
        session.set_property("rtcp-min-interval", RTCP_INTERVAL);
        let heard = self.heard.clone();
        session.connect("on-receiving-rtcp", false, move |_| {
            heard.now();
            None
        });
    }

    /// How long nothing was heard from the sender.
    fn silence(&self) -> Duration {
        self.streams
            .iter()
            .filter_map(Stream::silence)
            .chain(self.heard.age())
            .min()
            .unwrap_or(Duration::ZERO)
    }
}

fn set_up_rtpbin(webrtcbin: &gst::Element) {
    let Some(rtpbin) = rtpbin_of(webrtcbin) else { return };
    // Each buffer carries the sender's time as a GstReferenceTimestampMeta (caps timestamp/x-ntp) once the sender's
    // RTCP has told it.
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
    // With retransmission it guesses when the next packet should come, and counts it as lost when it is later than the
    // latency: a sender that hesitates for 50 ms would lose frames. Only gaps are losses.
    if buffer.has_property("rtx-next-seqnum") {
        buffer.set_property("rtx-next-seqnum", false);
    }
    // The first packets needn't wait for the latency to pass once two of them show where the stream begins.
    if buffer.has_property("faststart-min-packets") {
        buffer.set_property("faststart-min-packets", 2u32);
    }
}

fn rtpbin_of(webrtcbin: &gst::Element) -> Option<gst::Element> {
    webrtcbin.downcast_ref::<gst::Bin>()?.by_name("rtpbin")
}

/// What new pads of webrtcbin need.
struct Incoming {
    pipeline: glib::WeakRef<gst::Pipeline>,
    keys: Arc<[Option<StreamKey>]>,
    clock: gst::Clock,
    heard: Arc<LastTime>,
    tell: Tell,
}

impl Incoming {
    /// Gives `pad` its stream. Runs on the streaming thread, before the pad's first packet.
    fn take(&self, pad: &gst::Pad) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        self.heard.now();
        let Some((key, codec)) = self.recognize(pad) else {
            gst::warning!(
                CAT,
                obj = pad,
                "a stream that was not taken comes nevertheless, and is thrown away"
            );
            return discard(&pipeline, pad);
        };
        let tell = self.tell.clone();
        let first = move |caps| tell(Note::First(key, caps));
        match Stream::build(&pipeline, pad, key, codec, &self.clock, first) {
            Ok(stream) => (self.tell)(Note::Stream(stream)),
            Err(error) => (self.tell)(Note::Failed(format!("{} can't be received: {error}", codec.name))),
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

/// An unlinked pad would end the stream beside it.
fn discard(pipeline: &gst::Pipeline, pad: &gst::Pad) {
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build();
    let linked = sink.ok().and_then(|sink| {
        pipeline.add(&sink).ok()?;
        sink.sync_state_with_parent().ok()?;
        pad.link(&sink.static_pad("sink")?).ok()
    });
    if linked.is_none() {
        gst::warning!(CAT, obj = pad, "and can't be thrown away");
    }
}

/// A failed DTLS handshake posts an error on the bus of the pipeline that it is in: here it stays.
fn contain_messages(pipeline: &gst::Pipeline, tell: &Tell) {
    let Some(bus) = pipeline.bus() else { return };
    let tell = tell.clone();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
            gst::debug!(CAT, "{source}: {} ({})", error.error(), error.debug().unwrap_or_default());
            tell(Note::Failed(format!("{source}: {}", error.error())));
        }
        gst::BusSyncReply::Drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(20);

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a b\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=setup:actpass\r\na=sendonly\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=rtcp-mux\r\n\
        a=fingerprint:sha-256 \
        00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
        a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
        a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 98\r\nc=IN IP4 0.0.0.0\r\na=mid:b\r\na=setup:actpass\r\na=sendonly\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=rtcp-mux\r\n\
        a=fingerprint:sha-256 \
        00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
        a=rtpmap:98 VP8/90000\r\n";

    fn start(codecs: &[&str]) -> (Session, mpsc::Receiver<Note>) {
        start_with(OFFER.to_owned(), codecs).expect("a session")
    }

    fn start_with(offer: String, codecs: &[&str]) -> Result<(Session, mpsc::Receiver<Note>), String> {
        gst::init().expect("GStreamer");
        let settings = Settings {
            codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
            ..Settings::default()
        };
        let (notes, told) = mpsc::channel();
        let tell: Tell = Arc::new(move |note| drop(notes.send(note)));
        let peer = (ClientId::new("camera").expect("an id"), None);
        let session = Session::start(peer, offer, &IceConfig::default(), &settings, tell)?;
        Ok((session, told))
    }

    fn next_effect(session: &mut Session, told: &mpsc::Receiver<Note>) -> Effect {
        loop {
            match session.handle(told.recv_timeout(PATIENCE).expect("a note")) {
                Effect::None => {}
                effect => return effect,
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
        let Effect::Say(Body::Answer { sdp }) = next_effect(&mut session, &told) else {
            panic!("no answer first")
        };
        let sections: Vec<&str> = sdp.split("\nm=").skip(1).collect();
        let [first, second] = sections.as_slice() else { panic!("{sdp}") };
        assert!(first.contains("a=recvonly") && first.contains("a=rtcp-fb:96 nack\r\n"), "{sdp}");
        assert!(second.contains("a=inactive") || second.starts_with("video 0 "), "{sdp}");
        assert_eq!(certificate::with_fingerprint(&sdp), sdp, "another certificate's fingerprint");
        let Effect::Say(Body::Candidate { candidate }) = next_effect(&mut session, &told) else {
            panic!("no candidate after the answer")
        };
        assert_eq!((candidate.sdp_mid.as_deref(), candidate.sdp_m_line_index), (Some("a"), Some(0)));
        assert!(!session.is_connected() && !session.is_complete(Instant::now()));
        end(&session);
    }

    #[test]
    fn an_error_inside_ends_the_session_and_nothing_else() {
        let (mut session, told) = start(&["h264", "vp8"]);
        gst::element_error!(session.webrtcbin, gst::ResourceError::Failed, ("the handshake failed"));
        loop {
            if let Effect::Over(words) = next_effect(&mut session, &told) {
                assert!(words.contains("the handshake failed"), "{words}");
                break;
            }
        }
        assert!(session.pipeline.bus().is_some_and(|bus| !bus.have_pending()));
        end(&session);
    }

    #[test]
    fn what_never_connects_or_falls_silent_is_over() {
        let (mut session, _told) = start(&["h264"]);
        let now = Instant::now();
        assert!(matches!(session.handle_time(now + Duration::from_secs(29)), Effect::None));
        assert!(matches!(session.handle_time(now + Duration::from_secs(31)), Effect::Over(_)));
        assert!(matches!(session.handle(Note::Connection(Connection::Connected)), Effect::Connected));
        assert!(matches!(session.handle(Note::Connection(Connection::Connected)), Effect::None));
        assert!(matches!(session.handle_time(now + Duration::from_secs(31)), Effect::None));
        assert!(matches!(session.handle(Note::Connection(Connection::Failed)), Effect::Over(_)));
        end(&session);
    }

    #[test]
    fn an_offer_that_lacks_a_line_is_answered_or_refused() {
        let lines: Vec<&str> = OFFER.split_inclusive("\r\n").collect();
        for missing in 0..lines.len() {
            let offer: String =
                lines.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| *line).collect();
            let Ok((mut session, told)) = start_with(offer, &["h264", "vp8"]) else { continue };
            let effect = next_effect(&mut session, &told);
            assert!(
                matches!(effect, Effect::Say(Body::Answer { .. }) | Effect::Over(_)),
                "without {:?}",
                lines.get(missing)
            );
            end(&session);
        }
    }
}
