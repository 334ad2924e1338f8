//! One stream of a session: depayloads RTP packets into access units, and hands them over to an [`Output`]. Units are
//! collected until the output exists.

use super::output::Output;
use crate::{
    codec::{Codec, H264},
    h264_repair::H264Repair,
    stream_key::StreamKey,
    sync::lock,
};
use gst::{glib, prelude::*};
use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The number of access units that are collected for an output that does not exist yet. It takes milliseconds to
/// appear.
const MAX_COLLECTED: usize = 256;
/// A stream needs a keyframe if its packets form no access unit for this long.
const STARVED: Duration = Duration::from_millis(500);
/// The least time between two keyframe requests.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(250);

/// The time of the last occurrence of something. Any thread may set it, without a lock.
#[derive(Debug, Default)]
pub(super) struct LastTime(AtomicU64);

impl LastTime {
    /// Records an occurrence.
    pub(super) fn now(&self) {
        self.0.store(Self::clock(), Ordering::Relaxed);
    }

    /// The time since the last occurrence; `None` if there was none.
    pub(super) fn age(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_millis(Self::clock().saturating_sub(at))),
        }
    }

    /// Milliseconds since an early moment of this process. At least 1, because 0 means never.
    fn clock() -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Hands the access units of a session's streaming thread over to an output.
struct Handover {
    state: Mutex<HandoverState>,
    last_packet: LastTime,
    last_unit: LastTime,
}

enum HandoverState {
    /// The output does not exist yet.
    Collecting(Vec<gst::Sample>),
    Attached(Arc<Output>),
    /// The session or the stream is over.
    Closed,
}

impl Handover {
    /// Passes an access unit on. Returns true for the first one.
    fn push(&self, sample: gst::Sample) -> bool {
        self.last_unit.now();
        let mut state = self.lock();
        match &mut *state {
            HandoverState::Collecting(samples) => {
                if samples.len() < MAX_COLLECTED {
                    samples.push(sample);
                }
                samples.len() == 1
            }
            HandoverState::Attached(output) => {
                let output = output.clone();
                drop(state);
                output.push(sample);
                false
            }
            HandoverState::Closed => false,
        }
    }

    /// Directs access units to `output`, beginning with those that were collected.
    fn attach(&self, output: &Arc<Output>) {
        // The lock is held until the collected units are passed on, so that later units cannot overtake them. An output
        // never blocks.
        let mut state = self.lock();
        if let HandoverState::Collecting(samples) = &mut *state {
            for sample in samples.drain(..) {
                output.push(sample);
            }
            *state = HandoverState::Attached(output.clone());
        }
    }

    fn close(&self) {
        *self.lock() = HandoverState::Closed;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HandoverState> {
        lock(&self.state)
    }
}

/// One stream, owned by its session.
pub(super) struct Stream {
    pub(super) key: StreamKey,
    handover: Arc<Handover>,
    /// The pad that packets enter and keyframe requests leave.
    entry: gst::Pad,
    requested: LastTime,
    output: Option<Arc<Output>>,
    _repair: Option<H264Repair>,
}

impl Stream {
    /// Builds the depayloader and the parser for `codec` into `pipeline`, and links `pad`, a source pad of webrtcbin,
    /// to them. `first` is called once, with the caps of the first access unit. Called on a streaming thread.
    pub(super) fn build(
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        key: StreamKey,
        codec: &Codec,
        first: impl Fn(gst::Caps) + Send + 'static,
    ) -> Result<Self, glib::Error> {
        let chain = gst::parse::bin_from_description(codec.depayloader, true)?;
        let mut repair = None;
        if let Some(depay) = chain.by_name("depay") {
            if *codec == H264 {
                repair = Some(H264Repair::new(&depay));
            }
            // After a loss, access units can't be decoded before the next keyframe. rtph264depay waits for IDR pictures
            // only, but some streams have recovery points instead. For H.264 the output therefore drops what can't be
            // decoded.
            let own_gate = *codec == H264;
            for (name, value) in [("wait-for-keyframe", !own_gate), ("request-keyframe", true)] {
                if depay.find_property(name).is_some() {
                    depay.set_property(name, value);
                }
            }
        }
        let handover = Arc::new(Handover {
            state: Mutex::new(HandoverState::Collecting(Vec::new())),
            last_packet: LastTime::default(),
            last_unit: LastTime::default(),
        });
        let sink = sink(codec, &handover, first);
        let failed = |error: glib::BoolError| glib::Error::new(gst::CoreError::Failed, &error.message);
        pipeline.add_many([chain.upcast_ref::<gst::Element>(), sink.upcast_ref()]).map_err(failed)?;
        chain.link(&sink).map_err(failed)?;
        for element in [sink.upcast_ref::<gst::Element>(), chain.upcast_ref()] {
            element.sync_state_with_parent().map_err(failed)?;
        }
        let no_pad = || glib::Error::new(gst::CoreError::Pad, "the chain has no sink pad");
        let entry = chain.static_pad("sink").ok_or_else(no_pad)?;
        let packets = handover.clone();
        entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            packets.last_packet.now();
            gst::PadProbeReturn::Ok
        });
        pad.link(&entry).map_err(|error| glib::Error::new(gst::CoreError::Pad, &error.to_string()))?;
        Ok(Self { key, handover, entry, requested: LastTime::default(), output: None, _repair: repair })
    }

    /// Directs access units to `output`.
    pub(super) fn attach(&mut self, output: Arc<Output>) {
        output.restart();
        self.handover.attach(&output);
        self.output = Some(output);
    }

    /// Whether the stream has an output.
    pub(super) fn is_attached(&self) -> bool {
        self.output.is_some()
    }

    /// Stops passing access units on.
    pub(super) fn close(&self) {
        self.handover.close();
    }

    /// Whether the stream is closed. The answer is available after the session has dropped the stream.
    #[cfg(test)]
    pub(super) fn closed(&self) -> impl Fn() -> bool + use<> {
        let handover = self.handover.clone();
        move || matches!(*handover.lock(), HandoverState::Closed)
    }

    /// The time since the last packet; `None` if no packet has arrived.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.handover.last_packet.age()
    }

    /// Whether packets arrive without a decodable access unit.
    pub(super) fn needs_keyframe(&self) -> bool {
        let age = |time: &LastTime| time.age().unwrap_or(Duration::MAX);
        let starved = age(&self.handover.last_unit) > age(&self.handover.last_packet).saturating_add(STARVED);
        starved || self.output.as_ref().is_some_and(|output| output.needs_keyframe())
    }

    /// Requests a keyframe from the sender (PLI, RFC 4585), unless one was requested within [`KEYFRAME_INTERVAL`].
    pub(super) fn request_keyframe(&self) {
        if self.requested.age().is_some_and(|age| age < KEYFRAME_INTERVAL) {
            return;
        }
        self.requested.now();
        let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
        if !self.entry.push_event(event) {
            gst::debug!(crate::log::CAT, obj = self.entry, "webrtcbin did not handle the keyframe request");
        }
    }
}

fn sink(
    codec: &Codec,
    handover: &Arc<Handover>,
    first: impl Fn(gst::Caps) + Send + 'static,
) -> gst_app::AppSink {
    let handover = handover.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let caps = sample.caps_owned();
        if handover.push(sample)
            && let Some(caps) = caps
        {
            first(caps);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    gst_app::AppSink::builder()
        .caps(&codec.unit_caps())
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .callbacks(callbacks.build())
        .build()
}
