//! When a client connects again, when it gives up and with which explanation, and how it notices silence.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::*;
use room_protocol::{
    client::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Event, Failure, Input, SILENCE_GRACE, State},
    hub::Secret,
    wire::{ErrorCode, Role, close},
};
use serde_json::json;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn failure_of(did: &[Did]) -> &Failure {
    did.iter()
        .find_map(|did| if let Did::Tell(Event::Failed(failure)) = did { Some(failure) } else { None })
        .expect("a failure")
}

/// Checks that the client has failed: its connection is closed, and no input has an effect.
fn assert_failed(mut client: Scenario, did: &[Did], disconnects: bool, code: Option<ErrorCode>, text: &str) {
    let failure = failure_of(did).clone();
    let mut expected = vec![tell(Event::Failed(failure.clone())), tell(Event::State(State::Closed))];
    if disconnects {
        expected.insert(0, Did::Disconnect);
    }
    assert_eq!(did, expected);
    assert_eq!(failure.code, code);
    assert!(failure.message.contains(text), "{failure}");
    assert_eq!(client.client.poll_timeout(), None);
    assert_eq!(client.handle(Input::Disconnected(None)), []);
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    assert_eq!(client.run_for(CONNECT_TIMEOUT.saturating_sub(MS)), []);
    assert_eq!(client.run_for(MS), [Did::Disconnect]);
    assert_eq!(client.run_for(Duration::from_millis(100)), [Did::Connect]);
}

#[test]
fn an_unanswered_request_is_given_up() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    client.handle(Input::Connected);
    assert_eq!(client.run_alive_for(ANSWER_TIMEOUT.saturating_sub(MS)), [], "register");
    assert_eq!(client.run_for(MS), [Did::Disconnect]);
    while client.run_to_timeout() != [Did::Connect] {}
    client.handle(Input::Connected);
    client.hear(registered());
    assert_eq!(client.run_alive_for(ANSWER_TIMEOUT.saturating_sub(MS)), [], "join");
    assert_eq!(client.run_for(MS), [Did::Disconnect]);
}

#[test]
fn silence_is_asked_about_and_then_ends_the_connection() {
    let mut client = Scenario::joined(Role::Sender, &[]);
    let quiet = 15 * S + SILENCE_GRACE;
    assert_eq!(client.run_for(quiet.saturating_sub(MS)), []);
    assert_eq!(client.run_for(MS), [Did::Ping]);
    client.run_for(SILENCE_GRACE / 2);
    assert_eq!(client.handle(Input::Alive), [], "the pong");
    assert_eq!(client.run_for(quiet), [Did::Ping]);
    assert_eq!(client.run_for(SILENCE_GRACE), [Did::Disconnect, tell(Event::State(State::Reconnecting))]);
    assert_eq!(client.run_to_timeout(), [Did::Connect]);
}

#[test]
fn a_late_look_at_the_clock_is_not_the_servers_silence() {
    let mut client = Scenario::joined(Role::Sender, &[]);
    client.now += 3_600 * S;
    client.client.handle_timeout(client.now);
    assert_eq!(client.did(), [Did::Ping]);
    client.client.handle_timeout(client.now);
    assert_eq!(client.did(), []);
}

#[test]
fn the_servers_heartbeat_counts_within_reason() {
    for (reported, expected) in [(json!(1), 1), (json!(60), 60), (json!(0), 15), (json!(u64::MAX), 300)] {
        let mut client = Scenario::new(config(Role::Sender));
        client.did();
        client.handle(Input::Connected);
        let mut frame = registered();
        frame["heartbeat_s"] = reported;
        client.hear(frame);
        client.hear(joined(&[]));
        let due = client.client.poll_timeout().unwrap() - client.now;
        assert_eq!(due, expected * S + SILENCE_GRACE);
    }
}

/// The delays of a client whose attempts fail one after the other.
fn delays(client: &mut Scenario, count: usize) -> Vec<Duration> {
    (0..count)
        .map(|_| {
            assert_eq!(client.handle(Input::Disconnected(None)), []);
            let delay = client.client.poll_timeout().unwrap() - client.now;
            assert_eq!(client.run_to_timeout(), [Did::Connect]);
            delay
        })
        .collect()
}

#[test]
fn backs_off_for_ever_and_starts_anew_after_a_join() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    let ceilings =
        (0..8).map(|n| Duration::from_millis(100) * 2u32.pow(n)).map(|ceiling| ceiling.min(10 * S));
    let first = delays(&mut client, 8);
    assert!(first.iter().zip(ceilings).all(|(delay, ceiling)| *delay <= ceiling), "{first:?}");
    let later = delays(&mut client, 1_000);
    assert!(later.iter().all(|delay| *delay <= 10 * S));
    assert!(later.iter().any(|delay| *delay > 9 * S) && later.iter().any(|delay| *delay < S), "full jitter");

    client.handle(Input::Connected);
    client.hear(registered());
    client.hear(joined(&[]));
    client.reconnect();
    assert!(delays(&mut client, 1)[0] <= Duration::from_millis(200));
}

#[test]
fn connecting_without_joining_does_not_shorten_the_backoff() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    delays(&mut client, 100);
    client.handle(Input::Connected);
    client.hear(registered());
    let later = delays(&mut client, 20);
    assert!(later.iter().any(|delay| *delay > S), "{later:?}");
}

#[test]
fn a_draining_server_sets_the_delay() {
    for code in [Some(close::SERVICE_RESTART), None] {
        let mut client = Scenario::joined(Role::Sender, &[]);
        assert_eq!(client.hear(json!({"type": "draining", "retry_after_ms": 3000})), []);
        assert_eq!(client.handle(Input::Disconnected(code)), [tell(Event::State(State::Reconnecting))]);
        let delay = client.client.poll_timeout().unwrap() - client.now;
        assert!((3 * S..=4 * S).contains(&delay), "{delay:?}");
        assert_eq!(client.run_to_timeout(), [Did::Connect]);
        delays(&mut client, 1);
    }
    let mut client = Scenario::joined(Role::Sender, &[]);
    client.hear(json!({"type": "draining", "retry_after_ms": u64::MAX}));
    client.handle(Input::Disconnected(None));
    let delay = client.client.poll_timeout().unwrap() - client.now;
    assert!((60 * S..=61 * S).contains(&delay), "the delay is limited: {delay:?}");
}

#[test]
fn a_wrong_configuration_is_fatal_immediately() {
    for (word, code, expected) in [
        ("unauthorized", ErrorCode::Unauthorized, "token"),
        ("forbidden", ErrorCode::Forbidden, "password"),
        ("invalid_id", ErrorCode::InvalidId, "128 bytes"),
        ("client_id_taken", ErrorCode::ClientIdTaken, "\"me\" is in use"),
        ("unknown_role", ErrorCode::UnknownRole, "sender"),
        ("bad_message", ErrorCode::BadMessage, "1 KiB"),
    ] {
        for request in ["register", "join"] {
            let mut client = Scenario::new(config(Role::Sender));
            client.did();
            client.handle(Input::Connected);
            if request == "join" {
                client.hear(registered());
            }
            let did = client.hear(error(word, request));
            let said = format!("{}", failure_of(&did));
            assert!(said.contains("because"), "the server's words: {said}");
            assert_failed(client, &did, true, Some(code), expected);
        }
    }
}

#[test]
fn temporary_errors_are_reported_and_retried() {
    for (word, code) in [
        ("room_full", ErrorCode::RoomFull),
        ("too_many_rooms", ErrorCode::TooManyRooms),
        ("too_many_attempts", ErrorCode::TooManyAttempts),
        ("server_draining", ErrorCode::ServerDraining),
        ("of_a_later_version", ErrorCode::Unknown),
    ] {
        let mut client = Scenario::new(config(Role::Sender));
        client.did();
        client.handle(Input::Connected);
        client.hear(registered());
        assert_eq!(client.hear(error(word, "join")), [refused(code, "join"), Did::Disconnect]);
        assert_eq!(client.client.state(), State::Connecting);
        assert_eq!(client.run_to_timeout(), [Did::Connect]);
        client.join(&[]);
        assert_eq!(client.client.state(), State::Joined);
    }
}

#[test]
fn final_close_codes_are_explained() {
    for (close_code, code, expected) in [
        (close::REPLACED, None, "another connection of this process"),
        (close::CLIENT_ID_TAKEN, Some(ErrorCode::ClientIdTaken), "is in use"),
        (close::BAD_MESSAGES, Some(ErrorCode::BadMessage), "ten messages"),
        (close::UNAUTHORIZED, Some(ErrorCode::Unauthorized), "token"),
        (close::TOO_BIG, None, "frame limit"),
    ] {
        let mut client = Scenario::joined(Role::Receiver, &[]);
        let did = client.handle(Input::Disconnected(Some(close_code)));
        assert_failed(client, &did, false, code, expected);
    }
}

#[test]
fn the_error_before_a_close_code_explains_it() {
    let mut client = Scenario::joined(Role::Receiver, &[]);
    let expired = json!({"type": "error", "code": "unauthorized", "message": "the token expired\u{1b}[2J"});
    client.hear(expired);
    let did = client.handle(Input::Disconnected(Some(close::UNAUTHORIZED)));
    assert!(failure_of(&did).message.ends_with("(the server says: the token expired[2J)"), "{did:?}");
    let mut client = Scenario::joined(Role::Receiver, &[]);
    client.hear(error("target_not_found", "answer"));
    let did = client.handle(Input::Disconnected(Some(close::UNAUTHORIZED)));
    assert!(!failure_of(&did).message.contains("because"), "it was about something else: {did:?}");
}

#[test]
fn all_other_close_codes_reconnect() {
    for code in [
        None,
        Some(1000),
        Some(1001),
        Some(1006),
        Some(1012),
        Some(4000),
        Some(close::SLOW_CONSUMER),
        Some(4999),
    ] {
        let mut client = Scenario::joined(Role::Receiver, &[]);
        assert_eq!(
            client.handle(Input::Disconnected(code)),
            [tell(Event::State(State::Reconnecting))],
            "{code:?}"
        );
        assert_eq!(client.run_to_timeout(), [Did::Connect]);
    }
}

#[test]
fn removed_from_the_room_asks_to_be_let_in_again() {
    let mut client = Scenario::joined(Role::Receiver, &[]);
    assert_eq!(
        client.hear(json!({"type": "left"})),
        [Did::Disconnect, tell(Event::State(State::Reconnecting))]
    );
    assert_eq!(client.run_to_timeout(), [Did::Connect]);
    client.handle(Input::Connected);
    client.hear(registered());
    let did = client.hear(error("forbidden", "join"));
    assert_failed(client, &did, true, Some(ErrorCode::Forbidden), "living_room");
}

#[test]
fn an_address_that_never_worked_is_a_failure() {
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    client.handle(Input::Disconnected(None));
    client.run_to_timeout();
    let did = client.handle(Input::Misconfigured("no trust".to_owned()));
    assert_failed(client, &did, false, None, "no trust");
}

#[test]
fn an_address_that_worked_before_is_retried() {
    let mut client = Scenario::joined(Role::Sender, &[]);
    client.reconnect();
    assert_eq!(client.handle(Input::Misconfigured("no trust".to_owned())), []);
    assert_eq!(client.run_to_timeout(), [Did::Connect]);
}

#[test]
fn the_state_changes_once_for_an_outage() {
    let mut client = Scenario::joined(Role::Sender, &[]);
    client.reconnect();
    delays(&mut client, 5);
    assert_eq!(client.client.state(), State::Reconnecting);
    assert_eq!(client.join(&[]), [tell(Event::State(State::Joined)), tell_joined()]);
}

/// A client that registered with token "first", in its room.
fn with_token(renews: bool) -> Scenario {
    let mut config = config(Role::Sender);
    (config.token, config.token_renews) = (Some("first".into()), renews);
    let mut client = Scenario::new(config);
    client.did();
    client.join(&[]);
    client
}

#[test]
fn a_new_token_is_sent_immediately_and_used_from_then_on() {
    let mut client = with_token(false);
    let [Did::Say(join)] = &client.handle(Input::Token(Secret::new("second")))[..] else { panic!() };
    assert_eq!(
        (&join["type"], &join["room_id"], &join["token"]),
        (&json!("join"), &json!("living_room"), &json!("second"))
    );
    assert_eq!(client.hear(joined(&[])).len(), 1, "it is told that it is in the room, and nothing else");
    client.reconnect();
    let [Did::Say(register)] = &client.handle(Input::Connected)[..] else { panic!() };
    assert_eq!(register["token"], "second");
    // Before the client is in its room, it does not send the token.
    assert_eq!(client.handle(Input::Token(Secret::new("third"))), []);
    let [Did::Say(join)] = &client.hear(registered())[..] else { panic!() };
    assert_eq!(join.get("token"), None);
}

#[test]
fn an_expired_token_is_no_failure_if_new_ones_arrive() {
    let expired = json!({"type": "error", "code": "unauthorized", "message": "the token has expired"});
    for renews in [false, true] {
        let mut client = with_token(renews);
        client.hear(expired.clone());
        let did = client.handle(Input::Disconnected(Some(close::UNAUTHORIZED)));
        if !renews {
            assert_eq!(failure_of(&did).code, Some(ErrorCode::Unauthorized));
            continue;
        }
        assert_eq!(did, [tell(Event::State(State::Reconnecting))]);
        assert_eq!(client.run_to_timeout(), [Did::Connect]);
        // A new token that is refused immediately is a failure.
        client.handle(Input::Token(Secret::new("second")));
        client.handle(Input::Connected);
        let did = client
            .hear(json!({"type": "error", "code": "unauthorized", "message": "no", "request": "register"}));
        assert_failed(client, &did, true, Some(ErrorCode::Unauthorized), "token");
    }
}
