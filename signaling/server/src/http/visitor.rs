//! A connection that makes a request, and what is known about it.

use crate::net::{
    admission::{Handshake, Seat},
    door::Door,
};
use room_protocol::RoomId;
use std::net::SocketAddr;
use tokio::time;

/// A connection that makes a request.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The address of the client. Behind a trusted proxy, it is the one that the proxy names, once that is known.
    pub(crate) remote: SocketAddr,
    /// The kind of address at which the connection arrived.
    pub(crate) door: Door,
    /// The address at which it arrived.
    pub(crate) local: Option<SocketAddr>,
    /// The seat of the connection.
    pub(crate) seat: Seat,
    /// Held until the request is answered. Without it, the connection is not ended for newer ones.
    pub(crate) handshake: Option<Handshake>,
    /// The room that the URL of the request names.
    pub(crate) room: Option<RoomId>,
    /// The time at which the head of the request must be complete.
    pub(crate) deadline: time::Instant,
}
