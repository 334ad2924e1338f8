//! Rule 8: joins with an id that is taken.

use crate::world::{Asked, Closed, Pinged, Said, World, error};
use room_protocol::{
    HubConfig,
    hub::{Event, Input},
    wire::LeftReason,
};
use serde_json::json;
use std::time::Duration;

const PROBE: Duration = Duration::from_secs(2);

fn types(world: &mut World) -> Vec<String> {
    let line = |out| match out {
        Said(to, said) => format!("{} {}", to.0, said["type"].as_str().unwrap_or_default()),
        Pinged(to) => format!("{} ping", to.0),
        Closed(to, code) => format!("{} closed {code}", to.0),
        Asked(to, _) => format!("{} asked", to.0),
    };
    world.take().into_iter().map(line).collect()
}

#[test]
fn the_same_process_takes_over_and_was_never_gone() {
    let mut world = World::new();
    let old = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let new = world.client("a");
    world.join(new, "r", "sender");
    // The others are informed, because messages to the old socket may be lost.
    assert_eq!(
        types(&mut world),
        [format!("{} closed 4001", old.0), format!("{} joined", new.0), format!("{} peer_joined", b.0)]
    );
    // The end of the old socket never removes its successor.
    world.input(Input::Disconnected(old));
    assert_eq!(world.take(), []);
    world.say(b, json!({"type": "answer", "target_id": "a"}));
    assert_eq!(world.take(), [Said(new, json!({"type": "answer", "target_id": "a", "from": "b"}))]);
    assert_eq!(world.hub.members(), 2);
}

#[test]
fn the_news_of_a_successor_is_announced() {
    let mut world = World::new();
    let old = world.member("r", "a", "receiver");
    let b = world.member("r", "b", "receiver");
    let new = world.client("a");
    world.join(new, "r", "sender");
    assert_eq!(
        types(&mut world),
        [format!("{} closed 4001", old.0), format!("{} joined", new.0), format!("{} peer_joined", b.0)]
    );
}

#[test]
fn the_id_of_a_responding_holder_is_refused() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let _b = world.member("r", "b", "receiver");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(PROBE / 2);
    world.input(Input::Alive(a));
    assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002)]);
    world.pass(PROBE);
    assert_eq!(world.take(), [], "the probe is over");
    assert_eq!(world.peers(a), ["b"]);
}

#[test]
fn a_frame_is_an_answer_too() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.take();
    world.text(a, "{");
    let bad = json!({"type": "error", "code": "bad_message"});
    assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002), Said(a, bad)]);
}

#[test]
fn a_silent_holder_loses_its_id() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(PROBE - Duration::from_millis(1));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_millis(1));
    let outs = world.take();
    let gone = json!({"type": "peer_left", "client_id": "a", "reason": "timeout"});
    assert_eq!(outs[..2], [Closed(a, 1011), Said(b, gone)]);
    let [Said(to, joined), Said(reported, come)] = &outs[2..] else { panic!("{outs:?}") };
    assert_eq!(
        (*to, &joined["type"], *reported, &come["type"]),
        (other, &json!("joined"), b, &json!("peer_joined"))
    );
    assert!(
        world
            .events
            .iter()
            .any(|(conn, event)| *conn == a
                && matches!(event, Event::Left { reason: LeftReason::Timeout, .. }))
    );
    world.input(Input::Alive(a));
    world.input(Input::Disconnected(a));
    assert_eq!(world.take(), []);
    assert_eq!(world.peers(other), ["b"]);
}

#[test]
fn clients_without_a_secret_are_never_the_same_process() {
    let mut world = World::new();
    let a = world.old_member("r", "a", "receiver");
    let again = world.old("a");
    world.join(again, "r", "receiver");
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(PROBE);
    assert_eq!(types(&mut world), [format!("{} closed 1011", a.0), format!("{} joined", again.0)]);
}

#[test]
fn an_id_is_free_as_soon_as_its_holder_leaves() {
    let leave = |world: &mut World, a| world.say(a, json!({"type": "leave"}));
    let close = |world: &mut World, a| world.input(Input::Disconnected(a));
    // `leave` is a sign of life, so the challenger is answered first.
    for (go, expect) in [(&close as &dyn Fn(&mut World, _), "joined"), (&leave, "error")] {
        let mut world = World::new();
        let a = world.member("r", "a", "sender");
        let other = world.process("a", "another process");
        world.join(other, "r", "sender");
        world.take();
        go(&mut world, a);
        assert_eq!(types(&mut world)[0], format!("{} {expect}", other.0));
    }
}

#[test]
fn several_want_the_id_of_a_silent_one() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let one = world.process("a", "one");
    let two = world.process("a", "two");
    let three = world.process("a", "three");
    for conn in [one, two, three] {
        world.join(conn, "r", "sender");
    }
    assert_eq!(world.take(), [Pinged(a)], "it is asked once");
    world.input(Input::Disconnected(two));
    world.pass(PROBE);
    // The first challenger has the id. The next one probes the first.
    assert_eq!(
        types(&mut world),
        [format!("{} closed 1011", a.0), format!("{} joined", one.0), format!("{} ping", one.0)]
    );
    world.input(Input::Alive(one));
    assert_eq!(world.take(), [error(three, "client_id_taken", "join"), Closed(three, 4002)]);
}

#[test]
fn a_process_that_joins_twice_is_a_member_once() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let first = world.process("a", "new process");
    let second = world.process("a", "new process");
    world.join(first, "r", "sender");
    world.join(second, "r", "sender");
    world.take();
    world.pass(PROBE);
    assert_eq!(
        types(&mut world),
        [
            format!("{} closed 1011", a.0),
            format!("{} joined", first.0),
            format!("{} closed 4001", first.0),
            format!("{} joined", second.0)
        ]
    );
}

#[test]
fn a_process_reconnects_while_another_client_waits_for_its_id() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.take();
    let again = world.client("a");
    world.join(again, "r", "sender");
    assert_eq!(
        types(&mut world),
        [format!("{} closed 4001", a.0), format!("{} joined", again.0), format!("{} ping", again.0)]
    );
    world.input(Input::Alive(again));
    assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002)]);
}

#[test]
fn a_connection_that_ends_while_waiting_is_forgotten() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.take();
    world.input(Input::Disconnected(other));
    world.pass(PROBE);
    assert_eq!(world.take(), [], "a is left in peace");
    assert_eq!(world.peers(a), Vec::<String>::new());
}

#[test]
fn messages_while_a_join_waits_are_read_afterwards_in_order() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    for n in 0..3 {
        world.say(other, json!({"type": "offer", "n": n}));
    }
    assert_eq!(world.take(), [Pinged(a)]);
    world.pass(PROBE);
    let outs = world.take();
    let offers: Vec<_> = (0..3).map(|n| Said(b, json!({"type": "offer", "n": n, "from": "a"}))).collect();
    assert_eq!(outs[4..], offers);
}

#[test]
fn a_challenger_is_held_until_the_answer_and_counts_as_alive() {
    for answers in [true, false] {
        let mut world =
            World::with(HubConfig { heartbeat: Duration::from_millis(500), ..HubConfig::default() });
        let a = world.member("r", "a", "sender");
        let other = world.process("a", "another process");
        assert!(!world.is_held(other));
        world.join(other, "r", "sender");
        assert!(world.is_held(other) && !world.is_held(a));
        world.take();
        world.pass(PROBE - Duration::from_millis(1));
        assert!(!world.take().contains(&Pinged(other)), "its pong could not be read");
        if answers {
            world.input(Input::Alive(a));
            assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002)]);
        } else {
            world.pass(Duration::from_millis(1));
            assert!(!world.is_held(other));
            world.pass(Duration::from_millis(500));
            assert!(world.take().contains(&Pinged(other)), "the heartbeat counts again");
        }
    }
}

#[test]
fn a_message_to_a_held_connection_is_delivered() {
    let mut world = World::new();
    let a = world.member("one", "a", "sender");
    let b = world.member("one", "b", "receiver");
    let holder = world.process("b", "another process");
    world.join(holder, "two", "receiver");
    world.join(b, "two", "receiver");
    assert!(world.is_held(b));
    world.take();
    world.say(a, json!({"type": "offer", "target_id": "b"}));
    assert_eq!(world.take(), [Said(b, json!({"type": "offer", "target_id": "b", "from": "a"}))]);
}

#[test]
fn a_held_holder_counts_as_alive() {
    let mut world = World::new();
    world.member("two", "a", "sender");
    let a = world.process("a", "a process");
    world.join(a, "one", "sender");
    world.join(a, "two", "sender");
    assert!(world.is_held(a));
    let other = world.process("a", "another process");
    world.take();
    world.join(other, "one", "sender");
    assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002)]);
}

#[test]
fn a_frame_from_a_held_connection_is_answered() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "r", "sender");
    world.input(Input::Frame(other, r#"{"type":"x"}"#.into()));
    assert_eq!(world.take(), [Pinged(a), Said(other, json!({"type": "error", "code": "bad_message"}))]);
}

#[test]
fn a_member_of_another_room_is_closed_when_refused() {
    let mut world = World::new();
    let a = world.member("one", "a", "sender");
    let other = world.process("a", "another process");
    world.join(other, "two", "sender");
    world.take();
    world.join(other, "one", "sender");
    assert_eq!(world.take(), [Pinged(a)]);
    assert_eq!(world.hub.rooms(), 2, "it stays where it is until it is clear");
    world.input(Input::Alive(a));
    assert_eq!(world.take(), [error(other, "client_id_taken", "join"), Closed(other, 4002)]);
    assert_eq!(world.hub.rooms(), 1);
}

#[test]
fn two_joins_for_each_others_ids_both_end() {
    let mut world = World::new();
    let one = world.process("a", "one");
    let two = world.process("a", "two");
    world.join(one, "r1", "sender");
    world.join(two, "r2", "sender");
    world.take();
    world.join(one, "r2", "sender");
    world.join(two, "r1", "sender");
    // The second message was a sign of life.
    assert_eq!(
        types(&mut world),
        [
            format!("{} ping", two.0),
            format!("{} error", one.0),
            format!("{} closed 4002", one.0),
            format!("{} joined", two.0)
        ]
    );
}
