//! The structure of the property `stats`, which the conductor publishes.

use super::{outputs::Outputs, session::Session};
use crate::signaling::SignalingState;
use room_signaling_client::protocol::SessionId;

/// Builds the structure `application/x-room-source-stats`.
pub(super) fn build(
    signaling: SignalingState,
    session: Option<&Session>,
    outputs: &Outputs,
) -> gst::Structure {
    let mut stats = gst::Structure::builder("application/x-room-source-stats")
        .field("signaling-state", signaling)
        .field("connected", session.is_some_and(Session::is_connected))
        .field("sender-id", session.map(|session| session.sender.as_str()))
        .field("session-id", session.and_then(|session| session.id.as_ref()).map(SessionId::as_str))
        .build();
    for output in outputs.all() {
        let (sent, dropped) = output.counts();
        let pad = gst::Structure::builder("stream").field("units", sent).field("dropped", dropped);
        stats.set(output.name().pad_name(), pad.build());
    }
    stats
}
