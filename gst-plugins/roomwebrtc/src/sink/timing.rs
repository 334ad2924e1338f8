//! The timing of one pad: paces a stream that is not live, and stamps each access unit with the time of the media
//! sessions' clock.
//!
//! The appsink behind the pad does the waiting. It knows the base time of the pipeline, but not that a flush shifted
//! the stream, so the shift is its `ts-offset`, which applies from the next access unit on.

use crate::time::{Anchor, Arrival, Now, SessionClock, shifted};
use gst::prelude::*;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What the pads of one element share, so that streams which belong together stay in sync.
#[derive(Debug, Default)]
pub(crate) struct SharedTime {
    clock: SessionClock,
    playing: AtomicBool,
    /// The latest flush, and the running time at which the first pad was flushed.
    flush: Mutex<Option<(gst::Seqnum, i64)>>,
}

impl SharedTime {
    /// The element goes to PLAYING, or leaves it.
    pub(crate) fn set_playing(&self, playing: bool) {
        self.playing.store(playing, Ordering::Relaxed);
    }

    /// The running time of a flush: pads that one seek flushes continue at the same moment.
    fn flushed(&self, seqnum: gst::Seqnum, now: i64) -> i64 {
        let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// For a pad that has received nothing yet.
    pub(crate) fn new(shared: Arc<SharedTime>) -> Self {
        Self { shared, anchor: Mutex::default(), live: AtomicBool::new(false) }
    }

    fn anchor(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// READY to PAUSED: nothing of an earlier run applies.
    pub(crate) fn reset(&self) {
        *self.anchor() = Anchor::default();
    }

    /// PAUSED to PLAYING, at this time.
    pub(crate) fn play(&self, now: Now) {
        self.anchor().play(now);
    }

    /// A flush reset running time.
    pub(crate) fn flush(&self, seqnum: gst::Seqnum, now: Option<Now>) {
        let now = now.filter(|_| self.shared.playing.load(Ordering::Relaxed));
        self.anchor().flush(now.map(|now| self.shared.flushed(seqnum, now.running())));
    }

    /// Whether the stream arrives at its own pace. Waiting for the clock would only add delay to it.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Relaxed);
    }

    /// Looks at each access unit before `sink` waits for its time. `stepped` is called at a discontinuity.
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
                    "timestamps stepped: the stream continues at the present"
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
        // A pipeline that prerolls again while it plays gives the new base time to its children only, and not to theirs.
        if sink.base_time() != Some(now.base) {
            sink.set_base_time(now.base);
        }
        if sink.property::<i64>("ts-offset") != shift {
            sink.set_property("ts-offset", shift);
        }
        stepped
    }

    /// When a unit was due, on the sessions' clock. `None` while the element has no clock, and for a unit without a
    /// time segment.
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
