//! The server as a value.

use crate::wire::IceServer;
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

/// What happens to the Hub.
#[derive(Debug, Clone)]
pub enum Input {
    /// A WebSocket is open.
    Connected(ConnId, PeerInfo),
    /// A text frame came.
    Frame(ConnId, ByteString),
    /// A frame came that can't be a message: binary, or text that is no UTF-8.
    BadFrame(ConnId),
    /// Anything else came (a pong, a ping): the peer lives.
    Alive(ConnId),
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
}

/// What the server's operator decides.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each default below says what it is")]
pub struct HubConfig {
    pub server: String,
    pub heartbeat: Duration,
    pub heartbeat_grace: Duration,
    pub register_timeout: Duration,
    pub default_room: Option<crate::RoomId>,
    pub default_room_delay: Duration,
    pub takeover_probe: Duration,
    pub ice_servers: Vec<IceServer>,
    pub max_rooms: usize,
    pub max_members: usize,
    pub max_senders: usize,
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
    /// When [`Hub::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// The time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// Tells everyone that the server goes away; new joins are refused from now on.
    pub fn drain(&mut self, now: Instant, retry_after: Duration) {
        todo!()
    }
}
