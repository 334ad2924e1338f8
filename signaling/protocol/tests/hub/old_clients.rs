//! Rules 11 and 12: clients of protocol 0.

use crate::world::{Out, Pinged, Said, World, error};
use room_protocol::{
    HubConfig, RoomId,
    hub::{ConnId, Input},
    wire::Role,
};
use serde_json::{Value, json};
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(500);
const ROOM: &str = "room_default";

fn busy(to: ConnId, target: &str) -> Out {
    Said(to, json!({"type": "error", "code": "target_busy", "request": "offer", "target_id": target}))
}

fn from(message: &Value, id: &str) -> Value {
    let mut message = message.clone();
    message["from"] = id.into();
    message
}

/// The types of the messages to one connection.
fn types_to(outs: &[Out], conn: ConnId) -> Vec<&str> {
    let kind = |out| match out {
        &Said(to, ref said) if to == conn => said["type"].as_str(),
        _ => None,
    };
    outs.iter().filter_map(kind).collect()
}

#[test]
fn a_client_without_a_join_is_joined_automatically() {
    let mut world = World::new();
    let s = world.member(ROOM, "s", "sender");
    let old = world.old("old");
    world.pass(DELAY - Duration::from_millis(1));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_millis(1));
    let come = json!({"type": "peer_joined", "client_id": "old", "role": "receiver", "protocol": 0});
    assert_eq!(world.take(), [Said(s, come)], "and is not told");
    world.say(s, json!({"type": "offer", "sdp": "v=0"}));
    assert_eq!(world.take(), [Said(old, json!({"type": "offer", "sdp": "v=0", "from": "s"}))]);
}

#[test]
fn its_first_message_takes_it_there_at_once() {
    for (word, role) in [("offer", "sender"), ("candidate", "receiver"), ("hello", "receiver")] {
        let mut world = World::new();
        let s = world.member(ROOM, "s", "sender");
        let old = world.old("old");
        world.say(old, json!({"type": word, "target_id": "s"}));
        let come = json!({"type": "peer_joined", "client_id": "old", "role": role, "protocol": 0});
        let heard = json!({"type": word, "target_id": "s", "from": "old"});
        assert_eq!(world.take(), [Said(s, come), Said(s, heard)]);
        world.pass(DELAY);
        assert_eq!(world.take(), []);
    }
}

#[test]
fn a_late_offer_makes_a_sender() {
    let mut world = World::new();
    let v = world.member(ROOM, "v", "receiver");
    let old = world.old("old");
    world.pass(DELAY);
    assert_eq!(world.take(), []);
    world.say(old, json!({"type": "offer", "sdp": "v=0"}));
    let come = json!({"type": "peer_joined", "client_id": "old", "role": "sender", "protocol": 0});
    assert_eq!(world.take(), [Said(v, come), Said(v, json!({"type": "offer", "sdp": "v=0", "from": "old"}))]);
    world.say(v, json!({"type": "answer", "sdp": "v=0"}));
    assert_eq!(world.take(), [Said(old, json!({"type": "answer", "sdp": "v=0", "from": "v"}))]);
}

#[test]
fn a_late_offer_makes_a_sender_in_the_current_room() {
    let mut world = World::new();
    let v = world.member(ROOM, "v", "receiver");
    let old = world.old("old");
    world.pass(DELAY);
    for default_room in [RoomId::new("another").ok(), None] {
        world.reconfigure(|config| config.default_room = default_room);
        world.say(old, json!({"type": "offer"}));
        let outs = world.take();
        assert_eq!(outs.last(), Some(&Said(v, json!({"type": "offer", "from": "old"}))), "{outs:?}");
        assert_eq!((types_to(&outs, old), world.hub.rooms()), (vec![], 1));
    }
}

/// Old clients join without a role, and offer.
#[test]
fn an_old_receiver_can_offer_to_receivers_unless_tokens_are_required() {
    let mut world = World::new();
    let old = world.old_member("r", "old", "receiver");
    let v = world.member("r", "v", "receiver");
    world.take();
    world.say(old, json!({"type": "offer", "target_id": "v"}));
    assert_eq!(world.take(), [Said(v, json!({"type": "offer", "target_id": "v", "from": "old"}))]);

    let mut world = World::with_users();
    let receives = world.grant("ann", &["r"], &[Role::Receiver]);
    let v = world.user("v", &receives);
    world.join(v, "r", "receiver");
    let old = world.connect();
    world.say(old, json!({"type": "register", "client_id": "old", "token": "t"}));
    world.granted(old, &receives);
    world.join(old, "r", "receiver");
    world.take();
    world.say(old, json!({"type": "offer", "target_id": "v"}));
    let forbidden = json!({"type": "error", "code": "forbidden", "request": "offer", "target_id": "v"});
    assert_eq!(world.take(), [Said(old, forbidden)]);
}

#[test]
fn it_gets_nothing_but_relays_and_errors() {
    let mut world = World::new();
    let old = world.old("old");
    world.say(old, json!({"type": "offer", "sdp": ""}));
    assert_eq!(world.take(), []);
    let v = world.member(ROOM, "v", "receiver");
    let s = world.member(ROOM, "s", "sender");
    assert_eq!(world.take(), []);
    world.join(s, ROOM, "receiver");
    world.say(s, json!({"type": "leave"}));
    world.input(Input::Disconnected(v));
    world.hub.drain(DELAY);
    assert_eq!(types_to(&world.take(), old), Vec::<&str>::new());
    world.say(old, json!({"type": "x", "target_id": "v"}));
    let not_found = json!({"type": "error", "code": "target_not_found", "request": "x", "target_id": "v"});
    assert_eq!(world.take(), [Said(old, not_found)]);
}

#[test]
fn an_automatically_joined_client_gets_the_answers_to_its_requests() {
    let mut world = World::new();
    let old = world.old("old");
    world.pass(DELAY);
    world.say(old, json!({"type": "ping"}));
    assert_eq!(types_to(&world.take(), old), ["pong"]);
    assert_eq!(world.peers(old), Vec::<String>::new());
    world.say(old, json!({"type": "leave"}));
    assert_eq!(types_to(&world.take(), old), ["left"]);
    world.pass(DELAY * 2);
    world.say(old, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(old, "not_joined", "offer")], "it left by itself");
}

#[test]
fn an_old_client_that_joins_gets_joined() {
    let mut world = World::new();
    let old = world.old("old");
    world.say(old, json!({"type": "join", "room_id": "r", "role": "receiver"}));
    assert_eq!(types_to(&world.take(), old), ["joined"]);
    world.pass(DELAY * 2);
    let s = world.client("s");
    world.join(s, "r", "sender");
    assert_eq!(types_to(&world.take(), old), ["peer_joined"]);
    world.say(s, json!({"type": "leave"}));
    assert_eq!(types_to(&world.take(), old), ["peer_left"]);
    assert!(world.hub.members_of(&room_protocol::RoomId::new(ROOM).expect("a room")).is_empty());
}

#[test]
fn a_join_without_a_room_means_the_default_room() {
    for room in [json!({}), json!({"room_id": null}), json!({"room_id": ""})] {
        let mut world = World::new();
        let old = world.old("old");
        let mut join = room;
        join["type"] = "join".into();
        world.say(old, join);
        let [Said(_, joined)] = &world.take()[..] else { panic!() };
        assert_eq!((&joined["room_id"], &joined["role"]), (&json!(ROOM), &json!("receiver")));
    }
}

#[test]
fn an_automatically_joined_client_can_still_join() {
    let mut world = World::new();
    let s = world.member(ROOM, "s", "sender");
    let old = world.old("old");
    world.pass(DELAY);
    world.take();
    world.say(old, json!({"type": "join", "room_id": ROOM}));
    assert_eq!(types_to(&world.take(), old), ["joined"]);
    world.say(s, json!({"type": "leave"}));
    assert_eq!(types_to(&world.take(), old), ["peer_left"], "now it wants to know");
}

#[test]
fn a_failed_join_cancels_the_automatic_join() {
    let mut world = World::new();
    let old = world.old("old");
    world.say(old, json!({"type": "join", "room_id": " "}));
    assert_eq!(world.take(), [error(old, "invalid_id", "join")]);
    world.say(old, json!({"type": "join", "room_id": "r", "role": "boss"}));
    assert_eq!(world.take(), [error(old, "unknown_role", "join")]);
    world.pass(DELAY);
    assert_eq!(world.hub.rooms(), 0);
}

#[test]
fn the_default_room_can_be_switched_off() {
    let mut world = World::with(HubConfig { default_room: None, ..HubConfig::default() });
    let old = world.old("old");
    world.pass(DELAY * 2);
    assert_eq!(world.hub.rooms(), 0);
    world.say(old, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(old, "not_joined", "offer")]);
    world.say(old, json!({"type": "join"}));
    assert_eq!(world.take(), [error(old, "bad_message", "join")]);
}

#[test]
fn a_full_default_room_is_reported() {
    let mut world = World::with(HubConfig { max_members: 1, ..HubConfig::default() });
    let s = world.member(ROOM, "s", "sender");
    let old = world.old("old");
    world.pass(DELAY);
    assert_eq!(world.take(), [error(old, "room_full", "join")]);
    world.say(old, json!({"type": "x"}));
    assert_eq!(world.take(), [error(old, "room_full", "x")]);
    world.input(Input::Disconnected(s));
    world.say(old, json!({"type": "x"}));
    assert_eq!(world.take(), []);
    assert_eq!(world.hub.members(), 1);
}

#[test]
fn its_offer_waits_while_its_id_is_asked_for() {
    let mut world = World::new();
    let v = world.member(ROOM, "v", "receiver");
    let dead = world.old("cam");
    world.say(dead, json!({"type": "offer", "n": 1}));
    world.take();
    let cam = world.old("cam");
    let (offer, candidate) = (json!({"type": "offer", "n": 2}), json!({"type": "candidate", "n": 3}));
    world.say(cam, offer.clone());
    world.say(cam, candidate.clone());
    assert_eq!(world.take(), [Pinged(dead)]);
    world.pass(Duration::from_secs(2));
    let outs = world.take();
    assert_eq!(types_to(&outs, v), ["peer_left", "peer_joined", "offer", "candidate"]);
    assert_eq!(outs[outs.len() - 2..], [Said(v, from(&offer, "cam")), Said(v, from(&candidate, "cam"))]);
    assert_eq!(types_to(&outs, cam), Vec::<&str>::new());
}

#[test]
fn an_old_receiver_holds_on_to_its_first_sender() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let t = world.member("r", "t", "sender");
    let old = world.old_member("r", "old", "receiver");
    let offer = json!({"type": "offer", "target_id": "old"});
    let candidate = json!({"type": "candidate", "target_id": "old"});
    world.say(t, candidate.clone());
    assert_eq!(world.take(), [], "a candidate of no offer");
    world.say(s, offer.clone());
    world.say(s, candidate.clone());
    assert_eq!(world.take(), [Said(old, from(&offer, "s")), Said(old, from(&candidate, "s"))]);
    world.say(t, offer.clone());
    assert_eq!(world.take(), [busy(t, "old")]);
    world.say(t, candidate.clone());
    assert_eq!(world.take(), []);
    // Other types pass, and the first sender may offer again.
    world.say(t, json!({"type": "chat", "target_id": "old"}));
    world.say(s, offer.clone());
    assert_eq!(types_to(&world.take(), old), ["chat", "offer"]);
}

#[test]
fn an_old_receiver_is_free_when_its_sender_has_left() {
    let leave: [fn(&mut World, ConnId); 4] = [
        |world, s| world.say(s, json!({"type": "leave"})),
        |world, s| world.input(Input::Disconnected(s)),
        |world, s| world.join(s, "elsewhere", "sender"),
        |world, s| world.join(s, "r", "receiver"),
    ];
    for leave in leave {
        let mut world = World::new();
        let s = world.member("r", "s", "sender");
        let t = world.member("r", "t", "sender");
        let old = world.old_member("r", "old", "receiver");
        let offer = json!({"type": "offer"});
        world.say(s, offer.clone());
        world.say(t, offer.clone());
        assert_eq!(world.take(), [Said(old, from(&offer, "s")), busy(t, "old")]);
        leave(&mut world, s);
        world.take();
        world.say(t, offer.clone());
        assert_eq!(types_to(&world.take(), old), ["offer"]);
    }
}

#[test]
fn its_sender_keeps_it_over_a_new_socket() {
    let mut world = World::new();
    world.member("r", "s", "sender");
    let t = world.member("r", "t", "sender");
    let old = world.old_member("r", "old", "receiver");
    let offer = json!({"type": "offer", "target_id": "old"});
    let s = world.client("s");
    world.join(s, "r", "sender");
    world.take();
    world.say(s, offer.clone());
    assert_eq!(world.take(), [Said(old, from(&offer, "s"))]);
    let s = world.client("s");
    world.join(s, "r", "sender");
    world.take();
    world.say(t, offer.clone());
    assert_eq!(world.take(), [busy(t, "old")]);
    world.say(s, offer.clone());
    assert_eq!(world.take(), [Said(old, from(&offer, "s"))]);
}

#[test]
fn an_offer_to_all_reaches_the_unbound_receivers() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let t = world.member("r", "t", "sender");
    let old1 = world.old_member("r", "old1", "receiver");
    let old2 = world.old_member("r", "old2", "receiver");
    let new = world.member("r", "new", "receiver");
    let offer = json!({"type": "offer"});
    world.say(s, offer.clone());
    let heard = from(&offer, "s");
    assert_eq!(world.take(), [Said(new, heard.clone()), Said(old1, heard.clone()), Said(old2, heard)]);
    world.say(t, offer.clone());
    assert_eq!(world.take(), [Said(new, from(&offer, "t")), busy(t, "old1"), busy(t, "old2")]);
}

#[test]
fn an_old_sender_hears_of_one_busy_receiver_at_a_time() {
    let mut world = World::new();
    let s = world.member(ROOM, "s", "sender");
    world.old_member(ROOM, "old1", "receiver");
    world.old_member(ROOM, "old2", "receiver");
    world.say(s, json!({"type": "offer"}));
    world.take();
    let cam = world.old("cam");
    world.say(cam, json!({"type": "offer"}));
    let outs = world.take();
    assert_eq!(types_to(&outs, cam), ["error"]);
    assert_eq!(outs.last(), Some(&busy(cam, "old1")));
}
