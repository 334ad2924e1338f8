//! Into a room and out of it (rules 6, 8, 9 and 11).

use super::{
    ConnId, Event, Hub, Output, after,
    request::Refusal,
    rights::{self, Claim},
    room::{Join, Member, Proof, Room},
    say::Say,
    session::{On, Place, Probe, Process, Waiting},
};
use crate::{
    id::{ClientId, RoomId, UserId},
    wire::{ErrorCode, IceServer, LeftReason, Role, close},
};
use std::time::Instant;

/// What a connection brings to a room, whichever room.
pub(super) struct Joiner {
    pub(super) client_id: ClientId,
    protocol: u32,
    process: Option<Process>,
    /// Whose token it has, where it needs one.
    pub(super) user: Option<UserId>,
    /// Where it is now.
    room_id: Option<RoomId>,
}

/// Who left which room, and who has to hear of it.
pub(super) struct Departure {
    conn: ConnId,
    client_id: ClientId,
    room_id: RoomId,
    pub(super) audience: Vec<ConnId>,
}

/// Who has the id that a joiner wants.
enum Holder {
    /// Nobody, or the joiner's very connection.
    None,
    /// The same process, on an older connection.
    Same(ConnId),
    /// Somebody else.
    Other(ConnId),
}

impl Hub {
    /// The join of an old client that doesn't ask for one.
    pub(super) fn default_join(&self, role: Role) -> Option<Join> {
        let room_id = self.config.default_room.clone()?;
        Some(Join { room_id, role, meta: None, automatic: true, proof: Proof::default() })
    }

    /// Brings a connection into a room, or changes what it is there. What it brings to show that it may is checked
    /// first, outside of the Hub; and if somebody else has its id, that one is asked for a sign of life. Either comes
    /// back to here.
    pub(super) fn join(&mut self, now: Instant, conn: ConnId, join: Join) -> Result<(), Refusal> {
        let Some(joiner) = self.joiner(conn) else { return Ok(()) };
        if self.draining {
            return Err(Refusal::new(ErrorCode::ServerDraining, "the server is going away"));
        }
        if let Some(claim) = self.check_rights(conn, &joiner, &join)? {
            let on = match &claim {
                Claim::Token(_) => On::Token(join),
                Claim::Password { hash, .. } => On::Password(hash.clone(), join),
            };
            return self.verify(now, conn, claim, on);
        }
        self.check_limits(&joiner.client_id, &join)?;
        match self.holder(conn, &joiner, &join.room_id) {
            Holder::None => self.enter(now, conn, joiner, join),
            Holder::Same(old) => {
                if let Some(registered) = self.sessions.get_mut(&old).and_then(|old| old.registered_mut()) {
                    // The member stays; only its connection is another one from here on.
                    registered.place = Place::Nowhere;
                }
                self.close(old, close::REPLACED, "registered again elsewhere", LeftReason::Disconnected);
                self.enter(now, conn, joiner, join);
            }
            Holder::Other(holder) => self.challenge(now, conn, holder, join),
        }
        Ok(())
    }

    fn joiner(&self, conn: ConnId) -> Option<Joiner> {
        let registered = self.sessions.get(&conn)?.registered()?;
        let room_id = match &registered.place {
            Place::In(room_id) => Some(room_id.clone()),
            Place::Nowhere | Place::Automatic(_) => None,
        };
        Some(Joiner {
            client_id: registered.client_id.clone(),
            protocol: registered.protocol,
            process: registered.process.clone(),
            user: registered.pass.as_ref().map(|pass| pass.grant.user.clone()),
            room_id,
        })
    }

    fn check_limits(&self, client_id: &ClientId, join: &Join) -> Result<(), Refusal> {
        let room = self.rooms.get(&join.room_id);
        if room.is_none() && self.rooms.len() >= self.config.max_rooms {
            return Err(Refusal::new(ErrorCode::TooManyRooms, "the server has no space for another room"));
        }
        let (members, senders) = room.map_or((0, 0), |room| (room.len(), room.senders()));
        let before = room.and_then(|room| room.member(client_id.as_str())).map(|member| member.role);
        if before.is_none() && members >= self.config.max_members {
            return Err(Refusal::new(ErrorCode::RoomFull, "the room has no space for another member"));
        }
        if join.role == Role::Sender && before != Some(Role::Sender) && senders >= self.config.max_senders {
            return Err(Refusal::new(ErrorCode::RoomFull, "the room has no space for another sender"));
        }
        Ok(())
    }

    fn holder(&self, conn: ConnId, joiner: &Joiner, room_id: &RoomId) -> Holder {
        let room = self.rooms.get(room_id);
        let Some(holder) =
            room.and_then(|room| room.member(joiner.client_id.as_str())).map(|member| member.conn)
        else {
            return Holder::None;
        };
        if holder == conn {
            return Holder::None;
        }
        let registered = self.sessions.get(&holder).and_then(|session| session.registered());
        let process = registered.and_then(|registered| registered.process.as_ref());
        let user = registered.and_then(|registered| registered.pass.as_ref()).map(|pass| &pass.grant.user);
        match (process, &joiner.process) {
            (Some(old), Some(new)) if old.instance == new.instance && user == joiner.user.as_ref() => {
                Holder::Same(holder)
            }
            _ => Holder::Other(holder),
        }
    }

    /// Asks the holder of an id whether it lives.
    fn challenge(&mut self, now: Instant, conn: ConnId, holder: ConnId, join: Join) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.waiting = Some(Box::new(Waiting::new(On::Holder(holder, join))));
        }
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if let Some(probe) = &mut session.probe {
            probe.challengers.push(conn);
            return;
        }
        let until = after(now, self.config.takeover_probe);
        session.probe = Some(Box::new(Probe { until, challengers: vec![conn] }));
        self.outputs.push_back(Output::Ping(holder));
        self.schedule(holder);
    }

    /// The way may be free for a join that waited.
    pub(super) fn retry(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(waiting) = session.waiting.take() else { return };
        let Waiting { on: On::Holder(_, join), deferred, .. } = *waiting else {
            session.waiting = Some(waiting);
            return;
        };
        if let Err(refusal) = self.join(now, conn, join) {
            self.refuse(conn, refusal.of("join"));
        }
        for text in deferred {
            self.read(now, conn, text);
        }
    }

    /// A connection that waited for the holder of an id doesn't any more.
    pub(super) fn withdraw(&mut self, conn: ConnId, holder: ConnId) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if let Some(probe) = &mut session.probe {
            probe.challengers.retain(|challenger| *challenger != conn);
            if probe.challengers.is_empty() {
                session.probe = None;
            }
        }
    }

    /// Nothing stands in the way: leaves one room and is in the other.
    fn enter(&mut self, now: Instant, conn: ConnId, joiner: Joiner, join: Join) {
        let Joiner { client_id, protocol, process, user: _, room_id } = joiner;
        if room_id.is_some_and(|room_id| room_id != join.room_id) {
            self.leave(conn, LeftReason::Left);
        }
        let Join { room_id, role, meta, automatic, proof } = join;
        let epoch = process.map(|process| process.epoch);
        let (turn, ice_ttl_s) = if automatic { None } else { self.turn_server(now) }.unzip();
        let passed = rights::password_of(&self.config.room_rules, &room_id).cloned();
        let room = self.rooms.entry(room_id.clone()).or_insert_with(|| Room::new(now));
        let audience =
            room.put(&client_id, Member { conn, since: now, role, protocol, epoch, meta, automatic, passed });
        if let Some(registered) = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut()) {
            registered.place = Place::In(room_id.clone());
            if proof.pass.is_some() {
                registered.pass = proof.pass;
            }
        }
        if !automatic {
            let peers = room.peers_of(&client_id);
            let ice_servers = self.config.ice_servers.iter().chain(&turn).collect();
            let text = Say::Joined { room_id: &room_id, role, peers, ice_servers, ice_ttl_s }.text();
            self.outputs.push_back(Output::Send(conn, text));
        }
        if let Some(entry) = room.entry(&client_id).filter(|_| !audience.joined.is_empty()) {
            let text = Say::PeerJoined(entry).text();
            let sends = audience.joined.into_iter().map(|to| Output::Send(to, text.clone()));
            self.outputs.extend(sends);
        }
        self.announce_left(&client_id, LeftReason::Left, audience.left);
        self.outputs.push_back(Output::Event(conn, Event::Joined { client_id, room_id, role }));
        // A grant that is new may be over earlier than the one before.
        self.schedule(conn);
    }

    /// A TURN server with credentials of this very join, and how many seconds they are good for.
    fn turn_server(&mut self, now: Instant) -> Option<(IceServer, u64)> {
        let turn = self.config.turn.clone()?;
        let name = format!("{:016x}", self.draw());
        Some((turn.ice_server(self.wall_clock.unix(now), &name), turn.ttl.as_secs()))
    }

    /// Takes a connection out of its room, if it is in one.
    pub(super) fn leave(&mut self, conn: ConnId, reason: LeftReason) -> bool {
        let Some(departure) = self.take_out(conn) else { return false };
        self.announce_departure(departure, reason);
        true
    }

    /// The same without a word.
    pub(super) fn take_out(&mut self, conn: ConnId) -> Option<Departure> {
        let session = self.sessions.get_mut(&conn)?;
        let registered = session.registered_mut()?;
        let Place::In(room_id) = std::mem::replace(&mut registered.place, Place::Nowhere) else {
            return None;
        };
        let client_id = registered.client_id.clone();
        if let Some(probe) = session.probe.take() {
            // The id that they want is free.
            self.retries.extend(probe.challengers);
        }
        let room = self.rooms.get_mut(&room_id)?;
        let audience = room.remove(&client_id).unwrap_or_default();
        if room.len() == 0 {
            self.rooms.remove(&room_id);
        }
        Some(Departure { conn, client_id, room_id, audience })
    }

    pub(super) fn announce_departure(&mut self, departure: Departure, reason: LeftReason) {
        let Departure { conn, client_id, room_id, audience } = departure;
        self.announce_left(&client_id, reason, audience);
        self.outputs.push_back(Output::Event(conn, Event::Left { client_id, room_id, reason }));
    }

    fn announce_left(&mut self, client_id: &ClientId, reason: LeftReason, audience: Vec<ConnId>) {
        if !audience.is_empty() {
            let text = Say::PeerLeft { client_id, reason }.text();
            self.outputs.extend(audience.into_iter().map(|to| Output::Send(to, text.clone())));
        }
    }
}
