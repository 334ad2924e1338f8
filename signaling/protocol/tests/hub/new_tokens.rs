//! New tokens in `join`, which extend the stay of a client or change its rights.

use crate::{
    tokens::{BOTH, SECOND, kicked, member, token, types},
    world::{Asked, Closed, World, error},
};
use room_protocol::{
    ClientId,
    hub::{ConnId, Grant, Verdict},
};
use serde_json::json;

/// Joins with a token that grants this.
pub(crate) fn join_with(world: &mut World, conn: ConnId, room: &str, grant: &Grant) {
    world.say(conn, json!({"type": "join", "room_id": room, "role": "sender", "token": "fresh"}));
    assert_eq!(world.take(), [Asked(conn, token("fresh"))]);
    world.granted(conn, grant);
}

#[test]
fn a_new_token_in_join_extends_the_stay_silently() {
    let mut world = World::with_users();
    let _b = member(&mut world, "r", "b", "receiver");
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.until = world.unix() + 5 * SECOND;
    let a = world.user("a", &grant);
    world.join(a, "r", "sender");
    world.take();
    grant.until = world.unix() + 12 * SECOND;
    join_with(&mut world, a, "r", &grant);
    assert_eq!(types(&world.take()), [(a, "joined")]);
    world.pass(11 * SECOND);
    assert_eq!(world.take(), []);
    // A token that expires earlier is applied as well.
    grant.until = world.unix() + SECOND / 2;
    world.say(a, json!({"type": "join", "room_id": "r", "role": "sender", "token": "another"}));
    world.granted(a, &grant);
    world.take();
    world.pass(SECOND / 2);
    assert_eq!(types(&world.take())[..2], [(a, "error"), (a, "close")]);
}

#[test]
fn the_token_of_register_need_not_be_checked_again() {
    let mut world = World::with_users();
    let grant = world.grant("ann", &["hall"], &BOTH);
    let a = world.user("a", &grant);
    let mut join = json!({"type": "join", "room_id": "hall", "token": "t"});
    world.say(a, join.clone());
    assert_eq!(types(&world.take()), [(a, "joined")]);
    join["room_id"] = json!("kitchen");
    world.say(a, join.clone());
    assert_eq!(world.take(), [error(a, "forbidden", "join")], "it grants what it always did");
    // Once it is replaced, it counts as any other token.
    join_with(&mut world, a, "hall", &grant);
    world.take();
    world.say(a, join);
    assert_eq!(world.take(), [Asked(a, token("t"))]);
}

#[test]
fn a_new_token_changes_the_rights_if_the_join_succeeds() {
    let mut world = World::with_users();
    let hall = world.grant("ann", &["hall"], &BOTH);
    let a = world.user("a", &hall);
    world.join(a, "hall", "sender");
    world.take();
    let kitchen = world.grant("ann", &["kitchen"], &BOTH);
    // The join is refused, and nothing changes.
    join_with(&mut world, a, "lab", &kitchen);
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
    world.join(a, "kitchen", "sender");
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
    world.join(a, "hall", "sender");
    assert_eq!(types(&world.take()), [(a, "joined")]);
    join_with(&mut world, a, "kitchen", &kitchen);
    assert_eq!(types(&world.take()), [(a, "joined")]);
    world.join(a, "hall", "sender");
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
}

#[test]
fn a_token_of_another_user_or_for_another_id_is_refused_in_join() {
    let mut world = World::with_users();
    let grant = world.grant("ann", &["*"], &BOTH);
    let a = world.user("a", &grant);
    let bob = world.grant("bob", &["*"], &BOTH);
    join_with(&mut world, a, "r", &bob);
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
    let mut pinned = grant;
    pinned.client_id = Some(ClientId::new("b").expect("an id"));
    join_with(&mut world, a, "r", &pinned);
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
}

#[test]
fn a_bad_token_in_join_ends_the_connection_though_the_first_was_good() {
    let mut world = World::with_users();
    let b = member(&mut world, "r", "b", "receiver");
    let a = member(&mut world, "r", "a", "sender");
    world.take();
    world.say(a, json!({"type": "join", "room_id": "r", "role": "sender", "token": "bad"}));
    world.take();
    world.verdict(a, Verdict::Refused("expired".into()));
    assert_eq!(world.take(), [error(a, "unauthorized", "join"), Closed(a, 4010), kicked(b, "a")]);
}
