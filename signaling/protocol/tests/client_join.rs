//! Connecting, registering and joining, and the client's view of the room after that.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::*;
use room_protocol::{
    client::{ClientConfig, Event, GoneReason, Input, State},
    wire::{Body, IceServer, Role},
};
use serde_json::{Value, json};
use std::time::Duration;

const INSTANCE: &str = "07070707070707070707070707070707";

#[test]
fn connects_registers_and_joins() {
    let mut client = Scenario::new(config(Role::Receiver));
    assert_eq!(client.did(), [tell(Event::State(State::Connecting)), Did::Connect]);
    let register = json!({"type": "register", "client_id": "me", "protocol": 1, "instance": INSTANCE});
    assert_eq!(client.handle(Input::Connected), [Did::Say(register)]);
    let join = json!({"type": "join", "room_id": "living_room", "role": "receiver"});
    assert_eq!(client.hear(registered()), [Did::Say(join)]);
    let camera = peer("camera", "sender", "aa");
    assert_eq!(
        client.hear(joined(std::slice::from_ref(&camera))),
        [tell(Event::State(State::Joined)), tell_joined(), ready(&camera)]
    );
    assert_eq!(client.client.state(), State::Joined);
}

#[test]
fn the_whole_configuration_is_sent_and_ice_servers_are_passed_on() {
    let mut client = Scenario::new(ClientConfig {
        token: Some("secret-token".to_owned()),
        password: Some("secret-word".to_owned()),
        meta: Some(json!({"name": "门口"})),
        ..config(Role::Sender)
    });
    client.did();
    let Did::Say(register) = client.handle(Input::Connected).remove(0) else { panic!() };
    assert_eq!(register["token"], "secret-token");
    let join = json!({"type": "join", "room_id": "living_room", "role": "sender", "password": "secret-word",
                      "meta": {"name": "门口"}});
    assert_eq!(client.hear(registered()), [Did::Say(join)]);
    let mut welcome = joined(&[]);
    welcome["ice_servers"] =
        json!([{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c", "later": 1}]);
    let ice_servers = vec![IceServer {
        urls: vec!["turn:turn.example.org".to_owned()],
        username: Some("u".to_owned()),
        credential: Some("c".to_owned()),
    }];
    let reported = Event::Joined { client_id: id("me"), ice_servers };
    assert_eq!(client.hear(welcome), [tell(Event::State(State::Joined)), tell(reported)]);
}

#[test]
fn joins_again_for_fresh_credentials_before_the_old_ones_expire() {
    let welcome = |user: &str, ttl: Option<u64>, peers: &[Value]| {
        let mut welcome = joined(peers);
        welcome["ice_servers"] = json!([{"urls": ["turn:t"], "username": user, "credential": "c"}]);
        welcome["ice_ttl_s"] = json!(ttl);
        welcome
    };
    let reported = |user: &str| {
        let (username, credential) = (Some(user.to_owned()), Some("c".to_owned()));
        let ice_servers = vec![IceServer { urls: vec!["turn:t".to_owned()], username, credential }];
        tell(Event::Joined { client_id: id("me"), ice_servers })
    };
    let join = json!({"type": "join", "room_id": "living_room", "role": "sender"});
    let viewer = peer("viewer", "receiver", "e1");
    let there = std::slice::from_ref(&viewer);
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    client.handle(Input::Connected);
    client.hear(registered());
    let first = client.hear(welcome("first", Some(3_600), there));
    assert_eq!(first, [tell(Event::State(State::Joined)), reported("first"), ready(&viewer)]);

    assert_eq!(client.run_alive_for(Duration::from_secs(1_799)), []);
    assert_eq!(client.run_alive_for(Duration::from_secs(1)), [Did::Say(join.clone())]);
    // The session that is connecting continues, and is not restarted.
    assert_eq!(client.hear(welcome("second", Some(3_600), there)), [reported("second")]);
    assert_eq!(client.run_alive_for(Duration::from_mins(30)), [Did::Say(join.clone())]);
    assert_eq!(client.hear(welcome("third", None, there)), [reported("third")]);
    assert_eq!(client.run_alive_for(Duration::from_hours(1)), [], "the server has stopped to say how long");

    // The time between two joins has a minimum.
    assert_eq!(client.hear(welcome("fourth", Some(0), there)), [reported("fourth")]);
    assert_eq!(client.run_alive_for(Duration::from_secs(29)), []);
    assert_eq!(client.run_alive_for(Duration::from_secs(1)), [Did::Say(join)]);
}

#[test]
fn debug_output_has_no_secrets() {
    let client = Scenario::new(ClientConfig {
        token: Some("secret-token".to_owned()),
        password: Some("secret-word".to_owned()),
        ..config(Role::Sender)
    });
    let shown = format!("{:?}", client.client);
    assert!(shown.contains("living_room"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("0707"), "{shown}");
}

#[test]
fn the_id_from_the_server_is_kept() {
    let mut client = Scenario::new(ClientConfig { client_id: None, ..config(Role::Sender) });
    client.did();
    let nameless = json!({"type": "register", "protocol": 1, "instance": INSTANCE});
    assert_eq!(client.handle(Input::Connected), [Did::Say(nameless)]);
    let mut given = registered();
    given["client_id"] = "c-1".into();
    client.hear(given);
    let reported = Event::Joined { client_id: id("c-1"), ice_servers: vec![] };
    assert_eq!(client.hear(joined(&[])), [tell(Event::State(State::Joined)), tell(reported)]);
    client.reconnect();
    let named = json!({"type": "register", "client_id": "c-1", "protocol": 1, "instance": INSTANCE});
    assert_eq!(client.handle(Input::Connected), [Did::Say(named)]);
}

#[test]
fn only_the_opposite_role_is_of_interest() {
    let (other, viewer) = (peer("other", "sender", "aa"), peer("viewer", "receiver", "bb"));
    let mut client = Scenario::new(config(Role::Sender));
    client.did();
    let reported = client.join(&[other.clone(), viewer.clone(), peer("me", "receiver", "cc")]);
    assert_eq!(reported, [tell(Event::State(State::Joined)), tell_joined(), ready(&viewer)]);
    assert_eq!(client.hear(peer_joined(&peer("me", "receiver", "cc"))), []);
    assert_eq!(client.hear(peer_joined(&other)), []);
    assert_eq!(client.hear(peer_left("other", "left")), []);
    assert_eq!(client.present(), ["viewer"]);
    let turned = peer("viewer", "sender", "bb");
    assert_eq!(client.hear(peer_joined(&turned)), [gone("viewer", GoneReason::Left)]);
    assert_eq!(client.present(), Vec::<&str>::new());
}

#[test]
fn peers_come_change_and_go() {
    let mut client = Scenario::joined(Role::Receiver, &[]);
    let mut camera = peer("camera", "sender", "aa");
    assert_eq!(client.hear(peer_joined(&camera)), [ready(&camera)]);
    assert_eq!(client.hear(peer_joined(&camera)), []);
    camera["meta"] = json!({"name": "front"});
    assert_eq!(client.hear(peer_joined(&camera)), [changed(&camera)]);
    assert_eq!(client.hear(peer_left("camera", "left")), [gone("camera", GoneReason::Left)]);
    assert_eq!(client.hear(peer_left("camera", "left")), []);
}

#[test]
fn words_of_later_versions_change_nothing() {
    let mut client = Scenario::new(config(Role::Receiver));
    client.did();
    client.handle(Input::Connected);
    assert_eq!(client.hear(json!({"type": "welcome"})), []);
    client.hear(registered());
    let camera = peer("camera", "sender", "aa");
    let mut welcome = joined(&[json!({"client_id": "x", "role": "observer"}), camera.clone(), json!(7)]);
    welcome["later"] = json!({"a": [1, 2]});
    assert_eq!(client.hear(welcome), [tell(Event::State(State::Joined)), tell_joined(), ready(&camera)]);
    for frame in [
        json!({"type": "server.news", "x": 1}),
        json!({"type": "chat", "from": "camera", "text": "hello"}),
        json!({"type": "pong"}),
        json!({"type": "peers", "peers": [], "total": 0}),
        json!({"type": "peer_joined", "client_id": "y", "role": "observer"}),
        json!({"type": "error", "code": "later", "message": 7}),
        json!({"type": 7}),
        json!({}),
        json!([1]),
        json!(null),
    ] {
        assert_eq!(client.hear(frame.clone()), [], "{frame}");
    }
    let reason = peer_left("camera", "banished");
    assert_eq!(client.hear(reason), [gone("camera", GoneReason::Absent)]);
}

#[test]
fn invalid_messages_are_ignored() {
    let mut client = Scenario::joined(Role::Receiver, &[peer("camera", "sender", "aa")]);
    let deep = "[".repeat(20_000);
    let long_number = format!("{{\"type\":\"offer\",\"x\":{}}}", "9".repeat(5_000));
    for frame in
        ["", "{", "nonsense", "\u{0}", "{\"type\":\"joined\"}", "{\"type\":\"offer\",\"from\":\"camera\"}"]
            .into_iter()
            .chain([deep.as_str(), long_number.as_str()])
    {
        assert_eq!(client.handle(Input::Frame(frame.into())), [], "{frame:.40}");
    }
    assert_eq!(client.handle(Input::Frame("{\"type\":\"offer\",\"sdp\":\"v=0\"}".into())), [], "from nobody");
    assert_eq!(client.present(), ["camera"]);
}

#[test]
fn frames_out_of_turn_are_ignored() {
    let mut client = Scenario::new(config(Role::Receiver));
    client.did();
    assert_eq!(client.hear(registered()), [], "not even connected");
    client.handle(Input::Connected);
    assert_eq!(client.hear(joined(&[])), [], "not registered");
    assert_eq!(client.hear(peer_joined(&peer("camera", "sender", "aa"))), []);
    let early = from("camera", session("s1"), Body::Bye);
    assert_eq!(client.hear(serde_json::to_value(early).unwrap()), []);
    client.hear(registered());
    assert_eq!(client.hear(registered()), [], "twice");
    client.hear(joined(&[]));
    assert_eq!(client.handle(Input::Connected), [], "twice");
    assert_eq!(client.client.state(), State::Joined);
}

#[test]
fn joined_again_refreshes() {
    let camera = peer("camera", "sender", "aa");
    let mut client = Scenario::joined(Role::Receiver, std::slice::from_ref(&camera));
    assert_eq!(client.hear(joined(&[camera])), [tell_joined()]);
}
