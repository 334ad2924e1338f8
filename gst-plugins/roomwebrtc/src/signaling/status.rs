//! The state of the connection to the signaling server in both elements: the properties `signaling-state`,
//! `signaling-reason` and `assigned-client-id`, the message `room-signaling-state`, and the warning if the server is
//! unreachable.

use crate::{
    log::CAT,
    property::{Property, PropertyTable},
};
use gst::{glib, prelude::*};
use room_signaling_client::State;
use std::sync::LazyLock;

/// The state of the connection to the signaling server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstRoomSignalingState")]
pub enum SignalingState {
    /// The element is not running.
    #[default]
    #[enum_value(name = "Idle: the element is not running", nick = "idle")]
    Idle = 0,
    /// The element is joining the room for the first time.
    #[enum_value(name = "Connecting: joining the room for the first time", nick = "connecting")]
    Connecting = 1,
    /// The element is in the room.
    #[enum_value(name = "Joined: in the room", nick = "joined")]
    Joined = 2,
    /// The connection is lost and another attempt follows; running media is not affected.
    #[enum_value(
        name = "Reconnecting: the connection is lost, running media is not affected",
        nick = "reconnecting"
    )]
    Reconnecting = 3,
    /// The element has left the room.
    #[enum_value(name = "Closed: the element has left the room", nick = "closed")]
    Closed = 4,
    /// The server refused the element, which has posted an error that says why.
    #[enum_value(name = "Failed: the server refused, the error on the bus says why", nick = "failed")]
    Failed = 5,
}

impl From<State> for SignalingState {
    fn from(state: State) -> Self {
        match state {
            State::Connecting => Self::Connecting,
            State::Joined => Self::Joined,
            State::Reconnecting => Self::Reconnecting,
            State::Closed => Self::Closed,
        }
    }
}

/// The state, and the reason why the element is not in the room.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignalingStatus {
    pub(crate) state: SignalingState,
    pub(crate) reason: Option<String>,
    /// The id of the element in the room, once it has joined.
    pub(crate) client_id: Option<String>,
}

/// The read-only signaling properties of both elements.
static PROPERTIES: LazyLock<PropertyTable<SignalingStatus>> = LazyLock::new(table);

pub(super) fn table() -> PropertyTable<SignalingStatus> {
    PropertyTable::new(vec![
        Property::read_only(
            glib::ParamSpecEnum::builder_with_default("signaling-state", SignalingState::Idle)
                .nick("Signaling state")
                .blurb("State of the connection to the signaling server")
                .read_only()
                .build(),
            |status| status.state.to_value(),
        ),
        Property::read_only(
            glib::ParamSpecString::builder("assigned-client-id")
                .nick("Assigned client id")
                .blurb("Id of this element in the room: client-id, or the id assigned by the server (null: not joined yet)")
                .read_only()
                .build(),
            |status| status.client_id.to_value(),
        ),
        Property::read_only(
            glib::ParamSpecString::builder("signaling-reason")
                .nick("Signaling reason")
                .blurb("Why the element is not in the room (null: it is, or no attempt to join has failed yet)")
                .read_only()
                .build(),
            |status| status.reason.to_value(),
        ),
    ])
}

impl SignalingStatus {
    /// The value of a property. `None` if this is not a read-only signaling property.
    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name)
    }

    /// Sets the state. Returns whether it changed.
    pub(crate) fn set_state(&mut self, state: SignalingState) -> bool {
        // A failed element stays failed, although its client closes after that.
        let changed = self.state != state && self.state != SignalingState::Failed;
        if changed {
            self.state = state;
            if state == SignalingState::Joined {
                self.reason = None;
            }
        }
        changed
    }

    /// Sets the id of the element in the room. Returns whether it changed.
    pub(crate) fn set_client_id(&mut self, id: &str) -> bool {
        let changed = self.client_id.as_deref() != Some(id);
        self.client_id = Some(id.to_owned());
        changed
    }

    /// The message `room-signaling-state`, with the fields `state` and, if there is one, `reason`.
    pub(crate) fn message(&self) -> gst::Structure {
        let structure = gst::Structure::builder("room-signaling-state").field("state", self.state);
        structure.field_if_some("reason", self.reason.as_deref()).build()
    }
}

/// Warns on the bus and in the log that the server can't be reached.
pub(crate) fn warn_unreachable(element: &impl IsA<gst::Element>, server: &str, reason: &str) {
    gst::warning!(CAT, obj = element, "the signaling server {server} can't be reached: {reason}");
    gst::element_warning!(
        element,
        gst::ResourceError::OpenReadWrite,
        ("The signaling server {server} can't be reached: {reason}. The element keeps trying.")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_kept_until_the_element_is_in_the_room() {
        gst::init().expect("GStreamer");
        let mut status = SignalingStatus::default();
        assert!(status.set_state(SignalingState::Connecting));
        assert!(!status.message().has_field("reason"));
        status.reason = Some("refused".to_owned());
        assert!(status.set_state(SignalingState::Reconnecting));
        assert_eq!(status.message().get("reason"), Ok("refused"));
        assert!(status.set_state(SignalingState::Joined));
        assert!(!status.set_state(SignalingState::Joined));
        assert_eq!(status.reason, None);
    }

    #[test]
    fn a_failed_element_stays_failed() {
        let mut status =
            SignalingStatus { reason: Some("forbidden".to_owned()), ..SignalingStatus::default() };
        assert!(status.set_state(SignalingState::Failed));
        assert!(!status.set_state(SignalingState::Closed));
        assert_eq!((status.state, status.reason.as_deref()), (SignalingState::Failed, Some("forbidden")));
    }
}
