//! Time: the heartbeat (rule 10), and the deadlines of `register`, of automatic joins and of tokens.

use super::{
    ConnId, Hub, Output,
    refusal::Refusal,
    session::{Liveness, Place, Registration, heartbeat},
};
use crate::{
    turn::WallClock,
    wire::{ErrorCode, LeftReason, Role, close},
};
use std::time::{Duration, Instant};

/// A larger difference between two readings of the wall clock is no drift: the clock was set, or the machine slept.
const CLOCK_WAS_SET: Duration = Duration::from_secs(1);

impl Hub {
    /// Records a sign of life. The connection keeps its id, and the clients that want that id are refused.
    pub(super) fn heard(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.liveness = Liveness::Heard(now);
        let Some(probe) = session.probe.take() else { return };
        for challenger in probe.challengers {
            self.refuse(challenger, Refusal::id_taken().of("join"));
        }
    }

    /// Enters the next deadline of a connection. An earlier entry stays, and the next deadline is entered when that entry
    /// is due.
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

    /// Sets the reading of the wall clock, by which tokens expire. After a step of the clock, the deadlines of all tokens
    /// are computed again. Call it before [`Hub::handle_timeout`].
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

    /// Performs the actions that are due for a connection.
    pub(super) fn due(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.held {
            // The peer can't be heard because its socket isn't read.
            session.liveness = Liveness::Heard(now);
        }
        if session.probe.as_ref().is_some_and(|probe| probe.until <= now) {
            return self.close(conn, close::SILENT, "silent, and its id wanted", LeftReason::Timeout);
        }
        match session.liveness {
            Liveness::Heard(at) if after(at, heartbeat(conn, &self.config)) <= now => {
                session.liveness = Liveness::Pinged(now);
                self.outputs.push_back(Output::Ping(conn));
            }
            Liveness::Pinged(at) if after(at, self.config.heartbeat_grace) <= now => {
                return self.close(conn, close::SILENT, "silent", LeftReason::Timeout);
            }
            Liveness::Heard(_) | Liveness::Pinged(_) => {}
        }
        let is_free = session.pending.is_none();
        match &mut session.registration {
            Registration::Missing(until) if *until <= now && is_free => {
                self.refuse(conn, Refusal::new(ErrorCode::NotRegistered, "no `register` arrived in time"));
            }
            Registration::Done(registered) => {
                let unix = self.wall_clock.unix(now);
                if registered.pass.as_ref().is_some_and(|pass| pass.grant.until <= unix) {
                    return self.refuse(conn, Refusal::token_expired());
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
            Registration::Missing(_) => {}
        }
    }
}

/// The time after a wait. A wait of more than a year counts as a year, so that no setting makes the sum overflow.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    now + wait.min(YEAR)
}
