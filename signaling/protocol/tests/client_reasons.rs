//! The reasons that a Client reports while its server can't be reached: each one once, until the client is in its room.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::*;
use room_protocol::client::{Event, Input, MAX_REASONS, State};
use room_protocol::wire::Role;
use serde_json::json;
use std::time::Duration;

fn unreachable(reason: &str) -> Event {
    Event::Unreachable(reason.to_owned())
}

fn fail(scenario: &mut Scenario, reason: &str) {
    scenario.handle(Input::Unreachable(reason.to_owned()));
    assert_eq!(scenario.run_to_timeout(), [Did::Connect]);
}

fn starting() -> Scenario {
    let mut scenario = Scenario::new(config(Role::Sender));
    scenario.did();
    scenario
}

#[test]
fn each_reason_is_reported_once_until_the_client_is_in_the_room() {
    let mut scenario = starting();
    for reason in ["refused", "refused", "no route", "refused", "no route"] {
        fail(&mut scenario, reason);
    }
    assert_eq!(scenario.reasons, [unreachable("refused"), unreachable("no route")]);
    scenario.join(&[]);
    scenario.reconnect();
    scenario.reasons.clear();
    fail(&mut scenario, "refused");
    assert_eq!(scenario.reasons, [unreachable("refused")]);
}

#[test]
fn the_number_of_reasons_is_bounded() {
    let mut scenario = starting();
    for number in 0..=MAX_REASONS {
        fail(&mut scenario, &number.to_string());
    }
    assert_eq!(scenario.reasons.len(), MAX_REASONS);
}

#[test]
fn a_lost_connection_has_a_reason_and_is_not_reported_as_unreachable() {
    for (end, expected) in [
        (Input::Disconnected(None), "broke"),
        (Input::Disconnected(Some(1012)), "restarting"),
        (Input::Disconnected(Some(4008)), "4008"),
        (Input::Frame(json!({"type": "left"}).to_string().into()), "removed"),
    ] {
        let mut scenario = Scenario::joined(Role::Sender, &[]);
        scenario.handle(end);
        assert_eq!(scenario.client.state(), State::Reconnecting);
        let [Event::Disconnected(reason)] = &scenario.reasons[..] else { panic!("{:?}", scenario.reasons) };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn silence_has_a_reason_at_every_stage() {
    let mut scenario = starting();
    scenario.run_for(Duration::from_secs(6));
    assert!(matches!(&scenario.reasons[..], [Event::Unreachable(reason)] if reason.contains("within 5 s")));

    let mut scenario = starting();
    scenario.handle(Input::Connected);
    scenario.run_for(Duration::from_secs(11));
    assert!(
        matches!(&scenario.reasons[..], [Event::Unreachable(reason), ..] if reason.contains("does not answer"))
    );

    let mut scenario = Scenario::joined(Role::Sender, &[]);
    scenario.run_for(Duration::from_secs(26));
    assert!(
        matches!(&scenario.reasons[..], [Event::Disconnected(reason), ..] if reason.contains("stopped answering"))
    );
}

#[test]
fn a_temporary_refusal_is_the_reason() {
    let mut scenario = starting();
    scenario.handle(Input::Connected);
    scenario.hear(registered());
    scenario
        .hear(json!({"type": "error", "code": "room_full", "message": "1,000 are in", "request": "join"}));
    let [Event::Unreachable(reason)] = &scenario.reasons[..] else { panic!("{:?}", scenario.reasons) };
    assert!(reason.contains("1,000 are in"), "{reason}");
}

#[test]
fn a_misconfiguration_after_a_success_is_a_reason_and_no_failure() {
    let mut scenario = Scenario::joined(Role::Sender, &[]);
    scenario.reconnect();
    scenario.handle(Input::Misconfigured("not trusted".to_owned()));
    assert_eq!(scenario.reasons.last(), Some(&unreachable("not trusted")));
    assert_eq!(scenario.client.state(), State::Reconnecting);
}
