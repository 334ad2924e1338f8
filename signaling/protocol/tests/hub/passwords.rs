//! Rooms with passwords.

use crate::world::{Asked, Closed, Out, Said, World, error};
use room_protocol::{
    HubConfig,
    hub::{Claim, ConnId, Input, PasswordHash, RoomPattern, RoomRule, Secret, Verdict},
};
use serde_json::{Value, json};
use std::{net::IpAddr, time::Duration};

pub(crate) fn rule(rooms: &str, hash: Option<&str>) -> RoomRule {
    RoomRule { rooms: RoomPattern::new(rooms).expect("a pattern"), password: hash.map(PasswordHash::new) }
}

fn world(rules: &[RoomRule]) -> World {
    World::with(HubConfig { room_rules: rules.to_vec(), ..HubConfig::default() })
}

fn join(room: &str, password: &str) -> Value {
    json!({"type": "join", "room_id": room, "role": "sender", "password": password})
}

fn asked(conn: ConnId, hash: &str, password: &str) -> Out {
    Asked(conn, Claim::Password { hash: PasswordHash::new(hash), password: Secret::new(password) })
}

fn wrong() -> Verdict {
    Verdict::Refused(String::new())
}

fn kinds(world: &mut World) -> Vec<String> {
    let kind = |out| match out {
        Said(_, said) => said["type"].as_str().unwrap_or_default().to_owned(),
        other => format!("{other:?}"),
    };
    world.take().into_iter().map(kind).collect()
}

/// A member that sent the correct password.
pub(crate) fn member(world: &mut World, room: &str, id: &str) -> ConnId {
    let conn = world.client(id);
    world.say(conn, join(room, "right"));
    world.verdict(conn, Verdict::Passed);
    world.take();
    conn
}

#[test]
fn the_right_password_lets_in() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let conn = world.client("a");
    world.say(conn, join("lab", "right"));
    assert_eq!(world.take(), [asked(conn, "hash", "right")]);
    world.verdict(conn, Verdict::Passed);
    assert_eq!(kinds(&mut world), ["joined"]);
}

#[test]
fn a_wrong_password_and_none_are_forbidden_and_change_nothing() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let conn = world.member("hall", "a", "sender");
    for password in ["wrong", ""] {
        world.say(conn, join("lab", password));
        if !password.is_empty() {
            assert_eq!(world.take(), [asked(conn, "hash", "wrong")]);
            world.verdict(conn, wrong());
        }
        assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    }
    assert_eq!(
        world.hub.rooms_after(None).map(|room| room.room_id.to_string()).collect::<Vec<_>>(),
        ["hall"]
    );
}

#[test]
fn an_empty_room_requires_its_password_too() {
    let mut answers = Vec::new();
    for somebody in [true, false] {
        let mut world = world(&[rule("lab*", Some("hash"))]);
        if somebody {
            member(&mut world, "lab 1", "b");
        }
        let conn = world.process("b", "another process");
        let mut reported = Vec::new();
        for password in ["", "wrong"] {
            world.say(conn, join("lab 1", password));
            world.verdict(conn, wrong());
            reported.extend(world.take().into_iter().map(|out| match out {
                Said(_, said) => said.to_string(),
                Asked(_, claim) => format!("{claim:?}"),
                other => format!("{other:?}"),
            }));
        }
        answers.push(reported);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn nothing_else_is_looked_at_before_the_password() {
    let mut world = World::with(HubConfig {
        room_rules: vec![rule("lab", Some("hash"))],
        max_rooms: 1,
        max_members: 1,
        ..HubConfig::default()
    });
    member(&mut world, "lab", "a");
    for id in ["a", "b"] {
        let conn = world.process(id, "another process");
        world.say(conn, join("lab", "wrong"));
        assert_eq!(world.take(), [asked(conn, "hash", "wrong")]);
        world.verdict(conn, wrong());
        assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    }
}

#[test]
fn the_most_specific_rule_counts_and_may_open_a_room() {
    let mut world = world(&[rule("*", Some("all")), rule("lab*", Some("lab")), rule("lab 0", None)]);
    for (room, hash) in [("x", Some("all")), ("lab 1", Some("lab")), ("lab 0", None)] {
        let conn = world.client(room);
        world.say(conn, join(room, "p"));
        match hash {
            Some(hash) => assert_eq!(world.take(), [asked(conn, hash, "p")]),
            None => assert_eq!(kinds(&mut world), ["joined"]),
        }
    }
}

#[test]
fn a_member_needs_no_password_to_rejoin_but_after_leaving() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let conn = member(&mut world, "lab", "a");
    world.join(conn, "lab", "receiver");
    assert_eq!(kinds(&mut world), ["joined"]);
    world.say(conn, json!({"type": "leave"}));
    world.take();
    world.join(conn, "lab", "receiver");
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    // The same process on a new connection needs it, too.
    let again = world.client("a");
    world.join(again, "lab", "sender");
    assert_eq!(world.take(), [error(again, "forbidden", "join")]);
}

#[test]
fn messages_while_a_verdict_is_pending_wait_in_order() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let b = member(&mut world, "lab", "b");
    let a = world.client("a");
    world.say(a, join("lab", "right"));
    for n in 0..3 {
        world.say(a, json!({"type": "chat", "n": n}));
    }
    world.take();
    world.verdict(a, Verdict::Passed);
    let outs = world.take();
    let chats = [0, 1, 2].map(|n| Said(b, json!({"type": "chat", "n": n, "from": "a"})));
    assert_eq!(outs[outs.len() - 3..], chats);

    let c = world.client("c");
    world.say(c, join("lab", "wrong"));
    world.say(c, json!({"type": "chat"}));
    world.take();
    world.verdict(c, wrong());
    assert_eq!(world.take(), [error(c, "forbidden", "join"), error(c, "not_joined", "chat")]);
}

#[test]
fn an_address_has_five_attempts_a_password_and_gets_one_back_each_twelve_seconds() {
    let mut world = world(&[rule("lab*", Some("hash")), rule("hall", Some("another"))]);
    let conn = world.client("a");
    let attempt = |world: &mut World, conn, room: &str, verdict: Verdict| {
        world.say(conn, join(room, "p"));
        world.verdict(conn, verdict);
        let last = world.take().pop();
        let Some(Said(_, said)) = last else { panic!("{last:?}") };
        said["code"].as_str().unwrap_or("joined").to_owned()
    };
    for _ in 0..5 {
        assert_eq!(attempt(&mut world, conn, "lab", wrong()), "forbidden");
    }
    assert_eq!(attempt(&mut world, conn, "lab", Verdict::Passed), "too_many_attempts");
    // This holds for any connection, and for all rooms that share the password.
    let second = world.client("b");
    assert_eq!(attempt(&mut world, second, "lab", Verdict::Passed), "too_many_attempts");
    assert_eq!(attempt(&mut world, conn, "lab 2", Verdict::Passed), "too_many_attempts");
    // Another password and another address have their own attempts.
    assert_eq!(attempt(&mut world, conn, "hall", wrong()), "forbidden");
    let elsewhere = world.connect_from(IpAddr::from([192, 0, 2, 1]));
    world.say(elsewhere, json!({"type": "register", "client_id": "c", "protocol": 1}));
    world.take();
    assert_eq!(attempt(&mut world, elsewhere, "lab", Verdict::Passed), "joined");
    world.pass(Duration::from_secs(12));
    world.take();
    assert_eq!(attempt(&mut world, conn, "lab", wrong()), "forbidden");
    assert_eq!(attempt(&mut world, conn, "lab", wrong()), "too_many_attempts");
}

#[test]
fn right_passwords_cost_no_attempt() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    for n in 0..12 {
        member(&mut world, "lab", &format!("member {n}"));
    }
    assert_eq!(world.hub.members(), 12);
}

#[test]
fn attempts_under_way_count_and_hanging_up_saves_none() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let guessers: Vec<_> = (0..6).map(|n| world.client(&n.to_string())).collect();
    for conn in &guessers {
        world.say(*conn, join("lab", "p"));
    }
    let outs = world.take();
    assert_eq!(outs[..5], [0, 1, 2, 3, 4].map(|n: usize| asked(guessers[n], "hash", "p")));
    assert_eq!(outs[5..], [error(guessers[5], "too_many_attempts", "join")]);
    for conn in &guessers[..5] {
        world.input(Input::Disconnected(*conn));
        world.verdict(*conn, wrong());
    }
    world.say(guessers[5], join("lab", "p"));
    assert_eq!(world.take(), [error(guessers[5], "too_many_attempts", "join")]);
}

#[test]
fn a_busy_verdict_costs_no_attempt() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let conn = world.client("a");
    for _ in 0..10 {
        world.say(conn, join("lab", "right"));
        world.verdict(conn, Verdict::Busy);
        assert_eq!(world.take()[1..], [error(conn, "too_many_attempts", "join")]);
    }
    world.say(conn, join("lab", "right"));
    assert_eq!(world.take(), [asked(conn, "hash", "right")]);
    world.verdict(conn, Verdict::Passed);
    assert_eq!(kinds(&mut world), ["joined"]);
}

#[test]
fn an_old_client_gets_into_a_default_room_with_password_only_by_saying_it() {
    let mut world = world(&[rule("room_default", Some("hash"))]);
    let conn = world.old("old");
    world.say(conn, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(conn, "forbidden", "offer")]);
    world.pass(Duration::from_millis(500));
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    assert_eq!(world.hub.members(), 0);
    world.say(conn, json!({"type": "join", "password": "right"}));
    assert_eq!(world.take(), [asked(conn, "hash", "right")]);
    world.verdict(conn, Verdict::Passed);
    assert_eq!(kinds(&mut world), ["joined"]);
}

#[test]
fn a_room_with_password_wants_it_of_users_too() {
    let mut world = World::with_users();
    world.reconfigure(|config| config.room_rules = vec![rule("lab", Some("hash"))]);
    let grant = world.grant("ann", &["lab"], &[room_protocol::wire::Role::Sender]);
    let conn = world.user("a", &grant);
    world.join(conn, "lab", "sender");
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    world.say(conn, join("hall", "right"));
    assert_eq!(world.take(), [error(conn, "forbidden", "join")], "the token comes first");
    let mut fresh = join("lab", "right");
    fresh["token"] = json!("fresh");
    world.say(conn, fresh);
    assert_eq!(world.take(), [Asked(conn, Claim::Token(Secret::new("fresh")))]);
    world.granted(conn, &grant);
    assert_eq!(world.take(), [asked(conn, "hash", "right")]);
    world.verdict(conn, Verdict::Passed);
    assert_eq!(kinds(&mut world), ["joined"]);
}

#[test]
fn a_socket_that_ends_while_its_join_waits_is_not_in_the_room() {
    let mut world = world(&[rule("lab", Some("hash"))]);
    let conn = world.client("a");
    world.say(conn, join("lab", "right"));
    world.take();
    world.input(Input::TooBig(conn));
    world.verdict(conn, Verdict::Passed);
    assert_eq!(world.take(), [Closed(conn, 1009)]);
    assert_eq!(world.hub.rooms(), 0);
}
