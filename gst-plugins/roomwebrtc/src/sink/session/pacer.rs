//! Keeps the packets of one stream to the rate that its receiver's link carries. The pacer blocks the streaming thread
//! between the appsrc and webrtcbin, so that the subscriber's queue grows, and the subscriber
//! sheds whole frames.
//!
//! Packets are paced, not access units, because all packets of a large IDR in one burst overflow the queue of a slow link.
//! The receiver would lose that IDR whatever the average rate is, and ask for the next one.

use crate::sink::fanout::Subscriber;
use gst::prelude::*;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest wait of one packet.
const LONGEST: Duration = Duration::from_secs(1);
/// How often a waiting thread looks whether the session ends.
const SLICE: Duration = Duration::from_millis(20);

/// When the next packet may leave.
#[derive(Debug, Default)]
struct Schedule {
    /// In bits per second.
    limit: Option<u64>,
    free_at: Option<Instant>,
}

impl Schedule {
    /// How long a packet of this many bytes has to wait: not at all without a limit.
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
    /// Paces the packets that leave `payloader`, and drops units of `source` that `subscriber` queued before its receiver had to
    /// begin anew.
    pub(super) fn install(
        source: &gst::Pad,
        payloader: &gst::Pad,
        subscriber: &Arc<Subscriber>,
    ) -> Arc<Self> {
        let subscriber = subscriber.clone();
        source.add_probe(gst::PadProbeType::BUFFER, move |_, info| match info.buffer() {
            Some(unit) if subscriber.is_outdated(unit.pts()) => gst::PadProbeReturn::Drop,
            _ => gst::PadProbeReturn::Ok,
        });
        let pacer = Arc::new(Self::default());
        let probe = pacer.clone();
        let packets = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        payloader.add_probe(packets, move |pad, info| match &info.data {
            Some(gst::PadProbeData::Buffer(packet)) if !probe.pass(packet.size()) => {
                gst::PadProbeReturn::Drop
            }
            Some(gst::PadProbeData::BufferList(list)) if probe.is_limited() => {
                info.flow_res = probe.push_each(pad, list);
                gst::PadProbeReturn::Handled
            }
            Some(gst::PadProbeData::BufferList(list)) => {
                probe.count(list.iter().map(gst::BufferRef::size).sum());
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Ok,
        });
        pacer
    }

    /// How many bytes have left.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the limit in bits per second; `None` is no limit. The next packet waits for `pause`.
    pub(super) fn set_limit(&self, limit: Option<u64>, pause: Duration) {
        let mut schedule = self.schedule();
        schedule.limit = limit;
        if !pause.is_zero() {
            schedule.free_at = Some(Instant::now() + pause);
        }
    }

    /// Lets the streaming thread go, because the session ends.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_limited(&self) -> bool {
        self.schedule().limit.is_some()
    }

    /// Pushes the packets of `list` one by one, each when it may leave.
    fn push_each(
        &self,
        pad: &gst::Pad,
        list: &gst::BufferListRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let peer = pad.peer().ok_or(gst::FlowError::NotLinked)?;
        for packet in list.iter_owned() {
            if !self.pass(packet.size()) {
                return Err(gst::FlowError::Flushing);
            }
            peer.chain(packet)?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Waits until a packet may leave; false when the session ends meanwhile.
    fn pass(&self, bytes: usize) -> bool {
        let mut wait = self.schedule().wait(Instant::now(), bytes);
        while !wait.is_zero() && !self.stopped.load(Ordering::Relaxed) {
            let slice = wait.min(SLICE);
            std::thread::sleep(slice);
            wait = wait.saturating_sub(slice);
        }
        self.count(bytes);
        !self.stopped.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_at_the_rate_of_the_limit_and_immediately_without_one() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.wait(now, 1_000_000), Duration::ZERO);
        schedule.limit = Some(80_000);
        let waits: Vec<u128> = (0..4).map(|_| schedule.wait(now, 1_000).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(schedule.wait(now + Duration::from_secs(5), 1_000), Duration::ZERO, "no rate is saved up");
    }

    #[test]
    fn no_packet_waits_for_more_than_a_second() {
        let now = Instant::now();
        let mut schedule = Schedule { limit: Some(1), free_at: None };
        schedule.wait(now, usize::MAX);
        assert_eq!(schedule.wait(now, 1), LONGEST);
    }
}
