//! One room: its members, which of them see each other (rule 6), which of them a message without a target reaches
//! (rule 4), and the sender that an old receiver is bound to (rule 12).

use super::{
    ConnId,
    census::{MemberInfo, RoomInfo},
    message::{ListedPeer, PeerList},
    rights::PasswordHash,
};
use crate::{
    id::{ClientId, Epoch, RoomId},
    wire::{PeerEntry, Role},
};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The most entries of a list of peers (rule 6).
const MAX_PEERS: usize = 1_000;
/// The size of an entry in a list of peers, without its id and its `meta`.
const ENTRY_BYTES: usize = 128;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) conn: ConnId,
    pub(super) since: Instant,
    pub(super) role: Role,
    pub(super) protocol: u32,
    pub(super) epoch: Option<Epoch>,
    pub(super) meta: Option<Box<RawValue>>,
    /// Joined by rule 11: it receives relays and errors only.
    pub(super) automatic: bool,
    /// The hash of the password that it knew.
    pub(super) passed: Option<PasswordHash>,
}

impl Member {
    fn is_old_receiver(&self) -> bool {
        self.protocol == 0 && self.role == Role::Receiver
    }

    /// Whether other members see no difference.
    fn looks_like(&self, other: &Self) -> bool {
        self.role == other.role
            && self.protocol == other.protocol
            && self.epoch == other.epoch
            && self.meta.as_deref().map(RawValue::get) == other.meta.as_deref().map(RawValue::get)
    }

    fn listed<'a>(&'a self, client_id: &'a ClientId) -> ListedPeer<'a> {
        ListedPeer {
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

/// Whether a message reaches a member (rule 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It is delivered.
    Pass,
    /// It is dropped because it would confuse an old receiver. Its author is not informed.
    Drop,
    /// It is an offer to an old receiver that is bound to another sender.
    Busy,
}

/// The members that have to be informed of a change.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Those that see the member as it is now.
    pub(super) joined: Vec<ConnId>,
    /// Those that see the member no longer.
    pub(super) left: Vec<ConnId>,
}

/// One room. There may be many rooms, and most have a handful of members, so members are boxed: a node of the map has
/// space for eleven.
#[derive(Debug)]
pub(super) struct Room {
    since: Instant,
    members: BTreeMap<ClientId, Box<Member>>,
    /// In order.
    senders: Vec<ClientId>,
    /// Old receivers, each with the sender that it is bound to.
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
        // A takeover is announced even if nothing else changed. Messages on their way to the old socket may be lost, so
        // a media session that is being negotiated has to start again.
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

    /// Removes a member. Returns the members that have to be informed; `None`: there was no such member.
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

    /// All members or only the senders, in both cases without those that were joined by rule 11.
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

    /// Removes the entries that depend on the role of a member.
    fn forget(&mut self, id: &ClientId) {
        self.bound.remove(id);
        if let Ok(place) = self.senders.binary_search(id) {
            self.senders.remove(place);
            self.bound.retain(|_, sender| sender != id);
        }
    }

    /// The members that this one sees. All are counted; the list ends at about this many bytes.
    pub(super) fn peers_of(&self, id: &ClientId, max_bytes: usize) -> PeerList<'_> {
        let Some(viewer) = self.members.get(id) else { return PeerList::default() };
        let mut peers = PeerList::default();
        let mut bytes = 0;
        let everyone: Box<dyn Iterator<Item = (&ClientId, &Member)>> = match viewer.role {
            Role::Sender => Box::new(self.all()),
            Role::Receiver => Box::new(self.all_senders()),
        };
        for (peer_id, member) in everyone.filter(|(peer_id, _)| *peer_id != id) {
            peers.total += 1;
            let meta = member.meta.as_ref().map_or(0, |meta| meta.get().len());
            bytes += ENTRY_BYTES + peer_id.as_str().len() + meta;
            if peers.peers.len() < MAX_PEERS && bytes <= max_bytes {
                peers.peers.push(member.listed(peer_id));
            }
        }
        peers
    }

    /// A member as others see it.
    pub(super) fn listed<'a>(&'a self, id: &'a ClientId) -> Option<ListedPeer<'a>> {
        self.members.get(id).map(|member| member.listed(id))
    }

    /// The room as an operator sees it.
    pub(super) fn info<'a>(&'a self, room_id: &'a RoomId) -> RoomInfo<'a> {
        let info = |(client_id, member): (&'a ClientId, &'a Member)| {
            let Member { conn, since, role, protocol, .. } = *member;
            MemberInfo { client_id, role, protocol, conn, since }
        };
        RoomInfo { room_id, since: self.since, members: self.all().map(info).collect() }
    }

    /// The connections of old clients that were joined automatically.
    pub(super) fn automatic(&self) -> BTreeSet<ConnId> {
        self.all().filter(|(_, member)| member.automatic).map(|(_, member)| member.conn).collect()
    }

    /// All members, as owned values.
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

    /// The recipients of a message without a target (rule 4), without its author.
    pub(super) fn audience(
        &mut self,
        from: &ClientId,
        kind: &str,
        mut each: impl FnMut(&ClientId, &Member, Gate),
    ) {
        let Self { members, senders, bound, .. } = self;
        let Some(role) = members.get(from).map(|member| member.role) else { return };
        let mut deliver = |id: &ClientId, member: &Member| {
            if id != from {
                each(id, member, gate(bound, kind, from, id, member));
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

    /// The connection of a target, and whether the message reaches it. `None`: there is no such target.
    pub(super) fn target(&mut self, from: &ClientId, kind: &str, to: &str) -> Option<(ConnId, Gate)> {
        let (id, member) = self.members.get_key_value(to).filter(|(id, _)| *id != from)?;
        Some((member.conn, gate(&mut self.bound, kind, from, id, member)))
    }
}

fn gate(
    bound: &mut BTreeMap<ClientId, ClientId>,
    kind: &str,
    from: &ClientId,
    id: &ClientId,
    member: &Member,
) -> Gate {
    let offer = kind == "offer";
    if !member.is_old_receiver() || !(offer || kind == "candidate") {
        return Gate::Pass;
    }
    match bound.get(id) {
        Some(sender) if sender == from => Gate::Pass,
        None if offer => {
            bound.insert(id.clone(), from.clone());
            Gate::Pass
        }
        Some(_) if offer => Gate::Busy,
        // Candidates of a session whose offer it did not receive.
        _ => Gate::Drop,
    }
}
