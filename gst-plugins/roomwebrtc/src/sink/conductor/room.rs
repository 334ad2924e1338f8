//! The conductor's dealings with the room: who comes and goes, what peers say, where signaling stands.

use super::{Conductor, PATIENCE, post};
use crate::{
    log::CAT,
    signaling::{SignalingState, warn_unreachable},
    sink::{
        receivers::{Receiver, Retry},
        session::Answered,
    },
};
use gst::prelude::*;
use room_signaling_client::{
    Event, GoneReason,
    protocol::ClientId,
    wire::{Body, ErrorCode, PeerEntry, Role, Signal},
};
use std::time::Instant;

impl Conductor {
    pub(super) fn handle_signaling(&mut self, event: Event) {
        match event {
            Event::State(state) => self.signaling_state(state.into()),
            Event::Joined { client_id, ice_servers } => {
                gst::info!(CAT, "in the room as {client_id}");
                self.ice_servers = ice_servers;
                self.warn_of_ice_servers();
            }
            Event::PeerReady(peer) => self.peer_ready(peer),
            Event::PeerChanged(peer) => {
                if let Some(receiver) = self.receivers.get_mut(&peer.client_id) {
                    receiver.peer = peer;
                    receiver.phase.wake();
                }
            }
            Event::PeerGone(id, reason) => {
                let words = match reason {
                    GoneReason::Left => "left",
                    GoneReason::Replaced => "replaced",
                    GoneReason::Absent => "absent",
                    GoneReason::Restart => "restart",
                };
                self.end_session(&id, words, Retry::Never, false);
                self.receivers.remove(&id);
            }
            Event::Signal(signal) => self.handle_signal(signal),
            Event::Refused { code, message, target_id, .. } => {
                // That a peer left while something was on its way to it is nothing unusual.
                if code == ErrorCode::TargetNotFound {
                    gst::debug!(CAT, "{target_id:?}: {message}");
                } else {
                    gst::warning!(CAT, "the server refused something: {message}");
                }
                if code == ErrorCode::TargetBusy
                    && let Some(id) = target_id.and_then(|id| ClientId::new(id).ok())
                {
                    self.end_session(&id, "busy", Retry::At(Instant::now() + PATIENCE), false);
                }
            }
            Event::Disconnected(reason) => self.signaling_reason(reason),
            Event::Unreachable(reason) => {
                if let Some(element) = self.element.upgrade() {
                    warn_unreachable(&element, self.signaling.server(), &reason);
                }
                self.signaling_reason(reason);
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

    /// Posts a warning for each STUN or TURN server that can't be used, once.
    fn warn_of_ice_servers(&mut self) {
        let unusable = self.signaling.ice(&self.ice_servers).unusable_servers();
        if let Some(element) = self.element.upgrade() {
            for sentence in unusable.iter().filter(|sentence| !self.unusable_ice_servers.contains(sentence)) {
                gst::element_warning!(element, gst::ResourceError::Settings, ("{}", sentence));
            }
        }
        self.unusable_ice_servers = unusable;
    }

    fn peer_ready(&mut self, peer: PeerEntry) {
        let wanted =
            self.settings.target_id.as_deref().is_none_or(|target| target == peer.client_id.as_str());
        if peer.role != Role::Receiver || !wanted {
            return;
        }
        let meta = peer.meta.as_ref().map(ToString::to_string);
        let allowed = self.element.upgrade().is_none_or(|element| {
            element.emit_by_name("authorize-receiver", &[&peer.client_id.as_str(), &meta])
        });
        let retry = if allowed { Retry::Now } else { Retry::Never };
        if !allowed {
            gst::info!(CAT, "{} was not authorized", peer.client_id);
        }
        self.end_session(&peer.client_id, "replaced", retry, false);
        self.receivers.insert(peer.client_id.clone(), Receiver::new(peer, retry));
    }

    fn handle_signal(&mut self, signal: Signal) {
        let Some(id) = signal.from else { return };
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let Some(session) = receiver.phase.session_mut() else { return };
        if signal.session_id.is_some_and(|named| named != session.id) {
            gst::debug!(CAT, "{id}: a message for a session that is over");
            return;
        }
        match signal.body {
            Body::Answer { sdp } if !session.answered() => match receiver.answered(&sdp) {
                Ok(Answered::Accepted) => {}
                Ok(Answered::NeedsOfferWithout(streams)) if receiver.peer.protocol > 0 => {
                    gst::info!(CAT, "{id}: offering again without the streams that it rejected");
                    receiver.rejected.extend(streams);
                    self.end_session(&id, "streams rejected", Retry::Now, true);
                }
                Ok(Answered::NeedsOfferWithout(_)) => {
                    self.fail(
                        &id,
                        "the receiver rejects the first stream and can't be offered the others alone",
                    );
                }
                Err(reason) => self.fail(&id, &reason),
            },
            Body::Answer { .. } => gst::warning!(CAT, "{id}: a second answer is ignored"),
            Body::Candidate { candidate } => session.add_candidate(&candidate),
            Body::Bye => self.end_session(&id, "bye", Retry::Never, false),
            Body::Offer { .. } => gst::warning!(CAT, "{id}: an offer to a sender is ignored"),
        }
    }

    fn signaling_state(&mut self, state: SignalingState) {
        let Some(element) = self.element.upgrade() else { return };
        if self.shared.set_signaling_state(state) {
            element.notify("signaling-state");
            element.notify("signaling-reason");
            post(&element, self.shared.signaling().message());
        }
    }

    fn signaling_reason(&self, reason: String) {
        self.shared.set_signaling_reason(reason);
        if let Some(element) = self.element.upgrade() {
            element.notify("signaling-reason");
        }
    }
}
