//! Decides whether a client may enter a room, step by step (rules 6, 8 and 11). `membership.rs` performs the entry.

use super::{
    ConnId, Hub, Output, after,
    refusal::Refusal,
    request::Join,
    rights::PasswordHash,
    session::{Awaits, PendingRequest, Probe},
    verify::{Check, Permit},
};
use crate::{
    id::RoomId,
    wire::{ErrorCode, LeftReason, Role},
};
use std::time::Instant;

/// The steps of a join, in order. Each carries the results of the steps before it. A step that has to wait ends the run;
/// the next run begins with the first step again, because settings, clocks and members may have changed. Verified
/// proofs are kept in [`Proof`](super::request::Proof), so nothing is verified twice.
enum Step {
    /// A token has to grant the room and the role.
    Rights,
    /// The client has to know the password of the room.
    Password(Permit),
    /// The server and the room need space.
    Limits(Permit, Option<PasswordHash>),
    /// No other client may hold the id.
    Holder(Permit, Option<PasswordHash>),
}

/// The connection that holds the id of a joining client.
enum Holder {
    /// None, or the client's own connection.
    None,
    /// An older connection of the same process.
    Same(ConnId),
    /// A client without a token for the id, while the joining client has one.
    Squatter(ConnId),
    /// A client with a token for the id, while the joining client, of another user, has none.
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
    /// of the id has to be probed, the connection is held and the join runs again with the result.
    pub(super) fn join(&mut self, now: Instant, conn: ConnId, join: Join) -> Result<(), Refusal> {
        if self.sessions.get(&conn).and_then(|session| session.registered()).is_none() {
            return Ok(());
        }
        if self.draining {
            return Err(Refusal::draining());
        }
        let mut step = Step::Rights;
        loop {
            step = match step {
                Step::Rights => match self.check_rights(now, conn, &join)? {
                    Check::Done(permit) => Step::Password(permit),
                    Check::Verify(claim) => return self.verify(now, conn, claim, Awaits::JoinToken(join)),
                },
                Step::Password(permit) => match self.check_password(conn, &join)? {
                    Check::Done(passed) => Step::Limits(permit, passed),
                    Check::Verify((hash, claim)) => {
                        return self.verify(now, conn, claim, Awaits::JoinPassword(hash, join));
                    }
                },
                Step::Limits(permit, passed) => {
                    self.check_limits(conn, &join)?;
                    Step::Holder(permit, passed)
                }
                Step::Holder(permit, passed) => {
                    match self.holder(conn, &permit, &join.room_id) {
                        Holder::None => {}
                        Holder::Same(old) => self.replace(old),
                        Holder::Squatter(squatter) => self.evict(squatter),
                        Holder::Owner => return Err(Refusal::id_taken()),
                        Holder::Other(holder) => return self.challenge(now, conn, holder, join),
                    }
                    self.enter(now, conn, join, passed);
                    return Ok(());
                }
            };
        }
    }

    fn check_limits(&self, conn: ConnId, join: &Join) -> Result<(), Refusal> {
        let room = self.rooms.get(&join.room_id);
        if room.is_none() && self.rooms.len() >= self.config.max_rooms {
            return Err(Refusal::new(ErrorCode::TooManyRooms, "the server has no space for another room"));
        }
        let (members, senders) = room.map_or((0, 0), |room| (room.len(), room.senders()));
        let client_id = self.sessions.get(&conn).and_then(|session| Some(&session.registered()?.client_id));
        let before = room.zip(client_id).and_then(|(room, client_id)| room.member(client_id.as_str()));
        let before = before.map(|member| member.role);
        if before.is_none() && members >= self.config.max_members {
            return Err(Refusal::new(ErrorCode::RoomFull, "the room has no space for another member"));
        }
        if join.role == Role::Sender && before != Some(Role::Sender) && senders >= self.config.max_senders {
            return Err(Refusal::new(ErrorCode::RoomFull, "the room has no space for another sender"));
        }
        Ok(())
    }

    fn holder(&self, conn: ConnId, permit: &Permit, room_id: &RoomId) -> Holder {
        let registered = |conn| self.sessions.get(&conn).and_then(|session| session.registered());
        let Some(joining) = registered(conn) else { return Holder::None };
        let member = self.rooms.get(room_id).and_then(|room| room.member(joining.client_id.as_str()));
        let Some(holder) = member.map(|member| member.conn).filter(|holder| *holder != conn) else {
            return Holder::None;
        };
        let Some(held) = registered(holder) else { return Holder::Other(holder) };
        let user = held.pass.as_ref().map(|pass| &pass.grant.user);
        let is_same_user = user == permit.user.as_ref();
        let is_same_process = match (&held.process, &joining.process) {
            (Some(old), Some(new)) => old.instance == new.instance,
            _ => false,
        };
        match (permit.owns_id, held.owns_its_id()) {
            _ if is_same_process && is_same_user => Holder::Same(holder),
            (true, false) => Holder::Squatter(holder),
            (false, true) if !is_same_user => Holder::Owner,
            _ => Holder::Other(holder),
        }
    }

    /// Takes an id from a client that has no token for it.
    fn evict(&mut self, squatter: ConnId) {
        self.leave(squatter, LeftReason::Kicked);
        let message = "this id belongs to another user, whose token names it";
        self.refuse(squatter, Refusal::new(ErrorCode::ClientIdTaken, message));
    }

    /// Probes the holder of an id.
    fn challenge(&mut self, now: Instant, conn: ConnId, holder: ConnId, join: Join) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&holder) else { return Ok(()) };
        if session.held {
            // It was heard a moment ago, and can't answer because its socket isn't read.
            return Err(Refusal::id_taken());
        }
        if let Some(probe) = &mut session.probe {
            probe.challengers.push(conn);
        } else {
            let until = after(now, self.config.takeover_probe);
            session.probe = Some(Box::new(Probe { until, challengers: vec![conn] }));
            self.outputs.push_back(Output::Ping(holder));
            self.schedule(now, holder);
        }
        self.hold(conn, Awaits::Holder(holder, join));
        Ok(())
    }

    /// Runs a join again whose id may be free now.
    pub(super) fn retry(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pending = session.pending.take_if(|pending| matches!(pending.awaits, Awaits::Holder(..)));
        let Some(PendingRequest { awaits: Awaits::Holder(_, join), then }) = pending.map(|pending| *pending)
        else {
            return;
        };
        let result = self.join(now, conn, join);
        self.resume(now, conn, "join", result, then);
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
}
