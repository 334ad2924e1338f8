//! The statistics of one receiver, as the property `stats` shows them.

use super::ActiveSession;
use crate::sink::roster::Receiver;
use std::time::Instant;

/// What a session has sent, summed over its streams.
#[derive(Default)]
struct Totals {
    frames: u64,
    shed: u64,
    bytes: u64,
    queued: gst::ClockTime,
}

/// The structure `receiver` in the field `receivers` of `stats`.
pub(super) fn receiver_stats(receiver: &Receiver, active: &ActiveSession, now: Instant) -> gst::Structure {
    let session = &active.session;
    let totals = session.subscribers().fold(Totals::default(), |sum, subscriber| {
        let counts = subscriber.counts();
        Totals {
            frames: sum.frames + counts.sent,
            shed: sum.shed + counts.shed,
            bytes: sum.bytes + counts.bytes,
            queued: sum.queued.max(subscriber.level()),
        }
    });
    let age = session.report_age(now).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    gst::Structure::builder("receiver")
        .field("id", receiver.peer.client_id.as_str())
        .field("state", receiver.state_name())
        .field("protocol", receiver.peer.protocol)
        .field("session-id", session.id.as_str())
        .field("frames-sent", totals.frames)
        .field("frames-shed", totals.shed)
        .field("bytes-sent", totals.bytes)
        .field("queued-ms", totals.queued.mseconds())
        .field_if_some("report-age-ms", age)
        .field_if_some("webrtc", active.webrtc_stats.as_ref())
        .build()
}
