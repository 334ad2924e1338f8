//! The element messages that the element posts on the bus.

use super::RoomWebRtcSrc;
use crate::signaling::SignalingStatus;
use gst::prelude::*;
use room_signaling_client::protocol::ClientId;

/// `room-signaling-state`, with the fields `state` and, if there is one, `reason`.
pub(super) fn signaling_state(element: &RoomWebRtcSrc, status: &SignalingStatus) {
    post(element, status.message());
}

/// `room-sender-added`, with the field `id`: media of this sender can flow.
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
    // Fails only if the element has no bus any more.
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}
