//! The errors that the Hub sends to a client, and which of them close the connection.
//!
//! A new error code is added to [`ErrorCode`] in `wire.rs`, to [`Hub::refuse`] if it closes the connection, to
//! `client/failure.rs` if a client has to give up because of it, and to the table in `docs/protocol.md`.

use super::{ConnId, Event, Hub, Output, message::Message};
use crate::{
    id::IdError,
    wire::{ErrorCode, LeftReason, close},
};
use std::borrow::Cow;

/// How many bad messages in a row close a connection (rule 13).
const MAX_BAD: u8 = 10;
/// How many bytes of a client's own text an `error` repeats.
const MAX_ECHO: usize = 128;
/// The longest message of an `error`, in bytes: parsers quote the text that they can't read.
const MAX_MESSAGE: usize = 256;

/// Why a request was not granted.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    message: Cow<'static, str>,
    /// The type of the refused message.
    request: Option<String>,
    target_id: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message = format!("{}…", cut(&message, MAX_MESSAGE)).into();
        }
        Self { code, message, request: None, target_id: None }
    }

    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadMessage, message)
    }

    pub(super) fn forbidden(message: &'static str) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    pub(super) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    pub(super) fn token_expired() -> Self {
        Self::unauthorized("the token has expired")
    }

    pub(super) fn draining() -> Self {
        Self::new(ErrorCode::ServerDraining, "the server is shutting down")
    }

    pub(super) fn in_no_room() -> Self {
        Self::new(ErrorCode::NotJoined, "this client is in no room: join one first")
    }

    /// The id of a join belongs to a client that is connected.
    pub(super) fn id_taken() -> Self {
        Self::new(ErrorCode::ClientIdTaken, "another client in this room has this id and is connected")
    }

    pub(super) fn invalid_id(field: &str, error: IdError) -> Self {
        Self::new(ErrorCode::InvalidId, format!("{field}: {error}"))
    }

    /// Names the type of the refused message, unless it is named already.
    pub(super) fn of(mut self, request: &str) -> Self {
        self.request.get_or_insert_with(|| echo(request));
        self
    }

    pub(super) fn target(mut self, target_id: &str) -> Self {
        self.target_id = Some(echo(target_id));
        self
    }
}

fn echo(text: &str) -> String {
    cut(text, MAX_ECHO).into()
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl Hub {
    /// Sends an error, and closes the connection if that error is fatal.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Refusal { code, message, request, target_id } = refusal;
        self.counts.error(code);
        session.bad = if code == ErrorCode::BadMessage { session.bad.saturating_add(1) } else { 0 };
        let too_bad = session.bad >= MAX_BAD;
        let (request, target_id) = (request.as_deref(), target_id.as_deref());
        let text = Message::Error { code, message: &message, request, target_id }.text();
        self.outputs.extend([Output::Send(conn, text), Output::Event(conn, Event::Refused { code })]);
        let (close, reason) = match code {
            ErrorCode::NotRegistered => (close::NOT_REGISTERED, "not registered"),
            ErrorCode::ClientIdTaken => (close::CLIENT_ID_TAKEN, "client id taken"),
            ErrorCode::SlowConsumer => (close::SLOW_CONSUMER, "slow consumer"),
            ErrorCode::ServerDraining => (close::SERVICE_RESTART, "going away"),
            ErrorCode::Unauthorized => (close::UNAUTHORIZED, "unauthorized"),
            ErrorCode::BadMessage if too_bad => (close::BAD_MESSAGES, "too many bad messages"),
            _ => return,
        };
        let left =
            if code == ErrorCode::Unauthorized { LeftReason::Kicked } else { LeftReason::Disconnected };
        self.close(conn, close, reason, left);
    }
}
