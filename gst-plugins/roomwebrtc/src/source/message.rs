//! What the element tells the application on the bus, as element messages.

use super::RoomWebRtcSrc;
use crate::signaling::SignalingStatus;
use gst::prelude::*;
use room_signaling_client::protocol::ClientId;

/// `room-signaling-state`, with the fields `state` and, if there is one, `reason`.
pub(super) fn signaling_state(element: &RoomWebRtcSrc, status: &SignalingStatus) {
    post(element, status.message());
}

/// `room-sender-added`, with the field `id`: media of this sender begins to flow.
pub(super) fn sender_added(element: &RoomWebRtcSrc, id: &ClientId) {
    post(element, gst::Structure::builder("room-sender-added").field("id", id.as_str()).build());
}

/// `room-sender-removed`, with the fields `id` and `reason`.
pub(super) fn sender_removed(element: &RoomWebRtcSrc, id: &ClientId, reason: &str) {
    let structure =
        gst::Structure::builder("room-sender-removed").field("id", id.as_str()).field("reason", reason);
    post(element, structure.build());
}

fn post(element: &RoomWebRtcSrc, structure: gst::Structure) {
    // Fails only when the element has no bus any more, and then nobody is there to be told.
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}
