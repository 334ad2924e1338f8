//! More receivers than slots: the order of service, and log entries of waiting receivers.

use super::*;

fn limit(max_receivers: usize) -> Limits {
    Limits { max_receivers, ..Limits::default() }
}

fn no_slot(name: &str) -> Observed {
    Observed::Noticed(Notice::NoSlot(id(name), 1))
}

fn no_port(name: &str) -> Observed {
    Observed::Noticed(Notice::NoPort(id(name)))
}

#[test]
fn slots_go_to_receivers_in_the_order_of_arrival() {
    let mut scenario = Scenario::with(limit(1));
    scenario.watcher("first");
    assert_eq!(scenario.join("zoe"), [asked("zoe"), no_slot("zoe")]);
    assert_eq!(scenario.join("amy"), [asked("amy"), no_slot("amy")]);
    assert_eq!(scenario.run_for(1000 * S), [], "one line in the log for each, however long it waits");
    scenario.handle(Input::PeerGone(id("first"), GoneReason::Left));
    assert_eq!(scenario.served(), ["zoe"]);
    scenario.connect("zoe");
    scenario.handle(Input::PeerGone(id("zoe"), GoneReason::Left));
    assert_eq!(scenario.served(), ["amy"]);
}

#[test]
fn a_receiver_that_waits_again_is_logged_again() {
    let mut scenario = Scenario::with(limit(1));
    scenario.watcher("amy");
    scenario.join("zoe");
    scenario.fail("amy");
    scenario.connect("zoe");
    assert_eq!(scenario.run_for(S), [no_slot("amy")]);
    scenario.fail("zoe");
    scenario.connect("amy");
    assert_eq!(scenario.run_for(S), [no_slot("zoe")]);
}

#[test]
fn a_receiver_that_never_answers_loses_its_slot_to_others() {
    let mut scenario = Scenario::with(limit(1));
    scenario.join("mute");
    scenario.offer("mute");
    scenario.run_for(2 * S);
    scenario.join("viewer");
    let did = scenario.nothing_until(3 * S);
    assert_eq!(did, [failure("mute", EndReason::NoAnswer), vec![started("viewer")]].concat(), "after 5 s");
    scenario.connect("viewer");
    assert_eq!(scenario.run_for(1000 * S), [no_slot("mute")]);
}

#[test]
fn a_receiver_that_never_connects_loses_its_slot_to_others() {
    let mut scenario = Scenario::with(limit(1));
    scenario.join("mute");
    scenario.offer("mute");
    scenario.answer("mute");
    scenario.run_for(20 * S);
    let did = scenario.join("viewer");
    let gone = failure("mute", EndReason::NoConnection);
    assert_eq!(did, [vec![asked("viewer")], gone, vec![started("viewer")]].concat(), "it has had over 10 s");
}

#[test]
fn receivers_that_never_answer_cannot_block_a_slot_by_turns() {
    let mut scenario = Scenario::with(limit(1));
    for name in ["mute-1", "mute-2", "viewer"] {
        scenario.join(name);
    }
    for mute in ["mute-1", "mute-2"] {
        assert_eq!(scenario.served(), [mute]);
        scenario.offer(mute);
        scenario.run_for(5 * S);
    }
    assert_eq!(scenario.served(), ["viewer"]);
    scenario.connect("viewer");
    scenario.run_for(1000 * S);
    assert_eq!(scenario.served(), ["viewer"]);
}

#[test]
fn a_higher_limit_serves_waiting_receivers_and_a_lower_one_ends_no_session() {
    let mut scenario = Scenario::with(limit(1));
    scenario.watcher("a");
    scenario.join("b");
    assert_eq!(scenario.handle(Input::Limits(limit(2))), [started("b")]);
    scenario.connect("b");
    assert_eq!(scenario.handle(Input::Limits(limit(1))), []);
    assert_eq!(scenario.served(), ["a", "b"]);
    assert_eq!(scenario.handle(Input::Limits(limit(0))), []);
    assert_eq!(scenario.join("c"), [asked("c"), started("c")], "0 is no limit");
}

#[test]
fn without_a_free_port_receivers_wait_and_get_one_in_the_order_of_arrival() {
    let mut scenario = Scenario::new();
    scenario.watcher("first");
    scenario.has_port = false;
    let fails = |name| vec![started(name), ended(name, EndReason::NoPort)];
    assert_eq!(scenario.join("zoe"), [vec![asked("zoe")], fails("zoe"), vec![no_port("zoe")]].concat());
    assert_eq!(scenario.join("amy"), [asked("amy"), no_port("amy")], "there is no port for her either");
    for _ in 0..10 {
        assert_eq!(scenario.nothing_until(S), fails("zoe"), "each second, never slower, and logged once");
    }
    scenario.has_port = true;
    assert_eq!(scenario.nothing_until(S), [started("zoe"), started("amy")]);
    scenario.connect("zoe");
    assert_eq!(scenario.served(), ["amy", "first", "zoe"]);
}
