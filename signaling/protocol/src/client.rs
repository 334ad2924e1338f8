//! The other end as a value: register, join, who is there, which media sessions are still good, when to try again.

use crate::{
    id::{ClientId, Instance, RoomId},
    wire::{IceServer, PeerEntry, Role, Signal},
};
use bytestring::ByteString;
use std::time::Instant;

/// Who this client is and where it wants to be.
#[derive(Debug, Clone)]
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
    Disconnected(Option<u16>),
    /// Say this to a peer. Dropped when not in the room.
    Send(Signal),
    /// How the media session with a peer fares; decides what a reconnect keeps.
    Media(ClientId, Media),
    /// Say `bye` to every peer with a session, `leave`, close, and never come back.
    Shutdown,
}

/// The state of the media session with one peer, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A session was begun: offered or answered.
    Started,
    /// Media flows.
    Connected,
    /// The session is over.
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
    /// Close the WebSocket.
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
    /// The state changed.
    State(State),
    /// In the room, at first or again. Comes before any peer event of that connection.
    Joined {
        /// The id in use.
        client_id: ClientId,
        /// What to give every new RTCPeerConnection.
        ice_servers: Vec<IceServer>,
    },
    /// This peer wants a (new) media session: it is new here, or a new process, or its session never connected.
    /// Whatever session there was with it has been ended by [`Event::PeerGone`] before.
    PeerReady(PeerEntry),
    /// A known peer whose `meta` changed. Its session goes on.
    PeerChanged(PeerEntry),
    /// End the media session with this peer now.
    PeerGone(ClientId, GoneReason),
    /// A peer says something about media.
    Signal(Signal),
    /// The server answered a request with an error that does not end the connection.
    Refused {
        /// The code on the wire.
        code: crate::wire::ErrorCode,
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
    /// It left, said `bye`, or was removed by the server.
    Left,
    /// A new process has its id.
    Replaced,
    /// Not seen in the room for 30 s, or gone before its media connected.
    Absent,
}

/// Why a Client gave up, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code on the wire where there was one.
    pub code: Option<crate::wire::ErrorCode>,
    /// What happened and what to do.
    pub message: String,
}

/// The other end as a value: inputs and the time go in, outputs come out.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// A client that wants to connect at once. `seed` feeds the jitter of its backoff.
    pub fn new(config: ClientConfig, seed: u64, now: Instant) -> Self {
        todo!()
    }
    /// Takes one input; then drain [`Client::poll_output`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        todo!()
    }
    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// When [`Client::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// The time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
}
