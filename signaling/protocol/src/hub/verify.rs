//! From what a client brings to what it may do: which proof a request needs, and what follows from the verdict.

use super::{
    ConnId, Hub, Output,
    join::{Checked, Joiner, Permit},
    request::{Refusal, Register},
    rights::{Auth, Claim, Grant, Pass, PasswordHash, Secret, Verdict},
    room::Join,
    session::{On, Waiting},
};
use crate::wire::{ErrorCode, LeftReason, close};
use bytestring::ByteString;
use std::time::Instant;

/// The error of a client whose token has expired.
pub(super) const EXPIRED: &str = "the token has expired";
/// The error of a client without a token.
const NEEDED: &str = "this server needs a token";
/// How many `forbidden` answers to `register` a connection may get. Each costs a signature to verify.
const MAX_FORBIDDEN: u8 = 3;

impl Hub {
    /// Whether a token grants a join.
    pub(super) fn check_rights(
        &self,
        now: Instant,
        conn: ConnId,
        joiner: &Joiner,
        join: &Join,
    ) -> Result<Checked<Permit>, Refusal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(Checked::Done(Permit::default())) };
        if session.room.as_ref().is_some_and(|room_id| *room_id != join.room_id) {
            return Err(forbidden("the URL of this connection names another room"));
        }
        self.removals.check(now, &join.room_id, &joiner.client_id).map_err(forbidden)?;
        if self.config.auth == Auth::None {
            return Ok(Checked::Done(Permit::default()));
        }
        let unauthorized = |words| Refusal::new(ErrorCode::Unauthorized, words);
        let registered = session
            .registered()
            .and_then(|registered| registered.pass.as_ref())
            .ok_or(unauthorized(NEEDED))?;
        let fresh = join.proof.pass.as_ref();
        if let Some(token) = &join.proof.token
            && fresh.is_none()
            && !registered.is_of(token)
        {
            return Ok(Checked::Token(token.clone()));
        }
        // The client may have waited since the token was verified, and keys and time don't wait.
        let grant = &fresh.unwrap_or(registered).grant;
        if grant.until <= self.wall_clock.unix(now) {
            return Err(unauthorized(EXPIRED));
        }
        self.accepts(grant).map_err(unauthorized)?;
        if registered.grant.user != grant.user {
            return Err(forbidden("the token is another user's"));
        }
        grant.check(&joiner.client_id, &join.room_id, join.role).map_err(forbidden)?;
        let owns_id = grant.client_id.as_ref() == Some(&joiner.client_id);
        Ok(Checked::Done(Permit { user: Some(grant.user.clone()), owns_id }))
    }

    /// Whether a join has shown that it knows the password of the room.
    pub(super) fn check_password(
        &self,
        conn: ConnId,
        joiner: &Joiner,
        join: &Join,
    ) -> Result<Checked<Option<PasswordHash>>, Refusal> {
        let Some(hash) = self.rules.password_of(&join.room_id) else {
            return Ok(Checked::Done(None));
        };
        if join.proof.passed.as_ref() == Some(hash) || self.has_passed(conn, joiner, join, hash) {
            return Ok(Checked::Done(Some(hash.clone())));
        }
        let password = join.proof.password.clone().ok_or(forbidden("the room has a password"))?;
        Ok(Checked::Password(hash.clone(), password))
    }

    /// Whether the connection is in that room already, with this password.
    fn has_passed(&self, conn: ConnId, joiner: &Joiner, join: &Join, hash: &PasswordHash) -> bool {
        let room = self.rooms.get(&join.room_id);
        let member = room.and_then(|room| room.member(joiner.client_id.as_str()));
        member.is_some_and(|member| member.conn == conn && member.passed.as_ref() == Some(hash))
    }

    /// Has a claim verified. The request that brought it waits for the verdict.
    pub(super) fn verify(&mut self, now: Instant, conn: ConnId, claim: Claim, on: On) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(()) };
        if let On::Password(hash, _) = &on
            && !self.attempts.begin(now, conn, session.ip, hash)
        {
            let words = "too many wrong passwords from your network: wait a little";
            return Err(Refusal::new(ErrorCode::TooManyAttempts, words));
        }
        self.wait(conn, on);
        self.outputs.push_back(Output::Verify(conn, claim));
        Ok(())
    }

    /// Makes the request of a connection wait, and holds the connection.
    pub(super) fn wait(&mut self, conn: ConnId, on: On) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.waiting = Some(Box::new(Waiting { on, then: None }));
        if !std::mem::replace(&mut session.held, true) {
            self.outputs.push_back(Output::Hold(conn));
        }
    }

    /// Continues the request that waited for a verdict.
    pub(super) fn verified(&mut self, now: Instant, conn: ConnId, verdict: Verdict) {
        self.attempts.end(now, conn, matches!(verdict, Verdict::Refused(_)));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let waiting = session.waiting.take_if(|waiting| !matches!(waiting.on, On::Holder(..)));
        let Some(Waiting { on, then }) = waiting.map(|waiting| *waiting) else { return };
        let (request, done) = match on {
            On::Register(register) => ("register", self.register_verified(now, conn, register, verdict)),
            On::Token(join) => ("join", self.token_verified(now, conn, join, verdict)),
            On::Password(hash, join) => ("join", self.password_verified(now, conn, hash, join, verdict)),
            On::Holder(..) => return,
        };
        let is_forbidden = matches!(&done, Err(refusal) if refusal.code == ErrorCode::Forbidden);
        self.resume(now, conn, request, done, then);
        if request == "register" && is_forbidden {
            self.count_forbidden(conn);
        }
    }

    /// After a request that waited: refuses it if it failed, reads the message that depends on it, and releases the
    /// connection unless it waits for something else.
    pub(super) fn resume(
        &mut self,
        now: Instant,
        conn: ConnId,
        request: &str,
        done: Result<(), Refusal>,
        then: Option<ByteString>,
    ) {
        match (done, then) {
            (Err(refusal), _) => self.refuse(conn, refusal.of(request)),
            (Ok(()), Some(text)) => match self.sessions.get_mut(&conn).and_then(|it| it.waiting.as_mut()) {
                Some(waiting) => waiting.then = Some(text),
                None => self.read(now, conn, text),
            },
            (Ok(()), None) => {}
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.waiting.is_none() && std::mem::take(&mut session.held) {
            self.outputs.push_back(Output::Release(conn));
            // Deadlines that stood still count again.
            self.schedule(now, conn);
        }
    }

    /// Closes a connection that keeps on registering with ids for which its token isn't.
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
            pass.grant.check_id(client_id).map_err(forbidden)?;
        }
        self.admit(now, conn, register, pass)
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
            Verdict::Refused(_) | Verdict::Granted(_) => return Err(forbidden("the password is wrong")),
        }
        self.join(now, conn, join)
    }

    /// Whether this server accepts a grant, apart from its time. The error is for the client.
    pub(super) fn accepts(&self, grant: &Grant) -> Result<(), &'static str> {
        self.config.denied.check(grant)?;
        self.config.auth.check(grant)
    }

    /// The rights that follow from a verdict on a token. `None`: tokens are no longer needed.
    fn granted(
        &self,
        now: Instant,
        token: Option<&Secret>,
        verdict: Verdict,
    ) -> Result<Option<Box<Pass>>, Refusal> {
        let Some(token) = token.filter(|_| self.config.auth != Auth::None) else { return Ok(None) };
        let unauthorized = |words: String| Refusal::new(ErrorCode::Unauthorized, words);
        match verdict {
            Verdict::Granted(grant) if grant.until <= self.wall_clock.unix(now) => {
                Err(unauthorized(EXPIRED.to_owned()))
            }
            Verdict::Granted(grant) => match self.accepts(&grant) {
                Ok(()) => Ok(Some(Box::new(Pass::new(*grant, token)))),
                Err(words) => Err(unauthorized(words.to_owned())),
            },
            Verdict::Refused(words) => Err(unauthorized(words)),
            Verdict::Passed => Err(unauthorized("the token is not valid".to_owned())),
            Verdict::Busy => Err(busy()),
        }
    }
}

fn forbidden(words: &'static str) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, words)
}

fn busy() -> Refusal {
    Refusal::new(ErrorCode::TooManyAttempts, "too many clients are being verified at this moment: try again")
}
