//! When the encoder is asked for a keyframe. All who want one meet here; time is an argument.

use std::time::{Duration, Instant};

/// Lets one request through per interval. Where requests keep coming before the interval is over (many receivers that
/// join within a second or two) it doubles, so that late comers share a keyframe.
#[derive(Debug)]
pub(crate) struct KeyframeGate {
    interval: Duration,
    last: Option<Instant>,
    crowded: bool,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    asked: Instant,
    due: Instant,
    deferred: bool,
}

impl KeyframeGate {
    /// `interval` is the least time between two forced keyframes.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last: None, crowded: false, pending: None }
    }

    /// Changes the interval, from the next request on.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Somebody needs a keyframe. [`KeyframeGate::poll`] tells when to ask for it.
    pub(crate) fn request(&mut self, now: Instant) {
        if self.pending.is_some() {
            return;
        }
        let due = match self.last {
            Some(last) => (last + self.spacing()).max(now),
            None => now,
        };
        self.pending = Some(Pending { asked: now, due, deferred: due > now });
    }

    fn spacing(&self) -> Duration {
        if self.crowded { self.interval.saturating_mul(2) } else { self.interval }
    }

    /// When [`KeyframeGate::poll`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// Whether to ask the encoder now. `last_keyframe` is when one last came by itself or was made: a request older than
    /// it is served already.
    pub(crate) fn poll(&mut self, now: Instant, last_keyframe: Option<Instant>) -> bool {
        let Some(pending) = self.pending else { return false };
        if last_keyframe.is_some_and(|at| at > pending.asked) {
            self.pending = None;
            return false;
        }
        if now < pending.due {
            return false;
        }
        self.crowded = pending.deferred;
        self.last = Some(now);
        self.pending = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Asks at each of `requests` (ms), looks every 10 ms, and returns when keyframes were forced.
    fn forced(requests: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut gate = KeyframeGate::new(MS(500));
        (0..6000)
            .step_by(10)
            .filter(|at| {
                requests.iter().filter(|r| *r / 10 == at / 10).for_each(|_| gate.request(start + MS(*at)));
                gate.poll(start + MS(*at), None)
            })
            .collect()
    }

    #[test]
    fn the_first_request_goes_through_at_once() {
        assert_eq!(forced(&[100]), [100]);
        assert_eq!(forced(&[100, 3000]), [100, 3000]);
    }

    #[test]
    fn requests_within_the_interval_share_one_keyframe() {
        assert_eq!(forced(&[0, 10, 50, 490]), [0, 500]);
    }

    #[test]
    fn joins_one_after_another_never_wait() {
        assert_eq!(forced(&[0, 600, 1200, 1800]), [0, 600, 1200, 1800]);
    }

    #[test]
    fn twenty_joins_in_a_second_and_a_half_cost_three() {
        let joins: Vec<u64> = (0..20).map(|n| n * 75).collect();
        assert_eq!(forced(&joins), [0, 500, 1500]);
    }

    #[test]
    fn a_keyframe_that_came_by_itself_serves_the_request() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new(MS(500));
        gate.request(start);
        assert!(gate.poll(start, None));
        gate.request(start + MS(100));
        assert_eq!(gate.deadline(), Some(start + MS(500)));
        assert!(!gate.poll(start + MS(500), Some(start + MS(300))));
        assert_eq!(gate.deadline(), None);
    }
}
