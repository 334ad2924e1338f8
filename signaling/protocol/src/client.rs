//! The other end as a value: register, join, who is there, which media sessions are still good, when to try again.
//! This file is the connection to the server; what is known of the room is in `peers`.

mod api;
mod backoff;
mod failure;
mod frames;
mod link;
mod peers;

pub use self::{
    api::{ClientConfig, Event, GoneReason, Input, Media, Output, State},
    failure::Failure,
    link::{ANSWER_TIMEOUT, SILENCE_GRACE},
};

use self::{
    backoff::Backoff,
    frames::Incoming,
    link::{Connection, Link, Stage},
    peers::Peers,
};
use crate::{
    hub::Secret,
    wire::{ErrorCode, IceServer, PeerEntry, ServerMessage, Signal},
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// A WebSocket that is not open by then will not be: name, TCP, TLS and upgrade together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No server may send a client away for longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
const NO_CONNECTION: &str = "no connection within 5 s";
const NO_ANSWER: &str = "the server accepts the connection, but does not answer";
const SILENT: &str = "the server stopped answering";
const REMOVED: &str = "the server removed this client from the room";
/// Over this time the clients of a server that drained come back.
const RETRY_SPREAD: Duration = Duration::from_secs(1);

/// How many different reasons are reported by [`Event::Unreachable`] until the client is in the room.
pub const MAX_REASONS: usize = 16;

/// The other end as a value: inputs and the time go in, outputs come out.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    link: Link,
    backoff: Backoff,
    peers: Peers,
    /// Why attempts to get into the room failed, as far as it was reported.
    reported: BTreeSet<String>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that wants to connect at once. `seed` feeds the jitter of its backoff.
    pub fn new(config: ClientConfig, seed: u64, now: Instant) -> Self {
        let mut client = Self {
            peers: Peers::new(config.role),
            config,
            state: State::Connecting,
            link: Link::Closed,
            backoff: Backoff::new(seed),
            reported: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        client.tell(Event::State(State::Connecting));
        client.connect(now);
        client
    }

    /// Takes one input; then drain [`Client::poll_output`]. After [`State::Closed`] nothing has an effect.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.state == State::Closed {
            return;
        }
        match input {
            Input::Connected => self.on_connected(now),
            Input::Frame(frame) => {
                self.on_alive(now);
                self.on_frame(now, &frame);
            }
            Input::Alive => self.on_alive(now),
            Input::Disconnected(code) => self.on_disconnected(now, code, None),
            Input::Unreachable(reason) => {
                if matches!(self.link, Link::Connecting { .. }) {
                    self.on_disconnected(now, None, Some(&reason));
                }
            }
            Input::Misconfigured(words) => self.on_misconfigured(now, words),
            Input::Send(signal) => self.send_signal(signal),
            Input::Token(token) => self.take_token(&token),
            Input::Media { peer, session, media } => {
                let in_room = self.is_joined();
                let events = self.peers.media(&peer, session, media, in_room);
                self.tell_all(events);
            }
            Input::Shutdown => self.shutdown(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Client::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting { until } | Link::Connecting { until } => Some(*until),
            Link::Up(connection) => {
                let stage = match connection.stage {
                    Stage::Registering { until } | Stage::Joining { until } => Some(until),
                    Stage::Joined => {
                        [self.peers.next_expiry(), connection.refresh_at].into_iter().flatten().min()
                    }
                };
                Some(stage.map_or(connection.silent_at(), |at| at.min(connection.silent_at())))
            }
            Link::Closed => None,
        }
    }

    /// The time has come. Harmless when it hasn't.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.link {
            Link::Waiting { until } if *until <= now => self.connect(now),
            Link::Connecting { until } if *until <= now => self.hang_up(now, NO_CONNECTION),
            Link::Up(connection) => {
                if connection.is_overdue(now) {
                    let reason = if connection.stage == Stage::Joined { SILENT } else { NO_ANSWER };
                    return self.hang_up(now, reason);
                }
                if connection.silent_at() <= now {
                    connection.pinged = Some(now);
                    self.outputs.push_back(Output::Ping);
                }
                if connection.refresh_at.is_some_and(|at| at <= now) {
                    connection.refresh_at = None;
                    self.outputs.push_back(Output::Send(frames::join(&self.config)));
                }
                if self.is_joined() {
                    let events = self.peers.expire(now);
                    self.tell_all(events);
                }
            }
            _ => {}
        }
    }

    /// Who is in the room, of those that this client has to do with: the members of the opposite role.
    /// While the server is out of reach: who was there last.
    pub fn peers(&self) -> impl Iterator<Item = &PeerEntry> {
        self.peers.present()
    }

    /// Where this client stands.
    pub fn state(&self) -> State {
        self.state
    }

    fn on_connected(&mut self, now: Instant) {
        if let Link::Connecting { .. } = self.link {
            self.link = Link::Up(Connection::new(now));
            self.outputs.push_back(Output::Send(frames::register(&self.config)));
        }
    }

    fn on_alive(&mut self, now: Instant) {
        if let Link::Up(connection) = &mut self.link {
            connection.heard = now;
            connection.pinged = None;
        }
    }

    /// The connection ended, or could not be opened. `reason` says why if the close code does not.
    fn on_disconnected(&mut self, now: Instant, close_code: Option<u16>, reason: Option<&str>) {
        let (retry_after, said) = match &mut self.link {
            Link::Connecting { .. } => (None, None),
            Link::Up(connection) => (connection.retry_after, connection.said.take()),
            Link::Waiting { .. } | Link::Closed => return,
        };
        let was_in = self.is_joined();
        self.link = Link::Closed;
        let reason = reason.map_or_else(|| failure::reason(close_code, said.as_ref()), str::to_owned);
        match close_code.and_then(|code| failure::of_close(&self.config, code, said)) {
            // The token was valid once, and the next one will be.
            Some(Failure { code: Some(ErrorCode::Unauthorized), .. })
                if was_in && self.config.token_renews =>
            {
                self.wait(now, None, reason);
            }
            Some(failure) => self.fail(failure),
            None => self.wait(now, retry_after, reason),
        }
    }

    fn on_misconfigured(&mut self, now: Instant, message: String) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.link = Link::Closed;
        match self.state {
            State::Connecting => self.fail(Failure { code: None, message }),
            _ => self.wait(now, None, message),
        }
    }

    fn on_frame(&mut self, now: Instant, frame: &str) {
        match frames::read(frame) {
            Some(Incoming::Server(message)) => self.on_server(now, message),
            Some(Incoming::Signal(from, signal)) if self.is_joined() => {
                let events = self.peers.hear(&from, &signal);
                self.tell_all(events);
                self.tell(Event::Signal(signal));
            }
            _ => {}
        }
    }

    fn on_server(&mut self, now: Instant, message: ServerMessage) {
        let me = self.config.client_id.clone();
        let Link::Up(connection) = &mut self.link else { return };
        match (message, connection.stage) {
            (ServerMessage::Registered { client_id, heartbeat_s, .. }, Stage::Registering { .. }) => {
                connection.set_heartbeat(heartbeat_s);
                connection.stage = Stage::Joining { until: now + ANSWER_TIMEOUT };
                self.config.client_id = Some(client_id);
                self.outputs.push_back(Output::Send(frames::join(&self.config)));
            }
            (ServerMessage::Joined { peers, total, ice_servers, ice_ttl_s, .. }, Stage::Joining { .. }) => {
                connection.joined(now, ice_ttl_s);
                self.on_joined(now, peers, total, ice_servers);
            }
            // We asked for fresh credentials. Who is there is known, and nothing has changed for them.
            (ServerMessage::Joined { ice_servers, ice_ttl_s, .. }, Stage::Joined) => {
                connection.joined(now, ice_ttl_s);
                if let Some(client_id) = me {
                    self.tell(Event::Joined { client_id, ice_servers });
                }
            }
            (ServerMessage::PeerJoined(entry), Stage::Joined) if me.as_ref() != Some(&entry.client_id) => {
                let events = self.peers.joined(entry);
                self.tell_all(events);
            }
            (ServerMessage::PeerLeft { client_id, reason }, Stage::Joined) => {
                let events = self.peers.left(now, &client_id, reason);
                self.tell_all(events);
            }
            // Removed from the room. Joining again brings an error that says why, if there is a reason.
            (ServerMessage::Left, Stage::Joined) => self.hang_up(now, REMOVED),
            (ServerMessage::Draining { retry_after_ms }, _) => {
                connection.retry_after = Some(Duration::from_millis(retry_after_ms).min(MAX_RETRY_AFTER));
            }
            (ServerMessage::Error { code, message, request, target_id }, stage) => {
                connection.said = Some((code, message.clone()));
                self.on_error(now, stage, Event::Refused { code, message, request, target_id });
            }
            _ => {}
        }
    }

    fn on_joined(
        &mut self,
        now: Instant,
        mut peers: Vec<PeerEntry>,
        total: usize,
        ice_servers: Vec<IceServer>,
    ) {
        let Some(client_id) = self.config.client_id.clone() else { return };
        self.backoff.reset();
        self.reported.clear();
        self.enter(State::Joined);
        let cut_off = total > peers.len();
        peers.retain(|entry| entry.client_id != client_id);
        self.tell(Event::Joined { client_id, ice_servers });
        let events = self.peers.reconcile(now, peers, cut_off);
        self.tell_all(events);
    }

    /// Before we are in the room, an error answers `register` or `join`; later it is about some message.
    fn on_error(&mut self, now: Instant, stage: Stage, refused: Event) {
        let failure = match &refused {
            Event::Refused { code, message, .. } if stage != Stage::Joined => {
                failure::of_error(&self.config, *code, message)
            }
            _ => None,
        };
        if let Some(failure) = failure {
            return self.fail(failure);
        }
        let reason = match &refused {
            Event::Refused { code, message, .. } => failure::refusal(*code, message),
            _ => String::new(),
        };
        self.tell(refused);
        if stage != Stage::Joined {
            self.hang_up(now, &reason);
        }
    }

    fn send_signal(&mut self, mut signal: Signal) {
        if self.is_joined() && !frames::is_empty_candidate(&signal) {
            signal.from = None;
            self.peers.address(&mut signal);
            self.outputs.push_back(Output::Send(frames::signal(&signal)));
        }
    }

    fn take_token(&mut self, token: &Secret) {
        self.config.token = Some(token.expose().to_owned());
        if self.is_joined() {
            self.outputs.push_back(Output::Send(frames::join_anew(&self.config)));
        }
    }

    fn shutdown(&mut self) {
        if self.is_joined() {
            let byes = self.peers.byes();
            self.outputs.extend(byes.iter().map(|bye| Output::Send(frames::signal(bye))));
            self.outputs.push_back(Output::Send(frames::leave()));
        }
        self.let_go();
        self.enter(State::Closed);
    }

    fn connect(&mut self, now: Instant) {
        self.link = Link::Connecting { until: now + CONNECT_TIMEOUT };
        self.outputs.push_back(Output::Connect);
    }

    /// Ends the connection from this side, to try again later.
    fn hang_up(&mut self, now: Instant, reason: &str) {
        self.outputs.push_back(Output::Disconnect);
        self.on_disconnected(now, None, Some(reason));
    }

    fn wait(&mut self, now: Instant, retry_after: Option<Duration>, reason: String) {
        let delay = match retry_after {
            Some(delay) => delay + self.backoff.jitter(RETRY_SPREAD),
            None => self.backoff.delay(),
        };
        self.link = Link::Waiting { until: now + delay };
        if self.state == State::Joined {
            self.tell(Event::Disconnected(reason));
            self.enter(State::Reconnecting);
        } else if self.reported.len() < MAX_REASONS && self.reported.insert(reason.clone()) {
            self.tell(Event::Unreachable(reason));
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.let_go();
        self.tell(Event::Failed(failure));
        self.enter(State::Closed);
    }

    /// Ends the connection from this side, for good.
    fn let_go(&mut self) {
        if let Link::Up(_) | Link::Connecting { .. } = std::mem::replace(&mut self.link, Link::Closed) {
            self.outputs.push_back(Output::Disconnect);
        }
    }

    fn is_joined(&self) -> bool {
        matches!(&self.link, Link::Up(Connection { stage: Stage::Joined, .. }))
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.tell(Event::State(state));
        }
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn tell_all(&mut self, events: Vec<Event>) {
        self.outputs.extend(events.into_iter().map(Output::Event));
    }
}
