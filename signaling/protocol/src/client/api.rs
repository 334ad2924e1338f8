//! The inputs, outputs and events of a [`Client`](super::Client), and its configuration.

use super::Failure;
use crate::{
    hub::Secret,
    id::{ClientId, Instance, RoomId, SessionId},
    wire::{ErrorCode, IceServer, PeerEntry, Role, Signal},
};
use bytestring::ByteString;
use std::fmt;

/// The identity of a client, and its room.
#[derive(Clone)]
pub struct ClientConfig {
    /// The id. Absent: the server chooses one, which the client keeps when it reconnects.
    pub client_id: Option<ClientId>,
    /// The room to join.
    pub room: RoomId,
    /// The role in that room.
    pub role: Role,
    /// The secret of this process.
    pub instance: Instance,
    /// The token, for servers that require one.
    pub token: Option<String>,
    /// Whether new tokens arrive by [`Input::Token`]. If so, the client reconnects after its token has expired; otherwise
    /// an expired token is a failure.
    pub token_renews: bool,
    /// The password of the room.
    pub password: Option<String>,
    /// A description of this client for its peers: any JSON up to 1 KiB.
    pub meta: Option<serde_json::Value>,
}

impl ClientConfig {
    /// A client whose id the server chooses, without token, password and meta.
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
    /// Redacts the token and the password, and omits the instance.
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

/// An event for the client.
#[derive(Debug, Clone)]
pub enum Input {
    /// The WebSocket that [`Output::Connect`] asked for is open.
    Connected,
    /// A text frame arrived.
    Frame(ByteString),
    /// Any other frame arrived: the server is alive.
    Alive,
    /// The WebSocket could not be opened, or has ended, with its close code if there was one. No input of that socket may
    /// follow, nor after [`Output::Disconnect`].
    Disconnected(Option<u16>),
    /// The WebSocket could not be opened, and no attempt can succeed with this configuration: the certificate is not
    /// trusted, or there is no signaling server at the address. The text says how to correct that. It is a failure unless
    /// this client has been in its room before: in that case the configuration was right, and media must not end because
    /// of work on the server.
    Misconfigured(String),
    /// The WebSocket could not be opened, but a later attempt may succeed. The text names the host and the cause.
    Unreachable(String),
    /// Send this message to a peer. It is dropped if the client is not in the room, because its media session begins again
    /// after the next join. A missing `session_id` is filled in if the session with the target is known. An empty
    /// candidate is dropped.
    Send(Signal),
    /// The state of the media session with a peer, which decides what a reconnect keeps. A report on a session that is
    /// not the peer's current one has no effect, so a late report cannot be attributed to the next session.
    Media {
        /// The other end of the session.
        peer: ClientId,
        /// The session. `None` only if the offer named none, as with old senders.
        session: Option<SessionId>,
        /// Its state.
        media: Media,
    },
    /// A new token. The client uses it from here on. In the room, it sends the token immediately, which extends its stay.
    Token(Secret),
    /// Send `bye` to every peer with a session, leave the room, and close for ever.
    Shutdown,
}

/// The state of the media session with one peer, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A session was offered or answered. Sending or receiving the offer has the same effect.
    Started,
    /// Media flows.
    Connected,
    /// The session ended without a `bye`. If it was connected and the peer is still present, a sender in its room
    /// immediately receives [`Event::PeerGone`] with [`GoneReason::Restart`] and [`Event::PeerReady`] for it; outside
    /// its room, it receives them once it has joined again. To prevent that, send `bye` first.
    Ended,
}

/// An action for the owner of the socket to perform.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a WebSocket.
    Connect,
    /// Write this text frame.
    Send(ByteString),
    /// Write a WebSocket ping.
    Ping,
    /// Flush and close the WebSocket, or stop opening it. No further input of it may follow.
    Disconnect,
    /// An event for the application.
    Event(Event),
}

/// The state of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not been in its room yet.
    Connecting,
    /// It is in its room.
    Joined,
    /// It has lost the server, and will connect again. Media continues.
    Reconnecting,
    /// It has ended, by [`Input::Shutdown`] or [`Event::Failed`].
    Closed,
}

/// An event for the application.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The state has changed. The first state is [`State::Connecting`], the last one [`State::Closed`].
    State(State),
    /// The client has entered its room, or has renewed its credentials. Precedes all peer events of that connection.
    Joined {
        /// The id in use.
        client_id: ClientId,
        /// The ICE servers for every new media session.
        ice_servers: Vec<IceServer>,
    },
    /// This peer, of the opposite role, needs a new media session: it is new in the room, it is a new process, or its
    /// session never connected or broke. [`Event::PeerGone`] has ended its earlier session, if it had one.
    PeerReady(PeerEntry),
    /// The `meta` of a known peer has changed. Its session continues.
    PeerChanged(PeerEntry),
    /// The media session with this peer has to end now.
    PeerGone(ClientId, GoneReason),
    /// A message of a peer about media; `from` is always present. An offer of a new session follows the
    /// [`Event::PeerGone`] and [`Event::PeerReady`] that replace the earlier session. After a `bye`, end the session.
    Signal(Signal),
    /// The server answered a request with an error that does not end the connection.
    Refused {
        /// The code on the wire.
        code: ErrorCode,
        /// The explanation of the server.
        message: String,
        /// The type of the refused message.
        request: Option<String>,
        /// The target of the refused message.
        target_id: Option<String>,
    },
    /// The connection to the server is lost, for this reason; another attempt follows. Precedes [`State::Reconnecting`].
    Disconnected(String),
    /// An attempt to enter the room failed, for this reason; another attempt follows. Until the client is in the room, each
    /// reason is reported once, and at most [`super::MAX_REASONS`] reasons are.
    Unreachable(String),
    /// No attempt can succeed before the configuration changes. Only [`State::Closed`] follows.
    Failed(Failure),
}

/// Why a media session has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// The peer left, or the server removed it.
    Left,
    /// A new process has the id of the peer, or the peer began a new session.
    Replaced,
    /// The peer was absent for 30 s, or left before its media connected, or its media ended while it was absent.
    Absent,
    /// The peer is present and is the same process, but its session never connected or broke. [`Event::PeerReady`]
    /// follows.
    Restart,
}
