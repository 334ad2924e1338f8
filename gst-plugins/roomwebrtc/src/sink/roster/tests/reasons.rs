//! A receiver that was refused or kicked, or said `bye`, gets no session, regardless of its messages.

use super::*;

/// All inputs that a receiver can cause without a new process and without leaving the room.
fn everything_it_can_send(name: &str) -> Vec<Input> {
    let changed = with_meta(name, &json!({"battery": 80}));
    vec![
        Input::PeerChanged(changed.clone()),
        Input::PeerGone(id(name), GoneReason::Restart),
        Input::PeerReady(changed),
        signal(name, None, Body::Answer { sdp: "answer".into() }),
        signal(name, None, Body::Bye),
        signal(name, None, Body::Candidate { candidate: candidate() }),
    ]
}

fn assert_stays_out(scenario: &mut Scenario, name: &str, reason: Exclusion, may_be_asked: bool) {
    for input in everything_it_can_send(name) {
        let did = scenario.handle(input.clone());
        let nothing = |did: &Observed| {
            matches!(did, Observed::Noticed(_)) || may_be_asked && matches!(did, Observed::Asked(..))
        };
        assert!(did.iter().all(nothing), "{input:?}: {did:?}");
        scenario.assert_out(name, reason);
    }
    assert_eq!(scenario.run_for(1000 * S), []);
}

#[test]
fn a_refused_receiver_stays_refused() {
    let mut scenario = Scenario::new();
    assert_eq!(
        scenario.join("stranger"),
        [asked("stranger"), Observed::Noticed(Notice::Refused(id("stranger")))]
    );
    assert_stays_out(&mut scenario, "stranger", Exclusion::Refused, true);
}

#[test]
fn the_application_decides_again_when_meta_changes() {
    let mut scenario = Scenario::new();
    scenario.join("stranger");
    let ticket = Input::PeerChanged(with_meta("stranger", &json!("ticket")));
    assert_eq!(scenario.handle(ticket), [asked_with("stranger", "\"ticket\""), started("stranger")]);
    scenario.connect("stranger");
    let no_ticket = Input::PeerChanged(with_meta("stranger", &json!("none")));
    assert_eq!(
        scenario.handle(no_ticket),
        [
            vec![asked_with("stranger", "\"none\"")],
            end_with_bye("stranger", EndReason::Refused),
            vec![Observed::Noticed(Notice::Refused(id("stranger")))]
        ]
        .concat(),
        "a running session ends if the answer is no"
    );
    assert_stays_out(&mut scenario, "stranger", Exclusion::Refused, true);
}

#[test]
fn an_allowed_change_of_meta_does_not_end_the_session() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    let session = scenario.session("viewer");
    let changed = Input::PeerChanged(with_meta("viewer", &json!(1)));
    assert_eq!(scenario.handle(changed.clone()), [asked_with("viewer", "1")]);
    assert_eq!(scenario.handle(changed), [], "nothing changed, so there is nothing to decide");
    assert_eq!(scenario.session("viewer"), session);
}

#[test]
fn a_kicked_receiver_stays_kicked() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(scenario.handle(Input::Kick("viewer".into())), end_with_bye("viewer", EndReason::Kicked));
    assert_stays_out(&mut scenario, "viewer", Exclusion::Kicked, false);
    for reason in [GoneReason::Left, GoneReason::Absent] {
        assert_eq!(scenario.handle(Input::PeerGone(id("viewer"), reason)), []);
        assert_eq!(scenario.join("viewer"), [stays_excluded("viewer")], "the same process");
    }
    scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Replaced));
    let other = Input::PeerReady(process("viewer", "other", &Value::Null));
    assert_eq!(scenario.handle(other), [asked("viewer"), started("viewer")], "another process");
}

#[test]
fn a_receiver_without_a_session_can_be_kicked_too() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::Flowing(false));
    scenario.join("viewer");
    assert_eq!(scenario.handle(Input::Kick("viewer".into())), []);
    assert_eq!(scenario.handle(Input::Flowing(true)), []);
    scenario.assert_out("viewer", Exclusion::Kicked);
    let nobody = Input::Kick("nobody".into());
    assert_eq!(scenario.handle(nobody), [Observed::Noticed(Notice::NoSuchReceiver("nobody".into()))]);
}

#[test]
fn the_list_of_kicked_processes_is_bounded() {
    let mut scenario = Scenario::new();
    let names: Vec<String> = (0..=crate::sink::roster::queue::MAX_KICKED).map(|n| format!("v{n}")).collect();
    for name in &names {
        scenario.join(name);
        scenario.handle(Input::Kick(name.clone()));
        scenario.handle(Input::PeerGone(id(name), GoneReason::Left));
    }
    assert_eq!(scenario.join("v1"), [stays_excluded("v1")]);
    assert_eq!(scenario.join("v0"), [asked("v0"), started("v0")]);
}

#[test]
fn a_receiver_that_said_bye_gets_no_session_until_it_joins_again() {
    let mut scenario = Scenario::new();
    scenario.watcher("viewer");
    assert_eq!(
        scenario.receive("viewer", Body::Bye),
        [ended("viewer", EndReason::Bye), reported("viewer", Media::Ended)]
    );
    assert_stays_out(&mut scenario, "viewer", Exclusion::Bye, false);
    assert_eq!(scenario.handle(Input::Streams(VIDEO.to_vec())), []);
    scenario.handle(Input::PeerGone(id("viewer"), GoneReason::Left));
    assert_eq!(scenario.join("viewer"), [asked("viewer"), started_both("viewer")]);
}

#[test]
fn an_old_receiver_gets_only_one_offer() {
    for end in [Input::Flowing(false), Input::PeerGone(id("old"), GoneReason::Restart)] {
        let mut scenario = Scenario::new();
        scenario.handle(Input::PeerReady(old_peer("old")));
        scenario.connect("old");
        assert!(!scenario.handle(end.clone()).is_empty(), "{end:?}");
        assert_eq!(scenario.handle(Input::Flowing(true)), [], "{end:?}");
        assert_eq!(scenario.handle(Input::PeerReady(old_peer("old"))), [stays_excluded("old")], "{end:?}");
        scenario.assert_out("old", Exclusion::AlreadyServed);
        assert_eq!(scenario.run_for(1000 * S), []);
        scenario.handle(Input::PeerGone(id("old"), GoneReason::Absent));
        let did = scenario.handle(Input::PeerReady(old_peer("old")));
        assert_eq!(did, [asked("old"), started("old")], "another visit");
    }
}

#[test]
fn an_old_receiver_gets_another_session_if_no_offer_was_sent() {
    let mut scenario = Scenario::new();
    scenario.handle(Input::PeerReady(old_peer("old")));
    assert_eq!(scenario.fail("old").last(), Some(&ended("old", EndReason::Timeout)), "no bye and no report");
    assert_eq!(scenario.nothing_until(S), [started("old")]);
}
