//! Messages between peers: targets, session ids, and messages that a client drops.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::*;
use room_protocol::{
    client::{Event, GoneReason, Input, Media, State},
    wire::{Body, ErrorCode, Role},
};
use serde_json::json;

#[test]
fn signals_go_out_with_target_and_session() {
    let mut client = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
    assert_eq!(
        client.say(to("viewer", session("s1"), offer())),
        [Did::Say(json!({"type": "offer", "sdp": "v=0", "target_id": "viewer", "session_id": "s1"}))]
    );
    let mut mine = to("viewer", None, candidate("candidate:1"));
    mine.from = Some(id("somebody"));
    assert_eq!(
        client.say(mine),
        [Did::Say(json!({"type": "candidate", "target_id": "viewer", "session_id": "s1", "candidate":
            {"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0}}))]
    );
    assert_eq!(
        client.say(to("viewer", None, Body::Bye)),
        [Did::Say(json!({"type": "bye", "target_id": "viewer", "session_id": "s1"}))]
    );
}

#[test]
fn an_empty_candidate_is_neither_sent_nor_received() {
    let mut client = Scenario::joined(Role::Receiver, &[peer("camera", "sender", "aa")]);
    for empty in ["", " "] {
        assert_eq!(client.say(to("camera", session("s1"), candidate(empty))), []);
        let heard = from("camera", session("s1"), candidate(empty));
        assert_eq!(client.hear(serde_json::to_value(heard).unwrap()), []);
    }
}

#[test]
fn signals_are_received_unchanged() {
    let mut client = Scenario::joined(Role::Receiver, &[old_peer("camera", "sender")]);
    let heard =
        json!({"type": "offer", "sdp": "v=0", "from": "camera", "target_id": "me", "session_id": "", "x": 1});
    assert_eq!(client.hear(heard), [tell(Event::Signal(from("camera", None, offer())))]);
    let browsers = json!({"type": "candidate", "from": "camera", "candidate":
        {"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "ab"}});
    assert_eq!(client.hear(browsers), [tell(Event::Signal(from("camera", None, candidate("candidate:1"))))]);
    let over = from("camera", None, Body::Bye);
    assert_eq!(client.hear(serde_json::to_value(&over).unwrap()), [tell(Event::Signal(over))]);
}

#[test]
fn nothing_is_sent_outside_of_the_room() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    assert_eq!(client.say(to("viewer", session("s1"), offer())), []);
    client.join(&[peer("viewer", "receiver", "aa")]);
    client.reconnect();
    assert_eq!(client.say(to("viewer", session("s1"), offer())), []);
}

#[test]
fn a_new_offer_ends_the_session_before_it() {
    let camera = peer("camera", "sender", "aa");
    let mut client = Scenario::joined(Role::Receiver, std::slice::from_ref(&camera));
    let heard = |session_id| from("camera", session(session_id), offer());
    let frame = |session_id| serde_json::to_value(heard(session_id)).unwrap();
    assert_eq!(client.hear(frame("s1")), [tell(Event::Signal(heard("s1")))]);
    client.media_of("camera", "s1", Media::Connected);
    assert_eq!(
        client.hear(frame("s1")),
        [tell(Event::Signal(heard("s1")))],
        "the same session, negotiated again"
    );
    assert_eq!(
        client.hear(frame("s2")),
        [gone("camera", GoneReason::Replaced), ready(&camera), tell(Event::Signal(heard("s2")))]
    );
}

#[test]
fn a_late_report_of_an_end_does_not_affect_the_next_session() {
    let camera = peer("camera", "sender", "aa");
    let mut client = Scenario::joined(Role::Receiver, &[camera]);
    let frame = |session_id| serde_json::to_value(from("camera", session(session_id), offer())).unwrap();
    client.hear(frame("s1"));
    client.hear(frame("s2"));
    client.media_of("camera", "s1", Media::Ended);
    client.media_of("camera", "s2", Media::Started);
    let again = from("camera", session("s2"), offer());
    assert_eq!(client.hear(frame("s2")), [tell(Event::Signal(again))], "still the same session");
}

#[test]
fn after_a_bye_the_next_session_replaces_nothing() {
    let camera = peer("camera", "sender", "aa");
    let mut client = Scenario::joined(Role::Receiver, &[camera]);
    client.hear(serde_json::to_value(from("camera", session("s1"), offer())).unwrap());
    let stale = from("camera", session("s0"), Body::Bye);
    assert_eq!(client.hear(serde_json::to_value(&stale).unwrap()), [tell(Event::Signal(stale))]);
    let over = from("camera", session("s1"), Body::Bye);
    assert_eq!(client.hear(serde_json::to_value(&over).unwrap()), [tell(Event::Signal(over))]);
    let next = from("camera", session("s2"), offer());
    assert_eq!(client.hear(serde_json::to_value(&next).unwrap()), [tell(Event::Signal(next))]);
}

#[test]
fn refusals_of_single_messages_are_reported() {
    let mut client = Scenario::joined(Role::Sender, &[]);
    let code = ErrorCode::TargetNotFound;
    assert_eq!(client.hear(error("target_not_found", "offer")), [refused(code, "offer")]);
    assert_eq!(client.hear(error("of_a_later_version", "offer")), [refused(ErrorCode::Unknown, "offer")]);
    assert_eq!(client.client.state(), State::Joined);
}

#[test]
fn shutdown_sends_bye_to_peers_with_a_session_and_leaves() {
    let peers = ["connected", "gone", "idle", "old", "started"].map(|id| match id {
        "old" => old_peer(id, "receiver"),
        id => peer(id, "receiver", id),
    });
    let mut client = Scenario::joined(Role::Sender, &peers);
    for id in ["connected", "gone", "started"] {
        client.say(to(id, session(id), offer()));
    }
    client.media_of("connected", "connected", Media::Connected);
    client.media_of("gone", "gone", Media::Connected);
    client.media("old", Media::Connected);
    assert_eq!(client.hear(peer_left("gone", "disconnected")), []);
    assert_eq!(
        client.handle(Input::Shutdown),
        [
            Did::Say(json!({"type": "bye", "target_id": "connected", "session_id": "connected"})),
            Did::Say(json!({"type": "bye", "target_id": "old"})),
            Did::Say(json!({"type": "bye", "target_id": "started", "session_id": "started"})),
            Did::Say(json!({"type": "leave"})),
            Did::Disconnect,
            tell(Event::State(State::Closed)),
        ]
    );
    for input in [Input::Shutdown, Input::Disconnected(None), Input::Connected, Input::Alive] {
        assert_eq!(client.handle(input), [], "closed once and for all");
    }
    assert_eq!(client.handle(report("gone", session("gone"), Media::Ended)), []);
    assert_eq!(client.client.poll_timeout(), None);
}

#[test]
fn shutdown_without_a_receiver_of_events_ends() {
    let mut connecting = Scenario::new(config(Role::Sender));
    connecting.did();
    assert_eq!(connecting.handle(Input::Shutdown), [Did::Disconnect, tell(Event::State(State::Closed))]);

    let mut waiting = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
    waiting.media("viewer", Media::Connected);
    waiting.handle(Input::Disconnected(None));
    assert_eq!(waiting.handle(Input::Shutdown), [tell(Event::State(State::Closed))]);
}
