//! What an operator may look at: what was counted, and who is where.

use super::{ConnId, Hub};
use crate::{
    id::{ClientId, RoomId},
    wire::{ErrorCode, Role},
};
use std::{ops::Bound, time::Instant};

/// The types of messages that are counted one by one; every other word is `other`, and what is no message is `bad`.
const KINDS: [&str; 11] =
    ["other", "bad", "register", "join", "leave", "offer", "answer", "candidate", "bye", "peers", "ping"];
const OTHER: usize = 0;
const BAD: usize = 1;

/// The codes of errors that are counted.
const CODES: [ErrorCode; 18] = [
    ErrorCode::NotRegistered,
    ErrorCode::AlreadyRegistered,
    ErrorCode::BadMessage,
    ErrorCode::ForbiddenType,
    ErrorCode::UnknownRole,
    ErrorCode::InvalidId,
    ErrorCode::NotJoined,
    ErrorCode::TargetNotFound,
    ErrorCode::TargetBusy,
    ErrorCode::ClientIdTaken,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::RoomFull,
    ErrorCode::TooManyRooms,
    ErrorCode::TooManyAttempts,
    ErrorCode::SlowConsumer,
    ErrorCode::ServerDraining,
    ErrorCode::Unknown,
];

/// What a Hub has counted since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    messages: [u64; KINDS.len()],
    relayed: u64,
    errors: [u64; CODES.len()],
}

impl Counts {
    /// Frames from clients, by the type of their message. `other`: a word of the client's own; `bad`: no message.
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.messages)
    }

    /// Messages that went from one member to another: one for each who got it.
    pub fn relayed(&self) -> u64 {
        self.relayed
    }

    /// Errors that clients were told of.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        CODES.into_iter().zip(self.errors)
    }

    pub(super) fn message(&mut self, kind: &str) {
        self.messages[place(kind)] += 1;
    }

    /// A message is read anew.
    pub(super) fn uncount(&mut self, kind: &str) {
        self.messages[place(kind)] -= 1;
    }

    pub(super) fn bad(&mut self) {
        self.messages[BAD] += 1;
    }

    pub(super) fn relay(&mut self) {
        self.relayed += 1;
    }

    pub(super) fn error(&mut self, code: ErrorCode) {
        if let Some(at) = CODES.iter().position(|known| *known == code) {
            self.errors[at] += 1;
        }
    }
}

fn place(kind: &str) -> usize {
    let known = KINDS.iter().skip(BAD + 1).position(|known| *known == kind);
    known.map_or(OTHER, |known| known + BAD + 1)
}

/// A room as an operator sees it.
#[derive(Debug, Clone)]
pub struct RoomInfo<'a> {
    /// Its name.
    pub room_id: &'a RoomId,
    /// When its first member came.
    pub since: Instant,
    /// Who is in it, in order of their ids.
    pub members: Vec<MemberInfo<'a>>,
}

/// A member as an operator sees it.
#[derive(Debug, Clone, Copy)]
pub struct MemberInfo<'a> {
    /// Its id.
    pub client_id: &'a ClientId,
    /// What it does in the room.
    pub role: Role,
    /// The protocol version that it speaks; 0 is old.
    pub protocol: u32,
    /// Its connection.
    pub conn: ConnId,
    /// When it came in over that connection, or changed what it is.
    pub since: Instant,
}

impl Hub {
    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many senders and receivers there are in all rooms.
    pub fn roles(&self) -> (usize, usize) {
        self.rooms.values().fold((0, 0), |(senders, receivers), room| {
            (senders + room.senders(), receivers + room.len() - room.senders())
        })
    }

    /// The rooms behind this one in their order, or all, with who is in them.
    pub fn rooms_after(&self, room_id: Option<&RoomId>) -> impl Iterator<Item = RoomInfo<'_>> {
        let start = room_id.map_or(Bound::Unbounded, Bound::Excluded);
        self.rooms.range::<RoomId, _>((start, Bound::Unbounded)).map(|(room_id, room)| room.info(room_id))
    }
}
