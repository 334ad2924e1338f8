//! What a text frame leads to, and how a client is told that it leads to nothing (rules 1 and 13).

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
    /// Reads a text frame, now or when it is clear in which room.
    pub(super) fn read(&mut self, now: Instant, conn: ConnId, text: ByteString) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(waiting) = &mut session.waiting {
            if !waiting.defer(text) {
                let words = "wait for the answer to your last request";
                self.refuse(conn, Refusal::new(ErrorCode::NotJoined, words));
            }
            return;
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
        match (&session.stage, &*envelope.kind) {
            (Stage::New(_), "register") => self.register(now, conn, text),
            (Stage::New(_), _) => Err(Refusal::new(ErrorCode::NotRegistered, "register first")),
            (Stage::Registered(_), "register") => {
                Err(Refusal::new(ErrorCode::AlreadyRegistered, "registered already"))
            }
            (Stage::Registered(registered), "join") => {
                let default_room = self.config.default_room.as_ref().filter(|_| registered.protocol == 0);
                let join = request::join(text, default_room);
                self.joins_by_itself(conn);
                let join = join?;
                self.join(now, conn, join)
            }
            (_, "leave") => {
                if !self.leave(conn, LeftReason::Left) {
                    return Err(Refusal::new(ErrorCode::NotJoined, "in no room"));
                }
                self.outputs.push_back(Output::Send(conn, Say::Left.text()));
                Ok(())
            }
            (Stage::Registered(registered), "peers") => {
                let Place::In(room_id) = &registered.place else {
                    return Err(Refusal::new(ErrorCode::NotJoined, "in no room"));
                };
                let peers = self.rooms.get(room_id).map(|room| room.peers_of(&registered.client_id));
                let text = Say::Peers(peers.unwrap_or_default()).text();
                self.outputs.push_back(Output::Send(conn, text));
                Ok(())
            }
            (_, "ping") => {
                self.outputs.push_back(Output::Send(conn, envelope.with_kind("pong")));
                Ok(())
            }
            (_, kind) if is_ours(kind) => {
                Err(Refusal::new(ErrorCode::ForbiddenType, "only the server says this"))
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
        let words = "this server wants a token with `register`";
        let token = register.token.clone().ok_or(Refusal::new(ErrorCode::Unauthorized, words))?;
        self.verify(now, conn, Claim::Token(token), On::Register(register))
    }

    /// Nothing stands in the way: the client has a name.
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
        let event = Event::Registered { client_id: client_id.clone(), protocol, user };
        let registered = Registered { client_id, protocol, process, place, pass };
        session.stage = Stage::Registered(Box::new(registered));
        self.outputs.extend([Output::Send(conn, text), Output::Event(conn, event)]);
        self.schedule(conn);
        Ok(())
    }

    /// A name for a client that brings none.
    fn make_id(&mut self) -> Result<ClientId, Refusal> {
        ClientId::new(format!("client-{:016x}", self.draw()))
            .map_err(|error| Refusal::new(ErrorCode::InvalidId, error.to_string()))
    }

    /// An old client that joins is not joined by rule 11 any more, whatever comes of it.
    fn joins_by_itself(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(Session::registered_mut);
        if let Some(registered) = registered
            && matches!(registered.place, Place::Automatic(_))
        {
            registered.place = Place::Nowhere;
        }
    }

    /// Answers with an error, and closes where the error says so.
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

/// The words that only the server says (rule 13). `peers` is a request from a client, and an answer from here.
fn is_ours(kind: &str) -> bool {
    kind.starts_with("server.")
        || matches!(
            kind,
            "registered" | "joined" | "left" | "peer_joined" | "peer_left" | "pong" | "draining" | "error"
        )
}
