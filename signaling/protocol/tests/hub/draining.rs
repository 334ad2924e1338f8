//! The server shuts down.

use crate::world::{Closed, Said, World, error};
use serde_json::json;
use std::time::Duration;

const LATER: Duration = Duration::from_millis(2_500);

#[test]
fn all_members_are_informed_and_can_send_until_the_end() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let idle = world.client("idle");
    let fresh = world.connect();
    assert!(!world.hub.is_draining());
    world.hub.drain(LATER);
    assert!(world.hub.is_draining());
    let reported = json!({"type": "draining", "retry_after_ms": 2_500});
    assert_eq!(world.take(), [Said(a, reported.clone()), Said(b, reported.clone()), Said(idle, reported)]);
    world.say(a, json!({"type": "bye"}));
    assert_eq!(world.take(), [Said(b, json!({"type": "bye", "from": "a"}))]);
    world.hub.close_all();
    let closed = [a, b, idle, fresh].map(|conn| Closed(conn, 1012));
    assert_eq!(world.take(), closed);
    assert_eq!((world.hub.connections(), world.hub.rooms(), world.hub.poll_timeout()), (0, 0, None));
    world.say(a, json!({"type": "x"}));
    assert_eq!(world.take(), []);
}

#[test]
fn a_draining_server_refuses_register_and_join() {
    let mut world = World::new();
    let idle = world.client("idle");
    let old = world.old("old");
    world.hub.drain(LATER);
    world.take();
    world.join(idle, "r", "sender");
    assert_eq!(world.take(), [error(idle, "server_draining", "join"), Closed(idle, 1012)]);
    world.say(old, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(old, "server_draining", "offer"), Closed(old, 1012)]);
    let late = world.connect();
    world.say(late, json!({"type": "register", "client_id": "late"}));
    assert_eq!(world.take(), [error(late, "server_draining", "register"), Closed(late, 1012)]);
    assert_eq!(world.hub.connections(), 0);
}

#[test]
fn a_challenger_is_refused_when_the_holder_answers() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.hub.drain(LATER);
    world.take();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.take(), [Closed(a, 1011), error(other, "server_draining", "join"), Closed(other, 1012)]);
}
