//! The operator's view: counters, rooms and their members.

use super::{ConnId, Hub};
use crate::{
    id::{ClientId, RoomId},
    wire::{ErrorCode, Role},
};
use std::{ops::Bound, time::Instant};

/// The message types with a counter of their own. All other types count as `other`, frames that are no message as `bad`.
const KINDS: [&str; 11] =
    ["other", "bad", "register", "join", "leave", "offer", "answer", "candidate", "bye", "peers", "ping"];
const OTHER: usize = 0;
const BAD: usize = 1;

/// The counters of a Hub since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    messages: [u64; KINDS.len()],
    relayed: u64,
    errors: [u64; ErrorCode::ALL.len()],
}

impl Counts {
    /// Frames from clients, by message type. `other` are types without a counter of their own, `bad` are frames that are
    /// no message.
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.messages)
    }

    /// Messages from one member to another, counted once per recipient.
    pub fn relayed(&self) -> u64 {
        self.relayed
    }

    /// Errors that were sent to clients.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        ErrorCode::ALL.iter().copied().zip(self.errors)
    }

    pub(super) fn message(&mut self, kind: &str) {
        self.messages[index(kind)] += 1;
    }

    /// Takes back the count of a message that will be read again.
    pub(super) fn uncount(&mut self, kind: &str) {
        self.messages[index(kind)] -= 1;
    }

    pub(super) fn bad(&mut self) {
        self.messages[BAD] += 1;
    }

    pub(super) fn relay(&mut self) {
        self.relayed += 1;
    }

    pub(super) fn error(&mut self, code: ErrorCode) {
        for (_, count) in ErrorCode::ALL.iter().zip(&mut self.errors).filter(|(known, _)| **known == code) {
            *count += 1;
        }
    }
}

fn index(kind: &str) -> usize {
    let known = KINDS.iter().skip(BAD + 1).position(|known| *known == kind);
    known.map_or(OTHER, |known| known + BAD + 1)
}

/// A room as an operator sees it.
#[derive(Debug, Clone)]
pub struct RoomInfo<'a> {
    /// Its name.
    pub room_id: &'a RoomId,
    /// When its first member entered.
    pub since: Instant,
    /// Its members, in order of their ids.
    pub members: Vec<MemberInfo<'a>>,
}

/// A member as an operator sees it.
#[derive(Debug, Clone, Copy)]
pub struct MemberInfo<'a> {
    /// Its id.
    pub client_id: &'a ClientId,
    /// Its role in the room.
    pub role: Role,
    /// Its protocol version; 0 is old.
    pub protocol: u32,
    /// Its connection.
    pub conn: ConnId,
    /// When it entered over that connection, or last changed its role or `meta`.
    pub since: Instant,
}

impl Hub {
    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The number of senders and of receivers in all rooms.
    pub fn roles(&self) -> (usize, usize) {
        self.rooms.values().fold((0, 0), |(senders, receivers), room| {
            (senders + room.senders(), receivers + room.len() - room.senders())
        })
    }

    /// The rooms after this one in order, or all rooms, with their members.
    pub fn rooms_after(&self, room_id: Option<&RoomId>) -> impl Iterator<Item = RoomInfo<'_>> {
        let start = room_id.map_or(Bound::Unbounded, Bound::Excluded);
        self.rooms.range::<RoomId, _>((start, Bound::Unbounded)).map(|(room_id, room)| room.info(room_id))
    }
}
