//! The media session with one sender: a [`Peer`] that answers its offer, and a [`Stream`] for each m-line that is
//! received.
//!
//! The conductor owns the session. Callbacks run on other threads and only send a [`SessionEvent`] to the conductor.
//! [`incoming`] handles the pads of webrtcbin on the streaming threads that add them. The pipeline of a session runs on
//! the system clock with base time 0, whatever clock the element has; [`Output`] converts.

mod incoming;

use super::{offer, output::Output, settings::Settings, stream::Stream};
use crate::{
    peer::{EventSink, IceConfig, Peer, PeerAction, PeerEvent, Side},
    sdp::Description,
    stream_key::StreamKey,
};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCRTPTransceiver;
use room_signaling_client::{
    protocol::{ClientId, SessionId},
    wire::{Body, IceCandidate},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest time from the offer until media can flow. Browsers have about the same limit for ICE.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// A sender that sends no packet for this long, including RTCP, has disappeared. Senders report at least every 7 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// The time after the first stream within which other streams delay `no-more-pads`.
const STREAMS_LIMIT: Duration = Duration::from_secs(2);
/// The least time between two RTCP packets of this end, in ns. With webrtcbin's default, senders wait up to 7 s for a
/// report. Feedback such as NACK is always sent immediately (RFC 4585).
const RTCP_INTERVAL: u64 = 1_000_000_000;

/// An event of a session, for its owner.
pub(super) enum SessionEvent {
    /// An event of the connection to the sender.
    Peer(PeerEvent),
    /// The first packet of a stream has arrived.
    Stream(Stream),
    /// The first access unit of a stream has arrived, with these caps.
    First(StreamKey, gst::Caps),
    /// The session can't continue; the text is the reason.
    Failed(String),
}

/// Receives the events of a session. Never blocks.
pub(super) type SessionEventSink = Arc<dyn Fn(SessionEvent) + Send + Sync>;

/// What the owner of the session has to do.
pub(super) enum Action {
    None,
    /// Send this message to the sender.
    Send(Body),
    /// Media can flow.
    Connected,
    /// Make sure that this output exists, and pass it to [`Session::attach`].
    NeedOutput(StreamKey, gst::Caps),
    /// Publish these statistics of webrtcbin.
    Stats(gst::Structure),
    /// End the session; the text is the reason.
    Over(String),
}

/// A session with one sender.
pub(super) struct Session {
    pub(super) sender: ClientId,
    pub(super) id: Option<SessionId>,
    peer: Peer,
    keys: Arc<[Option<StreamKey>]>,
    streams: Vec<Stream>,
    phase: Phase,
    first_stream: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { since: Instant },
    Connected,
}

impl Session {
    /// Starts to answer `offer`. The error is the reason why that is impossible.
    pub(super) fn start(
        (sender, id): (ClientId, Option<SessionId>),
        offer: &str,
        ice: &IceConfig,
        settings: &Settings,
        events: SessionEventSink,
    ) -> Result<Self, String> {
        let mut offer = Description::offer(offer).map_err(|error| error.to_string())?;
        let choices = offer::choices(&offer, &settings.codecs);
        let keys: Arc<[Option<StreamKey>]> =
            choices.iter().map(|choice| choice.as_ref().map(|choice| choice.key)).collect();
        if keys.iter().all(Option::is_none) {
            return Err(format!("none of its streams has one of the codecs {}", settings.codecs.join(", ")));
        }
        offer::reduce(&mut offer, &choices);
        let peer_events: EventSink = {
            let events = events.clone();
            Arc::new(move |event| events(SessionEvent::Peer(event)))
        };
        let peer = Peer::new(Side::Answers, ice, peer_events).map_err(|error| error.to_string())?;
        peer.webrtcbin().set_property("latency", settings.latency_ms);
        incoming::set_up_rtpbin(&peer);
        let mut session = Self {
            sender,
            id,
            peer,
            keys,
            streams: Vec::new(),
            phase: Phase::Connecting { since: Instant::now() },
            first_stream: None,
        };
        session.connect_callbacks(settings.retransmission, events);
        if let Err(error) = session.peer.play() {
            session.end(|| ());
            return Err(error.to_string());
        }
        session.peer.accept_offer(offer);
        Ok(session)
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: SessionEvent) -> Action {
        match event {
            SessionEvent::Peer(event) => {
                let action = self.peer.handle(event);
                self.handle_peer_action(action)
            }
            SessionEvent::Stream(stream) => {
                // If the old SSRC sends again, its access units must not mix with those of the new one.
                self.streams.iter().filter(|old| old.key == stream.key).for_each(Stream::close);
                self.streams.retain(|old| old.key != stream.key);
                self.streams.push(stream);
                Action::None
            }
            // Media can be decrypted only after DTLS has presented the certificate, so the verification has finished by
            // now.
            SessionEvent::First(..) if !self.peer.is_verified() => {
                Action::Over("media arrived from a peer whose certificate was not verified".to_owned())
            }
            SessionEvent::First(key, caps) => {
                self.first_stream.get_or_insert_with(Instant::now);
                Action::NeedOutput(key, caps)
            }
            SessionEvent::Failed(reason) => Action::Over(reason),
        }
    }

    /// Whether a message with this session id is about this session. Messages of old senders have no session id.
    pub(super) fn is_named(&self, id: Option<&SessionId>) -> bool {
        id.is_none_or(|id| self.id.as_ref().is_none_or(|own| own == id))
    }

    /// Passes a candidate of the sender to webrtcbin.
    pub(super) fn add_candidate(&self, candidate: &IceCandidate) {
        self.peer.add_candidate(candidate);
    }

    /// Directs a stream to `output`.
    pub(super) fn attach(&mut self, output: &Arc<Output>) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.key == output.key()) {
            stream.attach(output.clone());
        }
    }

    /// Requests a keyframe of a stream from the sender.
    pub(super) fn request_keyframe(&self, key: StreamKey) {
        if let Some(stream) = self.streams.iter().find(|stream| stream.key == key) {
            stream.request_keyframe();
        }
    }

    /// Handles timeouts. Must be called a few times per second.
    pub(super) fn handle_time(&mut self, now: Instant) -> Action {
        self.streams.iter().filter(|stream| stream.needs_keyframe()).for_each(Stream::request_keyframe);
        match self.phase {
            Phase::Connecting { since } if now.saturating_duration_since(since) > CONNECT_LIMIT => {
                Action::Over(
                    "no connection within 30 s: if a firewall or NAT separates the two networks, a TURN server is needed"
                        .to_owned(),
                )
            }
            Phase::Connected if self.silence(now) > SILENCE_LIMIT => {
                Action::Over("no packet of the sender for 15 s".to_owned())
            }
            _ => Action::None,
        }
    }

    /// Whether all streams that can be expected have an output.
    pub(super) fn is_complete(&self, now: Instant) -> bool {
        let Some(since) = self.first_stream else { return false };
        let here = self.streams.iter().filter(|stream| stream.is_attached()).count();
        here >= self.keys.iter().flatten().count() || now.saturating_duration_since(since) > STREAMS_LIMIT
    }

    /// Whether media has been able to flow.
    pub(super) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Requests statistics from webrtcbin, which arrive as [`Action::Stats`].
    pub(super) fn request_stats(&self) {
        self.peer.request_stats();
    }

    /// Ends the session. Returns immediately; the teardown calls `done` on a thread of its own.
    pub(super) fn end(&self, done: impl FnOnce() + Send + 'static) {
        self.streams.iter().for_each(Stream::close);
        self.peer.end(done);
    }

    fn handle_peer_action(&mut self, action: PeerAction) -> Action {
        match action {
            PeerAction::None | PeerAction::Reports(_) => Action::None,
            // The answer is sent before the candidates, which follow.
            PeerAction::Describe(sdp) => Action::Send(Body::Answer { sdp }),
            PeerAction::LocalSet => {
                if let Some(session) = self.peer.rtp_session() {
                    session.set_property("rtcp-min-interval", RTCP_INTERVAL);
                }
                Action::None
            }
            PeerAction::Candidate(candidate) => Action::Send(Body::Candidate { candidate }),
            PeerAction::Connected if self.is_connected() => Action::None,
            PeerAction::Connected => {
                self.phase = Phase::Connected;
                Action::Connected
            }
            PeerAction::Stats(stats) => Action::Stats(stats),
            PeerAction::Over(reason) => Action::Over(reason),
        }
    }

    fn connect_callbacks(&mut self, retransmission: bool, events: SessionEventSink) {
        let webrtcbin = self.peer.webrtcbin();
        webrtcbin.connect("on-new-transceiver", false, move |values| {
            // webrtcbin creates transceivers while it answers. Lines that are not received ignore the property.
            if let Some(Ok(transceiver)) = values.get(1).map(glib::Value::get::<WebRTCRTPTransceiver>) {
                transceiver.set_property("do-nack", retransmission);
            }
            None
        });
        let incoming = incoming::Incoming {
            pipeline: self.peer.pipeline().downgrade(),
            keys: self.keys.clone(),
            events,
        };
        webrtcbin.connect_pad_added(move |_, pad| incoming.add(pad));
    }

    /// The time since the last packet of the sender.
    fn silence(&self, now: Instant) -> Duration {
        let rtcp = self.peer.silence(now).map(|(silence, _)| silence);
        self.streams.iter().filter_map(Stream::silence).chain(rtcp).min().unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests;
