//! Which frames of two streams were taken at the same moment. Without librealsense.

use std::collections::VecDeque;

/// Frames that wait for their partner: more are never on the way at once.
const WAITING: usize = 4;

/// Pairs the frames of one stream, the target, with those of another.
#[derive(Debug)]
pub(super) struct Pairing<F> {
    /// Times this far apart are of one moment, in milliseconds.
    tolerance: f64,
    targets: VecDeque<(f64, F)>,
    others: VecDeque<(f64, F)>,
}

impl<F> Pairing<F> {
    /// For streams of this many frames a second.
    pub(super) fn new(rate: u32) -> Self {
        Self { tolerance: 500.0 / f64::from(rate.max(1)), targets: VecDeque::new(), others: VecDeque::new() }
    }

    /// A frame came, at this time in milliseconds. Returns the pair that it completes, the target first.
    pub(super) fn put(&mut self, is_target: bool, time: f64, frame: F) -> Option<(F, F)> {
        let (own, partners) = if is_target {
            (&mut self.targets, &mut self.others)
        } else {
            (&mut self.others, &mut self.targets)
        };
        let apart = |(partner, _): &(f64, F)| (partner - time).abs();
        let nearest = partners.iter().map(apart).enumerate().min_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((index, _)) = nearest.filter(|(_, apart)| *apart <= self.tolerance) {
            // What is older than a pair finds no partner any more.
            own.clear();
            let (_, partner) = partners.drain(..=index).next_back()?;
            return Some(if is_target { (frame, partner) } else { (partner, frame) });
        }
        if own.len() >= WAITING {
            own.pop_front();
        }
        own.push_back((time, frame));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_moment_meet_whichever_comes_first() {
        let mut pairing = Pairing::new(30);
        assert_eq!(pairing.put(true, 1000.0, "depth 1"), None);
        assert_eq!(pairing.put(false, 1002.0, "color 1"), Some(("depth 1", "color 1")));
        assert_eq!(pairing.put(false, 1035.0, "color 2"), None);
        assert_eq!(pairing.put(true, 1033.0, "depth 2"), Some(("depth 2", "color 2")));
    }

    #[test]
    fn a_frame_whose_partner_was_lost_is_left_out() {
        let mut pairing = Pairing::new(30);
        assert_eq!(pairing.put(true, 1000.0, "depth 1"), None);
        assert_eq!(pairing.put(true, 1033.0, "depth 2"), None);
        assert_eq!(pairing.put(false, 1033.0, "color 2"), Some(("depth 2", "color 2")));
        assert_eq!(pairing.put(false, 1000.0, "color 1"), None);
        assert_eq!(pairing.put(true, 1066.0, "depth 3"), None);
        assert_eq!(pairing.put(false, 1066.0, "color 3"), Some(("depth 3", "color 3")));
    }

    #[test]
    fn streams_that_never_meet_hold_few_frames() {
        let mut pairing = Pairing::new(30);
        for number in 0..100 {
            assert_eq!(pairing.put(true, 33.0 * f64::from(number), number), None);
        }
        assert_eq!(pairing.targets.len(), WAITING);
    }
}
