//! Rule 10: the heartbeat.

use crate::world::{Closed, Out, Pinged, Said, World};
use room_protocol::hub::{ConnId, Input};
use serde_json::json;
use std::time::Duration;

/// A connection is pinged after a time of silence between these two.
const EARLIEST: Duration = Duration::from_secs(12);
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
    wait_for_ping(&mut world, a);
    let b = world.member("r", "b", "receiver");
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
            wait_for_ping(&mut world, a);
            world.pass(GRACE - TICK);
            sign(&mut world, a);
            world.take();
        }
        world.pass(EARLIEST - TICK);
        sign(&mut world, a);
        world.take();
        world.pass(EARLIEST - TICK);
        assert_eq!(world.take(), [], "a client that talks is not pinged");
    }
}

/// Lets time pass until the Hub pings a connection that was heard just now.
fn wait_for_ping(world: &mut World, conn: ConnId) {
    world.pass(EARLIEST - TICK);
    assert_eq!(world.take(), []);
    for _ in 0..=(SILENCE - EARLIEST).as_millis() {
        world.pass(TICK);
        match &world.take()[..] {
            [] => {}
            [Pinged(pinged)] if *pinged == conn => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("no ping after {SILENCE:?}");
}

#[test]
fn pings_of_simultaneous_connections_are_spread_over_a_fifth_of_the_heartbeat() {
    let mut world = World::new();
    let conns: Vec<_> = (0..1_000).map(|n| world.client(&format!("c{n}"))).collect();
    world.pass(EARLIEST - TICK);
    assert_eq!(world.take(), []);
    let mut pinged = Vec::new();
    while pinged.len() < conns.len() {
        world.pass(Duration::from_millis(100));
        let outs = world.take();
        assert!(outs.len() < 100, "{} at one moment", outs.len());
        pinged.extend(outs);
    }
    assert!(world.hub.poll_timeout() > Some(world.now), "all are pinged");
    assert!(conns.iter().all(|conn| pinged.contains(&Pinged(*conn))));
    for conn in conns.iter().step_by(2) {
        world.input(Input::Alive(*conn));
    }
    world.pass(GRACE);
    let closed = world.take();
    assert_eq!(closed.len(), conns.len() / 2);
    assert!(conns.iter().skip(1).step_by(2).all(|conn| closed.contains(&Closed(*conn, 1011))));
}

#[test]
fn a_late_shell_pings_before_it_closes() {
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
