//! The roster decides which receivers of the room get a media session, when, and why not. Here receivers are authorized,
//! queued, retried and limited in number (`queue.rs`).
//!
//! A value: inputs and the time go in ([`Roster::handle`], [`Roster::handle_timeout`]), and outputs are drained with
//! [`Roster::poll_output`]. Nothing here reads a clock, owns a pipeline or waits, so the tests are scenarios on virtual time.
//! The conductor performs the outputs.
//!
//! A receiver that gets no session has an [`Exclusion`], which no message of that receiver removes. A changed `meta` only
//! makes the application decide again on a receiver that it had refused.

mod api;
mod queue;
mod receiver;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use api::{EndReason, Input, Limits, Notice, Output, Update};
pub(crate) use receiver::{Exclusion, Receiver, ReceiverState, Step};

use crate::stream_key::StreamKey;
use queue::Kicked;
use room_signaling_client::{
    GoneReason,
    protocol::{ClientId, SessionId},
    wire::{PeerEntry, Role},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The delay before the next session with a receiver after its first failure. Doubles with each failure in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The maximum delay before the next session.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// A session that was connected for this long does not count as a failure when it ends.
const SETTLED: Duration = Duration::from_secs(10);
/// The delay before the next session after a settled one. Meanwhile, signaling may report that the peer has left.
const REPLACEMENT: Duration = Duration::from_millis(100);
/// The delay before the next offer to a receiver that is busy with another sender.
const BUSY: Duration = Duration::from_secs(30);

/// The receivers of the room.
#[derive(Debug)]
pub(crate) struct Roster {
    limits: Limits,
    /// The session ids, which must be unique for each pair of peers.
    session_ids: SessionIds,
    in_room: bool,
    streams: Vec<StreamKey>,
    flowing: bool,
    stopped: bool,
    receivers: BTreeMap<ClientId, Receiver>,
    kicked: Kicked,
    /// The number of arrivals, which orders the queue.
    arrivals: u64,
    /// The time of the next attempt to find a free UDP port, if none was free.
    no_port_until: Option<Instant>,
    now: Instant,
    outputs: VecDeque<Output>,
}

impl Roster {
    /// An empty roster. Session ids are derived from `seed`.
    pub(crate) fn new(limits: Limits, seed: u64, now: Instant) -> Self {
        Self {
            limits,
            session_ids: SessionIds(seed),
            in_room: false,
            streams: Vec::new(),
            flowing: false,
            stopped: false,
            receivers: BTreeMap::new(),
            kicked: Kicked::default(),
            arrivals: 0,
            no_port_until: None,
            now,
            outputs: VecDeque::new(),
        }
    }

    /// Handles an input. Drain [`Roster::poll_output`] afterwards.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::InRoom(in_room) => self.set_in_room(in_room),
            Input::PeerReady(peer) => self.peer_ready(peer),
            Input::PeerChanged(peer) => self.peer_changed(peer),
            Input::PeerGone(id, reason) => self.peer_gone(&id, reason),
            Input::Authorized(id, allowed) => self.authorized(&id, allowed),
            Input::Signal(signal) => self.signal(signal),
            Input::Busy(id) => self.busy(&id),
            Input::Session(id, session, update) => self.session_update(&id, &session, update),
            Input::Streams(streams) => self.set_streams(streams),
            Input::Flowing(flowing) => self.set_flowing(flowing),
            Input::Limits(limits) => self.limits = limits,
            Input::Kick(id) => self.kick(&id),
            Input::Stop => self.stop(),
        }
    }

    /// The next output, in order.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Ends the sessions that are overdue, then starts at most one session, because events of sessions that have started
    /// should not wait until all others have. Drain [`Roster::poll_output`] afterwards.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.end_overdue();
        self.start_next();
    }

    /// The receivers, by id.
    pub(crate) fn receivers(&self) -> &BTreeMap<ClientId, Receiver> {
        &self.receivers
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn notice(&mut self, notice: Notice) {
        self.output(Output::Notice(notice));
    }

    fn next_arrival(&mut self) -> u64 {
        self.arrivals = self.arrivals.saturating_add(1);
        self.arrivals
    }

    // --- the room

    /// After a join, signaling reports every receiver that has no connected session. Until then, such a receiver may have
    /// left unnoticed.
    fn set_in_room(&mut self, in_room: bool) {
        if in_room && !self.in_room {
            for receiver in self.receivers.values_mut() {
                receiver.confirmed = receiver.is_connected();
            }
        }
        self.in_room = in_room;
    }

    fn peer_ready(&mut self, peer: PeerEntry) {
        let wanted = self.limits.target_id.as_deref().is_none_or(|target| target == peer.client_id.as_str());
        if peer.role != Role::Receiver || !wanted || self.stopped {
            return;
        }
        let id = peer.client_id.clone();
        self.end_session(&id, EndReason::Replaced, false);
        let known = self.receivers.remove(&id).filter(|known| known.peer.epoch == peer.epoch);
        let (arrival, failures, state) = match known {
            Some(known) => (known.arrival, known.failures, known.state),
            None => (self.next_arrival(), 0, ReceiverState::Authorizing),
        };
        let state = match state {
            _ if self.kicked.contains(&peer) => ReceiverState::Excluded(Exclusion::Kicked),
            ReceiverState::Excluded(
                reason @ (Exclusion::Kicked | Exclusion::Bye | Exclusion::AlreadyServed),
            ) => ReceiverState::Excluded(reason),
            ReceiverState::Waiting { not_before } => {
                ReceiverState::Waiting { not_before: not_before.min(self.now + FIRST_RETRY) }
            }
            ReceiverState::Authorizing
            | ReceiverState::Excluded(Exclusion::Refused)
            | ReceiverState::Active(_) => ReceiverState::Authorizing,
        };
        let excluded = matches!(state, ReceiverState::Excluded(_));
        let meta = peer.meta.as_ref().map(ToString::to_string);
        let mut receiver = Receiver::new(peer, arrival, state);
        receiver.failures = failures;
        receiver.authorization_pending = !excluded;
        self.receivers.insert(id.clone(), receiver);
        if excluded {
            self.notice(Notice::StaysExcluded(id));
        } else {
            self.output(Output::Authorize { id, meta });
        }
    }

    fn peer_changed(&mut self, peer: PeerEntry) {
        let Some(receiver) = self.receivers.get_mut(&peer.client_id) else { return };
        let meta_changed = receiver.peer.meta != peer.meta;
        receiver.peer = peer;
        receiver.confirmed = true;
        if let ReceiverState::Waiting { not_before } = &mut receiver.state {
            *not_before = (*not_before).min(self.now + FIRST_RETRY);
        }
        let is_final = matches!(
            receiver.state,
            ReceiverState::Excluded(Exclusion::Kicked | Exclusion::Bye | Exclusion::AlreadyServed)
        );
        if meta_changed && !is_final {
            receiver.authorization_pending = true;
            let (id, meta) = (receiver.peer.client_id.clone(), receiver.peer.meta.as_ref());
            let meta = meta.map(ToString::to_string);
            self.output(Output::Authorize { id, meta });
        }
    }

    /// [`Input::PeerReady`] for the same process follows a restart, so the receiver stays and keeps its exclusion.
    fn peer_gone(&mut self, id: &ClientId, reason: GoneReason) {
        self.end_session(id, reason.into(), false);
        if reason != GoneReason::Restart {
            self.receivers.remove(id);
        } else if let Some(receiver) = self.receivers.get_mut(id) {
            receiver.confirmed = false;
        }
    }

    fn authorized(&mut self, id: &ClientId, allowed: bool) {
        let Some(receiver) = self.receivers.get_mut(id).filter(|receiver| receiver.authorization_pending)
        else {
            return;
        };
        receiver.authorization_pending = false;
        match (&receiver.state, allowed) {
            (ReceiverState::Authorizing | ReceiverState::Excluded(Exclusion::Refused), true) => {
                receiver.state = ReceiverState::Waiting { not_before: self.now };
            }
            (_, true) => {}
            (_, false) => {
                self.end_session(id, EndReason::Refused, true);
                self.exclude(id, Exclusion::Refused);
                self.notice(Notice::Refused(id.clone()));
            }
        }
    }

    fn kick(&mut self, id: &str) {
        let Some((id, receiver)) = self.receivers.get_key_value(id) else {
            return self.notice(Notice::NoSuchReceiver(id.to_owned()));
        };
        let id = id.clone();
        self.kicked.remember(&receiver.peer);
        self.end_session(&id, EndReason::Kicked, true);
        self.exclude(&id, Exclusion::Kicked);
    }

    fn exclude(&mut self, id: &ClientId, reason: Exclusion) {
        if let Some(receiver) = self.receivers.get_mut(id) {
            receiver.state = ReceiverState::Excluded(reason);
        }
    }

    fn busy(&mut self, id: &ClientId) {
        self.end_session(id, EndReason::Busy, false);
        if let Some(Receiver { state: ReceiverState::Waiting { not_before }, .. }) =
            self.receivers.get_mut(id)
        {
            *not_before = self.now + BUSY;
        }
    }

    // --- streams

    /// The set of streams changed, so receivers get another session. An old receiver keeps its session, because it has only
    /// one peer connection.
    fn set_streams(&mut self, streams: Vec<StreamKey>) {
        if self.streams == streams {
            return;
        }
        self.streams = streams;
        for receiver in self.receivers.values_mut() {
            receiver.rejected = BTreeSet::new();
            if let ReceiverState::Waiting { not_before } = &mut receiver.state {
                *not_before = (*not_before).min(self.now);
            }
        }
        self.end_all(EndReason::StreamsChanged, |receiver| receiver.peer.protocol > 0);
    }

    fn set_flowing(&mut self, flowing: bool) {
        if self.flowing && !flowing {
            self.end_all(EndReason::Ended, |_| true);
        }
        self.flowing = flowing;
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.end_all(EndReason::Closed, |_| true);
    }

    fn end_all(&mut self, reason: EndReason, which: impl Fn(&Receiver) -> bool) {
        let ids: Vec<ClientId> =
            self.receivers.iter().filter(|(_, receiver)| which(receiver)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end_session(&id, reason.clone(), true);
        }
    }
}

/// A generator of session ids.
#[derive(Debug)]
struct SessionIds(u64);

impl SessionIds {
    /// `SplitMix64`, whose values never repeat.
    fn next(&mut self) -> SessionId {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        SessionId::new(format!("{z:016x}")).expect("16 hexadecimal digits are an id")
    }
}
