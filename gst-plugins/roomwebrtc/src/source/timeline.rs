//! When an access unit is due, and whether it may go on: the rules of an output, without GStreamer objects.

use gst::ClockTime;
use gst::prelude::*;

/// Downstream that holds this much is too slow: what comes is dropped until it has caught up.
const TOO_MUCH: ClockTime = ClockTime::from_mseconds(1000);
/// Downstream that holds this little has caught up.
const CAUGHT_UP: ClockTime = ClockTime::from_mseconds(100);

/// What is known of an access unit when it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// On the clock of the session.
    pub(super) pts: Option<ClockTime>,
    /// It can be decoded without the ones before it.
    pub(super) key: bool,
    /// Something before it was lost.
    pub(super) discont: bool,
}

/// What is known of the way downstream when it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The element plays and the pad is linked.
    pub(super) open: bool,
    /// How much waits to be taken downstream.
    pub(super) level: ClockTime,
    /// Nanoseconds from a time on the session's clock to the element's running time.
    pub(super) offset: i64,
}

/// Whether a unit goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it with this time, marked as a discontinuity or not.
    Send { pts: ClockTime, discont: bool },
    /// Drop it. `ask`: a keyframe is needed now, and was not before.
    Drop { ask: bool },
}

/// The state of one output.
#[derive(Debug)]
pub(super) struct Timeline {
    last: Option<ClockTime>,
    phase: Phase,
    discont: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Flowing,
    /// Until the next keyframe.
    Waiting,
    /// Until downstream has caught up.
    Congested,
    /// Until downstream takes data at all.
    Shut,
}

impl Timeline {
    /// Of an output that has sent nothing yet.
    pub(super) fn new() -> Self {
        Self { last: None, phase: Phase::Waiting, discont: true }
    }

    /// Another session goes on here: its first unit has to be a keyframe.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Waiting;
        self.discont = true;
    }

    /// Whether only a keyframe is missing.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Decides about the next unit.
    pub(super) fn admit(&mut self, unit: Unit, way: Way) -> Verdict {
        let before = self.phase;
        self.phase = match before {
            _ if !way.open => Phase::Shut,
            _ if way.level >= TOO_MUCH => Phase::Congested,
            Phase::Congested if way.level > CAUGHT_UP => Phase::Congested,
            // After a loss, nothing that can't be decoded.
            Phase::Flowing if !unit.discont => Phase::Flowing,
            _ if unit.key => Phase::Flowing,
            _ => Phase::Waiting,
        };
        let after_last = self.last.map(|last| last + ClockTime::from_nseconds(1));
        let time = match unit.pts {
            Some(pts) => shift(pts, way.offset),
            // Parsers take the time away from a unit that has the same as the one before it.
            None => after_last,
        };
        let (Phase::Flowing, Some(time)) = (self.phase, time) else {
            if self.phase == Phase::Flowing {
                self.phase = Phase::Waiting;
            }
            self.discont = true;
            return Verdict::Drop { ask: self.phase == Phase::Waiting && before != Phase::Waiting };
        };
        // The estimate of a new session may lie a little before the last of the old one.
        let pts = after_last.map_or(time, |after| after.max(time));
        self.last = Some(pts);
        let discont = std::mem::take(&mut self.discont) || unit.discont;
        Verdict::Send { pts, discont }
    }
}

/// `time` moved by `offset` nanoseconds; `None` before zero.
pub(super) fn shift(time: ClockTime, offset: i64) -> Option<ClockTime> {
    time.nseconds().checked_add_signed(offset).map(ClockTime::from_nseconds)
}

/// The offset of [`Way`]: exact where both run on the same clock, else from what both clocks say now.
pub(super) fn offset(session: &gst::Clock, element: &gst::Clock, base_time: ClockTime) -> i64 {
    let signed = |time: ClockTime| i64::try_from(time.nseconds()).unwrap_or(i64::MAX);
    let base = signed(base_time);
    if session == element {
        base.saturating_neg()
    } else {
        signed(element.time()).saturating_sub(base).saturating_sub(signed(session.time()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Way = Way { open: true, level: ClockTime::ZERO, offset: -1_000_000 };

    fn unit(ms: u64, key: bool) -> Unit {
        Unit { pts: Some(ClockTime::from_mseconds(ms)), key, discont: false }
    }

    fn sent(ms: u64, discont: bool) -> Verdict {
        Verdict::Send { pts: ClockTime::from_mseconds(ms), discont }
    }

    #[test]
    fn a_stream_begins_with_a_keyframe_that_is_marked() {
        let mut timeline = Timeline::new();
        assert!(timeline.needs_keyframe());
        assert_eq!(timeline.admit(unit(1, false), OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(2, true), OPEN), sent(1, true));
        assert_eq!(timeline.admit(unit(3, false), OPEN), sent(2, false));
        assert_eq!(timeline.admit(Unit { discont: true, ..unit(4, true) }, OPEN), sent(3, true));
    }

    #[test]
    fn after_a_loss_it_waits_for_a_keyframe() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let after_loss = Unit { discont: true, ..unit(2, false) };
        assert_eq!(timeline.admit(after_loss, OPEN), Verdict::Drop { ask: true });
        assert_eq!(timeline.admit(unit(3, false), OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(4, true), OPEN), sent(3, true));
    }

    #[test]
    fn another_session_goes_on_later_in_time_with_a_mark() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.admit(unit(100, true), OPEN), sent(99, true));
        timeline.restart();
        assert_eq!(timeline.admit(unit(150, false), OPEN), Verdict::Drop { ask: false });
        let after_last = ClockTime::from_mseconds(99) + ClockTime::from_nseconds(1);
        assert_eq!(timeline.admit(unit(100, true), OPEN), Verdict::Send { pts: after_last, discont: true });
        assert_eq!(timeline.admit(unit(160, false), OPEN), sent(159, false));
    }

    #[test]
    fn while_nobody_takes_data_it_is_dropped_and_a_keyframe_asked_for_afterwards() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let shut = Way { open: false, ..OPEN };
        assert_eq!(timeline.admit(unit(2, false), shut), Verdict::Drop { ask: false });
        assert!(!timeline.needs_keyframe());
        assert_eq!(timeline.admit(unit(3, false), OPEN), Verdict::Drop { ask: true });
        assert_eq!(timeline.admit(unit(4, false), OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(5, true), OPEN), sent(4, true));
    }

    #[test]
    fn slow_downstream_loses_whole_frames_until_it_has_caught_up() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let level = |ms| Way { level: ClockTime::from_mseconds(ms), ..OPEN };
        assert_eq!(timeline.admit(unit(2, false), level(999)), sent(1, false));
        assert_eq!(timeline.admit(unit(3, true), level(1000)), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(4, true), level(500)), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(5, false), level(100)), Verdict::Drop { ask: true });
        assert_eq!(timeline.admit(unit(6, true), level(0)), sent(5, true));
    }

    #[test]
    fn what_lies_before_the_start_is_dropped_and_what_has_no_time_follows_the_one_before() {
        let mut timeline = Timeline::new();
        let nowhen = Unit { pts: None, key: false, discont: false };
        assert_eq!(timeline.admit(Unit { key: true, ..nowhen }, OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(0, true), OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(2, false), OPEN), Verdict::Drop { ask: false });
        assert_eq!(timeline.admit(unit(3, true), OPEN), sent(2, true));
        let after = ClockTime::from_mseconds(2) + ClockTime::from_nseconds(1);
        assert_eq!(timeline.admit(nowhen, OPEN), Verdict::Send { pts: after, discont: false });
    }
}
