//! Converts the timestamps of streams to the clock of the media sessions.
//!
//! The terms are GStreamer's. A buffer's *running time* counts from the *base time* of its pipeline, and base time is a
//! *clock time*: a time on the pipeline's clock. All media sessions run on the system clock, whatever clock the
//! pipeline has, so that their RTP time continues when the pipeline gets another clock. Two values do the conversion,
//! and neither of them reads a clock: an [`Anchor`] maps the running times of one pad to clock times, and a
//! [`ClockOffset`] maps clock times to the system clock. Only [`SessionClock`] reads clocks.

mod anchor;
mod offset;

pub(crate) use anchor::{Anchor, Arrival};

use crate::sync::lock;
use gst::{ClockTime, prelude::*};
use offset::{ClockOffset, Reading};
use std::sync::Mutex;

/// The current times of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) base: ClockTime,
    pub(crate) clock: ClockTime,
}

impl Now {
    /// The current times of `element`'s pipeline. `None` while it has no clock.
    pub(crate) fn of(element: &impl IsA<gst::Element>) -> Option<Self> {
        Some(Self { base: element.base_time()?, clock: element.clock()?.time() })
    }

    /// The running time now, in nanoseconds; negative before the pipeline's start.
    pub(crate) fn running(self) -> i64 {
        signed(self.clock).saturating_sub(signed(self.base))
    }
}

/// The clock of the media sessions, and its estimated offset from the clock of the element's pipeline. All streams of an
/// element share it, so that audio and video stay in sync.
#[derive(Debug)]
pub(crate) struct SessionClock {
    clock: gst::Clock,
    known: Mutex<Option<(gst::Clock, ClockOffset)>>,
}

impl Default for SessionClock {
    fn default() -> Self {
        Self { clock: session_clock(), known: Mutex::default() }
    }
}

impl SessionClock {
    /// Nanoseconds to add to a time of `pipeline` to get the time of the sessions' clock. Exact where both are the same
    /// clock, otherwise estimated from readings.
    pub(crate) fn ahead_of(&self, pipeline: &gst::Clock) -> i64 {
        if *pipeline == self.clock {
            return 0;
        }
        let before = self.clock.time();
        let reading = Reading { before, pipeline: pipeline.time(), after: self.clock.time() };
        let mut known = lock(&self.known);
        if known.as_ref().is_some_and(|(clock, _)| clock != pipeline) {
            // It is about another clock.
            *known = None;
        }
        known.get_or_insert_with(|| (pipeline.clone(), ClockOffset::default())).1.observe(reading)
    }
}

/// The clock that every media session's pipeline runs on, with base time 0.
pub(crate) fn session_clock() -> gst::Clock {
    gst::SystemClock::obtain()
}

/// `time` moved by `offset` nanoseconds; `None` before zero.
pub(crate) fn shifted(time: ClockTime, offset: i64) -> Option<ClockTime> {
    time.nseconds().checked_add_signed(offset).map(ClockTime::from_nseconds)
}

/// Nanoseconds as a signed number. Clock times beyond 292 years do not occur.
pub(crate) fn signed(time: ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}
