//! One encoded stream to many receivers, split at access units. The streaming thread pushes; each receiver has a subscriber
//! with a gate of its own. Data is shared by reference, never copied per receiver.

use gst::glib;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Queued media beyond which a receiver sheds frames; it goes on at an IDR once it is below [`RESUME_LEVEL`].
const SHED_LEVEL: gst::ClockTime = gst::ClockTime::from_mseconds(500);
const RESUME_LEVEL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// One access unit on its way.
pub(crate) struct OutgoingUnit {
    /// Stamped with the time of the receivers' clock.
    pub(crate) buffer: gst::Buffer,
    pub(crate) is_idr: bool,
    /// A receiver that waits can start here.
    pub(crate) random_access: Option<RandomAccess>,
}

/// How a receiver starts at a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RandomAccess {
    AsIs,
    /// With these parameter sets inserted at this offset, because the stream carries them only at its beginning.
    WithParameterSets(Vec<u8>, usize),
}

impl OutgoingUnit {
    /// The buffer for a receiver that starts with it.
    fn first_buffer(&self) -> gst::Buffer {
        let Some(RandomAccess::WithParameterSets(parameter_sets, offset)) = &self.random_access else {
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
    /// Gives a unit to every subscriber. Never waits for a receiver. True if somebody needs a keyframe now.
    pub(crate) fn push(&self, unit: &OutgoingUnit) -> bool {
        self.frames.fetch_add(1, Ordering::Relaxed);
        if unit.is_idr {
            self.keyframes.fetch_add(1, Ordering::Relaxed);
            *lock(&self.last_keyframe) = Some(Instant::now());
        }
        // The list is replaced, never changed: no lock is held while pushing.
        let subscribers = lock(&self.subscribers).clone();
        let mut wanted = false;
        for subscriber in subscribers.iter() {
            wanted |= subscriber.push(unit);
        }
        wanted
    }

    /// Adds a receiver's subscriber.
    pub(crate) fn add(&self, subscriber: Arc<Subscriber>) {
        let mut subscribers = lock(&self.subscribers);
        *subscribers = subscribers.iter().cloned().chain([subscriber]).collect();
    }

    /// Takes a receiver's subscriber out.
    pub(crate) fn remove(&self, subscriber: &Arc<Subscriber>) {
        let mut subscribers = lock(&self.subscribers);
        *subscribers = subscribers.iter().filter(|other| !Arc::ptr_eq(other, subscriber)).cloned().collect();
    }

    /// After a jump in the stream every receiver starts at an IDR again.
    pub(crate) fn wait_for_idr(&self) {
        lock(&self.subscribers).iter().for_each(|subscriber| subscriber.wait_for_idr());
    }

    /// Access units and keyframes that came in so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.frames.load(Ordering::Relaxed), self.keyframes.load(Ordering::Relaxed))
    }

    /// A request for a keyframe goes upstream.
    pub(crate) fn count_keyframe_request(&self) {
        self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests for a keyframe went upstream so far.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.keyframe_requests.load(Ordering::Relaxed)
    }

    /// When the last IDR picture came in.
    pub(crate) fn last_keyframe(&self) -> Option<Instant> {
        *lock(&self.last_keyframe)
    }
}

/// A poisoned lock means a panic elsewhere, which is reported there; the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a subscriber's gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Gate {
    /// Not connected: whatever comes is dropped, or else one old packet would wait inside webrtcbin.
    Closed = 0,
    /// Connected: opens at the next IDR.
    Waiting = 1,
    /// Media flows.
    Open = 2,
    /// The receiver fell behind: opens at an IDR once its queue is short again.
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

/// One receiver's end of a [`Fanout`].
#[derive(Debug)]
pub(crate) struct Subscriber {
    source: gst_app::AppSrc,
    gate: AtomicU8,
    sent: AtomicU64,
    shed: AtomicU64,
    bytes: AtomicU64,
    /// The time in ns before which queued units are of no use any more.
    outdated_before: AtomicU64,
    /// Bytes of the stream, including those that were shed.
    offered: AtomicU64,
    /// The least time that the next unit may have, in ns: the receiver's times rise, whichever stream feeds it.
    earliest: AtomicU64,
    /// When the gate opened last.
    opened: Mutex<Option<Instant>>,
}

impl Subscriber {
    /// A closed subscriber in front of `source`.
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

    /// The receiver is connected: media may flow from the next IDR on.
    pub(crate) fn connect(&self) {
        self.change(Gate::Closed, Gate::Waiting);
    }

    /// The receiver lost so much that it has to begin anew: units that are queued are dropped, and the next one that
    /// leaves is one where decoding can start.
    pub(crate) fn restart(&self) {
        self.outdated_before.store(u64::MAX, Ordering::Release);
        self.change(Gate::Open, Gate::Waiting);
        self.change(Gate::Shedding, Gate::Waiting);
    }

    /// Whether a queued unit with this time is to be dropped, see [`Subscriber::restart`].
    pub(crate) fn is_outdated(&self, time: Option<gst::ClockTime>) -> bool {
        let before = self.outdated_before.load(Ordering::Acquire);
        time.is_some_and(|time| time.nseconds() < before)
    }

    /// Bytes of the stream since the connection, including those of frames that were shed.
    pub(crate) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    fn wait_for_idr(&self) {
        self.change(Gate::Open, Gate::Waiting);
    }

    fn change(&self, from: Gate, to: Gate) {
        let _ = self.gate.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Where the gate stands.
    pub(crate) fn gate(&self) -> Gate {
        Gate::from_u8(self.gate.load(Ordering::Acquire))
    }

    /// Frames sent, frames shed, bytes sent.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (read(&self.sent), read(&self.shed), read(&self.bytes))
    }

    /// When the gate opened last.
    pub(crate) fn opened(&self) -> Option<Instant> {
        *lock(&self.opened)
    }

    /// How much media waits to be sent.
    pub(crate) fn level(&self) -> gst::ClockTime {
        self.source.current_level_time()
    }

    /// True if this receiver waits for a keyframe that hasn't been asked for.
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
        // A source that is shutting down refuses: the receiver is on its way out.
        let _ = self.source.push_buffer(buffer);
        false
    }

    /// The buffer, moved in time just so far that this receiver's times rise.
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

/// `buffer` with `time` on the sessions' clock, and in no memory of a device, which a slow receiver would keep from a
/// hardware encoder.
pub(crate) fn restamped(buffer: &gst::BufferRef, time: gst::ClockTime) -> gst::Buffer {
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

/// More than a tick of RTP's clock for video (90 kHz): receivers take what has one time stamp for one picture.
const TICK: gst::ClockTime = gst::ClockTime::from_useconds(12);

/// What ordinary buffers are made of; anything else belongs to a device, which wants it back.
const SYSTEM_MEMORY: &str = "SystemMemory";

/// How long an end of stream may wait for what is queued to be sent.
pub(crate) const DRAIN: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use gst::prelude::*;

    fn subscriber() -> (Arc<Subscriber>, gst_app::AppSrc) {
        gst::init().unwrap();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_bytes(0).build();
        // Nothing is taken out: its thread stops at the very first event, before any buffer.
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
    fn nothing_passes_before_the_connection_and_then_an_idr_is_first() {
        let (subscriber, source) = subscriber();
        let fanout = Fanout::default();
        fanout.add(subscriber.clone());
        assert!(!fanout.push(&unit(0, true)), "a closed gate asks for nothing");
        subscriber.connect();
        assert!(fanout.push(&unit(1, false)), "an IDR is asked for");
        assert_eq!(source.current_level_buffers(), 0);
        assert!(!fanout.push(&unit(2, true)));
        assert!(!fanout.push(&unit(3, false)));
        assert_eq!((subscriber.gate(), source.current_level_buffers()), (Gate::Open, 2));
        assert!(subscriber.opened().is_some_and(|at| at <= Instant::now()));
        source.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn a_receiver_that_falls_behind_sheds_frames_and_the_others_do_not() {
        let (slow, slow_source) = subscriber();
        let (fast, fast_source) = subscriber();
        let fanout = Fanout::default();
        for subscriber in [&slow, &fast] {
            fanout.add(subscriber.clone());
            subscriber.connect();
        }
        fanout.push(&unit(0, true));
        // Nobody drains the slow one's queue; the fast one's is emptied as a running pipeline would.
        for n in 1..20 {
            fast_source.set_state(gst::State::Ready).unwrap();
            fast_source.set_state(gst::State::Paused).unwrap();
            fanout.push(&unit(n * 100, n == 15));
        }
        assert_eq!((slow.gate(), fast.gate()), (Gate::Shedding, Gate::Open));
        assert_eq!(fast.counts().1, 0);
        assert!(slow_source.current_level_time() <= SHED_LEVEL + gst::ClockTime::from_mseconds(100));
        slow_source.set_state(gst::State::Ready).unwrap();
        slow_source.set_state(gst::State::Paused).unwrap();
        assert!(fanout.push(&unit(2100, false)), "its queue is short again: an IDR is asked for");
        fanout.push(&unit(2200, true));
        assert_eq!(slow.gate(), Gate::Open);
        for source in [slow_source, fast_source] {
            source.set_state(gst::State::Null).unwrap();
        }
    }

    #[test]
    fn a_receiver_that_begins_anew_gets_nothing_that_was_queued_before() {
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
    fn a_jump_closes_open_gates_until_an_idr() {
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
    fn a_receiver_that_starts_late_gets_the_parameter_sets_and_the_others_do_not() {
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
            random_access: Some(RandomAccess::WithParameterSets(vec![7; 20], 6)),
            ..unit(33, false)
        };
        fanout.push(&recovery_point);
        assert_eq!((early.gate(), late.gate()), (Gate::Open, Gate::Open));
        assert_eq!((early.counts().2, late.counts().2), (200, 120), "bytes");
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
    fn the_times_of_each_receiver_rise_whatever_comes_in() {
        let (first, first_source) = subscriber();
        let (late, late_source) = subscriber();
        let pass = |subscriber: &Subscriber, n| subscriber.rising(unit(n, false).buffer).pts().unwrap();
        let ms = gst::ClockTime::from_mseconds;
        assert_eq!(
            [10, 5, 5, 20].map(|n| pass(&first, n)),
            [ms(10), ms(10) + TICK, ms(10) + TICK * 2, ms(20)]
        );
        assert_eq!(pass(&late, 5), ms(5), "the other receiver has sent nothing that is later");
        for source in [first_source, late_source] {
            source.set_state(gst::State::Null).unwrap();
        }
    }
}
