//! Rule 10: who is still there.

use crate::world::{Closed, Out, Pinged, Said, World};
use room_protocol::hub::{ConnId, Input};
use serde_json::json;
use std::time::Duration;

const SILENCE: Duration = Duration::from_secs(15);
const GRACE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(1);

fn gone(to: ConnId, id: &str) -> Out {
    Said(to, json!({"type": "peer_left", "client_id": id, "reason": "timeout"}))
}

#[test]
fn silence_is_answered_with_a_ping_and_more_of_it_with_the_end() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.pass(SILENCE - TICK);
    let b = world.member("r", "b", "receiver");
    assert_eq!(world.take(), []);
    world.pass(TICK);
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(GRACE - TICK);
    assert_eq!(world.take(), []);
    world.pass(TICK);
    assert_eq!(world.take(), [Closed(a, 1011), gone(b, "a")]);
    assert_eq!(world.hub.connections(), 1);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let signs: [fn(&mut World, ConnId); 4] = [
        |world, conn| world.input(Input::Alive(conn)),
        |world, conn| world.input(Input::BadFrame(conn)),
        |world, conn| world.say(conn, json!({"type": "ping"})),
        |world, conn| world.text(conn, "{"),
    ];
    for sign in signs {
        let mut world = World::new();
        let a = world.member("r", "a", "sender");
        for _ in 0..3 {
            world.pass(SILENCE);
            assert_eq!(world.take(), [Pinged(a)]);
            world.pass(GRACE - TICK);
            sign(&mut world, a);
            world.take();
        }
        world.pass(SILENCE - TICK);
        sign(&mut world, a);
        world.take();
        world.pass(SILENCE - TICK);
        assert_eq!(world.take(), [], "who talks is not pinged");
    }
}

#[test]
fn everyone_has_a_time_of_its_own() {
    let mut world = World::new();
    let mut conns = Vec::new();
    for n in 0..100 {
        conns.push(world.client(&format!("c{n}")));
        world.pass(Duration::from_millis(10));
    }
    world.pass(SILENCE);
    let pinged: Vec<_> = conns.iter().map(|conn| Pinged(*conn)).collect();
    assert_eq!(world.take(), pinged, "in order of their silence");
    for conn in conns.iter().step_by(2) {
        world.input(Input::Alive(*conn));
    }
    world.pass(GRACE);
    let closed: Vec<_> = conns.iter().skip(1).step_by(2).map(|conn| Closed(*conn, 1011)).collect();
    assert_eq!(world.take(), closed);
}

#[test]
fn a_shell_that_comes_late_closes_nobody_unasked() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    // The machine slept for an hour.
    world.now += Duration::from_hours(1);
    world.hub.handle_timeout(world.now);
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(GRACE - TICK);
    assert_eq!(world.take(), []);
    world.input(Input::Alive(a));
    assert_eq!(world.take(), []);
}
