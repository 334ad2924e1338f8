//! The task that owns the socket and the clock: it passes inputs to the [`Client`] and performs its outputs.

use crate::{
    TokenSource,
    connect::{ConnectError, connect},
    options::Target,
    socket::Socket,
};
use room_protocol::{
    client::{Client, ClientConfig, Event, Input, Output, State},
    hub::Secret,
};
use std::{future::Future, pin::Pin, sync::Arc, time::Instant};
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};
use tracing::{debug, info, warn};

/// An attempt to connect.
type Attempt = Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send>>;

/// An open connection, with the new token for it if there is a token source.
struct Opened {
    socket: Socket,
    token: Option<Secret>,
}

/// The transport to the server, if there is one.
enum Transport {
    None,
    Opening(Attempt),
    Open(Box<Socket>),
}

struct Task {
    target: Target,
    token_source: Option<Arc<dyn TokenSource>>,
    /// The token that the client has to get before the next input.
    token: Option<Secret>,
    transport: Transport,
    /// Sockets that are being closed.
    closing: JoinSet<()>,
    events: mpsc::UnboundedSender<Event>,
}

/// Runs until the client is closed and its last messages are sent.
pub(crate) async fn run(
    mut config: ClientConfig,
    token_source: Option<Arc<dyn TokenSource>>,
    target: Target,
    mut commands: mpsc::UnboundedReceiver<Input>,
    events: mpsc::UnboundedSender<Event>,
) {
    info!(uri = %target.uri, room = ?config.room, role = ?config.role, "the client starts");
    config.token_renews |= token_source.is_some();
    let mut client = Client::new(config, getrandom::u64().unwrap_or_default(), Instant::now());
    let mut task = Task {
        target,
        token_source,
        token: None,
        transport: Transport::None,
        closing: JoinSet::new(),
        events,
    };
    loop {
        while let Some(output) = client.poll_output() {
            task.perform(output);
        }
        if client.state() == State::Closed {
            break;
        }
        let deadline = client.poll_timeout();
        tokio::select! {
            command = commands.recv() => client.handle(Instant::now(), command.unwrap_or(Input::Shutdown)),
            input = task.next() => {
                if let Some(token) = task.token.take() {
                    client.handle(Instant::now(), Input::Token(token));
                }
                client.handle(Instant::now(), input);
            }
            () = until(deadline) => client.handle_timeout(Instant::now()),
        }
        while task.closing.try_join_next().is_some() {}
    }
    while task.closing.join_next().await.is_some() {}
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Task {
    fn perform(&mut self, output: Output) {
        match (output, &mut self.transport) {
            (Output::Connect, _) => self.transport = Transport::Opening(self.attempt()),
            (Output::Send(frame), Transport::Open(socket)) => socket.send(frame),
            (Output::Ping, Transport::Open(socket)) => socket.ping(),
            (Output::Send(_) | Output::Ping, _) => {}
            (Output::Disconnect, Transport::Opening(_)) => self.transport = Transport::None,
            (Output::Disconnect, _) => self.close(),
            (Output::Event(event), _) => self.emit(event),
        }
    }

    fn attempt(&self) -> Attempt {
        let (target, source) = (self.target.clone(), self.token_source.clone());
        Box::pin(async move {
            let token = match source {
                None => None,
                Some(source) => match source.token().await {
                    Ok(token) => Some(Secret::new(token)),
                    Err(reason) => {
                        return Err(ConnectError::Later(format!(
                            "the token source returned no token: {reason}"
                        )));
                    }
                },
            };
            connect(target).await.map(|socket| Opened { socket, token })
        })
    }

    /// Waits for the next input from the network. Cancel safe.
    async fn next(&mut self) -> Input {
        match &mut self.transport {
            Transport::None => std::future::pending().await,
            Transport::Opening(attempt) => {
                let opened = attempt.await;
                self.transport = Transport::None;
                self.opened(opened)
            }
            Transport::Open(socket) => {
                let input = socket.next().await;
                if let Input::Disconnected(code) = input {
                    debug!(?code, "the connection ended");
                    self.close();
                }
                input
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, ConnectError>) -> Input {
        match opened {
            Ok(Opened { socket, token }) => {
                self.token = token;
                self.transport = Transport::Open(Box::new(socket));
                Input::Connected
            }
            Err(ConnectError::Later(reason)) => Input::Unreachable(reason),
            Err(ConnectError::Misconfigured(reason)) => Input::Misconfigured(reason),
        }
    }

    /// Closes the socket in the background, because a dead connection must not delay the next one.
    fn close(&mut self) {
        if let Transport::Open(socket) = std::mem::replace(&mut self.transport, Transport::None) {
            self.closing.spawn(socket.close());
        }
    }

    fn emit(&mut self, event: Event) {
        match &event {
            Event::State(state) => info!(?state, uri = %self.target.uri, "client state changed"),
            Event::Disconnected(reason) => {
                info!(uri = %self.target.uri, %reason, "the connection to the server is lost");
            }
            Event::Unreachable(reason) => {
                warn!(uri = %self.target.uri, %reason, "the server can't be reached");
            }
            Event::Failed(failure) => warn!(%failure, "the client gives up"),
            Event::Refused { code, message, request, target_id } => {
                warn!(?code, ?message, ?request, ?target_id, "the server refuses a message");
            }
            Event::PeerReady(peer) => debug!(peer = ?peer.client_id, "a peer needs a session"),
            Event::PeerGone(peer, reason) => debug!(?peer, ?reason, "a session has to end"),
            Event::Joined { .. } | Event::PeerChanged(_) | Event::Signal(_) => {}
        }
        // An error means that the application has dropped its events.
        let _ = self.events.send(event);
    }
}
