//! The other end as a value: register, join, who is there, which media sessions are still good, when to try again.

mod backoff;
mod failure;
mod frames;
mod peers;

pub use self::failure::Failure;

use self::{backoff::Backoff, frames::Incoming, peers::Peers};
use crate::{
    id::{ClientId, Instance, RoomId},
    wire::{ErrorCode, IceServer, PeerEntry, Role, ServerMessage, Signal},
};
use bytestring::ByteString;
use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

/// A WebSocket that is not open by then will not be: name, TCP, TLS and upgrade together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that hasn't answered `register` or `join` by then will not. It probes an old socket for 2 s (rule 8).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// More silence than the server's heartbeat explains, after which we ask; and after which we stop waiting for an answer.
/// Together with the usual heartbeat less than the 30 s that others keep our media sessions for.
pub const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// The heartbeat of a server that names none (rule 10).
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// No server may make a client deaf for longer than this.
const MAX_HEARTBEAT: Duration = Duration::from_secs(300);
/// No server may send a client away for longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Over this time the clients of a server that drained come back.
const RETRY_SPREAD: Duration = Duration::from_secs(1);

/// Who this client is and where it wants to be.
#[derive(Clone)]
pub struct ClientConfig {
    /// Absent: the server makes one at first; it is kept over reconnects.
    pub client_id: Option<ClientId>,
    /// The room to be in.
    pub room: RoomId,
    /// What to do there.
    pub role: Role,
    /// The secret of this process.
    pub instance: Instance,
    /// For servers with users.
    pub token: Option<String>,
    /// Of the room.
    pub password: Option<String>,
    /// What others are told of this client: any JSON up to 1 KiB.
    pub meta: Option<serde_json::Value>,
}

impl ClientConfig {
    /// A client with an id of the server's making, no token, no password and no meta.
    pub fn new(room: RoomId, role: Role, instance: Instance) -> Self {
        Self { client_id: None, room, role, instance, token: None, password: None, meta: None }
    }
}

impl fmt::Debug for ClientConfig {
    /// Without token and password, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("client_id", &self.client_id)
            .field("room", &self.room)
            .field("role", &self.role)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// What happens to the Client.
#[derive(Debug, Clone)]
pub enum Input {
    /// The WebSocket asked for by [`Output::Connect`] is open.
    Connected,
    /// A text frame came.
    Frame(ByteString),
    /// Any other frame came: the server lives.
    Alive,
    /// The WebSocket could not be opened, or has ended, with the close code where there was one.
    /// Nothing of that socket may come after this, or after [`Output::Disconnect`].
    Disconnected(Option<u16>),
    /// The WebSocket could not be opened, and will not be as things are configured, in words that say what to do: no
    /// trust in the certificate, no signaling server there. Fatal unless this client has been in its room before: then
    /// the configuration was right, and running media must not end because somebody is working at the server.
    Misconfigured(String),
    /// Say this to a peer. Dropped when not in the room: what it is about starts anew after the next join.
    /// A missing `session_id` is filled in where the session with the target is known; an empty candidate is dropped.
    Send(Signal),
    /// How the media session with a peer fares; decides what a reconnect keeps.
    Media(ClientId, Media),
    /// Say `bye` to every peer with a session, `leave`, close, and never come back.
    Shutdown,
}

/// The state of the media session with one peer, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A session was begun: offered or answered. Sending or getting an offer says as much.
    Started,
    /// Media flows.
    Connected,
    /// The session is over by itself. If it had connected and the peer is still there, a sender gets
    /// [`Event::PeerReady`] for it at once, unless either end said `bye` before this; so say `bye` first where no new
    /// session is wanted. Not to be told of a session that [`Event::PeerGone`] ended: by then it could be taken for the
    /// next one's end.
    Ended,
}

/// What the Client wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a WebSocket.
    Connect,
    /// Write this text frame.
    Send(ByteString),
    /// Write a WebSocket ping.
    Ping,
    /// Flush, close the WebSocket or stop opening it, and tell nothing more of it.
    Disconnect,
    /// Tell the owner.
    Event(Event),
}

/// Where the Client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On its way to the server.
    Connecting,
    /// In the room.
    Joined,
    /// The server is out of reach; another try comes. Media goes on.
    Reconnecting,
    /// Over: by [`Input::Shutdown`] or [`Event::Failed`].
    Closed,
}

/// What the owner is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The state changed. The first one is [`State::Connecting`], the last one [`State::Closed`].
    State(State),
    /// In the room, at first or again. Comes before any peer event of that connection.
    Joined {
        /// The id in use.
        client_id: ClientId,
        /// What to give every new RTCPeerConnection.
        ice_servers: Vec<IceServer>,
    },
    /// This peer, of the opposite role, wants a (new) media session: it is new here, or a new process, or its session
    /// never connected or broke off. Whatever session there was with it has been ended by [`Event::PeerGone`] before.
    PeerReady(PeerEntry),
    /// A known peer whose `meta` changed. Its session goes on.
    PeerChanged(PeerEntry),
    /// End the media session with this peer now.
    PeerGone(ClientId, GoneReason),
    /// A peer says something about media; `from` is always there. An offer of a new session comes after the
    /// [`Event::PeerGone`] and [`Event::PeerReady`] that end the one before. After a `bye`, end that session.
    Signal(Signal),
    /// The server answered a request with an error that does not end the connection.
    Refused {
        /// The code on the wire.
        code: ErrorCode,
        /// The server's words.
        message: String,
        /// The offending type.
        request: Option<String>,
        /// Whom it was for.
        target_id: Option<String>,
    },
    /// It can't work: the configuration must change. Nothing follows but [`State::Closed`].
    Failed(Failure),
}

/// Why a session has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// It left, or was removed by the server.
    Left,
    /// A new process has its id, or it began a new session itself.
    Replaced,
    /// Not seen in the room for 30 s, or gone before its media connected, or its media is over while it was away; or
    /// it is there, but its session never connected or broke off, and starts anew.
    Absent,
}

/// The other end as a value: inputs and the time go in, outputs come out.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    link: Link,
    backoff: Backoff,
    peers: Peers,
    outputs: VecDeque<Output>,
}

/// The way to the server.
#[derive(Debug)]
enum Link {
    Waiting { until: Instant },
    Connecting { until: Instant },
    Up(Connection),
    Closed,
}

/// One open WebSocket.
#[derive(Debug)]
struct Connection {
    stage: Stage,
    /// When the last frame came.
    heard: Instant,
    /// Since when a ping of ours waits for an answer.
    pinged: Option<Instant>,
    heartbeat: Duration,
    /// What a `draining` server wants.
    retry_after: Option<Duration>,
    /// The last error, which may explain a close code.
    said: Option<(ErrorCode, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Registering { until: Instant },
    Joining { until: Instant },
    Joined,
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
            Input::Disconnected(code) => self.on_disconnected(now, code),
            Input::Misconfigured(words) => self.on_misconfigured(now, words),
            Input::Send(signal) => self.send_signal(signal),
            Input::Media(peer, media) => {
                let events = self.peers.media(&peer, media);
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
                    Stage::Joined => self.peers.next_expiry(),
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
            Link::Connecting { until } if *until <= now => self.hang_up(now),
            Link::Up(connection) => {
                if connection.is_overdue(now) {
                    return self.hang_up(now);
                }
                if connection.silent_at() <= now {
                    connection.pinged = Some(now);
                    self.outputs.push_back(Output::Ping);
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

    fn on_disconnected(&mut self, now: Instant, close_code: Option<u16>) {
        let (retry_after, said) = match &mut self.link {
            Link::Connecting { .. } => (None, None),
            Link::Up(connection) => (connection.retry_after, connection.said.take()),
            Link::Waiting { .. } | Link::Closed => return,
        };
        self.link = Link::Closed;
        match close_code.and_then(|code| failure::of_close(&self.config, code, said)) {
            Some(failure) => self.fail(failure),
            None => self.wait(now, retry_after),
        }
    }

    fn on_misconfigured(&mut self, now: Instant, message: String) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.link = Link::Closed;
        match self.state {
            State::Connecting => self.fail(Failure { code: None, message }),
            _ => self.wait(now, None),
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
        let Link::Up(connection) = &mut self.link else { return };
        match (message, connection.stage) {
            (ServerMessage::Registered { client_id, heartbeat_s, .. }, Stage::Registering { .. }) => {
                connection.set_heartbeat(heartbeat_s);
                connection.stage = Stage::Joining { until: now + ANSWER_TIMEOUT };
                self.config.client_id = Some(client_id);
                self.outputs.push_back(Output::Send(frames::join(&self.config)));
            }
            (
                ServerMessage::Joined { peers, total, ice_servers, .. },
                Stage::Joining { .. } | Stage::Joined,
            ) => {
                connection.stage = Stage::Joined;
                self.on_joined(now, peers, total, ice_servers);
            }
            (ServerMessage::PeerJoined(entry), Stage::Joined) => {
                if !self.is_me(&entry.client_id) {
                    let events = self.peers.joined(entry);
                    self.tell_all(events);
                }
            }
            (ServerMessage::PeerLeft { client_id, reason }, Stage::Joined) => {
                let events = self.peers.left(now, &client_id, reason);
                self.tell_all(events);
            }
            // Removed from the room. Asking to be let in again tells why, if there is a reason.
            (ServerMessage::Left, Stage::Joined) => self.hang_up(now),
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
        match failure {
            Some(failure) => self.fail(failure),
            None => {
                self.tell(refused);
                if stage != Stage::Joined {
                    self.hang_up(now);
                }
            }
        }
    }

    fn send_signal(&mut self, mut signal: Signal) {
        if self.is_joined() && !frames::is_empty_candidate(&signal) {
            signal.from = None;
            self.peers.address(&mut signal);
            self.outputs.push_back(Output::Send(frames::signal(&signal)));
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
    fn hang_up(&mut self, now: Instant) {
        self.outputs.push_back(Output::Disconnect);
        self.on_disconnected(now, None);
    }

    fn wait(&mut self, now: Instant, retry_after: Option<Duration>) {
        let delay = match retry_after {
            Some(delay) => delay + self.backoff.jitter(RETRY_SPREAD),
            None => self.backoff.delay(),
        };
        self.link = Link::Waiting { until: now + delay };
        if self.state == State::Joined {
            self.enter(State::Reconnecting);
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

    fn is_me(&self, id: &ClientId) -> bool {
        self.config.client_id.as_ref() == Some(id)
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

impl Connection {
    fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Registering { until: now + ANSWER_TIMEOUT },
            heard: now,
            pinged: None,
            heartbeat: DEFAULT_HEARTBEAT,
            retry_after: None,
            said: None,
        }
    }

    fn set_heartbeat(&mut self, seconds: u64) {
        if seconds > 0 {
            self.heartbeat = Duration::from_secs(seconds).min(MAX_HEARTBEAT);
        }
    }

    /// When the next step against silence is due: first a ping, then the end.
    fn silent_at(&self) -> Instant {
        match self.pinged {
            Some(at) => at + SILENCE_GRACE,
            None => self.heard + self.heartbeat + SILENCE_GRACE,
        }
    }

    /// Whether nobody answers.
    fn is_overdue(&self, now: Instant) -> bool {
        match self.stage {
            Stage::Registering { until } | Stage::Joining { until } if until <= now => true,
            _ => self.pinged.is_some() && self.silent_at() <= now,
        }
    }
}
