//! The media session with one sender: started by an offer, driven by its events and by time, and ended.

use super::{Command, Conductor, TICK};
use crate::{
    log::CAT,
    source::{
        message,
        session::{Action, Session, SessionEvent, SessionEventSink},
        stats,
    },
};
use gst::prelude::*;
use room_signaling_client::{
    Media,
    protocol::{ClientId, SessionId},
    wire::Body,
};
use std::{sync::Arc, time::Instant};

impl Conductor {
    pub(super) fn on_offer(&mut self, from: ClientId, id: Option<SessionId>, sdp: &str) {
        // The server relays messages between any two members, but a receiver must not be able to send video to other
        // receivers.
        if !self.senders.is_present(&from) {
            gst::warning!(CAT, "ignoring an offer of {from}, which is not a sender in this room");
            return;
        }
        let current = self.session.as_ref().map(|session| &session.sender);
        if self.stopped.is_some() || !self.senders.accept(&from, current) {
            gst::debug!(CAT, "declining an offer of {from}");
            self.signaling.send(&from, id.as_ref(), Body::Bye);
            self.signaling.media(&from, id.as_ref(), Media::Ended);
            return;
        }
        self.end_session("replaced");
        self.bye_deadline = None;
        self.session_number += 1;
        let (number, commands) = (self.session_number, self.commands.clone());
        // Sending fails only if the conductor has ended, and then the event is of no use.
        let events: SessionEventSink = Arc::new(move |event| {
            let _ = commands.send(Command::Session(number, event));
        });
        let ice = self.settings.signaling.ice(&self.ice_servers);
        match Session::start((from.clone(), id.clone()), sdp, &ice, &self.settings, events) {
            Ok(session) => {
                gst::info!(CAT, "answering {from}");
                self.signaling.media(&from, id.as_ref(), Media::Started);
                self.session = Some(session);
                self.next_tick = Some(Instant::now() + TICK);
            }
            Err(error) => {
                if let Some(element) = self.element.upgrade() {
                    let error = format!("the offer of {from} can't be answered: {error}");
                    gst::element_warning!(element, gst::StreamError::Failed, ("{}", error));
                }
                self.signaling.send(&from, id.as_ref(), Body::Bye);
                self.signaling.media(&from, id.as_ref(), Media::Ended);
            }
        }
    }

    pub(super) fn on_session_event(&mut self, event: SessionEvent) {
        if let Some(action) = self.session.as_mut().map(|session| session.handle(event)) {
            self.perform(action);
        }
    }

    pub(super) fn perform(&mut self, action: Action) {
        let Some(session) = &mut self.session else { return };
        match action {
            Action::None => {}
            Action::Send(body) => self.signaling.send(&session.sender, session.id.as_ref(), body),
            Action::Connected => {
                self.senders.connected();
                self.signaling.media(&session.sender, session.id.as_ref(), Media::Connected);
                if let Some(element) = self.element.upgrade() {
                    message::sender_added(&element, &session.sender);
                }
            }
            Action::NeedOutput(key, caps) => match self.outputs.get_or_add(key, &caps) {
                Ok(output) => {
                    session.attach(&output);
                    self.announce_pads(Instant::now());
                }
                Err(error) => gst::warning!(CAT, "no pad for {}: {error}", key.pad_name()),
            },
            Action::Stats(stats) => {
                if let Some(element) = self.element.upgrade() {
                    element.published().set_webrtc_stats(stats);
                }
            }
            Action::Over(error) => self.session_failed(&error),
        }
    }

    fn session_failed(&mut self, error: &str) {
        let Some(session) = &self.session else { return };
        let (peer, id) = (session.sender.clone(), session.id.clone());
        gst::warning!(CAT, "ending the session with {peer}: {error}");
        self.signaling.send(&peer, id.as_ref(), Body::Bye);
        self.end_session(error);
        self.signaling.media(&peer, id.as_ref(), Media::Ended);
        self.senders.failed(&peer, Instant::now());
    }

    /// Ends the session. The pads remain.
    pub(super) fn end_session(&mut self, reason: &str) {
        let Some(session) = self.session.take() else { return };
        let commands = self.commands.clone();
        self.teardowns += 1;
        session.end(move || {
            // Fails only if the conductor has ended.
            let _ = commands.send(Command::SessionEnded);
        });
        gst::info!(CAT, "the session with {} has ended: {reason}", session.sender);
        if let Some(element) = self.element.upgrade().filter(|_| session.is_connected()) {
            message::sender_removed(&element, &session.sender, reason);
        }
        // Pending events of this session must not be attributed to the next one.
        self.session_number += 1;
        self.update_stats();
    }

    pub(super) fn announce_pads(&mut self, now: Instant) {
        if !self.pads_announced
            && self.session.as_ref().is_some_and(|session| session.is_complete(now))
            && let Some(element) = self.element.upgrade()
        {
            self.pads_announced = true;
            element.no_more_pads();
        }
    }

    pub(super) fn update_stats(&self) {
        let Some(element) = self.element.upgrade() else { return };
        element.published().set_stats(stats::build(self.state, self.session.as_ref(), &self.outputs));
        if let Some(session) = self.session.as_ref().filter(|_| element.published().take_stats_read()) {
            session.request_stats();
        }
    }

    pub(super) fn is_session_of(&self, id: &ClientId) -> bool {
        self.session.as_ref().is_some_and(|session| session.sender == *id)
    }
}
