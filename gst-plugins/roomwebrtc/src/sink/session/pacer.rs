//! Limits the packets of one stream to the rate that the receiver's link carries. The pacer blocks the streaming thread
//! between the appsrc and webrtcbin, so the subscriber's queue grows until the subscriber sheds whole access units.
//!
//! Packets are paced instead of access units, because the packets of a large IDR picture in one burst overflow the queue of a
//! slow link. At any average rate, the receiver would lose this picture and request the next one.

use crate::{sink::fanout::Subscriber, sync::lock};
use gst::prelude::*;
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The maximum wait of one packet.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often a waiting thread checks whether the session has ended.
const SLICE: Duration = Duration::from_millis(20);

/// When the next packet may be sent.
#[derive(Debug, Default)]
struct Schedule {
    /// In bits per second.
    limit: Option<u64>,
    free_at: Option<Instant>,
}

impl Schedule {
    /// How long a packet of this size has to wait; zero without a limit.
    fn wait(&mut self, now: Instant, bytes: usize) -> Duration {
        let Some(limit) = self.limit else { return Duration::ZERO };
        let start = self.free_at.map_or(now, |at| at.max(now)).min(now + MAX_WAIT);
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
        let micros = bits.saturating_mul(1_000_000) / limit.max(1);
        self.free_at = Some(start + Duration::from_micros(micros).min(MAX_WAIT));
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
    /// Paces the packets that leave `payloader`, and drops the units of `source` that [`Subscriber::restart`] made useless.
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

    /// How many bytes have been sent.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the limit in bits per second (`None`: no limit). The next packet waits for `pause` first.
    pub(super) fn set_limit(&self, limit: Option<u64>, pause: Duration) {
        let mut schedule = self.schedule();
        schedule.limit = limit;
        if !pause.is_zero() {
            schedule.free_at = Some(Instant::now() + pause);
        }
    }

    /// Ends the wait of the streaming thread, because the session ends.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        lock(&self.schedule)
    }

    fn is_limited(&self) -> bool {
        self.schedule().limit.is_some()
    }

    /// Pushes the packets of `list` one by one, each when it may be sent.
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

    /// Waits until a packet may be sent. Returns false if the session ended meanwhile.
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
    fn packets_are_sent_at_the_rate_of_the_limit_or_immediately_without_one() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.wait(now, 1_000_000), Duration::ZERO);
        schedule.limit = Some(80_000);
        let waits: Vec<u128> = (0..4).map(|_| schedule.wait(now, 1_000).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(
            schedule.wait(now + Duration::from_secs(5), 1_000),
            Duration::ZERO,
            "unused rate is not saved"
        );
    }

    #[test]
    fn no_packet_waits_for_more_than_a_second() {
        let now = Instant::now();
        let mut schedule = Schedule { limit: Some(1), free_at: None };
        schedule.wait(now, usize::MAX);
        assert_eq!(schedule.wait(now, 1), MAX_WAIT);
    }

    /// The sizes of packets, grouped by list.
    type Arrivals = Arc<Mutex<Vec<Vec<usize>>>>;

    /// A payloader's pad with a pacer, the pacer, and the sizes of the packets that arrive behind the pad, grouped by list.
    fn paced() -> (gst::Pad, Arc<Pacer>, Arrivals, gst::Pad) {
        gst::init().expect("GStreamer starts");
        let arrived = Arrivals::default();
        let (one, many) = (arrived.clone(), arrived.clone());
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, packet| {
                one.lock().expect("no panic").push(vec![packet.size()]);
                Ok(gst::FlowSuccess::Ok)
            })
            .chain_list_function(move |_, _, list| {
                many.lock().expect("no panic").push(list.iter().map(gst::BufferRef::size).collect());
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let payloader = gst::Pad::new(gst::PadDirection::Src);
        payloader.link(&sink).expect("pads link");
        for pad in [&sink, &payloader] {
            pad.set_active(true).expect("a pad becomes active");
        }
        payloader.push_event(gst::event::StreamStart::new("stream"));
        payloader.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        let source = gst_app::AppSrc::builder().build();
        let units = source.static_pad("src").expect("an appsrc has a source pad");
        let pacer = Pacer::install(&units, &payloader, &Arc::new(Subscriber::new(source)));
        (payloader, pacer, arrived, sink)
    }

    fn packets(sizes: &[usize]) -> gst::BufferList {
        sizes.iter().map(|size| gst::Buffer::with_size(*size).expect("memory")).collect()
    }

    #[test]
    fn a_limit_splits_the_packets_of_one_unit() {
        let (payloader, pacer, arrived, _sink) = paced();
        payloader.push_list(packets(&[1000, 200])).expect("it flows");
        pacer.set_limit(Some(10_000_000), Duration::ZERO);
        payloader.push_list(packets(&[1000, 200])).expect("it flows");
        payloader.push(gst::Buffer::with_size(50).expect("memory")).expect("it flows");
        assert_eq!(*arrived.lock().expect("no panic"), [vec![1000, 200], vec![1000], vec![200], vec![50]]);
        assert_eq!(pacer.bytes(), 2450);
    }

    #[test]
    fn the_rest_of_a_unit_is_dropped_when_the_session_ends() {
        let (payloader, pacer, arrived, _sink) = paced();
        pacer.set_limit(Some(100_000), Duration::ZERO);
        pacer.stop();
        assert_eq!(payloader.push_list(packets(&[1000, 200])), Err(gst::FlowError::Flushing));
        assert!(arrived.lock().expect("no panic").is_empty());
    }
}
