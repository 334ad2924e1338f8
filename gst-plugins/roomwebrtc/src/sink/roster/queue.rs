//! The queue of waiting receivers: order of arrival, `max-receivers`, free UDP ports, deadlines of sessions, and the list of
//! kicked processes.

use super::{EndReason, Notice, Output, Receiver, ReceiverState, Roster, Step, receiver::Session};
use room_signaling_client::{
    protocol::{ClientId, Epoch},
    wire::PeerEntry,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How often a free UDP port is searched for.
const PORT_RETRY: Duration = Duration::from_secs(1);
/// The maximum length of the list of kicked processes. The oldest entry is dropped.
pub(super) const MAX_KICKED: usize = 1024;

impl Roster {
    /// When [`Roster::handle_timeout`] has something to do. May be in the past.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let crowded = self.is_crowded();
        let overdue = self.receivers.values().filter_map(|receiver| receiver.session()?.deadline(crowded));
        overdue.chain(self.next_change_of_queue()).min()
    }

    /// When the next session can start, or another receiver starts to wait for a slot.
    fn next_change_of_queue(&self) -> Option<Instant> {
        if !self.can_offer() {
            return None;
        }
        let full = self.is_full();
        let waits = self.receivers.values().filter_map(Receiver::waits_from);
        if full {
            waits.filter(|not_before| *not_before > self.now).min()
        } else {
            waits.min().map(|not_before| self.no_port_until.map_or(not_before, |until| until.max(not_before)))
        }
    }

    /// Whether offers can be sent. Outside the room, the signaling client would drop them.
    fn can_offer(&self) -> bool {
        self.in_room && self.flowing && !self.stopped && !self.streams.is_empty()
    }

    fn is_full(&self) -> bool {
        let limit = self.limits.max_receivers;
        limit > 0 && self.receivers.values().filter(|receiver| receiver.session().is_some()).count() >= limit
    }

    /// Whether a receiver waits although all slots are in use.
    fn is_crowded(&self) -> bool {
        self.can_offer()
            && self.is_full()
            && self
                .receivers
                .values()
                .filter_map(Receiver::waits_from)
                .any(|not_before| not_before <= self.now)
    }

    pub(super) fn end_overdue(&mut self) {
        let crowded = self.is_crowded();
        let overdue = |receiver: &Receiver| {
            let session = receiver.session()?;
            let reason = match session.step {
                Step::Preparing { .. } => EndReason::NoOffer,
                Step::Gathering { .. } => EndReason::NoAddress,
                Step::Offering { .. } => EndReason::NoAnswer,
                Step::Connecting { .. } | Step::Connected { .. } => EndReason::NoConnection,
            };
            session.deadline(crowded).filter(|at| *at <= self.now).map(|_| reason)
        };
        let overdue: Vec<(ClientId, EndReason)> = self
            .receivers
            .iter()
            .filter_map(|(id, receiver)| Some((id.clone(), overdue(receiver)?)))
            .collect();
        for (id, reason) in overdue {
            self.fail(&id, reason);
        }
    }

    /// Starts a session with the receiver that has waited longest, if a slot is free.
    pub(super) fn start_next(&mut self) {
        if !self.can_offer() {
            return;
        }
        let due =
            |receiver: &Receiver| receiver.waits_from().is_some_and(|not_before| not_before <= self.now);
        let next = self.receivers.iter().filter(|(_, receiver)| due(receiver)).min_by_key(|(_, r)| r.arrival);
        let Some(id) = next.map(|(id, _)| id.clone()) else { return };
        if self.is_full() {
            let limit = self.limits.max_receivers;
            return self.notice_waits(|id| Notice::NoSlot(id, limit));
        }
        if self.no_port_until.is_some_and(|until| until > self.now) {
            return self.notice_waits(Notice::NoPort);
        }
        self.start(id);
    }

    fn start(&mut self, id: ClientId) {
        let session = self.session_ids.next();
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let accepted = |key: &&_| !receiver.rejected.contains(*key);
        let streams: Vec<_> = self.streams.iter().filter(accepted).copied().collect();
        receiver.state = ReceiverState::Active(Session {
            id: session.clone(),
            step: Step::Preparing { since: self.now, offer: None },
        });
        self.output(Output::ConductorConfig { id, session, streams });
    }

    /// Logs one entry for each receiver that has to wait.
    fn notice_waits(&mut self, notice: impl Fn(ClientId) -> Notice) {
        let now = self.now;
        let new: Vec<ClientId> = self
            .receivers
            .iter_mut()
            .filter(|(_, r)| !r.wait_noticed && r.waits_from().is_some_and(|not_before| not_before <= now))
            .map(|(id, receiver)| {
                receiver.wait_noticed = true;
                id.clone()
            })
            .collect();
        for id in new {
            self.notice(notice(id));
        }
    }

    /// Handles the lack of a free UDP port: the receiver keeps its position in the queue, and no session starts for a moment.
    pub(super) fn no_port(&mut self, id: &ClientId) {
        self.end_session(id, EndReason::NoPort, false);
        self.no_port_until = Some(self.now + PORT_RETRY);
        self.notice_waits(Notice::NoPort);
    }
}

/// The kicked processes, oldest first. A receiver that leaves and joins again is still the same process, with the same epoch.
/// An old receiver has no epoch, so its next visit cannot be distinguished from that of another process.
#[derive(Debug, Default)]
pub(super) struct Kicked(VecDeque<(ClientId, Epoch)>);

impl Kicked {
    pub(super) fn remember(&mut self, peer: &PeerEntry) {
        let Some(epoch) = peer.epoch.clone() else { return };
        if self.contains(peer) {
            return;
        }
        if self.0.len() >= MAX_KICKED {
            self.0.pop_front();
        }
        self.0.push_back((peer.client_id.clone(), epoch));
    }

    pub(super) fn contains(&self, peer: &PeerEntry) -> bool {
        self.0.iter().any(|(id, epoch)| *id == peer.client_id && Some(epoch) == peer.epoch.as_ref())
    }
}
