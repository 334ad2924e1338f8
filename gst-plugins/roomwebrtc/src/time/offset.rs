//! Estimates the offset between the system clock and another clock. A value.

use super::signed;
use gst::ClockTime;
use std::collections::VecDeque;

/// Readings older than this say nothing about the present, because the two clocks drift.
const WINDOW: ClockTime = ClockTime::from_seconds(1);
/// The window holds at most this many readings.
const MAX_READINGS: usize = 32;
/// A difference between the estimate and the readings beyond which a clock was set, as opposed to drifting.
const CLOCK_STEP: i64 = 20_000_000;
/// The estimate approaches the best reading by this fraction of their difference at each reading.
const SMOOTHING: i64 = 8;

/// Readings of the system clock, of a pipeline's clock, and of the system clock again, in direct succession.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) before: ClockTime,
    pub(crate) pipeline: ClockTime,
    pub(crate) after: ClockTime,
}

/// How far the system clock is ahead of a pipeline's clock, estimated from many readings.
///
/// The thread may be preempted within a reading, which makes the reading wide and its offset uncertain by half of the
/// width. Therefore the tightest recent reading counts, and the estimate follows it smoothly.
#[derive(Debug, Default)]
pub(crate) struct ClockOffset {
    window: VecDeque<Sample>,
    estimate: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: ClockTime,
    width: ClockTime,
    offset: i64,
}

impl ClockOffset {
    /// Handles a reading. Returns the nanoseconds to add to a time of the pipeline's clock to get the
    /// time of the system clock.
    pub(crate) fn observe(&mut self, reading: Reading) -> i64 {
        let width = reading.after.saturating_sub(reading.before);
        let middle = signed(reading.before).saturating_add(signed(width) / 2);
        let sample =
            Sample { at: reading.after, width, offset: middle.saturating_sub(signed(reading.pipeline)) };
        if self.window.len() >= MAX_READINGS {
            self.window.pop_front();
        }
        self.window.retain(|old| reading.after.saturating_sub(old.at) <= WINDOW);
        self.window.push_back(sample);
        let best = self.window.iter().min_by_key(|sample| sample.width).map_or(sample, |best| *best);
        // The clock was set: earlier readings are about another offset. A wide reading proves nothing of the kind.
        let apart = sample.offset.saturating_sub(best.offset).saturating_abs();
        let best = if apart > CLOCK_STEP.saturating_add(signed(sample.width)) {
            self.window.clear();
            self.window.push_back(sample);
            sample
        } else {
            best
        };
        let estimate = match self.estimate {
            Some(old) if best.offset.saturating_sub(old).saturating_abs() <= CLOCK_STEP => {
                old.saturating_add(best.offset.saturating_sub(old) / SMOOTHING)
            }
            _ => best.offset,
        };
        self.estimate = Some(estimate);
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn ms(n: u64) -> ClockTime {
        ClockTime::from_mseconds(n)
    }

    fn us(n: u64) -> ClockTime {
        ClockTime::from_useconds(n)
    }

    /// A reading of a clock that is 5 s behind, `width` µs wide, with the pipeline's clock read `early` µs before the
    /// middle.
    fn reading(at: u64, width: u64, early: u64) -> Reading {
        let before = ClockTime::from_seconds(10) + us(at);
        let pipeline = before + us(width / 2) - us(early) - ClockTime::from_seconds(5);
        Reading { before, pipeline, after: before + us(width) }
    }

    #[test]
    fn a_preempted_reading_does_not_move_the_offset() {
        let mut offset = ClockOffset::default();
        assert_eq!(offset.observe(reading(0, 2, 0)), 5_000 * MS);
        for n in 1..20 {
            let estimate = offset.observe(reading(n * 33_000, 10_000, 4_900));
            assert_eq!(estimate, 5_000 * MS, "reading {n}");
        }
    }

    #[test]
    fn a_first_reading_that_was_preempted_is_corrected_by_better_ones() {
        let mut offset = ClockOffset::default();
        assert_eq!(offset.observe(reading(0, 8_000, 4_000)), 5_004 * MS);
        let mut last = 5_004 * MS;
        for n in 1..60 {
            let estimate = offset.observe(reading(n * 33_000, 2, 0));
            assert!(estimate <= last && last - estimate <= MS / 2, "smoothly: {last} then {estimate}");
            last = estimate;
        }
        assert!((last - 5_000 * MS).abs() < MS / 50, "{last}");
    }

    #[test]
    fn the_estimate_follows_a_clock_that_drifts() {
        let mut offset = ClockOffset::default();
        let mut worst = 0;
        for n in 0..300_u64 {
            // 100 ppm: 3.3 µs for each frame.
            let drift = n * 33 / 10;
            let mut reading = reading(n * 33_000, 2, 0);
            reading.pipeline += us(drift);
            let exact = 5_000 * MS - signed(us(drift));
            worst = worst.max((offset.observe(reading) - exact).abs());
        }
        assert!(worst < MS / 5, "{worst} ns behind");
    }

    #[test]
    fn the_estimate_follows_a_clock_that_was_set_immediately() {
        let mut offset = ClockOffset::default();
        offset.observe(reading(0, 2, 0));
        let mut set = reading(33_000, 2, 0);
        set.pipeline += ms(3_600_000);
        assert_eq!(offset.observe(set), (5_000 - 3_600_000) * MS);
        let mut back = reading(66_000, 2, 0);
        back.pipeline -= ms(2_000);
        assert_eq!(offset.observe(back), 7_000 * MS);
    }

    #[test]
    fn one_reading_that_was_preempted_for_long_is_not_mistaken_for_a_set_clock() {
        let mut offset = ClockOffset::default();
        offset.observe(reading(0, 2, 0));
        assert_eq!(offset.observe(reading(33_000, 300_000, 149_000)), 5_000 * MS);
        assert_eq!(offset.observe(reading(400_000, 2, 0)), 5_000 * MS);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut offset = ClockOffset::default();
        for pipeline in [ClockTime::ZERO, ClockTime::MAX] {
            offset.observe(Reading { before: ClockTime::MAX, pipeline, after: ClockTime::ZERO });
        }
    }
}
