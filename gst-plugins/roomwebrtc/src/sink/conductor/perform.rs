//! Performs the outputs of the roster, and converts session events into its inputs.

use super::{ActiveSession, Command, Conductor, post};
use crate::{
    log::CAT,
    peer::PeerAction,
    sink::{
        ports,
        roster::{EndReason, Input, Notice, Output, Update},
        session::{AnswerOutcome, Session, SessionConfig, SessionEvent, SessionEvents},
    },
    stream_key::StreamKey,
};
use gst::prelude::*;
use room_signaling_client::{
    Media,
    protocol::{ClientId, SessionId},
};
use std::{sync::Arc, time::Instant};

impl Conductor {
    pub(super) fn perform_outputs(&mut self) {
        while let Some(output) = self.roster.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Authorize { id, meta } => self.authorize(id, meta.as_ref()),
            Output::ConductorConfig { id, session, streams } => self.start(id, session, &streams),
            Output::AcceptAnswer { id, session, sdp } => self.accept_answer(id, session, &sdp),
            Output::AddCandidate { id, session, candidate } => {
                if let Some(active) = self.active(&id, &session) {
                    active.session.add_candidate(&candidate);
                }
            }
            Output::OpenGates { id, session } => {
                gst::info!(CAT, "{id}: connected");
                if let Some(active) = self.active(&id, &session) {
                    active.session.open_gates();
                }
                self.pads.request_keyframes(Instant::now());
                self.changed = true;
            }
            Output::End { id, session, reason } => self.end(&id, &session, &reason),
            Output::Send(signal) => self.handle.send(signal),
            Output::Report { id, session, media } => {
                self.handle.media(&id, Some(&session), media);
                self.changed |= media != Media::Ended;
            }
            Output::Notice(notice) => log(&notice),
        }
    }

    fn active(&mut self, id: &ClientId, session: &SessionId) -> Option<&mut ActiveSession> {
        self.sessions.get_mut(id).filter(|active| active.session.id == *session)
    }

    /// Emits `authorize-receiver`. The handlers run on this thread.
    fn authorize(&mut self, id: ClientId, meta: Option<&String>) {
        let allowed = self
            .element
            .upgrade()
            .is_none_or(|element| element.emit_by_name("authorize-receiver", &[&id.as_str(), &meta]));
        self.roster.handle(Instant::now(), Input::Authorized(id, allowed));
    }

    fn start(&mut self, id: ClientId, session: SessionId, keys: &[StreamKey]) {
        let ice = self.signaling.ice(&self.ice_servers);
        let update = if ports::is_one_free(ice.min_rtp_port, ice.max_rtp_port) {
            let streams = self.pads.infos(keys);
            let config = SessionConfig {
                id: session.clone(),
                streams: &streams,
                ice: &ice,
                retransmission: self.settings.retransmission,
                data_channel: self.settings.data_channel,
            };
            match Session::start(config, &self.events_of(&id, &session)) {
                Ok(session) => return self.started(id, session),
                Err(error) => Update::NotStarted(error.to_string()),
            }
        } else {
            Update::NoPort
        };
        self.roster.handle(Instant::now(), Input::Session(id, session, update));
    }

    fn started(&mut self, id: ClientId, session: Session) {
        self.announce_added(&id, session.webrtcbin());
        // The handlers of `receiver-added` may have configured the webrtcbin, so the offer is made after them.
        session.make_offer();
        self.sessions.insert(id, ActiveSession { session, webrtc_stats: None });
        self.changed = true;
    }

    /// Forwards the events of a session to this thread.
    fn events_of(&self, id: &ClientId, session: &SessionId) -> SessionEvents {
        let (sender, id, session) = (self.sender.clone(), id.clone(), session.clone());
        Arc::new(move |event| {
            let _ = sender.send(Command::Session(id.clone(), session.clone(), event));
        })
    }

    fn accept_answer(&mut self, id: ClientId, session: SessionId, sdp: &str) {
        let Some(active) = self.active(&id, &session) else { return };
        let update = match active.session.accept_answer(sdp) {
            Ok(AnswerOutcome::Accepted) => return,
            Ok(AnswerOutcome::NeedsOfferWithout(streams)) => Update::FirstStreamRejected(streams),
            Err(error) => Update::Failed(EndReason::Failed(error)),
        };
        self.roster.handle(Instant::now(), Input::Session(id, session, update));
    }

    /// Tears a session down. A session that failed to start was not announced.
    fn end(&mut self, id: &ClientId, session: &SessionId, reason: &EndReason) {
        self.changed = true;
        if self.active(id, session).is_none() {
            return;
        }
        let Some(active) = self.sessions.remove(id) else { return };
        self.teardowns.retain(|teardown| !teardown.is_finished());
        self.teardowns.extend(active.session.end());
        self.announce_removed(id, reason);
    }

    pub(super) fn handle_session_event(
        &mut self,
        now: Instant,
        id: &ClientId,
        session: SessionId,
        event: SessionEvent,
    ) {
        let Some(active) = self.active(id, &session) else { return };
        let update = match event {
            SessionEvent::Peer(event) => match active.session.handle(event) {
                PeerAction::None | PeerAction::Reports(_) => return,
                PeerAction::Describe(offer) => Update::Offer(offer),
                PeerAction::LocalSet => Update::OfferSet,
                PeerAction::Candidate(candidate) => Update::Candidate(candidate),
                PeerAction::Connected => Update::Connected,
                PeerAction::Stats(stats) => {
                    active.webrtc_stats = Some(stats);
                    return;
                }
                PeerAction::Over(reason) => Update::Failed(EndReason::Failed(reason)),
            },
            SessionEvent::KeyframeRequested(key) => {
                gst::debug!(CAT, "{id} requests a keyframe of {key}");
                let opened = active.session.gate_opened(key);
                return self.pads.handle_keyframe_request(now, key, opened);
            }
            SessionEvent::Data(label, bytes) => {
                if let Some(element) = self.element.upgrade() {
                    element.emit_by_name::<()>("data", &[&id.as_str(), &label, &bytes]);
                }
                return;
            }
        };
        self.update_roster(now, Input::Session(id.clone(), session, update));
    }

    /// Ends the sessions whose receivers are unreachable.
    pub(super) fn end_silent_sessions(&mut self, now: Instant) {
        let timeout = self.settings.runtime.receiver_timeout;
        let silent: Vec<(ClientId, SessionId)> = self
            .connected()
            .filter(|(_, session)| session.is_silent(now, timeout))
            .map(|(id, session)| (id.clone(), session.id.clone()))
            .collect();
        for (id, session) in silent {
            self.update_roster(now, Input::Session(id, session, Update::Failed(EndReason::Timeout)));
        }
    }

    fn announce_added(&self, id: &ClientId, webrtcbin: &gst::Element) {
        let Some(element) = self.element.upgrade() else { return };
        element.emit_by_name::<()>("receiver-added", &[&id.as_str(), webrtcbin]);
        post(&element, gst::Structure::builder("room-receiver-added").field("id", id.as_str()).build());
    }

    fn announce_removed(&self, id: &ClientId, reason: &EndReason) {
        let Some(element) = self.element.upgrade() else { return };
        let reason = reason.to_string();
        element.emit_by_name::<()>("receiver-removed", &[&id.as_str(), &reason]);
        let message =
            gst::Structure::builder("room-receiver-removed").field("id", id.as_str()).field("reason", reason);
        post(&element, message.build());
    }
}

fn log(notice: &Notice) {
    if notice.is_warning() {
        gst::warning!(CAT, "{notice}");
    } else {
        gst::info!(CAT, "{notice}");
    }
}
