//! An async client of room signaling: one task that owns the WebSocket, drives [`room_protocol::Client`] and reconnects
//! for ever.
//!
//! This crate adds sockets, TLS, the clock and random numbers. [`room_protocol::client`] makes all decisions: which message
//! is sent when, which media sessions survive a reconnect, and when to connect again.
//!
//! | file | content |
//! | --- | --- |
//! | `options.rs` | the options, and the checks before the first attempt |
//! | `task.rs` | the task: inputs, timers, logging |
//! | `connect.rs` | name resolution, TCP, TLS, the WebSocket upgrade, and the explanation of their errors |
//! | `socket.rs` | an open WebSocket |
//!
//! The crate logs with `tracing`, without tokens, passwords and instances. The WebSocket library logs whole frames at trace
//! level, so keep the targets `tungstenite` and `tokio_tungstenite` above that level.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use room_signaling_client::{ClientConfig, Event, Options, new_instance, protocol::RoomId, wire::Role};
//!
//! let config = ClientConfig::new(RoomId::new("living_room")?, Role::Receiver, new_instance());
//! let (handle, mut events) = room_signaling_client::spawn(Options::new("ws://127.0.0.1:8765", config))?;
//! while let Some(event) = events.recv().await {
//!     if let Event::PeerReady(peer) = event {
//!         println!("{} is in the room", peer.client_id);
//!         handle.shutdown();
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod connect;
mod options;
mod socket;
mod task;

pub use options::{Options, OptionsError, TokenSource};
pub use room_protocol::{self as protocol, client::*, wire};

use protocol::{ClientId, Instance, SessionId, hub::Secret};
use tokio::sync::mpsc;

/// Controls the task. It is cheap to clone. The client shuts down when the last handle is dropped. No method waits.
#[derive(Debug, Clone)]
pub struct Handle {
    inputs: mpsc::UnboundedSender<Input>,
}

/// The events of the client, in order. The client keeps running if this is dropped.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<Event>,
}

/// Checks `options` and starts the task on the current tokio runtime, which needs its I/O and time drivers.
///
/// For a `wss` address, this reads the certificate files, which takes some milliseconds.
///
/// # Errors
///
/// If the options are wrong, as far as that can be found without the network. An error that only the network shows is
/// [`Event::Failed`].
pub fn spawn(options: Options) -> Result<(Handle, Events), OptionsError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| OptionsError::NoRuntime)?;
    let target = options::check(&options)?;
    let (inputs, commands) = mpsc::unbounded_channel();
    let (sender, events) = mpsc::unbounded_channel();
    runtime.spawn(task::run(options.client, options.token_source, target, commands, sender));
    Ok((Handle { inputs }, Events { events }))
}

/// Makes a secret for this process, with random numbers of the operating system. Make it once, and use it for all
/// connections of the process that may take over each other's id.
///
/// # Panics
///
/// If the operating system provides no random numbers. No supported system fails to.
pub fn new_instance() -> Instance {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    Instance::from_random(bytes)
}

impl Handle {
    /// Sends `signal` to a peer. Frames that the socket can't take yet are queued without a limit, and discarded if the
    /// connection ends. The signal is dropped if the client is not in its room.
    pub fn send(&self, signal: wire::Signal) {
        self.input(Input::Send(signal));
    }

    /// Reports the state of the media session with a peer. `session` is `None` only if the offer named none.
    pub fn media(&self, peer: &ClientId, session: Option<&SessionId>, media: Media) {
        self.input(Input::Media { peer: peer.clone(), session: session.cloned(), media });
    }

    /// Sets a new token, which the client uses from here on. In the room, it extends the client's stay.
    pub fn set_token(&self, token: &str) {
        self.input(Input::Token(Secret::new(token)));
    }

    /// Sends `bye` and `leave`, and closes the connection. [`Events::recv`] returns `None` when that is done, within about
    /// a second.
    pub fn shutdown(&self) {
        self.input(Input::Shutdown);
    }

    fn input(&self, input: Input) {
        // An error means that the task has ended. A closed client ignores all inputs.
        let _ = self.inputs.send(input);
    }
}

impl Events {
    /// The next event; `None` once the client has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, if one is queued.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}
