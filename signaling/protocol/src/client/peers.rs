//! Decides which peers are present, and which media sessions survive a reconnect. No other file decides that.
//!
//! Senders begin media sessions, receivers wait for offers. A sender therefore replaces a session that is not connected
//! yet as soon as the socket of either end was replaced, because messages may have been lost; and it replaces a connected
//! session whose media broke. A receiver can't begin a session, so it ends none on suspicion: a new offer replaces the
//! earlier session.

use super::{Event, GoneReason, Media};
use crate::{
    id::{ClientId, SessionId},
    wire::{Body, LeftReason, PeerEntry, Role, Signal},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a media session is kept whose peer is absent when the client has joined its room again.
const ABSENT_LIMIT: Duration = Duration::from_secs(30);

/// The members of the opposite role, and those whose media session continues although they are absent.
#[derive(Debug)]
pub(super) struct Peers {
    role: Role,
    known: BTreeMap<ClientId, KnownPeer>,
}

#[derive(Debug)]
struct KnownPeer {
    entry: PeerEntry,
    presence: Presence,
    session: MediaSession,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// In the room, as far as this client knows.
    Here,
    /// Not in the room. Only its media session keeps it known, until that time if there is one.
    Absent(Option<Instant>),
}

/// The media session with a peer.
#[derive(Debug, Default)]
struct MediaSession {
    phase: MediaPhase,
    /// The latest id. It is kept after the end of the session, because reports on it may still arrive.
    id: Option<SessionId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum MediaPhase {
    #[default]
    None,
    Started,
    Connected,
}

impl Peers {
    pub(super) fn new(role: Role) -> Self {
        Self { role, known: BTreeMap::new() }
    }

    /// The peers that are in the room now.
    pub(super) fn present(&self) -> impl Iterator<Item = &PeerEntry> {
        self.known.values().filter(|peer| peer.presence == Presence::Here).map(|peer| &peer.entry)
    }

    /// Applies the list of peers after a join. A list that was cut off (rule 6) proves no absence: a peer that is not on it
    /// stays present. But its unfinished negotiation is disturbed, because the socket of this client is a new one.
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
                events.extend(self.upsert(peer.entry.clone(), true));
            }
        }
        for entry in listed {
            events.extend(self.upsert(entry, true));
        }
        events
    }

    /// Applies `peer_joined`: the peer is new, changed, or back.
    pub(super) fn joined(&mut self, entry: PeerEntry) -> Vec<Event> {
        // The server announces a known member without a change if the same process has a new socket.
        let same_again = self.known.get(&entry.client_id).is_some_and(|peer| peer.entry == entry);
        self.upsert(entry, same_again)
    }

    /// Applies `peer_left`.
    pub(super) fn left(&mut self, now: Instant, id: &ClientId, reason: LeftReason) -> Vec<Event> {
        match reason {
            LeftReason::Left | LeftReason::Kicked => self.remove(id, GoneReason::Left),
            LeftReason::Disconnected | LeftReason::Timeout => {
                let connected =
                    self.known.get(id).is_some_and(|peer| peer.session.phase == MediaPhase::Connected);
                // If media flows, only the liveness of the media decides.
                self.lose(id, (!connected).then(|| now + ABSENT_LIMIT))
            }
        }
    }

    /// Applies a report on a media session. Outside of the room no session begins again; the next join does that.
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
            Media::Started => peer.session = MediaSession { phase: MediaPhase::Started, id: session },
            _ if peer.session.id != session => {}
            Media::Connected => peer.session.phase = MediaPhase::Connected,
            Media::Ended if peer.presence != Presence::Here => return self.remove(id, GoneReason::Absent),
            Media::Ended => {
                peer.session.phase = MediaPhase::None;
                // The session was connected, neither end sent `bye`, and the peer is present: the network has changed,
                // or the peer gave up waiting. Old receivers can't handle a second offer.
                let restarts = in_room && self.role == Role::Sender && peer.entry.protocol > 0;
                if restarts && before == MediaPhase::Connected {
                    return restart(&peer.entry, GoneReason::Restart);
                }
            }
        }
        Vec::new()
    }

    /// Applies a message of a peer. An offer of a new session replaces the earlier one.
    pub(super) fn receive(&mut self, from: &ClientId, signal: &Signal) -> Vec<Event> {
        let Some(peer) = self.known.get_mut(from) else { return Vec::new() };
        let replaced = matches!(signal.body, Body::Offer { .. })
            && signal.session_id.is_some()
            && peer.session.is_other_than(signal.session_id.as_ref());
        peer.session.follow(signal);
        if replaced { restart(&peer.entry, GoneReason::Replaced) } else { Vec::new() }
    }

    /// Prepares a message to a peer: fills in a missing `session_id`, and applies the message to the session.
    pub(super) fn prepare(&mut self, signal: &mut Signal) {
        let Some(peer) = signal.target_id.as_ref().and_then(|id| self.known.get_mut(id)) else { return };
        if signal.session_id.is_none() {
            signal.session_id.clone_from(&peer.session.id);
        }
        peer.session.follow(signal);
    }

    /// The messages for a shutdown: one `bye` for each session whose peer is present.
    pub(super) fn byes(&self) -> Vec<Signal> {
        self.known
            .iter()
            .filter(|(_, peer)| peer.presence == Presence::Here && peer.session.phase != MediaPhase::None)
            .map(|(id, peer)| Signal {
                body: Body::Bye,
                target_id: Some(id.clone()),
                session_id: peer.session.id.clone(),
                from: None,
            })
            .collect()
    }

    /// When [`Peers::expire`] is due, while this client is in its room.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.known.values().filter_map(KnownPeer::expiry).min()
    }

    /// Gives up the peers that were absent for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Event> {
        let expired: Vec<ClientId> = self
            .known
            .iter()
            .filter(|(_, peer)| peer.expiry().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        expired.iter().flat_map(|id| self.remove(id, GoneReason::Absent)).collect()
    }

    /// Adds or changes a peer. `disturbed`: the socket of one end is a new one, so messages of a negotiation may be lost.
    fn upsert(&mut self, entry: PeerEntry, disturbed: bool) -> Vec<Event> {
        let id = entry.client_id.clone();
        if entry.role == self.role {
            return self.remove(&id, GoneReason::Left);
        }
        let Some(peer) = self.known.get_mut(&id) else {
            self.known.insert(id, KnownPeer::new(entry.clone()));
            return vec![Event::PeerReady(entry)];
        };
        if !peer.is_same_process(&entry) {
            *peer = KnownPeer::new(entry);
            return restart(&peer.entry, GoneReason::Replaced);
        }
        peer.presence = Presence::Here;
        let changed = peer.entry != entry;
        peer.entry = entry;
        if disturbed && self.role == Role::Sender && peer.session.phase != MediaPhase::Connected {
            peer.session = MediaSession::default();
            return restart(&peer.entry, GoneReason::Restart);
        }
        if changed { vec![Event::PeerChanged(peer.entry.clone())] } else { Vec::new() }
    }

    /// The peer is no longer in the room, but perhaps only its socket broke.
    fn lose(&mut self, id: &ClientId, limit: Option<Instant>) -> Vec<Event> {
        let Some(peer) = self.known.get_mut(id) else { return Vec::new() };
        let is_kept = match peer.session.phase {
            MediaPhase::Connected => true,
            MediaPhase::Started => self.role == Role::Receiver,
            MediaPhase::None => false,
        };
        if is_kept {
            peer.presence = Presence::Absent(limit);
            return Vec::new();
        }
        self.remove(id, GoneReason::Absent)
    }

    fn remove(&mut self, id: &ClientId, reason: GoneReason) -> Vec<Event> {
        self.known.remove(id).map(|_| Event::PeerGone(id.clone(), reason)).into_iter().collect()
    }
}

impl KnownPeer {
    fn new(entry: PeerEntry) -> Self {
        Self { entry, presence: Presence::Here, session: MediaSession::default() }
    }

    /// Old clients have no epoch and do not reconnect, so an old client that was absent is a new process.
    fn is_same_process(&self, entry: &PeerEntry) -> bool {
        match (&self.entry.epoch, &entry.epoch) {
            (Some(known), Some(new)) => known == new,
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

impl MediaSession {
    fn is_other_than(&self, id: Option<&SessionId>) -> bool {
        self.phase != MediaPhase::None && self.id.as_ref() != id
    }

    /// Applies a message that one end sent to the other: an offer begins a session, a `bye` ends it.
    fn follow(&mut self, signal: &Signal) {
        let id = &signal.session_id;
        match signal.body {
            Body::Offer { .. } if self.phase == MediaPhase::None || self.is_other_than(id.as_ref()) => {
                *self = MediaSession { phase: MediaPhase::Started, id: id.clone() };
            }
            Body::Bye if id.is_none() || self.id == *id => self.phase = MediaPhase::None,
            _ => {}
        }
    }
}

fn restart(entry: &PeerEntry, reason: GoneReason) -> Vec<Event> {
    vec![Event::PeerGone(entry.client_id.clone(), reason), Event::PeerReady(entry.clone())]
}
