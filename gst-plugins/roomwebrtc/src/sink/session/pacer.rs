//! Keeps one stream to the rate that its receiver's link carries. Access units wait in front of the payloader, so that the
//! subscriber's queue grows, and the subscriber sheds whole frames.

use crate::sink::fanout::Subscriber;
use gst::prelude::*;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest wait of one access unit.
const LONGEST: Duration = Duration::from_secs(1);
/// How often a waiting thread looks whether the session ends.
const SLICE: Duration = Duration::from_millis(20);

/// When the next access unit may leave.
#[derive(Debug, Default)]
struct Schedule {
    /// In bits per second.
    limit: Option<u64>,
    free_at: Option<Instant>,
}

impl Schedule {
    /// How long a unit of this many bytes has to wait. Without a limit it does not.
    fn wait(&mut self, now: Instant, bytes: usize) -> Duration {
        let Some(limit) = self.limit else { return Duration::ZERO };
        let start = self.free_at.map_or(now, |at| at.max(now)).min(now + LONGEST);
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
        let micros = bits.saturating_mul(1_000_000) / limit.max(1);
        self.free_at = Some(start + Duration::from_micros(micros).min(LONGEST));
        start.saturating_duration_since(now)
    }
}

/// The pacer of one stream of a session.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    schedule: Mutex<Schedule>,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Pacer {
    /// Paces what leaves `source`, and drops what `subscriber` queued before its receiver had to begin anew.
    pub(super) fn install(source: &gst_app::AppSrc, subscriber: &Arc<Subscriber>) -> Arc<Self> {
        let pacer = Arc::new(Self::default());
        if let Some(pad) = source.static_pad("src") {
            let (probe, subscriber) = (pacer.clone(), subscriber.clone());
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let Some(unit) = info.buffer() else { return gst::PadProbeReturn::Ok };
                let time = unit.pts();
                // The receiver may have to begin anew while the unit waits.
                if subscriber.is_outdated(time) || !probe.pass(unit.size()) || subscriber.is_outdated(time) {
                    return gst::PadProbeReturn::Drop;
                }
                gst::PadProbeReturn::Ok
            });
        }
        pacer
    }

    /// How many bytes have left.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the limit in bits per second; `None` is no limit. The next unit waits for `pause`.
    pub(super) fn set_limit(&self, limit: Option<u64>, pause: Duration) {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.limit = limit;
        if !pause.is_zero() {
            schedule.free_at = Some(Instant::now() + pause);
        }
    }

    /// Lets the streaming thread go, because the session ends.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits until a unit may leave; false when the session ends meanwhile.
    fn pass(&self, bytes: usize) -> bool {
        let mut wait = {
            let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
            schedule.wait(Instant::now(), bytes)
        };
        while !wait.is_zero() && !self.stopped.load(Ordering::Relaxed) {
            let slice = wait.min(SLICE);
            std::thread::sleep(slice);
            wait = wait.saturating_sub(slice);
        }
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        !self.stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_leave_at_the_rate_of_the_limit_and_without_one_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.wait(now, 1_000_000), Duration::ZERO);
        schedule.limit = Some(80_000);
        let waits: Vec<u128> = (0..4).map(|_| schedule.wait(now, 1_000).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(schedule.wait(now + Duration::from_secs(5), 1_000), Duration::ZERO, "no rate is saved up");
    }

    #[test]
    fn no_unit_waits_for_more_than_a_second() {
        let now = Instant::now();
        let mut schedule = Schedule { limit: Some(1), free_at: None };
        schedule.wait(now, usize::MAX);
        assert_eq!(schedule.wait(now, 1), LONGEST);
    }
}
