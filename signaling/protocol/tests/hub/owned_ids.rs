//! Tokens that name a client id, which belongs to their user.

use crate::{
    new_tokens::join_with,
    tokens::{BOTH, SECOND, kicked, member, types},
    world::{Closed, Pinged, Said, World, error},
};
use room_protocol::{
    ClientId,
    hub::{Grant, Input},
};
use serde_json::json;

/// A grant whose token names an id.
fn naming(world: &World, user: &str, id: &str) -> Grant {
    Grant { client_id: Some(ClientId::new(id).expect("an id")), ..world.grant(user, &["*"], &BOTH) }
}

#[test]
fn a_token_that_names_an_id_takes_it_from_one_that_names_none() {
    for user in ["eve", "ann"] {
        let mut world = World::with_users();
        let watcher = member(&mut world, "r", "watcher", "sender");
        let any_id = world.grant(user, &["*"], &BOTH);
        let squatter = world.user("camera", &any_id);
        world.join(squatter, "r", "receiver");
        let named = naming(&world, "ann", "camera");
        let camera = world.process_of_user("camera", "the camera", &named);
        world.take();
        world.join(camera, "r", "sender");
        let outs = world.take();
        assert_eq!(
            outs[..3],
            [
                kicked(watcher, "camera"),
                Said(squatter, json!({"type": "error", "code": "client_id_taken"})),
                Closed(squatter, 4002),
            ]
        );
        assert_eq!(types(&outs[3..]), [(camera, "joined"), (watcher, "peer_joined")]);
    }
}

#[test]
fn an_owned_id_is_not_probed_for_another_user() {
    let mut world = World::with_users();
    let named = naming(&world, "ann", "camera");
    let camera = world.user("camera", &named);
    world.join(camera, "r", "sender");
    let any_id = world.grant("eve", &["*"], &BOTH);
    let eve = world.process_of_user("camera", "another process", &any_id);
    world.take();
    world.join(eve, "r", "receiver");
    // Even silence of the camera changes nothing.
    assert_eq!(world.take(), [error(eve, "client_id_taken", "join"), Closed(eve, 4002)]);
}

#[test]
fn of_two_users_whose_tokens_name_the_same_id_the_first_keeps_it_while_it_answers() {
    for answers in [true, false] {
        let mut world = World::with_users();
        let (ann, eve) = (naming(&world, "ann", "camera"), naming(&world, "eve", "camera"));
        let first = world.user("camera", &ann);
        world.join(first, "r", "sender");
        let second = world.process_of_user("camera", "another process", &eve);
        world.take();
        world.join(second, "r", "sender");
        assert_eq!(world.take(), [Pinged(first)]);
        if answers {
            world.input(Input::Alive(first));
            assert_eq!(world.take(), [error(second, "client_id_taken", "join"), Closed(second, 4002)]);
        } else {
            world.pass(2 * SECOND);
            assert_eq!(types(&world.take()), [(first, "close"), (second, "joined")]);
        }
    }
}

#[test]
fn a_squatter_with_a_pending_join_is_evicted_too() {
    let mut world = World::with_users();
    let eve = world.grant("eve", &["*"], &BOTH);
    let elsewhere = world.process_of_user("camera", "elsewhere", &eve);
    world.join(elsewhere, "two", "receiver");
    let squatter = world.user("camera", &eve);
    world.join(squatter, "one", "receiver");
    world.take();
    world.join(squatter, "two", "receiver");
    assert_eq!(world.take(), [Pinged(elsewhere)]);
    let named = naming(&world, "ann", "camera");
    let camera = world.process_of_user("camera", "the camera", &named);
    world.join(camera, "one", "sender");
    assert_eq!(types(&world.take()), [(squatter, "error"), (squatter, "close"), (camera, "joined")]);
    world.input(Input::Alive(elsewhere));
    assert_eq!(world.take(), [], "nobody waits for its id any more");
}

#[test]
fn a_takeover_needs_the_same_user_as_well() {
    for (user, taken_over) in [("ann", true), ("eve", false)] {
        let mut world = World::with_users();
        let ann = world.grant("ann", &["*"], &BOTH);
        let old = world.user("a", &ann);
        world.join(old, "r", "sender");
        world.take();
        // The same id and the same instance.
        let other = world.grant(user, &["*"], &BOTH);
        let new = world.user("a", &other);
        world.join(new, "r", "sender");
        if taken_over {
            assert_eq!(types(&world.take()), [(old, "close"), (new, "joined")]);
        } else {
            assert_eq!(world.take(), [Pinged(old)]);
            world.input(Input::Alive(old));
            assert_eq!(world.take(), [error(new, "client_id_taken", "join"), Closed(new, 4002)]);
        }
    }
}

#[test]
fn a_new_token_counts_for_a_join_that_waits_for_the_holder_of_its_id() {
    let mut world = World::with_users();
    let old = member(&mut world, "r", "a", "sender");
    let hall = world.grant("eve", &["hall"], &BOTH);
    let new = world.user("a", &hall);
    let room = world.grant("eve", &["r"], &BOTH);
    join_with(&mut world, new, "r", &room);
    assert_eq!(world.take(), [Pinged(old)]);
    world.pass(2 * SECOND);
    assert_eq!(types(&world.take()), [(old, "close"), (new, "joined")]);
    world.join(new, "hall", "sender");
    assert_eq!(world.take(), [error(new, "forbidden", "join")]);
}
