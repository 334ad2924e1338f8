//! An async client of room signaling: one task that owns the WebSocket and drives [`room_protocol::Client`],
//! reconnecting for ever.

pub use room_protocol::{self as protocol, client::*, wire};
use std::path::PathBuf;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ws://host:port/` or `wss://host:port/`.
    pub uri: String,
    /// PEM file of certificate authorities to trust beside the system's, for `wss`.
    pub tls_ca_file: Option<PathBuf>,
    /// Who, and in which room.
    pub client: ClientConfig,
}

/// Why [`spawn`] refuses.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {}

/// Speaks to the task. Cheap to clone; when the last one is dropped, the client shuts down.
#[derive(Debug, Clone)]
pub struct Handle {}

/// What the task says, in order.
#[derive(Debug)]
pub struct Events {}

/// Checks `options` and starts the task on the current tokio runtime.
pub fn spawn(options: Options) -> Result<(Handle, Events), OptionsError> {
    todo!()
}

impl Handle {
    /// Says `signal` to a peer. Never waits; dropped when not in the room.
    pub fn send(&self, signal: wire::Signal) {
        todo!()
    }
    /// Tells how the media session with a peer fares.
    pub fn media(&self, peer: &protocol::ClientId, media: Media) {
        todo!()
    }
    /// Says goodbye and closes. [`Events::recv`] ends when that is done; bound the wait yourself.
    pub fn shutdown(&self) {
        todo!()
    }
}

impl Events {
    /// The next event; `None` once the client has ended.
    pub async fn recv(&mut self) -> Option<Event> {
        todo!()
    }
}
