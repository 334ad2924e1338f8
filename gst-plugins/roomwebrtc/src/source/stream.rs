//! One stream of a session: from RTP packets to access units, which wait here until their output is there.

use super::output::Output;
use crate::{
    codec::{Codec, H264},
    h264_repair::H264Repair,
    stream_key::StreamKey,
};
use gst::{glib, prelude::*};
use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// So many access units are kept for an output that isn't there yet; it takes milliseconds to come.
const MAX_COLLECTED: usize = 256;
/// A stream whose packets make no access unit for this long waits for a keyframe.
const STARVED: Duration = Duration::from_millis(500);
/// The least time between two requests for a keyframe.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(250);

/// When something last happened; set from any thread without a lock.
#[derive(Debug, Default)]
pub(super) struct LastTime(AtomicU64);

impl LastTime {
    /// It happens now.
    pub(super) fn now(&self) {
        self.0.store(Self::clock(), Ordering::Relaxed);
    }

    /// How long ago it last happened; `None` if never.
    pub(super) fn age(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_millis(Self::clock().saturating_sub(at))),
        }
    }

    /// Milliseconds since some time in this process, from 1.
    fn clock() -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Takes access units from the session's streaming thread.
pub(super) struct Tap {
    clock: gst::Clock,
    state: Mutex<TapState>,
    last_packet: LastTime,
    last_unit: LastTime,
}

enum TapState {
    /// The output is not there yet.
    Collecting(Vec<gst::Sample>),
    Attached(Arc<Output>),
    /// The session is over.
    Closed,
}

impl Tap {
    /// Takes a unit; true for the first one.
    fn take(&self, sample: gst::Sample) -> bool {
        self.last_unit.now();
        let mut state = self.lock();
        match &mut *state {
            TapState::Collecting(samples) => {
                if samples.len() < MAX_COLLECTED {
                    samples.push(sample);
                }
                samples.len() == 1
            }
            TapState::Attached(output) => {
                let output = output.clone();
                drop(state);
                output.take(sample, &self.clock);
                false
            }
            TapState::Closed => false,
        }
    }

    /// From now on units go to `output`, first of all those that have come before.
    fn attach(&self, output: &Arc<Output>) {
        // The lock is held while the first units go on, so that later ones can't overtake them; an output never waits.
        let mut state = self.lock();
        if let TapState::Collecting(samples) = &mut *state {
            for sample in samples.drain(..) {
                output.take(sample, &self.clock);
            }
            *state = TapState::Attached(output.clone());
        }
    }

    fn close(&self) {
        *self.lock() = TapState::Closed;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TapState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream as the owner of its session sees it.
pub(super) struct Stream {
    pub(super) key: StreamKey,
    pub(super) tap: Arc<Tap>,
    /// Where packets go in; keyframes are asked for from here.
    entry: gst::Pad,
    asked: LastTime,
    output: Option<Arc<Output>>,
    _repair: Option<H264Repair>,
}

impl Stream {
    /// Builds depayloader, parser and tap for `codec` into `pipeline` and links `pad`, a source pad of webrtcbin.
    /// `first` is called once, with the caps of the first access unit. Called on a streaming thread.
    pub(super) fn build(
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        key: StreamKey,
        codec: &Codec,
        clock: &gst::Clock,
        first: impl Fn(gst::Caps) + Send + 'static,
    ) -> Result<Self, glib::Error> {
        let chain = gst::parse::bin_from_description(codec.depayloader, true)?;
        let mut repair = None;
        if let Some(depay) = chain.by_name("depay") {
            if *codec == H264 {
                repair = Some(H264Repair::new(&depay));
            }
            // After a loss nothing that can't be decoded goes on.
            for name in ["wait-for-keyframe", "request-keyframe"] {
                if depay.find_property(name).is_some() {
                    depay.set_property(name, true);
                }
            }
        }
        let tap = Arc::new(Tap {
            clock: clock.clone(),
            state: Mutex::new(TapState::Collecting(Vec::new())),
            last_packet: LastTime::default(),
            last_unit: LastTime::default(),
        });
        let sink = sink(codec, &tap, first);
        let failed = |error: glib::BoolError| glib::Error::new(gst::CoreError::Failed, &error.message);
        pipeline.add_many([chain.upcast_ref::<gst::Element>(), sink.upcast_ref()]).map_err(failed)?;
        chain.link(&sink).map_err(failed)?;
        for element in [sink.upcast_ref::<gst::Element>(), chain.upcast_ref()] {
            element.sync_state_with_parent().map_err(failed)?;
        }
        let no_pad = || glib::Error::new(gst::CoreError::Pad, "the chain has no sink pad");
        let entry = chain.static_pad("sink").ok_or_else(no_pad)?;
        let packets = tap.clone();
        entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            packets.last_packet.now();
            gst::PadProbeReturn::Ok
        });
        pad.link(&entry).map_err(|error| glib::Error::new(gst::CoreError::Pad, &error.to_string()))?;
        Ok(Self { key, tap, entry, asked: LastTime::default(), output: None, _repair: repair })
    }

    /// From now on access units go to `output`.
    pub(super) fn attach(&mut self, output: Arc<Output>) {
        output.restart();
        self.tap.attach(&output);
        self.output = Some(output);
    }

    /// Whether the output is there.
    pub(super) fn is_attached(&self) -> bool {
        self.output.is_some()
    }

    /// No unit goes on after this.
    pub(super) fn close(&self) {
        self.tap.close();
    }

    /// How long ago the last packet came.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.tap.last_packet.age()
    }

    /// Whether packets come that make nothing which could be shown.
    pub(super) fn needs_keyframe(&self) -> bool {
        let age = |time: &LastTime| time.age().unwrap_or(Duration::MAX);
        let starved = age(&self.tap.last_unit) > age(&self.tap.last_packet).saturating_add(STARVED);
        starved || self.output.as_ref().is_some_and(|output| output.needs_keyframe())
    }

    /// Asks the sender for a keyframe (PLI, RFC 4585), unless that was done a moment ago.
    pub(super) fn ask_for_keyframe(&self) {
        if self.asked.age().is_some_and(|age| age < KEYFRAME_INTERVAL) {
            return;
        }
        self.asked.now();
        let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
        if !self.entry.push_event(event) {
            gst::debug!(crate::log::CAT, obj = self.entry, "nobody took the request for a keyframe");
        }
    }
}

fn sink(codec: &Codec, tap: &Arc<Tap>, first: impl Fn(gst::Caps) + Send + 'static) -> gst_app::AppSink {
    let tap = tap.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let caps = sample.caps_owned();
        if tap.take(sample)
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
