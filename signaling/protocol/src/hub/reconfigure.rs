//! New settings while the server runs. Clients that lose the right to be connected, or to be in their room, have to
//! leave; other clients notice nothing.

use super::{
    ConnId, Hub, HubConfig, Output, message::Message, refusal::Refusal, rights::Auth, rules::RoomRules,
};
use crate::wire::LeftReason;
use std::{collections::BTreeMap, time::Instant};

/// Why a client has to leave.
enum Loss {
    /// It has no token that is still valid: its connection is closed.
    Token(&'static str),
    /// The password of its room has changed: it is removed from the room. `old`: it was joined by rule 11, so it would
    /// not understand `left`.
    Password { old: bool },
}

impl Hub {
    /// Applies new settings. A room that exceeds a new limit keeps its members. A client whose token is no longer valid
    /// is closed (`unauthorized`); a member whose password is no longer that of its room is removed from the room
    /// (`forbidden`). In both cases, the other members of the room get `peer_left` with `kicked`.
    pub fn reconfigure(&mut self, now: Instant, config: HubConfig) {
        self.rules = RoomRules::new(&config.room_rules);
        self.config = config;
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        let lost = |conn| Some((conn, self.loss(conn)?));
        let losses: BTreeMap<ConnId, Loss> = conns.iter().filter_map(|conn| lost(*conn)).collect();
        // All of them leave before anything is sent, so they get no more news of the room.
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
        let valid = match (&self.config.auth, &registered.pass) {
            (Auth::None, _) => Ok(()),
            (_, Some(pass)) => self.accepts(&pass.grant),
            (Auth::Token { .. }, None) => Err("this server requires a token now"),
        };
        if let Err(message) = valid {
            return Some(Loss::Token(message));
        }
        let room_id = registered.room_id()?;
        let hash = self.rules.password_of(room_id)?;
        let member = self.rooms.get(room_id)?.member(registered.client_id.as_str())?;
        (member.passed.as_ref() != Some(hash)).then_some(Loss::Password { old: member.automatic })
    }

    /// Informs a client of its loss. A client of protocol 1 that gets an unexpected `left` joins again, and learns the
    /// reason from the answer.
    fn dismiss(&mut self, conn: ConnId, loss: &Loss) {
        match *loss {
            Loss::Token(message) => self.refuse(conn, Refusal::unauthorized(message)),
            Loss::Password { old } => {
                self.refuse(conn, Refusal::forbidden("the password of the room has changed"));
                if !old {
                    self.outputs.push_back(Output::Send(conn, Message::Left.text()));
                }
            }
        }
    }

    /// On a server that does not require tokens, none can expire.
    fn forget_pass(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut());
        if let Some(registered) = registered.filter(|_| self.config.auth == Auth::None) {
            registered.pass = None;
        }
    }
}
