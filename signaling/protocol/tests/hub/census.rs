//! The operator's view.

use crate::world::World;
use room_protocol::{
    RoomId,
    hub::{ConnId, Input},
    wire::{ErrorCode, Role},
};
use serde_json::json;
use std::time::Duration;

/// The counts that are not zero.
fn counted<T>(counts: impl Iterator<Item = (T, u64)>) -> Vec<(T, u64)> {
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn messages_relays_and_errors_are_counted() {
    let mut world = World::new();
    let sender = world.member("r", "s", "sender");
    let one = world.member("r", "one", "receiver");
    world.member("r", "two", "receiver");
    world.say(sender, json!({"type": "offer", "sdp": ""}));
    world.say(one, json!({"type": "answer", "sdp": "", "target_id": "s"}));
    world.say(one, json!({"type": "wave"}));
    world.say(one, json!({"type": "bye", "target_id": "nobody"}));
    world.text(one, "{oops");
    world.input(Input::BadFrame(one));
    world.say(one, json!({"type": "ping"}));
    world.input(Input::Overflowed(one));
    world.take();
    let counts = world.hub.counts();
    let messages = [
        ("other", 1),
        ("bad", 2),
        ("register", 3),
        ("join", 3),
        ("offer", 1),
        ("answer", 1),
        ("bye", 1),
        ("ping", 1),
    ];
    assert_eq!(counted(counts.messages()), messages);
    assert_eq!(counts.relayed(), 5);
    let errors = [(ErrorCode::BadMessage, 2), (ErrorCode::TargetNotFound, 1), (ErrorCode::SlowConsumer, 1)];
    assert_eq!(counted(counts.errors()), errors);
}

#[test]
fn an_offer_that_causes_an_automatic_join_is_counted_once() {
    let mut world = World::new();
    let sender = world.old("s");
    world.say(sender, json!({"type": "offer", "sdp": ""}));
    world.take();
    assert_eq!(counted(world.hub.counts().messages()), [("register", 1), ("offer", 1)]);
}

#[test]
fn rooms_are_listed_in_order_with_their_members() {
    let mut world = World::new();
    let start = world.now;
    let cam = world.member("b", "cam", "sender");
    world.pass(Duration::from_secs(1));
    let viewer = world.member("b", "viewer", "receiver");
    world.member("a", "other", "receiver");
    world.old_member("c", "old", "receiver");
    assert_eq!(world.hub.roles(), (1, 3));

    let rooms: Vec<_> = world.hub.rooms_after(None).collect();
    let names: Vec<&str> = rooms.iter().map(|room| room.room_id.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(rooms[1].since, start);
    let members: Vec<_> = rooms[1]
        .members
        .iter()
        .map(|member| (member.client_id.as_str(), member.role, member.protocol, member.conn, member.since))
        .collect();
    let later = start + Duration::from_secs(1);
    assert_eq!(members, [("cam", Role::Sender, 1, cam, start), ("viewer", Role::Receiver, 1, viewer, later)]);
    assert_eq!((rooms[2].members[0].protocol, rooms[2].members[0].conn), (0, ConnId(4)));

    let after = |name| {
        let name = RoomId::new(name).unwrap();
        world.hub.rooms_after(Some(&name)).map(|room| room.room_id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (after("a"), after("aa"), after("c")),
        (vec!["b".into(), "c".into()], vec!["b".into(), "c".into()], vec![])
    );
}
