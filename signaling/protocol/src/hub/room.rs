//! One room: who is in it, who sees whom (rule 6), and which sender an old receiver holds on to (rule 12).

use super::{
    ConnId,
    census::{MemberInfo, RoomInfo},
    rights::{Pass, PasswordHash, Secret},
    say::{Entry, Peers},
};
use crate::{
    id::{ClientId, Epoch, RoomId},
    wire::{PeerEntry, Role},
};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Instant};

/// How many entries a list of peers has at most (rule 6).
const MAX_PEERS: usize = 1_000;
/// And how many bytes, about: the list has to fit into an outbound queue whatever `meta` everyone has.
const MAX_PEERS_BYTES: usize = 512 * 1024;

/// What it takes to get into a room, apart from who wants it.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) room_id: RoomId,
    pub(super) role: Role,
    pub(super) meta: Option<Box<RawValue>>,
    /// By rule 11, not by a `join`: hears of nothing but relays.
    pub(super) automatic: bool,
    /// Why it may.
    pub(super) proof: Proof,
}

/// What a `join` brings to show that it may, and what was found of that so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    /// One that is not that of `register` is checked.
    pub(super) token: Option<Secret>,
    /// What that token grants. The client has it from when it is in.
    pub(super) pass: Option<Box<Pass>>,
    pub(super) password: Option<Secret>,
    /// The hash that this password fits.
    pub(super) passed: Option<PasswordHash>,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) conn: ConnId,
    pub(super) since: Instant,
    pub(super) role: Role,
    pub(super) protocol: u32,
    pub(super) epoch: Option<Epoch>,
    pub(super) meta: Option<Box<RawValue>>,
    /// Joined by rule 11: gets relays and errors only.
    pub(super) automatic: bool,
    /// The hash whose password it knew.
    pub(super) passed: Option<PasswordHash>,
}

impl Member {
    fn is_old_receiver(&self) -> bool {
        self.protocol == 0 && self.role == Role::Receiver
    }

    /// Whether others are shown the same.
    fn looks_like(&self, other: &Self) -> bool {
        self.role == other.role
            && self.protocol == other.protocol
            && self.epoch == other.epoch
            && self.meta.as_deref().map(RawValue::get) == other.meta.as_deref().map(RawValue::get)
    }

    fn entry<'a>(&'a self, client_id: &'a ClientId) -> Entry<'a> {
        Entry {
            client_id,
            role: self.role,
            protocol: self.protocol,
            epoch: self.epoch.as_ref(),
            meta: self.meta.as_deref(),
        }
    }
}

/// Senders see all members; receivers see the senders.
fn sees(viewer: Role, other: Role) -> bool {
    viewer == Role::Sender || other == Role::Sender
}

/// Whether a message gets to a member (rule 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It does.
    Pass,
    /// It would confuse an old receiver, and the one who says it need not know.
    Drop,
    /// It is an offer to an old receiver that has its sender.
    Busy,
}

/// Who has to hear of a change.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// They see the member as it is now.
    pub(super) joined: Vec<ConnId>,
    /// They don't see it any more.
    pub(super) left: Vec<ConnId>,
}

/// One room. Most have a handful of members, and there may be many: a map that held members themselves would have space
/// for eleven of them at once.
#[derive(Debug)]
pub(super) struct Room {
    since: Instant,
    members: BTreeMap<ClientId, Box<Member>>,
    /// In order.
    senders: Vec<ClientId>,
    /// Old receivers and the sender that each of them holds on to.
    bound: BTreeMap<ClientId, ClientId>,
}

impl Room {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, members: BTreeMap::new(), senders: Vec::new(), bound: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn senders(&self) -> usize {
        self.senders.len()
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id).map(AsRef::as_ref)
    }

    /// Adds a member, or changes one.
    pub(super) fn put(&mut self, id: &ClientId, member: Member) -> Audience {
        let before = self.members.remove(id);
        let role = member.role;
        let saw = |viewer: Role| before.as_ref().is_some_and(|before| sees(viewer, before.role));
        // A takeover is told even if nothing else changed: what was on its way to the old socket may be lost, so a
        // media session that is still being negotiated has to start anew.
        let changed =
            before.as_ref().is_none_or(|before| before.conn != member.conn || !before.looks_like(&member));
        let mut audience = Audience::default();
        if changed {
            let all = role == Role::Sender || saw(Role::Receiver);
            self.viewers(all, |viewer| {
                if sees(viewer.role, role) {
                    audience.joined.push(viewer.conn);
                } else if saw(viewer.role) {
                    audience.left.push(viewer.conn);
                }
            });
        }
        if before.is_none_or(|before| before.role != role) {
            self.forget(id);
        }
        if role == Role::Sender
            && let Err(place) = self.senders.binary_search(id)
        {
            self.senders.insert(place, id.clone());
        }
        self.members.insert(id.clone(), Box::new(member));
        audience
    }

    /// Takes a member out, if it is there. Tells who has to hear of it.
    pub(super) fn remove(&mut self, id: &ClientId) -> Option<Vec<ConnId>> {
        let member = self.members.remove(id)?;
        self.forget(id);
        let mut audience = Vec::new();
        self.viewers(member.role == Role::Sender, |viewer| audience.push(viewer.conn));
        Some(audience)
    }

    fn all(&self) -> impl Iterator<Item = (&ClientId, &Member)> {
        self.members.iter().map(|(id, member)| (id, &**member))
    }

    fn all_senders(&self) -> impl Iterator<Item = (&ClientId, &Member)> {
        self.senders.iter().filter_map(|id| Some((id, self.member(id.as_str())?)))
    }

    /// All members, or the senders only, as far as they want to hear of others.
    fn viewers(&self, all: bool, mut each: impl FnMut(&Member)) {
        let mut each = |member: &Member| {
            if !member.automatic {
                each(member);
            }
        };
        if all {
            self.all().for_each(|(_, member)| each(member));
        } else {
            self.all_senders().for_each(|(_, member)| each(member));
        }
    }

    /// The role of this member is not what it was.
    fn forget(&mut self, id: &ClientId) {
        self.bound.remove(id);
        if let Ok(place) = self.senders.binary_search(id) {
            self.senders.remove(place);
            self.bound.retain(|_, sender| sender != id);
        }
    }

    /// Everyone whom this member sees, as far as a message holds them.
    pub(super) fn peers_of(&self, id: &ClientId) -> Peers<'_> {
        let Some(viewer) = self.members.get(id) else { return Peers::default() };
        let mut peers = Peers::default();
        let mut bytes = 0;
        let everyone: Box<dyn Iterator<Item = (&ClientId, &Member)>> = match viewer.role {
            Role::Sender => Box::new(self.all()),
            Role::Receiver => Box::new(self.all_senders()),
        };
        for (peer_id, member) in everyone.filter(|(peer_id, _)| *peer_id != id) {
            peers.total += 1;
            bytes += 128 + peer_id.as_str().len() + member.meta.as_ref().map_or(0, |meta| meta.get().len());
            if peers.peers.len() < MAX_PEERS && bytes <= MAX_PEERS_BYTES {
                peers.peers.push(member.entry(peer_id));
            }
        }
        peers
    }

    /// How others see a member.
    pub(super) fn entry<'a>(&'a self, id: &'a ClientId) -> Option<Entry<'a>> {
        self.members.get(id).map(|member| member.entry(id))
    }

    /// What an operator sees of it.
    pub(super) fn info<'a>(&'a self, room_id: &'a RoomId) -> RoomInfo<'a> {
        let info = |(client_id, member): (&'a ClientId, &'a Member)| {
            let Member { conn, since, role, protocol, .. } = *member;
            MemberInfo { client_id, role, protocol, conn, since }
        };
        RoomInfo { room_id, since: self.since, members: self.all().map(info).collect() }
    }

    /// All members, as values of their own.
    pub(super) fn entries(&self) -> Vec<PeerEntry> {
        let entry = |(id, member): (&ClientId, &Member)| PeerEntry {
            client_id: id.clone(),
            role: member.role,
            protocol: member.protocol,
            epoch: member.epoch.clone(),
            meta: member.meta.as_ref().and_then(|meta| serde_json::from_str(meta.get()).ok()),
        };
        self.all().map(entry).collect()
    }

    /// Whom a message without target is for (rule 4), the one who says it left out.
    pub(super) fn audience(
        &mut self,
        from: &ClientId,
        kind: &str,
        mut each: impl FnMut(&ClientId, &Member, Admission),
    ) {
        let Self { members, senders, bound, .. } = self;
        let Some(role) = members.get(from).map(|member| member.role) else { return };
        let mut deliver = |id: &ClientId, member: &Member| {
            if id != from {
                each(id, member, admit(bound, kind, from, id, member));
            }
        };
        let to_opposite = matches!(kind, "offer" | "answer" | "candidate" | "bye");
        match role {
            Role::Receiver if to_opposite => {
                senders
                    .iter()
                    .filter_map(|id| members.get_key_value(id))
                    .for_each(|(id, member)| deliver(id, member));
            }
            _ => members
                .iter()
                .filter(|(_, member)| !to_opposite || member.role != role)
                .for_each(|(id, member)| deliver(id, member)),
        }
    }

    /// Whether a message with a target gets there. None: there is no such target.
    pub(super) fn target(&mut self, from: &ClientId, kind: &str, to: &str) -> Option<(ConnId, Admission)> {
        let (id, member) = self.members.get_key_value(to).filter(|(id, _)| *id != from)?;
        Some((member.conn, admit(&mut self.bound, kind, from, id, member)))
    }
}

fn admit(
    bound: &mut BTreeMap<ClientId, ClientId>,
    kind: &str,
    from: &ClientId,
    id: &ClientId,
    member: &Member,
) -> Admission {
    let offer = kind == "offer";
    if !member.is_old_receiver() || !(offer || kind == "candidate") {
        return Admission::Pass;
    }
    match bound.get(id) {
        Some(sender) if sender == from => Admission::Pass,
        None if offer => {
            bound.insert(id.clone(), from.clone());
            Admission::Pass
        }
        Some(_) if offer => Admission::Busy,
        // Candidates of a session that it has no offer of.
        _ => Admission::Drop,
    }
}
