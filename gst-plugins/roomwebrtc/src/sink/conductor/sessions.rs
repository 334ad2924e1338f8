//! The conductor's dealings with media sessions: when they start, what they say, why they end.

use super::{Command, Conductor, post};
use crate::{
    log::CAT,
    peer::{IceConfig, PeerAction},
    sink::{
        receivers::{Phase, Retry},
        session::{Session, SessionConfig, SessionEvent, SessionEvents, StreamInfo},
    },
};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCICETransportPolicy;
use room_signaling_client::{
    Media,
    protocol::{ClientId, SessionId},
    wire::{Body, Signal},
};
use std::{
    sync::{Arc, mpsc},
    time::Instant,
};

impl Conductor {
    pub(super) fn start_waiting(&mut self, now: Instant) {
        let Some(streams) = self.streams(now) else { return };
        let waiting: Vec<ClientId> =
            self.receivers.iter().filter(|(_, r)| r.phase.is_due(now)).map(|(id, _)| id.clone()).collect();
        if waiting.is_empty() {
            return;
        }
        let ice = self.signaling.ice(&self.ice_servers);
        for id in waiting {
            let limit = usize::try_from(self.settings.max_receivers).unwrap_or(usize::MAX);
            if limit > 0 && self.sessions().count() >= limit {
                gst::info!(CAT, "max-receivers={limit} is reached: {id} waits");
                return;
            }
            self.start_session(&id, &streams, &ice);
        }
    }

    pub(super) fn start_session(&mut self, id: &ClientId, streams: &[StreamInfo], ice: &IceConfig) {
        self.next_serial = self.next_serial.wrapping_add(1);
        let serial = self.next_serial;
        let events = events_to(&self.sender, id, serial);
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let streams: Vec<StreamInfo> =
            streams.iter().filter(|stream| !receiver.rejected.contains(&stream.key)).cloned().collect();
        let config = SessionConfig {
            id: random_session_id(),
            streams: &streams,
            ice,
            retransmission: self.settings.retransmission,
            data_channel: self.settings.data_channel,
        };
        receiver.serial = serial;
        match Session::start(config, &events) {
            Ok(session) => {
                let webrtcbin = session.webrtcbin().clone();
                receiver.started(session);
                self.announce_added(id, &webrtcbin);
                if let Some(session) = self.receivers.get(id).and_then(|r| r.phase.session()) {
                    session.make_offer();
                }
            }
            Err(error) => {
                gst::error!(CAT, "no session for {id}: {error}");
                receiver.phase = Phase::Idle { retry: receiver.retry_after_failure() };
            }
        }
    }

    pub(super) fn handle_session(&mut self, id: &ClientId, serial: u64, event: SessionEvent) {
        let Some(receiver) = self.receivers.get_mut(id).filter(|r| r.serial == serial) else { return };
        let Some(session) = receiver.phase.session_mut() else { return };
        match event {
            SessionEvent::Peer(event) => {
                let action = session.handle(event);
                self.act_on_peer(id, action);
            }
            SessionEvent::KeyframeWanted(key) => {
                gst::debug!(CAT, "{id} asks for a keyframe of {key}");
                self.keyframe_asked_for(key);
            }
            SessionEvent::Data(label, bytes) => {
                if let Some(element) = self.element.upgrade() {
                    element.emit_by_name::<()>("data", &[&id.as_str(), &label, &bytes]);
                }
            }
        }
    }

    fn act_on_peer(&mut self, id: &ClientId, action: PeerAction) {
        match action {
            PeerAction::None | PeerAction::LocalSet => {}
            PeerAction::Describe(_) => {
                // Candidates of TURN servers need time; all others are there at once, see `offer`.
                if self.signaling.ice_transport_policy == WebRTCICETransportPolicy::Relay {
                    self.offer(id);
                }
            }
            PeerAction::Candidate(candidate) => {
                self.offer(id);
                self.send(id, Body::Candidate { candidate });
            }
            PeerAction::Connected => {
                let Some(receiver) = self.receivers.get_mut(id) else { return };
                if receiver.connected() {
                    gst::info!(CAT, "{id}: connected");
                    self.changed = true;
                    let session = receiver.phase.session().map(|session| &session.id);
                    self.handle.media(id, session, Media::Connected);
                    self.want_keyframes();
                }
            }
            PeerAction::Stats(stats) => {
                if let Some(receiver) = self.receivers.get_mut(id) {
                    receiver.webrtc_stats = Some(stats);
                }
            }
            PeerAction::Over(reason) => self.fail(id, &reason),
        }
    }

    /// Sends something about the session with a receiver.
    fn send(&self, id: &ClientId, body: Body) {
        if let Some(session) = self.receivers.get(id).and_then(|receiver| receiver.phase.session()) {
            self.handle.send(address(id, &session.id, body));
        }
    }

    /// Sends the offer, once. It waits for the first candidate: while an address of this machine is tentative (IPv6
    /// duplicate address detection, a second or two after an interface has come up), libnice 0.1.21 gathers nothing at
    /// all, and such a session has to be made anew before the receiver has heard of it.
    fn offer(&mut self, id: &ClientId) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        if receiver.phase.is_preparing()
            && let Some(session) = receiver.phase.session()
        {
            let sdp = session.offer().to_owned();
            self.handle.send(address(id, &session.id, Body::Offer { sdp }));
            self.handle.media(id, Some(&session.id), Media::Started);
            receiver.offered();
        }
    }

    /// The session can't go on; if its peer is still there, it gets another one later.
    pub(super) fn fail(&mut self, id: &ClientId, reason: &str) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let retry = receiver.retry_after_failure();
        gst::warning!(CAT, "{id}: {reason}");
        self.end_session(id, reason, retry, true);
    }

    /// Ends the session with a receiver, which stays known.
    pub(super) fn end_session(&mut self, id: &ClientId, reason: &str, retry: Retry, say_bye: bool) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let unheard_of = receiver.phase.is_preparing();
        let phase = std::mem::replace(&mut receiver.phase, Phase::Idle { retry });
        receiver.webrtc_stats = None;
        let Phase::Active { session, .. } = phase else { return };
        if say_bye && !unheard_of {
            self.handle.send(address(id, &session.id, Body::Bye));
        }
        self.teardowns.extend(session.end());
        self.handle.media(id, Some(&session.id), Media::Ended);
        self.announce_removed(id, reason);
    }

    pub(super) fn end_all(&mut self, reason: &str) {
        let all: Vec<ClientId> = self.receivers.keys().cloned().collect();
        for id in all {
            self.end_session(&id, reason, Retry::Now, true);
        }
    }

    pub(super) fn kick(&mut self, id: &str) {
        let known = self.receivers.get_key_value(id).map(|(id, _)| id.clone());
        match known {
            Some(id) => self.end_session(&id, "kicked", Retry::Never, true),
            None => gst::warning!(CAT, "kick: there is no receiver {id:?}"),
        }
    }

    pub(super) fn send_data(&self, id: Option<&str>, bytes: &glib::Bytes) {
        for (to, receiver) in self.receivers.iter().filter(|(to, _)| id.is_none_or(|id| id == to.as_str())) {
            if let Some(session) = receiver.phase.connected()
                && let Err(words) = session.send_data(bytes)
            {
                gst::warning!(CAT, "send-data to {to}: {words}");
            }
        }
    }

    pub(super) fn announce_added(&mut self, id: &ClientId, webrtcbin: &gst::Element) {
        self.changed = true;
        let Some(element) = self.element.upgrade() else { return };
        element.emit_by_name::<()>("receiver-added", &[&id.as_str(), webrtcbin]);
        post(&element, gst::Structure::builder("room-receiver-added").field("id", id.as_str()).build());
    }

    pub(super) fn announce_removed(&mut self, id: &ClientId, reason: &str) {
        self.changed = true;
        let Some(element) = self.element.upgrade() else { return };
        element.emit_by_name::<()>("receiver-removed", &[&id.as_str(), &reason]);
        let message =
            gst::Structure::builder("room-receiver-removed").field("id", id.as_str()).field("reason", reason);
        post(&element, message.build());
    }
}

/// Sends the events of session number `serial` to the conductor.
fn events_to(sender: &mpsc::Sender<Command>, id: &ClientId, serial: u64) -> SessionEvents {
    let (sender, id) = (sender.clone(), id.clone());
    Arc::new(move |event| {
        let _ = sender.send(Command::Session(id.clone(), serial, event));
    })
}

fn address(to: &ClientId, session: &SessionId, body: Body) -> Signal {
    Signal { body, target_id: Some(to.clone()), session_id: Some(session.clone()), from: None }
}

/// 64 random bits: unique among the sessions of one pair of peers, which is all that is asked of it.
fn random_session_id() -> SessionId {
    let bits = (u64::from(glib::random_int()) << 32) | u64::from(glib::random_int());
    SessionId::new(format!("{bits:016x}")).expect("16 hexadecimal digits are an id")
}
