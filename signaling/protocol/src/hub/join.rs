//! Into a room and out of it (rules 6, 8, 9 and 11).

use super::{
    ConnId, Event, Hub, Output, after,
    clock::taken,
    request::Refusal,
    rights::{Auth, Claim, Pass, PasswordHash, Secret},
    room::{Join, Member, Room},
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
    /// The room where it is now.
    room_id: Option<RoomId>,
}

/// The steps of a join, in order. Each carries what the steps before it have established. A step that has to wait ends
/// the run. The next run begins with the first step again, because settings, clocks and members may have changed.
enum Step {
    /// A token has to grant the room and the role.
    Rights,
    /// The client has to know the password of the room.
    Password(Permit),
    /// There has to be space.
    Limits(Permit, Option<PasswordHash>),
    /// Nobody else may have the id.
    Holder(Permit, Option<PasswordHash>),
}

/// What a token permits, on a server that needs tokens.
#[derive(Default)]
pub(super) struct Permit {
    /// The user of the token.
    pub(super) user: Option<UserId>,
    /// Whether the token names the client's id, which reserves that id for its user.
    pub(super) owns_id: bool,
}

/// How a step ends that needs something verified.
pub(super) enum Checked<T> {
    /// The step is done.
    Done(T),
    /// This token has to be verified first.
    Token(Secret),
    /// This password has to be verified first, against this hash.
    Password(PasswordHash, Secret),
}

/// A member that left a room, and the members that have to be informed.
pub(super) struct Departure {
    conn: ConnId,
    client_id: ClientId,
    room_id: RoomId,
    pub(super) audience: Vec<ConnId>,
}

/// The connection that has the id which a joiner wants.
enum Holder {
    /// None, or the joiner's own connection.
    None,
    /// The same process, on an older connection.
    Same(ConnId),
    /// A client without a token for the id, while the joiner has one.
    Squatter(ConnId),
    /// A client with a token for the id, while the joiner, of another user, has none.
    Owner,
    /// Any other client.
    Other(ConnId),
}

impl Hub {
    /// The join of an old client that doesn't send one: to the room that its URL names, or to the default room.
    pub(super) fn default_join(&self, conn: ConnId, role: Role) -> Option<Join> {
        self.default_room(conn).map(|room_id| Join::automatic(room_id, role))
    }

    /// The room of an old client that names none, unless the operator has switched that off.
    pub(super) fn default_room(&self, conn: ConnId) -> Option<RoomId> {
        let default_room = self.config.default_room.as_ref()?;
        let named = self.sessions.get(&conn).and_then(|session| session.room.as_ref());
        Some(named.unwrap_or(default_room).clone())
    }

    /// Brings a connection into a room, or changes its membership there. If something has to be verified, or the holder
    /// of the id has to be probed, the connection is held and the join begins anew with the result.
    pub(super) fn join(&mut self, now: Instant, conn: ConnId, join: Join) -> Result<(), Refusal> {
        let Some(joiner) = self.joiner(conn) else { return Ok(()) };
        if self.draining {
            return Err(Refusal::new(ErrorCode::ServerDraining, "the server is going away"));
        }
        let mut step = Step::Rights;
        loop {
            step = match step {
                Step::Rights => match self.check_rights(now, conn, &joiner, &join)? {
                    Checked::Done(permit) => Step::Password(permit),
                    checked => return self.verify_join(now, conn, checked, join),
                },
                Step::Password(permit) => match self.check_password(conn, &joiner, &join)? {
                    Checked::Done(passed) => Step::Limits(permit, passed),
                    checked => return self.verify_join(now, conn, checked, join),
                },
                Step::Limits(permit, passed) => {
                    self.check_limits(&joiner.client_id, &join)?;
                    Step::Holder(permit, passed)
                }
                Step::Holder(permit, passed) => {
                    match self.holder(conn, &joiner, &permit, &join.room_id) {
                        Holder::None => {}
                        Holder::Same(old) => self.replace(old),
                        Holder::Squatter(squatter) => self.evict(squatter),
                        Holder::Owner => return Err(taken()),
                        Holder::Other(holder) => return self.challenge(now, conn, holder, join),
                    }
                    self.enter(now, conn, joiner, join, passed);
                    return Ok(());
                }
            };
        }
    }

    /// Has the proof of a join verified.
    fn verify_join<T>(
        &mut self,
        now: Instant,
        conn: ConnId,
        checked: Checked<T>,
        join: Join,
    ) -> Result<(), Refusal> {
        match checked {
            Checked::Done(_) => Ok(()),
            Checked::Token(token) => self.verify(now, conn, Claim::Token(token), On::Token(join)),
            Checked::Password(hash, password) => {
                let claim = Claim::Password { hash: hash.clone(), password };
                self.verify(now, conn, claim, On::Password(hash, join))
            }
        }
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

    fn holder(&self, conn: ConnId, joiner: &Joiner, permit: &Permit, room_id: &RoomId) -> Holder {
        let member = self.rooms.get(room_id).and_then(|room| room.member(joiner.client_id.as_str()));
        let Some(holder) = member.map(|member| member.conn).filter(|holder| *holder != conn) else {
            return Holder::None;
        };
        let Some(registered) = self.sessions.get(&holder).and_then(|session| session.registered()) else {
            return Holder::Other(holder);
        };
        let user = registered.pass.as_ref().map(|pass| &pass.grant.user);
        let is_same_user = user == permit.user.as_ref();
        let is_same_process = match (&registered.process, &joiner.process) {
            (Some(old), Some(new)) => old.instance == new.instance,
            _ => false,
        };
        match (permit.owns_id, registered.owns_its_id()) {
            _ if is_same_process && is_same_user => Holder::Same(holder),
            (true, false) => Holder::Squatter(holder),
            (false, true) if !is_same_user => Holder::Owner,
            _ => Holder::Other(holder),
        }
    }

    /// Closes the older connection of a process. The member stays, on another connection from here on.
    fn replace(&mut self, old: ConnId) {
        if let Some(registered) = self.sessions.get_mut(&old).and_then(|old| old.registered_mut()) {
            registered.place = Place::Nowhere;
        }
        self.close(old, close::REPLACED, "registered again elsewhere", LeftReason::Disconnected);
    }

    /// Takes an id from a client that has no token for it.
    fn evict(&mut self, squatter: ConnId) {
        self.leave(squatter, LeftReason::Kicked);
        let words = "this id belongs to another user: the token of that user names it";
        self.refuse(squatter, Refusal::new(ErrorCode::ClientIdTaken, words));
    }

    /// Probes the holder of an id.
    fn challenge(&mut self, now: Instant, conn: ConnId, holder: ConnId, join: Join) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&holder) else { return Ok(()) };
        if session.held {
            // It was heard a moment ago, and can't answer because its socket isn't read.
            return Err(taken());
        }
        if let Some(probe) = &mut session.probe {
            probe.challengers.push(conn);
        } else {
            let until = after(now, self.config.takeover_probe);
            session.probe = Some(Box::new(Probe { until, challengers: vec![conn] }));
            self.outputs.push_back(Output::Ping(holder));
            self.schedule(now, holder);
        }
        self.wait(conn, On::Holder(holder, join));
        Ok(())
    }

    /// The id that a join waits for may be free.
    pub(super) fn retry(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let waiting = session.waiting.take_if(|waiting| matches!(waiting.on, On::Holder(..)));
        let Some(Waiting { on: On::Holder(_, join), then }) = waiting.map(|waiting| *waiting) else { return };
        let done = self.join(now, conn, join);
        self.resume(now, conn, "join", done, then);
    }

    /// Ends the wait of a connection for the holder of an id.
    pub(super) fn withdraw(&mut self, conn: ConnId, holder: ConnId) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if let Some(probe) = &mut session.probe {
            probe.challengers.retain(|challenger| *challenger != conn);
            if probe.challengers.is_empty() {
                session.probe = None;
            }
        }
    }

    /// The last step: leaves the old room and enters the new one.
    fn enter(
        &mut self,
        now: Instant,
        conn: ConnId,
        joiner: Joiner,
        join: Join,
        passed: Option<PasswordHash>,
    ) {
        let Joiner { client_id, protocol, process, room_id } = joiner;
        if room_id.is_some_and(|room_id| room_id != join.room_id) {
            self.leave(conn, LeftReason::Left);
        }
        let Join { room_id, role, meta, automatic, proof } = join;
        let epoch = process.map(|process| process.epoch);
        let (turn, ice_ttl_s) = if automatic { None } else { self.turn_server(now) }.unzip();
        let room = self.rooms.entry(room_id.clone()).or_insert_with(|| Room::new(now));
        let audience =
            room.put(&client_id, Member { conn, since: now, role, protocol, epoch, meta, automatic, passed });
        if let Some(registered) = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut()) {
            registered.place = Place::In(room_id.clone());
            if proof.pass.is_some() && self.config.auth != Auth::None {
                registered.pass = proof.pass;
            }
        }
        if !automatic {
            let peers = room.peers_of(&client_id, self.config.max_peers_bytes);
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
        // A new grant may expire earlier than the one before.
        self.schedule(now, conn);
    }

    /// A TURN server with credentials for this join, and their lifetime in seconds.
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

    /// Takes a connection out of its room without informing anybody.
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

impl Join {
    /// The join of an old client that sends none (rule 11).
    pub(super) fn automatic(room_id: RoomId, role: Role) -> Self {
        Self { room_id, role, meta: None, automatic: true, proof: Proof::default() }
    }
}

/// What a `join` brings to show that it may, and what was verified of it so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    /// A token that has not been verified yet.
    pub(super) token: Option<Secret>,
    /// The rights of the token that the join brought. They become those of the client with its entry.
    pub(super) pass: Option<Box<Pass>>,
    pub(super) password: Option<Secret>,
    /// The hash that the password was verified against.
    pub(super) passed: Option<PasswordHash>,
}
