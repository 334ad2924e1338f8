//! Estimates from receiver reports how fast a stream can be sent to one receiver. A value: reports, byte counts and the time
//! are the inputs, and a limit is the output. The pacer enforces the limit, and the subscriber sheds whole access units.
//!
//! Because reports arrive about once per second, the estimate follows a link slowly. This is enough to end an overload.

use crate::peer::ReportBlock;
use std::time::{Duration, Instant};

/// A link with a higher loss than this is overloaded. Retransmissions repair lower losses.
const HEAVY_LOSS: f64 = 0.15;
/// The limit rises while the loss is at most this.
const LIGHT_LOSS: f64 = 0.01;
/// The limit after an overload, relative to the rate that was received. That rate is higher than the capacity of the link,
/// because the link's queue was filling, and the queue has to drain as well.
const BACK_OFF: f64 = 0.7;
/// The minimum that light losses can lower the limit to, relative to the rate that was received: some links lose a few
/// packets at any rate.
const FLOOR: f64 = 0.4;
/// The relative change of the limit with each report: [`RISE`] far below the ceiling, a factor of [`FALL`] after light
/// losses, and [`PROBE`] near the ceiling, doubled after every [`PROBES`] reports.
const RISE: f64 = 0.05;
const FALL: f64 = 0.85;
const PROBE: f64 = 0.005;
const PROBES: u32 = 10;
/// The limit is near the ceiling above this part of it.
const NEAR: f64 = 0.9;
/// A limit that exceeds the stream's rate by this factor is removed.
const AMPLE: f64 = 1.25;
/// The minimum limit in bits per second.
const LEAST: f64 = 100_000.0;
/// The minimum time between two reports that are compared.
const INTERVAL: Duration = Duration::from_millis(500);
/// Fewer lost packets than this are not an overload.
const FEW: u32 = 5;

/// How many bytes of a stream were offered and sent since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sent {
    /// Bytes sent to the network.
    pub(super) bytes: u64,
    /// Bytes of the stream, including shed units.
    pub(super) offered: u64,
}

/// A new limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The link is overloaded: limit the rate to this many bits per second, and restart at an IDR picture.
    Overload(u64),
    /// Limit the rate to this many bits per second.
    Limit(u64),
    /// Remove the limit.
    Free,
}

/// The estimate for one stream to one receiver.
#[derive(Debug, Default)]
pub(super) struct Rate {
    base: Option<Base>,
    limited: Option<Limited>,
    /// Ignores the first report after an overload, because it also covers packets sent before the overload was detected.
    settling: bool,
    stall: Option<Stall>,
}

/// A link that carries less than the stream. All rates are in bits per second.
#[derive(Debug, Clone, Copy)]
struct Limited {
    limit: f64,
    /// The lowest rate that is known to exceed the link's capacity.
    ceiling: f64,
    floor: f64,
    /// The number of reports without losses while the limit was near the ceiling.
    probes: u32,
}

/// The receiver sends reports, but they count no new packet.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// The number of bytes sent up to the last report.
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    at: Instant,
    report: ReportBlock,
    sent: Sent,
}

impl Rate {
    /// Handles a report on the stream.
    pub(super) fn report(&mut self, now: Instant, report: ReportBlock, sent: Sent) -> Option<Change> {
        let current = Base { at: now, report, sent };
        let Some(base) = self.base else {
            self.base = Some(current);
            return None;
        };
        let expected = report.highest.wrapping_sub(base.report.highest);
        if expected == 0 {
            // This is a stall only if something was sent before each of these reports, because the last packets before a
            // pause may be lost.
            let before = self.stall.map_or(base.sent.bytes, |stall| stall.bytes);
            let since = self.stall.map_or(now, |stall| stall.since);
            self.stall = (sent.bytes > before).then_some(Stall { since, bytes: sent.bytes });
            return None;
        }
        self.stall = None;
        let elapsed = now.saturating_duration_since(base.at);
        // A reordered report has a lower sequence number.
        if elapsed < INTERVAL || expected > u32::MAX / 2 {
            return None;
        }
        self.base = Some(current);
        if std::mem::take(&mut self.settling) {
            return None;
        }
        let missing = u32::try_from(report.lost.saturating_sub(base.report.lost)).unwrap_or(0);
        let per_second = |bytes: u64| to_f64(bytes) * 8.0 / elapsed.as_secs_f64();
        let rate = per_second(sent.bytes.saturating_sub(base.sent.bytes));
        let offered = per_second(sent.offered.saturating_sub(base.sent.offered));
        self.evaluate(missing, f64::from(missing) / f64::from(expected), rate, offered)
    }

    /// Whether the reports of at least `limit` have counted none of the packets sent.
    pub(super) fn is_stalled(&self, now: Instant, limit: Duration) -> bool {
        self.stall.is_some_and(|stall| now.saturating_duration_since(stall.since) >= limit)
    }

    fn evaluate(&mut self, missing: u32, loss: f64, rate: f64, offered: f64) -> Option<Change> {
        if loss > HEAVY_LOSS && missing >= FEW {
            let through = rate * (1.0 - loss).max(0.0);
            let before = self.limited.map_or(through, |limited| limited.limit);
            let limit = (through * BACK_OFF).min(before).max(LEAST);
            self.limited = Some(Limited { limit, ceiling: through, floor: through * FLOOR, probes: 0 });
            self.settling = true;
            return Some(Change::Overload(to_bits(limit)));
        }
        let limited = self.limited.as_mut()?;
        if loss > LIGHT_LOSS {
            limited.ceiling = limited.limit;
            limited.limit = (limited.limit * FALL).max(limited.floor).max(LEAST);
            limited.probes = 0;
            return Some(Change::Limit(to_bits(limited.limit)));
        }
        let rise = if limited.limit < limited.ceiling * NEAR {
            RISE
        } else {
            limited.probes = limited.probes.saturating_add(1);
            let doublings = i32::try_from(limited.probes / PROBES).unwrap_or(i32::MAX);
            (PROBE * 2_f64.powi(doublings)).min(RISE)
        };
        limited.limit *= 1.0 + rise;
        if limited.limit > offered * AMPLE {
            self.limited = None;
            return Some(Change::Free);
        }
        Some(Change::Limit(to_bits(limited.limit)))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no 64 bits")]
fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and a rate is positive"
)]
fn to_bits(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of 2 Mbit/s with 250 packets per second, on a link with a capacity in bits per second. One report per second.
    struct Link {
        rate: Rate,
        capacity: f64,
        limit: Option<u64>,
        second: u32,
        start: Instant,
        report: ReportBlock,
        sent: Sent,
    }

    impl Link {
        fn new(capacity: f64) -> Self {
            let report = ReportBlock { ssrc: 1, lost: 0, highest: 0 };
            let (start, sent) = (Instant::now(), Sent::default());
            let mut link =
                Self { rate: Rate::default(), capacity, limit: None, second: 0, start, report, sent };
            assert_eq!(link.rate.report(start, report, sent), None);
            link
        }

        fn at(&self, second: u32) -> Instant {
            self.start + Duration::from_secs(second.into())
        }

        /// Advances time by a second. Returns the rate that was sent, and the effect of the report.
        fn second(&mut self) -> (u64, Option<Change>) {
            let sent = self.limit.unwrap_or(2_000_000).min(2_000_000);
            let packets = u32::try_from(sent / 8_000).expect("a small number");
            let loss = (1.0 - self.capacity / to_f64(sent)).max(0.0);
            self.second += 1;
            self.report.highest += packets;
            self.report.lost += i32::try_from(to_bits(f64::from(packets) * loss)).expect("a small number");
            self.sent.bytes += sent / 8;
            self.sent.offered += 250_000;
            let change = self.rate.report(self.at(self.second), self.report, self.sent);
            match change {
                Some(Change::Overload(limit) | Change::Limit(limit)) => self.limit = Some(limit),
                Some(Change::Free) => self.limit = None,
                None => {}
            }
            (sent, change)
        }
    }

    #[test]
    fn a_link_that_carries_the_stream_is_not_limited() {
        let mut link = Link::new(3_000_000.0);
        assert!((0..60).all(|_| link.second() == (2_000_000, None)));
    }

    #[test]
    fn an_overloaded_link_is_limited_after_one_report_and_stays_near_its_capacity() {
        let mut link = Link::new(1_000_000.0);
        let (_, change) = link.second();
        assert!(matches!(change, Some(Change::Overload(690_000..=710_000))), "{change:?}");
        let rates: Vec<u64> = (0..60).map(|_| link.second().0).collect();
        assert!(rates.iter().all(|rate| (690_000..1_050_000).contains(rate)), "{rates:?}");
    }

    #[test]
    fn the_limit_of_a_link_that_recovers_is_removed() {
        let mut link = Link::new(1_000_000.0);
        link.second();
        link.capacity = 10_000_000.0;
        let freed = (0..120).find(|_| link.second().1 == Some(Change::Free));
        assert!(freed.is_some_and(|second| second < 70), "{freed:?}");
    }

    #[test]
    fn constant_light_losses_do_not_lower_the_limit_below_its_floor() {
        let mut link = Link::new(1_000_000.0);
        link.second();
        link.capacity = 10_000_000.0;
        for _ in 0..60 {
            // One packet of 20 is lost at every rate.
            link.report.lost += 6;
            link.second();
        }
        assert!(link.limit.is_some_and(|limit| limit >= 390_000), "{:?}", link.limit);
    }

    #[test]
    fn losses_that_retransmissions_repair_set_no_limit() {
        let mut link = Link::new(1_800_000.0);
        assert!((0..30).all(|_| link.second().1.is_none()));
    }

    #[test]
    fn a_stream_that_does_not_arrive_is_stalled_but_a_pause_is_not() {
        let mut link = Link::new(3_000_000.0);
        link.second();
        let limit = Duration::from_secs(3);
        for second in 2..6 {
            link.rate.report(link.at(second), link.report, link.sent);
            assert!(!link.rate.is_stalled(link.at(second), limit), "nothing was sent");
        }
        link.sent.bytes += 1000;
        for second in 6..12 {
            link.rate.report(link.at(second), link.report, link.sent);
            assert!(
                !link.rate.is_stalled(link.at(second), limit),
                "only the last packets before a pause were lost"
            );
        }
        for second in 12..15 {
            link.sent.bytes += 1000;
            link.rate.report(link.at(second), link.report, link.sent);
            assert!(!link.rate.is_stalled(link.at(second), limit), "the stall is too short");
        }
        assert!(link.rate.is_stalled(link.at(15), limit));
        link.report.highest += 1;
        link.rate.report(link.at(15), link.report, link.sent);
        assert!(!link.rate.is_stalled(link.at(15), limit), "a packet arrived");
    }

    #[test]
    fn no_report_causes_an_overflow() {
        let mut rate = Rate::default();
        let start = Instant::now();
        for (second, highest) in (0u64..).zip([0, 1, u32::MAX, u32::MAX / 2 + 1, 7]) {
            for lost in [i32::MIN, -1, i32::MAX] {
                let sent = Sent { bytes: u64::from(highest) << 32, offered: 0 };
                let at = start + Duration::from_secs(second);
                let _ = rate.report(at, ReportBlock { ssrc: 1, lost, highest }, sent);
            }
        }
    }
}
