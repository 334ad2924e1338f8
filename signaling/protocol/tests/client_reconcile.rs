//! Which media sessions survive a broken connection on either side.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::*;
use room_protocol::{
    client::{
        Event,
        GoneReason::{Absent, Left, Replaced, Restart},
        Input, Media, State,
    },
    wire::{Body, Role},
};
use serde_json::json;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A sender whose socket broke and is open again, with one receiver whose session is in this state.
fn sender_back_with(media: Option<Media>) -> Scenario {
    let mut client = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
    if let Some(media) = media {
        client.say(to("viewer", session("s1"), offer()));
        client.media_of("viewer", "s1", media);
    }
    client.reconnect();
    client
}

fn in_room(more: Vec<Did>) -> Vec<Did> {
    let mut all = vec![tell(Event::State(State::Joined)), tell_joined()];
    all.extend(more);
    all
}

#[test]
fn a_known_process_with_media_keeps_its_session() {
    let mut client = sender_back_with(Some(Media::Connected));
    assert_eq!(client.join(&[peer("viewer", "receiver", "aa")]), in_room(vec![]));
}

#[test]
fn a_changed_meta_is_announced() {
    let mut client = sender_back_with(Some(Media::Connected));
    let mut viewer = peer("viewer", "receiver", "aa");
    viewer["meta"] = json!("other");
    assert_eq!(client.join(std::slice::from_ref(&viewer)), in_room(vec![changed(&viewer)]));
}

#[test]
fn an_unconnected_session_is_restarted() {
    for media in [None, Some(Media::Started), Some(Media::Ended)] {
        let mut client = sender_back_with(media);
        let viewer = peer("viewer", "receiver", "aa");
        let reported = client.join(std::slice::from_ref(&viewer));
        assert_eq!(reported, in_room(vec![gone("viewer", Restart), ready(&viewer)]), "{media:?}");
    }
}

#[test]
fn a_new_process_gets_a_new_session() {
    for media in [None, Some(Media::Started), Some(Media::Connected)] {
        let mut client = sender_back_with(media);
        let viewer = peer("viewer", "receiver", "bb");
        let reported = client.join(std::slice::from_ref(&viewer));
        assert_eq!(reported, in_room(vec![gone("viewer", Replaced), ready(&viewer)]), "{media:?}");
    }
}

#[test]
fn a_restarted_sender_is_a_new_one_to_receivers() {
    let mut client = Scenario::joined(Role::Receiver, &[peer("camera", "sender", "aa")]);
    client.media("camera", Media::Connected);
    assert_eq!(client.hear(peer_left("camera", "disconnected")), []);
    let camera = peer("camera", "sender", "bb");
    assert_eq!(client.hear(peer_joined(&camera)), [gone("camera", Replaced), ready(&camera)]);
    let camera = peer("camera", "sender", "cc");
    assert_eq!(
        client.hear(peer_joined(&camera)),
        [gone("camera", Replaced), ready(&camera)],
        "without peer_left"
    );
}

#[test]
fn a_peer_that_is_absent_after_a_reconnect_is_kept_for_30_s() {
    let mut client = sender_back_with(Some(Media::Connected));
    assert_eq!(client.join(&[]), in_room(vec![]));
    assert_eq!(client.run_alive_for((30 * S).saturating_sub(MS)), []);
    assert_eq!(client.run_for(MS), [gone("viewer", Absent)]);
    assert_eq!(client.run_alive_for(100 * S), []);
}

#[test]
fn a_peer_that_returns_within_30_s_keeps_its_session() {
    let mut client = sender_back_with(Some(Media::Connected));
    client.join(&[]);
    assert_eq!(client.run_alive_for(29 * S), []);
    assert_eq!(client.hear(peer_joined(&peer("viewer", "receiver", "aa"))), []);
    assert_eq!(client.run_alive_for(100 * S), []);
    assert_eq!(client.present(), ["viewer"]);
}

#[test]
fn an_absent_peer_without_media_is_gone_immediately() {
    for media in [None, Some(Media::Started), Some(Media::Ended)] {
        let mut client = sender_back_with(media);
        assert_eq!(client.join(&[]), in_room(vec![gone("viewer", Absent)]), "{media:?}");
    }
}

#[test]
fn the_end_of_its_media_ends_the_absence() {
    let mut client = sender_back_with(Some(Media::Connected));
    client.join(&[]);
    client.run_alive_for(5 * S);
    let ended = report("viewer", session("s1"), Media::Ended);
    assert_eq!(client.handle(ended.clone()), [gone("viewer", Absent)]);
    assert_eq!(client.handle(ended), []);
    assert_eq!(client.run_alive_for(100 * S), []);
}

#[test]
fn the_30_s_start_again_with_every_return_and_stand_still_outside() {
    let mut client = sender_back_with(Some(Media::Connected));
    client.join(&[]);
    client.run_alive_for(20 * S);
    client.handle(Input::Disconnected(None));
    let outside = client.run_for(60 * S);
    assert!(!outside.contains(&gone("viewer", Absent)), "{outside:?}");
    while client.client.poll_timeout().is_some() && !client.run_to_timeout().contains(&Did::Connect) {}
    assert_eq!(client.join(&[]), in_room(vec![]));
    assert_eq!(client.run_alive_for(29 * S), []);
    assert_eq!(client.run_for(S), [gone("viewer", Absent)]);
}

#[test]
fn left_and_kicked_end_media_at_once() {
    for reason in ["left", "kicked"] {
        let mut client = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
        client.media("viewer", Media::Connected);
        assert_eq!(client.hear(peer_left("viewer", reason)), [gone("viewer", Left)], "{reason}");
    }
}

#[test]
fn disconnected_leaves_it_to_the_media_without_a_limit() {
    for reason in ["disconnected", "timeout"] {
        let mut client = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
        client.media("viewer", Media::Connected);
        assert_eq!(client.hear(peer_left("viewer", reason)), []);
        assert_eq!(client.present(), Vec::<&str>::new());
        assert_eq!(client.run_alive_for(300 * S), [], "{reason}");
        assert_eq!(client.handle(report("viewer", None, Media::Ended)), [gone("viewer", Absent)]);
    }
}

#[test]
fn disconnected_before_its_media_connected_is_gone_at_once() {
    for media in [None, Some(Media::Started), Some(Media::Ended)] {
        let mut client = Scenario::joined(Role::Sender, &[peer("viewer", "receiver", "aa")]);
        if let Some(media) = media {
            client.media("viewer", media);
        }
        assert_eq!(client.hear(peer_left("viewer", "timeout")), [gone("viewer", Absent)], "{media:?}");
        let viewer = peer("viewer", "receiver", "aa");
        assert_eq!(client.hear(peer_joined(&viewer)), [ready(&viewer)]);
    }
}

#[test]
fn a_new_socket_keeps_media_and_restarts_a_negotiation() {
    let viewer = peer("viewer", "receiver", "aa");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&viewer));
    client.say(to("viewer", session("s1"), offer()));
    assert_eq!(client.hear(peer_joined(&viewer)), [gone("viewer", Restart), ready(&viewer)]);
    client.say(to("viewer", session("s2"), offer()));
    client.media_of("viewer", "s2", Media::Connected);
    assert_eq!(client.hear(peer_joined(&viewer)), []);
}

#[test]
fn changed_meta_does_not_disturb_a_negotiation() {
    let mut viewer = peer("viewer", "receiver", "aa");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&viewer));
    client.say(to("viewer", session("s1"), offer()));
    viewer["meta"] = json!(1);
    assert_eq!(client.hear(peer_joined(&viewer)), [changed(&viewer)]);
}

#[test]
fn broken_media_with_a_present_peer_is_restarted() {
    let viewer = peer("viewer", "receiver", "aa");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&viewer));
    client.say(to("viewer", session("s1"), offer()));
    client.media_of("viewer", "s1", Media::Connected);
    let ended = |named| report("viewer", session(named), Media::Ended);
    assert_eq!(client.handle(ended("s1")), [gone("viewer", Restart), ready(&viewer)]);
    client.say(to("viewer", session("s2"), offer()));
    assert_eq!(client.handle(ended("s2")), [], "it never connected: trying again at once would never end");
    assert_eq!(client.present(), ["viewer"]);
}

#[test]
fn not_after_a_bye_and_not_with_old_receivers_nor_by_receivers() {
    let ended = |peer| report(peer, None, Media::Ended);
    let mut client =
        Scenario::joined(Role::Sender, &[peer("a", "receiver", "aa"), old_peer("old", "receiver")]);
    for says_bye in ["me", "a"] {
        client.say(to("a", session("s1"), offer()));
        client.media_of("a", "s1", Media::Connected);
        if says_bye == "me" {
            client.say(to("a", session("s1"), Body::Bye));
        } else {
            client.hear(serde_json::to_value(from("a", session("s1"), Body::Bye)).unwrap());
        }
        client.media_of("a", "s1", Media::Ended);
    }
    client.media("old", Media::Connected);
    assert_eq!(client.handle(ended("old")), []);
    assert_eq!(client.handle(ended("stranger")), []);

    let mut client = Scenario::joined(Role::Receiver, &[peer("camera", "sender", "aa")]);
    client.media("camera", Media::Connected);
    assert_eq!(client.handle(ended("camera")), []);
}

/// A receiver that got an offer from a sender.
fn receiver_with_offer() -> Scenario {
    let mut client = Scenario::joined(Role::Receiver, &[peer("camera", "sender", "aa")]);
    client.hear(serde_json::to_value(from("camera", session("s1"), offer())).unwrap());
    client
}

#[test]
fn a_receiver_keeps_an_unconnected_session_until_a_new_offer() {
    let camera = peer("camera", "sender", "aa");
    let mut client = receiver_with_offer();
    client.reconnect();
    assert_eq!(client.join(std::slice::from_ref(&camera)), in_room(vec![]));
    assert_eq!(client.hear(peer_joined(&camera)), []);
    assert_eq!(client.hear(peer_left("camera", "disconnected")), []);
    assert_eq!(client.hear(peer_joined(&camera)), []);
    let next = from("camera", session("s2"), offer());
    assert_eq!(
        client.hear(serde_json::to_value(&next).unwrap()),
        [gone("camera", Replaced), ready(&camera), tell(Event::Signal(next))]
    );
}

#[test]
fn but_not_longer_than_30_s() {
    let mut client = receiver_with_offer();
    client.hear(peer_left("camera", "disconnected"));
    assert_eq!(client.run_alive_for(29 * S), []);
    assert_eq!(client.run_for(S), [gone("camera", Absent)]);

    let mut client = receiver_with_offer();
    client.reconnect();
    assert_eq!(client.join(&[]), in_room(vec![]));
    assert_eq!(client.run_alive_for(29 * S), []);
    assert_eq!(client.run_for(S), [gone("camera", Absent)]);
}

#[test]
fn old_peers_keep_their_media_over_our_reconnect() {
    let old = old_peer("viewer", "receiver");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&old));
    client.media("viewer", Media::Connected);
    client.reconnect();
    assert_eq!(client.join(std::slice::from_ref(&old)), in_room(vec![]));
}

#[test]
fn returning_old_peers_are_new_processes() {
    let old = old_peer("viewer", "receiver");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&old));
    client.media("viewer", Media::Connected);
    assert_eq!(client.hear(peer_left("viewer", "disconnected")), []);
    assert_eq!(client.hear(peer_joined(&old)), [gone("viewer", Replaced), ready(&old)]);

    client.media("viewer", Media::Connected);
    client.reconnect();
    assert_eq!(client.join(&[]), in_room(vec![]));
    assert_eq!(client.hear(peer_joined(&old)), [gone("viewer", Replaced), ready(&old)]);

    client.media("viewer", Media::Connected);
    client.hear(peer_left("viewer", "timeout"));
    client.reconnect();
    let reported = client.join(std::slice::from_ref(&old));
    assert_eq!(reported, in_room(vec![gone("viewer", Replaced), ready(&old)]), "it came while we were away");
}

#[test]
fn an_old_peer_with_an_epoch_is_a_new_process() {
    let mut client = Scenario::joined(Role::Sender, &[old_peer("viewer", "receiver")]);
    client.media("viewer", Media::Connected);
    let new = peer("viewer", "receiver", "aa");
    assert_eq!(client.hear(peer_joined(&new)), [gone("viewer", Replaced), ready(&new)]);
    let old = old_peer("viewer", "receiver");
    assert_eq!(client.hear(peer_joined(&old)), [gone("viewer", Replaced), ready(&old)]);
}

#[test]
fn a_truncated_list_proves_no_absence() {
    let mut client =
        Scenario::joined(Role::Sender, &[peer("zoe", "receiver", "aa"), peer("zac", "receiver", "bb")]);
    client.media("zoe", Media::Connected);
    client.reconnect();
    let (amy, zac) = (peer("amy", "receiver", "cc"), peer("zac", "receiver", "bb"));
    client.handle(Input::Connected);
    client.hear(registered());
    let mut welcome = joined(&[amy.clone(), json!({"client_id": "x", "role": "unreadable"})]);
    welcome["total"] = json!(4);
    assert_eq!(client.hear(welcome), in_room(vec![gone("zac", Restart), ready(&zac), ready(&amy)]));
    assert_eq!(client.run_alive_for(40 * S), []);
    assert_eq!(client.present(), ["amy", "zac", "zoe"]);

    client.reconnect();
    client.handle(Input::Connected);
    client.hear(registered());
    let mut welcome =
        joined(&[amy, zac, json!({"client_id": "zoe", "role": "unreadable"}), peer("me", "sender", "dd")]);
    welcome["total"] = json!(4);
    let reported = client.hear(welcome);
    assert_eq!(client.present(), ["amy", "zac"], "all of them were listed: {reported:?}");
}

#[test]
fn a_truncated_list_proves_no_presence() {
    for viewer in [old_peer("viewer", "receiver"), peer("viewer", "receiver", "aa")] {
        let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&viewer));
        client.media("viewer", Media::Connected);
        assert_eq!(client.hear(peer_left("viewer", "disconnected")), []);
        client.reconnect();
        client.handle(Input::Connected);
        client.hear(registered());
        let mut welcome = joined(&[]);
        welcome["total"] = json!(1001);
        assert_eq!(client.hear(welcome), in_room(vec![]), "its media decides, and nothing else");
        assert_eq!(client.present(), Vec::<&str>::new());
        assert_eq!(client.handle(report("viewer", None, Media::Ended)), [gone("viewer", Absent)]);
    }
}

#[test]
fn a_report_on_an_ended_session_does_not_affect_the_next_one() {
    let viewer = peer("viewer", "receiver", "aa");
    let mut client = Scenario::joined(Role::Sender, std::slice::from_ref(&viewer));
    client.say(to("viewer", session("s1"), offer()));
    client.media_of("viewer", "s1", Media::Connected);
    client.say(to("viewer", session("s2"), offer()));
    client.media_of("viewer", "s1", Media::Connected);
    client.media_of("viewer", "s1", Media::Ended);
    assert_eq!(
        client.hear(peer_joined(&viewer)),
        [gone("viewer", Restart), ready(&viewer)],
        "the second session is negotiating, and its peer has a new socket"
    );
}

#[test]
fn media_that_ends_outside_of_the_room_is_restarted_after_the_next_join() {
    let viewer = peer("viewer", "receiver", "aa");
    let mut client = sender_back_with(Some(Media::Connected));
    client.media_of("viewer", "s1", Media::Ended);
    let reported = client.join(std::slice::from_ref(&viewer));
    assert_eq!(reported, in_room(vec![gone("viewer", Restart), ready(&viewer)]));

    let mut client = sender_back_with(Some(Media::Connected));
    client.media_of("viewer", "s1", Media::Ended);
    assert_eq!(client.join(&[]), in_room(vec![gone("viewer", Absent)]), "it left meanwhile");
}

#[test]
fn the_order_is_joined_then_the_absent_then_the_list() {
    let known = ["a", "b", "c"].map(|id| peer(id, "receiver", id));
    let mut client = Scenario::joined(Role::Sender, &known);
    client.reconnect();
    let listed = [peer("d", "receiver", "d"), known[0].clone()];
    assert_eq!(
        client.join(&listed),
        in_room(vec![
            gone("b", Absent),
            gone("c", Absent),
            ready(&listed[0]),
            gone("a", Restart),
            ready(&known[0]),
        ])
    );
}
