//! The client as a value: it registers, joins a room, follows the peers there, and reconnects.
//!
//! | file | decides |
//! | --- | --- |
//! | `client.rs` (this one) | the connection to the server, from connecting to leaving |
//! | `client/api.rs` | inputs, outputs and events |
//! | `client/peers.rs` | which peers are present, and which media sessions survive a reconnect |
//! | `client/backoff.rs` | the delay before the next attempt to connect |
//! | `client/failure.rs` | which errors and close codes are final |
//! | `client/link.rs` | timeouts of the connection, and when credentials are renewed |
//! | `client/frames.rs` | how messages are read and written |

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
    link::{Connection, Link, Progress},
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

/// How long it may take to open a WebSocket: name resolution, TCP, TLS and upgrade together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest `retry_after_ms` that a client obeys.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
const NO_CONNECTION: &str = "no connection within 5 s";
const NO_ANSWER: &str = "the server accepts the connection but does not answer";
const SILENT: &str = "the server stopped answering";
const REMOVED: &str = "the server removed this client from the room";
/// The clients of a server that restarts reconnect at random times within this span.
const RETRY_SPREAD: Duration = Duration::from_secs(1);

/// The most reasons that [`Event::Unreachable`] reports until the client is in the room.
pub const MAX_REASONS: usize = 16;

/// The client as a value. After each input, call [`Client::poll_output`] until it returns `None`.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    link: Link,
    backoff: Backoff,
    peers: Peers,
    /// The reasons of failed attempts that were reported.
    reported: BTreeSet<String>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that connects immediately. `seed` feeds the jitter of its backoff.
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
        client.emit(Event::State(State::Connecting));
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
            Input::Misconfigured(message) => self.on_misconfigured(now, message),
            Input::Send(signal) => self.send_signal(signal),
            Input::Token(token) => self.set_token(&token),
            Input::Media { peer, session, media } => {
                let in_room = self.is_joined();
                let events = self.peers.media(&peer, session, media, in_room);
                self.emit_all(events);
            }
            Input::Shutdown => self.shutdown(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Client::handle_timeout`] next. `None`: nothing is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting { until } | Link::Connecting { until } => Some(*until),
            Link::Up(connection) => {
                let progress = match connection.progress {
                    Progress::Registering { until } | Progress::Joining { until } => Some(until),
                    Progress::Joined => {
                        [self.peers.next_expiry(), connection.refresh_at].into_iter().flatten().min()
                    }
                };
                Some(progress.map_or(connection.silent_at(), |at| at.min(connection.silent_at())))
            }
            Link::Closed => None,
        }
    }

    /// Performs the actions that are due at `now`. An early call is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.link {
            Link::Waiting { until } if *until <= now => self.connect(now),
            Link::Connecting { until } if *until <= now => self.hang_up(now, NO_CONNECTION),
            Link::Up(connection) => {
                if connection.is_overdue(now) {
                    let reason = if connection.progress == Progress::Joined { SILENT } else { NO_ANSWER };
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
                    self.emit_all(events);
                }
            }
            _ => {}
        }
    }

    /// The peers in the room: the members of the opposite role. While the server can't be reached, these are the peers
    /// that were present last.
    pub fn peers(&self) -> impl Iterator<Item = &PeerEntry> {
        self.peers.present()
    }

    /// The state of this client.
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

    /// The connection ended, or could not be opened. `reason` replaces the reason that follows from the close code.
    fn on_disconnected(&mut self, now: Instant, close_code: Option<u16>, reason: Option<&str>) {
        let (retry_after, last_error) = match &mut self.link {
            Link::Connecting { .. } => (None, None),
            Link::Up(connection) => (connection.retry_after, connection.last_error.take()),
            Link::Waiting { .. } | Link::Closed => return,
        };
        let was_in = self.is_joined();
        self.link = Link::Closed;
        let reason = reason.map_or_else(|| failure::reason(close_code, last_error.as_ref()), str::to_owned);
        match close_code.and_then(|code| failure::of_close(&self.config, code, last_error)) {
            // The token was valid before, and a new one will come.
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
                let events = self.peers.receive(&from, &signal);
                self.emit_all(events);
                self.emit(Event::Signal(signal));
            }
            _ => {}
        }
    }

    fn on_server(&mut self, now: Instant, message: ServerMessage) {
        let me = self.config.client_id.clone();
        let Link::Up(connection) = &mut self.link else { return };
        match (message, connection.progress) {
            (ServerMessage::Registered { client_id, heartbeat_s, .. }, Progress::Registering { .. }) => {
                connection.set_heartbeat(heartbeat_s);
                connection.progress = Progress::Joining { until: now + ANSWER_TIMEOUT };
                self.config.client_id = Some(client_id);
                self.outputs.push_back(Output::Send(frames::join(&self.config)));
            }
            (
                ServerMessage::Joined { peers, total, ice_servers, ice_ttl_s, .. },
                Progress::Joining { .. },
            ) => {
                connection.joined(now, ice_ttl_s);
                self.on_joined(now, peers, total, ice_servers);
            }
            // The answer to the join that renews credentials. The peers are known already.
            (ServerMessage::Joined { ice_servers, ice_ttl_s, .. }, Progress::Joined) => {
                connection.joined(now, ice_ttl_s);
                if let Some(client_id) = me {
                    self.emit(Event::Joined { client_id, ice_servers });
                }
            }
            (ServerMessage::PeerJoined(entry), Progress::Joined) if me.as_ref() != Some(&entry.client_id) => {
                let events = self.peers.joined(entry);
                self.emit_all(events);
            }
            (ServerMessage::PeerLeft { client_id, reason }, Progress::Joined) => {
                let events = self.peers.left(now, &client_id, reason);
                self.emit_all(events);
            }
            // This client was removed from the room. If it must stay out, the next join gets an error with the reason.
            (ServerMessage::Left, Progress::Joined) => self.hang_up(now, REMOVED),
            (ServerMessage::Draining { retry_after_ms }, _) => {
                connection.retry_after = Some(Duration::from_millis(retry_after_ms).min(MAX_RETRY_AFTER));
            }
            (ServerMessage::Error { code, message, request, target_id }, progress) => {
                connection.last_error = Some((code, message.clone()));
                self.on_error(now, progress, Event::Refused { code, message, request, target_id });
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
        self.emit(Event::Joined { client_id, ice_servers });
        let events = self.peers.reconcile(now, peers, cut_off);
        self.emit_all(events);
    }

    /// Before the client is in its room, an error answers `register` or `join`; later, it answers any message.
    fn on_error(&mut self, now: Instant, progress: Progress, refused: Event) {
        let failure = match &refused {
            Event::Refused { code, message, .. } if progress != Progress::Joined => {
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
        self.emit(refused);
        if progress != Progress::Joined {
            self.hang_up(now, &reason);
        }
    }

    fn send_signal(&mut self, mut signal: Signal) {
        if self.is_joined() && !frames::is_empty_candidate(&signal) {
            signal.from = None;
            self.peers.prepare(&mut signal);
            self.outputs.push_back(Output::Send(frames::signal(&signal)));
        }
    }

    fn set_token(&mut self, token: &Secret) {
        self.config.token = Some(token.expose().to_owned());
        if self.is_joined() {
            self.outputs.push_back(Output::Send(frames::join_with_token(&self.config)));
        }
    }

    fn shutdown(&mut self) {
        if self.is_joined() {
            let byes = self.peers.byes();
            self.outputs.extend(byes.iter().map(|bye| Output::Send(frames::signal(bye))));
            self.outputs.push_back(Output::Send(frames::leave()));
        }
        self.disconnect();
        self.enter(State::Closed);
    }

    fn connect(&mut self, now: Instant) {
        self.link = Link::Connecting { until: now + CONNECT_TIMEOUT };
        self.outputs.push_back(Output::Connect);
    }

    /// Ends the connection from this side. Another attempt follows.
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
            self.emit(Event::Disconnected(reason));
            self.enter(State::Reconnecting);
        } else if self.reported.len() < MAX_REASONS && self.reported.insert(reason.clone()) {
            self.emit(Event::Unreachable(reason));
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.disconnect();
        self.emit(Event::Failed(failure));
        self.enter(State::Closed);
    }

    /// Ends the connection from this side. No attempt follows.
    fn disconnect(&mut self) {
        if let Link::Up(_) | Link::Connecting { .. } = std::mem::replace(&mut self.link, Link::Closed) {
            self.outputs.push_back(Output::Disconnect);
        }
    }

    fn is_joined(&self) -> bool {
        matches!(&self.link, Link::Up(Connection { progress: Progress::Joined, .. }))
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.emit(Event::State(state));
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn emit_all(&mut self, events: Vec<Event>) {
        self.outputs.extend(events.into_iter().map(Output::Event));
    }
}
