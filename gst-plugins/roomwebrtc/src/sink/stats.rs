//! What an application may read at any time without waiting: the conductor writes it, the properties read it.

use super::{conductor::ActiveSession, roster::Receiver, session::StreamInfo};
use crate::signaling::{SignalingState, SignalingStatus};
use room_signaling_client::protocol::ClientId;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Shared by the element and its conductor.
#[derive(Default)]
pub(crate) struct PublishedState {
    cache: Mutex<Cache>,
    forced: AtomicU64,
}

#[derive(Default)]
struct Cache {
    signaling: SignalingStatus,
    /// Their counters are read when the statistics are, so they need no refreshing.
    streams: Vec<StreamInfo>,
    receivers: Vec<(String, gst::Structure)>,
    read: Option<Instant>,
}

impl PublishedState {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A poisoned lock means a panic elsewhere, which is reported there; the data is still whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of the connection to the signaling server.
    pub(crate) fn signaling(&self) -> SignalingStatus {
        self.cache().signaling.clone()
    }

    /// Keeps why the element is not in its room.
    pub(crate) fn set_signaling_reason(&self, reason: String) {
        self.cache().signaling.reason = Some(reason);
    }

    /// Changes the state of signaling; returns whether that is a change.
    pub(crate) fn set_signaling_state(&self, state: SignalingState) -> bool {
        self.cache().signaling.set_state(state)
    }

    /// Keeps the id that the element has in its room; returns whether that is a change.
    pub(crate) fn set_client_id(&self, id: &str) -> bool {
        self.cache().signaling.set_client_id(id)
    }

    /// The element stopped.
    pub(crate) fn reset(&self) {
        *self.cache() = Cache::default();
        self.forced.store(0, Ordering::Relaxed);
    }

    /// The encoder was asked for a keyframe.
    pub(crate) fn keyframe_forced(&self) {
        self.forced.fetch_add(1, Ordering::Relaxed);
    }

    /// Ids of the receivers that have a session.
    pub(crate) fn receivers(&self) -> Vec<String> {
        self.cache().receivers.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The statistics: those of streams of this moment, those of receivers at most half a second old.
    pub(crate) fn stats(&self) -> gst::Structure {
        let mut cache = self.cache();
        cache.read = Some(Instant::now());
        let counts = || cache.streams.iter().map(|stream| stream.fanout.counts());
        gst::Structure::builder("application/x-room-sink-stats")
            .field("frames", counts().map(|(frames, _)| frames).sum::<u64>())
            .field("keyframes", counts().map(|(_, keyframes)| keyframes).sum::<u64>())
            .field("keyframes-forced", self.forced.load(Ordering::Relaxed))
            .field("streams", gst::Array::new(cache.streams.iter().map(stream_stats)))
            .field("receivers", gst::Array::new(cache.receivers.iter().map(|(_, stats)| stats)))
            .build()
    }

    /// Whether the statistics were read within this time, so that those which cost something are worth it.
    pub(crate) fn stats_read_within(&self, time: Duration) -> bool {
        self.cache().read.is_some_and(|at| at.elapsed() < time)
    }

    /// Replaces what the statistics are about.
    pub(crate) fn publish<'a>(
        &self,
        streams: impl Iterator<Item = &'a StreamInfo>,
        receivers: &BTreeMap<ClientId, Receiver>,
        sessions: &BTreeMap<ClientId, ActiveSession>,
        now: Instant,
    ) {
        let streams = streams.cloned().collect();
        let receivers = sessions
            .iter()
            .filter_map(|(id, running)| {
                Some((id.to_string(), receiver_stats(receivers.get(id)?, running, now)))
            })
            .collect();
        let mut cache = self.cache();
        cache.streams = streams;
        cache.receivers = receivers;
    }
}

fn stream_stats(stream: &StreamInfo) -> gst::Structure {
    let (frames, keyframes) = stream.fanout.counts();
    gst::Structure::builder("stream")
        .field("pad", stream.key.pad_name())
        .field("codec", stream.codec.encoding)
        .field("frames", frames)
        .field("keyframes", keyframes)
        .build()
}

/// What a session has sent, over all of its streams.
#[derive(Default)]
struct Sent {
    frames: u64,
    shed: u64,
    bytes: u64,
    queued: gst::ClockTime,
}

fn receiver_stats(receiver: &Receiver, running: &ActiveSession, now: Instant) -> gst::Structure {
    let session = &running.session;
    let sent = session.subscribers().fold(Sent::default(), |sum, subscriber| {
        let (frames, shed, bytes) = subscriber.counts();
        Sent {
            frames: sum.frames + frames,
            shed: sum.shed + shed,
            bytes: sum.bytes + bytes,
            queued: sum.queued.max(subscriber.level()),
        }
    });
    let age = session.report_age(now).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    gst::Structure::builder("receiver")
        .field("id", receiver.peer.client_id.as_str())
        .field("state", receiver.state())
        .field("protocol", receiver.peer.protocol)
        .field("session-id", session.id.as_str())
        .field("frames-sent", sent.frames)
        .field("frames-shed", sent.shed)
        .field("bytes-sent", sent.bytes)
        .field("queued-ms", sent.queued.mseconds())
        .field_if_some("report-age-ms", age)
        .field_if_some("webrtc", running.webrtc_stats.as_ref())
        .build()
}
