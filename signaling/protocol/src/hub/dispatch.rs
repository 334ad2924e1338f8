//! From a text frame to its effect, or to an error (rules 1 and 13).

use super::{
    ConnId, Event, Hub, Output, after,
    request::{self, Refusal},
    rights::{Auth, Claim, Pass},
    say::Say,
    session::{On, Place, Registered, Session, Stage},
};
use crate::{
    id::ClientId,
    scan::Envelope,
    wire::{ErrorCode, LeftReason, PROTOCOL, close},
};
use bytestring::ByteString;
use std::time::Instant;

/// How many bad messages in a row end a connection (rule 13).
const MAX_BAD: u8 = 10;

impl Hub {
    /// Reads a text frame.
    pub(super) fn read(&mut self, now: Instant, conn: ConnId, text: ByteString) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.waiting.is_some() {
            // The shell was told not to read. An error is better than a message that vanishes.
            return self.refuse(conn, Refusal::bad("wait for the answer to your last request"));
        }
        let had_bad = session.bad > 0;
        let done = match Envelope::scan(&text) {
            Ok(envelope) => {
                self.counts.message(&envelope.kind);
                self.message(now, conn, &text, &envelope).map_err(|refusal| refusal.of(&envelope.kind))
            }
            Err(bad) => {
                self.counts.bad();
                Err(Refusal::bad(bad.to_string()))
            }
        };
        match done {
            Ok(()) if had_bad => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.bad = 0;
                }
            }
            Ok(()) => {}
            Err(refusal) => self.refuse(conn, refusal),
        }
    }

    fn message(
        &mut self,
        now: Instant,
        conn: ConnId,
        text: &ByteString,
        envelope: &Envelope<'_>,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(()) };
        let registered = match &session.stage {
            Stage::New(_) if envelope.kind == "register" => return self.register(now, conn, text),
            Stage::New(_) => return Err(Refusal::new(ErrorCode::NotRegistered, "register first")),
            Stage::Registered(registered) => registered,
        };
        match &*envelope.kind {
            "register" => Err(Refusal::new(ErrorCode::AlreadyRegistered, "registered already")),
            "join" => {
                let default_room = self.default_room(conn).filter(|_| registered.protocol == 0);
                let join = request::join(text, default_room.as_ref());
                self.joins_by_itself(conn);
                self.join(now, conn, join?)
            }
            "leave" => {
                if !self.leave(conn, LeftReason::Left) {
                    return Err(Refusal::new(ErrorCode::NotJoined, "in no room"));
                }
                self.outputs.push_back(Output::Send(conn, Say::Left.text()));
                Ok(())
            }
            "peers" => {
                let Place::In(room_id) = &registered.place else {
                    return Err(Refusal::new(ErrorCode::NotJoined, "in no room"));
                };
                let max_bytes = self.config.max_peers_bytes;
                let room = self.rooms.get(room_id);
                let peers = room.map(|room| room.peers_of(&registered.client_id, max_bytes));
                let text = Say::Peers(peers.unwrap_or_default()).text();
                self.outputs.push_back(Output::Send(conn, text));
                Ok(())
            }
            "ping" => {
                self.outputs.push_back(Output::Send(conn, envelope.with_kind("pong")));
                Ok(())
            }
            kind if is_ours(kind) => {
                Err(Refusal::new(ErrorCode::ForbiddenType, "this type is reserved for the server"))
            }
            _ => self.relay(now, conn, text, envelope),
        }
    }

    fn register(&mut self, now: Instant, conn: ConnId, text: &str) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::new(ErrorCode::ServerDraining, "the server is going away"));
        }
        let register = request::register(text)?;
        if self.config.auth == Auth::None {
            return self.admit(now, conn, register, None);
        }
        let words = "this server needs a token with `register`";
        let token = register.token.clone().ok_or(Refusal::new(ErrorCode::Unauthorized, words))?;
        self.verify(now, conn, Claim::Token(token), On::Register(register))
    }

    /// The last step of a `register`: the client has an id.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        conn: ConnId,
        register: request::Register,
        pass: Option<Box<Pass>>,
    ) -> Result<(), Refusal> {
        let request::Register { client_id, protocol, process, token: _ } = register;
        let pinned = pass.as_ref().and_then(|pass| pass.grant.client_id.clone());
        let client_id = match client_id.or(pinned) {
            Some(client_id) => client_id,
            None => self.make_id()?,
        };
        let user = pass.as_ref().map(|pass| pass.grant.user.clone());
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        let place = if protocol == 0 && self.config.default_room.is_some() {
            Place::Automatic(Some(after(now, self.config.default_room_delay)))
        } else {
            Place::Nowhere
        };
        let text = Say::Registered {
            client_id: &client_id,
            protocol: PROTOCOL,
            server: &self.config.server,
            heartbeat_s: self.config.heartbeat.as_secs(),
        }
        .text();
        let token_id = pass.as_ref().and_then(|pass| pass.grant.id.clone());
        let event = Event::Registered { client_id: client_id.clone(), protocol, user, token_id };
        let registered = Registered { client_id, protocol, process, place, pass };
        session.stage = Stage::Registered(Box::new(registered));
        self.outputs.extend([Output::Send(conn, text), Output::Event(conn, event)]);
        self.schedule(now, conn);
        Ok(())
    }

    /// An id for a client that brings none.
    fn make_id(&mut self) -> Result<ClientId, Refusal> {
        ClientId::new(format!("client-{:016x}", self.draw()))
            .map_err(|error| Refusal::new(ErrorCode::InvalidId, error.to_string()))
    }

    /// An old client that sends a `join` is no longer joined by rule 11, even if that join fails.
    fn joins_by_itself(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(Session::registered_mut);
        if let Some(registered) = registered
            && matches!(registered.place, Place::Automatic(_))
        {
            registered.place = Place::Nowhere;
        }
    }

    /// Answers with an error, and closes the connection if that error is fatal.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Refusal { code, message, request, target_id } = refusal;
        self.counts.error(code);
        session.bad = if code == ErrorCode::BadMessage { session.bad.saturating_add(1) } else { 0 };
        let too_bad = session.bad >= MAX_BAD;
        let (request, target_id) = (request.as_deref(), target_id.as_deref());
        let text = Say::Error { code, message: &message, request, target_id }.text();
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

/// Whether a type is reserved for the server (rule 13). `peers` is a request as well as an answer.
fn is_ours(kind: &str) -> bool {
    kind.starts_with("server.")
        || matches!(
            kind,
            "registered" | "joined" | "left" | "peer_joined" | "peer_left" | "pong" | "draining" | "error"
        )
}
