//! Actions of operators: removing a member, closing a room, denying users and tokens.

use crate::world::{Closed, Out, Said, World, error};
use room_protocol::{
    ClientId, RoomId, UserId,
    hub::{ConnId, DenyList, Grant, REMOVED_FOR},
    wire::Role,
};
use serde_json::json;
use std::time::Duration;

const BOTH: [Role; 2] = [Role::Sender, Role::Receiver];

fn kick(world: &mut World, room: &str, id: &str) -> bool {
    let (room, id) = (RoomId::new(room).expect("a room"), ClientId::new(id).expect("an id"));
    let now = world.now;
    world.hub.kick(now, &room, &id)
}

fn close_room(world: &mut World, room: &str) -> usize {
    let room = RoomId::new(room).expect("a room");
    let now = world.now;
    world.hub.close_room(now, &room)
}

fn kicked(to: ConnId, id: &str) -> Out {
    Said(to, json!({"type": "peer_left", "client_id": id, "reason": "kicked"}))
}

fn refused(to: ConnId, code: &str) -> Out {
    Said(to, json!({"type": "error", "code": code}))
}

fn left(to: ConnId) -> Out {
    Said(to, json!({"type": "left"}))
}

#[test]
fn a_kicked_member_leaves_and_the_others_are_informed() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.take();
    assert!(kick(&mut world, "r", "b"));
    assert_eq!(world.take(), [kicked(a, "b"), refused(b, "forbidden"), left(b)]);
    assert_eq!(world.peers(a), Vec::<String>::new());
}

#[test]
fn a_kicked_client_can_not_join_for_a_minute_over_any_connection() {
    let mut world = World::new();
    world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    kick(&mut world, "r", "b");
    world.take();
    world.join(b, "r", "receiver");
    assert_eq!(world.take(), [error(b, "forbidden", "join")]);
    let again = world.client("b");
    world.take();
    world.join(again, "r", "receiver");
    assert_eq!(world.take(), [error(again, "forbidden", "join")]);
    world.join(again, "hall", "receiver");
    assert!(world.take().iter().any(|out| matches!(out, Said(_, said) if said["type"] == "joined")));
    world.pass(REMOVED_FOR);
    world.take();
    let later = world.client("b");
    world.take();
    world.join(later, "r", "receiver");
    assert!(
        world
            .take()
            .iter()
            .any(|out| matches!(out, Said(to, said) if *to == later && said["type"] == "joined"))
    );
}

#[test]
fn only_a_member_can_be_kicked() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.take();
    assert!(!kick(&mut world, "r", "b") && !kick(&mut world, "hall", "a"));
    assert_eq!(world.take(), []);
    assert_eq!(world.peers(a), Vec::<String>::new());
}

#[test]
fn a_closed_room_is_left_by_all_and_closed_to_everybody_for_a_minute() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let elsewhere = world.member("hall", "c", "sender");
    world.take();
    assert_eq!(close_room(&mut world, "r"), 2);
    assert_eq!(
        world.take(),
        [refused(a, "forbidden"), left(a), refused(b, "forbidden"), left(b)],
        "members that are removed together get no news of each other"
    );
    world.join(elsewhere, "r", "sender");
    assert_eq!(world.take(), [error(elsewhere, "forbidden", "join")]);
    assert_eq!(close_room(&mut world, "r"), 0);
    world.pass(REMOVED_FOR);
    world.take();
    let d = world.client("d");
    world.take();
    world.join(d, "r", "sender");
    assert!(world.take().iter().any(|out| matches!(out, Said(_, said) if said["type"] == "joined")));
}

#[test]
fn an_automatically_joined_client_gets_the_error_only() {
    let mut world = World::new();
    let old = world.old("old");
    world.pass(Duration::from_millis(500));
    world.take();
    assert!(kick(&mut world, "room_default", "old"));
    assert_eq!(world.take(), [refused(old, "forbidden")]);
}

#[test]
fn a_denied_user_or_token_is_closed_and_refused() {
    let mut world = World::with_users();
    let ann = world.grant("ann", &["*"], &BOTH);
    let of_token = Grant { id: Some("t1".into()), ..world.grant("bob", &["*"], &BOTH) };
    let a = world.user("a", &ann);
    let b = world.user("b", &of_token);
    let c = world.user("c", &Grant { id: Some("t2".into()), ..world.grant("bob", &["*"], &BOTH) });
    for conn in [a, b, c] {
        world.join(conn, "r", "sender");
    }
    world.take();
    world.reconfigure(|config| {
        let users = [UserId::new("ann").expect("a user")].into();
        config.denied = DenyList { users, tokens: ["t1".to_owned()].into() };
    });
    assert_eq!(
        world.take(),
        [
            kicked(c, "a"),
            kicked(c, "b"),
            refused(a, "unauthorized"),
            Closed(a, 4010),
            refused(b, "unauthorized"),
            Closed(b, 4010),
        ]
    );
    let again = world.connect();
    world.say(again, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.take();
    world.granted(again, &ann);
    assert_eq!(world.take(), [error(again, "unauthorized", "register"), Closed(again, 4010)]);
}
