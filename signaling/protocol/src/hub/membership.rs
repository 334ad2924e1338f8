//! Membership: a client enters a room or leaves it, and the other members get the news (rules 6 and 9).
//!
//! Architecture invariant: a session is in a room ([`Place::In`]) exactly if that room has a member with its id and its
//! connection. The two are indexes of one relation, and only this file changes either.

use super::{
    ConnId, Event, Hub, Output,
    message::Message,
    request::Join,
    rights::{Auth, PasswordHash},
    room::{Member, Room},
    session::Place,
};
use crate::{
    id::{ClientId, RoomId},
    wire::{IceServer, LeftReason, close},
};
use std::time::Instant;

/// A member that left a room, and the members that have to be informed.
pub(super) struct Departure {
    conn: ConnId,
    client_id: ClientId,
    room_id: RoomId,
    pub(super) audience: Vec<ConnId>,
}

impl Hub {
    /// Brings a registered client into a room, or changes its role and `meta` there. The client leaves its old room.
    pub(super) fn enter(&mut self, now: Instant, conn: ConnId, join: Join, passed: Option<PasswordHash>) {
        let Some(registered) = self.sessions.get(&conn).and_then(|session| session.registered()) else {
            return;
        };
        let (client_id, protocol) = (registered.client_id.clone(), registered.protocol);
        let epoch = registered.process.as_ref().map(|process| process.epoch.clone());
        if registered.room_id().is_some_and(|room_id| *room_id != join.room_id) {
            self.leave(conn, LeftReason::Left);
        }
        let Join { room_id, role, meta, automatic, proof } = join;
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
            let text = Message::Joined { room_id: &room_id, role, peers, ice_servers, ice_ttl_s }.text();
            self.outputs.push_back(Output::Send(conn, text));
        }
        if let Some(peer) = room.listed(&client_id).filter(|_| !audience.joined.is_empty()) {
            let text = Message::PeerJoined(peer).text();
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

    /// Closes the older connection of a process. Its member stays for the connection that enters next.
    pub(super) fn replace(&mut self, old: ConnId) {
        if let Some(registered) = self.sessions.get_mut(&old).and_then(|old| old.registered_mut()) {
            registered.place = Place::Nowhere;
        }
        self.close(old, close::REPLACED, "registered again elsewhere", LeftReason::Disconnected);
    }

    /// Cancels the automatic join of an old client (rule 11), because it sends a `join`. That join may fail.
    pub(super) fn cancel_automatic_join(&mut self, conn: ConnId) {
        let registered = self.sessions.get_mut(&conn).and_then(|session| session.registered_mut());
        if let Some(registered) = registered
            && matches!(registered.place, Place::Automatic(_))
        {
            registered.place = Place::Nowhere;
        }
    }

    /// Takes a connection out of its room. Returns whether it was in one.
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
            // The id that the challengers want is free.
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
            let text = Message::PeerLeft { client_id, reason }.text();
            self.outputs.extend(audience.into_iter().map(|to| Output::Send(to, text.clone())));
        }
    }
}
