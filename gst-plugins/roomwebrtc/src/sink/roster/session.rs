//! The steps of a session from its offer to its end, and the state of the receiver after the end.

use super::{
    EndReason, Exclusion, Notice, Output, REPLACEMENT, ReceiverState, Roster, SETTLED, Step, Update,
};
use crate::stream_key::StreamKey;
use room_signaling_client::{
    Media,
    protocol::{ClientId, SessionId},
    wire::{Body, Signal},
};

impl Roster {
    /// Handles a message of a receiver. A message without a session id belongs to the current session.
    pub(super) fn signal(&mut self, signal: Signal) {
        let Some(id) = signal.from else { return };
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        if let Body::Offer { .. } = signal.body {
            return self.notice(Notice::Ignored(id, "an offer to a sender"));
        }
        let ReceiverState::Active(session) = &mut receiver.state else { return };
        if signal.session_id.is_some_and(|named| named != session.id) {
            return self.notice(Notice::Ignored(id, "a message for a session that is over"));
        }
        let session_id = session.id.clone();
        match signal.body {
            Body::Answer { sdp } if matches!(session.step, Step::Offering { .. }) => {
                session.step = Step::Connecting { since: self.now };
                self.output(Output::AcceptAnswer { id, session: session_id, sdp });
            }
            Body::Answer { .. } => self.notice(Notice::Ignored(id, "an answer without a pending offer")),
            Body::Candidate { candidate } => {
                self.output(Output::AddCandidate { id, session: session_id, candidate });
            }
            Body::Bye => {
                self.end_session(&id, EndReason::Bye, false);
                self.exclude(&id, Exclusion::Bye);
            }
            Body::Offer { .. } => {}
        }
    }

    /// Handles an update of a session. Updates of sessions that have ended are ignored.
    pub(super) fn session_update(&mut self, id: &ClientId, session_id: &SessionId, update: Update) {
        let now = self.now;
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let Some(session) = receiver.session_named(session_id) else { return };
        match update {
            Update::NotStarted(text) => self.fail(id, EndReason::Failed(text)),
            Update::NoPort => self.no_port(id),
            Update::Offer(sdp) => {
                if let Step::Preparing { offer, .. } = &mut session.step {
                    *offer = Some(sdp);
                }
                if self.limits.relay_only {
                    self.send_offer(id);
                }
            }
            Update::OfferSet => {
                if let Step::Preparing { offer: Some(offer), .. } = &mut session.step {
                    session.step = Step::Gathering { since: now, offer: std::mem::take(offer) };
                }
            }
            Update::Candidate(candidate) => {
                self.send_offer(id);
                self.send(id, session_id, Body::Candidate { candidate });
            }
            Update::FirstStreamRejected(streams) => self.first_stream_rejected(id, streams),
            Update::Connected => self.connected(id, session_id),
            Update::Failed(reason) => self.fail(id, reason),
        }
    }

    /// Sends the offer, unless it was already sent.
    fn send_offer(&mut self, id: &ClientId) {
        let Some(ReceiverState::Active(session)) = self.receivers.get_mut(id).map(|r| &mut r.state) else {
            return;
        };
        let (Step::Preparing { offer: Some(offer), .. } | Step::Gathering { offer, .. }) = &mut session.step
        else {
            return;
        };
        let (sdp, session_id) = (std::mem::take(offer), session.id.clone());
        session.step = Step::Offering { since: self.now };
        self.send(id, &session_id, Body::Offer { sdp });
        self.output(Output::Report { id: id.clone(), session: session_id, media: Media::Started });
    }

    fn send(&mut self, id: &ClientId, session: &SessionId, body: Body) {
        self.output(Output::Send(Signal {
            body,
            target_id: Some(id.clone()),
            session_id: Some(session.clone()),
            from: None,
        }));
    }

    /// Starts another session without the rejected streams, except for old receivers, which accept only one offer.
    fn first_stream_rejected(&mut self, id: &ClientId, streams: Vec<StreamKey>) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let rejects_more = streams.iter().any(|key| !receiver.rejected.contains(key));
        if receiver.peer.protocol == 0 || !rejects_more {
            return self.fail(id, EndReason::FirstStreamRejected);
        }
        receiver.rejected.extend(streams.iter().copied());
        self.notice(Notice::WithoutRejected(id.clone(), streams));
        self.end_session(id, EndReason::FirstStreamRejected, true);
    }

    fn connected(&mut self, id: &ClientId, session_id: &SessionId) {
        let now = self.now;
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let Some(session) = receiver.session_named(session_id) else { return };
        if !matches!(session.step, Step::Connecting { .. }) {
            return;
        }
        session.step = Step::Connected { since: now };
        receiver.wait_noticed = false;
        let (id, session) = (id.clone(), session_id.clone());
        self.output(Output::OpenGates { id: id.clone(), session: session.clone() });
        self.output(Output::Report { id, session, media: Media::Connected });
    }

    /// Handles the failure of a session. Its receiver moves to the end of the queue.
    pub(super) fn fail(&mut self, id: &ClientId, reason: EndReason) {
        let now = self.now;
        let settled = self.receivers.get(id).and_then(|receiver| receiver.session()).is_some_and(
            |session| matches!(session.step, Step::Connected { since } if now.saturating_duration_since(since) >= SETTLED),
        );
        self.notice(Notice::Failed(id.clone(), reason.clone()));
        self.end_session(id, reason, true);
        let arrival = self.next_arrival();
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        receiver.arrival = arrival;
        // The next offer has all streams again, because the receiver may have changed.
        receiver.rejected.clear();
        if settled {
            receiver.failures = 0;
        }
        let wait = if settled { REPLACEMENT } else { receiver.back_off() };
        if let ReceiverState::Waiting { not_before } = &mut receiver.state {
            *not_before = now + wait;
        }
    }

    /// Ends the session of a receiver, if there is one. The receiver waits for another one, except for an old one that got
    /// its only offer.
    pub(super) fn end_session(&mut self, id: &ClientId, reason: EndReason, say_bye: bool) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let ReceiverState::Active(session) = &receiver.state else { return };
        let (session_id, offered) = (session.id.clone(), session.is_offered());
        receiver.state = if offered && receiver.peer.protocol == 0 && reason != EndReason::Busy {
            ReceiverState::Excluded(Exclusion::AlreadyServed)
        } else {
            ReceiverState::Waiting { not_before: self.now }
        };
        if offered && say_bye {
            self.send(id, &session_id, Body::Bye);
        }
        self.output(Output::End { id: id.clone(), session: session_id.clone(), reason });
        if offered {
            self.output(Output::Report { id: id.clone(), session: session_id, media: Media::Ended });
        }
    }
}
