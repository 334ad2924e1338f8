//! Limits the rate of keyframe requests to the encoder (`keyframe-interval-min`), and merges the requests of all receivers of
//! a stream. A value; time is an argument.

use std::time::{Duration, Instant};

/// A receiver that sends a request this soon after a keyframe may not have received the keyframe yet.
const CROSSING: Duration = Duration::from_millis(150);

/// Lets one request pass per interval. If another request arrives during the interval (many receivers join within a second
/// or two), the next interval is twice as long, so that more receivers share a keyframe.
#[derive(Debug)]
pub(crate) struct KeyframeGate {
    interval: Duration,
    last: Option<Instant>,
    crowded: bool,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    requested: Instant,
    due: Instant,
    deferred: bool,
}

impl KeyframeGate {
    /// `interval` is the minimum time between two keyframe requests.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last: None, crowded: false, pending: None }
    }

    /// Sets the interval, which applies from the next request on.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Handles the need of a keyframe. [`KeyframeGate::poll`] decides when to request it.
    pub(crate) fn request(&mut self, now: Instant) {
        self.request_at(now, now);
    }

    /// Handles a PLI or FIR of a receiver. `gate_opened` is when its gate let the first keyframe pass.
    ///
    /// A request within [`CROSSING`] after the receiver's first keyframe crossed it in flight and is ignored; otherwise every
    /// join would cost two keyframes. A request within [`CROSSING`] after another keyframe may report the loss of that
    /// keyframe, and some receivers send only one request per loss. Such a request is deferred.
    pub(crate) fn request_of_receiver(
        &mut self,
        now: Instant,
        last_keyframe: Option<Instant>,
        gate_opened: Option<Instant>,
    ) {
        let recent = |at: Option<Instant>| at.filter(|at| now.saturating_duration_since(*at) < CROSSING);
        if recent(gate_opened).is_some() {
            return;
        }
        if self.pending.is_some_and(|pending| pending.is_served_by(last_keyframe)) {
            self.pending = None;
        }
        self.request_at(now, recent(last_keyframe).map_or(now, |at| at + CROSSING));
    }

    fn request_at(&mut self, now: Instant, earliest: Instant) {
        if self.pending.is_none() {
            let free = self.last.map_or(now, |last| last + self.spacing());
            self.pending = Some(Pending { requested: now, due: free.max(earliest), deferred: free > now });
        }
    }

    fn spacing(&self) -> Duration {
        if self.crowded { self.interval.saturating_mul(2) } else { self.interval }
    }

    /// When [`KeyframeGate::poll`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// Whether to request a keyframe now. `last_keyframe` is the time of the last keyframe, which serves all requests before
    /// it.
    pub(crate) fn poll(&mut self, now: Instant, last_keyframe: Option<Instant>) -> bool {
        let Some(pending) = self.pending else { return false };
        if pending.is_served_by(last_keyframe) {
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

impl Pending {
    fn is_served_by(&self, last_keyframe: Option<Instant>) -> bool {
        last_keyframe.is_some_and(|at| at > self.requested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Makes a request at each of `requests` (ms), polls every 10 ms, and returns when keyframes were requested (ms).
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
    fn the_first_request_passes_immediately() {
        assert_eq!(forced(&[100]), [100]);
        assert_eq!(forced(&[100, 3000]), [100, 3000]);
    }

    #[test]
    fn requests_within_the_interval_share_one_keyframe() {
        assert_eq!(forced(&[0, 10, 50, 490]), [0, 500]);
    }

    #[test]
    fn joins_with_intervals_between_them_never_wait() {
        assert_eq!(forced(&[0, 600, 1200, 1800]), [0, 600, 1200, 1800]);
    }

    #[test]
    fn twenty_joins_in_a_second_and_a_half_cost_three_keyframes() {
        let joins: Vec<u64> = (0..20).map(|n| n * 75).collect();
        assert_eq!(forced(&joins), [0, 500, 1500]);
    }

    /// When a PLI at 1000 ms leads to a request to the encoder, after a keyframe and the opening of the gate at these times
    /// (all in ms).
    fn requested_after_pli(keyframe: Option<u64>, opened: Option<u64>) -> Option<u64> {
        let start = Instant::now();
        let at = |ms| start + MS(ms);
        let mut gate = KeyframeGate::new(MS(500));
        gate.request_of_receiver(at(1000), keyframe.map(at), opened.map(at));
        (1000..3000).step_by(10).find(|ms| gate.poll(at(*ms), keyframe.map(at)))
    }

    #[test]
    fn a_pli_that_crosses_the_first_keyframe_of_its_receiver_is_ignored() {
        assert_eq!(requested_after_pli(Some(900), Some(900)), None);
        assert_eq!(requested_after_pli(Some(850), Some(850)), Some(1000), "the keyframe had time to arrive");
    }

    #[test]
    fn a_pli_that_follows_another_keyframe_is_deferred() {
        assert_eq!(requested_after_pli(Some(900), Some(0)), Some(1050), "that keyframe may have been lost");
        assert_eq!(requested_after_pli(Some(850), Some(0)), Some(1000));
        assert_eq!(requested_after_pli(None, None), Some(1000));
    }

    #[test]
    fn a_keyframe_in_the_meantime_serves_a_deferred_pli() {
        let start = Instant::now();
        let at = |ms| start + MS(ms);
        let mut gate = KeyframeGate::new(MS(500));
        gate.request_of_receiver(at(1000), Some(at(900)), None);
        assert_eq!(gate.deadline(), Some(at(1050)));
        assert!(!gate.poll(at(1050), Some(at(1020))));
        gate.request(at(2000));
        gate.request_of_receiver(at(2030), Some(at(2020)), None);
        assert!(!gate.poll(at(2100), Some(at(2020))), "the keyframe at 2020 served the request at 2000");
        assert!(gate.poll(at(2170), Some(at(2020))), "but not the one at 2030");
    }

    #[test]
    fn a_keyframe_of_the_encoder_itself_serves_the_request() {
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
