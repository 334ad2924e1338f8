//! Maps the running times of a pad to times of the pipeline's clock. Handles flushes, pauses, and steps of the timestamps. A
//! value; `../sink/timing.rs` connects it to a pad.

use super::{Now, shifted, signed};
use gst::ClockTime;

/// Running time that steps back by more than this is a discontinuity. Reordered frames step back by less.
const STEP_BACK: i64 = 1_000_000_000;
/// This many frames in a row that are older than one before them are a discontinuity. Reordering spans fewer.
const MAX_REORDERED: u32 = 16;
/// Live media this far ahead of the clock is a discontinuity: no live source captures the future.
const STEP_AHEAD: i64 = 1_000_000_000;
/// A frame that is ahead of the clock by no more than this keeps its exact time. The excess is an error of measurement,
/// and receivers of audio need exact distances.
const TOLERANCE: i64 = 40_000_000;
/// The distance to the next frame is assumed to be at most this.
const MAX_DISTANCE: i64 = 1_000_000_000;

/// A frame that arrives at a pad.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) running: ClockTime,
    pub(crate) duration: Option<ClockTime>,
    /// The pipeline's base time and clock time now.
    pub(crate) now: Now,
    /// The source is live: its frames are sent when they arrive, not when they are due.
    pub(crate) live: bool,
}

/// Maps the running times of one pad to clock times.
///
/// Usually the clock time is base time plus running time. A flush, however, resets running time to zero, while base
/// time changes only when another sink of the pipeline prerolls again. The *shift* makes up for the difference.
#[derive(Debug, Default)]
pub(crate) struct Anchor {
    shift: i64,
    base: Option<ClockTime>,
    /// Whether a flush happened in PAUSED. The pipeline then selects another base time when it plays again.
    flushed: bool,
    newest: Option<i64>,
    distance: i64,
    /// How many frames in a row were older than the newest one.
    reordered: u32,
}

impl Anchor {
    /// Handles PAUSED→PLAYING.
    pub(crate) fn play(&mut self, now: Now) {
        if std::mem::take(&mut self.flushed) {
            self.shift = now.running().max(0);
        }
        self.follow_base(now);
    }

    /// A flush reset running time to zero. `playing` is the running time at that moment, in PLAYING; pads that are
    /// flushed together get the same one.
    pub(crate) fn flush(&mut self, playing: Option<i64>) {
        self.flushed = playing.is_none();
        self.shift = playing.unwrap_or(0).max(0);
        self.newest = None;
        self.reordered = 0;
    }

    /// The shift in nanoseconds, which is added to running time.
    pub(crate) fn shift(&self) -> i64 {
        self.shift
    }

    /// Handles the next frame in decoding order. Returns true at a discontinuity, where the frame continues the stream at the
    /// current time, regardless of its timestamp.
    pub(crate) fn arrive(&mut self, frame: Arrival) -> bool {
        self.follow_base(frame.now);
        let running = signed(frame.running);
        let now = frame.now.running();
        let back = self.newest.map_or(0, |newest| newest.saturating_sub(running));
        self.reordered = if back > 0 { self.reordered.saturating_add(1) } else { 0 };
        let stepped_back = back > STEP_BACK || self.reordered > MAX_REORDERED;
        let ahead = running.saturating_add(self.shift).saturating_sub(now);
        let stepped = stepped_back || (frame.live && ahead > STEP_AHEAD);
        if stepped {
            let next =
                self.newest.map(|newest| newest.saturating_add(self.shift).saturating_add(self.distance));
            // A file continues one frame after the last one; a live stream is at the present.
            let due = next.filter(|_| !frame.live && stepped_back).map_or(now, |next| next.max(now));
            self.shift = due.saturating_sub(running);
            self.newest = None;
            self.reordered = 0;
        }
        if let Some(distance) = frame.duration.map(signed) {
            self.distance = distance.min(MAX_DISTANCE);
        } else if let Some(newest) = self.newest.filter(|newest| *newest < running) {
            self.distance = running.saturating_sub(newest).min(MAX_DISTANCE);
        }
        self.newest = Some(self.newest.map_or(running, |newest| newest.max(running)));
        stepped
    }

    /// The clock time of a frame that is sent now. A frame without a timestamp gets the current time.
    pub(crate) fn clock_time(&mut self, running: Option<ClockTime>, now: Now) -> ClockTime {
        // Base time may have changed while the frame waited for its time.
        self.follow_base(now);
        let Some(running) = running else { return now.clock };
        let time = self.due(running, now);
        let ahead = signed(time).saturating_sub(signed(now.clock));
        // A frame that was captured during a pause has a running time that base time has moved on from. A receiver's
        // session would hold it, and all frames after it, until then.
        if ahead > TOLERANCE { now.clock } else { time }
    }

    fn due(&self, running: ClockTime, now: Now) -> ClockTime {
        shifted(now.base, signed(running).saturating_add(self.shift)).unwrap_or_default()
    }

    /// A sink that prerolled again after a flush made the pipeline choose another base time: running time is back at
    /// zero for all, so that the shift no longer applies. After a mere pause, running time is never below the shift.
    fn follow_base(&mut self, now: Now) {
        let changed = self.base.replace(now.base).is_some_and(|old| old != now.base);
        if changed && self.shift > now.running().max(0) {
            self.shift = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn ms(n: u64) -> ClockTime {
        ClockTime::from_mseconds(n)
    }

    /// A pipeline that started at 100 s of its clock.
    fn at(running_ms: u64) -> Now {
        Now { base: ms(100_000), clock: ms(100_000 + running_ms) }
    }

    fn played(now: Now) -> Anchor {
        let mut anchor = Anchor::default();
        anchor.play(now);
        anchor
    }

    fn file(running_ms: u64, now: Now) -> Arrival {
        Arrival { running: ms(running_ms), duration: Some(ms(33)), now, live: false }
    }

    fn live(running_ms: u64, now: Now) -> Arrival {
        Arrival { live: true, ..file(running_ms, now) }
    }

    /// When a frame is due, in ms after 100 s, and whether it is a discontinuity.
    fn place(anchor: &mut Anchor, frame: Arrival) -> (i64, bool) {
        let stepped = anchor.arrive(frame);
        let time = if frame.live {
            anchor.clock_time(Some(frame.running), frame.now)
        } else {
            anchor.due(frame.running, frame.now)
        };
        ((signed(time) - 100_000 * MS) / MS, stepped)
    }

    #[test]
    fn clock_time_is_base_time_plus_running_time() {
        let mut anchor = played(at(0));
        assert_eq!(place(&mut anchor, file(0, at(0))), (0, false));
        assert_eq!(place(&mut anchor, file(33, at(0))), (33, false));
        // A source may begin anywhere, and a file may have gaps: it is waited for.
        assert_eq!(place(&mut anchor, file(20_000, at(33))), (20_000, false));
    }

    #[test]
    fn after_a_pause_times_follow_the_new_base_time() {
        let mut anchor = played(at(0));
        place(&mut anchor, file(1000, at(1000)));
        // Two seconds in PAUSED: the pipeline moves base time by as much.
        let resumed = Now { base: ms(102_000), clock: ms(103_000) };
        anchor.play(resumed);
        assert_eq!(place(&mut anchor, file(1033, resumed)), (3033, false));
    }

    #[test]
    fn after_a_flush_in_playing_the_stream_continues_at_the_current_time() {
        let mut anchor = played(at(0));
        place(&mut anchor, file(8000, at(8000)));
        anchor.flush(Some(at(8010).running()));
        assert_eq!(place(&mut anchor, file(0, at(8012))), (8010, false));
        assert_eq!(place(&mut anchor, file(33, at(8043))), (8043, false));
        // A pause later on keeps it: the pipeline counts the whole running time.
        let resumed = Now { base: ms(101_000), clock: ms(109_100) };
        anchor.play(resumed);
        assert_eq!(place(&mut anchor, file(66, resumed)), (9076, false));
    }

    #[test]
    fn after_a_flush_in_paused_the_stream_starts_with_the_new_base_time() {
        let mut anchor = played(at(0));
        place(&mut anchor, file(20_000, at(20_000)));
        anchor.flush(None);
        // Frames arrive in PAUSED already, and wait.
        anchor.arrive(file(0, at(25_100)));
        let resumed = Now { base: ms(130_000), clock: ms(130_000) };
        anchor.play(resumed);
        assert_eq!(place(&mut anchor, file(0, resumed)), (30_000, false));
        assert_eq!(anchor.shift(), 0);
    }

    #[test]
    fn after_a_flush_in_paused_with_the_same_base_time_the_stream_continues_at_the_current_time() {
        let mut anchor = played(at(0));
        anchor.flush(None);
        anchor.play(at(30_000));
        assert_eq!(place(&mut anchor, file(0, at(30_001))), (30_000, false));
    }

    #[test]
    fn a_preroll_of_another_sink_after_a_flush_removes_the_shift() {
        let mut anchor = played(at(0));
        anchor.flush(Some(at(8000).running()));
        place(&mut anchor, file(0, at(8000)));
        anchor.arrive(file(33, at(8001)));
        // While that frame waits, the other sink prerolls: running time is zero at 108.03 s.
        let reset = Now { base: ms(108_030), clock: ms(108_050) };
        assert_eq!(anchor.clock_time(Some(ms(33)), reset), ms(108_063));
        assert_eq!(place(&mut anchor, file(66, reset)), (8030 + 66, false));
    }

    #[test]
    fn a_restart_from_ready_resets_the_state() {
        let mut anchor = played(at(0));
        anchor.flush(Some(at(8000).running()));
        anchor = Anchor::default();
        let restarted = Now { base: ms(200_000), clock: ms(200_000) };
        anchor.play(restarted);
        assert_eq!(place(&mut anchor, file(0, restarted)), (100_000, false));
    }

    #[test]
    fn a_looped_file_continues_after_its_last_frame() {
        let mut anchor = played(at(0));
        for n in 0..60 {
            place(&mut anchor, file(n * 33, at(n * 33)));
        }
        let end = 59 * 33;
        assert_eq!(place(&mut anchor, file(0, at(end))), (59 * 33 + 33, true));
        assert_eq!(place(&mut anchor, file(33, at(end + 33))), (59 * 33 + 66, false));
    }

    #[test]
    fn a_short_looped_file_is_detected_after_a_few_frames() {
        let mut anchor = played(at(0));
        for n in 0..20 {
            place(&mut anchor, file(n * 33, at(n * 33)));
        }
        let restarts: Vec<bool> =
            (0..20).map(|n| place(&mut anchor, file(n * 33, at((20 + n) * 33))).1).collect();
        assert_eq!(restarts.iter().filter(|stepped| **stepped).count(), 1);
        assert!(!place(&mut anchor, file(20 * 33, at(40 * 33))).1);
    }

    #[test]
    fn reordered_frames_are_not_a_discontinuity() {
        let mut anchor = played(at(0));
        for n in [0, 132, 66, 33, 99, 264, 198, 165, 231] {
            assert_eq!(place(&mut anchor, file(n, at(0))), (i64::try_from(n).unwrap_or(0), false));
        }
    }

    #[test]
    fn a_camera_that_sets_its_clock_continues_at_the_current_time() {
        let mut anchor = played(at(0));
        assert_eq!(place(&mut anchor, live(1000, at(1000))), (1000, false));
        // An hour ahead, then back again.
        assert_eq!(place(&mut anchor, live(3_601_033, at(1033))), (1033, true));
        assert_eq!(place(&mut anchor, live(3_601_066, at(1066))), (1066, false));
        assert_eq!(place(&mut anchor, live(1100, at(1100))), (1100, true));
        assert_eq!(place(&mut anchor, live(1133, at(1134))), (1133, false));
    }

    #[test]
    fn a_live_frame_captured_during_a_pause_is_sent_immediately() {
        let mut anchor = played(at(0));
        assert_eq!(place(&mut anchor, live(700, at(100))), (100, false));
        assert_eq!(place(&mut anchor, live(133, at(134))), (133, false));
        // A few milliseconds are an error of measurement.
        assert_eq!(place(&mut anchor, live(180, at(170))), (180, false));
    }

    #[test]
    fn a_frame_without_a_timestamp_gets_the_current_time() {
        let mut anchor = played(at(0));
        assert_eq!(anchor.clock_time(None, at(500)), ms(100_500));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut anchor = played(Now { base: ClockTime::MAX, clock: ClockTime::ZERO });
        let frame = Arrival {
            running: ClockTime::MAX,
            duration: Some(ClockTime::MAX),
            now: Now { base: ClockTime::MAX, clock: ClockTime::ZERO },
            live: true,
        };
        for _ in 0..3 {
            anchor.arrive(frame);
            anchor.clock_time(Some(frame.running), frame.now);
            anchor.flush(Some(i64::MIN));
        }
    }
}
