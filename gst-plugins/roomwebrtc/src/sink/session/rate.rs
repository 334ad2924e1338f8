//! How fast one receiver can be sent a stream, by its receiver reports. No clock and no element: reports, counts, and
//! the time go in, and a limit comes out.
//!
//! Reports come about once a second, so this follows a link slowly. It suffices to stop overload, after which the pacer
//! keeps to the limit, and the subscriber sheds whole frames.

use crate::peer::ReportBlock;
use std::time::{Duration, Instant};

/// The share of lost packets beyond which a link is overloaded. Retransmissions repair less than that.
const HEAVY_LOSS: f64 = 0.15;
/// The share of lost packets up to which a limited link may be sent more.
const LIGHT_LOSS: f64 = 0.01;
/// The part of what came through that a link is sent after an overload. What came through is more than what the link
/// carries, because its queue was filled meanwhile; the queue has to drain as well.
const BACK_OFF: f64 = 0.7;
/// The part of what came through below which only another overload lowers the limit: a link may lose a few packets
/// whatever it is sent.
const FLOOR: f64 = 0.4;
/// How the limit of a link changes with each report: while it is far below a rate that was too much, after light losses,
/// and near the rate that was too much, where the steps double every [`PROBES`] reports.
const RISE: f64 = 0.05;
const FALL: f64 = 0.85;
const PROBE: f64 = 0.005;
const PROBES: u32 = 10;
/// The part of the rate that was too much from which on the limit rises by probing.
const NEAR: f64 = 0.9;
/// A limit this far above the stream's rate has no effect any more.
const AMPLE: f64 = 1.25;
/// The lowest limit in bits per second.
const LEAST: f64 = 100_000.0;
/// The least time that a judgment is based on.
const INTERVAL: Duration = Duration::from_millis(500);
/// The fewest lost packets that are called an overload.
const FEW: u32 = 5;

/// What one stream has been given and has sent since its beginning, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sent {
    /// What left for the network.
    pub(super) bytes: u64,
    /// What the stream had, including frames that were shed.
    pub(super) offered: u64,
}

/// A new limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The link is overloaded: send this many bits per second, and begin anew at an IDR.
    Overload(u64),
    /// Send this many bits per second.
    Limit(u64),
    /// Send without a limit.
    Free,
}

/// What is known of the link to one receiver.
#[derive(Debug, Default)]
pub(super) struct Rate {
    base: Option<Base>,
    limited: Option<Limited>,
    /// The report that follows an overload at once is about packets from before as well.
    settling: bool,
    stall: Option<Stall>,
}

/// A link that carries less than the stream. All rates are in bits per second.
#[derive(Debug, Clone, Copy)]
struct Limited {
    limit: f64,
    /// The rate that was too much.
    ceiling: f64,
    floor: f64,
    /// How many reports without losses came while the limit was near the ceiling.
    probes: u32,
}

/// The receiver reports, but none of what is being sent.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// The bytes sent up to the last report.
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    at: Instant,
    report: ReportBlock,
    sent: Sent,
}

impl Rate {
    /// The receiver reports about the stream.
    pub(super) fn report(&mut self, now: Instant, report: ReportBlock, sent: Sent) -> Option<Change> {
        let current = Base { at: now, report, sent };
        let Some(base) = self.base else {
            self.base = Some(current);
            return None;
        };
        let expected = report.highest.wrapping_sub(base.report.highest);
        if expected == 0 {
            // Nothing came. That is a fault only where something was sent since each of these reports: the last packets
            // before a pause may just be lost.
            let before = self.stall.map_or(base.sent.bytes, |stall| stall.bytes);
            let since = self.stall.map_or(now, |stall| stall.since);
            self.stall = (sent.bytes > before).then_some(Stall { since, bytes: sent.bytes });
            return None;
        }
        self.stall = None;
        let elapsed = now.saturating_duration_since(base.at);
        // A sequence number that steps back is from a report that was overtaken.
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
        self.judge(missing, f64::from(missing) / f64::from(expected), rate, offered)
    }

    /// Whether the receiver has reported for at least `limit`, but no packet of those that were sent.
    pub(super) fn is_stalled(&self, now: Instant, limit: Duration) -> bool {
        self.stall.is_some_and(|stall| now.saturating_duration_since(stall.since) >= limit)
    }

    fn judge(&mut self, missing: u32, loss: f64, rate: f64, offered: f64) -> Option<Change> {
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

    /// A stream of 2 Mbit/s and 250 packets a second over a link with this rate in bits per second, one report a second.
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

        /// A second passes. The rate that was sent, and what the report changed.
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
    fn a_link_of_half_the_rate_is_sent_less_than_it_carries_after_one_report_and_stays_near_it() {
        let mut link = Link::new(1_000_000.0);
        let (_, change) = link.second();
        assert!(matches!(change, Some(Change::Overload(690_000..=710_000))), "{change:?}");
        let rates: Vec<u64> = (0..60).map(|_| link.second().0).collect();
        assert!(rates.iter().all(|rate| (690_000..1_050_000).contains(rate)), "{rates:?}");
    }

    #[test]
    fn a_link_that_recovers_becomes_free_again() {
        let mut link = Link::new(1_000_000.0);
        link.second();
        link.capacity = 10_000_000.0;
        let freed = (0..120).find(|_| link.second().1 == Some(Change::Free));
        assert!(freed.is_some_and(|second| second < 70), "{freed:?}");
    }

    #[test]
    fn a_limited_link_that_always_loses_a_few_packets_keeps_a_part_of_its_rate() {
        let mut link = Link::new(1_000_000.0);
        link.second();
        link.capacity = 10_000_000.0;
        for _ in 0..60 {
            // One packet of 20 is lost, however little is sent.
            link.report.lost += 6;
            link.second();
        }
        assert!(link.limit.is_some_and(|limit| limit >= 390_000), "{:?}", link.limit);
    }

    #[test]
    fn losses_that_retransmissions_repair_limit_nothing() {
        let mut link = Link::new(1_800_000.0);
        assert!((0..30).all(|_| link.second().1.is_none()));
    }

    #[test]
    fn a_stream_of_which_nothing_arrives_is_stalled_but_a_pause_is_not() {
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
            assert!(!link.rate.is_stalled(link.at(second), limit), "not for long enough");
        }
        assert!(link.rate.is_stalled(link.at(15), limit));
        link.report.highest += 1;
        link.rate.report(link.at(15), link.report, link.sent);
        assert!(!link.rate.is_stalled(link.at(15), limit), "something came");
    }

    #[test]
    fn nothing_in_a_report_can_overflow() {
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
