//! Liveness of a peer: the age of its last RTCP packet. ICE may stay `completed` after a peer was killed, because libnice
//! 0.1.21 checks consent (RFC 7675) only if it was built to.

use crate::sync::lock;
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// When the last RTCP packet arrived, and the moving average of the interval over about four packets.
#[derive(Debug, Default)]
pub(super) struct Liveness(Mutex<Option<(Instant, Duration)>>);

impl Liveness {
    /// Handles an RTCP packet.
    pub(super) fn heard(&self, now: Instant) {
        let mut last = lock(&self.0);
        let mean = last.map_or(Duration::ZERO, |(at, mean)| {
            mean.saturating_mul(3).saturating_add(now.saturating_duration_since(at)) / 4
        });
        *last = Some((now, mean));
    }

    /// The age of the last packet, and the mean interval.
    pub(super) fn silence(&self, now: Instant) -> Option<(Duration, Duration)> {
        let last = lock(&self.0);
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
