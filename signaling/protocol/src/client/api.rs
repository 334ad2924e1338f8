//! What a Client is told and what it tells.

use super::Failure;
use crate::{
    hub::Secret,
    id::{ClientId, Instance, RoomId, SessionId},
    wire::{ErrorCode, IceServer, PeerEntry, Role, Signal},
};
use bytestring::ByteString;
use std::fmt;

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
    /// Whether fresh tokens come by [`Input::Token`]: then one that expires is no reason to give up, and the client
    /// connects again.
    pub token_renews: bool,
    /// Of the room.
    pub password: Option<String>,
    /// What others are told of this client: any JSON up to 1 KiB.
    pub meta: Option<serde_json::Value>,
}

impl ClientConfig {
    /// A client with an id of the server's making, no token, no password and no meta.
    pub fn new(room: RoomId, role: Role, instance: Instance) -> Self {
        Self {
            client_id: None,
            room,
            role,
            instance,
            token: None,
            token_renews: false,
            password: None,
            meta: None,
        }
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
            .field("token_renews", &self.token_renews)
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
    /// The WebSocket could not be opened, but a later attempt may succeed. The text names the host and the cause.
    Unreachable(String),
    /// Say this to a peer. Dropped when not in the room: what it is about starts anew after the next join.
    /// A missing `session_id` is filled in where the session with the target is known; an empty candidate is dropped.
    Send(Signal),
    /// The state of the media session with a peer, which decides what a reconnect keeps. A report on a session that is
    /// not the peer's current one has no effect, so a late report cannot be attributed to the next session.
    Media {
        /// The other end of the session.
        peer: ClientId,
        /// The session; `None` only where the offer named none, as old senders do.
        session: Option<SessionId>,
        /// Its state.
        media: Media,
    },
    /// A fresh token. It is used from here on; in the room, it is said at once and lets the client stay for longer.
    Token(Secret),
    /// Say `bye` to every peer with a session, `leave`, close, and never come back.
    Shutdown,
}

/// The state of the media session with one peer, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A session was begun: offered or answered. Sending or receiving the offer has the same effect.
    Started,
    /// Media flows.
    Connected,
    /// The session ended without a `bye`. If it was connected and the peer is still present, a sender in its room
    /// immediately receives [`Event::PeerGone`] with [`GoneReason::Restart`] and [`Event::PeerReady`] for it; outside
    /// its room, it receives them once it has joined again. To prevent that, send `bye` first.
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
    /// In the room, at first or again, or with fresh credentials. Comes before any peer event of that connection.
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
    /// The connection to the server is lost, for this reason; another attempt follows. Comes before
    /// [`State::Reconnecting`].
    Disconnected(String),
    /// An attempt to get into the room failed, for this reason; another one follows. Each reason is reported once until
    /// the client is in the room, and at most [`super::MAX_REASONS`] of them are.
    Unreachable(String),
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
    /// Not seen in the room for 30 s, or gone before its media connected, or its media ended while it was away.
    Absent,
    /// It is there and is the same process, but its session never connected or broke off. [`Event::PeerReady`] follows.
    Restart,
}
