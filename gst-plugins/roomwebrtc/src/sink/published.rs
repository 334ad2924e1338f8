//! The state that read-only properties show: statistics, the list of receivers, and signaling. The conductor publishes it,
//! and reading a property never waits for the conductor.

use super::session::StreamInfo;
use crate::{
    property::{Property, PropertyTable},
    signaling::{SignalingState, SignalingStatus},
    sync::lock,
};
use gst::{glib, prelude::*};
use std::{
    sync::{
        LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The read-only properties of the sink, besides those of signaling.
static PROPERTIES: LazyLock<PropertyTable<PublishedState>> = LazyLock::new(table);

fn table() -> PropertyTable<PublishedState> {
    PropertyTable::new(vec![
        Property::read_only(
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Counters of streams and sessions, described in docs/elements.md; reading never waits")
                .read_only()
                .build(),
            |state| state.stats().to_value(),
        ),
        Property::read_only(
            glib::ParamSpecBoxed::builder::<Vec<String>>("receivers")
                .nick("Receivers")
                .blurb("Ids of the receivers that have a media session, in alphabetical order")
                .read_only()
                .build(),
            |state| state.receivers().to_value(),
        ),
    ])
}

/// The specifications of the properties that [`PublishedState::get`] reads.
pub(crate) fn properties() -> impl Iterator<Item = glib::ParamSpec> {
    table().into_specs()
}

/// Shared by the element and its conductor.
#[derive(Default)]
pub(crate) struct PublishedState {
    snapshot: Mutex<Snapshot>,
    keyframes_forced: AtomicU64,
}

#[derive(Default)]
struct Snapshot {
    signaling: SignalingStatus,
    /// The fan-outs count on their own, so these numbers are always current.
    streams: Vec<StreamInfo>,
    /// The id of each receiver with a session, and the statistics of the session.
    receivers: Vec<(String, gst::Structure)>,
    /// When the application last read the statistics.
    stats_read: Option<Instant>,
}

impl PublishedState {
    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        lock(&self.snapshot)
    }

    /// The value of a read-only property. `None` if the sink has no such property.
    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name).or_else(|| self.snapshot().signaling.get(name))
    }

    /// The state of the connection to the signaling server.
    pub(crate) fn signaling(&self) -> SignalingStatus {
        self.snapshot().signaling.clone()
    }

    /// Sets `signaling-reason`.
    pub(crate) fn set_signaling_reason(&self, reason: String) {
        self.snapshot().signaling.reason = Some(reason);
    }

    /// Sets `signaling-state`. Returns whether the value changed.
    pub(crate) fn set_signaling_state(&self, state: SignalingState) -> bool {
        self.snapshot().signaling.set_state(state)
    }

    /// Sets `assigned-client-id`. Returns whether the value changed.
    pub(crate) fn set_client_id(&self, id: &str) -> bool {
        self.snapshot().signaling.set_client_id(id)
    }

    /// Clears everything when the element stops.
    pub(crate) fn reset(&self) {
        *self.snapshot() = Snapshot::default();
        self.keyframes_forced.store(0, Ordering::Relaxed);
    }

    /// Counts a keyframe that was requested from an encoder.
    pub(crate) fn count_forced_keyframe(&self) {
        self.keyframes_forced.fetch_add(1, Ordering::Relaxed);
    }

    fn receivers(&self) -> Vec<String> {
        self.snapshot().receivers.iter().map(|(id, _)| id.clone()).collect()
    }

    fn stats(&self) -> gst::Structure {
        let mut snapshot = self.snapshot();
        snapshot.stats_read = Some(Instant::now());
        let counts = || snapshot.streams.iter().map(|stream| stream.fanout.counts());
        gst::Structure::builder("application/x-room-sink-stats")
            .field("frames", counts().map(|(frames, _)| frames).sum::<u64>())
            .field("keyframes", counts().map(|(_, keyframes)| keyframes).sum::<u64>())
            .field("keyframes-forced", self.keyframes_forced.load(Ordering::Relaxed))
            .field("streams", gst::Array::new(snapshot.streams.iter().map(stream_stats)))
            .field("receivers", gst::Array::new(snapshot.receivers.iter().map(|(_, stats)| stats)))
            .build()
    }

    /// Whether the application read the statistics within this time. Only then is it worth querying webrtcbin.
    pub(crate) fn stats_read_within(&self, time: Duration) -> bool {
        self.snapshot().stats_read.is_some_and(|at| at.elapsed() < time)
    }

    /// Replaces the streams and the statistics of receivers.
    pub(crate) fn publish(&self, streams: Vec<StreamInfo>, receivers: Vec<(String, gst::Structure)>) {
        let mut snapshot = self.snapshot();
        snapshot.streams = streams;
        snapshot.receivers = receivers;
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
