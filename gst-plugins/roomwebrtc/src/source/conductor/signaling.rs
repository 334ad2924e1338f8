//! Events of the room and of the connection to the signaling server: senders that join and leave, offers, candidates,
//! `bye`.

use super::Conductor;
use crate::{
    log::CAT,
    signaling::{SignalingState, warn_unreachable},
    source::{senders::BYE_GRACE, signaling_connection},
};
use room_signaling_client::{
    Event, Failure, GoneReason, Media, State,
    protocol::{ClientId, SessionId},
    wire::{Body, Signal},
};
use std::time::Instant;

impl Conductor {
    pub(super) fn on_event(&mut self, event: Event) {
        if let Some((id, present)) = signaling_connection::presence(&event) {
            if present {
                self.senders.joined(id);
            } else {
                self.senders.left(id);
            }
        }
        match event {
            Event::State(state) => self.on_state(state),
            Event::Joined { client_id, ice_servers } => {
                if let Some(element) = self.element.upgrade() {
                    element.set_client_id(client_id.as_str());
                }
                self.signaling.keep_id(client_id);
                self.ice_servers = ice_servers;
                self.warn_of_ice_servers();
            }
            Event::PeerGone(id, reason) => self.on_peer_gone(&id, reason),
            Event::Signal(Signal { body, session_id, from: Some(from), .. }) => {
                self.on_signal(from, session_id, body);
            }
            Event::Refused { code, message, request, .. } => {
                gst::info!(CAT, "the server refused {}: {code:?}, {message}", request.unwrap_or_default());
            }
            Event::Disconnected(reason) => self.set_reason(reason),
            Event::Unreachable(reason) => {
                // The reason is published first, because an application reads the property when it receives the
                // warning.
                self.set_reason(reason.clone());
                if let Some(element) = self.element.upgrade() {
                    warn_unreachable(&element, self.settings.signaling.server(), &reason);
                }
            }
            Event::Failed(Failure { code, message }) => self.fail(code, &message),
            Event::PeerReady(_) | Event::PeerChanged(_) | Event::Signal(_) => {}
        }
    }

    pub(super) fn set_reason(&self, reason: String) {
        if let Some(element) = self.element.upgrade() {
            element.set_signaling_reason(reason);
        }
    }

    fn on_state(&mut self, state: State) {
        let state = match SignalingState::from(state) {
            // The element has been in the room, and left it only to get another offer.
            SignalingState::Connecting if self.state != SignalingState::Idle => SignalingState::Reconnecting,
            SignalingState::Closed if self.state == SignalingState::Failed => return,
            state => state,
        };
        self.set_state(state);
    }

    pub(super) fn set_state(&mut self, state: SignalingState) {
        if self.state != state {
            self.state = state;
            if let Some(element) = self.element.upgrade() {
                element.set_signaling_state(state);
            }
        }
    }

    /// Posts one warning for each STUN or TURN server that can't be used.
    fn warn_of_ice_servers(&mut self) {
        let unusable = self.settings.signaling.ice(&self.ice_servers).unusable_servers();
        if let Some(element) = self.element.upgrade() {
            for sentence in unusable.iter().filter(|sentence| !self.unusable_ice_servers.contains(sentence)) {
                gst::element_warning!(element, gst::ResourceError::Settings, ("{}", sentence));
            }
        }
        self.unusable_ice_servers = unusable;
    }

    fn on_peer_gone(&mut self, id: &ClientId, reason: GoneReason) {
        let ours = self.is_session_of(id);
        if ours {
            self.end_session(match reason {
                GoneReason::Left => "left",
                GoneReason::Replaced => "replaced",
                GoneReason::Absent | GoneReason::Restart => "absent",
            });
        }
        if ours && reason == GoneReason::Left && self.eos_on_bye() {
            self.end_streams();
        } else if reason != GoneReason::Replaced {
            // The process that replaced the sender offers without being asked.
            self.look_for_another(Instant::now());
        }
    }

    fn on_signal(&mut self, from: ClientId, id: Option<SessionId>, body: Body) {
        match body {
            Body::Offer { sdp } => self.on_offer(from, id, &sdp),
            _ if !self.is_session_of(&from) => {}
            Body::Candidate { candidate } => {
                if let Some(session) = self.session.as_ref().filter(|session| session.is_named(id.as_ref())) {
                    session.add_candidate(&candidate);
                }
            }
            Body::Bye => {
                if self.session.as_ref().is_some_and(|session| session.is_named(id.as_ref())) {
                    self.end_session("bye");
                    self.signaling.media(&from, id.as_ref(), Media::Ended);
                    let now = Instant::now();
                    self.bye_deadline = self.eos_on_bye().then(|| now + BYE_GRACE);
                    self.senders.said_bye(from, now);
                }
            }
            Body::Answer { .. } => {
                gst::debug!(CAT, "ignoring an answer of {from}, because nothing was offered");
            }
        }
    }

    pub(super) fn request_offers(&mut self, now: Instant) {
        if self.state == SignalingState::Joined {
            gst::info!(CAT, "leaving and rejoining the room, to get another offer");
            self.senders.rejoined();
            self.signaling.rejoin(now);
        } else {
            self.senders.retry_later(now);
        }
    }

    pub(super) fn look_for_another(&mut self, now: Instant) {
        if self.session.is_none() && self.stopped.is_none() {
            self.senders.look_for_another(now);
        }
    }
}
