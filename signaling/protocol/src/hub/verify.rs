//! From what a client brings to what it may: which proof a request needs, and what follows from the verdict.

use super::{
    ConnId, Hub, Output,
    join::Joiner,
    request::{Refusal, Register},
    rights::{self, Auth, Claim, Pass, PasswordHash, Secret, Verdict},
    room::Join,
    session::{On, Waiting},
};
use crate::wire::ErrorCode;
use std::time::Instant;

/// What a client is told whose token is over.
pub(super) const EXPIRED: &str = "the token has expired";

impl Hub {
    /// Whether a connection may join so. `Some`: it depends on this.
    pub(super) fn check_rights(
        &self,
        conn: ConnId,
        joiner: &Joiner,
        join: &Join,
    ) -> Result<Option<Claim>, Refusal> {
        if self.config.auth != Auth::None {
            let registered = self.sessions.get(&conn).and_then(|session| session.registered());
            let pass =
                join.proof.pass.as_ref().or(registered.and_then(|registered| registered.pass.as_ref()));
            if let Some(token) = &join.proof.token
                && pass.is_none_or(|pass| !pass.is_of(token))
            {
                return Ok(Some(Claim::Token(token.clone())));
            }
            let words = "this server wants a token";
            let grant = &pass.ok_or(Refusal::new(ErrorCode::Unauthorized, words))?.grant;
            if joiner.user.as_ref() != Some(&grant.user) {
                return Err(forbidden("the token is another user's"));
            }
            grant.check(&joiner.client_id, &join.room_id, join.role).map_err(forbidden)?;
        }
        let Some(hash) = rights::password_of(&self.config.room_rules, &join.room_id) else { return Ok(None) };
        if join.proof.passed.as_ref() == Some(hash) || self.has_passed(conn, joiner, join, hash) {
            return Ok(None);
        }
        let password = join.proof.password.clone().ok_or(forbidden("the room has a password"))?;
        Ok(Some(Claim::Password { hash: hash.clone(), password }))
    }

    /// Whether it is in that very room, having said this password.
    fn has_passed(&self, conn: ConnId, joiner: &Joiner, join: &Join, hash: &PasswordHash) -> bool {
        let room = self.rooms.get(&join.room_id);
        let member = room.and_then(|room| room.member(joiner.client_id.as_str()));
        member.is_some_and(|member| member.conn == conn && member.passed.as_ref() == Some(hash))
    }

    /// Has a claim checked, the request that brought it waiting for the verdict.
    pub(super) fn verify(&mut self, now: Instant, conn: ConnId, claim: Claim, on: On) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        if let On::Password(hash, _) = &on
            && !self.attempts.begin(now, conn, session.ip, hash)
        {
            let words = "too many wrong passwords from your address: wait a little";
            return Err(Refusal::new(ErrorCode::TooManyAttempts, words));
        }
        session.waiting = Some(Box::new(Waiting::new(on)));
        self.outputs.push_back(Output::Verify(conn, claim));
        Ok(())
    }

    /// Goes on with the request that waited for this, and then with what was said since.
    pub(super) fn verified(&mut self, now: Instant, conn: ConnId, verdict: Verdict) {
        self.attempts.end(now, conn, matches!(verdict, Verdict::Refused(_)));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(waiting) = session.waiting.take_if(|waiting| !matches!(waiting.on, On::Holder(..))) else {
            return;
        };
        let Waiting { on, deferred, .. } = *waiting;
        let (request, done) = match on {
            On::Register(register) => ("register", self.register_verified(now, conn, register, verdict)),
            On::Token(join) => ("join", self.token_verified(now, conn, join, verdict)),
            On::Password(hash, join) => ("join", self.password_verified(now, conn, hash, join, verdict)),
            On::Holder(..) => return,
        };
        if let Err(refusal) = done {
            self.refuse(conn, refusal.of(request));
        }
        for text in deferred {
            self.read(now, conn, text);
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

    /// What a verdict on a token grants. `None`: no tokens are needed, any more.
    fn granted(
        &self,
        now: Instant,
        token: Option<&Secret>,
        verdict: Verdict,
    ) -> Result<Option<Box<Pass>>, Refusal> {
        let Some(token) = token.filter(|_| self.config.auth != Auth::None) else { return Ok(None) };
        let unauthorized = |words: String| Refusal::new(ErrorCode::Unauthorized, words);
        match verdict {
            Verdict::Granted(grant) if grant.until <= now => Err(unauthorized(EXPIRED.to_owned())),
            Verdict::Granted(grant) => match self.config.auth.check(&grant) {
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
    Refusal::new(ErrorCode::TooManyAttempts, "too much is being checked at this moment: try again")
}
