//! The media session with one receiver: a [`Peer`], and for each stream a [`Subscriber`] and a payloader.
//!
//! Threading: only the conductor's thread calls a session. Callbacks run on other threads, and each only sends a
//! [`SessionEvent`] to the conductor. The files in `session/` adapt the streams to the receiver's link.

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

/// The maximum number of streams in a session, because each needs two payload types.
pub(crate) const MAX_STREAMS: usize = 30;
/// The maximum size of an RTP packet in bytes. SRTP, RTX, UDP and IPv6 add 70 bytes and TURN adds 4, so a packet also fits
/// into a tunnel with the minimum MTU of IPv6 (1280).
const MTU: u32 = 1200;
/// How long sending pauses on an overloaded link, so that its queue drains before the next IDR picture.
const DRAINING: Duration = Duration::from_millis(150);
/// A stream does not reach the receiver if the receiver's reports have counted no packet of it for this long.
const STALLED: Duration = Duration::from_secs(5);
/// How long a session survives without RTCP after an address of this machine has disappeared.
const MOVED: Duration = Duration::from_secs(3);

/// The events of a session, in order.
pub(crate) enum SessionEvent {
    /// An event of the connection, for [`Session::handle`].
    Peer(PeerEvent),
    /// The receiver requested a keyframe of this stream (PLI or FIR).
    KeyframeRequested(StreamKey),
    /// A message on the data channel: label and bytes.
    Data(String, glib::Bytes),
}

/// Receives the events of a session. Never blocks.
pub(crate) type SessionEvents = Arc<dyn Fn(SessionEvent) + Send + Sync>;

/// A stream that can be offered.
#[derive(Clone)]
pub(crate) struct StreamInfo {
    pub(crate) key: StreamKey,
    pub(crate) codec: &'static Codec,
    pub(crate) fanout: Arc<Fanout>,
}

/// The parameters of a session.
pub(crate) struct SessionConfig<'a> {
    pub(crate) id: SessionId,
    pub(crate) streams: &'a [StreamInfo],
    pub(crate) ice: &'a IceConfig,
    pub(crate) retransmission: bool,
    pub(crate) data_channel: bool,
}

/// The effect of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AnswerOutcome {
    /// The session is connecting. Streams that the receiver rejected are not sent.
    Accepted,
    /// The receiver rejected these streams, including that of the first m-line, whose transport all streams share
    /// (RFC 8843). Because webrtcbin cannot move the transport to another m-line, a session without these streams is needed.
    NeedsOfferWithout(Vec<StreamKey>),
}

/// A stream of a session.
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
    /// In the order of the m-lines.
    streams: Vec<OutgoingStream>,
    retransmission: RetransmissionLimiter,
    channel: Option<gst_webrtc::WebRTCDataChannel>,
    flow: Cell<Flow>,
    /// The addresses of this machine at the start of the session.
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

    /// Requests an offer from webrtcbin, which arrives as [`PeerAction::Describe`].
    pub(crate) fn make_offer(&self) {
        self.peer.make_offer();
    }

    /// Handles an event of the connection.
    pub(crate) fn handle(&mut self, event: PeerEvent) -> PeerAction {
        match self.peer.handle(event) {
            PeerAction::Reports(reports) => {
                self.adapt(Instant::now(), &reports);
                PeerAction::None
            }
            action => action,
        }
    }

    /// Sets the receiver's answer as the remote description. The error is the reason why the session must end.
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

    /// Passes a candidate of the receiver to webrtcbin.
    pub(crate) fn add_candidate(&self, candidate: &IceCandidate) {
        self.peer.add_candidate(candidate);
    }

    /// Lets the accepted streams flow, from the next IDR picture on.
    pub(crate) fn open_gates(&self) {
        self.streams.iter().filter(|stream| stream.accepted).for_each(|stream| stream.subscriber.connect());
    }

    /// Whether the receiver is unreachable: there was no RTCP for too long although media flows, or the path is gone. Must be
    /// called a few times per second.
    pub(crate) fn is_silent(&self, now: Instant, timeout: Duration) -> bool {
        let mut flow = self.flow.get();
        flow.observe(now, self.subscribers().map(|subscriber| subscriber.counts().sent).sum());
        self.flow.set(flow);
        let flowing = flow.duration(now);
        let silent_for = |limit: Duration, intervals: u32| {
            self.peer.silence(now).zip(flowing).is_some_and(|((silence, interval), flowing)| {
                silence.min(flowing) > limit.max(interval.saturating_mul(intervals))
            })
        };
        // libnice keeps sending from an address that no longer exists, or to one that the receiver has left. Only a new
        // session gathers new candidates. RTCP may still arrive in this state, but its sequence numbers no longer advance.
        let moved = || silent_for(MOVED, 2) && !self.addresses.is_subset(&own_addresses());
        silent_for(timeout, 3)
            || self.streams.iter().any(|stream| stream.rate.is_stalled(now, STALLED))
            || moved()
    }

    /// The age of the last RTCP packet.
    pub(crate) fn report_age(&self, now: Instant) -> Option<Duration> {
        self.peer.silence(now).map(|(silence, _)| silence)
    }

    /// When the gate of a stream last opened.
    pub(crate) fn gate_opened(&self, key: StreamKey) -> Option<Instant> {
        self.streams.iter().find(|stream| stream.key == key)?.subscriber.opened()
    }

    /// Whether media is queued.
    pub(crate) fn is_queued(&self) -> bool {
        self.subscribers().any(|subscriber| !subscriber.level().is_zero())
    }

    /// The subscriber of each stream.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.streams.iter().map(|stream| &*stream.subscriber)
    }

    /// The webrtcbin, for the signal `receiver-added`.
    pub(crate) fn webrtcbin(&self) -> &gst::Element {
        self.peer.webrtcbin()
    }

    /// Requests statistics from webrtcbin, which arrive as [`PeerAction::Stats`].
    pub(crate) fn request_stats(&self) {
        self.peer.request_stats();
    }

    /// Sends a message on the data channel. The error says why this is impossible.
    pub(crate) fn send_data(&self, bytes: &glib::Bytes) -> Result<(), String> {
        let channel = self
            .channel
            .as_ref()
            .ok_or("the data channel is disabled: set data-channel=true before the element starts")?;
        // webrtcbin 1.22 crashes on data for a channel without an SCTP association.
        if channel.ready_state() != gst_webrtc::WebRTCDataChannelState::Open {
            return Err("the data channel is not open yet".into());
        }
        channel.send_data_full(Some(bytes)).map_err(|error| error.to_string())
    }

    /// Ends the session without waiting. The returned thread performs the teardown.
    pub(crate) fn end(&self) -> Option<JoinHandle<()>> {
        for stream in &self.streams {
            stream.fanout.remove(&stream.subscriber);
            stream.pacer.stop();
        }
        self.peer.end(|| ())
    }

    /// Adapts the rate of each stream to the receiver's reports.
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
        let too_many = || glib::bool_error!("a receiver can have at most {MAX_STREAMS} streams");
        let payload_type = payload_type(index).ok_or_else(too_many)?;
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
            .ok_or_else(|| glib::bool_error!("webrtcbin has no free pad"))?;
        let transceiver = sink.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver");
        transceiver.set_property("direction", gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("do-nack", retransmission && codec.retransmission);
        transceiver.set_property("codec-preferences", codec.preferences(payload_type, ssrc));
        let output = source_pad(&payloader)?;
        output
            .link(&sink)
            .map_err(|error| glib::bool_error!("cannot link the payloader to webrtcbin: {error}"))?;
        Ok((source, output))
    }
}

fn source_pad(element: &impl IsA<gst::Element>) -> Result<gst::Pad, glib::BoolError> {
    element
        .static_pad("src")
        .ok_or_else(|| glib::bool_error!("{} has no source pad", element.as_ref().name()))
}

/// The payload type of a stream. webrtcbin assigns the next one to RTX. Sixteen pairs fit into the dynamic range 96 to 127
/// (RFC 3551), the others into 35 to 63, which RTCP multiplexing leaves free (RFC 5761).
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

/// Forwards the receiver's PLI and FIR, which webrtcbin sends upstream as events.
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

/// A random SSRC (RFC 3550, section 8.1), but not 0, which webrtcbin treats as unset.
fn random_ssrc() -> u32 {
    glib::random_int().max(1)
}

#[cfg(test)]
mod tests;
