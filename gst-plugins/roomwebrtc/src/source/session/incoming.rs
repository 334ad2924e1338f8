//! The receiving end of a session: the settings of its jitter buffers, and a stream for each pad that webrtcbin adds.

use super::{SessionEvent, SessionEventSink};
use crate::{codec::Codec, log::CAT, peer::Peer, source::stream::Stream, stream_key::StreamKey};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCRTPTransceiver;
use std::sync::Arc;

pub(super) fn set_up_rtpbin(peer: &Peer) {
    let Some(rtpbin) = peer.rtpbin() else { return };
    // With this property, each buffer carries the sender's time as a GstReferenceTimestampMeta (caps timestamp/x-ntp)
    // once an RTCP sender report has arrived.
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
    // With retransmission, the jitter buffer estimates when the next packet is due, and counts it as lost when it is
    // later than the latency. A sender that pauses for 50 ms would then lose frames. Only gaps in sequence numbers are
    // losses.
    if buffer.has_property("rtx-next-seqnum") {
        buffer.set_property("rtx-next-seqnum", false);
    }
    // Two packets show where the stream begins. After them, the first packets do not wait for the latency to pass.
    if buffer.has_property("faststart-min-packets") {
        buffer.set_property("faststart-min-packets", 2u32);
    }
}

/// The context for new pads of webrtcbin.
pub(super) struct Incoming {
    pub(super) pipeline: glib::WeakRef<gst::Pipeline>,
    pub(super) keys: Arc<[Option<StreamKey>]>,
    pub(super) events: SessionEventSink,
}

impl Incoming {
    /// Adds the stream of `pad`. Runs on the streaming thread, before the pad's first packet.
    pub(super) fn add(&self, pad: &gst::Pad) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let Some((key, codec)) = self.recognize(pad) else {
            gst::warning!(CAT, obj = pad, "discarding a stream that the answer did not accept");
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

/// Links `pad` to a fakesink, because an unlinked pad would end the other streams with an error.
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
