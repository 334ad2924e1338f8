//! Messages from one member to others (rules 3, 4 and 12).

use super::{
    ConnId, Hub, Output,
    request::Refusal,
    room::{Admission, Join},
    session::{Place, Session},
};
use crate::{
    id::{ClientId, RoomId},
    scan::Envelope,
    wire::{ErrorCode, Role},
};
use bytestring::ByteString;
use std::time::Instant;

/// Who speaks, and where it is heard.
enum Speaker {
    /// A member of this room, under this id.
    Member(RoomId, ClientId),
    /// An old client that has to be taken to the default room first (rule 11).
    Outside(Join),
}

impl Hub {
    /// Passes a message on to whom it is for.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        conn: ConnId,
        text: &ByteString,
        envelope: &Envelope<'_>,
    ) -> Result<(), Refusal> {
        match self.speaker(conn, &envelope.kind)? {
            Speaker::Member(room_id, client_id) => match &envelope.target {
                Some(target) => self.relay_to(&room_id, &client_id, envelope, target),
                None => self.relay_to_all(conn, &room_id, &client_id, envelope),
            },
            Speaker::Outside(join) => {
                self.join(now, conn, join)?;
                // From the top: the client is in the room now, or waits for it. It is counted there.
                self.counts.uncount(&envelope.kind);
                self.read(now, conn, text.clone());
                Ok(())
            }
        }
    }

    fn speaker(&self, conn: ConnId, kind: &str) -> Result<Speaker, Refusal> {
        let outside = || Refusal::new(ErrorCode::NotJoined, "join a room first");
        let offers = kind == "offer";
        let registered = self.sessions.get(&conn).and_then(Session::registered).ok_or_else(outside)?;
        match &registered.place {
            Place::Nowhere => Err(outside()),
            Place::Automatic(_) => {
                let role = if offers { Role::Sender } else { Role::Receiver };
                self.default_join(role).map(Speaker::Outside).ok_or_else(outside)
            }
            Place::In(room_id) => {
                let client_id = &registered.client_id;
                if offers && registered.protocol == 0 {
                    let member = self.rooms.get(room_id).and_then(|room| room.member(client_id.as_str()));
                    // It was slow to offer, and was taken for a receiver until now.
                    let late = member.is_some_and(|member| member.automatic && member.role == Role::Receiver);
                    if let Some(join) = self.default_join(Role::Sender).filter(|_| late) {
                        return Ok(Speaker::Outside(join));
                    }
                }
                Ok(Speaker::Member(room_id.clone(), client_id.clone()))
            }
        }
    }

    fn relay_to(
        &mut self,
        room_id: &RoomId,
        from: &ClientId,
        envelope: &Envelope<'_>,
        target: &str,
    ) -> Result<(), Refusal> {
        let room = self.rooms.get_mut(room_id);
        match room.and_then(|room| room.target(from, &envelope.kind, target)) {
            Some((conn, Admission::Pass)) => {
                self.counts.relay();
                self.outputs.push_back(Output::Send(conn, envelope.with_from(from.as_str())));
                Ok(())
            }
            Some((_, Admission::Drop)) => Ok(()),
            Some((_, Admission::Busy)) => Err(busy(target)),
            None => {
                let words = "nobody else in this room has that id";
                Err(Refusal::new(ErrorCode::TargetNotFound, words).target(target))
            }
        }
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
        room.audience(from, &envelope.kind, |id, member, admission| match admission {
            Admission::Pass => {
                self.counts.relay();
                let text = text.get_or_insert_with(|| envelope.with_from(from.as_str()));
                self.outputs.push_back(Output::Send(member.conn, text.clone()));
            }
            Admission::Drop => {}
            Admission::Busy => refused.push(id.clone()),
        });
        // One that can't take two frames at once hears of the first only.
        let quiet = room.member(from.as_str()).is_none_or(|member| member.automatic);
        refused.truncate(if quiet { 1 } else { usize::MAX });
        let last = refused.pop();
        for id in refused {
            self.refuse(conn, busy(id.as_str()).of(&envelope.kind));
        }
        last.map_or(Ok(()), |id| Err(busy(id.as_str())))
    }
}

fn busy(target: &str) -> Refusal {
    let words = "an old receiver, and it has a sender already";
    Refusal::new(ErrorCode::TargetBusy, words).target(target)
}
