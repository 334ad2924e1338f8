//! New settings while the server runs: clients that lost a right leave, and others notice nothing.

use crate::{
    passwords::{member, rule},
    world::{Asked, Closed, Out, Said, World, error},
};
use room_protocol::{
    RoomId,
    hub::{Auth, Claim, ConnId, Input, KeyPrint, PasswordHash, Secret, Verdict},
    wire::{IceServer, Role},
};
use serde_json::json;
use std::time::Duration;

const BOTH: [Role; 2] = [Role::Sender, Role::Receiver];
const OTHER_KEY: KeyPrint = KeyPrint([2; 16]);

fn said_error(to: ConnId, code: &str) -> Out {
    Said(to, json!({"type": "error", "code": code}))
}

fn kicked(to: ConnId, id: &str) -> Out {
    Said(to, json!({"type": "peer_left", "client_id": id, "reason": "kicked"}))
}

fn keys(keys: &[KeyPrint]) -> Auth {
    Auth::Token { keys: keys.iter().copied().collect(), audience: None }
}

#[test]
fn whose_key_is_gone_is_closed_and_the_others_stay() {
    let mut world = World::with_users();
    world.reconfigure(|config| config.auth = keys(&[World::KEY, OTHER_KEY]));
    let mut grant = world.grant("ann", &["*"], &BOTH);
    let a = world.user("a", &grant);
    let idle = world.user("idle", &grant);
    grant.key = OTHER_KEY;
    let b = world.user("b", &grant);
    for conn in [a, b] {
        world.join(conn, "r", "sender");
    }
    world.take();
    world.reconfigure(|config| config.auth = keys(&[OTHER_KEY]));
    assert_eq!(
        world.take(),
        [
            kicked(b, "a"),
            said_error(a, "unauthorized"),
            Closed(a, 4010),
            said_error(idle, "unauthorized"),
            Closed(idle, 4010),
        ]
    );
    assert_eq!(world.peers(b), Vec::<String>::new());
}

#[test]
fn clients_without_a_token_are_closed_when_tokens_become_required() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let fresh = world.connect();
    world.reconfigure(|config| config.auth = keys(&[World::KEY]));
    assert_eq!(world.take(), [said_error(a, "unauthorized"), Closed(a, 4010)]);
    world.say(fresh, json!({"type": "register", "client_id": "b", "protocol": 1, "token": "t"}));
    assert_eq!(world.take(), [Asked(fresh, Claim::Token(Secret::new("t")))]);
}

#[test]
fn tokens_are_forgotten_when_they_are_no_longer_required() {
    let mut world = World::with_users();
    let grant = world.grant("ann", &["r"], &BOTH);
    let a = world.user("a", &grant);
    let waiting = world.connect();
    world.say(waiting, json!({"type": "register", "client_id": "b", "protocol": 1, "token": "t"}));
    world.take();
    world.reconfigure(|config| config.auth = Auth::None);
    world.join(a, "elsewhere", "sender");
    assert!(matches!(&world.take()[..], [Said(_, said)] if said["type"] == "joined"));
    world.verdict(waiting, Verdict::Refused("the key is unknown".into()));
    assert!(matches!(&world.take()[..], [Said(_, said)] if said["type"] == "registered"));
    for _ in 0..500 {
        world.input(Input::Alive(a));
        world.input(Input::Alive(waiting));
        world.pass(Duration::from_secs(10));
    }
    assert_eq!(world.take(), [], "nothing expires");
}

#[test]
fn a_verdict_by_old_keys_is_not_good_with_new_ones() {
    let mut world = World::with_users();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.take();
    world.reconfigure(|config| config.auth = keys(&[OTHER_KEY]));
    let grant = world.grant("ann", &["*"], &BOTH);
    world.granted(conn, &grant);
    assert_eq!(world.take(), [error(conn, "unauthorized", "register"), Closed(conn, 4010)]);
}

#[test]
fn members_are_removed_when_the_password_changes() {
    let mut world = World::new();
    world
        .reconfigure(|config| config.room_rules = vec![rule("lab", Some("old")), rule("hall", Some("same"))]);
    let a = member(&mut world, "lab", "a");
    let b = member(&mut world, "hall", "b");
    let old = world.old("old");
    world.say(old, json!({"type": "join", "room_id": "lab", "password": "right"}));
    world.verdict(old, Verdict::Passed);
    world.take();
    world
        .reconfigure(|config| config.room_rules = vec![rule("lab", Some("new")), rule("hall", Some("same"))]);
    let left = |to| Said(to, json!({"type": "left"}));
    assert_eq!(world.take(), [said_error(a, "forbidden"), left(a), said_error(old, "forbidden"), left(old),]);
    // They are still connected, and can join again with the new password.
    world.say(a, json!({"type": "join", "room_id": "lab", "role": "sender", "password": "right"}));
    let claim = Claim::Password { hash: PasswordHash::new("new"), password: Secret::new("right") };
    assert_eq!(world.take(), [Asked(a, claim)]);
    world.verdict(a, Verdict::Passed);
    world.take();
    assert_eq!(world.peers(b), Vec::<String>::new());
    assert_eq!(world.hub.rooms(), 2);
}

#[test]
fn an_automatically_joined_client_is_only_sent_an_error() {
    let mut world = World::new();
    let old = world.old("old");
    world.pass(Duration::from_millis(500));
    assert_eq!(world.hub.members(), 1);
    world.reconfigure(|config| config.room_rules = vec![rule("*", Some("hash"))]);
    assert_eq!(world.take(), [said_error(old, "forbidden")]);
    assert_eq!(world.hub.members(), 0);
}

#[test]
fn a_password_that_matches_the_old_hash_is_required_again() {
    let mut world = World::new();
    world.reconfigure(|config| config.room_rules = vec![rule("lab", Some("old"))]);
    let a = world.client("a");
    world.say(a, json!({"type": "join", "room_id": "lab", "password": "p"}));
    world.take();
    world.reconfigure(|config| config.room_rules = vec![rule("lab", Some("new"))]);
    world.verdict(a, Verdict::Passed);
    let claim = Claim::Password { hash: PasswordHash::new("new"), password: Secret::new("p") };
    assert_eq!(world.take(), [Asked(a, claim)]);
    world.verdict(a, Verdict::Refused(String::new()));
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
}

#[test]
fn members_do_not_notice_the_removal_of_a_password() {
    let mut world = World::new();
    world.reconfigure(|config| config.room_rules = vec![rule("lab", Some("hash"))]);
    let a = member(&mut world, "lab", "a");
    world.reconfigure(|config| config.room_rules.clear());
    assert_eq!(world.take(), []);
    let b = world.client("b");
    world.join(b, "lab", "receiver");
    assert_eq!(world.take().len(), 2, "it joined, and a hears of it");
    assert_eq!(world.peers(a), ["b"]);
}

#[test]
fn new_limits_and_servers_apply_to_new_joins() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.member("r", "b", "receiver");
    let ice = IceServer { urls: vec!["stun:s".into()], username: None, credential: None };
    world.reconfigure(|config| {
        config.max_members = 1;
        config.ice_servers = vec![ice];
        config.default_room = Some(RoomId::new("lobby").expect("a room"));
    });
    assert_eq!(world.take(), [], "nobody notices");
    let c = world.client("c");
    world.join(c, "r", "receiver");
    assert_eq!(world.take(), [error(c, "room_full", "join")]);
    world.join(a, "r", "sender");
    let [Said(_, joined)] = &world.take()[..] else { panic!() };
    assert_eq!(joined["ice_servers"], json!([{"urls": ["stun:s"]}]));
    let old = world.old("old");
    world.pass(Duration::from_millis(500));
    assert_eq!(world.hub.members_of(&RoomId::new("lobby").expect("a room")).len(), 1);
    world.input(Input::Disconnected(old));
}

#[test]
fn a_shorter_heartbeat_begins_at_once() {
    let mut world = World::new();
    let conn = world.client("a");
    world.reconfigure(|config| config.heartbeat = Duration::from_secs(2));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.take(), [Out::Pinged(conn)]);
}
