//! One receiver's media session: a pipeline of its own with a payloader for each stream and a webrtcbin, so that its
//! errors and its teardown are nobody else's.
//!
//! Threading: made and driven by the conductor's thread only. webrtcbin's callbacks run on other threads and do nothing
//! but send a [`SessionEvent`] there. Teardown runs on a thread of its own.

use super::{
    fanout::{Fanout, Tap},
    negotiation,
};
use crate::{
    codec::Codec,
    peer::{certificate, connection, relays},
    stream_key::StreamKey,
};
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCPeerConnectionState, WebRTCSDPType, WebRTCSessionDescription};
use room_signaling_client::protocol::SessionId;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many streams a session can have: each needs two payload types.
pub(crate) const MAX_STREAMS: usize = 30;

/// What happens in a session, in the order in which it happens.
pub(crate) enum SessionEvent {
    /// The offer is ready to be sent and set.
    Offer(WebRTCSessionDescription),
    /// The local description is in force.
    OfferSet,
    /// A local candidate: m-line and line.
    Candidate(u32, String),
    /// The connection moved on.
    Connection(WebRTCPeerConnectionState),
    /// The receiver needs a keyframe of the stream of this pad.
    KeyframeWanted(StreamKey),
    /// A message came over the data channel: label and bytes.
    Data(String, glib::Bytes),
    /// The latency of the pipeline has to be found out anew.
    Latency,
    /// Statistics of webrtcbin, for the cache.
    Stats(gst::Structure),
    /// It can't go on.
    Failed(String),
}

/// Where a session's events go.
pub(crate) type Tell = Arc<dyn Fn(SessionEvent) + Send + Sync>;

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
    pub(crate) ice: &'a connection::IceConfig,
    pub(crate) retransmission: bool,
    pub(crate) data_channel: bool,
}

/// One media session with one receiver.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) webrtcbin: gst::Element,
    pipeline: gst::Pipeline,
    taps: Vec<(Arc<Fanout>, Arc<Tap>)>,
    channel: Option<gst_webrtc::WebRTCDataChannel>,
    local_sdp: String,
    remote_sdp: String,
    reports: Arc<Reports>,
}

impl Session {
    /// Builds the pipeline and starts it.
    pub(crate) fn start(config: SessionConfig<'_>, tell: &Tell) -> Result<Self, glib::BoolError> {
        let pipeline = gst::Pipeline::new();
        pipeline.use_clock(Some(&crate::time::session_clock()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(gst::ClockTime::ZERO);
        contain_errors(&pipeline, tell);
        let webrtcbin = connection::webrtcbin(config.ice)?;
        pipeline.add(&webrtcbin)?;
        watch(&webrtcbin, tell);
        let mut session = Self {
            id: config.id,
            webrtcbin,
            pipeline,
            taps: Vec::new(),
            channel: None,
            local_sdp: String::new(),
            remote_sdp: String::new(),
            reports: Arc::default(),
        };
        let started = session.add_streams(config.streams, config.retransmission, tell).and_then(|()| {
            session
                .pipeline
                .set_state(gst::State::Playing)
                .map_err(|_| glib::bool_error!("pipeline won't play"))
        });
        if let Err(error) = started {
            session.end();
            return Err(error);
        }
        if config.data_channel {
            session.channel = open_channel(&session.webrtcbin, tell);
        }
        Ok(session)
    }

    /// Asks webrtcbin for an offer, which comes as [`SessionEvent::Offer`].
    pub(crate) fn ask_for_offer(&self, tell: &Tell) {
        let tell = tell.clone();
        connection::create_description(&self.webrtcbin, WebRTCSDPType::Offer, move |offer| {
            tell(match offer {
                Ok(offer) => SessionEvent::Offer(offer),
                Err(words) => SessionEvent::Failed(words),
            });
        });
    }

    fn add_streams(
        &mut self,
        streams: &[StreamInfo],
        retransmission: bool,
        tell: &Tell,
    ) -> Result<(), glib::BoolError> {
        for (index, stream) in streams.iter().enumerate() {
            let source = self.add_stream(index, stream, retransmission, tell)?;
            let tap = Arc::new(Tap::new(source));
            stream.fanout.add(tap.clone());
            self.taps.push((stream.fanout.clone(), tap));
        }
        Ok(())
    }

    fn add_stream(
        &self,
        index: usize,
        stream: &StreamInfo,
        retransmission: bool,
        tell: &Tell,
    ) -> Result<gst_app::AppSrc, glib::BoolError> {
        let codec = stream.codec;
        let no_type = || glib::bool_error!("a receiver can have {MAX_STREAMS} streams at most");
        let payload_type = payload_type(index).ok_or_else(no_type)?;
        let ssrc = random_ssrc();
        let source = gst_app::AppSrc::builder()
            .caps(&codec.unit_caps())
            .format(gst::Format::Time)
            .is_live(true)
            .max_bytes(0)
            .build();
        let payloader = make_payloader(codec, payload_type, ssrc)?;
        self.pipeline.add_many([source.upcast_ref(), &payloader])?;
        source.link(&payloader)?;
        watch_keyframe_requests(&source, stream.key, tell);

        let sink = self
            .webrtcbin
            .request_pad_simple("sink_%u")
            .ok_or_else(|| glib::bool_error!("webrtcbin gives no pad"))?;
        let transceiver = sink.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver");
        transceiver.set_property("direction", gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("do-nack", retransmission && codec.retransmission);
        transceiver.set_property("codec-preferences", codec.preferences(payload_type, ssrc));
        let output =
            payloader.static_pad("src").ok_or_else(|| glib::bool_error!("a payloader has a source pad"))?;
        output.link(&sink).map_err(|error| glib::bool_error!("payloader to webrtcbin: {error}"))?;
        Ok(source)
    }

    /// Puts the offer in force.
    pub(crate) fn take_offer(&mut self, offer: &WebRTCSessionDescription, tell: &Tell) -> Result<(), String> {
        let text = offer.sdp().as_text().map_err(|error| error.to_string())?;
        self.local_sdp = negotiation::outgoing_offer(&certificate::with_fingerprint(&text));
        let tell = tell.clone();
        connection::set_local(&self.webrtcbin, offer, move |set| {
            tell(match set {
                Ok(()) => SessionEvent::OfferSet,
                Err(words) => SessionEvent::Failed(words),
            });
        });
        Ok(())
    }

    /// The offer as it has to be sent.
    pub(crate) fn local_sdp(&self) -> &str {
        &self.local_sdp
    }

    /// Puts the peer's answer in force.
    pub(crate) fn take_answer(&mut self, sdp: &str, tell: &Tell) -> Result<(), String> {
        let answer = connection::parse(WebRTCSDPType::Answer, sdp)?;
        if !negotiation::takes_media(answer.sdp()) {
            return Err(
                "the receiver takes none of the offered streams (its answer has port 0 for each)".into()
            );
        }
        sdp.clone_into(&mut self.remote_sdp);
        let tell = tell.clone();
        connection::set_remote(&self.webrtcbin, &answer, move |set| {
            if let Err(words) = set {
                tell(SessionEvent::Failed(words));
            }
        });
        Ok(())
    }

    /// Whether an answer was taken.
    pub(crate) fn answered(&self) -> bool {
        !self.remote_sdp.is_empty()
    }

    /// The `a=mid` of an m-line of the offer.
    pub(crate) fn mid_of(&self, m_line: u32) -> Option<String> {
        connection::mid_of(&self.local_sdp, m_line)
    }

    /// Gives the peer's candidate to webrtcbin.
    pub(crate) fn add_candidate(&self, candidate: &room_signaling_client::wire::IceCandidate) {
        connection::add_candidate(&self.webrtcbin, candidate, &self.local_sdp);
    }

    /// Follows the peer's receiver reports. Possible once the offer is in force.
    pub(crate) fn watch_reports(&self) {
        let rtpbin = self.webrtcbin.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("rtpbin"));
        let session = rtpbin
            .and_then(|bin| bin.emit_by_name::<Option<glib::Object>>("get-internal-session", &[&0_u32]));
        let Some(session) = session else { return };
        let reports = self.reports.clone();
        session.connect("on-receiving-rtcp", false, move |_| {
            reports.came(Instant::now());
            None
        });
    }

    /// Opens the gates: media flows from the next IDR on.
    pub(crate) fn connect_taps(&self) {
        self.reports.came(Instant::now());
        self.taps.iter().for_each(|(_, tap)| tap.connect());
    }

    /// True if nothing was heard from the receiver for so long that it must be gone.
    pub(crate) fn is_silent(&self, now: Instant, timeout: Duration) -> bool {
        self.reports
            .silence(now)
            .is_some_and(|(silence, interval)| silence > timeout.max(interval.saturating_mul(3)))
    }

    /// The tap of each stream.
    pub(crate) fn taps(&self) -> impl Iterator<Item = &Tap> {
        self.taps.iter().map(|(_, tap)| &**tap)
    }

    /// How long ago the receiver last reported.
    pub(crate) fn report_age(&self, now: Instant) -> Option<Duration> {
        self.reports.silence(now).map(|(silence, _)| silence)
    }

    /// Without a latency rtpbin knows no running times, and its sender reports no time.
    pub(crate) fn recalculate_latency(&self) {
        let _ = self.pipeline.recalculate_latency();
    }

    /// Sends bytes over the data channel; words if there is none.
    pub(crate) fn send_data(&self, bytes: &glib::Bytes) -> Result<(), String> {
        let channel =
            self.channel.as_ref().ok_or("the data channel is off: set data-channel=true before starting")?;
        // webrtcbin 1.22 crashes on data for a channel whose association is not up yet.
        if channel.ready_state() != gst_webrtc::WebRTCDataChannelState::Open {
            return Err("the data channel is not open yet".into());
        }
        channel.send_data_full(Some(bytes)).map_err(|error| error.to_string())
    }

    /// Ends the session. Returns at once; the work is done on a thread of its own, which the handle waits for.
    pub(crate) fn end(&self) -> Option<std::thread::JoinHandle<()>> {
        for (fanout, tap) in &self.taps {
            fanout.remove(tap);
        }
        let (pipeline, webrtcbin) = (self.pipeline.clone(), self.webrtcbin.clone());
        let teardown = std::thread::Builder::new().name("receiver-end".into()).spawn(move || {
            let _ = pipeline.set_state(gst::State::Null);
            relays::release(&webrtcbin);
        });
        teardown.ok()
    }
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
        .build()?;
    for (name, value) in payloader.properties {
        element.set_property_from_str(name, value);
    }
    Ok(element)
}

/// A peer's failed DTLS handshake posts an error on the bus of the pipeline that it is in: here it stays. This handler
/// runs on whatever thread posts, so it only sends on what it hears.
fn contain_errors(pipeline: &gst::Pipeline, tell: &Tell) {
    let Some(bus) = pipeline.bus() else { return };
    let tell = tell.clone();
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|s| s.name().to_string()).unwrap_or_default();
                tell(SessionEvent::Failed(format!("{source}: {}", error.error())));
            }
            gst::MessageView::Latency(_) => tell(SessionEvent::Latency),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

fn watch(webrtcbin: &gst::Element, tell: &Tell) {
    let candidates = tell.clone();
    webrtcbin.connect("on-ice-candidate", false, move |values| {
        let m_line = values.get(1).and_then(|v| v.get::<u32>().ok());
        let line = values.get(2).and_then(|v| v.get::<String>().ok());
        if let (Some(m_line), Some(line)) = (m_line, line) {
            candidates(SessionEvent::Candidate(m_line, line));
        }
        None
    });
    let states = tell.clone();
    webrtcbin.connect_notify(Some("connection-state"), move |webrtcbin, _| {
        states(SessionEvent::Connection(webrtcbin.property("connection-state")));
    });
}

/// PLI and FIR of the receiver arrive as events that go up from webrtcbin: the source at
/// the end of their way has no use for them.
fn watch_keyframe_requests(source: &gst_app::AppSrc, key: StreamKey, tell: &Tell) {
    let Some(pad) = source.static_pad("src") else { return };
    let tell = tell.clone();
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if info.event().is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event)) {
            tell(SessionEvent::KeyframeWanted(key));
        }
        gst::PadProbeReturn::Ok
    });
}

fn open_channel(webrtcbin: &gst::Element, tell: &Tell) -> Option<gst_webrtc::WebRTCDataChannel> {
    let channel = webrtcbin.emit_by_name::<Option<gst_webrtc::WebRTCDataChannel>>(
        "create-data-channel",
        &[&"room", &None::<gst::Structure>],
    )?;
    let bytes = tell.clone();
    channel.connect_on_message_data(move |channel, data| {
        if let Some(data) = data {
            bytes(SessionEvent::Data(label(channel), data.clone()));
        }
    });
    let text = tell.clone();
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

/// SSRCs are random (RFC 3550, section 8.1); 0 would mean none to webrtcbin.
fn random_ssrc() -> u32 {
    glib::random_int().max(1)
}

/// When the peer's RTCP came: the last time, and the mean interval (a moving one, over about four).
#[derive(Debug, Default)]
struct Reports(Mutex<Option<(Instant, Duration)>>);

impl Reports {
    fn came(&self, now: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = last.map_or(Duration::ZERO, |(at, mean)| {
            mean.saturating_mul(3).saturating_add(now.saturating_duration_since(at)) / 4
        });
        *last = Some((now, mean));
    }

    /// How long ago the last one came, and the mean interval.
    fn silence(&self, now: Instant) -> Option<(Duration, Duration)> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(at, mean)| (now.saturating_duration_since(at), mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_two_payload_types_of_its_own_that_are_no_rtcp() {
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
}
