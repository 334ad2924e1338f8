//! Rule 1: the first message is `register`.

use crate::world::{Closed, Out, Said, World, error};
use room_protocol::{RoomId, hub::Event};
use serde_json::json;
use std::time::Duration;

fn registered(world: &mut World) -> serde_json::Value {
    let outs = world.take();
    let [Said(_, answer)] = &outs[..] else { panic!("not one answer: {outs:?}") };
    answer.clone()
}

#[test]
fn a_client_registers_with_its_own_id() {
    let mut world = World::new();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1}));
    let answer =
        json!({"type": "registered", "client_id": "a", "protocol": 1, "server": "test", "heartbeat_s": 15});
    assert_eq!(world.take(), [Said(conn, answer)]);
    let [(_, Event::Registered { client_id, protocol: 1, user: None, token_id: None })] = &world.events[..]
    else {
        panic!()
    };
    assert_eq!(client_id.as_str(), "a");
}

#[test]
fn a_client_without_an_id_gets_one_of_its_own() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for id in [json!(null), json!("")] {
        let conn = world.connect();
        world.say(conn, json!({"type": "register", "client_id": id, "protocol": 1}));
        ids.push(registered(&mut world)["client_id"].clone());
    }
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "protocol": 1}));
    ids.push(registered(&mut world)["client_id"].clone());
    assert!(ids.iter().all(|id| id.as_str().is_some_and(|id| id.len() > 16)), "{ids:?}");
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);

    // The same seed makes the same ids.
    let mut again = World::new();
    let conn = again.connect();
    again.say(conn, json!({"type": "register", "protocol": 1}));
    assert_eq!(registered(&mut again)["client_id"], ids[0]);
}

#[test]
fn a_message_before_register_closes_the_connection() {
    for first in ["join", "ping", "offer", "registered", "leave"] {
        let mut world = World::new();
        let conn = world.connect();
        world.say(conn, json!({"type": first, "room_id": "r"}));
        assert_eq!(world.take(), [error(conn, "not_registered", first), Closed(conn, 4000)]);
        assert_eq!(world.hub.connections(), 0);
        world.say(conn, json!({"type": "register", "client_id": "a"}));
        assert_eq!(world.take(), [], "what comes after the close is not read");
    }
}

#[test]
fn an_invalid_message_before_register_is_a_bad_message() {
    let mut world = World::new();
    let conn = world.connect();
    world.text(conn, "{oops");
    assert_eq!(world.take(), [Said(conn, json!({"type": "error", "code": "bad_message"}))]);
    world.say(conn, json!({"type": "register", "client_id": 5}));
    assert_eq!(world.take(), [error(conn, "bad_message", "register")]);
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1}));
    assert_eq!(registered(&mut world)["client_id"], "a");
}

#[test]
fn a_second_register_changes_nothing() {
    let mut world = World::new();
    let conn = world.member("r", "a", "sender");
    world.say(conn, json!({"type": "register", "client_id": "b"}));
    assert_eq!(world.take(), [error(conn, "already_registered", "register")]);
    world.join(conn, "r", "sender");
    assert_eq!(joined_as(&world.take()), "r");
    assert_eq!(world.hub.members_of(&RoomId::new("r").expect("a room"))[0].client_id.as_str(), "a");
}

#[test]
fn a_client_that_does_not_register_in_time_is_closed() {
    let mut world = World::new();
    let conn = world.connect();
    world.pass(Duration::from_millis(9_999));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        world.take(),
        [Said(conn, json!({"type": "error", "code": "not_registered"})), Closed(conn, 4000)]
    );
    assert_eq!(world.hub.poll_timeout(), None, "nothing is remembered of it");
}

#[test]
fn the_secret_of_a_process_is_never_sent() {
    let mut world = World::new();
    let a = world.process("a", "hush-hush");
    world.join(a, "r", "sender");
    let b = world.client("b");
    world.join(b, "r", "receiver");
    world.say(b, json!({"type": "peers"}));
    let all = format!("{:?}", world.take());
    assert!(all.contains("epoch") && !all.contains("hush-hush"), "{all}");
    assert!(!format!("{:?} {:?}", world.hub, world.events).contains("hush-hush"));
}

fn joined_as(outs: &[Out]) -> String {
    let [Said(_, joined)] = outs else { panic!("not one answer: {outs:?}") };
    assert_eq!(joined["type"], "joined");
    joined["room_id"].as_str().expect("a room").to_owned()
}
