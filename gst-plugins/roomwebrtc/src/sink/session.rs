//! The media session with one receiver: a [`Peer`] with a payloader for each stream, and the subscribers that feed them.
//!
//! Threading: the conductor's thread makes and drives a session. Callbacks run on other threads; each only sends a
//! [`SessionEvent`] there.

mod flow;
mod pacer;
mod rate;
mod retransmission;

use super::fanout::{Fanout, Subscriber};
use crate::{
    codec::Codec,
    log::CAT,
    peer::{EventSink, IceConfig, Peer, PeerAction, PeerEvent, ReportBlock, Side, local_addresses},
    sdp::Line,
    stream_key::StreamKey,
};
use flow::Flow;
use gst::{glib, prelude::*};
use pacer::Pacer;
use rate::{Change, Rate, Sent};
use retransmission::RetransmissionLimiter;
use room_signaling_client::{protocol::SessionId, wire::IceCandidate};
use std::{
    cell::Cell,
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How many streams a session can have: each needs two payload types.
pub(crate) const MAX_STREAMS: usize = 30;
/// The largest RTP packet in bytes. SRTP, retransmission, UDP and IPv6 add 70 bytes, TURN another 4, which leaves room
/// for a tunnel within the least MTU of IPv6 (1280).
const MTU: u32 = 1200;
/// How long an overloaded link is given to drain its queue before the next IDR.
const DRAINING: Duration = Duration::from_millis(150);
/// A stream of which the receiver reports no packet for this long, although it reports, does not reach it.
const STALLED: Duration = Duration::from_secs(5);
/// How long RTCP is missing after an address of this machine has gone before the session is given up.
const MOVED: Duration = Duration::from_secs(3);

/// What happens in a session, in the order in which it happens.
pub(crate) enum SessionEvent {
    /// The connection to the receiver reports; [`Session::handle`] deals with it.
    Peer(PeerEvent),
    /// The receiver needs a keyframe of this stream.
    KeyframeRequested(StreamKey),
    /// A message came over the data channel: its label and its bytes.
    Data(String, glib::Bytes),
}

/// Where the events of a session go.
pub(crate) type SessionEvents = Arc<dyn Fn(SessionEvent) + Send + Sync>;

/// A stream as a session sees it.
#[derive(Clone)]
pub(crate) struct StreamInfo {
    pub(crate) key: StreamKey,
    pub(crate) codec: &'static Codec,
    pub(crate) fanout: Arc<Fanout>,
}

/// What every session is made with.
pub(crate) struct SessionConfig<'a> {
    pub(crate) id: SessionId,
    pub(crate) streams: &'a [StreamInfo],
    pub(crate) ice: &'a IceConfig,
    pub(crate) retransmission: bool,
    pub(crate) data_channel: bool,
}

/// What an answer means for a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AnswerOutcome {
    /// The session connects. Streams that the receiver rejected are not sent.
    Accepted,
    /// The receiver rejected these streams, the first m-line among them. That line carries the transport of all
    /// (RFC 8843), and webrtcbin can't move it to another one: a session without these streams is needed.
    NeedsOfferWithout(Vec<StreamKey>),
}

/// A stream of this session.
struct OutgoingStream {
    key: StreamKey,
    fanout: Arc<Fanout>,
    subscriber: Arc<Subscriber>,
    /// Whether the receiver's answer accepts it.
    accepted: bool,
    ssrc: u32,
    pacer: Arc<Pacer>,
    rate: Rate,
}

/// One media session with one receiver.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    peer: Peer,
    /// One for each m-line, in their order.
    streams: Vec<OutgoingStream>,
    retransmission: RetransmissionLimiter,
    channel: Option<gst_webrtc::WebRTCDataChannel>,
    flow: Cell<Flow>,
    /// The addresses of this machine at the start.
    addresses: BTreeSet<IpAddr>,
}

impl Session {
    /// Builds the pipeline and starts it.
    pub(crate) fn start(config: SessionConfig<'_>, events: &SessionEvents) -> Result<Self, glib::BoolError> {
        let peer_events: EventSink = {
            let events = events.clone();
            Arc::new(move |event| events(SessionEvent::Peer(event)))
        };
        let peer = Peer::new(Side::Offers, config.ice, peer_events)?;
        let mut session = Self {
            id: config.id,
            retransmission: RetransmissionLimiter::install(peer.webrtcbin()),
            peer,
            streams: Vec::new(),
            channel: None,
            flow: Cell::default(),
            addresses: own_addresses(),
        };
        let started = session
            .add_streams(config.streams, config.retransmission, events)
            .and_then(|()| session.peer.play());
        if let Err(error) = started {
            session.end();
            return Err(error);
        }
        if config.data_channel {
            session.channel = open_channel(session.peer.webrtcbin(), events);
        }
        Ok(session)
    }

    /// Asks webrtcbin for an offer, which comes as [`PeerAction::Describe`].
    pub(crate) fn make_offer(&self) {
        self.peer.make_offer();
    }

    /// Deals with an event of the connection.
    pub(crate) fn handle(&mut self, event: PeerEvent) -> PeerAction {
        match self.peer.handle(event) {
            PeerAction::Reports(reports) => {
                self.adapt(Instant::now(), &reports);
                PeerAction::None
            }
            action => action,
        }
    }

    /// Puts the receiver's answer in force. The error says why the session can't go on.
    pub(crate) fn accept_answer(&mut self, text: &str) -> Result<AnswerOutcome, String> {
        let answer = self.peer.read_answer(text)?;
        for (stream, line) in self.streams.iter_mut().zip(answer.lines()) {
            stream.accepted = line.receives();
        }
        if !self.streams.iter().any(|stream| stream.accepted) {
            return Err("the receiver accepts none of the offered streams".into());
        }
        if answer.lines().next().is_some_and(Line::is_rejected) {
            let rejected = self.streams.iter().filter(|stream| !stream.accepted);
            return Ok(AnswerOutcome::NeedsOfferWithout(rejected.map(|stream| stream.key).collect()));
        }
        self.peer.accept_answer(answer);
        Ok(AnswerOutcome::Accepted)
    }

    /// Gives the receiver's candidate to webrtcbin.
    pub(crate) fn add_candidate(&self, candidate: &IceCandidate) {
        self.peer.add_candidate(candidate);
    }

    /// Opens the gates of the accepted streams: media flows from the next IDR on.
    pub(crate) fn open_gates(&self) {
        self.streams.iter().filter(|stream| stream.accepted).for_each(|stream| stream.subscriber.connect());
    }

    /// Whether the receiver can't be reached any more: its RTCP has been silent for too long although media flows, or the
    /// path to it is gone. Call it a few times a second.
    pub(crate) fn is_silent(&self, now: Instant, timeout: Duration) -> bool {
        let mut flow = self.flow.get();
        flow.observe(now, self.subscribers().map(|subscriber| subscriber.counts().0).sum());
        self.flow.set(flow);
        let flowing = flow.duration(now);
        let silent_for = |limit: Duration, intervals: u32| {
            self.peer.silence(now).zip(flowing).is_some_and(|((silence, interval), flowing)| {
                silence.min(flowing) > limit.max(interval.saturating_mul(intervals))
            })
        };
        // libnice goes on sending from an address that is gone, and to one that the receiver has left; a new session
        // gathers anew. RTCP may arrive all the same, so the sequence numbers that it reports are what counts.
        let moved = || silent_for(MOVED, 2) && !self.addresses.is_subset(&own_addresses());
        silent_for(timeout, 3)
            || self.streams.iter().any(|stream| stream.rate.is_stalled(now, STALLED))
            || moved()
    }

    /// How long ago the receiver's last RTCP packet came.
    pub(crate) fn report_age(&self, now: Instant) -> Option<Duration> {
        self.peer.silence(now).map(|(silence, _)| silence)
    }

    /// When the gate of a stream opened last.
    pub(crate) fn gate_opened(&self, key: StreamKey) -> Option<Instant> {
        self.streams.iter().find(|stream| stream.key == key)?.subscriber.opened()
    }

    /// Whether anything waits to be sent.
    pub(crate) fn is_queued(&self) -> bool {
        self.subscribers().any(|subscriber| !subscriber.level().is_zero())
    }

    /// The subscriber of each stream.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.streams.iter().map(|stream| &*stream.subscriber)
    }

    /// The webrtcbin, for the application.
    pub(crate) fn webrtcbin(&self) -> &gst::Element {
        self.peer.webrtcbin()
    }

    /// Asks webrtcbin for statistics, which come as [`PeerAction::Stats`].
    pub(crate) fn request_stats(&self) {
        self.peer.request_stats();
    }

    /// Sends bytes over the data channel. The error says why there is none to send over.
    pub(crate) fn send_data(&self, bytes: &glib::Bytes) -> Result<(), String> {
        let channel =
            self.channel.as_ref().ok_or("the data channel is off: set data-channel=true before starting")?;
        // webrtcbin 1.22 crashes on data for a channel whose association is not up yet.
        if channel.ready_state() != gst_webrtc::WebRTCDataChannelState::Open {
            return Err("the data channel is not open yet".into());
        }
        channel.send_data_full(Some(bytes)).map_err(|error| error.to_string())
    }

    /// Ends the session. Returns at once; the returned handle waits for the teardown.
    pub(crate) fn end(&self) -> Option<JoinHandle<()>> {
        for stream in &self.streams {
            stream.fanout.remove(&stream.subscriber);
            stream.pacer.stop();
        }
        self.peer.end(|| ())
    }

    /// Follows what the receiver reports: sends no faster than its link carries, and repeats no more than helps.
    fn adapt(&mut self, now: Instant, reports: &[ReportBlock]) {
        for stream in &mut self.streams {
            let Some(report) = reports.iter().find(|report| report.ssrc == stream.ssrc) else { continue };
            let sent = Sent { bytes: stream.pacer.bytes(), offered: stream.subscriber.offered() };
            let Some(change) = stream.rate.report(now, *report, sent) else { continue };
            gst::debug!(CAT, "{} of session {}: {change:?}", stream.key, self.id);
            match change {
                Change::Overload(limit) => {
                    self.retransmission.hold(stream.ssrc);
                    stream.pacer.set_limit(Some(limit), DRAINING);
                    stream.subscriber.restart();
                }
                Change::Limit(limit) => stream.pacer.set_limit(Some(limit), Duration::ZERO),
                Change::Free => stream.pacer.set_limit(None, Duration::ZERO),
            }
        }
    }

    fn add_streams(
        &mut self,
        streams: &[StreamInfo],
        retransmission: bool,
        events: &SessionEvents,
    ) -> Result<(), glib::BoolError> {
        for (index, stream) in streams.iter().enumerate() {
            let ssrc = random_ssrc();
            let (source, payloader) = self.add_stream(index, stream, ssrc, retransmission, events)?;
            let subscriber = Arc::new(Subscriber::new(source.clone()));
            let pacer = Pacer::install(&source_pad(&source)?, &payloader, &subscriber);
            let (key, fanout) = (stream.key, stream.fanout.clone());
            fanout.add(subscriber.clone());
            let rate = Rate::default();
            self.streams.push(OutgoingStream { key, fanout, subscriber, accepted: false, ssrc, pacer, rate });
        }
        Ok(())
    }

    fn add_stream(
        &self,
        index: usize,
        stream: &StreamInfo,
        ssrc: u32,
        retransmission: bool,
        events: &SessionEvents,
    ) -> Result<(gst_app::AppSrc, gst::Pad), glib::BoolError> {
        let codec = stream.codec;
        let no_type = || glib::bool_error!("a receiver can have {MAX_STREAMS} streams at most");
        let payload_type = payload_type(index).ok_or_else(no_type)?;
        let source = gst_app::AppSrc::builder()
            .caps(&codec.unit_caps())
            .format(gst::Format::Time)
            .is_live(true)
            .max_bytes(0)
            .build();
        let payloader = make_payloader(codec, payload_type, ssrc)?;
        self.peer.pipeline().add_many([source.upcast_ref(), &payloader])?;
        source.link(&payloader)?;
        watch_keyframe_requests(&source, stream.key, events);

        let sink = self
            .peer
            .webrtcbin()
            .request_pad_simple("sink_%u")
            .ok_or_else(|| glib::bool_error!("webrtcbin gives no pad"))?;
        let transceiver = sink.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver");
        transceiver.set_property("direction", gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("do-nack", retransmission && codec.retransmission);
        transceiver.set_property("codec-preferences", codec.preferences(payload_type, ssrc));
        let output = source_pad(&payloader)?;
        output.link(&sink).map_err(|error| glib::bool_error!("payloader to webrtcbin: {error}"))?;
        Ok((source, output))
    }
}

fn source_pad(element: &impl IsA<gst::Element>) -> Result<gst::Pad, glib::BoolError> {
    element.static_pad("src").ok_or_else(|| glib::bool_error!("an element has no source pad"))
}

/// The payload type of a stream. The one after it is for RTX, to which webrtcbin assigns it. Sixteen pairs fit into the
/// dynamic range (RFC 3551: 96 to 127), the others into 35 to 63, which RTCP multiplexing leaves free (RFC 5761).
fn payload_type(index: usize) -> Option<u8> {
    let index = u8::try_from(index).ok()?;
    match index {
        0..16 => Some(96 + 2 * index),
        16..30 => Some(35 + 2 * (index - 16)),
        _ => None,
    }
}

fn make_payloader(codec: &Codec, payload_type: u8, ssrc: u32) -> Result<gst::Element, glib::BoolError> {
    let payloader =
        codec.payloader.as_ref().ok_or_else(|| glib::bool_error!("{} cannot be sent", codec.encoding))?;
    let element = gst::ElementFactory::make(payloader.factory)
        .property("pt", u32::from(payload_type))
        .property("ssrc", ssrc)
        .property("mtu", MTU)
        .build()?;
    for (name, value) in payloader.properties {
        element.set_property_from_str(name, value);
    }
    Ok(element)
}

/// Forwards the receiver's PLI and FIR, which come up from webrtcbin as events.
fn watch_keyframe_requests(source: &gst_app::AppSrc, key: StreamKey, events: &SessionEvents) {
    let Some(pad) = source.static_pad("src") else { return };
    let events = events.clone();
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if info.event().is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event)) {
            events(SessionEvent::KeyframeRequested(key));
        }
        gst::PadProbeReturn::Ok
    });
}

fn open_channel(webrtcbin: &gst::Element, events: &SessionEvents) -> Option<gst_webrtc::WebRTCDataChannel> {
    let channel = webrtcbin.emit_by_name::<Option<gst_webrtc::WebRTCDataChannel>>(
        "create-data-channel",
        &[&"room", &None::<gst::Structure>],
    )?;
    let bytes = events.clone();
    channel.connect_on_message_data(move |channel, data| {
        if let Some(data) = data {
            bytes(SessionEvent::Data(label(channel), data.clone()));
        }
    });
    let text = events.clone();
    channel.connect_on_message_string(move |channel, data| {
        if let Some(data) = data {
            text(SessionEvent::Data(label(channel), glib::Bytes::from(data.as_bytes())));
        }
    });
    Some(channel)
}

fn label(channel: &gst_webrtc::WebRTCDataChannel) -> String {
    channel.label().map(|label| label.to_string()).unwrap_or_default()
}

fn own_addresses() -> BTreeSet<IpAddr> {
    local_addresses().into_iter().map(|(address, _)| address).collect()
}

/// SSRCs are random (RFC 3550, section 8.1); 0 would mean none to webrtcbin.
fn random_ssrc() -> u32 {
    glib::random_int().max(1)
}

#[cfg(test)]
mod tests;
