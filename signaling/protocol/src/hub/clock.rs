//! Time: the heartbeat (rule 10), and the deadlines of requests and tokens.

use super::{
    ConnId, Hub, Output,
    request::Refusal,
    session::{Life, Place, Stage, heartbeat},
    verify::EXPIRED,
};
use crate::{
    turn::WallClock,
    wire::{ErrorCode, LeftReason, Role, close},
};
use std::time::{Duration, Instant};

/// A difference between two readings of the wall clock that is no drift: somebody set the clock, or the machine slept.
const CLOCK_WAS_SET: Duration = Duration::from_secs(1);

impl Hub {
    /// A sign of life. It keeps the id of the connection from those who want it.
    pub(super) fn heard(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.life = Life::Heard(now);
        let Some(probe) = session.probe.take() else { return };
        for challenger in probe.challengers {
            self.refuse(challenger, taken().of("join"));
        }
    }

    /// Enters the next deadline of a connection. If an earlier one is entered already, it stays: the next one is
    /// entered when that time comes.
    pub(super) fn schedule(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let next = session.next_due(now, conn, &self.config, &self.wall_clock);
        match session.due {
            Some(due) if due <= next => return,
            Some(due) => self.deadlines.remove(&(due, conn)),
            None => false,
        };
        session.due = Some(next);
        self.deadlines.insert((next, conn));
    }

    /// Reads the wall clock anew. Tokens expire by it, also when it was set or the machine slept meanwhile. Call it
    /// before [`Hub::handle_timeout`].
    pub fn set_wall_clock(&mut self, wall_clock: WallClock) {
        let expected = self.wall_clock.unix(wall_clock.at);
        self.wall_clock = wall_clock;
        if expected.abs_diff(wall_clock.unix) >= CLOCK_WAS_SET {
            let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
            for conn in conns {
                self.schedule(wall_clock.at, conn);
            }
        }
    }

    /// Performs what is due for a connection.
    pub(super) fn due(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.held {
            // The peer can't be heard because its socket isn't read.
            session.life = Life::Heard(now);
        }
        if session.probe.as_ref().is_some_and(|probe| probe.until <= now) {
            return self.close(conn, close::SILENT, "silent, and its id wanted", LeftReason::Timeout);
        }
        match session.life {
            Life::Heard(at) if after(at, heartbeat(conn, &self.config)) <= now => {
                session.life = Life::Pinged(now);
                self.outputs.push_back(Output::Ping(conn));
            }
            Life::Pinged(at) if after(at, self.config.heartbeat_grace) <= now => {
                return self.close(conn, close::SILENT, "silent", LeftReason::Timeout);
            }
            Life::Heard(_) | Life::Pinged(_) => {}
        }
        let is_free = session.waiting.is_none();
        match &mut session.stage {
            Stage::New(until) if *until <= now && is_free => {
                self.refuse(conn, Refusal::new(ErrorCode::NotRegistered, "register in time"));
            }
            Stage::Registered(registered) => {
                let unix = self.wall_clock.unix(now);
                if registered.pass.as_ref().is_some_and(|pass| pass.grant.until <= unix) {
                    return self.refuse(conn, Refusal::new(ErrorCode::Unauthorized, EXPIRED));
                }
                if let Place::Automatic(at) = &mut registered.place
                    && at.is_some_and(|at| at <= now)
                {
                    *at = None;
                    let join = self.default_join(conn, Role::Receiver).filter(|_| is_free);
                    if let Some(Err(refusal)) = join.map(|join| self.join(now, conn, join)) {
                        self.refuse(conn, refusal.of("join"));
                    }
                }
            }
            Stage::New(_) => {}
        }
    }
}

/// The answer to a join whose id belongs to a client that is there.
pub(super) fn taken() -> Refusal {
    Refusal::new(ErrorCode::ClientIdTaken, "another client in this room has this id, and is there")
}

/// The time after a wait, which settings can't make long enough to overflow.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    now + wait.min(YEAR)
}
