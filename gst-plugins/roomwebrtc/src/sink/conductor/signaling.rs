//! Handles signaling events: converts them into inputs of the roster, and publishes the state of signaling in properties and
//! bus messages.

use super::{Conductor, post};
use crate::{
    log::CAT,
    signaling::{SignalingState, warn_unreachable},
    sink::roster::Input,
};
use gst::prelude::*;
use room_signaling_client::{Event, State, protocol::ClientId, wire::ErrorCode};
use std::time::Instant;

impl Conductor {
    pub(super) fn handle_signaling(&mut self, now: Instant, event: Event) {
        match event {
            Event::State(state) => {
                self.signaling_state(state.into());
                self.update_roster(now, Input::InRoom(state == State::Joined));
            }
            Event::Joined { client_id, ice_servers } => {
                gst::info!(CAT, "joined the room as {client_id}");
                self.assigned(&client_id);
                self.ice_servers = ice_servers;
                self.warn_of_ice_servers();
            }
            Event::PeerReady(peer) => self.update_roster(now, Input::PeerReady(peer)),
            Event::PeerChanged(peer) => self.update_roster(now, Input::PeerChanged(peer)),
            Event::PeerGone(id, reason) => self.update_roster(now, Input::PeerGone(id, reason)),
            Event::Signal(signal) => self.update_roster(now, Input::Signal(signal)),
            Event::Refused { code, message, target_id, .. } => {
                self.refused(now, code, &message, target_id.as_deref());
            }
            Event::Disconnected(reason) => self.signaling_reason(reason),
            Event::Unreachable(reason) => {
                // The property comes first, because applications read it when they get the warning.
                self.signaling_reason(reason.clone());
                if let Some(element) = self.element.upgrade() {
                    warn_unreachable(&element, self.signaling.server(), &reason);
                }
            }
            Event::Failed(failure) => {
                self.signaling_reason(failure.message.clone());
                self.signaling_state(SignalingState::Failed);
                if let Some(element) = self.element.upgrade() {
                    gst::element_error!(element, gst::ResourceError::Settings, ("{}", failure.message));
                }
            }
        }
    }

    fn refused(&mut self, now: Instant, code: ErrorCode, message: &str, target_id: Option<&str>) {
        if code == ErrorCode::TargetNotFound {
            // The peer left while the message was in transit.
            gst::debug!(CAT, "{target_id:?}: {message}");
        } else {
            gst::warning!(CAT, "the server refused a message: {message}");
        }
        if code == ErrorCode::TargetBusy
            && let Some(id) = target_id.and_then(|id| ClientId::new(id).ok())
        {
            self.update_roster(now, Input::Busy(id));
        }
    }

    /// Posts one warning for each STUN or TURN server that cannot be used.
    fn warn_of_ice_servers(&mut self) {
        let unusable = self.signaling.ice(&self.ice_servers).unusable_servers();
        if let Some(element) = self.element.upgrade() {
            for warning in unusable.iter().filter(|warning| !self.unusable_ice_servers.contains(warning)) {
                gst::element_warning!(element, gst::ResourceError::Settings, ("{}", warning));
            }
        }
        self.unusable_ice_servers = unusable;
    }

    fn assigned(&self, client_id: &ClientId) {
        if self.published.set_client_id(client_id.as_str())
            && let Some(element) = self.element.upgrade()
        {
            element.notify("assigned-client-id");
        }
    }

    fn signaling_state(&self, state: SignalingState) {
        let Some(element) = self.element.upgrade() else { return };
        if self.published.set_signaling_state(state) {
            element.notify("signaling-state");
            element.notify("signaling-reason");
            post(&element, self.published.signaling().message());
        }
    }

    fn signaling_reason(&self, reason: String) {
        self.published.set_signaling_reason(reason);
        if let Some(element) = self.element.upgrade() {
            element.notify("signaling-reason");
        }
    }
}
