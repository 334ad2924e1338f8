//! Detects streams whose decoding order differs from their presentation order (B-frames). Real-time receivers cannot play
//! them. A value.

use gst::ClockTime;

/// The number of access units in the window.
const WINDOW: u32 = 30;
/// The number of B pictures with a step back in time that proves reordering.
const B_PICTURES: u32 = 3;
/// The number of steps back in time that proves reordering without B slices. A file in a loop, a concatenation, and a camera
/// that corrects its clock step back less often.
const STEPS_BACK: u32 = 8;

/// Compares the presentation times of successive access units, over the last [`WINDOW`] units.
#[derive(Debug, Default)]
pub(crate) struct ReorderWatch {
    last: Option<ClockTime>,
    /// One bit per unit; the lowest bit is the newest unit.
    steps_back: u32,
    b_pictures: u32,
}

impl ReorderWatch {
    /// Handles the next access unit in decoding order. Returns whether reordering is proven. `bidirectional`: the unit has B
    /// slices, which are the only evidence in a stream without timestamps.
    pub(crate) fn is_reordered(&mut self, time: Option<ClockTime>, bidirectional: bool) -> bool {
        let step_back = match time {
            Some(time) => self.last.replace(time).is_some_and(|last| time < last),
            None => bidirectional,
        };
        let shift = |bits: u32, bit: bool| ((bits << 1) | u32::from(bit)) & ((1 << WINDOW) - 1);
        self.steps_back = shift(self.steps_back, step_back);
        self.b_pictures = shift(self.b_pictures, step_back && bidirectional);
        self.b_pictures.count_ones() >= B_PICTURES || self.steps_back.count_ones() >= STEPS_BACK
    }

    /// Handles a flush or a new segment, where a step back in time is not reordering.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether reordering is proven at any of these units. Times are in frames.
    fn found(units: impl IntoIterator<Item = (u64, bool)>) -> bool {
        let mut watch = ReorderWatch::default();
        let at = |frame: u64| Some(ClockTime::from_mseconds(33 * frame));
        units.into_iter().any(|(frame, b)| watch.is_reordered(at(frame), b))
    }

    #[test]
    fn b_slices_in_presentation_order_are_not_reordering() {
        assert!(!found((0..100).map(|frame| (frame, false))));
        assert!(!found((0..100).map(|frame| (frame, frame % 3 > 0))), "B slices that refer only to the past");
    }

    #[test]
    fn b_pictures_that_step_back_in_time_are_reordering() {
        let three_groups =
            [(0, false), (3, false), (1, true), (2, true), (6, false), (4, true), (5, true), (9, false)];
        assert!(!found(three_groups), "two groups may be a coincidence");
        assert!(found(three_groups.into_iter().chain([(7, true)])));
    }

    #[test]
    fn frequent_steps_back_without_b_slices_are_reordering() {
        assert!(found((0..10).flat_map(|group| [
            (3 * group + 2, false),
            (3 * group, false),
            (3 * group + 1, false)
        ])));
    }

    #[test]
    fn b_slices_without_timestamps_are_reordering() {
        let mut watch = ReorderWatch::default();
        assert!(!(0..30).any(|_| watch.is_reordered(None, false)));
        assert!((0..9).any(|n| watch.is_reordered(None, n % 3 > 0)));
    }

    #[test]
    fn loops_of_a_short_file_are_not_reordering() {
        assert!(!found((0..20).flat_map(|_| (0..10).map(|frame| (frame, false)))));
        assert!(!found((0..20).flat_map(|_| (0..30).map(|frame| (frame, frame == 0)))));
    }

    #[test]
    fn steps_back_count_only_within_the_last_second() {
        let with_jumps = (0..50).flat_map(|jump| (0..29).map(move |n| (5000 - 100 * jump + n, n == 0)));
        assert!(!found(with_jumps));
    }

    #[test]
    fn times_on_the_two_sides_of_a_discontinuity_are_not_compared() {
        let mut watch = ReorderWatch::default();
        for _ in 0..20 {
            assert!(!watch.is_reordered(Some(ClockTime::SECOND), true));
            watch.handle_discontinuity();
            assert!(!watch.is_reordered(Some(ClockTime::ZERO), true));
        }
    }
}
