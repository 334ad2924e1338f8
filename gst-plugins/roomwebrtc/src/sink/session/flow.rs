//! Whether media flows to a receiver. A browser that receives no media sends no RTCP, so missing RTCP is a sign of a lost
//! receiver only while media flows.

use std::time::{Duration, Instant};

/// Media flows if a unit was sent within this time. A camera with one picture per second flows.
const IDLE: Duration = Duration::from_secs(3);

/// Derives the flow of media from the number of units sent. Time is an argument.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    units: u64,
    /// When the flow began, and when the last unit was sent.
    flowing: Option<(Instant, Instant)>,
}

impl Flow {
    /// Handles the number of units sent up to `now`.
    pub(super) fn observe(&mut self, now: Instant, units: u64) {
        if self.units == units {
            return;
        }
        self.units = units;
        let since = self.duration(now).and(self.flowing).map_or(now, |(since, _)| since);
        self.flowing = Some((since, now));
    }

    /// How long media has been flowing. `None` if it does not flow.
    pub(super) fn duration(&self, now: Instant) -> Option<Duration> {
        let (since, last) = self.flowing?;
        (now.saturating_duration_since(last) <= IDLE).then(|| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_the_flow_and_the_next_unit_begins_a_new_one() {
        let mut flow = Flow::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        flow.observe(at(0), 0);
        assert_eq!(flow.duration(start), None, "nothing was sent");
        for second in 1..=20 {
            flow.observe(at(second), second * 30);
        }
        assert_eq!(flow.duration(at(20)), Some(Duration::from_secs(19)));
        for second in 21..=60 {
            flow.observe(at(second), 600);
        }
        assert_eq!(flow.duration(at(60)), None);
        flow.observe(at(61), 601);
        assert_eq!(flow.duration(at(62)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_slow_stream_flows() {
        let mut flow = Flow::default();
        let start = Instant::now();
        for second in 0..20 {
            flow.observe(start + Duration::from_secs(second), second + 1);
        }
        assert_eq!(flow.duration(start + Duration::from_secs(20)), Some(Duration::from_secs(20)));
    }
}
