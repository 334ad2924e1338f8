//! Distributes the access units of one pad to all receivers. Each receiver has a [`Subscriber`], whose [`Gate`] opens at an
//! IDR picture and closes while the receiver is behind. All subscribers share the data of an access unit.
//!
//! The streaming thread pushes, and never waits for a receiver.

use crate::sync::lock;
use gst::glib;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A receiver with more queued media than this sheds access units. It resumes at an IDR picture once less than
/// [`RESUME_LEVEL`] is queued.
const SHED_LEVEL: gst::ClockTime = gst::ClockTime::from_mseconds(500);
const RESUME_LEVEL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// One access unit, for all receivers.
pub(crate) struct OutgoingUnit {
    /// Its timestamps are on the clock of the media sessions.
    pub(crate) buffer: gst::Buffer,
    pub(crate) is_idr: bool,
    /// How a waiting receiver starts at this unit. `None` if it cannot.
    pub(crate) random_access: Option<RandomAccess>,
}

/// How a receiver starts at an access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RandomAccess {
    AsIs,
    /// The parameter sets are inserted at the offset, because the stream carries them only at its beginning.
    WithParameterSets {
        parameter_sets: Vec<u8>,
        offset: usize,
    },
}

impl OutgoingUnit {
    /// The buffer for a receiver that starts with it.
    fn first_buffer(&self) -> gst::Buffer {
        let Some(RandomAccess::WithParameterSets { parameter_sets, offset }) = &self.random_access else {
            return self.buffer.clone();
        };
        self.with_inserted(parameter_sets, *offset).unwrap_or_else(|_| self.buffer.clone())
    }

    fn with_inserted(&self, bytes: &[u8], offset: usize) -> Result<gst::Buffer, glib::BoolError> {
        let mut buffer = gst::Buffer::new();
        let head = buffer.make_mut();
        self.buffer.copy_into(head, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..)?;
        if offset > 0 {
            self.buffer.copy_into(head, gst::BufferCopyFlags::MEMORY, ..offset)?;
        }
        head.append_memory(gst::Memory::from_slice(bytes.to_vec()));
        self.buffer.copy_into(head, gst::BufferCopyFlags::MEMORY, offset..)?;
        Ok(buffer)
    }
}

/// The stream of one pad.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    subscribers: Mutex<Arc<[Arc<Subscriber>]>>,
    frames: AtomicU64,
    keyframes: AtomicU64,
    last_keyframe: Mutex<Option<Instant>>,
    keyframe_requests: AtomicU64,
}

impl Fanout {
    /// Pushes a unit to every subscriber. Returns whether a receiver needs a keyframe now.
    pub(crate) fn push(&self, unit: &OutgoingUnit) -> bool {
        self.frames.fetch_add(1, Ordering::Relaxed);
        if unit.is_idr {
            self.keyframes.fetch_add(1, Ordering::Relaxed);
            *lock(&self.last_keyframe) = Some(Instant::now());
        }
        // No lock is held while pushing, because the list is replaced and never modified.
        let subscribers = lock(&self.subscribers).clone();
        let mut wanted = false;
        for subscriber in subscribers.iter() {
            wanted |= subscriber.push(unit);
        }
        wanted
    }

    /// Adds the subscriber of a receiver.
    pub(crate) fn add(&self, subscriber: Arc<Subscriber>) {
        let mut subscribers = lock(&self.subscribers);
        *subscribers = subscribers.iter().cloned().chain([subscriber]).collect();
    }

    /// Removes the subscriber of a receiver.
    pub(crate) fn remove(&self, subscriber: &Arc<Subscriber>) {
        let mut subscribers = lock(&self.subscribers);
        *subscribers = subscribers.iter().filter(|other| !Arc::ptr_eq(other, subscriber)).cloned().collect();
    }

    /// Lets every receiver start at an IDR picture again, after a discontinuity.
    pub(crate) fn wait_for_idr(&self) {
        lock(&self.subscribers).iter().for_each(|subscriber| subscriber.wait_for_idr());
    }

    /// How many access units, and how many IDR pictures among them, were pushed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.frames.load(Ordering::Relaxed), self.keyframes.load(Ordering::Relaxed))
    }

    /// Counts a keyframe request that was sent upstream.
    pub(crate) fn count_keyframe_request(&self) {
        self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many keyframe requests were sent upstream.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.keyframe_requests.load(Ordering::Relaxed)
    }

    /// When the last IDR picture was pushed.
    pub(crate) fn last_keyframe(&self) -> Option<Instant> {
        *lock(&self.last_keyframe)
    }
}

/// Whether a subscriber lets access units pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Gate {
    /// Not connected. Units are dropped; otherwise webrtcbin would hold one stale packet until DTLS completes.
    Closed = 0,
    /// Connected. Opens at the next IDR picture.
    Waiting = 1,
    /// Units pass.
    Open = 2,
    /// The receiver is behind. Opens at an IDR picture once the queue is short again.
    Shedding = 3,
}

impl Gate {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Gate::Waiting,
            2 => Gate::Open,
            3 => Gate::Shedding,
            _ => Gate::Closed,
        }
    }
}

/// The counters of a [`Subscriber`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscriberCounts {
    /// Access units sent.
    pub(crate) sent: u64,
    /// Access units shed.
    pub(crate) shed: u64,
    /// Bytes sent.
    pub(crate) bytes: u64,
}

/// One receiver of a [`Fanout`]: a gate, and a queue in front of the payloader.
#[derive(Debug)]
pub(crate) struct Subscriber {
    source: gst_app::AppSrc,
    gate: AtomicU8,
    sent: AtomicU64,
    shed: AtomicU64,
    bytes: AtomicU64,
    /// Queued units with a time in ns before this are dropped.
    outdated_before: AtomicU64,
    /// Bytes of the stream, including those of shed units.
    offered: AtomicU64,
    /// The minimum time in ns of the next unit, because the timestamps of a receiver must rise.
    earliest: AtomicU64,
    opened: Mutex<Option<Instant>>,
}

impl Subscriber {
    /// A subscriber that pushes into `source`. Its gate is closed.
    pub(crate) fn new(source: gst_app::AppSrc) -> Self {
        Self {
            source,
            gate: AtomicU8::new(Gate::Closed as u8),
            sent: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            outdated_before: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            earliest: AtomicU64::new(0),
            opened: Mutex::new(None),
        }
    }

    /// Handles the connection of the receiver: the gate opens at the next IDR picture.
    pub(crate) fn connect(&self) {
        self.change(Gate::Closed, Gate::Waiting);
    }

    /// Restarts a receiver that lost too much: queued units are dropped, and the next unit that is sent is a random access
    /// point.
    pub(crate) fn restart(&self) {
        self.outdated_before.store(u64::MAX, Ordering::Release);
        self.change(Gate::Open, Gate::Waiting);
        self.change(Gate::Shedding, Gate::Waiting);
    }

    /// Whether a queued unit with this time must be dropped because of [`Subscriber::restart`].
    pub(crate) fn is_outdated(&self, time: Option<gst::ClockTime>) -> bool {
        let before = self.outdated_before.load(Ordering::Acquire);
        time.is_some_and(|time| time.nseconds() < before)
    }

    /// Bytes of the stream since the connection, including those of shed units.
    pub(crate) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    fn wait_for_idr(&self) {
        self.change(Gate::Open, Gate::Waiting);
    }

    fn change(&self, from: Gate, to: Gate) {
        let _ = self.gate.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The state of the gate.
    pub(crate) fn gate(&self) -> Gate {
        Gate::from_u8(self.gate.load(Ordering::Acquire))
    }

    /// What was sent and shed.
    pub(crate) fn counts(&self) -> SubscriberCounts {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        SubscriberCounts { sent: read(&self.sent), shed: read(&self.shed), bytes: read(&self.bytes) }
    }

    /// When the gate last opened.
    pub(crate) fn opened(&self) -> Option<Instant> {
        *lock(&self.opened)
    }

    /// The duration of the queued media.
    pub(crate) fn level(&self) -> gst::ClockTime {
        self.source.current_level_time()
    }

    /// Sends or drops a unit. Returns whether this receiver needs a keyframe.
    fn push(&self, unit: &OutgoingUnit) -> bool {
        let gate = self.gate();
        let open = match gate {
            Gate::Closed => return false,
            Gate::Waiting => unit.random_access.is_some(),
            Gate::Open => self.level() < SHED_LEVEL,
            Gate::Shedding => unit.random_access.is_some() && self.level() < RESUME_LEVEL,
        };
        self.offered.fetch_add(unit.buffer.size() as u64, Ordering::Relaxed);
        if !open {
            self.shed.fetch_add(1, Ordering::Relaxed);
            if gate == Gate::Open {
                self.change(Gate::Open, Gate::Shedding);
            }
            return gate != Gate::Open && self.level() < RESUME_LEVEL;
        }
        let buffer = if gate == Gate::Open {
            unit.buffer.clone()
        } else {
            *lock(&self.opened) = Some(Instant::now());
            self.change(gate, Gate::Open);
            unit.first_buffer()
        };
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buffer.size() as u64, Ordering::Relaxed);
        let buffer = self.rising(buffer);
        if gate != Gate::Open && self.outdated_before.load(Ordering::Acquire) == u64::MAX {
            let time = buffer.pts().map_or(0, gst::ClockTime::nseconds);
            self.outdated_before.store(time, Ordering::Release);
        }
        // Fails only while the session is torn down.
        let _ = self.source.push_buffer(buffer);
        false
    }

    /// Moves `buffer` forward in time if necessary for rising timestamps.
    fn rising(&self, mut buffer: gst::Buffer) -> gst::Buffer {
        let Some(time) = buffer.pts() else { return buffer };
        let earliest = gst::ClockTime::from_nseconds(self.earliest.load(Ordering::Relaxed));
        if time < earliest {
            set_time(&mut buffer, earliest);
        }
        self.earliest.store(time.max(earliest).saturating_add(TICK).nseconds(), Ordering::Relaxed);
        buffer
    }
}

/// A copy of `buffer` with `time`, which is on the sessions' clock. Device memory is copied, because a slow receiver would
/// withhold it from a hardware encoder.
pub(crate) fn with_session_time(buffer: &gst::BufferRef, time: gst::ClockTime) -> gst::Buffer {
    let foreign = !buffer.iter_memories().all(|memory| memory.is_type(SYSTEM_MEMORY));
    let copied = if foreign { buffer.copy_deep().ok() } else { None };
    let mut copy = copied.unwrap_or_else(|| buffer.copy());
    set_time(&mut copy, time);
    copy
}

fn set_time(buffer: &mut gst::Buffer, time: gst::ClockTime) {
    let head = buffer.make_mut();
    head.set_pts(time);
    head.set_dts(time);
}

/// More than one tick of RTP's video clock (90 kHz), because receivers treat equal RTP timestamps as one picture.
const TICK: gst::ClockTime = gst::ClockTime::from_useconds(12);

/// The memory type of ordinary buffers. Others belong to a device that reuses them.
const SYSTEM_MEMORY: &str = "SystemMemory";

/// How long EOS waits until the queued units are sent.
pub(crate) const DRAIN: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use gst::prelude::*;

    fn subscriber() -> (Arc<Subscriber>, gst_app::AppSrc) {
        gst::init().unwrap();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_bytes(0).build();
        // The streaming thread blocks at the first event, so all buffers stay queued.
        let pad = source.static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| gst::PadProbeReturn::Ok).unwrap();
        source.set_state(gst::State::Paused).unwrap();
        (Arc::new(Subscriber::new(source.clone())), source)
    }

    fn unit(ms: u64, key: bool) -> OutgoingUnit {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::with_size(100).unwrap();
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_mseconds(ms));
        inner.set_duration(gst::ClockTime::from_mseconds(100));
        OutgoingUnit { buffer, is_idr: key, random_access: key.then_some(RandomAccess::AsIs) }
    }

    #[test]
    fn no_unit_passes_before_the_connection_and_the_first_one_is_an_idr() {
        let (subscriber, source) = subscriber();
        let fanout = Fanout::default();
        fanout.add(subscriber.clone());
        assert!(!fanout.push(&unit(0, true)), "a closed gate requests no keyframe");
        subscriber.connect();
        assert!(fanout.push(&unit(1, false)), "a keyframe is requested");
        assert_eq!(source.current_level_buffers(), 0);
        assert!(!fanout.push(&unit(2, true)));
        assert!(!fanout.push(&unit(3, false)));
        assert_eq!((subscriber.gate(), source.current_level_buffers()), (Gate::Open, 2));
        assert!(subscriber.opened().is_some_and(|at| at <= Instant::now()));
        source.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn a_slow_receiver_sheds_units_and_the_others_do_not() {
        let (slow, slow_source) = subscriber();
        let (fast, fast_source) = subscriber();
        let fanout = Fanout::default();
        for subscriber in [&slow, &fast] {
            fanout.add(subscriber.clone());
            subscriber.connect();
        }
        fanout.push(&unit(0, true));
        // Only the fast receiver's queue is emptied.
        for n in 1..20 {
            fast_source.set_state(gst::State::Ready).unwrap();
            fast_source.set_state(gst::State::Paused).unwrap();
            fanout.push(&unit(n * 100, n == 15));
        }
        assert_eq!((slow.gate(), fast.gate()), (Gate::Shedding, Gate::Open));
        assert_eq!(fast.counts().shed, 0);
        assert!(slow_source.current_level_time() <= SHED_LEVEL + gst::ClockTime::from_mseconds(100));
        slow_source.set_state(gst::State::Ready).unwrap();
        slow_source.set_state(gst::State::Paused).unwrap();
        assert!(fanout.push(&unit(2100, false)), "a keyframe is requested once the queue is short again");
        fanout.push(&unit(2200, true));
        assert_eq!(slow.gate(), Gate::Open);
        for source in [slow_source, fast_source] {
            source.set_state(gst::State::Null).unwrap();
        }
    }

    #[test]
    fn a_restart_drops_the_queued_units() {
        let (subscriber, source) = subscriber();
        let fanout = Fanout::default();
        fanout.add(subscriber.clone());
        subscriber.connect();
        fanout.push(&unit(0, true));
        fanout.push(&unit(100, false));
        let ms = |n| Some(gst::ClockTime::from_mseconds(n));
        assert!(!subscriber.is_outdated(ms(0)));
        subscriber.restart();
        assert!(subscriber.is_outdated(ms(100)));
        fanout.push(&unit(200, false));
        source.set_state(gst::State::Ready).unwrap();
        source.set_state(gst::State::Paused).unwrap();
        fanout.push(&unit(300, true));
        assert_eq!([0, 100, 300, 400].map(|n| subscriber.is_outdated(ms(n))), [true, true, false, false]);
        assert_eq!((subscriber.gate(), subscriber.offered()), (Gate::Open, 400));
        source.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn a_discontinuity_closes_open_gates_until_an_idr() {
        let (subscriber, source) = subscriber();
        let fanout = Fanout::default();
        fanout.add(subscriber.clone());
        subscriber.connect();
        fanout.push(&unit(0, true));
        fanout.wait_for_idr();
        assert_eq!(subscriber.gate(), Gate::Waiting);
        fanout.remove(&subscriber);
        fanout.push(&unit(1, true));
        assert_eq!(subscriber.gate(), Gate::Waiting, "a removed subscriber gets nothing");
        source.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn only_a_receiver_that_starts_late_gets_the_inserted_parameter_sets() {
        let (early, early_source) = subscriber();
        let (late, late_source) = subscriber();
        let fanout = Fanout::default();
        for subscriber in [&early, &late] {
            fanout.add(subscriber.clone());
        }
        early.connect();
        fanout.push(&unit(0, true));
        late.connect();
        let recovery_point = OutgoingUnit {
            is_idr: false,
            random_access: Some(RandomAccess::WithParameterSets { parameter_sets: vec![7; 20], offset: 6 }),
            ..unit(33, false)
        };
        fanout.push(&recovery_point);
        assert_eq!((early.gate(), late.gate()), (Gate::Open, Gate::Open));
        assert_eq!((early.counts().bytes, late.counts().bytes), (200, 120), "bytes");
        assert_eq!(fanout.counts(), (2, 1), "only the IDR picture counts as a keyframe");

        let first = recovery_point.first_buffer();
        assert_eq!(first.pts(), recovery_point.buffer.pts());
        let bytes = first.map_readable().unwrap();
        assert_eq!(bytes.get(6..26), Some(&[7; 20][..]));
        for source in [early_source, late_source] {
            source.set_state(gst::State::Null).unwrap();
        }
    }

    #[test]
    fn the_timestamps_of_each_receiver_rise_although_those_of_the_stream_do_not() {
        let (first, first_source) = subscriber();
        let (late, late_source) = subscriber();
        let pass = |subscriber: &Subscriber, n| subscriber.rising(unit(n, false).buffer).pts().unwrap();
        let ms = gst::ClockTime::from_mseconds;
        assert_eq!(
            [10, 5, 5, 20].map(|n| pass(&first, n)),
            [ms(10), ms(10) + TICK, ms(10) + TICK * 2, ms(20)]
        );
        assert_eq!(pass(&late, 5), ms(5), "no later unit was sent to the other receiver");
        for source in [first_source, late_source] {
            source.set_state(gst::State::Null).unwrap();
        }
    }
}
