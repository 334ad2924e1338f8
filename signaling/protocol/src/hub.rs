//! The server as a value.

use crate::{
    id::{ClientId, RoomId},
    wire::{ErrorCode, IceServer, LeftReason, PeerEntry, Role},
};
use bytestring::ByteString;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// Names one connection; the shell never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What the shell knows of a connection when it comes.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The remote address.
    pub ip: IpAddr,
}

/// What happens to the Hub. Inputs for a connection that the Hub doesn't know (any more) are ignored, so the shell
/// need not remember whether it has passed a [`Output::Close`] on yet.
#[derive(Debug, Clone)]
pub enum Input {
    /// A WebSocket is open.
    Connected(ConnId, PeerInfo),
    /// A text frame came.
    Frame(ConnId, ByteString),
    /// A frame came that can't be a message: binary, or text that is no UTF-8.
    BadFrame(ConnId),
    /// A frame over the size limit came. Answered with close code 1009.
    TooBig(ConnId),
    /// Anything else came (a pong, a ping): the peer lives.
    Alive(ConnId),
    /// The outbound queue of this connection is full. Answered with `slow_consumer` and close code 4008, both best
    /// effort: the shell throws away what was queued.
    Overflowed(ConnId),
    /// The socket is gone. Nothing more comes of it.
    Disconnected(ConnId),
}

/// What the Hub wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this text frame.
    Send(ConnId, ByteString),
    /// Write a WebSocket ping.
    Ping(ConnId),
    /// Flush what is queued, then close with this code and reason. No output for this connection follows.
    Close(ConnId, u16, &'static str),
    /// Worth a line in the log. Nothing else needs to be done.
    Event(ConnId, Event),
}

/// What the log is told. Ids come from outside: escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It said who it is.
    Registered {
        /// Its id, as it chose it or as the Hub made it.
        client_id: ClientId,
        /// The version that it speaks; 0 is old.
        protocol: u32,
    },
    /// It is in a room now, or changed its role there.
    Joined {
        /// Its id.
        client_id: ClientId,
        /// Where.
        room_id: RoomId,
        /// As what.
        role: Role,
    },
    /// It is no longer in that room.
    Left {
        /// Its id.
        client_id: ClientId,
        /// Where it was.
        room_id: RoomId,
        /// Why.
        reason: LeftReason,
    },
    /// It was told of an error.
    Refused {
        /// The code that it was told.
        code: ErrorCode,
    },
}

/// What the server's operator decides.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// What `registered` calls this server: `room-signaling/0.1.0`.
    pub server: String,
    /// Silence after which a connection is pinged (15 s).
    pub heartbeat: Duration,
    /// More silence after that ping until the connection is closed (10 s).
    pub heartbeat_grace: Duration,
    /// How long a connection may take to register (10 s).
    pub register_timeout: Duration,
    /// Where old clients that don't `join` go (`room_default`); `None` switches that off.
    pub default_room: Option<RoomId>,
    /// How long an old client may take to `join` before it is joined to the default room (500 ms).
    pub default_room_delay: Duration,
    /// How long the holder of an id may take to answer when somebody else wants that id (2 s).
    pub takeover_probe: Duration,
    /// What `joined` carries (none).
    pub ice_servers: Vec<IceServer>,
    /// How many rooms there may be at a time (10,000).
    pub max_rooms: usize,
    /// How many members a room may have (1,000).
    pub max_members: usize,
    /// How many of these may be senders (16).
    pub max_senders: usize,
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
            max_rooms: 10_000,
            max_members: 1_000,
            max_senders: 16,
        }
    }
}

/// The server as a value: inputs and the time go in, outputs come out.
#[derive(Debug)]
pub struct Hub {}

impl Hub {
    /// A server with nobody there. `seed` feeds the ids that it makes for clients that bring none.
    pub fn new(config: HubConfig, seed: [u8; 32]) -> Self {
        todo!()
    }
    /// Takes one input; then drain [`Hub::poll_output`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        todo!()
    }
    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// When [`Hub::handle_timeout`] wants to be called next. It may be earlier than anything happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// The time has come. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// Tells everyone that the server goes away; new registers and joins are refused from now on. Members go on
    /// talking until [`Hub::close_all`].
    pub fn drain(&mut self, now: Instant, retry_after: Duration) {
        todo!()
    }
    /// Closes every connection with 1012. Nobody is told who left: everybody does.
    pub fn close_all(&mut self) {
        todo!()
    }
    /// Whether [`Hub::drain`] was called.
    pub fn is_draining(&self) -> bool {
        todo!()
    }
    /// How many connections there are.
    pub fn connections(&self) -> usize {
        todo!()
    }
    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        todo!()
    }
    /// How many members all rooms have together.
    pub fn members(&self) -> usize {
        todo!()
    }
    /// The rooms, in order.
    pub fn room_ids(&self) -> impl Iterator<Item = &RoomId> {
        std::iter::empty()
    }
    /// Who is in a room, in order of their ids. Empty where there is no such room.
    pub fn members_of(&self, room_id: &RoomId) -> Vec<PeerEntry> {
        todo!()
    }
}
