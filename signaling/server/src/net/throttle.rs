//! Limits the rates of one connection: messages, bytes, and the work that its messages cause. Beyond these, nothing is
//! dropped or refused: the server pauses reading from the socket, so that the peer waits as on a slow network.

use crate::limits::Limits;
use room_protocol::rate::{Bucket, Rate};
use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// The shortest pause. Each pause of a flood costs a turn.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// The number of deliveries that one message pays for. A message to a large room is work for the server.
const DELIVERIES_A_MESSAGE: u64 = 4;
/// The bytes to read at a time from a peer that is close to its limits. The rest waits in the peer's own buffers.
const SMALL_WINDOW: usize = 4 << 10;
/// A peer with a smaller allowance than this is close to its limits.
const FEW_MESSAGES: u32 = 16;
const FEW_BYTES: u32 = 64 << 10;

/// The rates of every connection. A debt is never larger than the allowance of one second, so that no pause is mistaken for
/// silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    messages: Rate,
    bytes: Rate,
    answers: Rate,
    /// The largest debt of messages.
    max_messages: u64,
    /// The largest debt of bytes of answers.
    max_answers: u64,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        // Two answers of the largest size fit into a queue. A third one waits until the peer has had time to read.
        let burst = u32::try_from(limits.max_queue / 2).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Self {
            messages: limits.messages(),
            bytes: limits.bytes(),
            answers: Rate::per_second(limits.bytes_per_second, burst),
            max_messages: limits.messages_per_second.get().into(),
            max_answers: limits.bytes_per_second.get().into(),
        }
    }
}

/// The allowance of one connection.
#[derive(Debug)]
pub(crate) struct Throttle {
    messages: Bucket,
    bytes: Bucket,
    /// Bytes of the server's answers.
    answers: Bucket,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self { messages: Bucket::new(now), bytes: Bucket::new(now), answers: Bucket::new(now) }
    }

    /// Lets another frame begin, or returns the time when it may.
    pub(crate) fn begin(&mut self, now: Instant, rates: &Rates) -> Result<(), Instant> {
        let owed = self.bytes.wait(now, &rates.bytes, 1).max(self.answers.wait(now, &rates.answers, 1));
        match owed {
            Some(until) => Err(until.max(now + MIN_PAUSE)),
            None => self.messages.take(now, &rates.messages, 1).map_err(|until| until.max(now + MIN_PAUSE)),
        }
    }

    /// Charges for a frame of this length. It may exceed the allowance; then the next frame waits.
    pub(crate) fn charge(&mut self, now: Instant, rates: &Rates, bytes: u64) {
        self.bytes.charge(now, &rates.bytes, bytes);
    }

    /// Charges for deliveries, or for work that costs as much.
    pub(crate) fn delivered(&mut self, now: Instant, rates: &Rates, count: u64) {
        let price = (count / DELIVERIES_A_MESSAGE).min(rates.max_messages);
        if price > 0 {
            self.messages.charge(now, &rates.messages, price);
        }
    }

    /// Charges for bytes of answers.
    pub(crate) fn answered(&mut self, now: Instant, rates: &Rates, bytes: usize) {
        if bytes > 0 {
            self.answers.charge(now, &rates.answers, (bytes as u64).min(rates.max_answers));
        }
    }

    /// Whether little of the allowance is left.
    pub(crate) fn is_close(&self, now: Instant, rates: &Rates) -> bool {
        self.messages.wait(now, &rates.messages, FEW_MESSAGES).is_some()
            || self.bytes.wait(now, &rates.bytes, FEW_BYTES).is_some()
    }

    /// The bytes to read at a time: `usual`, or fewer if the peer is close to its limits.
    pub(crate) fn window(&self, now: Instant, rates: &Rates, usual: usize) -> usize {
        if self.is_close(now, rates) { SMALL_WINDOW.min(usual) } else { usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_charged_by_their_bytes() {
        let (now, limits) = (Instant::now(), Limits::default());
        let rates = Rates::new(&limits);
        let mut throttle = Throttle::new(now);
        let list = limits.max_queue / 2;
        throttle.answered(now, &rates, list);
        let until = throttle.begin(now, &rates).unwrap_err();
        assert!(until <= now + MIN_PAUSE, "the burst is exactly used up");
        // Another answer before the debt is paid makes the pause a second, never more.
        throttle.answered(now, &rates, list);
        let second = Duration::from_secs(1);
        let until = throttle.begin(now, &rates).unwrap_err();
        assert!(until > now + second * 9 / 10 && until <= now + second + MIN_PAUSE, "{:?}", until - now);
        assert_eq!(throttle.begin(until, &rates), Ok(()));
    }

    #[test]
    fn small_answers_cost_an_ordinary_client_nothing() {
        let (mut now, rates) = (Instant::now(), Rates::new(&Limits::default()));
        let mut throttle = Throttle::new(now);
        for _ in 0..1_000 {
            now += Duration::from_millis(11);
            assert_eq!(throttle.begin(now, &rates), Ok(()));
            throttle.answered(now, &rates, 200);
            throttle.delivered(now, &rates, 1);
        }
    }
}
