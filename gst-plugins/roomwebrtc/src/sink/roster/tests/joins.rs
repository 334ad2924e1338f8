//! From a receiver's join to its media.

use super::*;
use room_signaling_client::wire::Role;

#[test]
fn a_receiver_is_authorized_gets_an_offer_and_connects() {
    let mut scenario = Scenario::new();
    assert_eq!(scenario.join("viewer"), [asked("viewer"), started("viewer")]);
    assert_eq!(scenario.update("viewer", Update::Offer("offer".into())), []);
    assert_eq!(scenario.update("viewer", Update::OfferSet), []);
    let sent = Observed::SentCandidate("viewer".into());
    assert_eq!(
        scenario.update("viewer", Update::Candidate(candidate())),
        [Observed::Offered("viewer".into()), reported("viewer", Media::Started), sent.clone()],
        "the offer goes out with the first candidate"
    );
    assert_eq!(scenario.update("viewer", Update::Candidate(candidate())), [sent]);
    let theirs = Body::Candidate { candidate: candidate() };
    assert_eq!(scenario.receive("viewer", theirs), [Observed::AddedCandidate("viewer".into())]);
    assert_eq!(scenario.answer("viewer"), [Observed::Accepted("viewer".into(), "answer".into())]);
    assert_eq!(
        scenario.update("viewer", Update::Connected),
        [Observed::Opened("viewer".into()), reported("viewer", Media::Connected)]
    );
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn a_candidate_may_precede_the_local_description() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.update("viewer", Update::Offer("offer".into()));
    let did = scenario.update("viewer", Update::Candidate(candidate()));
    assert_eq!(did.first(), Some(&Observed::Offered("viewer".into())));
    assert_eq!(scenario.update("viewer", Update::OfferSet), []);
    assert_eq!(scenario.run_for(29 * S), [], "the offer waits for its answer");
}

#[test]
fn with_relay_candidates_only_the_offer_does_not_wait_for_a_candidate() {
    let mut scenario = Scenario::with(Limits { relay_only: true, ..Limits::default() });
    scenario.join("viewer");
    assert_eq!(
        scenario.update("viewer", Update::Offer("offer".into())),
        [Observed::Offered("viewer".into()), reported("viewer", Media::Started)]
    );
}

#[test]
fn senders_and_members_other_than_the_target_are_not_served() {
    let mut scenario = Scenario::with(Limits { target_id: Some("chosen".into()), ..Limits::default() });
    let sender = PeerEntry { role: Role::Sender, ..peer("chosen") };
    assert_eq!(scenario.handle(Input::PeerReady(sender)), []);
    assert_eq!(scenario.join("other"), []);
    assert_eq!(scenario.join("chosen"), [asked("chosen"), started("chosen")]);
}

#[test]
fn one_session_starts_in_each_turn() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::Flowing(false));
    for name in ["c", "a", "b"] {
        assert_eq!(scenario.join(name), [asked(name)]);
    }
    scenario.roster.handle(scenario.now, Input::Flowing(true));
    for name in ["c", "a", "b"] {
        assert_eq!(scenario.outputs(), []);
        assert_eq!(
            scenario.roster.poll_timeout(),
            Some(scenario.now),
            "the next session can start immediately"
        );
        scenario.roster.handle_timeout(scenario.now);
        assert_eq!(scenario.outputs(), [started(name)], "in the order of arrival");
    }
    scenario.roster.handle_timeout(scenario.now);
    assert_eq!(scenario.outputs(), []);
    assert_eq!(scenario.roster.poll_timeout(), Some(scenario.now + 30 * S), "the patience with the offers");
}

#[test]
fn a_new_process_of_a_receiver_gets_a_new_session() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(
        scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Replaced)),
        [ended("viewer", EndReason::Replaced), reported("viewer", Media::Ended)]
    );
    assert!(scenario.roster.receivers().is_empty());
    let other = Input::PeerReady(process("viewer", "other", &Value::Null));
    assert_eq!(scenario.handle(other), [asked("viewer"), started("viewer")]);
}

#[test]
fn session_ids_are_unique() {
    let mut scenario = Scenario::new();
    scenario.join("a");
    scenario.join("b");
    let first = scenario.session("a");
    assert_ne!(first, scenario.session("b"));
    scenario.fail("a");
    scenario.run_for(S);
    assert_ne!(first, scenario.session("a"));
}

#[test]
fn late_updates_and_messages_of_an_ended_session_are_ignored() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    let over = scenario.session("viewer");
    scenario.handle(Input::Streams(VIDEO.to_vec()));
    scenario.offer("viewer");
    let ignored = [Observed::Noticed(Notice::Ignored(id("viewer"), "a message for a session that is over"))];
    for body in [Body::Bye, Body::Answer { sdp: "late".into() }, Body::Candidate { candidate: candidate() }] {
        let did = scenario.handle(signal("viewer", Some(over.clone()), body.clone()));
        assert_eq!(did, ignored, "{body:?} that crossed our offer");
    }
    for update in [
        Update::Connected,
        Update::Failed(EndReason::Timeout),
        Update::Offer("late".into()),
        Update::NoPort,
        Update::Candidate(candidate()),
    ] {
        assert_eq!(scenario.handle(Input::Session(id("viewer"), over.clone(), update)), []);
    }
    assert_eq!(
        scenario.handle(signal("viewer", None, Body::Answer { sdp: "answer".into() })),
        [Observed::Accepted("viewer".into(), "answer".into())],
        "without a session id, a message is about the current session"
    );
}

#[test]
fn misplaced_messages_are_ignored() {
    let mut scenario = Scenario::new();
    assert_eq!(scenario.handle(signal("nobody", None, Body::Bye)), []);
    scenario.watcher("viewer");
    let ignored = |what| [Observed::Noticed(Notice::Ignored(id("viewer"), what))];
    assert_eq!(scenario.answer("viewer"), ignored("an answer without a pending offer"));
    let glare = scenario.receive("viewer", Body::Offer { sdp: "offer".into() });
    assert_eq!(glare, ignored("an offer to a sender"));
    scenario.join("other");
    assert_eq!(scenario.update("other", Update::Connected), [], "before the answer");
}
