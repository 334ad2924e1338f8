//! Pairs the frames of two streams that were captured at the same moment. A value that does not depend on librealsense.

use std::{collections::VecDeque, sync::Arc};

/// The number of frames of a stream that wait for a partner. More are never in flight.
const WAITING: usize = 4;

/// Pairs each frame of one stream, the target, with the frame of the other stream that is nearest in time. If the other
/// stream is slower, its frames serve several targets.
#[derive(Debug)]
pub(super) struct Pairing<F> {
    /// The greatest difference in time within a pair, in milliseconds.
    tolerance: f64,
    targets: VecDeque<(f64, F)>,
    others: VecDeque<(f64, Arc<F>)>,
}

/// A target and its partner.
type Pair<F> = (F, Arc<F>);

impl<F> Pairing<F> {
    /// Creates a pairing. `rate` is the frame rate of the slower stream.
    pub(super) fn new(rate: u32) -> Self {
        Self { tolerance: 500.0 / f64::from(rate.max(1)), targets: VecDeque::new(), others: VecDeque::new() }
    }

    /// Adds a frame that was captured at this time, in milliseconds. Returns the pairs that it completes, in order.
    pub(super) fn put(&mut self, is_target: bool, time: f64, frame: F) -> Vec<Pair<F>> {
        if is_target {
            if let Some(partner) = self.nearest(time) {
                // Frames older than a pair find no partner any more.
                self.targets.clear();
                return vec![(frame, partner)];
            }
            keep(&mut self.targets, (time, frame));
            return Vec::new();
        }
        keep(&mut self.others, (time, Arc::new(frame)));
        let mut pairs = Vec::new();
        let mut waiting = VecDeque::new();
        for (time, target) in std::mem::take(&mut self.targets) {
            match self.nearest(time) {
                Some(partner) => {
                    waiting.clear();
                    pairs.push((target, partner));
                }
                None => waiting.push_back((time, target)),
            }
        }
        self.targets = waiting;
        pairs
    }

    /// Adds a frame whose timestamp can't be compared with those of the other stream, because its clock is another one.
    /// It is paired with the latest frame of the other stream, and each frame is used once.
    pub(super) fn put_by_arrival(&mut self, is_target: bool, frame: F) -> Option<Pair<F>> {
        if is_target {
            if let Some((_, partner)) = self.others.pop_back() {
                self.others.clear();
                self.targets.clear();
                return Some((frame, partner));
            }
            keep(&mut self.targets, (0.0, frame));
            return None;
        }
        if let Some((_, target)) = self.targets.pop_back() {
            self.others.clear();
            self.targets.clear();
            return Some((target, Arc::new(frame)));
        }
        keep(&mut self.others, (0.0, Arc::new(frame)));
        None
    }

    fn nearest(&self, time: f64) -> Option<Arc<F>> {
        let apart = |other: f64| (other - time).abs();
        let nearest =
            self.others.iter().min_by(|(one, _), (other, _)| apart(*one).total_cmp(&apart(*other)))?;
        (apart(nearest.0) <= self.tolerance).then(|| nearest.1.clone())
    }
}

fn keep<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() >= WAITING {
        queue.pop_front();
    }
    queue.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs that a frame completes, as text.
    fn put(pairing: &mut Pairing<String>, is_target: bool, time: f64) -> Vec<String> {
        let name = if is_target { "depth" } else { "color" };
        let pairs = pairing.put(is_target, time, format!("{name} {time}"));
        pairs.into_iter().map(|(target, other)| format!("{target}, {other}")).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn frames_of_one_moment_are_paired_whichever_arrives_first() {
        let mut pairing = Pairing::new(30);
        assert_eq!(put(&mut pairing, true, 1000.0), NONE);
        assert_eq!(put(&mut pairing, false, 1002.0), ["depth 1000, color 1002"]);
        assert_eq!(put(&mut pairing, false, 1035.0), NONE);
        assert_eq!(put(&mut pairing, true, 1033.0), ["depth 1033, color 1035"]);
    }

    #[test]
    fn a_frame_whose_partner_was_lost_is_left_out() {
        let mut pairing = Pairing::new(30);
        assert_eq!(put(&mut pairing, true, 1000.0), NONE);
        assert_eq!(put(&mut pairing, true, 1033.0), NONE);
        assert_eq!(put(&mut pairing, false, 1033.0), ["depth 1033, color 1033"]);
        assert_eq!(put(&mut pairing, false, 1000.0), NONE);
        assert_eq!(put(&mut pairing, true, 1066.0), NONE);
        assert_eq!(put(&mut pairing, false, 1066.0), ["depth 1066, color 1066"]);
    }

    #[test]
    fn frames_of_a_slower_stream_serve_several_targets() {
        let mut pairing = Pairing::new(15);
        assert_eq!(put(&mut pairing, false, 0.0), NONE);
        assert_eq!(put(&mut pairing, true, 0.0), ["depth 0, color 0"]);
        assert_eq!(put(&mut pairing, true, 33.0), ["depth 33, color 0"]);
        assert_eq!(put(&mut pairing, false, 66.0), NONE);
        assert_eq!(put(&mut pairing, true, 66.0), ["depth 66, color 66"]);
        // The partner of two targets is late.
        assert_eq!(put(&mut pairing, true, 132.0), NONE);
        assert_eq!(put(&mut pairing, true, 140.0), NONE);
        assert_eq!(put(&mut pairing, false, 132.0), ["depth 132, color 132", "depth 140, color 132"]);
    }

    #[test]
    fn of_a_faster_stream_the_nearest_frame_is_used() {
        let mut pairing = Pairing::new(30);
        for time in [0.0, 11.0, 22.0, 33.0] {
            assert_eq!(put(&mut pairing, false, time), NONE);
        }
        assert_eq!(put(&mut pairing, true, 12.0), ["depth 12, color 11"]);
        assert_eq!(put(&mut pairing, true, 45.0), ["depth 45, color 33"]);
    }

    #[test]
    fn frames_of_two_clocks_are_paired_by_arrival_and_used_once() {
        let mut pairing = Pairing::new(30);
        let mut put = |is_target, name| {
            let pair = pairing.put_by_arrival(is_target, name);
            pair.map(|(target, other)| (target, *other))
        };
        assert_eq!(put(true, "depth 1"), None);
        assert_eq!(put(false, "color 1"), Some(("depth 1", "color 1")));
        assert_eq!(put(false, "color 2"), None);
        assert_eq!(put(false, "color 3"), None);
        assert_eq!(put(true, "depth 3"), Some(("depth 3", "color 3")));
        assert_eq!(put(true, "depth 4"), None);
        assert_eq!(put(true, "depth 5"), None);
        assert_eq!(put(false, "color 5"), Some(("depth 5", "color 5")));
    }

    #[test]
    fn streams_without_pairs_hold_few_frames() {
        let mut pairing = Pairing::new(30);
        for number in 0..100 {
            put(&mut pairing, true, 33.0 * f64::from(number));
            put(&mut pairing, false, 1e6 + 33.0 * f64::from(number));
        }
        assert_eq!((pairing.targets.len(), pairing.others.len()), (WAITING, WAITING));
    }
}
