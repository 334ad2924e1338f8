//! An async client of room signaling: one task that owns the WebSocket and drives [`room_protocol::Client`],
//! reconnecting for ever.
//!
//! What is said when, what a reconnect keeps and when to try again is all decided in [`room_protocol::client`]; here
//! are sockets, TLS, the clock and random numbers.
//!
//! What happens is told to `tracing`, without tokens, passwords and instances. The WebSocket library logs whole frames
//! at trace level: keep the targets `tungstenite` and `tokio_tungstenite` above that.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use room_signaling_client::{ClientConfig, Event, Options, new_instance, protocol::RoomId, wire::Role};
//!
//! let config = ClientConfig::new(RoomId::new("living_room")?, Role::Receiver, new_instance());
//! let (handle, mut events) = room_signaling_client::spawn(Options::new("ws://127.0.0.1:8765", config))?;
//! while let Some(event) = events.recv().await {
//!     if let Event::PeerReady(peer) = event {
//!         println!("{} is there", peer.client_id);
//!         handle.shutdown();
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod connect;
mod options;
mod socket;
mod task;

pub use options::{Options, OptionsError, TokenSource};
pub use room_protocol::{self as protocol, client::*, wire};

use protocol::{ClientId, Instance, SessionId, hub::Secret};
use tokio::sync::mpsc;

/// Speaks to the task. Cheap to clone; when the last one is dropped, the client shuts down.
#[derive(Debug, Clone)]
pub struct Handle {
    inputs: mpsc::UnboundedSender<Input>,
}

/// What the task says, in order. The task goes on when this is dropped.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<Event>,
}

/// Checks `options` and starts the task on the current tokio runtime, which needs its I/O and time drivers.
///
/// Reads the certificate files when TLS is wanted: some milliseconds. Everything that can be known to be wrong without
/// the network is an error here; what the network shows to be wrong is [`Event::Failed`].
pub fn spawn(options: Options) -> Result<(Handle, Events), OptionsError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| OptionsError::NoRuntime)?;
    let target = options::check(&options)?;
    let (inputs, commands) = mpsc::unbounded_channel();
    let (teller, events) = mpsc::unbounded_channel();
    runtime.spawn(task::run(options.client, options.token_source, target, commands, teller));
    Ok((Handle { inputs }, Events { events }))
}

/// The secret of this process, from the randomness of the operating system. Make it once and keep it for all clients
/// of the process that must not disturb each other's ids.
///
/// # Panics
///
/// If the operating system has no random numbers to give, which none that is supported does.
pub fn new_instance() -> Instance {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    Instance::from_random(bytes)
}

impl Handle {
    /// Says `signal` to a peer. Never waits: what the socket can't take yet is queued without a limit of its own, and
    /// thrown away with the connection. Dropped when not in the room.
    pub fn send(&self, signal: wire::Signal) {
        self.input(Input::Send(signal));
    }

    /// Reports the state of the media session with a peer. `session` is `None` only where the offer named none. Never
    /// waits.
    pub fn media(&self, peer: &ClientId, session: Option<&SessionId>, media: Media) {
        self.input(Input::Media { peer: peer.clone(), session: session.cloned(), media });
    }

    /// Gives a fresh token: in the room it lets the client stay for longer, and from here on it is the one that is
    /// used. Never waits.
    pub fn set_token(&self, token: &str) {
        self.input(Input::Token(Secret::new(token)));
    }

    /// Says goodbye and closes. [`Events::recv`] ends when that is done; bound the wait yourself. Never waits.
    pub fn shutdown(&self) {
        self.input(Input::Shutdown);
    }

    fn input(&self, input: Input) {
        // The task is gone only when the client is closed, and then nothing has an effect.
        let _ = self.inputs.send(input);
    }
}

impl Events {
    /// The next event; `None` once the client has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}
