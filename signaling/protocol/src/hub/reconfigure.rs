//! Other settings while the server runs. Clients that lose the right to be where they are have to leave; nobody else
//! notices.

use super::{
    ConnId, Hub, HubConfig, Output, request::Refusal, rights::Auth, rules::RoomRules, say::Say,
    session::Place,
};
use crate::wire::{ErrorCode, LeftReason};
use std::{collections::BTreeMap, time::Instant};

/// Why a client has to leave.
enum Loss {
    /// It has no token that is valid now: its connection is closed.
    Token(&'static str),
    /// Its room has another password now: it is taken out of the room. `old`: it was joined by rule 11, so it would not
    /// understand `left`.
    Password { old: bool },
}

impl Hub {
    /// Applies other settings from now on. A room that is over a new limit keeps its members. A client whose token is
    /// no longer valid is closed (`unauthorized`); a member whose password is no longer that of its room is taken out of
    /// it (`forbidden`). The other members of the room get `peer_left` with `kicked` for both.
    pub fn reconfigure(&mut self, now: Instant, config: HubConfig) {
        self.rules = RoomRules::new(&config.room_rules);
        self.config = config;
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        let lost = |conn| Some((conn, self.loss(conn)?));
        let losses: BTreeMap<ConnId, Loss> = conns.iter().filter_map(|conn| lost(*conn)).collect();
        // They have all left before anything is sent, so they get no more news of the room.
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
            self.schedule(now, conn);
        }
        self.settle(now);
    }

    fn loss(&self, conn: ConnId) -> Option<Loss> {
        let registered = self.sessions.get(&conn)?.registered()?;
        let good = match (&self.config.auth, &registered.pass) {
            (Auth::None, _) => Ok(()),
            (_, Some(pass)) => self.accepts(&pass.grant),
            (Auth::Token { .. }, None) => Err("this server needs a token now"),
        };
        if let Err(words) = good {
            return Some(Loss::Token(words));
        }
        let Place::In(room_id) = &registered.place else { return None };
        let hash = self.rules.password_of(room_id)?;
        let member = self.rooms.get(room_id)?.member(registered.client_id.as_str())?;
        (member.passed.as_ref() != Some(hash)).then_some(Loss::Password { old: member.automatic })
    }

    /// Informs a client of its loss. A client of protocol 1 that gets an unexpected `left` joins again, and learns the
    /// reason from the answer.
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

    /// Without the need for tokens, none can expire.
    fn forget_pass(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut());
        if let Some(registered) = registered.filter(|_| self.config.auth == Auth::None) {
            registered.pass = None;
        }
    }
}
