//! Loss of the signaling connection, and its return.

use super::*;

#[test]
fn no_session_starts_without_signaling() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    scenario.run_for(60 * S);
    assert_eq!(scenario.handle(Input::InRoom(false)), []);
    assert_eq!(scenario.fail("viewer"), failure("viewer", EndReason::Timeout));
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn after_a_join_a_receiver_without_media_waits_until_signaling_reports_it() {
    for comes_back in [true, false] {
        let mut scenario = Scenario::new();
        scenario.watcher("viewer");
        scenario.handle(Input::InRoom(false));
        scenario.fail("viewer");
        scenario.run_for(100 * S);
        assert_eq!(scenario.handle(Input::InRoom(true)), [], "it may have left meanwhile");
        if comes_back {
            assert_eq!(scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Restart)), []);
            assert_eq!(scenario.join("viewer"), [asked("viewer"), started("viewer")]);
        } else {
            assert_eq!(scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Absent)), []);
            assert!(scenario.roster.receivers().is_empty());
        }
    }
}

#[test]
fn media_continues_without_signaling() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    let session = scenario.session("viewer");
    assert_eq!(scenario.handle(Input::InRoom(false)), []);
    assert_eq!(scenario.run_for(1000 * S), []);
    assert_eq!(scenario.handle(Input::InRoom(true)), []);
    assert_eq!(scenario.session("viewer"), session);
    scenario.fail("viewer");
    assert_eq!(scenario.nothing_until(100 * MS), [started("viewer")], "it was there all along");
}

#[test]
fn an_interrupted_negotiation_starts_again() {
    let mut scenario = Scenario::new();
    scenario.join("viewer");
    scenario.offer("viewer");
    scenario.handle(Input::InRoom(false));
    scenario.handle(Input::InRoom(true));
    assert_eq!(
        scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Restart)),
        [ended("viewer", EndReason::Restart), reported("viewer", Media::Ended)]
    );
    assert_eq!(scenario.join("viewer"), [asked("viewer"), started("viewer")]);
}

#[test]
fn a_changed_meta_confirms_that_a_receiver_is_present() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::InRoom(false));
    scenario.join("viewer");
    assert_eq!(scenario.handle(Input::InRoom(true)), []);
    let changed = Input::PeerChanged(with_meta("viewer", &json!(1)));
    assert_eq!(scenario.handle(changed), [asked_with("viewer", "1"), started("viewer")]);
}

#[test]
fn after_a_stop_all_sessions_end_and_none_starts() {
    let mut scenario = Scenario::new();
    scenario.watcher("a");
    scenario.join("b");
    let did = scenario.handle(Input::Stop);
    assert_eq!(did, [end_with_bye("a", EndReason::Closed), vec![ended("b", EndReason::Closed)]].concat());
    assert_eq!(scenario.join("c"), []);
    assert_eq!(scenario.run_for(1000 * S), []);
}
