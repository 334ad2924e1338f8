//! The senders of the room, and which of them to receive. A value: the time is an argument.
//!
//! A receiver cannot request an offer. To get one from a sender whose offer it declined, it leaves the room and returns
//! as a new process. That is a last resort, because every sender in the room then offers again.

use room_signaling_client::protocol::ClientId;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// After a `bye`, the same sender may offer again, because its streams change. Only after this time is it an end.
pub(super) const GOODBYE_GRACE: Duration = Duration::from_secs(1);
/// After the element has left a sender that said `bye`, the time for which offers of that sender are declined.
const OTHERS_FIRST: Duration = Duration::from_secs(5);
/// The first and the longest wait before the element returns to a sender whose session failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The senders of the room.
#[derive(Debug)]
pub(super) struct Senders {
    /// The property `sender-id`.
    wanted: Option<ClientId>,
    present: BTreeSet<ClientId>,
    /// The senders whose offer was declined in favor of another sender.
    declined: BTreeSet<ClientId>,
    /// Whose offers are accepted while there is no session, and until when.
    preference: Option<(Preference, Instant)>,
    /// When to leave the room and return.
    retry: Option<Instant>,
    patience: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Preference {
    /// Offers of this sender only: it said `bye`, as senders do when their streams change.
    For(ClientId),
    /// Offers of others only: a sender that kicked the element takes the element that returns for a new receiver.
    Against(ClientId),
}

impl Senders {
    /// An empty room. With `wanted`, no other sender is received.
    pub(super) fn new(wanted: Option<ClientId>) -> Self {
        Self {
            wanted,
            present: BTreeSet::new(),
            declined: BTreeSet::new(),
            preference: None,
            retry: None,
            patience: RETRY.0,
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

    /// Whether to accept an offer while there is a session with `current`. An offer that is declined is remembered.
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
        self.patience = RETRY.0;
    }

    /// The sender ended the session with `bye`.
    pub(super) fn said_bye(&mut self, from: ClientId, now: Instant) {
        self.preference = Some((Preference::For(from), now + GOODBYE_GRACE));
    }

    /// The session failed. If its sender is still there, the element returns to it after a while.
    pub(super) fn failed(&mut self, sender: &ClientId, now: Instant) {
        if self.present.contains(sender) {
            self.retry = Some(now + self.patience);
            self.patience = self.patience.saturating_mul(2).min(RETRY.1);
        }
    }

    /// There is no session any more: returns to the senders whose offers were declined, if there are any.
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

    /// The element has left the room, to return: all senders will offer.
    pub(super) fn returns(&mut self) {
        self.present.clear();
        self.declined.clear();
    }

    /// The element cannot leave the room yet.
    pub(super) fn retry_later(&mut self, now: Instant) {
        self.retry = Some(now + RETRY.0);
    }

    /// The element receives nothing any more.
    pub(super) fn stop(&mut self) {
        (self.preference, self.retry) = (None, None);
    }

    /// When [`Senders::handle_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let preference = self.preference.as_ref().map(|(_, until)| *until);
        [preference, self.retry].into_iter().flatten().min()
    }

    /// True if the element should leave the room and return now, provided that it has no session.
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

    /// A room with the senders `ant` and `zebra`, in a session with `zebra`.
    fn watching_zebra() -> Senders {
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
        let (mut senders, now) = (watching_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(!senders.handle_time(now + GOODBYE_GRACE / 2));
        assert!(!senders.accept(&id("ant"), None));
        assert!(senders.accept(&id("zebra"), None));
        assert_eq!(senders.deadline(), None);
    }

    #[test]
    fn a_sender_that_does_not_offer_again_is_left_for_the_others() {
        let (mut senders, now) = (watching_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(senders.handle_time(now + GOODBYE_GRACE));
        senders.returns();
        for sender in ["ant", "zebra"] {
            senders.joined(&id(sender));
        }
        assert!(!senders.accept(&id("zebra"), None), "others come first");
        assert!(senders.accept(&id("ant"), None));
    }

    #[test]
    fn if_the_others_do_not_offer_the_first_sender_is_accepted_again() {
        let (mut senders, now) = (watching_zebra(), Instant::now());
        senders.said_bye(id("zebra"), now);
        assert!(senders.handle_time(now + GOODBYE_GRACE));
        senders.returns();
        senders.joined(&id("zebra"));
        assert!(!senders.accept(&id("zebra"), None));
        assert!(senders.handle_time(now + GOODBYE_GRACE + OTHERS_FIRST), "returns once more");
        senders.returns();
        senders.joined(&id("zebra"));
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn a_bye_without_other_senders_changes_nothing() {
        let (mut senders, now) = (Senders::new(None), Instant::now());
        senders.joined(&id("zebra"));
        assert!(senders.accept(&id("zebra"), None));
        senders.said_bye(id("zebra"), now);
        assert!(!senders.handle_time(now + GOODBYE_GRACE));
        assert_eq!(senders.deadline(), None);
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn another_sender_that_leaves_does_not_cut_the_grace_short() {
        let (mut senders, now) = (watching_zebra(), Instant::now());
        senders.joined(&id("bee"));
        senders.said_bye(id("zebra"), now);
        senders.left(&id("bee"));
        senders.look_for_another(now);
        assert!(!senders.handle_time(now));
        assert!(senders.accept(&id("zebra"), None));
    }

    #[test]
    fn a_sender_that_leaves_makes_room_for_the_declined_one_at_once() {
        let (mut senders, now) = (watching_zebra(), Instant::now());
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert!(senders.handle_time(now));
        // The same in the grace.
        let mut senders = watching_zebra();
        senders.said_bye(id("zebra"), now);
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert!(senders.handle_time(now));
    }

    #[test]
    fn a_failed_session_is_retried_later_and_later_while_its_sender_is_there() {
        let (mut senders, now) = (Senders::new(None), Instant::now());
        senders.joined(&id("zebra"));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            senders.failed(&id("zebra"), now);
            assert_eq!(senders.deadline(), Some(now + Duration::from_secs(seconds)));
            assert!(senders.handle_time(now + Duration::from_secs(seconds)));
        }
        senders.connected();
        senders.failed(&id("zebra"), now);
        assert_eq!(senders.deadline(), Some(now + RETRY.0));
        senders.left(&id("zebra"));
        senders.look_for_another(now);
        assert_eq!(senders.deadline(), None);
    }

    #[test]
    fn only_the_wanted_sender_is_accepted_and_no_other_is_returned_to() {
        let (mut senders, now) = (Senders::new(Some(id("mine"))), Instant::now());
        senders.joined(&id("other"));
        assert!(!senders.accept(&id("other"), None));
        senders.look_for_another(now);
        assert!(!senders.handle_time(now));
        assert!(senders.accept(&id("mine"), None));
    }
}
