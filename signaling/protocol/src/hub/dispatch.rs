//! From a text frame to its effect, or to an error (rules 1 and 13). This file lists all message types that the server
//! itself handles; all others are relayed.

use super::{
    ConnId, Event, Hub, Output, after,
    message::Message,
    refusal::Refusal,
    request::{self, Register},
    rights::{Auth, Claim, Pass},
    session::{Awaits, Place, Registered, Registration},
};
use crate::{
    id::ClientId,
    scan::Envelope,
    wire::{ErrorCode, LeftReason, PROTOCOL},
};
use bytestring::ByteString;
use std::time::Instant;

impl Hub {
    /// Reads a text frame.
    pub(super) fn read(&mut self, now: Instant, conn: ConnId, text: ByteString) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.pending.is_some() {
            // The shell was asked not to read. An error is better than a message that vanishes.
            return self.refuse(conn, Refusal::bad("wait for the answer to your last request"));
        }
        let had_bad = session.bad > 0;
        let result = match Envelope::scan(&text) {
            Ok(envelope) => {
                self.counts.message(&envelope.kind);
                self.message(now, conn, &text, &envelope).map_err(|refusal| refusal.of(&envelope.kind))
            }
            Err(error) => {
                self.counts.bad();
                Err(Refusal::bad(error.to_string()))
            }
        };
        match result {
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
        let registered = match &session.registration {
            Registration::Missing(_) if envelope.kind == "register" => return self.register(now, conn, text),
            Registration::Missing(_) => {
                return Err(Refusal::new(ErrorCode::NotRegistered, "the first message must be `register`"));
            }
            Registration::Done(registered) => registered,
        };
        match &*envelope.kind {
            "register" => {
                let message = "this connection has registered already";
                Err(Refusal::new(ErrorCode::AlreadyRegistered, message))
            }
            "join" => {
                let default_room = self.default_room(conn).filter(|_| registered.protocol == 0);
                let join = request::join(text, default_room.as_ref());
                self.cancel_automatic_join(conn);
                self.join(now, conn, join?)
            }
            "leave" => {
                if !self.leave(conn, LeftReason::Left) {
                    return Err(Refusal::in_no_room());
                }
                self.outputs.push_back(Output::Send(conn, Message::Left.text()));
                Ok(())
            }
            "peers" => {
                let room_id = registered.room_id().ok_or_else(Refusal::in_no_room)?;
                let max_bytes = self.config.max_peers_bytes;
                let room = self.rooms.get(room_id);
                let peers = room.map(|room| room.peers_of(&registered.client_id, max_bytes));
                let text = Message::Peers(peers.unwrap_or_default()).text();
                self.outputs.push_back(Output::Send(conn, text));
                Ok(())
            }
            "ping" => {
                self.outputs.push_back(Output::Send(conn, envelope.with_kind("pong")));
                Ok(())
            }
            kind if is_reserved(kind) => {
                Err(Refusal::new(ErrorCode::ForbiddenType, "this type is reserved for the server"))
            }
            _ => self.relay(now, conn, text, envelope),
        }
    }

    fn register(&mut self, now: Instant, conn: ConnId, text: &str) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::draining());
        }
        let register = request::register(text)?;
        if self.config.auth == Auth::None {
            return self.complete_register(now, conn, register, None);
        }
        let missing = Refusal::unauthorized("this server requires a token with `register`");
        let token = register.token.clone().ok_or(missing)?;
        self.verify(now, conn, Claim::Token(token), Awaits::RegisterToken(register))
    }

    /// The last step of a `register`: gives the client its id.
    pub(super) fn complete_register(
        &mut self,
        now: Instant,
        conn: ConnId,
        register: Register,
        pass: Option<Box<Pass>>,
    ) -> Result<(), Refusal> {
        let Register { client_id, protocol, process, token: _ } = register;
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
        let text = Message::Registered {
            client_id: &client_id,
            protocol: PROTOCOL,
            server: &self.config.server,
            heartbeat_s: self.config.heartbeat.as_secs(),
        }
        .text();
        let token_id = pass.as_ref().and_then(|pass| pass.grant.id.clone());
        let event = Event::Registered { client_id: client_id.clone(), protocol, user, token_id };
        let registered = Registered { client_id, protocol, process, place, pass };
        session.registration = Registration::Done(Box::new(registered));
        self.outputs.extend([Output::Send(conn, text), Output::Event(conn, event)]);
        self.schedule(now, conn);
        Ok(())
    }

    /// An id for a client that brings none.
    fn make_id(&mut self) -> Result<ClientId, Refusal> {
        ClientId::new(format!("client-{:016x}", self.draw()))
            .map_err(|error| Refusal::invalid_id("client_id", error))
    }
}

/// Whether a type is reserved for the server (rule 13). `peers` is a request as well as an answer.
fn is_reserved(kind: &str) -> bool {
    kind.starts_with("server.")
        || matches!(
            kind,
            "registered" | "joined" | "left" | "peer_joined" | "peer_left" | "pong" | "draining" | "error"
        )
}
