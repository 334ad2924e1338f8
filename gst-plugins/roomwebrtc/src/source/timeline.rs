//! The rules of an output, without GStreamer objects: when an access unit is due, and whether it is sent or dropped.

use crate::time::shifted;
use gst::ClockTime;

/// Downstream is too slow when it leaves this much more waiting than it holds back on purpose.
const CONGESTED: ClockTime = ClockTime::from_mseconds(1000);
/// Downstream has caught up when no more than this is waiting.
const CAUGHT_UP: ClockTime = ClockTime::from_mseconds(100);
/// An output never holds more than this beyond the jitter buffer's latency.
pub(super) const MAX_HELD: ClockTime = ClockTime::from_seconds(10);
/// Running time that is back by more than this was reset; less is an error of estimation.
const RESET: ClockTime = ClockTime::from_mseconds(500);

/// Downstream takes units with a steady delay if the delay of each is within this of the first.
const STEADY: ClockTime = ClockTime::from_mseconds(50);
/// This much time of taking units with a steady delay proves that the delay is intended.
const PROOF: ClockTime = ClockTime::from_mseconds(700);

/// An access unit that arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccessUnit {
    /// On the clock of the session.
    pub(super) pts: Option<ClockTime>,
    /// Decoding can start here.
    pub(super) key: bool,
    /// Data before it was lost.
    pub(super) discont: bool,
}

/// The state of the element and of downstream at the arrival of an access unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct DownstreamState {
    /// The element is in PLAYING and the pad is linked.
    pub(super) accepts: bool,
    /// How much is waiting to be taken by downstream.
    pub(super) level: ClockTime,
    /// The latency that the pipeline is configured with.
    pub(super) latency: ClockTime,
    /// Nanoseconds to add to a time of the session's clock to get the element's running time.
    pub(super) offset: i64,
}

/// What is to be done with an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send it with this running time, and flag it as a discontinuity or not.
    Send { pts: ClockTime, discont: bool },
    /// Drop it. `ask` is true on the transition to waiting for a keyframe.
    Drop { ask: bool },
}

/// The state of one output.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The time of the last unit that was sent.
    last: Option<ClockTime>,
    /// The time of the last unit, whether it was sent or dropped.
    latest: Option<ClockTime>,
    phase: Phase,
    discont: bool,
    hold: Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Units are sent.
    Flowing,
    /// Units are dropped until the next keyframe.
    Waiting,
    /// Units are dropped until downstream has caught up.
    Congested,
    /// Units are dropped until downstream accepts data at all.
    Shut,
}

impl Timeline {
    /// The state of an output that has sent nothing yet.
    pub(super) fn new() -> Self {
        Self { last: None, latest: None, phase: Phase::Waiting, discont: true, hold: Hold::default() }
    }

    /// A new session continues on this output: its first unit has to be a keyframe.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Waiting;
        self.discont = true;
    }

    /// Whether only a keyframe is missing.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Decides about the next unit.
    pub(super) fn admit(&mut self, unit: AccessUnit, downstream: DownstreamState) -> Decision {
        let before = self.phase;
        let held = downstream.latency.max(self.hold.delay).min(MAX_HELD);
        self.phase = match before {
            _ if !downstream.accepts => Phase::Shut,
            _ if downstream.level >= held + CONGESTED => Phase::Congested,
            Phase::Congested if downstream.level > CAUGHT_UP => Phase::Congested,
            // Units after a loss are useless until the next keyframe.
            Phase::Flowing if !unit.discont => Phase::Flowing,
            _ if unit.key => Phase::Flowing,
            _ => Phase::Waiting,
        };
        if before == Phase::Congested && self.phase != Phase::Congested {
            self.hold.observed = None;
        }
        let after_last = self.last.map(|last| last.saturating_add(ClockTime::NSECOND));
        let time = match unit.pts {
            Some(pts) => shifted(pts, downstream.offset),
            // A parser removes the time of a unit that has the same time as the unit before it, which may have been
            // dropped: rtph264depay can make two units of one picture, of which the second is the keyframe.
            None => self.latest.map(|latest| latest.saturating_add(ClockTime::NSECOND)),
        };
        self.latest = time.or(self.latest);
        let (Phase::Flowing, Some(time)) = (self.phase, time) else {
            if self.phase == Phase::Flowing {
                self.phase = Phase::Waiting;
            }
            self.discont = true;
            return Decision::Drop { ask: self.phase == Phase::Waiting && before != Phase::Waiting };
        };
        let mut discont = std::mem::take(&mut self.discont) || unit.discont;
        let pts = match after_last {
            // A seek of another branch, for instance, made the pipeline choose a new base time.
            Some(after) if time.saturating_add(RESET) < after => {
                discont = true;
                time
            }
            // The estimate of a new session may be a little before the last unit of the old one.
            Some(after) => after.max(time),
            None => time,
        };
        self.last = Some(pts);
        Decision::Send { pts, discont }
    }

    /// Downstream takes a unit, at the running time `now`. While it catches up, the delay tells whether it is slow.
    pub(super) fn taken(&mut self, pts: ClockTime, now: ClockTime) {
        if self.phase == Phase::Congested {
            self.hold.observe(now.saturating_sub(pts), now);
        }
    }
}

/// How long downstream holds units back on purpose, beyond the latency that it declares: a sink with `ts-offset`, say.
///
/// While nothing new is queued, a slow downstream takes units later and later, and one that catches up takes them
/// earlier and earlier. Only a sink that waits for the clock takes them with a steady delay.
#[derive(Debug, Default)]
struct Hold {
    delay: ClockTime,
    /// The delay of the first unit of a steady run, and when it was taken.
    observed: Option<(ClockTime, ClockTime)>,
}

impl Hold {
    fn observe(&mut self, delay: ClockTime, now: ClockTime) {
        match self.observed {
            Some((first, since)) if first.max(delay) - first.min(delay) <= STEADY => {
                if now.saturating_sub(since) >= PROOF {
                    self.delay = self.delay.max(delay).min(MAX_HELD);
                }
            }
            _ => self.observed = Some((delay, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: DownstreamState = DownstreamState {
        accepts: true,
        level: ClockTime::ZERO,
        latency: ClockTime::ZERO,
        offset: -1_000_000,
    };

    fn ms(ms: u64) -> ClockTime {
        ClockTime::from_mseconds(ms)
    }

    fn unit(at: u64, key: bool) -> AccessUnit {
        AccessUnit { pts: Some(ms(at)), key, discont: false }
    }

    fn sent(at: u64, discont: bool) -> Decision {
        Decision::Send { pts: ms(at), discont }
    }

    fn level(at: u64) -> DownstreamState {
        DownstreamState { level: ms(at), ..OPEN }
    }

    #[test]
    fn a_stream_begins_with_a_keyframe_that_is_flagged() {
        let mut timeline = Timeline::new();
        assert!(timeline.needs_keyframe());
        assert_eq!(timeline.admit(unit(1, false), OPEN), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(2, true), OPEN), sent(1, true));
        assert_eq!(timeline.admit(unit(3, false), OPEN), sent(2, false));
        assert_eq!(timeline.admit(AccessUnit { discont: true, ..unit(4, true) }, OPEN), sent(3, true));
    }

    #[test]
    fn a_keyframe_without_a_time_has_that_of_the_unit_before_it_although_that_was_dropped() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.admit(unit(1, false), OPEN), Decision::Drop { ask: false });
        let keyframe = AccessUnit { pts: None, ..unit(1, true) };
        assert_eq!(
            timeline.admit(keyframe, OPEN),
            Decision::Send { pts: ms(0) + ClockTime::NSECOND, discont: true }
        );
        assert_eq!(timeline.admit(unit(34, false), OPEN), sent(33, false));
    }

    #[test]
    fn after_a_loss_units_are_dropped_until_a_keyframe() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let after_loss = AccessUnit { discont: true, ..unit(2, false) };
        assert_eq!(timeline.admit(after_loss, OPEN), Decision::Drop { ask: true });
        assert_eq!(timeline.admit(unit(3, false), OPEN), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(4, true), OPEN), sent(3, true));
    }

    #[test]
    fn a_new_session_continues_later_in_time_and_is_flagged() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.admit(unit(100, true), OPEN), sent(99, true));
        timeline.restart();
        assert_eq!(timeline.admit(unit(150, false), OPEN), Decision::Drop { ask: false });
        let after_last = ms(99) + ClockTime::NSECOND;
        assert_eq!(timeline.admit(unit(100, true), OPEN), Decision::Send { pts: after_last, discont: true });
        assert_eq!(timeline.admit(unit(160, false), OPEN), sent(159, false));
    }

    #[test]
    fn a_running_time_that_was_reset_is_followed_and_flagged() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.admit(unit(60_001, true), OPEN), sent(60_000, true));
        // Base time moved by 60 s, because another branch of the pipeline was flushed.
        let reset = DownstreamState { offset: -60_030_000_000, ..OPEN };
        assert_eq!(timeline.admit(unit(60_034, false), reset), sent(4, true));
        assert_eq!(timeline.admit(unit(60_067, false), reset), sent(37, false));
    }

    #[test]
    fn while_downstream_accepts_nothing_units_are_dropped_and_then_a_keyframe_is_requested() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let shut = DownstreamState { accepts: false, ..OPEN };
        assert_eq!(timeline.admit(unit(2, false), shut), Decision::Drop { ask: false });
        assert!(!timeline.needs_keyframe());
        assert_eq!(timeline.admit(unit(3, false), OPEN), Decision::Drop { ask: true });
        assert_eq!(timeline.admit(unit(4, false), OPEN), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(5, true), OPEN), sent(4, true));
    }

    #[test]
    fn a_slow_downstream_loses_whole_units_until_it_has_caught_up() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        assert_eq!(timeline.admit(unit(2, false), level(999)), sent(1, false));
        assert_eq!(timeline.admit(unit(3, true), level(1000)), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(4, true), level(500)), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(5, false), level(100)), Decision::Drop { ask: true });
        assert_eq!(timeline.admit(unit(6, true), level(0)), sent(5, true));
    }

    #[test]
    fn the_configured_latency_is_no_congestion_up_to_what_an_output_can_hold() {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        let latent = |seconds, at| DownstreamState { latency: ClockTime::from_seconds(seconds), ..level(at) };
        assert_eq!(timeline.admit(unit(2, false), latent(3, 3999)), sent(1, false));
        assert_eq!(timeline.admit(unit(3, false), latent(3, 4000)), Decision::Drop { ask: false });
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        assert_eq!(timeline.admit(unit(2, false), latent(60, 10_999)), sent(1, false));
        assert_eq!(timeline.admit(unit(3, false), latent(60, 11_000)), Decision::Drop { ask: false });
    }

    /// Fills the queue up to the limit, and has downstream take what is in it, each unit `pace` ms after the one before
    /// and the first one `delay` ms after its time. Returns whether more than a second may wait afterwards.
    fn holds_more(delay: u64, pace: u64) -> bool {
        let mut timeline = Timeline::new();
        timeline.admit(unit(1, true), OPEN);
        timeline.admit(unit(1001, false), level(1000));
        for n in 0..30 {
            timeline.taken(ms(n * 33), ms(n * pace + delay));
        }
        timeline.admit(unit(2000, true), level(0));
        timeline.admit(unit(3000, false), level(1500)) == sent(2999, false)
    }

    #[test]
    fn a_downstream_that_waits_for_the_clock_is_not_slow() {
        assert!(holds_more(2000, 33));
    }

    #[test]
    fn a_downstream_that_falls_behind_or_catches_up_is_slow() {
        assert!(!holds_more(2000, 36), "falls behind");
        assert!(!holds_more(2000, 30), "catches up");
        assert!(!holds_more(0, 33), "has no delay");
    }

    #[test]
    fn a_unit_before_the_start_is_dropped() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.admit(unit(0, true), OPEN), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(2, false), OPEN), Decision::Drop { ask: false });
        assert_eq!(timeline.admit(unit(3, true), OPEN), sent(2, true));
    }

    #[test]
    fn a_unit_without_a_time_follows_the_one_before_it() {
        let mut timeline = Timeline::new();
        let timeless = AccessUnit { pts: None, key: true, discont: false };
        assert_eq!(timeline.admit(timeless, OPEN), Decision::Drop { ask: false });
        timeline.admit(unit(3, true), OPEN);
        let after = ms(2) + ClockTime::NSECOND;
        assert_eq!(timeline.admit(timeless, OPEN), Decision::Send { pts: after, discont: false });
    }
}
