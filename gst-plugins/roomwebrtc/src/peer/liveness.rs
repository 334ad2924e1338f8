//! Whether the peer is still there, by the age of its last RTCP packet. ICE may stay `completed` after a peer was killed,
//! because libnice 0.1.21 does not check consent (RFC 7675) unless it is built to.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// When RTCP of the peer came: the last time, and the mean interval (moving, over about four packets).
#[derive(Debug, Default)]
pub(super) struct Liveness(Mutex<Option<(Instant, Duration)>>);

impl Liveness {
    /// A packet came.
    pub(super) fn heard(&self, now: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = last.map_or(Duration::ZERO, |(at, mean)| {
            mean.saturating_mul(3).saturating_add(now.saturating_duration_since(at)) / 4
        });
        *last = Some((now, mean));
    }

    /// The age of the last packet, and the mean interval.
    pub(super) fn silence(&self, now: Instant) -> Option<(Duration, Duration)> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(at, mean)| (now.saturating_duration_since(at), mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_age_of_the_last_packet_and_the_mean_interval_follows_slowly() {
        let liveness = Liveness::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(liveness.silence(start), None);
        for second in [0, 4, 8] {
            liveness.heard(at(second));
        }
        assert_eq!(liveness.silence(at(11)), Some((Duration::from_secs(3), Duration::from_millis(1750))));
        assert_eq!(
            liveness.silence(start).map(|(age, _)| age),
            Some(Duration::ZERO),
            "a clock that steps back"
        );
    }
}
