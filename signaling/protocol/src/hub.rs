//! The server as a value. This file defines its inputs, outputs and settings; the files in `hub/` hold the rules.
//!
//! | file | decides |
//! | --- | --- |
//! | `dispatch.rs` | what each message type does, and `register` |
//! | `join.rs`, `verify.rs` | whether a client may enter a room: token, password, limits, the holder of its id |
//! | `rights.rs`, `rules.rs` | what a token grants (rooms, roles, id), and which rooms have passwords |
//! | `membership.rs`, `room.rs` | the members of rooms, which members see each other, which role a message reaches |
//! | `relay.rs` | the recipients of a relayed message |
//! | `refusal.rs` | which error a client gets, and whether it closes the connection |
//! | `session.rs`, `clock.rs` | the state of a connection, its heartbeat and its deadlines |
//! | `attempts.rs` | how many wrong passwords a network may try |
//! | `reconfigure.rs`, `removal.rs` | the effect of new settings, and of removals by operators |
//! | `request.rs`, `message.rs` | how requests are parsed, and how answers are written |
//! | `census.rs` | what metrics and operators can see |
//!
//! Architecture invariants: a message of a client is never an [`Input`] itself, only the text of one; after an
//! [`Output::Close`] the connection is forgotten, and has left its room.

mod attempts;
mod census;
mod clock;
mod dispatch;
mod join;
mod membership;
mod message;
mod reconfigure;
mod refusal;
mod relay;
mod removal;
mod request;
mod rights;
mod room;
mod rules;
mod session;
mod verify;

pub use rights::{
    Auth, Claim, DenyList, Grant, KeyPrint, PasswordHash, RoomPattern, RoomRule, Secret, Verdict,
};
pub use rules::RoomRules;

use crate::{
    id::{ClientId, RoomId, UserId},
    turn::{TurnConfig, WallClock},
    wire::{ErrorCode, IceServer, LeftReason, PeerEntry, Role, close},
};
use attempts::Attempts;
use bytestring::ByteString;
pub use census::{Counts, MemberInfo, RoomInfo};
use clock::after;
use message::Message;
use refusal::Refusal;
pub use removal::REMOVED_FOR;
use removal::Removals;
use room::Room;
use session::{Awaits, Place, Registered, Session};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

/// The number of a connection. The shell never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What the shell knows about a new connection.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The remote address.
    pub ip: IpAddr,
    /// The room that the client named in the URL. A join of another room is `forbidden`.
    pub room: Option<RoomId>,
}

/// An event for the Hub. Inputs for a connection that the Hub does not know (any more) are ignored, so the shell may
/// still deliver inputs for a connection after [`Output::Close`].
#[derive(Debug, Clone)]
pub enum Input {
    /// A WebSocket is open.
    Connected(ConnId, PeerInfo),
    /// A text frame arrived. Not allowed between [`Output::Hold`] and [`Output::Release`].
    Frame(ConnId, ByteString),
    /// A frame arrived that can't be a message: binary, or text that is not UTF-8.
    BadFrame(ConnId),
    /// A frame over the size limit arrived. Answered with close code 1009.
    TooBig(ConnId),
    /// Anything else arrived (a pong, a ping, part of a message): the peer is alive.
    Alive(ConnId),
    /// The outbound queue of this connection is full, or the peer has not read from it for too long. Answered with
    /// `slow_consumer` and close code 4008, both best effort: the shell discards what was queued.
    Overflowed(ConnId),
    /// The answer to [`Output::Verify`]. Each needs one.
    Verified(ConnId, Verdict),
    /// The socket is gone. No more input of it follows.
    Disconnected(ConnId),
}

/// An action for the shell to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this text frame.
    Send(ConnId, ByteString),
    /// Write a WebSocket ping.
    Ping(ConnId),
    /// Verify this claim and answer with [`Input::Verified`]. A connection has at most one claim at a time.
    Verify(ConnId, Claim),
    /// Stop reading from this connection, because its last request can't be answered yet. What the peer sends meanwhile
    /// stays in the socket. The connection counts as alive.
    Hold(ConnId),
    /// Read from this connection again. Follows [`Output::Hold`], unless the connection is closed.
    Release(ConnId),
    /// Flush what is queued, then close with this code and reason. No output for this connection follows.
    Close(ConnId, u16, &'static str),
    /// An event to log.
    Event(ConnId, Event),
}

/// An event to log. Ids are input from outside: escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client registered.
    Registered {
        /// Its id, chosen by the client or by the Hub.
        client_id: ClientId,
        /// Its protocol version; 0 is old.
        protocol: u32,
        /// The user of its token, on a server that needs tokens.
        user: Option<UserId>,
        /// The id of its token, if the token has one.
        token_id: Option<String>,
    },
    /// The client entered a room, or changed its role there.
    Joined {
        /// Its id.
        client_id: ClientId,
        /// The room.
        room_id: RoomId,
        /// Its role in the room.
        role: Role,
    },
    /// The client left a room.
    Left {
        /// Its id.
        client_id: ClientId,
        /// The room.
        room_id: RoomId,
        /// The reason.
        reason: LeftReason,
    },
    /// The client got an error.
    Refused {
        /// The code of that error.
        code: ErrorCode,
    },
}

/// The settings of the operator, with defaults in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// The name of this server in `registered`: `room-signaling/0.1.0`.
    pub server: String,
    /// Silence after which a connection is pinged (15 s), less up to a fifth that differs between connections.
    pub heartbeat: Duration,
    /// Silence after that ping after which the connection is closed (10 s).
    pub heartbeat_grace: Duration,
    /// How long a connection may take to register (10 s).
    pub register_timeout: Duration,
    /// The room of old clients that don't `join` (`room_default`). `None` switches that off.
    pub default_room: Option<RoomId>,
    /// How long an old client may take to `join` before it is joined to the default room (500 ms).
    pub default_room_delay: Duration,
    /// How long the holder of an id may take to answer when another client wants that id (2 s).
    pub takeover_probe: Duration,
    /// The ICE servers in `joined` (none).
    pub ice_servers: Vec<IceServer>,
    /// The TURN servers in `joined`, with credentials made for each join (none).
    pub turn: Option<TurnConfig>,
    /// Whether clients need a token (no).
    pub auth: Auth,
    /// The users and tokens that are denied (none).
    pub denied: DenyList,
    /// The rooms that have passwords (none).
    pub room_rules: Vec<RoomRule>,
    /// The most rooms at a time (10,000).
    pub max_rooms: usize,
    /// The most members of a room (1,000).
    pub max_members: usize,
    /// The most senders among them (16).
    pub max_senders: usize,
    /// The longest list of peers, in bytes (512 KiB). A longer list is cut off, because it has to fit into an outbound
    /// queue.
    pub max_peers_bytes: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            server: concat!("room-signaling/", env!("CARGO_PKG_VERSION")).into(),
            heartbeat: Duration::from_secs(15),
            heartbeat_grace: Duration::from_secs(10),
            register_timeout: Duration::from_secs(10),
            default_room: RoomId::new(crate::wire::DEFAULT_ROOM).ok(),
            default_room_delay: Duration::from_millis(500),
            takeover_probe: Duration::from_secs(2),
            ice_servers: Vec::new(),
            turn: None,
            auth: Auth::None,
            denied: DenyList::default(),
            room_rules: Vec::new(),
            max_rooms: 10_000,
            max_members: 1_000,
            max_senders: 16,
            max_peers_bytes: 512 << 10,
        }
    }
}

/// The server as a value. After each input, call [`Hub::poll_output`] until it returns `None`.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    /// [`HubConfig::room_rules`], to look rooms up in.
    rules: RoomRules,
    seed: [u8; 32],
    /// How many random numbers were drawn from the seed.
    drawn: u64,
    wall_clock: WallClock,
    sessions: BTreeMap<ConnId, Session>,
    rooms: BTreeMap<RoomId, Room>,
    /// One entry a connection, at [`Session::due`].
    deadlines: BTreeSet<(Instant, ConnId)>,
    /// Joins that waited and can continue. Empty between two inputs.
    retries: VecDeque<ConnId>,
    /// Wrong passwords.
    attempts: Attempts,
    outputs: VecDeque<Output>,
    draining: bool,
    counts: Counts,
    removals: Removals,
}

impl Hub {
    /// A server without connections. `seed` feeds all random values: ids for clients that bring none, and the names in
    /// TURN credentials.
    pub fn new(config: HubConfig, seed: [u8; 32], wall_clock: WallClock) -> Self {
        Self {
            rules: RoomRules::new(&config.room_rules),
            config,
            seed,
            drawn: 0,
            wall_clock,
            sessions: BTreeMap::new(),
            rooms: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            retries: VecDeque::new(),
            attempts: Attempts::default(),
            outputs: VecDeque::new(),
            draining: false,
            counts: Counts::default(),
            removals: Removals::default(),
        }
    }

    /// Takes one input; then drain [`Hub::poll_output`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Connected(conn, peer) => self.connect(now, conn, peer),
            Input::Frame(conn, text) => {
                self.heard(now, conn);
                self.read(now, conn, text);
            }
            Input::BadFrame(conn) => {
                self.heard(now, conn);
                self.counts.bad();
                self.refuse(conn, Refusal::bad("not a text frame in UTF-8"));
            }
            Input::TooBig(conn) => {
                self.counts.bad();
                self.close(conn, close::TOO_BIG, "frame too big", LeftReason::Disconnected);
            }
            Input::Alive(conn) => self.heard(now, conn),
            Input::Overflowed(conn) => {
                self.refuse(conn, Refusal::new(ErrorCode::SlowConsumer, "read faster, or ask for less"));
            }
            Input::Verified(conn, verdict) => self.verified(now, conn, verdict),
            Input::Disconnected(conn) => self.end(conn, LeftReason::Disconnected),
        }
        self.settle(now);
    }

    /// The next action, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Hub::handle_timeout`] next. That call may have no effect.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Performs the actions that are due at `now`. An early call is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, conn)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, conn));
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.due = None;
                self.due(now, conn);
                self.settle(now);
                self.schedule(now, conn);
            }
        }
    }

    /// Announces the shutdown of the server, and refuses `register` and `join` from now on. Members can exchange messages
    /// until [`Hub::close_all`]. Old clients that were joined by rule 11 get no announcement, because they would not
    /// understand it.
    pub fn drain(&mut self, retry_after: Duration) {
        self.draining = true;
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let text = Message::Draining { retry_after_ms }.text();
        let understands = |registered: &Registered| match &registered.place {
            Place::Nowhere => true,
            Place::Automatic(_) => false,
            Place::In(room_id) => {
                let member =
                    self.rooms.get(room_id).and_then(|room| room.member(registered.client_id.as_str()));
                member.is_some_and(|member| !member.automatic)
            }
        };
        for (conn, session) in &self.sessions {
            if session.registered().is_some_and(understands) {
                self.outputs.push_back(Output::Send(*conn, text.clone()));
            }
        }
    }

    /// Closes every connection with 1012, without `peer_left`: all members leave together.
    pub fn close_all(&mut self) {
        let conns = std::mem::take(&mut self.sessions).into_keys();
        self.outputs.extend(conns.map(|conn| Output::Close(conn, close::SERVICE_RESTART, "going away")));
        self.rooms.clear();
        self.deadlines.clear();
    }

    /// Whether [`Hub::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a connection is open, as far as the Hub is concerned.
    pub fn knows(&self, conn: ConnId) -> bool {
        self.sessions.contains_key(&conn)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// How many members all rooms have together.
    pub fn members(&self) -> usize {
        self.rooms.values().map(Room::len).sum()
    }

    /// The members of a room, in order of their ids. Empty if there is no such room.
    pub fn members_of(&self, room_id: &RoomId) -> Vec<PeerEntry> {
        self.rooms.get(room_id).map(Room::entries).unwrap_or_default()
    }

    /// A random number that nobody can guess without the seed.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_le_bytes()).finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn connect(&mut self, now: Instant, conn: ConnId, PeerInfo { ip, room }: PeerInfo) {
        self.sessions.entry(conn).or_insert_with(|| Session::new(now, ip, room, &self.config));
        self.schedule(now, conn);
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &'static str, left: LeftReason) {
        if self.sessions.contains_key(&conn) {
            self.outputs.push_back(Output::Close(conn, code, reason));
            self.end(conn, left);
        }
    }

    /// Forgets a connection.
    fn end(&mut self, conn: ConnId, left: LeftReason) {
        self.leave(conn, left);
        let Some(session) = self.sessions.remove(&conn) else { return };
        if let Some(at) = session.due {
            self.deadlines.remove(&(at, conn));
        }
        match session.pending.map(|pending| pending.awaits) {
            Some(Awaits::Holder(holder, _)) => self.withdraw(conn, holder),
            Some(Awaits::RegisterToken(_) | Awaits::JoinToken(_) | Awaits::JoinPassword(..)) | None => {}
        }
        if let Some(probe) = session.probe {
            self.retries.extend(probe.challengers);
        }
    }

    /// Runs the joins again whose id became free.
    fn settle(&mut self, now: Instant) {
        while let Some(conn) = self.retries.pop_front() {
            self.retry(now, conn);
        }
    }
}
