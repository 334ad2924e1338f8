//! Converts the timestamps of one pad to the clock of the media sessions, and paces a stream that is not live. The
//! conversion itself is a value in `../time/anchor.rs`.
//!
//! The appsink behind the pad waits for the time of each access unit. A flush shifts the stream relative to the pipeline's
//! base time, so this file sets the shift as the appsink's `ts-offset`, which applies from the next access unit on.

use crate::{
    sync::lock,
    time::{Anchor, Arrival, Now, SessionClock, shifted},
};
use gst::prelude::*;
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// The state that all pads of one element share, so that their streams stay in sync.
#[derive(Debug, Default)]
pub(crate) struct SharedTime {
    clock: SessionClock,
    playing: AtomicBool,
    /// The latest flush, and the running time at which the first pad was flushed.
    flush: Mutex<Option<(gst::Seqnum, i64)>>,
}

impl SharedTime {
    /// Sets whether the element is in PLAYING.
    pub(crate) fn set_playing(&self, playing: bool) {
        self.playing.store(playing, Ordering::Relaxed);
    }

    /// The running time of a flush. All pads that the same seek flushes continue at the same time.
    fn flushed(&self, seqnum: gst::Seqnum, now: i64) -> i64 {
        let mut flush = lock(&self.flush);
        match *flush {
            Some((known, at)) if known == seqnum => at,
            _ => flush.insert((seqnum, now)).1,
        }
    }
}

/// The timing of one pad.
#[derive(Debug)]
pub(crate) struct Timing {
    shared: Arc<SharedTime>,
    anchor: Mutex<Anchor>,
    live: AtomicBool,
}

impl Timing {
    /// The timing of a pad that has received no data.
    pub(crate) fn new(shared: Arc<SharedTime>) -> Self {
        Self { shared, anchor: Mutex::default(), live: AtomicBool::new(false) }
    }

    fn anchor(&self) -> MutexGuard<'_, Anchor> {
        lock(&self.anchor)
    }

    /// Handles READY→PAUSED, which begins a new timeline.
    pub(crate) fn reset(&self) {
        *self.anchor() = Anchor::default();
    }

    /// Handles PAUSED→PLAYING.
    pub(crate) fn play(&self, now: Now) {
        self.anchor().play(now);
    }

    /// Handles a flush that resets running time.
    pub(crate) fn flush(&self, seqnum: gst::Seqnum, now: Option<Now>) {
        let now = now.filter(|_| self.shared.playing.load(Ordering::Relaxed));
        self.anchor().flush(now.map(|now| self.shared.flushed(seqnum, now.running())));
    }

    /// Sets whether the stream is live. A live stream is not paced, because waiting would only delay it.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Relaxed);
    }

    /// Handles each access unit before `sink` waits for its time. Calls `stepped` at a step of the timestamps.
    pub(crate) fn watch(
        self: &Arc<Self>,
        bin: &impl IsA<gst::Element>,
        sink: &gst_app::AppSink,
        stepped: impl Fn() + Send + Sync + 'static,
    ) {
        let Some(pad) = sink.static_pad("sink") else { return };
        let (timing, bin, sink) =
            (self.clone(), bin.upcast_ref::<gst::Element>().downgrade(), sink.downgrade());
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(bin), Some(sink), Some(buffer)) = (bin.upgrade(), sink.upgrade(), info.buffer())
                && timing.arrive(&bin, &sink, pad, buffer)
            {
                gst::info!(
                    crate::log::CAT,
                    obj = pad,
                    "the timestamps stepped: the stream continues at the current running time"
                );
                stepped();
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn arrive(
        &self,
        bin: &gst::Element,
        sink: &gst_app::AppSink,
        pad: &gst::Pad,
        buffer: &gst::BufferRef,
    ) -> bool {
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.as_ref().and_then(|event| event.segment().downcast_ref::<gst::ClockTime>());
        let running = segment.zip(buffer.pts()).and_then(|(segment, pts)| segment.to_running_time(pts));
        let (Some(running), Some(now)) = (running, Now::of(bin)) else { return false };
        let mut anchor = self.anchor();
        let live = self.live.load(Ordering::Relaxed);
        let stepped = anchor.arrive(Arrival { running, duration: buffer.duration(), now, live });
        let shift = anchor.shift();
        drop(anchor);
        // A pipeline that prerolls again in PLAYING sets the new base time on its children, but not on theirs.
        if sink.base_time() != Some(now.base) {
            sink.set_base_time(now.base);
        }
        if sink.property::<i64>("ts-offset") != shift {
            sink.set_property("ts-offset", shift);
        }
        stepped
    }

    /// The time of a unit on the sessions' clock. `None` if the element has no clock, or the segment is not in time format.
    pub(crate) fn session_time(
        &self,
        bin: &impl IsA<gst::Element>,
        sample: &gst::Sample,
    ) -> Option<gst::ClockTime> {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let running = sample.buffer()?.pts().and_then(|pts| segment.to_running_time(pts));
        let clock = bin.clock()?;
        let now = Now { base: bin.base_time()?, clock: clock.time() };
        let time = self.anchor().clock_time(running, now);
        shifted(time, self.shared.clock.ahead_of(&clock))
    }
}
