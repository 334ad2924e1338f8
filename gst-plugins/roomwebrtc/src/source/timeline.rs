//! Maps the timestamps of access units to running time, over gaps, new sessions and clock changes, and decides whether
//! a unit is sent or dropped. A value without GStreamer objects; [`super::output`] applies the decisions.

use crate::time::shifted;
use gst::ClockTime;

/// Downstream is congested when it leaves this much more queued than it holds back on purpose.
const CONGESTED: ClockTime = ClockTime::from_mseconds(1000);
/// Downstream has caught up when no more than this is queued.
const CAUGHT_UP: ClockTime = ClockTime::from_mseconds(100);
/// The most media that an output holds, in addition to the latency of the jitter buffer.
pub(super) const MAX_HELD: ClockTime = ClockTime::from_seconds(10);
/// Running time that steps back by more than this was reset: a discontinuity. A smaller difference is an error of
/// estimation.
const RESET: ClockTime = ClockTime::from_mseconds(500);

/// Downstream consumes units with a steady delay if the delay of each is within this of the first.
const STEADY: ClockTime = ClockTime::from_mseconds(50);
/// A delay that is steady for this long is intended.
const PROOF: ClockTime = ClockTime::from_mseconds(700);

/// An access unit that arrives from a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct IncomingUnit {
    /// On the clock of the session.
    pub(super) pts: Option<ClockTime>,
    /// The unit is a random access point.
    pub(super) key: bool,
    /// Data before the unit was lost.
    pub(super) discont: bool,
}

/// The state of the element and of downstream at the arrival of an access unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct DownstreamState {
    /// The element is in PLAYING and the pad is linked.
    pub(super) accepts: bool,
    /// The duration of the media that is queued for downstream.
    pub(super) level: ClockTime,
    /// The latency that the pipeline is configured with.
    pub(super) latency: ClockTime,
    /// Nanoseconds to add to a time of the session's clock to get the element's running time.
    pub(super) offset: i64,
}

/// What to do with an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send the unit with this running time, and with the flag DISCONT or without it.
    Send { pts: ClockTime, discont: bool },
    /// Drop the unit. `request_keyframe` is true on the transition to waiting for a keyframe.
    Drop { request_keyframe: bool },
}

/// The state of one output.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The running time of the last unit that was sent.
    last: Option<ClockTime>,
    /// The running time of the last unit, sent or dropped.
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
    /// The state of an output that has sent nothing.
    pub(super) fn new() -> Self {
        Self { last: None, latest: None, phase: Phase::Waiting, discont: true, hold: Hold::default() }
    }

    /// Prepares for a new session, whose first unit has to be a keyframe.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Waiting;
        self.discont = true;
    }

    /// Whether the output waits for a keyframe only.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Decides what to do with the next unit.
    pub(super) fn decide(&mut self, unit: IncomingUnit, downstream: DownstreamState) -> Decision {
        let before = self.phase;
        let held = downstream.latency.max(self.hold.delay).min(MAX_HELD);
        self.phase = match before {
            _ if !downstream.accepts => Phase::Shut,
            _ if downstream.level >= held + CONGESTED => Phase::Congested,
            Phase::Congested if downstream.level > CAUGHT_UP => Phase::Congested,
            // Units after a loss can't be decoded before the next keyframe.
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
            // A parser removes the timestamp of a unit that has the same timestamp as the unit before it. That unit may
            // have been dropped: rtph264depay can make two units of one picture, of which the second is the keyframe.
            None => self.latest.map(|latest| latest.saturating_add(ClockTime::NSECOND)),
        };
        self.latest = time.or(self.latest);
        let (Phase::Flowing, Some(time)) = (self.phase, time) else {
            if self.phase == Phase::Flowing {
                self.phase = Phase::Waiting;
            }
            self.discont = true;
            return Decision::Drop {
                request_keyframe: self.phase == Phase::Waiting && before != Phase::Waiting,
            };
        };
        let mut discont = std::mem::take(&mut self.discont) || unit.discont;
        let pts = match after_last {
            // For example, a seek in another branch made the pipeline select a new base time.
            Some(after) if time.saturating_add(RESET) < after => {
                discont = true;
                time
            }
            // The estimate of a new session may be slightly before the last unit of the previous one.
            Some(after) => after.max(time),
            None => time,
        };
        self.last = Some(pts);
        Decision::Send { pts, discont }
    }

    /// Downstream consumes a unit at the running time `now`. While downstream catches up, the delay shows whether it is
    /// slow or late on purpose.
    pub(super) fn consumed(&mut self, pts: ClockTime, now: ClockTime) {
        if self.phase == Phase::Congested {
            self.hold.observe(now.saturating_sub(pts), now);
        }
    }
}

/// The time for which downstream holds units back on purpose, beyond the latency that it declares, such as that of a
/// sink with `ts-offset`.
///
/// While nothing new is queued, the delay of a slow downstream grows, and that of one that catches up shrinks. Only a
/// sink that waits for the clock consumes units with a steady delay.
#[derive(Debug, Default)]
struct Hold {
    delay: ClockTime,
    /// The delay of the first unit of a steady run, and when it was consumed.
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

    fn unit(at: u64, key: bool) -> IncomingUnit {
        IncomingUnit { pts: Some(ms(at)), key, discont: false }
    }

    fn sent(at: u64, discont: bool) -> Decision {
        Decision::Send { pts: ms(at), discont }
    }

    fn level(at: u64) -> DownstreamState {
        DownstreamState { level: ms(at), ..OPEN }
    }

    #[test]
    fn a_stream_begins_with_a_keyframe_flagged_discont() {
        let mut timeline = Timeline::new();
        assert!(timeline.needs_keyframe());
        assert_eq!(timeline.decide(unit(1, false), OPEN), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(2, true), OPEN), sent(1, true));
        assert_eq!(timeline.decide(unit(3, false), OPEN), sent(2, false));
        assert_eq!(timeline.decide(IncomingUnit { discont: true, ..unit(4, true) }, OPEN), sent(3, true));
    }

    #[test]
    fn a_keyframe_without_a_timestamp_follows_the_unit_before_it_even_if_that_was_dropped() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.decide(unit(1, false), OPEN), Decision::Drop { request_keyframe: false });
        let keyframe = IncomingUnit { pts: None, ..unit(1, true) };
        assert_eq!(
            timeline.decide(keyframe, OPEN),
            Decision::Send { pts: ms(0) + ClockTime::NSECOND, discont: true }
        );
        assert_eq!(timeline.decide(unit(34, false), OPEN), sent(33, false));
    }

    #[test]
    fn after_a_loss_units_are_dropped_until_a_keyframe() {
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        let after_loss = IncomingUnit { discont: true, ..unit(2, false) };
        assert_eq!(timeline.decide(after_loss, OPEN), Decision::Drop { request_keyframe: true });
        assert_eq!(timeline.decide(unit(3, false), OPEN), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(4, true), OPEN), sent(3, true));
    }

    #[test]
    fn a_new_session_resumes_later_in_time_flagged_discont() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.decide(unit(100, true), OPEN), sent(99, true));
        timeline.restart();
        assert_eq!(timeline.decide(unit(150, false), OPEN), Decision::Drop { request_keyframe: false });
        let after_last = ms(99) + ClockTime::NSECOND;
        assert_eq!(timeline.decide(unit(100, true), OPEN), Decision::Send { pts: after_last, discont: true });
        assert_eq!(timeline.decide(unit(160, false), OPEN), sent(159, false));
    }

    #[test]
    fn a_reset_of_running_time_is_followed_and_flagged_discont() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.decide(unit(60_001, true), OPEN), sent(60_000, true));
        // Base time moved by 60 s, because another branch of the pipeline was flushed.
        let reset = DownstreamState { offset: -60_030_000_000, ..OPEN };
        assert_eq!(timeline.decide(unit(60_034, false), reset), sent(4, true));
        assert_eq!(timeline.decide(unit(60_067, false), reset), sent(37, false));
    }

    #[test]
    fn after_downstream_has_accepted_nothing_a_keyframe_is_requested() {
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        let shut = DownstreamState { accepts: false, ..OPEN };
        assert_eq!(timeline.decide(unit(2, false), shut), Decision::Drop { request_keyframe: false });
        assert!(!timeline.needs_keyframe());
        assert_eq!(timeline.decide(unit(3, false), OPEN), Decision::Drop { request_keyframe: true });
        assert_eq!(timeline.decide(unit(4, false), OPEN), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(5, true), OPEN), sent(4, true));
    }

    #[test]
    fn units_are_dropped_until_a_slow_downstream_has_caught_up() {
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        assert_eq!(timeline.decide(unit(2, false), level(999)), sent(1, false));
        assert_eq!(timeline.decide(unit(3, true), level(1000)), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(4, true), level(500)), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(5, false), level(100)), Decision::Drop { request_keyframe: true });
        assert_eq!(timeline.decide(unit(6, true), level(0)), sent(5, true));
    }

    #[test]
    fn media_within_the_configured_latency_is_not_congestion() {
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        let latent = |seconds, at| DownstreamState { latency: ClockTime::from_seconds(seconds), ..level(at) };
        assert_eq!(timeline.decide(unit(2, false), latent(3, 3999)), sent(1, false));
        assert_eq!(
            timeline.decide(unit(3, false), latent(3, 4000)),
            Decision::Drop { request_keyframe: false }
        );
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        assert_eq!(timeline.decide(unit(2, false), latent(60, 10_999)), sent(1, false));
        assert_eq!(
            timeline.decide(unit(3, false), latent(60, 11_000)),
            Decision::Drop { request_keyframe: false }
        );
    }

    /// Fills the queue up to the limit and has downstream consume it, each unit `pace` ms after the previous one and
    /// the first one `delay` ms after its time. Returns whether more than a second may be queued afterwards.
    fn may_hold_more(delay: u64, pace: u64) -> bool {
        let mut timeline = Timeline::new();
        timeline.decide(unit(1, true), OPEN);
        timeline.decide(unit(1001, false), level(1000));
        for n in 0..30 {
            timeline.consumed(ms(n * 33), ms(n * pace + delay));
        }
        timeline.decide(unit(2000, true), level(0));
        timeline.decide(unit(3000, false), level(1500)) == sent(2999, false)
    }

    #[test]
    fn a_downstream_that_waits_for_the_clock_is_not_congested() {
        assert!(may_hold_more(2000, 33));
    }

    #[test]
    fn a_downstream_that_falls_behind_or_catches_up_is_congested() {
        assert!(!may_hold_more(2000, 36), "falls behind");
        assert!(!may_hold_more(2000, 30), "catches up");
        assert!(!may_hold_more(0, 33), "has no delay");
    }

    #[test]
    fn a_unit_before_the_start_is_dropped() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.decide(unit(0, true), OPEN), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(2, false), OPEN), Decision::Drop { request_keyframe: false });
        assert_eq!(timeline.decide(unit(3, true), OPEN), sent(2, true));
    }

    #[test]
    fn a_unit_without_a_timestamp_follows_the_one_before_it() {
        let mut timeline = Timeline::new();
        let untimed = IncomingUnit { pts: None, key: true, discont: false };
        assert_eq!(timeline.decide(untimed, OPEN), Decision::Drop { request_keyframe: false });
        timeline.decide(unit(3, true), OPEN);
        let after = ms(2) + ClockTime::NSECOND;
        assert_eq!(timeline.decide(untimed, OPEN), Decision::Send { pts: after, discont: false });
    }
}
