//! Rule 9, and the messages `join`, `leave` and `peers`.

use crate::world::{START_OF_WORLD, Said, World, error, secret_of};
use room_protocol::{
    HubConfig, Instance,
    hub::Event,
    turn::{TurnConfig, TurnSecret, WallClock},
    wire::IceServer,
};
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn joined(room: &str, role: &str, peers: Value, total: usize) -> Value {
    json!({"type": "joined", "room_id": room, "role": role, "peers": peers, "total": total, "ice_servers": []})
}

fn epoch(id: &str) -> String {
    Instance::new(&secret_of(id)).expect("a secret").epoch().to_string()
}

#[test]
fn a_client_joins_and_gets_the_list_of_peers() {
    let mut world = World::new();
    let a = world.client("a");
    world.say(
        a,
        json!({"type": "join", "room_id": "r", "role": "sender", "meta": {"name": "door", "n": [1, null]}}),
    );
    assert_eq!(world.take(), [Said(a, joined("r", "sender", json!([]), 0))]);
    let b = world.client("b");
    world.say(b, json!({"type": "join", "room_id": "r"}));
    let meta = json!({"name": "door", "n": [1, null]});
    let entry_a =
        json!({"client_id": "a", "role": "sender", "protocol": 1, "epoch": epoch("a"), "meta": meta});
    let joined_b = json!({"type": "peer_joined", "client_id": "b", "role": "receiver", "protocol": 1, "epoch": epoch("b")});
    assert_eq!(world.take(), [Said(b, joined("r", "receiver", json!([entry_a]), 1)), Said(a, joined_b)]);
    let Some((_, Event::Joined { client_id, room_id, .. })) = world.events.last() else { panic!() };
    assert_eq!((client_id.as_str(), room_id.as_str()), ("b", "r"));
}

#[test]
fn joined_carries_the_ice_servers_and_nothing_else_does() {
    let turn = IceServer {
        urls: vec!["turn:t.example".into()],
        username: Some("u".into()),
        credential: Some("c".into()),
    };
    let mut world = World::with(HubConfig { ice_servers: vec![turn], ..HubConfig::default() });
    let a = world.client("a");
    world.join(a, "r", "sender");
    let [Said(_, answer)] = &world.take()[..] else { panic!() };
    assert_eq!(
        answer["ice_servers"],
        json!([{"urls": ["turn:t.example"], "username": "u", "credential": "c"}])
    );
    world.say(a, json!({"type": "peers"}));
    world.say(a, json!({"type": "leave"}));
    assert!(!format!("{:?}", world.take()).contains("turn:"));
}

#[test]
fn each_join_gets_its_own_turn_credentials_that_expire_by_the_wall_clock() {
    let secret = TurnSecret::new("north by northwest").expect("a secret");
    let turn = TurnConfig { urls: vec!["turn:t.example".into()], secret: secret.clone(), ttl: HOUR };
    let stun = IceServer { urls: vec!["stun:s.example".into()], username: None, credential: None };
    let mut world =
        World::with(HubConfig { ice_servers: vec![stun], turn: Some(turn), ..HubConfig::default() });
    let start = world.now;
    let a = world.client("a");
    let joined = |world: &mut World| {
        world.join(a, "r", "sender");
        let [Said(_, answer)] = &world.take()[..] else { panic!("not one answer") };
        assert_eq!(answer["ice_ttl_s"], 3_600);
        assert_eq!(answer["ice_servers"][0], json!({"urls": ["stun:s.example"]}));
        answer["ice_servers"][1].clone()
    };
    let name_of = |server: &Value| {
        let (expiry, name) =
            server["username"].as_str().and_then(|user| user.split_once(':')).expect("a user");
        (expiry.parse::<u64>().expect("a time"), name.to_owned())
    };

    let first = joined(&mut world);
    let (expiry, name) = name_of(&first);
    assert_eq!(expiry, START_OF_WORLD + 3_600);
    assert_eq!(first["urls"], json!(["turn:t.example"]));
    assert_eq!(first["credential"], secret.credentials(expiry, &name).credential);

    world.now += Duration::from_secs(7);
    let (later, other) = name_of(&joined(&mut world));
    assert_eq!(later, expiry + 7);
    assert_ne!(other, name);

    // The robot has connected to a network and has set its clock.
    world.hub.set_wall_clock(WallClock { at: start, unix: Duration::from_secs(2_000_000_000) });
    assert_eq!(name_of(&joined(&mut world)).0, 2_000_003_607);
}

#[test]
fn an_automatically_joined_client_gets_no_turn_credentials() {
    let secret = TurnSecret::new("north by northwest").expect("a secret");
    let turn = TurnConfig { urls: vec!["turn:t.example".into()], secret, ttl: HOUR };
    let mut world = World::with(HubConfig { turn: Some(turn), ..HubConfig::default() });
    let a = world.client("a");
    let old = world.old("old");
    world.pass(Duration::from_millis(500));
    world.say(a, json!({"type": "peers"}));
    world.join(a, "", "sender");
    let said = format!("{:?}", world.take());
    assert!(world.hub.members() == 1 && !said.contains("turn"), "{said}");
    world.say(old, json!({"type": "leave"}));
    assert_eq!(world.take(), [Said(old, json!({"type": "left"}))]);
}

#[test]
fn a_client_leaves() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.say(a, json!({"type": "leave"}));
    let gone = json!({"type": "peer_left", "client_id": "a", "reason": "left"});
    assert_eq!(world.take(), [Said(b, gone), Said(a, json!({"type": "left"}))]);
    assert_eq!(world.hub.members(), 1);
    for request in ["leave", "peers", "offer"] {
        world.say(a, json!({"type": request}));
        assert_eq!(world.take(), [error(a, "not_joined", request)]);
    }
}

#[test]
fn the_last_one_closes_the_room() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    assert_eq!(world.hub.rooms_after(None).map(|room| room.room_id.as_str()).collect::<Vec<_>>(), ["r"]);
    world.input(room_protocol::hub::Input::Disconnected(a));
    assert_eq!((world.hub.rooms(), world.hub.members(), world.hub.connections()), (0, 0, 0));
    assert_eq!(world.hub.poll_timeout(), None);
}

#[test]
fn joining_another_room_leaves_the_first() {
    let mut world = World::new();
    let a = world.member("one", "a", "sender");
    let b = world.member("one", "b", "receiver");
    let c = world.member("two", "c", "receiver");
    world.join(a, "two", "sender");
    let gone = json!({"type": "peer_left", "client_id": "a", "reason": "left"});
    let entry_c = json!({"client_id": "c", "role": "receiver", "protocol": 1, "epoch": epoch("c")});
    let come = json!({"type": "peer_joined", "client_id": "a", "role": "sender", "protocol": 1, "epoch": epoch("a")});
    assert_eq!(
        world.take(),
        [Said(b, gone), Said(a, joined("two", "sender", json!([entry_c]), 1)), Said(c, come)]
    );
    world.say(a, json!({"type": "offer"}));
    assert_eq!(world.take(), [Said(c, json!({"type": "offer", "from": "a"}))]);
}

#[test]
fn a_failed_join_changes_nothing() {
    let mut world = World::with(HubConfig { max_members: 2, max_rooms: 2, ..HubConfig::default() });
    let a = world.member("one", "a", "sender");
    let b = world.member("one", "b", "receiver");
    world.member("two", "c", "receiver");
    world.member("two", "d", "receiver");
    let refusals = [
        (json!({"type": "join", "room_id": "two", "role": "sender"}), "room_full"),
        (json!({"type": "join", "room_id": "three", "role": "sender"}), "too_many_rooms"),
        (json!({"type": "join", "room_id": "two", "role": "boss"}), "unknown_role"),
        (json!({"type": "join", "room_id": "two", "role": "Sender"}), "unknown_role"),
        (json!({"type": "join", "room_id": " ", "role": "sender"}), "invalid_id"),
        (json!({"type": "join", "room_id": ["two"]}), "bad_message"),
    ];
    for (join, code) in refusals {
        world.say(a, join);
        assert_eq!(world.take(), [error(a, code, "join")]);
        assert_eq!(world.peers(a), ["b"]);
        world.say(a, json!({"type": "offer"}));
        assert_eq!(world.take(), [Said(b, json!({"type": "offer", "from": "a"}))]);
    }
}

#[test]
fn joining_the_same_room_again_refreshes_and_disturbs_nobody() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let _b = world.member("r", "b", "receiver");
    world.join(a, "r", "sender");
    let entry_b = json!({"client_id": "b", "role": "receiver", "protocol": 1, "epoch": epoch("b")});
    assert_eq!(world.take(), [Said(a, joined("r", "sender", json!([entry_b]), 1))]);
}

#[test]
fn an_empty_role_is_a_receiver() {
    let mut world = World::new();
    let a = world.client("a");
    for role in [json!(null), json!(""), json!("receiver")] {
        world.say(a, json!({"type": "join", "room_id": "r", "role": role}));
        assert_eq!(world.take(), [Said(a, joined("r", "receiver", json!([]), 0))]);
    }
}

#[test]
fn a_connection_whose_url_names_a_room_joins_that_room_only() {
    let mut world = World::new();
    let conn = world.connect_to("caf\u{e9}");
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1}));
    world.take();
    world.join(conn, "another", "sender");
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    world.join(conn, "cafe\u{301}", "sender");
    assert_eq!(world.take(), [Said(conn, joined("caf\u{e9}", "sender", json!([]), 0))]);
    world.join(conn, "another", "sender");
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    assert_eq!(world.hub.rooms(), 1);
}

#[test]
fn an_old_client_whose_url_names_a_room_is_joined_there() {
    let mut world = World::new();
    let silent = world.connect_to("r");
    world.say(silent, json!({"type": "register", "client_id": "a"}));
    let polite = world.connect_to("r");
    world.say(polite, json!({"type": "register", "client_id": "b"}));
    world.say(polite, json!({"type": "join"}));
    world.pass(Duration::from_millis(500));
    world.take();
    assert_eq!(world.hub.rooms_after(None).map(|room| room.room_id.to_string()).collect::<Vec<_>>(), ["r"]);
    assert_eq!(world.hub.members(), 2);
}

#[test]
fn a_list_of_peers_is_cut_off_before_it_fills_a_queue() {
    let mut world = World::with(HubConfig { max_peers_bytes: 8_000, ..HubConfig::default() });
    for n in 0..100 {
        let conn = world.client(&format!("\"{n}\""));
        world.say(conn, json!({"type": "join", "room_id": "r", "role": "receiver", "meta": "m".repeat(200)}));
    }
    let s = world.client("s");
    world.take();
    for ask in [json!({"type": "join", "room_id": "r", "role": "sender"}), json!({"type": "peers"})] {
        world.say(s, ask);
        let outs = world.take();
        let Said(_, list) = &outs[0] else { panic!("{outs:?}") };
        assert_eq!(list["total"], 100);
        let size = list.to_string().len();
        assert!((6_000..=8_000).contains(&size), "{size} bytes");
    }
}
