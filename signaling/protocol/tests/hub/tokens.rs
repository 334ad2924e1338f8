//! Servers that require tokens: no client is in a room without a token that grants it.

use crate::{
    passwords::rule,
    world::{Asked, Closed, Out, Pinged, Said, World, error},
};
use room_protocol::{
    ClientId, HubConfig,
    hub::{Auth, Claim, ConnId, Event, Grant, Input, KeyPrint, Secret, Verdict},
    turn::WallClock,
    wire::{LeftReason, Role},
};
use serde_json::json;
use std::time::Duration;

pub(crate) const BOTH: [Role; 2] = [Role::Sender, Role::Receiver];
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn token(text: &str) -> Claim {
    Claim::Token(Secret::new(text))
}

/// The types of the outputs, with their recipients.
pub(crate) fn types(outs: &[Out]) -> Vec<(ConnId, &str)> {
    fn line(out: &Out) -> (ConnId, &str) {
        match out {
            Said(to, said) => (*to, said["type"].as_str().expect("a type")),
            Pinged(to) => (*to, "ping"),
            Closed(to, _) => (*to, "close"),
            Asked(to, _) => (*to, "verify"),
        }
    }
    outs.iter().map(line).collect()
}

pub(crate) fn kicked(to: ConnId, id: &str) -> Out {
    Said(to, json!({"type": "peer_left", "client_id": id, "reason": "kicked"}))
}

/// A member whose token grants every room.
pub(crate) fn member(world: &mut World, room: &str, id: &str, role: &str) -> ConnId {
    let grant = world.grant(id, &["*"], &BOTH);
    let conn = world.user(id, &grant);
    world.join(conn, room, role);
    world.take();
    conn
}

#[test]
fn register_requires_a_token() {
    for register in [
        json!({"type": "register", "client_id": "a"}),
        json!({"type": "register", "client_id": "a", "protocol": 1}),
        json!({"type": "register", "client_id": "a", "protocol": 1, "token": null}),
        json!({"type": "register", "client_id": "a", "protocol": 1, "token": ""}),
    ] {
        let mut world = World::with_users();
        let conn = world.connect();
        world.say(conn, register);
        assert_eq!(world.take(), [error(conn, "unauthorized", "register"), Closed(conn, 4010)]);
    }
}

#[test]
fn a_bad_token_does_not_register_anybody() {
    for verdict in [Verdict::Refused("the signature is wrong".into()), Verdict::Passed] {
        let mut world = World::with_users();
        let conn = world.connect();
        world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
        world.join(conn, "r", "sender");
        assert_eq!(world.take(), [Asked(conn, token("t"))]);
        world.verdict(conn, verdict);
        assert_eq!(world.take(), [error(conn, "unauthorized", "register"), Closed(conn, 4010)]);
        assert_eq!((world.hub.connections(), world.hub.rooms()), (0, 0));
    }
}

#[test]
fn a_server_without_users_looks_at_no_token() {
    let mut world = World::new();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.say(conn, json!({"type": "join", "room_id": "r", "token": "t", "password": "p"}));
    assert_eq!(types(&world.take()), [(conn, "registered"), (conn, "joined")]);
}

#[test]
fn messages_while_a_verdict_is_pending_wait_in_order() {
    let mut world = World::with_users();
    let b = member(&mut world, "r", "b", "receiver");
    let a = world.connect();
    world.say(a, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.join(a, "r", "sender");
    for n in 0..3 {
        world.say(a, json!({"type": "offer", "n": n}));
    }
    assert_eq!(world.take(), [Asked(a, token("t"))]);
    let grant = world.grant("ann", &["r"], &[Role::Sender]);
    world.granted(a, &grant);
    let outs = world.take();
    assert_eq!(types(&outs[..3]), [(a, "registered"), (a, "joined"), (b, "peer_joined")]);
    let offers = [0, 1, 2].map(|n| Said(b, json!({"type": "offer", "n": n, "from": "a"})));
    assert_eq!(outs[3..], offers);
    assert!(world.events.iter().any(|(conn, event)| *conn == a
        && matches!(event, Event::Registered { user: Some(user), .. } if user.as_str() == "ann")));
}

#[test]
fn a_connection_is_held_while_its_token_is_verified() {
    let mut world = World::with_users();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    assert_eq!(world.take(), [Asked(conn, token("t"))]);
    assert!(world.is_held(conn));
    // Neither the time for `register` nor the heartbeat runs meanwhile.
    world.pass(60 * SECOND);
    assert_eq!(world.take(), []);
    world.verdict(conn, Verdict::Busy);
    assert!(!world.is_held(conn));
    assert_eq!(world.take(), [error(conn, "too_many_attempts", "register")]);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        types(&world.take()),
        [(conn, "error"), (conn, "close")],
        "now the time for `register` is over"
    );
}

#[test]
fn a_connection_that_waits_for_two_verdicts_is_held_once() {
    let mut world = World::with_users();
    world.reconfigure(|config| config.room_rules = vec![rule("r", Some("hash"))]);
    let grant = world.grant("ann", &["*"], &BOTH);
    let a = world.user("a", &grant);
    world.say(a, json!({"type": "join", "room_id": "r", "token": "fresh", "password": "p"}));
    world.granted(a, &grant);
    assert!(world.is_held(a));
    world.verdict(a, Verdict::Passed);
    assert!(!world.is_held(a));
    assert_eq!(types(&world.take()), [(a, "verify"), (a, "verify"), (a, "joined")]);
}

#[test]
fn the_third_register_with_an_id_of_somebody_else_closes() {
    let mut world = World::with_users();
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.client_id = Some(ClientId::new("a").expect("an id"));
    let conn = world.connect();
    for n in 0..3 {
        world.say(conn, json!({"type": "register", "client_id": "b", "protocol": 1, "token": "t"}));
        world.granted(conn, &grant);
        let mut expected = vec![Asked(conn, token("t")), error(conn, "forbidden", "register")];
        expected.extend((n == 2).then_some(Closed(conn, 4010)));
        assert_eq!(world.take(), expected);
    }
}

#[test]
fn a_token_that_expires_or_loses_its_key_while_its_join_waits_grants_nothing() {
    for revoked in [true, false] {
        let mut world = World::with_users();
        let other_key = KeyPrint([2; 16]);
        world.reconfigure(|config| {
            config.auth = Auth::Token { keys: [World::KEY, other_key].into(), audience: None };
            config.room_rules = vec![rule("r", Some("hash"))];
        });
        let mut grant = world.grant("ann", &["*"], &BOTH);
        let a = world.user("a", &grant);
        world.say(a, json!({"type": "join", "room_id": "r", "token": "fresh", "password": "p"}));
        (grant.key, grant.until) = (other_key, world.unix() + SECOND);
        world.granted(a, &grant);
        if revoked {
            world.reconfigure(|config| {
                config.auth = Auth::Token { keys: [World::KEY].into(), audience: None };
            });
        } else {
            world.pass(SECOND);
        }
        world.take();
        world.verdict(a, Verdict::Passed);
        assert_eq!(world.take(), [error(a, "unauthorized", "join"), Closed(a, 4010)]);
    }
}

#[test]
fn tokens_expire_by_the_wall_clock_also_when_it_is_set() {
    let mut world = World::with_users();
    let idle = member(&mut world, "r", "b", "receiver");
    let grant = Grant { until: world.unix() + 5 * SECOND, ..world.grant("ann", &["*"], &BOTH) };
    let a = world.user("a", &grant);
    let clock = |world: &World, unix| WallClock { at: world.now, unix };
    // A reading that confirms the time changes nothing, and a clock that steps back extends the stay.
    world.hub.set_wall_clock(clock(&world, world.unix()));
    world.hub.set_wall_clock(clock(&world, world.unix() - 60 * SECOND));
    world.pass(10 * SECOND);
    assert_eq!(world.take(), []);
    // The clock of the machine is set.
    world.hub.set_wall_clock(clock(&world, grant.until));
    world.pass(Duration::from_millis(1));
    assert_eq!(types(&world.take()), [(a, "error"), (a, "close")]);
    world.hub.set_wall_clock(clock(&world, grant.until + Duration::from_hours(1)));
    world.pass(Duration::from_millis(1));
    assert_eq!(types(&world.take()), [(idle, "error"), (idle, "close")]);
}

#[test]
fn a_verdict_without_a_pending_request_is_ignored() {
    let mut world = World::with_users();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.take();
    world.input(Input::Disconnected(conn));
    let grant = world.grant("ann", &["*"], &BOTH);
    world.granted(conn, &grant);
    let idle = world.connect();
    world.granted(idle, &grant);
    world.join(idle, "r", "sender");
    assert_eq!(world.take(), [error(idle, "not_registered", "join"), Closed(idle, 4000)]);
}

#[test]
fn a_token_grants_its_rooms_and_roles_only() {
    let mut world = World::with_users();
    let grant = world.grant("ann", &["hall", "lab *"], &[Role::Receiver]);
    let a = world.user("a", &grant);
    world.join(a, "lab 1", "receiver");
    assert_eq!(types(&world.take()), [(a, "joined")]);
    for (room, role) in
        [("kitchen", "receiver"), ("hall 2", "receiver"), ("lab", "receiver"), ("hall", "sender")]
    {
        world.join(a, room, role);
        assert_eq!(world.take(), [error(a, "forbidden", "join")], "{room} {role}");
    }
    // It stays where it was.
    assert_eq!(
        world.hub.rooms_after(None).map(|room| room.room_id.to_string()).collect::<Vec<_>>(),
        ["lab 1"]
    );
    world.join(a, "hall", "receiver");
    assert_eq!(types(&world.take()), [(a, "joined")]);
}

#[test]
fn no_client_sees_or_reaches_a_room_without_the_right() {
    let mut world = World::with_users();
    member(&mut world, "kitchen", "b", "sender");
    let grant = world.grant("ann", &["hall"], &BOTH);
    let a = world.user("a", &grant);
    world.join(a, "kitchen", "receiver");
    assert_eq!(world.take(), [error(a, "forbidden", "join")]);
    for word in ["peers", "offer", "chat"] {
        world.say(a, json!({"type": word, "target_id": "b", "room_id": "kitchen"}));
        assert_eq!(world.take(), [error(a, "not_joined", word)]);
    }
}

#[test]
fn a_token_for_one_client_id_is_for_no_other() {
    let mut world = World::with_users();
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.client_id = Some(ClientId::new("a").expect("an id"));
    let register = |id: &str| json!({"type": "register", "client_id": id, "protocol": 1, "token": "t"});
    let conn = world.connect();
    world.say(conn, register("b"));
    world.take();
    world.granted(conn, &grant);
    assert_eq!(world.take(), [error(conn, "forbidden", "register")], "and it may try again");
    for id in ["", "a"] {
        let conn = if id.is_empty() { conn } else { world.connect() };
        world.say(conn, register(id));
        world.take();
        world.granted(conn, &grant);
        let outs = world.take();
        assert!(matches!(&outs[..], [Said(_, said)] if said["client_id"] == "a"), "{outs:?}");
    }
}

#[test]
fn a_token_must_be_made_for_this_server() {
    for (ours, theirs, good) in [
        (None, &[][..], true),
        (None, &["elsewhere"][..], false),
        (Some("here"), &["elsewhere", "here"][..], true),
        (Some("here"), &["elsewhere"][..], false),
        (Some("here"), &[][..], false),
    ] {
        let auth = Auth::Token { keys: [World::KEY].into(), audience: ours.map(str::to_owned) };
        let mut world = World::with(HubConfig { auth, ..HubConfig::default() });
        let mut grant = world.grant("ann", &["*"], &BOTH);
        grant.audience = theirs.iter().map(ToString::to_string).collect();
        let conn = world.connect();
        world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
        world.take();
        world.granted(conn, &grant);
        let expected = if good { vec![(conn, "registered")] } else { vec![(conn, "error"), (conn, "close")] };
        assert_eq!(types(&world.take()), expected, "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_token_of_an_unknown_key_is_none() {
    let mut world = World::with_users();
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.key = KeyPrint([2; 16]);
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.take();
    world.granted(conn, &grant);
    assert_eq!(world.take(), [error(conn, "unauthorized", "register"), Closed(conn, 4010)]);
}

#[test]
fn a_member_is_kicked_when_its_token_expires() {
    let mut world = World::with_users();
    let b = member(&mut world, "r", "b", "receiver");
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.until = world.unix() + 5 * SECOND;
    let a = world.user("a", &grant);
    world.join(a, "r", "sender");
    world.take();
    world.pass(5 * SECOND - Duration::from_millis(1));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_millis(1));
    let unauthorized = Said(a, json!({"type": "error", "code": "unauthorized"}));
    assert_eq!(world.take(), [unauthorized, Closed(a, 4010), kicked(b, "a")]);
    assert!(
        world.events.iter().any(
            |(conn, event)| *conn == a && matches!(event, Event::Left { reason: LeftReason::Kicked, .. })
        )
    );
}

#[test]
fn one_in_no_room_expires_too() {
    let mut world = World::with_users();
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.until = world.unix() + SECOND;
    let idle = world.user("a", &grant);
    world.pass(SECOND);
    let unauthorized = Said(idle, json!({"type": "error", "code": "unauthorized"}));
    assert_eq!(world.take(), [unauthorized, Closed(idle, 4010)]);
    assert_eq!(world.hub.poll_timeout(), None);
}

#[test]
fn an_expired_token_is_unauthorized() {
    let mut world = World::with_users();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"}));
    world.take();
    let mut grant = world.grant("ann", &["*"], &BOTH);
    grant.until = world.unix();
    world.granted(conn, &grant);
    assert_eq!(world.take(), [error(conn, "unauthorized", "register"), Closed(conn, 4010)]);
}

#[test]
fn too_many_verifications_are_a_temporary_error() {
    let mut world = World::with_users();
    let conn = world.connect();
    let register = json!({"type": "register", "client_id": "a", "protocol": 1, "token": "t"});
    world.say(conn, register.clone());
    world.take();
    world.verdict(conn, Verdict::Busy);
    assert_eq!(world.take(), [error(conn, "too_many_attempts", "register")]);
    world.say(conn, register);
    assert_eq!(world.take(), [Asked(conn, token("t"))]);
}

#[test]
fn an_automatic_join_needs_the_grant_of_the_token() {
    let register = |world: &mut World, rooms: &[&str]| {
        let conn = world.connect();
        world.say(conn, json!({"type": "register", "client_id": "old", "token": "t"}));
        world.take();
        let grant = world.grant("ann", rooms, &[Role::Receiver]);
        world.granted(conn, &grant);
        assert_eq!(types(&world.take()), [(conn, "registered")]);
        conn
    };
    let mut world = World::with_users();
    let conn = register(&mut world, &["room_default"]);
    world.pass(SECOND / 2);
    assert_eq!((world.take(), world.hub.members()), (vec![], 1));
    world.say(conn, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(conn, "forbidden", "offer")], "a receiver, says the token");

    let mut world = World::with_users();
    let conn = register(&mut world, &["hall"]);
    world.say(conn, json!({"type": "hello"}));
    assert_eq!(world.take(), [error(conn, "forbidden", "hello")]);
    world.pass(SECOND / 2);
    assert_eq!(world.take(), [error(conn, "forbidden", "join")]);
    assert_eq!(world.hub.members(), 0);
}

#[test]
fn tokens_are_shown_to_nobody() {
    let mut world = World::with_users();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1, "token": "hush-hush"}));
    let asked = format!("{:?}", world.take()) + &format!("{:?}", world.hub);
    assert!(!asked.contains("hush-hush"), "{asked}");
}
