//! Recognizes B-frames, which real-time receivers cannot play.

/// Notices B-frames: their presentation times go back. Ordinary streams never do.
#[derive(Debug, Default)]
pub(crate) struct ReorderWatch {
    last: Option<gst::ClockTime>,
    seen: u32,
}

impl ReorderWatch {
    /// Looks at the next access unit in decoding order; true once it is beyond doubt.
    pub(crate) fn has_b_frames(&mut self, pts: Option<gst::ClockTime>) -> bool {
        let Some(pts) = pts else { return false };
        if self.last.is_some_and(|last| pts < last) {
            self.seen = self.seen.saturating_add(1);
        }
        self.last = Some(pts);
        self.seen >= 3
    }

    /// After a seek or another jump that is not reordering.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_frames_show_in_times_that_go_back() {
        let ms = |n| Some(gst::ClockTime::from_mseconds(n));
        let mut straight = ReorderWatch::default();
        assert!(![0, 33, 66, 99, 132].into_iter().any(|n| straight.has_b_frames(ms(n))));
        let mut reordered = ReorderWatch::default();
        assert!([0, 99, 33, 66, 198, 132, 165, 297, 231].into_iter().any(|n| reordered.has_b_frames(ms(n))));
    }
}
