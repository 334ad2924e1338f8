//! One pad of the element and the appsrc behind it. A pad outlives sessions: when a sender restarts, or another sender
//! replaces it, the stream resumes on the same pad, later in time, flagged with DISCONT. Only another codec needs
//! another pad.
//!
//! Downstream runs on the appsrc's thread. Therefore the network threads of a session never wait for it.

use super::{
    RoomWebRtcSrc,
    timeline::{Decision, DownstreamState, IncomingUnit, Timeline},
};
use crate::{
    codec::{Codec, MediaKind, access_unit::AccessUnitKind},
    log::CAT,
    stream_key::StreamKey,
    sync::lock,
    time::{SessionClock, shifted, signed},
};
use gst::{glib, prelude::*};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

/// An event of a pad, for the conductor.
#[derive(Debug)]
pub(super) enum OutputEvent {
    /// Downstream needs a keyframe of this stream.
    KeyframeNeeded(StreamKey),
    /// EOS has passed the pad with this name.
    Ended(StreamKey),
    /// The application sent EOS before there were pads.
    EndOfStream,
}

/// Receives the events of all outputs. Never blocks.
pub(super) type OutputEvents = Arc<dyn Fn(OutputEvent) + Send + Sync>;

/// The context that all outputs of one run share.
#[derive(Clone)]
pub(super) struct OutputContext {
    pub(super) element: glib::WeakRef<RoomWebRtcSrc>,
    pub(super) group: gst::GroupId,
    pub(super) latency: gst::ClockTime,
    pub(super) events: OutputEvents,
    pub(super) clock: Arc<SessionClock>,
}

/// A pad and the appsrc behind it.
pub(super) struct Output {
    key: StreamKey,
    /// The name of the pad. It differs from the key while an earlier pad of the stream still exists.
    name: StreamKey,
    context: OutputContext,
    source: gst_app::AppSrc,
    pad: gst::GhostPad,
    state: Arc<Mutex<State>>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

struct State {
    timeline: Timeline,
    caps: Option<gst::Caps>,
    /// The latency that the pipeline is configured with.
    latency: gst::ClockTime,
}

impl Output {
    /// Adds a pad to the element. It carries the access units that [`Output::push`] receives. Without caps, only EOS
    /// can follow.
    pub(super) fn new(
        context: &OutputContext,
        (key, name): (StreamKey, StreamKey),
        caps: Option<&gst::Caps>,
    ) -> Result<Self, glib::BoolError> {
        let element =
            context.element.upgrade().ok_or_else(|| glib::bool_error!("the element no longer exists"))?;
        let source = gst_app::AppSrc::builder()
            .name(format!("source_{name}"))
            .is_live(true)
            .format(gst::Format::Time)
            .max_bytes(0)
            .min_latency(signed(context.latency))
            .build();
        source.set_caps(caps);
        let template = match key.kind {
            MediaKind::Video => "video_%u",
            MediaKind::Audio => "audio_%u",
        };
        let template =
            element.pad_template(template).ok_or_else(|| glib::bool_error!("no pad template {template}"))?;
        let target = source.static_pad("src").ok_or_else(|| glib::bool_error!("the appsrc has no pad"))?;
        // The appsrc is added first, because adding an element unlinks its pads.
        element.add(&source)?;
        let pad = gst::GhostPad::builder_from_template_with_target(&template, &target)?
            .name(name.pad_name())
            .build();
        let state = State { timeline: Timeline::new(), caps: caps.cloned(), latency: gst::ClockTime::ZERO };
        let output = Self {
            key,
            name,
            context: context.clone(),
            source,
            pad,
            state: Arc::new(Mutex::new(state)),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        output.add_probes(&element, &target);
        output.pad.set_active(true)?;
        element.add_pad(&output.pad)?;
        output.source.sync_state_with_parent()?;
        Ok(output)
    }

    /// Sends an access unit of a session downstream, or drops it. Never blocks.
    pub(super) fn push(&self, sample: gst::Sample) {
        let (Some(buffer), Some(caps), Some(element)) =
            (sample.buffer_owned(), sample.caps_owned(), self.context.element.upgrade())
        else {
            return;
        };
        // With a single reference to the buffer, its metadata can be changed without a copy.
        drop(sample);
        let unit = IncomingUnit {
            pts: buffer.pts(),
            key: is_random_access_point(&buffer, &caps),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
        };
        let mut state = lock(&self.state);
        let downstream = self.downstream(&element, state.latency);
        match state.timeline.decide(unit, downstream) {
            Decision::Send { pts, discont } => {
                if state.caps.as_ref() != Some(&caps) {
                    self.source.set_caps(Some(&caps));
                    state.caps = Some(caps);
                }
                drop(state);
                self.sent.fetch_add(1, Ordering::Relaxed);
                // Fails only while the element shuts down.
                let _ = self.source.push_buffer(restamped(buffer, pts, discont, downstream.offset));
            }
            Decision::Drop { request_keyframe } => {
                drop(state);
                gst::log!(CAT, obj = self.pad, "dropping {unit:?}");
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if request_keyframe {
                    (self.context.events)(OutputEvent::KeyframeNeeded(self.key));
                }
            }
        }
    }

    /// Prepares for a new session, which resumes on this pad.
    pub(super) fn restart(&self) {
        lock(&self.state).timeline.restart();
    }

    /// Whether nothing can be sent before the next keyframe.
    pub(super) fn needs_keyframe(&self) -> bool {
        lock(&self.state).timeline.needs_keyframe()
    }

    /// The number of access units sent and dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// The stream that this pad carries.
    pub(super) fn key(&self) -> StreamKey {
        self.key
    }

    /// The name of the pad.
    pub(super) fn name(&self) -> StreamKey {
        self.name
    }

    /// Whether a stream with these caps can resume on this pad: the size may change, but not the codec.
    pub(super) fn accepts(&self, caps: &gst::Caps) -> bool {
        let media_type = |caps: &gst::Caps| caps.structure(0).map(|structure| structure.name().to_owned());
        lock(&self.state).caps.as_ref().is_some_and(|own| media_type(own) == media_type(caps))
    }

    /// Sends EOS after the queued access units.
    pub(super) fn send_eos(&self) {
        // Fails only while the element shuts down.
        let _ = self.source.end_of_stream();
    }

    /// Removes the pad. Its stream must have ended, or the element must be in READY, because the appsrc waits for its
    /// thread.
    pub(super) fn remove(&self) {
        let Some(element) = self.context.element.upgrade() else { return };
        // Each call fails only if what it removes does not exist.
        self.source.set_locked_state(true);
        let _ = self.source.set_state(gst::State::Null);
        let _ = self.pad.set_active(false);
        let _ = element.remove_pad(&self.pad);
        let _ = element.remove(&self.source);
    }

    fn downstream(&self, element: &RoomWebRtcSrc, latency: gst::ClockTime) -> DownstreamState {
        let times = element.clock().zip(element.base_time());
        let offset = times.as_ref().map_or(0, |(clock, base)| {
            self.context.clock.ahead_of(clock).saturating_add(signed(*base)).saturating_neg()
        });
        DownstreamState {
            accepts: times.is_some() && element.is_playing() && self.pad.is_linked(),
            level: self.source.current_level_time(),
            latency,
            offset,
        }
    }

    fn add_probes(&self, element: &RoomWebRtcSrc, pad: &gst::Pad) {
        let (key, events, state) = (self.key, self.context.events.clone(), self.state.clone());
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            match info.event() {
                Some(event) if gst_video::ForceKeyUnitEvent::is(event) => {
                    events(OutputEvent::KeyframeNeeded(key));
                }
                Some(event) => {
                    if let gst::EventView::Latency(event) = event.view() {
                        lock(&state).latency = event.latency();
                    }
                }
                None => {}
            }
            // The event is not dropped, because that causes a critical warning in GStreamer 1.22. The appsrc ignores
            // it.
            gst::PadProbeReturn::Ok
        });
        let (state, weak) = (self.state.clone(), element.downgrade());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let now = weak.upgrade().and_then(|element| element.current_running_time());
            if let (Some(pts), Some(now)) = (info.buffer().and_then(|buffer| buffer.pts()), now) {
                lock(&state).timeline.consumed(pts, now);
            }
            gst::PadProbeReturn::Ok
        });
        let (group, id) =
            (self.context.group, self.pad.create_stream_id(element, Some(self.name.pad_name().as_str())));
        let (name, events) = (self.name, self.context.events.clone());
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some((kind, seqnum)) = info.event().map(|event| (event.type_(), event.seqnum())) else {
                return gst::PadProbeReturn::Ok;
            };
            if kind == gst::EventType::StreamStart {
                // Streams with the same group id belong together.
                let event = gst::event::StreamStart::builder(&id).group_id(group).seqnum(seqnum).build();
                info.data = Some(gst::PadProbeData::Event(event));
            } else if kind == gst::EventType::Eos {
                events(OutputEvent::Ended(name));
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Whether decoding can start at an access unit. The flag of h264parse does not show that, because a single intra slice
/// sets it.
fn is_random_access_point(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> bool {
    let codec = caps.structure(0).and_then(|structure| Codec::of_media_type(structure.name()));
    match (codec, buffer.map_readable()) {
        (Some(codec), Ok(bytes)) => (codec.syntax.access_unit)(&bytes).kind != AccessUnitKind::Delta,
        _ => !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
    }
}

fn restamped(mut buffer: gst::Buffer, pts: gst::ClockTime, discont: bool, offset: i64) -> gst::Buffer {
    let head = buffer.make_mut();
    head.set_dts(head.dts().and_then(|dts| shifted(dts, offset)).map(|dts| dts.min(pts)));
    head.set_pts(pts);
    if discont {
        head.set_flags(gst::BufferFlags::DISCONT);
    } else {
        head.unset_flags(gst::BufferFlags::DISCONT);
    }
    buffer
}
