//! The conductor's view of the pads: which streams can be offered, which have ended, and when a keyframe request is sent
//! upstream.

use crate::{
    log::CAT,
    sink::{fanout::DRAIN, keyframes::KeyframeGate, published::PublishedState, session::StreamInfo},
    stream_key::StreamKey,
};
use gst::{glib, prelude::*};
use std::{
    collections::BTreeMap,
    sync::mpsc,
    time::{Duration, Instant},
};

/// How long offers wait for the caps of the remaining pads after the first stream is known.
const GATHER_STREAMS: Duration = Duration::from_millis(500);
/// How often the queues of the receivers are checked while they drain.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// A pad.
struct Pad {
    ghost: glib::WeakRef<gst::GhostPad>,
    stream: Option<StreamInfo>,
    ended: bool,
    keyframes: KeyframeGate,
}

/// All streams have ended, and the queued units are being sent.
struct Drain {
    until: Instant,
    next_check: Instant,
    done: Vec<mpsc::SyncSender<()>>,
}

/// The pads of the element.
pub(super) struct Pads {
    by_key: BTreeMap<StreamKey, Pad>,
    first_stream_at: Option<Instant>,
    drain: Option<Drain>,
    keyframe_interval: Duration,
    /// When [`Pads::streams`] was last called.
    streams_read: Option<Instant>,
}

impl Pads {
    pub(super) fn new(keyframe_interval: Duration) -> Self {
        Self {
            by_key: BTreeMap::new(),
            first_stream_at: None,
            drain: None,
            keyframe_interval,
            streams_read: None,
        }
    }

    pub(super) fn add(&mut self, key: StreamKey, ghost: glib::WeakRef<gst::GhostPad>) {
        // A pad that is requested while the element starts may be announced twice.
        let keyframes = KeyframeGate::new(self.keyframe_interval);
        self.by_key.entry(key).or_insert(Pad { ghost, stream: None, ended: false, keyframes });
    }

    /// Handles [`Command::PadReady`](super::Command::PadReady).
    pub(super) fn ready(&mut self, now: Instant, stream: StreamInfo) {
        let Some(pad) = self.by_key.get_mut(&stream.key) else { return };
        pad.ended = false;
        pad.stream = Some(stream);
        self.first_stream_at.get_or_insert(now);
    }

    pub(super) fn remove(&mut self, key: StreamKey) {
        self.by_key.remove(&key);
    }

    /// Handles the EOS of a pad. After the EOS of the last one, `done` follows when the queued units are sent.
    pub(super) fn ended(&mut self, now: Instant, key: StreamKey, done: mpsc::SyncSender<()>) {
        if let Some(pad) = self.by_key.get_mut(&key) {
            pad.ended = true;
        }
        if self.by_key.values().all(|pad| pad.ended) {
            let drain =
                self.drain.get_or_insert(Drain { until: now + DRAIN, next_check: now, done: Vec::new() });
            drain.done.push(done);
        } else {
            let _ = done.try_send(());
        }
    }

    /// Ends the drain once no unit is queued, or after [`DRAIN`].
    pub(super) fn drain(&mut self, now: Instant, is_queued: impl Fn() -> bool) {
        let Some(drain) = &mut self.drain else { return };
        if now < drain.until && is_queued() {
            drain.next_check = now + DRAIN_STEP;
            return;
        }
        for done in self.drain.take().into_iter().flat_map(|drain| drain.done) {
            let _ = done.try_send(());
        }
    }

    /// The streams that can be offered, in the order of their m-lines.
    pub(super) fn streams(&mut self, now: Instant) -> Vec<StreamKey> {
        self.streams_read = Some(now);
        let waited = self.gathered_at().is_none_or(|at| at <= now);
        if waited { self.known().map(|stream| stream.key).collect() } else { Vec::new() }
    }

    /// When the known streams are offered although other pads have no caps yet. `None` if there is nothing to wait for.
    fn gathered_at(&self) -> Option<Instant> {
        let complete = self.by_key.values().all(|pad| pad.stream.is_some());
        self.first_stream_at.filter(|_| !complete).map(|at| at + GATHER_STREAMS)
    }

    /// Whether a stream flows, or its queued units are still being sent.
    pub(super) fn are_flowing(&self) -> bool {
        self.drain.is_some() || self.by_key.values().any(|pad| pad.stream.is_some() && !pad.ended)
    }

    /// The streams whose codec is known.
    pub(super) fn known(&self) -> impl Iterator<Item = &StreamInfo> {
        self.by_key.values().filter_map(|pad| pad.stream.as_ref())
    }

    /// The streams with these keys.
    pub(super) fn infos(&self, keys: &[StreamKey]) -> Vec<StreamInfo> {
        keys.iter().filter_map(|key| self.by_key.get(key)?.stream.clone()).collect()
    }

    /// When [`Pads::drain`], [`Pads::streams`] or [`Pads::force_keyframes`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let keyframes = self.by_key.values().filter(|pad| pad.stream.is_some());
        let keyframes = keyframes.filter_map(|pad| pad.keyframes.deadline());
        let drain = self.drain.as_ref().map(|drain| drain.next_check.min(drain.until));
        let gathered = self.gathered_at().filter(|at| self.streams_read.is_none_or(|read| read < *at));
        keyframes.chain(drain).chain(gathered).min()
    }

    pub(super) fn set_keyframe_interval(&mut self, interval: Duration) {
        self.keyframe_interval = interval;
        self.by_key.values_mut().for_each(|pad| pad.keyframes.set_interval(interval));
    }

    pub(super) fn request_keyframe(&mut self, now: Instant, key: StreamKey) {
        if let Some(pad) = self.by_key.get_mut(&key) {
            pad.keyframes.request(now);
        }
    }

    pub(super) fn request_keyframes(&mut self, now: Instant) {
        self.by_key.values_mut().for_each(|pad| pad.keyframes.request(now));
    }

    /// Handles a PLI or FIR of a receiver whose gate last opened at `gate_opened`.
    pub(super) fn handle_keyframe_request(
        &mut self,
        now: Instant,
        key: StreamKey,
        gate_opened: Option<Instant>,
    ) {
        let Some(pad) = self.by_key.get_mut(&key) else { return };
        let last_keyframe = pad.stream.as_ref().and_then(|stream| stream.fanout.last_keyframe());
        pad.keyframes.request_of_receiver(now, last_keyframe, gate_opened);
    }

    /// Sends the keyframe requests that are due upstream. No lock is held, because other elements handle the event.
    pub(super) fn force_keyframes(&mut self, now: Instant, published: &PublishedState) {
        for pad in self.by_key.values_mut() {
            let Some(stream) = &pad.stream else { continue };
            if pad.keyframes.poll(now, stream.fanout.last_keyframe())
                && let Some(ghost) = pad.ghost.upgrade()
            {
                gst::debug!(CAT, obj = ghost, "requesting a keyframe from the encoder");
                published.count_forced_keyframe();
                stream.fanout.count_keyframe_request();
                ghost.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
            }
        }
    }
}
