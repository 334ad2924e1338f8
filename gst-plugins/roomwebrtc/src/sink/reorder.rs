//! Recognizes streams whose access units come in another order than they are shown, which real-time receivers cannot
//! play: streams with B-frames.

use gst::ClockTime;

/// How many access units are looked at.
const WINDOW: u32 = 30;
/// So many B pictures that are shown before the picture in front of them prove reordering.
const B_PICTURES: u32 = 3;
/// So many steps back prove reordering without B slices, which other kinds of slices permit, too. A file that is played
/// in a loop, a concatenation, and a camera that corrects its clock step back much less often.
const STEPS_BACK: u32 = 8;

/// Compares the time of each access unit with the time of the one before it, over the last [`WINDOW`] units.
#[derive(Debug, Default)]
pub(crate) struct ReorderWatch {
    last: Option<ClockTime>,
    /// One bit for each unit, the newest is the lowest.
    steps_back: u32,
    b_pictures: u32,
}

impl ReorderWatch {
    /// Looks at the next access unit in decoding order; true once reordering is beyond doubt. `bidirectional`: it has B
    /// slices, which alone tell in a stream without times.
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

    /// Forgets the time of the last unit: after a flush or in a new segment, another time is no reordering.
    pub(crate) fn jump(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether reordering was found anywhere; times in frames.
    fn found(units: impl IntoIterator<Item = (u64, bool)>) -> bool {
        let mut watch = ReorderWatch::default();
        let at = |frame: u64| Some(ClockTime::from_mseconds(33 * frame));
        units.into_iter().any(|(frame, b)| watch.is_reordered(at(frame), b))
    }

    #[test]
    fn a_stream_in_order_is_not_reordered_even_with_b_slices() {
        assert!(!found((0..100).map(|frame| (frame, false))));
        assert!(!found((0..100).map(|frame| (frame, frame % 3 > 0))), "B slices that refer only to the past");
    }

    #[test]
    fn b_pictures_that_are_shown_before_the_picture_in_front_of_them_are_reordering() {
        let three_groups =
            [(0, false), (3, false), (1, true), (2, true), (6, false), (4, true), (5, true), (9, false)];
        assert!(!found(three_groups), "two groups may be a coincidence");
        assert!(found(three_groups.into_iter().chain([(7, true)])));
    }

    #[test]
    fn persistent_steps_back_without_b_slices_are_reordering() {
        assert!(found((0..10).flat_map(|group| [
            (3 * group + 2, false),
            (3 * group, false),
            (3 * group + 1, false)
        ])));
    }

    #[test]
    fn in_a_stream_without_times_b_slices_are_reordering() {
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
    fn a_jump_is_not_compared_with_the_time_before_it() {
        let mut watch = ReorderWatch::default();
        for _ in 0..20 {
            assert!(!watch.is_reordered(Some(ClockTime::SECOND), true));
            watch.jump();
            assert!(!watch.is_reordered(Some(ClockTime::ZERO), true));
        }
    }
}
