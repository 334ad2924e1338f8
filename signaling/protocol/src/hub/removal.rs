//! Removal by an operator of one member of a room, or of all of them. A client that did not expect its removal joins again
//! once, so the room stays closed to it for a while.

use super::{ConnId, Hub, Output, message::Message, refusal::Refusal, room::Room};
use crate::{
    id::{ClientId, RoomId},
    wire::LeftReason,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How long a room stays closed to a client that was removed from it, or to everybody after it was closed. Messages, help
/// and documentation call it a minute.
pub const REMOVED_FOR: Duration = Duration::from_mins(1);

/// The rooms that are closed to clients. Only operators add entries.
#[derive(Debug, Default)]
pub(super) struct Removals {
    clients: BTreeMap<(RoomId, ClientId), Instant>,
    rooms: BTreeMap<RoomId, Instant>,
}

impl Removals {
    /// Whether a client may enter a room. The error is for the client.
    pub(super) fn check(
        &self,
        now: Instant,
        room_id: &RoomId,
        client_id: &ClientId,
    ) -> Result<(), &'static str> {
        if self.rooms.get(room_id).is_some_and(|until| now < *until) {
            return Err("an operator has closed the room: try again in a minute");
        }
        if !self.clients.is_empty() {
            let until = self.clients.get(&(room_id.clone(), client_id.clone()));
            if until.is_some_and(|until| now < *until) {
                return Err("an operator has removed this client from the room: try again in a minute");
            }
        }
        Ok(())
    }

    fn forget_old(&mut self, now: Instant) {
        self.clients.retain(|_, until| now < *until);
        self.rooms.retain(|_, until| now < *until);
    }
}

impl Hub {
    /// Removes a member from its room, which stays closed to its id for [`REMOVED_FOR`]. The member gets `forbidden` and
    /// `left` and stays connected; the others get `peer_left` with `kicked`. Returns whether there was such a member.
    pub fn kick(&mut self, now: Instant, room_id: &RoomId, client_id: &ClientId) -> bool {
        let room = self.rooms.get(room_id);
        let Some(conn) = room.and_then(|room| Some(room.member(client_id.as_str())?.conn)) else {
            return false;
        };
        self.removals.forget_old(now);
        self.removals.clients.insert((room_id.clone(), client_id.clone()), now + REMOVED_FOR);
        self.remove_members(now, room_id, &[conn], "an operator has removed this client from the room");
        true
    }

    /// Removes all members from a room, which stays closed to everybody for [`REMOVED_FOR`]. They get `forbidden` and
    /// `left` and stay connected. Returns how many there were.
    pub fn close_room(&mut self, now: Instant, room_id: &RoomId) -> usize {
        let Some(room) = self.rooms.get(room_id) else { return 0 };
        let members: Vec<ConnId> = room.info(room_id).members.iter().map(|member| member.conn).collect();
        self.removals.forget_old(now);
        self.removals.rooms.insert(room_id.clone(), now + REMOVED_FOR);
        self.remove_members(now, room_id, &members, "an operator has closed the room");
        members.len()
    }

    /// Removes members together, without news of each other.
    fn remove_members(&mut self, now: Instant, room_id: &RoomId, conns: &[ConnId], message: &'static str) {
        let removed: BTreeSet<ConnId> = conns.iter().copied().collect();
        let old: BTreeSet<ConnId> = self.rooms.get(room_id).map(Room::automatic).unwrap_or_default();
        let departures: Vec<_> = removed.iter().filter_map(|conn| self.take_out(*conn)).collect();
        for mut departure in departures {
            departure.audience.retain(|conn| !removed.contains(conn));
            self.announce_departure(departure, LeftReason::Kicked);
        }
        for conn in &removed {
            self.refuse(*conn, Refusal::forbidden(message));
            // An old client that was joined automatically doesn't know `left`.
            if !old.contains(conn) {
                self.outputs.push_back(Output::Send(*conn, Message::Left.text()));
            }
        }
        self.settle(now);
    }
}
