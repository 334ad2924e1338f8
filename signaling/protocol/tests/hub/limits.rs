//! Limits: `room_full`, `too_many_rooms`, `slow_consumer`.

use crate::world::{Closed, Said, World, error};
use room_protocol::{HubConfig, hub::Input};
use serde_json::json;
use std::time::Duration;

#[test]
fn the_members_of_a_room_are_limited() {
    let mut world = World::with(HubConfig { max_members: 2, ..HubConfig::default() });
    world.member("r", "a", "receiver");
    let b = world.member("r", "b", "receiver");
    let c = world.client("c");
    world.join(c, "r", "receiver");
    assert_eq!(world.take(), [error(c, "room_full", "join")]);
    // A member can join again, also over a new socket.
    world.join(b, "r", "receiver");
    assert!(matches!(world.take()[..], [Said(..)]));
    let b2 = world.client("b");
    world.join(b2, "r", "receiver");
    let outs = world.take();
    assert!(matches!(outs[..], [Closed(..), Said(..)]), "{outs:?}");
    world.say(b2, json!({"type": "leave"}));
    world.take();
    world.join(c, "r", "receiver");
    let [Said(_, joined)] = &world.take()[..] else { panic!() };
    assert_eq!(joined["type"], "joined");
}

#[test]
fn the_senders_of_a_room_are_limited() {
    let mut world = World::with(HubConfig { max_senders: 1, ..HubConfig::default() });
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.join(b, "r", "sender");
    assert_eq!(world.take(), [error(b, "room_full", "join")]);
    let c = world.client("c");
    world.join(c, "r", "sender");
    assert_eq!(world.take(), [error(c, "room_full", "join")]);
    world.join(a, "r", "receiver");
    world.take();
    world.join(b, "r", "sender");
    assert_eq!(world.take().len(), 2, "joined, and a hears of it");
}

#[test]
fn the_rooms_of_a_server_are_limited() {
    let mut world = World::with(HubConfig { max_rooms: 1, ..HubConfig::default() });
    let a = world.member("one", "a", "receiver");
    let b = world.client("b");
    world.join(b, "two", "receiver");
    assert_eq!(world.take(), [error(b, "too_many_rooms", "join")]);
    world.say(a, json!({"type": "leave"}));
    world.take();
    world.join(b, "two", "receiver");
    let [Said(_, joined)] = &world.take()[..] else { panic!() };
    assert_eq!(joined["room_id"], "two");
}

#[test]
fn a_full_room_still_yields_the_place_of_a_silent_one() {
    let mut world = World::with(HubConfig { max_members: 1, max_senders: 1, ..HubConfig::default() });
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.pass(Duration::from_secs(2));
    let outs = world.take();
    assert_eq!(outs[1], Closed(a, 1011));
    let Said(to, joined) = &outs[2] else { panic!("{outs:?}") };
    assert_eq!((*to, &joined["type"]), (other, &json!("joined")));
}

#[test]
fn a_client_that_does_not_read_is_closed_and_others_are_unaffected() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.input(Input::Overflowed(b));
    assert_eq!(
        world.take(),
        [
            Said(b, json!({"type": "error", "code": "slow_consumer"})),
            Closed(b, 4008),
            Said(a, json!({"type": "peer_left", "client_id": "b", "reason": "disconnected"})),
        ]
    );
    world.input(Input::Overflowed(b));
    assert_eq!(world.take(), []);
}
