//! Other settings while the server runs: who lost the right to be where it is goes, nobody else notices.

use super::{
    ConnId, Hub, HubConfig, Output,
    request::Refusal,
    rights::{self, Auth},
    say::Say,
    session::Place,
};
use crate::wire::{ErrorCode, LeftReason};
use std::{collections::BTreeMap, time::Instant};

/// Why somebody has to go.
enum Loss {
    /// It has no token that is good now: it is closed.
    Token(&'static str),
    /// It said another password than its room has now: it is taken out of the room. `old`: and was joined by rule 11,
    /// so it would not understand `left`.
    Password { old: bool },
}

impl Hub {
    /// Works by these settings from now on. Sizes and times hold for what comes; a room that is over a new size keeps
    /// its members. Whose token is not good any more is closed, `unauthorized`; who is in a room whose password is not
    /// the one that it said is taken out of it, `forbidden`. The others in the room are told `kicked` of both.
    pub fn reconfigure(&mut self, now: Instant, config: HubConfig) {
        self.config = config;
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        let lost = |conn| Some((conn, self.loss(conn)?));
        let losses: BTreeMap<ConnId, Loss> = conns.iter().filter_map(|conn| lost(*conn)).collect();
        // They are all gone before anything is said: who has to go hears nothing more of the room.
        let departures: Vec<_> = losses.keys().filter_map(|conn| self.take_out(*conn)).collect();
        for mut departure in departures {
            departure.audience.retain(|conn| !losses.contains_key(conn));
            self.announce_departure(departure, LeftReason::Kicked);
        }
        for (conn, loss) in losses {
            self.dismiss(conn, &loss);
        }
        for conn in conns {
            self.forget_pass(conn);
            self.schedule(conn);
        }
        self.settle(now);
    }

    fn loss(&self, conn: ConnId) -> Option<Loss> {
        let registered = self.sessions.get(&conn)?.registered()?;
        let good = match (&self.config.auth, &registered.pass) {
            (Auth::None, _) => Ok(()),
            (auth, Some(pass)) => auth.check(&pass.grant),
            (Auth::Token { .. }, None) => Err("this server wants a token now"),
        };
        if let Err(words) = good {
            return Some(Loss::Token(words));
        }
        let Place::In(room_id) = &registered.place else { return None };
        let hash = rights::password_of(&self.config.room_rules, room_id)?;
        let member = self.rooms.get(room_id)?.member(registered.client_id.as_str())?;
        (member.passed.as_ref() != Some(hash)).then_some(Loss::Password { old: member.automatic })
    }

    /// Tells somebody what it lost. Clients of today whom `left` takes by surprise ask to be let in again, and learn
    /// why not.
    fn dismiss(&mut self, conn: ConnId, loss: &Loss) {
        match *loss {
            Loss::Token(words) => self.refuse(conn, Refusal::new(ErrorCode::Unauthorized, words)),
            Loss::Password { old } => {
                self.refuse(conn, Refusal::new(ErrorCode::Forbidden, "the room has another password now"));
                if !old {
                    self.outputs.push_back(Output::Send(conn, Say::Left.text()));
                }
            }
        }
    }

    /// Where no tokens are needed, none can expire.
    fn forget_pass(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut());
        if let Some(registered) = registered.filter(|_| self.config.auth == Auth::None) {
            registered.pass = None;
        }
    }
}
