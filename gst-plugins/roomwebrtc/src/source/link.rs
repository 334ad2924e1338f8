//! The signaling client as the control thread uses it: one that can leave the room and come back as somebody new.
//!
//! A receiver can't ask for an offer; senders offer to those who come. So to get an offer from a sender who is there
//! already (the one before has left, or a session failed), the element leaves and comes back under the same id with
//! another instance secret, which to all senders is a new process.

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

/// How long a client may take to say goodbye before the next one comes regardless.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// An event of the signaling client of a generation.
pub(super) enum LinkEvent {
    Signaling(u64, Event),
    /// The client has ended.
    Ended(u64),
}

/// Receives the events of all clients. False once nothing handles them any more. Never blocks.
pub(super) type LinkEvents = Arc<dyn Fn(LinkEvent) -> bool + Send + Sync>;

/// The way to the signaling server.
pub(super) struct Link {
    options: Options,
    events: LinkEvents,
    /// Tells the events of one client from those of the one before.
    generation: u64,
    state: State,
}

enum State {
    Up(Handle),
    /// The client is saying goodbye, and another one comes.
    Between(Handle, Instant),
    /// The client is saying goodbye.
    Ending(Handle),
    Over,
}

impl Link {
    /// Starts a client, whose generation is 0.
    pub(super) fn start(options: Options, events: LinkEvents) -> Result<Self, OptionsError> {
        let handle = spawn(&options, 0, &events)?;
        Ok(Self { options, events, generation: 0, state: State::Up(handle) })
    }

    /// Whether events of this generation count.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        generation == self.generation && matches!(self.state, State::Up(_))
    }

    /// Says something to a sender.
    pub(super) fn say(&self, to: &ClientId, session: Option<&SessionId>, body: Body) {
        if let State::Up(handle) = &self.state {
            handle.send(Signal {
                body,
                target_id: Some(to.clone()),
                session_id: session.cloned(),
                from: None,
            });
        }
    }

    /// Reports the state of the session with a sender.
    pub(super) fn media(&self, peer: &ClientId, session: Option<&SessionId>, media: Media) {
        if let State::Up(handle) = &self.state {
            handle.media(peer, session, media);
        }
    }

    /// A fresh token, for this client and those that follow.
    pub(super) fn set_token(&mut self, token: &str) {
        if let State::Up(handle) = &self.state {
            handle.set_token(token);
        }
        self.options.client.token = Some(token.to_owned());
    }

    /// The id in use: kept for the clients that follow.
    pub(super) fn keep_id(&mut self, id: ClientId) {
        self.options.client.client_id = Some(id);
    }

    /// Leaves the room, to come back as somebody new.
    pub(super) fn leave_and_come_back(&mut self, now: Instant) {
        if let State::Up(handle) = std::mem::replace(&mut self.state, State::Over) {
            handle.shutdown();
            self.state = State::Between(handle, now + GOODBYE_LIMIT);
        }
    }

    /// Leaves the room for good.
    pub(super) fn shutdown(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Up(handle) => {
                handle.shutdown();
                State::Ending(handle)
            }
            State::Between(handle, _) | State::Ending(handle) => State::Ending(handle),
            State::Over => State::Over,
        };
    }

    /// The client of this generation has said goodbye.
    pub(super) fn ended(&mut self, generation: u64, now: Instant) {
        if generation != self.generation {
            return;
        }
        match &mut self.state {
            State::Between(_, until) => *until = now,
            _ => self.state = State::Over,
        }
    }

    /// Whether the last client has said goodbye.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// When [`Link::handle_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Between(_, until) => Some(until),
            _ => None,
        }
    }

    /// Comes back if it is time to. The error is that of [`Link::start`], which took the same options.
    pub(super) fn handle_time(&mut self, now: Instant) -> Result<(), OptionsError> {
        if self.deadline().is_none_or(|until| now < until) {
            return Ok(());
        }
        self.state = State::Over;
        self.options.client.instance = random_instance();
        self.generation += 1;
        self.state = State::Up(spawn(&self.options, self.generation, &self.events)?);
        Ok(())
    }
}

fn spawn(options: &Options, generation: u64, link_events: &LinkEvents) -> Result<Handle, OptionsError> {
    let _context = runtime().enter();
    let (handle, events) = room_signaling_client::spawn(options.clone())?;
    runtime().spawn(forward(events, generation, link_events.clone()));
    Ok(handle)
}

async fn forward(mut events: Events, generation: u64, link_events: LinkEvents) {
    while let Some(event) = events.recv().await {
        if !link_events(LinkEvent::Signaling(generation, event)) {
            return;
        }
    }
    link_events(LinkEvent::Ended(generation));
}

/// What an event says about who is in the room.
pub(super) fn presence(event: &Event) -> Option<(&ClientId, bool)> {
    match event {
        Event::PeerReady(entry) => Some((&entry.client_id, true)),
        Event::PeerGone(id, _) => Some((id, false)),
        _ => None,
    }
}
