//! What one connection may say in which time. Over it nothing is dropped and nothing refused: its socket is not read
//! for a while, and the peer has to wait as for a slow network.

use crate::limits::Limits;
use room_protocol::rate::{Bucket, Rate};
use std::time::{Duration, Instant};

/// The shortest pause. A flood costs a turn for each of them.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// How many deliveries a message may cause for the price of one. A message to a whole room is work as well.
const DELIVERIES_A_MESSAGE: u64 = 4;
/// What is read at a time of a peer that is close to its limits: the rest better waits in its own buffers than here.
const SMALL_WINDOW: usize = 4 << 10;
/// Close to its limits means that less than this is left.
const FEW_MESSAGES: u32 = 16;
const FEW_BYTES: u32 = 64 << 10;

/// The rates of all connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    messages: Rate,
    bytes: Rate,
    /// A connection never owes more messages than come in within a second, so that no pause is taken for silence.
    max_debt: u64,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max_debt = u64::from(limits.messages_per_second.get());
        Self { messages: limits.messages(), bytes: limits.bytes(), max_debt }
    }
}

/// What is left for one connection.
#[derive(Debug)]
pub(crate) struct Throttle {
    messages: Bucket,
    bytes: Bucket,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self { messages: Bucket::new(now), bytes: Bucket::new(now) }
    }

    /// Lets another frame begin, or tells when it may.
    pub(crate) fn begin(&mut self, now: Instant, rates: &Rates) -> Result<(), Instant> {
        match self.bytes.wait(now, &rates.bytes, 1) {
            Some(until) => Err(until.max(now + MIN_PAUSE)),
            None => self.messages.take(now, &rates.messages, 1).map_err(|until| until.max(now + MIN_PAUSE)),
        }
    }

    /// A frame has begun that is as long as this. It may be longer than what is left: the next one waits for that.
    pub(crate) fn charge(&mut self, now: Instant, rates: &Rates, bytes: u64) {
        self.bytes.charge(now, &rates.bytes, bytes);
    }

    /// A message has been delivered to so many.
    pub(crate) fn delivered(&mut self, now: Instant, rates: &Rates, count: u64) {
        let price = (count / DELIVERIES_A_MESSAGE).min(rates.max_debt);
        if price > 0 {
            self.messages.charge(now, &rates.messages, price);
        }
    }

    /// Whether little is left: its peer says much.
    pub(crate) fn is_close(&self, now: Instant, rates: &Rates) -> bool {
        self.messages.wait(now, &rates.messages, FEW_MESSAGES).is_some()
            || self.bytes.wait(now, &rates.bytes, FEW_BYTES).is_some()
    }

    /// How much to read at a time, of `usual`.
    pub(crate) fn window(&self, now: Instant, rates: &Rates, usual: usize) -> usize {
        if self.is_close(now, rates) { SMALL_WINDOW.min(usual) } else { usual }
    }
}
