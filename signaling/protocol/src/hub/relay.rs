//! Messages from one member to others (rules 3, 4 and 12). Offers from a receiver to a receiver are refused here.

use super::{
    ConnId, Hub, Output,
    refusal::Refusal,
    request::Join,
    rights::Auth,
    room::Gate,
    session::{Place, Session},
};
use crate::{
    id::{ClientId, RoomId},
    scan::Envelope,
    wire::{ErrorCode, Role},
};
use bytestring::ByteString;
use std::time::Instant;

/// The author of a message.
enum Author {
    /// A member of this room, with this id.
    Member(RoomId, ClientId),
    /// An old client that has to join a room first (rule 11).
    Outside(Join),
}

impl Hub {
    /// Passes a message on to its recipients.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        conn: ConnId,
        text: &ByteString,
        envelope: &Envelope<'_>,
    ) -> Result<(), Refusal> {
        match self.author(conn, &envelope.kind)? {
            Author::Member(room_id, client_id) => match &envelope.target {
                Some(target) => self.relay_to(conn, &room_id, &client_id, envelope, target),
                None => self.relay_to_all(conn, &room_id, &client_id, envelope),
            },
            Author::Outside(join) => {
                self.join(now, conn, join)?;
                // The message is read again once the client is in the room, and counted then.
                self.counts.uncount(&envelope.kind);
                match self.sessions.get_mut(&conn).and_then(|session| session.pending.as_mut()) {
                    Some(pending) => pending.then = Some(text.clone()),
                    None => self.read(now, conn, text.clone()),
                }
                Ok(())
            }
        }
    }

    fn author(&self, conn: ConnId, kind: &str) -> Result<Author, Refusal> {
        let is_offer = kind == "offer";
        let registered =
            self.sessions.get(&conn).and_then(Session::registered).ok_or_else(Refusal::in_no_room)?;
        match &registered.place {
            Place::Nowhere => Err(Refusal::in_no_room()),
            Place::Automatic(_) => {
                let role = if is_offer { Role::Sender } else { Role::Receiver };
                self.default_join(conn, role).map(Author::Outside).ok_or_else(Refusal::in_no_room)
            }
            Place::In(room_id) => {
                let client_id = &registered.client_id;
                if is_offer && registered.protocol == 0 {
                    let member = self.rooms.get(room_id).and_then(|room| room.member(client_id.as_str()));
                    // It was joined as a receiver because its offer came late. The default room may have changed since.
                    if member.is_some_and(|member| member.automatic && member.role == Role::Receiver) {
                        return Ok(Author::Outside(Join::automatic(room_id.clone(), Role::Sender)));
                    }
                }
                Ok(Author::Member(room_id.clone(), client_id.clone()))
            }
        }
    }

    fn relay_to(
        &mut self,
        conn: ConnId,
        room_id: &RoomId,
        from: &ClientId,
        envelope: &Envelope<'_>,
        target: &str,
    ) -> Result<(), Refusal> {
        if envelope.kind == "offer" && self.is_between_receivers(conn, room_id, from, target) {
            let message = "a receiver can't send an offer to a receiver: join as `sender`";
            return Err(Refusal::forbidden(message).target(target));
        }
        let room = self.rooms.get_mut(room_id);
        match room.and_then(|room| room.target(from, &envelope.kind, target)) {
            Some((conn, Gate::Pass)) => {
                self.counts.relay();
                self.outputs.push_back(Output::Send(conn, envelope.with_from(from.as_str())));
                Ok(())
            }
            Some((_, Gate::Drop)) => Ok(()),
            Some((_, Gate::Busy)) => Err(busy(target)),
            None => {
                let message = "no other member of this room has this id";
                Err(Refusal::new(ErrorCode::TargetNotFound, message).target(target))
            }
        }
    }

    /// Whether a message is from a receiver to a receiver, and the role of the author limits its messages. Old clients
    /// can offer in any role, unless the server requires tokens.
    fn is_between_receivers(&self, conn: ConnId, room_id: &RoomId, from: &ClientId, target: &str) -> bool {
        let Some(room) = self.rooms.get(room_id) else { return false };
        let receives = |id: &str| room.member(id).is_some_and(|member| member.role == Role::Receiver);
        let registered = self.sessions.get(&conn).and_then(Session::registered);
        let may_any_role =
            self.config.auth == Auth::None && registered.is_some_and(|registered| registered.protocol == 0);
        from.as_str() != target && receives(from.as_str()) && receives(target) && !may_any_role
    }

    fn relay_to_all(
        &mut self,
        conn: ConnId,
        room_id: &RoomId,
        from: &ClientId,
        envelope: &Envelope<'_>,
    ) -> Result<(), Refusal> {
        let Some(room) = self.rooms.get_mut(room_id) else { return Ok(()) };
        let mut text = None;
        let mut refused = Vec::new();
        room.audience(from, &envelope.kind, |id, member, gate| match gate {
            Gate::Pass => {
                self.counts.relay();
                let text = text.get_or_insert_with(|| envelope.with_from(from.as_str()));
                self.outputs.push_back(Output::Send(member.conn, text.clone()));
            }
            Gate::Drop => {}
            Gate::Busy => refused.push(id.clone()),
        });
        // A client of rule 11 gets the first error only, because old clients expect one answer at most.
        let is_limited = room.member(from.as_str()).is_none_or(|member| member.automatic);
        refused.truncate(if is_limited { 1 } else { usize::MAX });
        let last = refused.pop();
        for id in refused {
            self.refuse(conn, busy(id.as_str()).of(&envelope.kind));
        }
        last.map_or(Ok(()), |id| Err(busy(id.as_str())))
    }
}

fn busy(target: &str) -> Refusal {
    let message = "this receiver speaks an old protocol and is bound to another sender";
    Refusal::new(ErrorCode::TargetBusy, message).target(target)
}
