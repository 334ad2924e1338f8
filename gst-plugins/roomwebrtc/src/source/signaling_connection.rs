//! The connection to the signaling server: a signaling client that can leave the room and rejoin it as a new process.
//!
//! A receiver can't request an offer, because senders offer to receivers that join. To get an offer from a sender that
//! is already present, because the previous one has left or a session failed, the element leaves the room and rejoins
//! with the same id and another instance secret. To all senders it is then a new process.

use crate::signaling::{random_instance, runtime};
use room_signaling_client::{
    Event, Events, Handle, Media, Options, OptionsError,
    protocol::{ClientId, SessionId},
    wire::{Body, Signal},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest time for a client to leave the room before the next one joins regardless.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// An event of the signaling client of this generation.
pub(super) enum SignalingEvent {
    Received(u64, Event),
    /// The client has ended.
    Ended(u64),
}

/// Receives the events of all clients. Returns false once nothing handles them any more. Never blocks.
pub(super) type SignalingEventSink = Arc<dyn Fn(SignalingEvent) -> bool + Send + Sync>;

/// The connection to the signaling server.
pub(super) struct SignalingConnection {
    options: Options,
    events: SignalingEventSink,
    /// Distinguishes the events of one client from those of its predecessor.
    generation: u64,
    state: State,
}

enum State {
    Connected(Handle),
    /// The client is leaving the room. Another one joins when it has left, or at this time.
    Rejoining(Handle, Instant),
    /// The client is leaving the room for good.
    Leaving(Handle),
    Closed,
}

impl SignalingConnection {
    /// Starts a client, whose generation is 0.
    pub(super) fn start(options: Options, events: SignalingEventSink) -> Result<Self, OptionsError> {
        let handle = spawn(&options, 0, &events)?;
        Ok(Self { options, events, generation: 0, state: State::Connected(handle) })
    }

    /// Whether events of this generation are from the current client.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        generation == self.generation && matches!(self.state, State::Connected(_))
    }

    /// Sends a message to a sender.
    pub(super) fn send(&self, to: &ClientId, session: Option<&SessionId>, body: Body) {
        if let State::Connected(handle) = &self.state {
            handle.send(Signal {
                body,
                target_id: Some(to.clone()),
                session_id: session.cloned(),
                from: None,
            });
        }
    }

    /// Reports the state of the session with a sender to the signaling client.
    pub(super) fn media(&self, peer: &ClientId, session: Option<&SessionId>, media: Media) {
        if let State::Connected(handle) = &self.state {
            handle.media(peer, session, media);
        }
    }

    /// Sets a new token for this client and its successors.
    pub(super) fn set_token(&mut self, token: &str) {
        if let State::Connected(handle) = &self.state {
            handle.set_token(token);
        }
        self.options.client.token = Some(token.to_owned());
    }

    /// Keeps the id for the successors of this client.
    pub(super) fn keep_id(&mut self, id: ClientId) {
        self.options.client.client_id = Some(id);
    }

    /// Leaves the room, to rejoin it as a new process.
    pub(super) fn rejoin(&mut self, now: Instant) {
        if let State::Connected(handle) = std::mem::replace(&mut self.state, State::Closed) {
            handle.shutdown();
            self.state = State::Rejoining(handle, now + LEAVE_LIMIT);
        }
    }

    /// Leaves the room for good.
    pub(super) fn shutdown(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Connected(handle) => {
                handle.shutdown();
                State::Leaving(handle)
            }
            State::Rejoining(handle, _) | State::Leaving(handle) => State::Leaving(handle),
            State::Closed => State::Closed,
        };
    }

    /// Handles the end of the client of this generation.
    pub(super) fn ended(&mut self, generation: u64, now: Instant) {
        if generation != self.generation {
            return;
        }
        match &mut self.state {
            State::Rejoining(_, until) => *until = now,
            _ => self.state = State::Closed,
        }
    }

    /// Whether the last client has left.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When [`SignalingConnection::handle_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Rejoining(_, until) => Some(until),
            _ => None,
        }
    }

    /// Rejoins the room if it is time to. The error is that of [`SignalingConnection::start`], which accepted the same
    /// options.
    pub(super) fn handle_time(&mut self, now: Instant) -> Result<(), OptionsError> {
        if self.deadline().is_none_or(|until| now < until) {
            return Ok(());
        }
        self.state = State::Closed;
        self.options.client.instance = random_instance();
        self.generation += 1;
        self.state = State::Connected(spawn(&self.options, self.generation, &self.events)?);
        Ok(())
    }
}

fn spawn(options: &Options, generation: u64, sink: &SignalingEventSink) -> Result<Handle, OptionsError> {
    let _context = runtime().enter();
    let (handle, events) = room_signaling_client::spawn(options.clone())?;
    runtime().spawn(forward(events, generation, sink.clone()));
    Ok(handle)
}

async fn forward(mut events: Events, generation: u64, sink: SignalingEventSink) {
    while let Some(event) = events.recv().await {
        if !sink(SignalingEvent::Received(generation, event)) {
            return;
        }
    }
    sink(SignalingEvent::Ended(generation));
}

/// The sender that an event is about, and whether it is present in the room.
pub(super) fn presence(event: &Event) -> Option<(&ClientId, bool)> {
    match event {
        Event::PeerReady(entry) => Some((&entry.client_id, true)),
        Event::PeerGone(id, _) => Some((id, false)),
        _ => None,
    }
}
