//! Sessions that fail: when the next one starts, and how long each step may take.

use super::*;

#[test]
fn the_wait_doubles_from_1_s_to_30_s() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        scenario.offer("viewer");
        assert_eq!(scenario.fail("viewer"), failure("viewer", EndReason::Timeout));
        assert_eq!(scenario.nothing_until(wait * S), [started("viewer")], "{wait} s");
    }
}

#[test]
fn an_answer_and_a_connection_take_30_s_at_most() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.offer("viewer");
    assert_eq!(scenario.nothing_until(30 * S), failure("viewer", EndReason::NoAnswer));
    scenario.run_for(S);
    scenario.offer("viewer");
    scenario.answer("viewer");
    assert_eq!(scenario.nothing_until(30 * S), failure("viewer", EndReason::NoConnection));
}

#[test]
fn gathering_takes_2_s_at_most_counted_from_when_the_offer_is_in_force() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.update("viewer", Update::Offer("offer".into()));
    assert_eq!(scenario.run_for(10 * S), [], "a busy machine may need this long for an offer");
    scenario.update("viewer", Update::OfferSet);
    let notice = Observed::Noticed(Notice::Failed(id("viewer"), EndReason::NoAddress));
    let over = ended("viewer", EndReason::NoAddress);
    assert_eq!(scenario.nothing_until(2 * S), [notice, over], "the receiver never heard of it");
    assert_eq!(scenario.nothing_until(S), [started("viewer")]);
}

#[test]
fn an_offer_that_is_never_made_ends_after_30_s() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    assert_eq!(scenario.nothing_until(30 * S).last(), Some(&ended("viewer", EndReason::NoOffer)));
}

#[test]
fn a_settled_session_is_replaced_without_back_off() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.fail("viewer");
    scenario.run_for(S);
    scenario.connect("viewer");
    scenario.run_for(10 * S);
    scenario.fail("viewer");
    let did = scenario.nothing_until(100 * MS);
    assert_eq!(did, [started("viewer")], "by then signaling has reported it if the receiver left");
    scenario.fail("viewer");
    assert_eq!(scenario.nothing_until(S), [started("viewer")], "the failures before are forgotten");
}

#[test]
fn a_session_that_ends_soon_after_its_connection_is_a_failure() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    for wait in [1, 2, 4] {
        scenario.connect("viewer");
        scenario.fail("viewer");
        assert_eq!(scenario.nothing_until(wait * S), [started("viewer")], "{wait} s");
    }
}

#[test]
fn a_receiver_that_joins_again_waits_1_s_at_most() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    for _ in 0..6 {
        scenario.fail("viewer");
        scenario.run_for(30 * S);
    }
    for again in [
        vec![Input::PeerGone(id("viewer"), GoneReason::Restart), Input::PeerReady(peer("viewer"))],
        vec![Input::PeerChanged(with_meta("viewer", &json!(1)))],
    ] {
        scenario.fail("viewer");
        for input in again {
            scenario.handle(input);
        }
        assert_eq!(scenario.nothing_until(S), [started("viewer")]);
    }
}

#[test]
fn an_old_receiver_that_is_busy_with_another_sender_is_offered_to_again_after_30_s() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::PeerReady(old_peer("old")));
    scenario.offer("old");
    assert_eq!(
        scenario.handle(Input::Busy(id("old"))),
        [ended("old", EndReason::Busy), reported("old", Media::Ended)]
    );
    assert_eq!(scenario.nothing_until(30 * S), [started("old")]);
}

#[test]
fn a_session_that_failed_to_start_is_retried() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    let error = EndReason::Failed("webrtcbin is missing".into());
    assert_eq!(
        scenario.update("viewer", Update::NotStarted("webrtcbin is missing".into())),
        [Observed::Noticed(Notice::Failed(id("viewer"), error.clone())), ended("viewer", error)]
    );
    assert_eq!(scenario.nothing_until(S), [started("viewer")]);
}
