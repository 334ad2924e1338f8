//! Streams that start, change and end, and answers that reject some of them.

use super::*;

#[test]
fn receivers_wait_for_a_stream() {
    let mut scenario = Scenario::empty(Limits::default());
    scenario.handle(Input::InRoom(true));
    assert_eq!(scenario.join("viewer"), [asked("viewer")]);
    assert_eq!(scenario.handle(Input::Flowing(true)), []);
    assert_eq!(scenario.handle(Input::Streams(vec![VIDEO[0]])), [started("viewer")]);
}

#[test]
fn another_stream_needs_another_session() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(
        scenario.handle(Input::Streams(VIDEO.to_vec())),
        [end_with_bye("viewer", EndReason::StreamsChanged), vec![started_both("viewer")]].concat()
    );
    assert_eq!(scenario.handle(Input::Streams(VIDEO.to_vec())), [], "the same streams");
}

#[test]
fn an_old_receiver_keeps_the_streams_it_has() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::PeerReady(old_peer("old")));
    scenario.connect("old");
    let session = scenario.session("old");
    assert_eq!(scenario.handle(Input::Streams(VIDEO.to_vec())), []);
    assert_eq!(scenario.handle(Input::Streams(vec![VIDEO[1]])), []);
    assert_eq!(scenario.session("old"), session);
}

#[test]
fn sessions_end_with_the_last_stream_and_start_when_one_flows_again() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(scenario.handle(Input::Flowing(false)), end_with_bye("viewer", EndReason::Ended));
    assert_eq!(scenario.run_for(1000 * S), []);
    assert_eq!(scenario.handle(Input::Flowing(true)), [started("viewer")]);
}

#[test]
fn without_a_stream_there_is_no_offer() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(scenario.handle(Input::Streams(vec![])), end_with_bye("viewer", EndReason::StreamsChanged));
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn new_streams_end_the_back_off() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.fail("viewer");
    assert_eq!(scenario.handle(Input::Streams(VIDEO.to_vec())), [started_both("viewer")]);
}

/// A receiver that has answered an offer of two streams.
fn answered(peer: PeerEntry) -> Scenario {
    let name = peer.client_id.to_string();
    let mut scenario = Scenario::new();
    scenario.handle(Input::Streams(VIDEO.to_vec()));
    scenario.handle(Input::PeerReady(peer));
    scenario.offer(&name);
    scenario.answer(&name);
    scenario
}

fn rejects_first() -> Update {
    Update::FirstStreamRejected(vec![VIDEO[0]])
}

#[test]
fn a_receiver_that_rejects_the_first_stream_gets_a_session_without_it() {
    let mut scenario = answered(peer("viewer"));
    let notice = Observed::Noticed(Notice::WithoutRejected(id("viewer"), vec![VIDEO[0]]));
    let second = Observed::Started("viewer".into(), vec![VIDEO[1]]);
    assert_eq!(
        scenario.update("viewer", rejects_first()),
        [vec![notice], end_with_bye("viewer", EndReason::FirstStreamRejected), vec![second]].concat(),
        "immediately, because nothing failed"
    );
    scenario.connect("viewer");
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn rejected_streams_are_offered_again_after_a_failure_and_when_streams_change() {
    let mut scenario = answered(peer("viewer"));
    scenario.update("viewer", rejects_first());
    scenario.fail("viewer");
    assert_eq!(scenario.nothing_until(S), [started_both("viewer")]);

    scenario.offer("viewer");
    scenario.answer("viewer");
    scenario.update("viewer", rejects_first());
    assert_eq!(scenario.handle(Input::Streams(vec![VIDEO[0]])).last(), Some(&started("viewer")));
}

#[test]
fn an_old_receiver_that_rejects_the_first_stream_fails() {
    let mut scenario = answered(old_peer("old"));
    assert_eq!(scenario.update("old", rejects_first()), failure("old", EndReason::FirstStreamRejected));
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn rejecting_the_same_streams_again_is_a_failure() {
    let mut scenario = answered(peer("viewer"));
    scenario.update("viewer", rejects_first());
    let did = scenario.update("viewer", rejects_first());
    assert_eq!(
        did.first(),
        Some(&Observed::Noticed(Notice::Failed(id("viewer"), EndReason::FirstStreamRejected)))
    );
    assert_eq!(scenario.nothing_until(S), [started_both("viewer")]);
}
