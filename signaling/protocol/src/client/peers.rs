//! Who is there, and which media sessions are still good: the one place for reconciliation.
//!
//! Senders begin media sessions, receivers wait for offers. So a sender ends a session that isn't connected yet as soon
//! as either end's socket was disturbed (something may have been lost on the way) and begins a new one, and it begins a
//! new one when media broke off that had worked. A receiver can't begin one: it ends nothing on suspicion, and lets a
//! new offer end what was before.

use super::{Event, GoneReason, Media};
use crate::{
    id::{ClientId, SessionId},
    wire::{Body, LeftReason, PeerEntry, Role, Signal},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a media session lives on whose peer is not in the room that we came back to.
const ABSENT_LIMIT: Duration = Duration::from_secs(30);

/// The members of the room that this client has to do with: those of the opposite role.
#[derive(Debug)]
pub(super) struct Peers {
    role: Role,
    known: BTreeMap<ClientId, Peer>,
}

#[derive(Debug)]
struct Peer {
    entry: PeerEntry,
    presence: Presence,
    session: Session,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// In the room, as far as the server told.
    Here,
    /// Not in the room; only the media session keeps it, until the time if there is one.
    Absent(Option<Instant>),
}

/// The media session with a peer.
#[derive(Debug, Default)]
struct Session {
    phase: Phase,
    /// The one that was named last. Kept after its end, because reports on it may still arrive.
    id: Option<SessionId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    None,
    Started,
    Connected,
}

impl Peers {
    pub(super) fn new(role: Role) -> Self {
        Self { role, known: BTreeMap::new() }
    }

    /// Those who are in the room now.
    pub(super) fn present(&self) -> impl Iterator<Item = &PeerEntry> {
        self.known.values().filter(|peer| peer.presence == Presence::Here).map(|peer| &peer.entry)
    }

    /// The room as the server lists it after a join, the first one or a later one. A list that was cut off (rule 6)
    /// proves no absence: a peer that is not on it keeps its presence. Only its negotiation is disturbed, because our
    /// socket is a new one.
    pub(super) fn reconcile(&mut self, now: Instant, listed: Vec<PeerEntry>, cut_off: bool) -> Vec<Event> {
        let mut events = Vec::new();
        let unlisted: Vec<ClientId> = self
            .known
            .keys()
            .filter(|id| !listed.iter().any(|entry| entry.client_id == **id))
            .cloned()
            .collect();
        for id in unlisted {
            if !cut_off {
                events.extend(self.lose(&id, Some(now + ABSENT_LIMIT)));
            } else if let Some(peer) = self.known.get(&id).filter(|peer| peer.presence == Presence::Here) {
                events.extend(self.back_in_a_room_with(peer.entry.clone()));
            }
        }
        for entry in listed {
            events.extend(self.back_in_a_room_with(entry));
        }
        events
    }

    /// `peer_joined`: new, changed, or back.
    pub(super) fn joined(&mut self, entry: PeerEntry) -> Vec<Event> {
        // The server tells of a member whom we know with nothing changed when the same process has a new socket.
        let same_again = self.known.get(&entry.client_id).is_some_and(|peer| peer.entry == entry);
        self.upsert(entry, same_again)
    }

    /// `peer_left`.
    pub(super) fn left(&mut self, now: Instant, id: &ClientId, reason: LeftReason) -> Vec<Event> {
        match reason {
            LeftReason::Left | LeftReason::Kicked => self.remove(id, GoneReason::Left),
            LeftReason::Disconnected | LeftReason::Timeout => {
                let connected = self.known.get(id).is_some_and(|peer| peer.session.phase == Phase::Connected);
                // Where media flows, its own liveness decides and nothing else.
                self.lose(id, (!connected).then(|| now + ABSENT_LIMIT))
            }
        }
    }

    /// The owner reports on a media session. Outside the room nothing starts anew: the next join sees to it.
    pub(super) fn media(
        &mut self,
        id: &ClientId,
        session: Option<SessionId>,
        media: Media,
        in_room: bool,
    ) -> Vec<Event> {
        let Some(peer) = self.known.get_mut(id) else { return Vec::new() };
        let before = peer.session.phase;
        match media {
            Media::Started => peer.session = Session { phase: Phase::Started, id: session },
            _ if peer.session.id != session => {}
            Media::Connected => peer.session.phase = Phase::Connected,
            Media::Ended if peer.presence != Presence::Here => return self.remove(id, GoneReason::Absent),
            Media::Ended => {
                peer.session.phase = Phase::None;
                // The session worked, neither end said `bye`, and the peer is there: the network between them changed,
                // or the peer gave up waiting for us. Old receivers cannot take a second offer.
                let restarts = in_room && self.role == Role::Sender && peer.entry.protocol > 0;
                if restarts && before == Phase::Connected {
                    return restart(&peer.entry, GoneReason::Restart);
                }
            }
        }
        Vec::new()
    }

    /// A peer says something. A new offer ends the session that was before it.
    pub(super) fn hear(&mut self, from: &ClientId, signal: &Signal) -> Vec<Event> {
        let Some(peer) = self.known.get_mut(from) else { return Vec::new() };
        let replaced = matches!(signal.body, Body::Offer { .. })
            && signal.session_id.is_some()
            && peer.session.is_other_than(signal.session_id.as_ref());
        peer.session.follow(signal);
        if replaced { restart(&peer.entry, GoneReason::Replaced) } else { Vec::new() }
    }

    /// We say something to a peer: fills in the session, and keeps in mind which one it is.
    pub(super) fn address(&mut self, signal: &mut Signal) {
        let Some(peer) = signal.target_id.as_ref().and_then(|id| self.known.get_mut(id)) else { return };
        if signal.session_id.is_none() {
            signal.session_id.clone_from(&peer.session.id);
        }
        peer.session.follow(signal);
    }

    /// What to say when we go: one `bye` for each session whose peer can hear it.
    pub(super) fn byes(&self) -> Vec<Signal> {
        self.known
            .iter()
            .filter(|(_, peer)| peer.presence == Presence::Here && peer.session.phase != Phase::None)
            .map(|(id, peer)| Signal {
                body: Body::Bye,
                target_id: Some(id.clone()),
                session_id: peer.session.id.clone(),
                from: None,
            })
            .collect()
    }

    /// When [`Peers::expire`] has something to do, while we are in the room.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.known.values().filter_map(Peer::expiry).min()
    }

    /// Gives up those who were absent for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Event> {
        let over: Vec<ClientId> = self
            .known
            .iter()
            .filter(|(_, peer)| peer.expiry().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        over.iter().flat_map(|id| self.remove(id, GoneReason::Absent)).collect()
    }

    fn back_in_a_room_with(&mut self, entry: PeerEntry) -> Vec<Event> {
        self.upsert(entry, true)
    }

    /// `disturbed`: our socket or the peer's is a new one, so what was being negotiated may be lost.
    fn upsert(&mut self, entry: PeerEntry, disturbed: bool) -> Vec<Event> {
        let id = entry.client_id.clone();
        if entry.role == self.role {
            return self.remove(&id, GoneReason::Left);
        }
        let Some(peer) = self.known.get_mut(&id) else {
            self.known.insert(id, Peer::new(entry.clone()));
            return vec![Event::PeerReady(entry)];
        };
        if !peer.is_same_process(&entry) {
            *peer = Peer::new(entry);
            return restart(&peer.entry, GoneReason::Replaced);
        }
        peer.presence = Presence::Here;
        let changed = peer.entry != entry;
        peer.entry = entry;
        if disturbed && self.role == Role::Sender && peer.session.phase != Phase::Connected {
            peer.session = Session::default();
            return restart(&peer.entry, GoneReason::Restart);
        }
        if changed { vec![Event::PeerChanged(peer.entry.clone())] } else { Vec::new() }
    }

    /// Not in the room any more, but perhaps only its socket broke.
    fn lose(&mut self, id: &ClientId, limit: Option<Instant>) -> Vec<Event> {
        let Some(peer) = self.known.get_mut(id) else { return Vec::new() };
        let worth_keeping = match peer.session.phase {
            Phase::Connected => true,
            Phase::Started => self.role == Role::Receiver,
            Phase::None => false,
        };
        if worth_keeping {
            peer.presence = Presence::Absent(limit);
            return Vec::new();
        }
        self.remove(id, GoneReason::Absent)
    }

    fn remove(&mut self, id: &ClientId, reason: GoneReason) -> Vec<Event> {
        self.known.remove(id).map(|_| Event::PeerGone(id.clone(), reason)).into_iter().collect()
    }
}

impl Peer {
    fn new(entry: PeerEntry) -> Self {
        Self { entry, presence: Presence::Here, session: Session::default() }
    }

    /// Old clients tell no epoch and don't come back by themselves: one that was away is a new process.
    fn is_same_process(&self, entry: &PeerEntry) -> bool {
        match (&self.entry.epoch, &entry.epoch) {
            (Some(known), Some(told)) => known == told,
            (None, None) => self.presence == Presence::Here,
            _ => false,
        }
    }

    fn expiry(&self) -> Option<Instant> {
        match self.presence {
            Presence::Absent(limit) => limit,
            Presence::Here => None,
        }
    }
}

impl Session {
    fn is_other_than(&self, id: Option<&SessionId>) -> bool {
        self.phase != Phase::None && self.id.as_ref() != id
    }

    /// What one end says to the other begins a session or ends it.
    fn follow(&mut self, signal: &Signal) {
        let id = &signal.session_id;
        match signal.body {
            Body::Offer { .. } if self.phase == Phase::None || self.is_other_than(id.as_ref()) => {
                *self = Session { phase: Phase::Started, id: id.clone() };
            }
            Body::Bye if id.is_none() || self.id == *id => self.phase = Phase::None,
            _ => {}
        }
    }
}

fn restart(entry: &PeerEntry, reason: GoneReason) -> Vec<Event> {
    vec![Event::PeerGone(entry.client_id.clone(), reason), Event::PeerReady(entry.clone())]
}
