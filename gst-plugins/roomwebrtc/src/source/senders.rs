//! Selects the sender to receive from, among the senders of the room. A value: the time is an argument.
//!
//! The first sender that offers is kept until it leaves, unless the property `sender-id` names another one. A receiver
//! cannot request an offer. To get one from a sender whose offer it declined, it leaves the room and rejoins as a new
//! process. That is a last resort, because every sender in the room then offers again.

use room_signaling_client::protocol::ClientId;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The time after a `bye` within which the same sender may offer again, because its streams have changed. Only then is
/// the `bye` an end.
pub(super) const BYE_GRACE: Duration = Duration::from_secs(1);
/// The time for which offers of a sender that said `bye` are declined after the element has left it.
const OTHERS_FIRST: Duration = Duration::from_secs(5);
/// The first wait before the element rejoins for a sender whose session failed. The wait doubles each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The senders of the room.
#[derive(Debug)]
pub(super) struct Senders {
    /// The property `sender-id`.
    wanted: Option<ClientId>,
    present: BTreeSet<ClientId>,
    /// The senders whose offer was declined in favor of another sender.
    declined: BTreeSet<ClientId>,
    /// The senders whose offers are accepted while there is no session, and until when.
    preference: Option<(Preference, Instant)>,
    /// When to leave the room and rejoin it.
    retry: Option<Instant>,
    retry_delay: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Preference {
    /// Only offers of this sender are accepted, because it said `bye`, as senders do when their streams change.
    For(ClientId),
    /// Only offers of other senders are accepted, because a sender that kicked the element would take the rejoined
    /// element for a new receiver.
    Against(ClientId),
}

impl Senders {
    /// The state of an empty room. With `wanted`, no other sender is received.
    pub(super) fn new(wanted: Option<ClientId>) -> Self {
        Self {
            wanted,
            present: BTreeSet::new(),
            declined: BTreeSet::new(),
            preference: None,
            retry: None,
            retry_delay: RETRY_MIN,
        }
    }

    /// Whether this member is a sender in the room.
    pub(super) fn is_present(&self, id: &ClientId) -> bool {
        self.present.contains(id)
    }

    /// A sender has joined the room, or restarted.
    pub(super) fn joined(&mut self, id: &ClientId) {
        self.present.insert(id.clone());
        self.declined.remove(id);
    }

    /// A sender has left the room.
    pub(super) fn left(&mut self, id: &ClientId) {
        self.present.remove(id);
        self.declined.remove(id);
        let pointless = match &self.preference {
            Some((Preference::For(sender), _)) => sender == id,
            Some((Preference::Against(sender), _)) => self.present.iter().all(|other| other == sender),
            None => false,
        };
        if pointless {
            self.preference = None;
        }
    }

    /// Whether to accept an offer while there is a session with `current`. A declined offer is remembered.
    pub(super) fn accept(&mut self, from: &ClientId, current: Option<&ClientId>) -> bool {
        if self.wanted.as_ref().is_some_and(|wanted| wanted != from) {
            return false;
        }
        let accepted = match (current, &self.preference) {
            (Some(current), _) => current == from,
            (None, Some((Preference::For(sender), _))) => sender == from,
            (None, Some((Preference::Against(sender), _))) => sender != from,
            (None, None) => true,
        };
        if accepted {
            (self.preference, self.retry) = (None, None);
        } else {
            self.declined.insert(from.clone());
        }
        accepted
    }

    /// The session is connected.
    pub(super) fn connected(&mut self) {
        self.retry_delay = RETRY_MIN;
    }

    /// The sender ended the session with `bye`.
    pub(super) fn said_bye(&mut self, from: ClientId, now: Instant) {
        self.preference = Some((Preference::For(from), now + BYE_GRACE));
    }

    /// The session failed. If its sender is still present, the element rejoins for it after a wait.
    pub(super) fn failed(&mut self, sender: &ClientId, now: Instant) {
        if self.present.contains(sender) {
            self.retry = Some(now + self.retry_delay);
            self.retry_delay = self.retry_delay.saturating_mul(2).min(RETRY_MAX);
        }
    }

    /// There is no session any more. The element rejoins if offers were declined.
    pub(super) fn look_for_another(&mut self, now: Instant) {
        if matches!(self.preference, Some((Preference::For(_), _))) {
            return;
        }
        if self.declined.is_empty() {
            self.retry = self.retry.filter(|_| !self.present.is_empty());
        } else {
            self.retry = Some(now);
        }
    }

    /// The element has left the room to rejoin it, so all senders will offer again.
    pub(super) fn rejoined(&mut self) {
        self.present.clear();
        self.declined.clear();
    }

    /// The element can't leave the room at the moment, so it tries again later.
    pub(super) fn retry_later(&mut self, now: Instant) {
        self.retry = Some(now + RETRY_MIN);
    }

    /// The element stops and accepts no further offers.
    pub(super) fn stop(&mut self) {
        (self.preference, self.retry) = (None, None);
    }

    /// When [`Senders::handle_time`] must be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let preference = self.preference.as_ref().map(|(_, until)| *until);
        [preference, self.retry].into_iter().flatten().min()
    }

    /// Returns true if the element has to leave the room and rejoin it now, provided that it has no session.
    pub(super) fn handle_time(&mut self, now: Instant) -> bool {
        if let Some((preference, _)) = self.preference.take_if(|(_, until)| *until <= now) {
            if let Preference::For(sender) = preference
                && !self.declined.is_empty()
            {
                self.preference = Some((Preference::Against(sender), now + OTHERS_FIRST));
            }
            self.look_for_another(now);
        }
        self.retry.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ClientId {
        ClientId::new(name).expect("an id")
    }

    /// A room with the senders `ant` and `zebra`, and a session with `zebra`.
    fn receiving_zebra() -> Senders {
        let mut senders = Senders::new(None);
        senders.joined(&id("ant"));
        senders.joined(&id("zebra"));
        assert!(senders.accept(&id("zebra"), None));
        assert!(!senders.accept(&id("ant"), Some(&id("zebra"))));
        assert_eq!(senders.deadline(), None);
        senders
    }

    #[test]
    fn a_sender_that_offers_again_after_its_bye_is_kept() {
        let (mut senders, now) = (receiving_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(!senders.handle_time(now + BYE_GRACE / 2));
        assert!(!senders.accept(&id("ant"), None));
        assert!(senders.accept(&id("zebra"), None));
        assert_eq!(senders.deadline(), None);
    }

    #[test]
    fn a_sender_that_does_not_offer_again_is_replaced_by_another_one() {
        let (mut senders, now) = (receiving_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(senders.handle_time(now + BYE_GRACE));
        senders.rejoined();
        for sender in ["ant", "zebra"] {
            senders.joined(&id(sender));
        }
        assert!(!senders.accept(&id("zebra"), None), "the others are preferred");
        assert!(senders.accept(&id("ant"), None));
    }

    #[test]
    fn if_the_others_do_not_offer_the_first_sender_is_accepted_again() {
        let (mut senders, now) = (receiving_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(senders.handle_time(now + BYE_GRACE));
        senders.rejoined();
        senders.joined(&id("zebra"));
        assert!(!senders.accept(&id("zebra"), None));
        assert!(senders.handle_time(now + BYE_GRACE + OTHERS_FIRST), "rejoins once more");
        senders.rejoined();
        senders.joined(&id("zebra"));
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn a_bye_of_the_only_sender_changes_nothing() {
        let (mut senders, now) = (Senders::new(None), Instant::now());
        senders.joined(&id("zebra"));
        assert!(senders.accept(&id("zebra"), None));
        senders.said_bye(id("zebra"), now);
        assert!(!senders.handle_time(now + BYE_GRACE));
        assert_eq!(senders.deadline(), None);
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn another_sender_that_leaves_does_not_cut_the_grace_short() {
        let (mut senders, now) = (receiving_zebra(), Instant::now());
        senders.joined(&id("bee"));
        senders.said_bye(id("zebra"), now);
        senders.left(&id("bee"));
        senders.look_for_another(now);
        assert!(!senders.handle_time(now));
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn a_sender_that_leaves_is_replaced_by_the_declined_one_immediately() {
        let (mut senders, now) = (receiving_zebra(), Instant::now());
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert!(senders.handle_time(now));
        // The same within the grace period of a `bye`.
        let mut senders = receiving_zebra();
        senders.said_bye(id("zebra"), now);
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert!(senders.handle_time(now));
    }

    #[test]
    fn a_failed_session_is_retried_with_growing_delays_while_its_sender_is_present() {
        let (mut senders, now) = (Senders::new(None), Instant::now());
        senders.joined(&id("zebra"));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            senders.failed(&id("zebra"), now);
            assert_eq!(senders.deadline(), Some(now + Duration::from_secs(seconds)));
            assert!(senders.handle_time(now + Duration::from_secs(seconds)));
        }
        senders.connected();
        senders.failed(&id("zebra"), now);
        assert_eq!(senders.deadline(), Some(now + RETRY_MIN));
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert_eq!(senders.deadline(), None);
    }

    #[test]
    fn only_the_wanted_sender_is_accepted() {
        let (mut senders, now) = (Senders::new(Some(id("mine"))), Instant::now());
        senders.joined(&id("other"));
        assert!(!senders.accept(&id("other"), None));
        senders.look_for_another(now);
        assert!(!senders.handle_time(now));
        assert!(senders.accept(&id("mine"), None));
    }
}
