//! What the outside may read at any time without waiting: the conductor writes it, the properties read it.

use super::{receivers::Receiver, session::StreamInfo};
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
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cache: Mutex<Cache>,
    forced: AtomicU64,
}

#[derive(Debug, Default)]
struct Cache {
    signaling: SignalingStatus,
    receivers: Vec<String>,
    stats: Option<gst::Structure>,
    read: Option<Instant>,
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache> {
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

    /// Nothing is running any more.
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
        self.cache().receivers.clone()
    }

    /// The last statistics.
    pub(crate) fn stats(&self) -> gst::Structure {
        let mut cache = self.cache();
        cache.read = Some(Instant::now());
        cache.stats.clone().unwrap_or_else(|| gst::Structure::new_empty("application/x-room-sink-stats"))
    }

    /// Whether anybody is interested in statistics that cost something.
    pub(crate) fn stats_read_within(&self, time: Duration) -> bool {
        self.cache().read.is_some_and(|at| at.elapsed() < time)
    }
}

/// Brings the cache up to date.
pub(crate) fn publish<'a>(
    shared: &Shared,
    receivers: &BTreeMap<ClientId, Receiver>,
    streams: impl Iterator<Item = &'a StreamInfo>,
    now: Instant,
) {
    let with_session = || receivers.iter().filter(|(_, receiver)| receiver.phase.session().is_some());
    let streams: Vec<gst::Structure> = streams.map(stream_stats).collect();
    let (frames, keyframes) = streams.iter().fold((0, 0), |(frames, keyframes), stream| {
        let count = |name| stream.get::<u64>(name).unwrap_or_default();
        (frames + count("frames"), keyframes + count("keyframes"))
    });
    let stats = gst::Structure::builder("application/x-room-sink-stats")
        .field("frames", frames)
        .field("keyframes", keyframes)
        .field("keyframes-forced", shared.forced.load(Ordering::Relaxed))
        .field("streams", gst::Array::new(streams))
        .field("receivers", gst::Array::new(with_session().map(|(id, r)| receiver_stats(id, r, now))))
        .build();
    let mut cache = shared.cache();
    cache.receivers = with_session().map(|(id, _)| id.to_string()).collect();
    cache.stats = Some(stats);
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

fn receiver_stats(id: &ClientId, receiver: &Receiver, now: Instant) -> gst::Structure {
    let mut stats = gst::Structure::builder("receiver")
        .field("id", id.as_str())
        .field("state", receiver.phase.as_str())
        .field("protocol", receiver.peer.protocol)
        .build();
    let Some(session) = receiver.phase.session() else { return stats };
    let total = session.taps().fold((0, 0, 0), |sum, tap| {
        let counts = tap.counts();
        (sum.0 + counts.0, sum.1 + counts.1, sum.2 + counts.2)
    });
    stats.set("session-id", session.id.as_str());
    stats.set("frames-sent", total.0);
    stats.set("frames-shed", total.1);
    stats.set("bytes-sent", total.2);
    stats.set("queued-ms", session.taps().map(|tap| tap.level().mseconds()).max().unwrap_or_default());
    if let Some(age) = session.report_age(now) {
        stats.set("report-age-ms", u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(webrtc) = &receiver.webrtc_stats {
        stats.set("webrtc", webrtc);
    }
    stats
}
