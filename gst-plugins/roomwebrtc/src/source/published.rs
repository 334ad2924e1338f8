//! The state that read-only properties show: statistics and signaling. The conductor publishes it, and reading a property
//! never waits for the conductor.

use crate::{
    property::{Property, PropertyTable},
    signaling::{SignalingState, SignalingStatus},
    sync::lock,
};
use gst::{glib, prelude::*};
use std::sync::{
    LazyLock, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// The read-only properties of the source, besides those of signaling.
static PROPERTIES: LazyLock<PropertyTable<PublishedState>> = LazyLock::new(table);

fn table() -> PropertyTable<PublishedState> {
    PropertyTable::new(vec![Property::read_only(
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("State of the session and counters of each pad, described in docs/elements.md; reading never waits")
            .read_only()
            .build(),
        |state| state.stats().to_value(),
    )])
}

/// The specifications of the properties that [`PublishedState::get`] reads, apart from those of signaling.
pub(super) fn properties() -> impl Iterator<Item = glib::ParamSpec> {
    table().into_specs()
}

/// Shared by the element and its conductor.
#[derive(Default)]
pub(super) struct PublishedState {
    snapshot: Mutex<Snapshot>,
    /// The application has read the statistics since the conductor last asked.
    stats_read: AtomicBool,
}

#[derive(Default)]
struct Snapshot {
    signaling: SignalingStatus,
    stats: Option<gst::Structure>,
    webrtc_stats: Option<gst::Structure>,
}

impl PublishedState {
    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        lock(&self.snapshot)
    }

    /// The value of a read-only property. `None` if the source has no such property.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name).or_else(|| self.snapshot().signaling.get(name))
    }

    /// Sets `signaling-state`. Returns the status of which the state is a part.
    pub(super) fn set_signaling_state(&self, state: SignalingState) -> SignalingStatus {
        let mut snapshot = self.snapshot();
        snapshot.signaling.set_state(state);
        snapshot.signaling.clone()
    }

    /// Sets `signaling-reason`.
    pub(super) fn set_signaling_reason(&self, reason: String) {
        self.snapshot().signaling.reason = Some(reason);
    }

    /// Sets `assigned-client-id`. Returns whether the value changed.
    pub(super) fn set_client_id(&self, id: &str) -> bool {
        self.snapshot().signaling.set_client_id(id)
    }

    /// Replaces the statistics of the element.
    pub(super) fn set_stats(&self, stats: gst::Structure) {
        self.snapshot().stats = Some(stats);
    }

    /// Replaces the statistics of webrtcbin.
    pub(super) fn set_webrtc_stats(&self, stats: gst::Structure) {
        self.snapshot().webrtc_stats = Some(stats);
    }

    /// Whether the application has read the statistics since the last call. Only then is it worth querying webrtcbin.
    pub(super) fn take_stats_read(&self) -> bool {
        self.stats_read.swap(false, Ordering::Relaxed)
    }

    /// Clears everything when the element stops.
    pub(super) fn reset(&self) {
        *self.snapshot() = Snapshot::default();
    }

    fn stats(&self) -> gst::Structure {
        self.stats_read.store(true, Ordering::Relaxed);
        let snapshot = self.snapshot();
        let empty = || gst::Structure::new_empty("application/x-room-source-stats");
        let mut stats = snapshot.stats.clone().unwrap_or_else(empty);
        if let Some(webrtc) = &snapshot.webrtc_stats {
            stats.set("webrtc", webrtc);
        }
        stats
    }
}
