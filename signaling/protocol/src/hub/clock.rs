//! Time: the heartbeat (rule 10), and what happens to those who take too long.

use super::{
    ConnId, Hub, Output,
    request::Refusal,
    session::{Life, Place, Stage},
    verify::EXPIRED,
};
use crate::wire::{ErrorCode, LeftReason, Role, close};
use std::time::{Duration, Instant};

impl Hub {
    /// A sign of life. Whoever wanted its id has to take another.
    pub(super) fn heard(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.life = Life::Heard(now);
        let Some(probe) = session.probe.take() else { return };
        for challenger in probe.challengers {
            let words = "somebody else has this id in this room, and is there";
            self.refuse(challenger, Refusal::new(ErrorCode::ClientIdTaken, words).of("join"));
        }
    }

    /// Sees to it that the time of a connection comes. Later deadlines than the one that it has are left for then.
    pub(super) fn schedule(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let next = session.next_due(&self.config);
        match session.due {
            Some(due) if due <= next => return,
            Some(due) => self.deadlines.remove(&(due, conn)),
            None => false,
        };
        session.due = Some(next);
        self.deadlines.insert((next, conn));
    }

    /// Does for a connection what its time has come for.
    pub(super) fn due(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.probe.as_ref().is_some_and(|probe| probe.until <= now) {
            return self.close(conn, close::SILENT, "silent, and its id wanted", LeftReason::Timeout);
        }
        match session.life {
            Life::Heard(at) if after(at, self.config.heartbeat) <= now => {
                session.life = Life::Pinged(now);
                self.outputs.push_back(Output::Ping(conn));
            }
            Life::Pinged(at) if after(at, self.config.heartbeat_grace) <= now => {
                return self.close(conn, close::SILENT, "silent", LeftReason::Timeout);
            }
            Life::Heard(_) | Life::Pinged(_) => {}
        }
        let free = session.waiting.is_none();
        match &mut session.stage {
            Stage::New(until) if *until <= now => {
                self.refuse(conn, Refusal::new(ErrorCode::NotRegistered, "register in time"));
            }
            Stage::Registered(registered) => {
                if registered.pass.as_ref().is_some_and(|pass| pass.grant.until <= now) {
                    return self.refuse(conn, Refusal::new(ErrorCode::Unauthorized, EXPIRED));
                }
                if let Place::Automatic(at) = &mut registered.place
                    && at.is_some_and(|at| at <= now)
                {
                    *at = None;
                    let join = self.default_join(Role::Receiver).filter(|_| free);
                    if let Some(Err(refusal)) = join.map(|join| self.join(now, conn, join)) {
                        self.refuse(conn, refusal.of("join"));
                    }
                }
            }
            Stage::New(_) => {}
        }
    }
}

/// A deadline. No setting is large enough to overflow it.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    now + wait.min(YEAR)
}
