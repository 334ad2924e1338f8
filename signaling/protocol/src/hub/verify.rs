//! Which proof a request needs, and the effect of the verdict on it. The shell verifies signatures and hashes; `rights.rs`
//! defines what a token grants.

use super::{
    ConnId, Hub, Output,
    refusal::Refusal,
    request::{Join, Register},
    rights::{Auth, Claim, Grant, Pass, PasswordHash, Secret, Verdict},
    session::{Awaits, PendingRequest},
};
use crate::{
    id::UserId,
    wire::{ErrorCode, LeftReason, close},
};
use bytestring::ByteString;
use std::time::Instant;

/// How many `forbidden` answers to `register` a connection may get. Each costs a signature to verify.
const MAX_FORBIDDEN: u8 = 3;

/// The result of checking a part of a join.
pub(super) enum Check<T, C = Claim> {
    /// The part is sound.
    Done(T),
    /// This claim has to be verified first.
    Verify(C),
}

/// What a token permits, on a server that requires tokens.
#[derive(Default)]
pub(super) struct Permit {
    /// The user of the token.
    pub(super) user: Option<UserId>,
    /// Whether the token names the client's id, which reserves that id for its user.
    pub(super) owns_id: bool,
}

impl Hub {
    /// Whether a token grants a join.
    pub(super) fn check_rights(
        &self,
        now: Instant,
        conn: ConnId,
        join: &Join,
    ) -> Result<Check<Permit>, Refusal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(Check::Done(Permit::default())) };
        if session.room.as_ref().is_some_and(|room_id| *room_id != join.room_id) {
            return Err(Refusal::forbidden("the URL of this connection names another room"));
        }
        let Some(registered) = session.registered() else { return Ok(Check::Done(Permit::default())) };
        let client_id = &registered.client_id;
        self.removals.check(now, &join.room_id, client_id).map_err(Refusal::forbidden)?;
        if self.config.auth == Auth::None {
            return Ok(Check::Done(Permit::default()));
        }
        let own = registered.pass.as_ref().ok_or(Refusal::unauthorized("this server requires a token"))?;
        let fresh = join.proof.pass.as_ref();
        if let Some(token) = &join.proof.token
            && fresh.is_none()
            && !own.is_of(token)
        {
            return Ok(Check::Verify(Claim::Token(token.clone())));
        }
        // The client may have waited since the token was verified; keys and the clock may have changed meanwhile.
        let grant = &fresh.unwrap_or(own).grant;
        if grant.until <= self.wall_clock.unix(now) {
            return Err(Refusal::token_expired());
        }
        self.accepts(grant).map_err(Refusal::unauthorized)?;
        if own.grant.user != grant.user {
            return Err(Refusal::forbidden("the token belongs to another user than the token of `register`"));
        }
        grant.check(client_id, &join.room_id, join.role).map_err(Refusal::forbidden)?;
        let owns_id = grant.client_id.as_ref() == Some(client_id);
        Ok(Check::Done(Permit { user: Some(grant.user.clone()), owns_id }))
    }

    /// Whether a join has shown that it knows the password of the room.
    pub(super) fn check_password(
        &self,
        conn: ConnId,
        join: &Join,
    ) -> Result<Check<Option<PasswordHash>, (PasswordHash, Claim)>, Refusal> {
        let Some(hash) = self.rules.password_of(&join.room_id) else { return Ok(Check::Done(None)) };
        if join.proof.passed.as_ref() == Some(hash) || self.has_passed(conn, join, hash) {
            return Ok(Check::Done(Some(hash.clone())));
        }
        let password = join.proof.password.clone();
        let password = password.ok_or(Refusal::forbidden("the room requires a password"))?;
        Ok(Check::Verify((hash.clone(), Claim::Password { hash: hash.clone(), password })))
    }

    /// Whether the connection is in that room already, with this password.
    fn has_passed(&self, conn: ConnId, join: &Join, hash: &PasswordHash) -> bool {
        let registered = self.sessions.get(&conn).and_then(|session| session.registered());
        let member = registered.zip(self.rooms.get(&join.room_id));
        let member = member.and_then(|(registered, room)| room.member(registered.client_id.as_str()));
        member.is_some_and(|member| member.conn == conn && member.passed.as_ref() == Some(hash))
    }

    /// Has a claim verified. The request that brought it waits for the verdict.
    pub(super) fn verify(
        &mut self,
        now: Instant,
        conn: ConnId,
        claim: Claim,
        awaits: Awaits,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(()) };
        if let Awaits::JoinPassword(hash, _) = &awaits
            && !self.attempts.begin(now, conn, session.ip, hash)
        {
            let message =
                "too many wrong passwords from your network: wait 12 seconds for each further attempt";
            return Err(Refusal::new(ErrorCode::TooManyAttempts, message));
        }
        self.hold(conn, awaits);
        self.outputs.push_back(Output::Verify(conn, claim));
        Ok(())
    }

    /// Makes the request of a connection wait, and holds the connection.
    pub(super) fn hold(&mut self, conn: ConnId, awaits: Awaits) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.pending = Some(Box::new(PendingRequest { awaits, then: None }));
        if !std::mem::replace(&mut session.held, true) {
            self.outputs.push_back(Output::Hold(conn));
        }
    }

    /// Continues the request that waited for a verdict.
    pub(super) fn verified(&mut self, now: Instant, conn: ConnId, verdict: Verdict) {
        self.attempts.end(now, conn, matches!(verdict, Verdict::Refused(_)));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pending = session.pending.take_if(|pending| !matches!(pending.awaits, Awaits::Holder(..)));
        let Some(PendingRequest { awaits, then }) = pending.map(|pending| *pending) else { return };
        let (request, result) = match awaits {
            Awaits::RegisterToken(register) => {
                ("register", self.register_verified(now, conn, register, verdict))
            }
            Awaits::JoinToken(join) => ("join", self.token_verified(now, conn, join, verdict)),
            Awaits::JoinPassword(hash, join) => {
                ("join", self.password_verified(now, conn, hash, join, verdict))
            }
            Awaits::Holder(..) => return,
        };
        let is_forbidden = matches!(&result, Err(refusal) if refusal.code == ErrorCode::Forbidden);
        self.resume(now, conn, request, result, then);
        if request == "register" && is_forbidden {
            self.count_forbidden(conn);
        }
    }

    /// Finishes a request that waited: sends its error, or reads the message that depends on it. Releases the connection
    /// unless it waits for another event.
    pub(super) fn resume(
        &mut self,
        now: Instant,
        conn: ConnId,
        request: &str,
        result: Result<(), Refusal>,
        then: Option<ByteString>,
    ) {
        match (result, then) {
            (Err(refusal), _) => self.refuse(conn, refusal.of(request)),
            (Ok(()), Some(text)) => {
                match self.sessions.get_mut(&conn).and_then(|session| session.pending.as_mut()) {
                    Some(pending) => pending.then = Some(text),
                    None => self.read(now, conn, text),
                }
            }
            (Ok(()), None) => {}
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.pending.is_none() && std::mem::take(&mut session.held) {
            self.outputs.push_back(Output::Release(conn));
            // Deadlines that stood still count again.
            self.schedule(now, conn);
        }
    }

    /// Closes a connection that registers again and again with ids that its token does not grant.
    fn count_forbidden(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.forbidden = session.forbidden.saturating_add(1);
        if session.forbidden >= MAX_FORBIDDEN {
            self.close(conn, close::UNAUTHORIZED, "forbidden too often", LeftReason::Kicked);
        }
    }

    fn register_verified(
        &mut self,
        now: Instant,
        conn: ConnId,
        register: Register,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        let pass = self.granted(now, register.token.as_ref(), verdict)?;
        if let (Some(pass), Some(client_id)) = (&pass, &register.client_id) {
            pass.grant.check_id(client_id).map_err(Refusal::forbidden)?;
        }
        self.complete_register(now, conn, register, pass)
    }

    fn token_verified(
        &mut self,
        now: Instant,
        conn: ConnId,
        mut join: Join,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        join.proof.pass = self.granted(now, join.proof.token.as_ref(), verdict)?;
        self.join(now, conn, join)
    }

    fn password_verified(
        &mut self,
        now: Instant,
        conn: ConnId,
        hash: PasswordHash,
        mut join: Join,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        match verdict {
            Verdict::Passed => join.proof.passed = Some(hash),
            Verdict::Busy => return Err(busy()),
            Verdict::Refused(_) | Verdict::Granted(_) => {
                return Err(Refusal::forbidden("the password is wrong"));
            }
        }
        self.join(now, conn, join)
    }

    /// Whether this server accepts a grant, apart from its time. The error is for the client.
    pub(super) fn accepts(&self, grant: &Grant) -> Result<(), &'static str> {
        self.config.denied.check(grant)?;
        self.config.auth.check(grant)
    }

    /// The rights that follow from a verdict on a token. `None`: tokens are no longer required.
    fn granted(
        &self,
        now: Instant,
        token: Option<&Secret>,
        verdict: Verdict,
    ) -> Result<Option<Box<Pass>>, Refusal> {
        let Some(token) = token.filter(|_| self.config.auth != Auth::None) else { return Ok(None) };
        match verdict {
            Verdict::Granted(grant) if grant.until <= self.wall_clock.unix(now) => {
                Err(Refusal::token_expired())
            }
            Verdict::Granted(grant) => match self.accepts(&grant) {
                Ok(()) => Ok(Some(Box::new(Pass::new(*grant, token)))),
                Err(message) => Err(Refusal::unauthorized(message)),
            },
            Verdict::Refused(message) => Err(Refusal::unauthorized(message)),
            Verdict::Passed => Err(Refusal::unauthorized("the token is not valid")),
            Verdict::Busy => Err(busy()),
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(ErrorCode::TooManyAttempts, "too many clients are being verified at the moment: try again")
}
