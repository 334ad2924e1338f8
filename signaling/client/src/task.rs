//! The task that owns the socket and the clock, and drives the Client.

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

type Attempt = Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send>>;

/// A way to the server, and a fresh token for it where somebody makes such.
struct Opened {
    socket: Socket,
    token: Option<Secret>,
}

/// The way to the server, as far as there is one.
enum Link {
    None,
    Opening(Attempt),
    Open(Box<Socket>),
}

struct Task {
    target: Target,
    token_source: Option<Arc<dyn TokenSource>>,
    /// To be told to the client before anything else.
    token: Option<Secret>,
    link: Link,
    /// Sockets that are saying goodbye.
    leaving: JoinSet<()>,
    events: mpsc::UnboundedSender<Event>,
}

/// Runs until the client is closed and its goodbye is said.
pub(crate) async fn run(
    mut config: ClientConfig,
    token_source: Option<Arc<dyn TokenSource>>,
    target: Target,
    mut commands: mpsc::UnboundedReceiver<Input>,
    events: mpsc::UnboundedSender<Event>,
) {
    info!(uri = %target.uri, room = ?config.room, role = ?config.role, "signaling starts");
    config.token_renews |= token_source.is_some();
    let mut client = Client::new(config, getrandom::u64().unwrap_or_default(), Instant::now());
    let mut task =
        Task { target, token_source, token: None, link: Link::None, leaving: JoinSet::new(), events };
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
        while task.leaving.try_join_next().is_some() {}
    }
    while task.leaving.join_next().await.is_some() {}
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Task {
    fn perform(&mut self, output: Output) {
        match (output, &mut self.link) {
            (Output::Connect, _) => self.link = Link::Opening(self.attempt()),
            (Output::Send(frame), Link::Open(socket)) => socket.send(frame),
            (Output::Ping, Link::Open(socket)) => socket.ping(),
            (Output::Send(_) | Output::Ping, _) => {}
            (Output::Disconnect, Link::Opening(_)) => self.link = Link::None,
            (Output::Disconnect, _) => self.say_goodbye(),
            (Output::Event(event), _) => self.tell(event),
        }
    }

    fn attempt(&self) -> Attempt {
        let (target, source) = (self.target.clone(), self.token_source.clone());
        Box::pin(async move {
            let token = match source {
                None => None,
                Some(source) => match source.token().await {
                    Ok(token) => Some(Secret::new(token)),
                    Err(words) => return Err(ConnectError::Later(format!("there is no token: {words}"))),
                },
            };
            connect(target).await.map(|socket| Opened { socket, token })
        })
    }

    /// What the socket has to say. Cancel safe.
    async fn next(&mut self) -> Input {
        match &mut self.link {
            Link::None => std::future::pending().await,
            Link::Opening(attempt) => {
                let opened = attempt.await;
                self.link = Link::None;
                self.opened(opened)
            }
            Link::Open(socket) => {
                let input = socket.next().await;
                if let Input::Disconnected(code) = input {
                    debug!(?code, "the connection ended");
                    self.say_goodbye();
                }
                input
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, ConnectError>) -> Input {
        match opened {
            Ok(Opened { socket, token }) => {
                self.token = token;
                self.link = Link::Open(Box::new(socket));
                Input::Connected
            }
            Err(ConnectError::Later(reason)) => Input::Unreachable(reason),
            Err(ConnectError::Misconfigured(reason)) => Input::Misconfigured(reason),
        }
    }

    /// In the background: a dead connection must not delay the next one.
    fn say_goodbye(&mut self) {
        if let Link::Open(socket) = std::mem::replace(&mut self.link, Link::None) {
            self.leaving.spawn(socket.close());
        }
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::State(state) => info!(?state, uri = %self.target.uri, "signaling"),
            Event::Disconnected(reason) => {
                info!(uri = %self.target.uri, %reason, "the connection to the server is lost");
            }
            Event::Unreachable(reason) => {
                warn!(uri = %self.target.uri, %reason, "the server can't be reached");
            }
            Event::Failed(failure) => warn!(%failure, "signaling failed"),
            Event::Refused { code, message, request, target_id } => {
                warn!(?code, ?message, ?request, ?target_id, "the server refuses");
            }
            Event::PeerReady(peer) => debug!(peer = ?peer.client_id, "peer ready"),
            Event::PeerGone(peer, reason) => debug!(?peer, ?reason, "peer gone"),
            Event::Joined { .. } | Event::PeerChanged(_) | Event::Signal(_) => {}
        }
        // Whoever doesn't listen any more doesn't want to know.
        let _ = self.events.send(event);
    }
}
