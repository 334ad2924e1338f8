//! Tokens and passwords over real sockets.

use crate::support::{Client, ask, join, register, server, unhurried};
use room_signaling_server::{
    Config,
    auth::{Algorithm, Keys, SigningKey, TokenSpec, hash_password},
    protocol::{
        UserId,
        hub::{Auth, PasswordHash, RoomPattern, RoomRule},
        wire::Role,
    },
};
use serde_json::json;
use std::time::{Duration, SystemTime};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";

fn users(config: &mut Config, secret: &[u8]) {
    let mut keys = Keys::default();
    keys.add("k", Algorithm::HS256, secret).unwrap();
    config.hub.auth = Auth::Token { keys: keys.prints().collect(), audience: None };
    config.keys = keys;
}

/// A token that expires in `seconds`.
fn token(secret: &[u8], user: &str, rooms: &[&str], roles: &[Role], seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let spec = TokenSpec {
        kid: "k".into(),
        user: UserId::new(user).unwrap(),
        id: None,
        client_id: None,
        rooms: rooms.iter().map(|rooms| RoomPattern::new(rooms).unwrap()).collect(),
        roles: roles.to_vec(),
        audience: Vec::new(),
        expires: Duration::from_secs(now.as_secs().checked_add_signed(seconds).unwrap()),
    };
    spec.sign(&SigningKey::new(secret).unwrap()).unwrap()
}

fn rule(rooms: &str, password: &str) -> RoomRule {
    let hash = PasswordHash::new(hash_password(password).unwrap());
    RoomRule { rooms: RoomPattern::new(rooms).unwrap(), password: Some(hash) }
}

#[tokio::test]
async fn a_token_admits_to_its_rooms_only() {
    let server = server(|config| users(config, SECRET));
    let address = server.local_addr();
    let good = token(SECRET, "ann", &["lab*"], &[Role::Receiver], 60);
    let (mut ann, registered) = register(address, "a", &good).await;
    assert_eq!(registered["type"], "registered");
    assert_eq!(join(&mut ann, "lab 1", "receiver", None).await["type"], "joined");
    for (room, role) in [("hall", "receiver"), ("lab 1", "sender")] {
        assert_eq!(join(&mut ann, room, role, None).await["code"], "forbidden");
    }
    ann.ping().await;

    let stale = token(SECRET, "ann", &["*"], &[Role::Sender], -31);
    let forged = token(OTHER_SECRET, "ann", &["*"], &[Role::Sender], 60);
    for bad in ["", "nonsense", &stale, &forged, &good[..good.len() - 4]] {
        let (mut client, refused) = register(address, "b", bad).await;
        assert_eq!(refused["code"], "unauthorized", "{bad}");
        assert_eq!(client.close_code().await, 4010);
    }
    let mut old = Client::connect(address).await;
    old.send(json!({"type": "register", "client_id": "old"})).await;
    assert_eq!(old.close_code().await, 4010);
}

#[tokio::test]
async fn messages_sent_together_are_answered_in_order() {
    let server = server(|config| {
        users(config, SECRET);
        config.hub.room_rules = vec![rule("lab", "right")];
    });
    let token = token(SECRET, "ann", &["lab"], &[Role::Receiver], 60);
    let mut client = Client::connect(server.local_addr()).await;
    for message in [
        json!({"type": "register", "client_id": "a", "protocol": 1, "token": token}),
        json!({"type": "join", "room_id": "lab", "token": token, "password": "right"}),
        json!({"type": "peers"}),
        json!({"type": "leave"}),
    ] {
        client.send(message).await;
    }
    for expected in ["registered", "joined", "peers", "left"] {
        assert_eq!(client.message().await["type"], expected);
    }
}

#[tokio::test]
async fn a_member_is_removed_when_its_token_expires() {
    let server = server(|config| users(config, SECRET));
    let address = server.local_addr();
    let lasting = token(SECRET, "bob", &["r"], &[Role::Receiver], 60);
    let (mut bob, _) = register(address, "b", &lasting).await;
    join(&mut bob, "r", "receiver", None).await;
    // The leeway of 30 s is nearly over.
    let brief = token(SECRET, "ann", &["r"], &[Role::Sender], -27);
    let (mut ann, _) = register(address, "a", &brief).await;
    assert_eq!(join(&mut ann, "r", "sender", None).await["type"], "joined");
    assert_eq!(bob.message_of("peer_joined").await["client_id"], "a");
    assert_eq!(ann.message_of("error").await["code"], "unauthorized");
    assert_eq!(ann.close_code().await, 4010);
    let left = bob.message_of("peer_left").await;
    assert_eq!((&left["client_id"], &left["reason"]), (&json!("a"), &json!("kicked")));
    bob.ping().await;
}

#[tokio::test]
async fn a_fresh_token_lets_a_client_stay() {
    let server = server(|config| users(config, SECRET));
    let address = server.local_addr();
    let brief = token(SECRET, "ann", &["r"], &[Role::Sender], -28);
    let (mut ann, _) = register(address, "a", &brief).await;
    join(&mut ann, "r", "sender", None).await;
    let fresh = token(SECRET, "ann", &["r"], &[Role::Sender], 60);
    ann.send(json!({"type": "join", "room_id": "r", "role": "sender", "token": fresh})).await;
    assert_eq!(ann.message().await["type"], "joined");
    let (mut other, _) = register(address, "b", &brief).await;
    assert_eq!(other.close_code().await, 4010, "which shows that the first token had expired, too");
    ann.ping().await;
}

#[tokio::test]
async fn the_right_password_admits_and_guessing_is_limited() {
    let server = server(|config| {
        config.hub.room_rules = vec![rule("lab*", "right")];
        unhurried(config);
    });
    let address = server.local_addr();
    let (mut client, _) = Client::join(address, "a", "hall", "receiver").await;
    for n in 0..4 {
        assert_eq!(
            join(&mut client, &format!("lab {n}"), "receiver", Some("wrong")).await["code"],
            "forbidden"
        );
    }
    assert_eq!(join(&mut client, "lab 1", "receiver", None).await["code"], "forbidden");
    assert_eq!(join(&mut client, "lab 1", "receiver", Some("right")).await["type"], "joined");
    // The password is verified already, so no hash is computed for it.
    let (mut second, _) = Client::join(address, "b", "hall", "receiver").await;
    assert_eq!(join(&mut second, "lab 2", "receiver", Some("right")).await["type"], "joined");
    assert_eq!(join(&mut second, "lab 3", "receiver", Some("wrong")).await["code"], "forbidden");
    assert_eq!(join(&mut second, "lab 3", "receiver", Some("right")).await["code"], "too_many_attempts");
}

#[tokio::test]
async fn other_clients_are_served_while_passwords_are_verified() {
    let server = server(|config| {
        // Five attempts per client.
        config.hub.room_rules = (0..4).map(|n| rule(&format!("lab {n}*"), "right")).collect();
        unhurried(config);
    });
    let address = server.local_addr();
    let (mut honest, _) = Client::join(address, "a", "hall", "receiver").await;
    let mut guessers = Vec::new();
    // More than are verified at a time, and few enough for a busy machine, on which one hash takes half a second.
    for n in 0..6 {
        let (mut guesser, _) = Client::join(address, &format!("g{n}"), "hall", "receiver").await;
        guesser.send(json!({"type": "join", "room_id": format!("lab {}", n % 4), "password": "wrong"})).await;
        guessers.push(guesser);
    }
    let mut pings = 0;
    let last = guessers.last_mut().unwrap();
    let refused = async {
        let mut answer = last.message().await;
        while answer["type"] != "error" {
            answer = last.message().await;
        }
        answer
    };
    tokio::pin!(refused);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut refused => break answer,
            () = honest.ping() => pings += 1,
        }
    };
    assert_eq!(answer["code"], "forbidden");
    assert!(pings > 20, "only {pings} pings were answered meanwhile");
}

#[tokio::test]
async fn a_reload_with_another_key_or_password_removes_the_clients_concerned() {
    let server = server(|config| {
        users(config, SECRET);
        config.hub.room_rules = vec![rule("lab", "old")];
    });
    let address = server.local_addr();
    let token = token(SECRET, "ann", &["*"], &[Role::Receiver], 60);
    let (mut inside, _) = register(address, "a", &token).await;
    assert_eq!(join(&mut inside, "lab", "receiver", Some("old")).await["type"], "joined");
    let (mut elsewhere, _) = register(address, "b", &token).await;
    assert_eq!(join(&mut elsewhere, "hall", "receiver", None).await["type"], "joined");
    let config = |secret: &[u8], password: &str| {
        let mut config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
        users(&mut config, secret);
        config.hub.room_rules = vec![rule("lab", password)];
        config
    };
    server.reload(config(SECRET, "new"));
    assert_eq!(inside.message().await["code"], "forbidden");
    assert_eq!(inside.message().await["type"], "left");
    assert_eq!(join(&mut inside, "lab", "receiver", Some("old")).await["code"], "forbidden");
    assert_eq!(join(&mut inside, "lab", "receiver", Some("new")).await["type"], "joined");
    elsewhere.ping().await;
    server.reload(config(OTHER_SECRET, "new"));
    for client in [&mut inside, &mut elsewhere] {
        assert_eq!(client.message_of("error").await["code"], "unauthorized");
        assert_eq!(client.close_code().await, 4010);
    }
}

#[tokio::test]
async fn an_operator_denies_a_user_and_accepts_the_user_again() {
    const ADMIN: &str = "0123456789abcdef0123456789abcdef";
    let configure = |config: &mut Config| {
        users(config, SECRET);
        config.admin_token = Some(ADMIN.to_owned().try_into().unwrap());
        config.hub.denied.users.insert(UserId::new("mallory").unwrap());
    };
    let server = server(configure);
    let address = server.local_addr();
    let shown = format!("Authorization: Bearer {ADMIN}\r\n");
    let token = token(SECRET, "ann", &["*"], &[Role::Receiver], 60);
    let (mut ann, registered) = register(address, "a", &token).await;
    assert_eq!(registered["type"], "registered");
    let (head, body) = ask(address, "PUT", "/api/denied/users/ann", &shown).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains(r#"["ann","mallory"]"#), "{head}\n{body}");
    assert_eq!(ann.message().await["code"], "unauthorized");
    assert_eq!(ann.close_code().await, 4010);
    // A reload keeps what an operator has denied.
    let mut config = Config::default();
    configure(&mut config);
    config.hub.max_rooms = 7;
    server.reload(config);
    let (_, refused) = register(address, "a", &token).await;
    assert_eq!(refused["code"], "unauthorized", "{refused}");
    let (head, _) = ask(address, "DELETE", "/api/denied/users/ann", &shown).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(register(address, "a", &token).await.1["type"], "registered");
    for (user, status) in [("ann", 404), ("mallory", 409)] {
        let (head, body) = ask(address, "DELETE", &format!("/api/denied/users/{user}"), &shown).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}\n{body}");
    }
}

/// The renewal of a certificate is such a reload, and must not cause passwords to be verified again.
#[tokio::test]
async fn a_reload_without_changes_to_rooms_keeps_verified_passwords() {
    let rules = vec![rule("lab", "right")];
    let server = server(|config| config.hub.room_rules.clone_from(&rules));
    let address = server.local_addr();
    let mut first = Client::connect(address).await;
    first.send(json!({"type": "register", "client_id": "a", "protocol": 1})).await;
    first.message().await;
    assert_eq!(join(&mut first, "lab", "receiver", Some("right")).await["type"], "joined");
    let mut config = Config { allow_hosts: vec!["robot.example".into()], ..Config::default() };
    config.hub.room_rules = rules;
    server.reload(config);
    // A wrong password takes the time of a hash. The right one is verified already, and takes none.
    let mut second = Client::connect(address).await;
    second.send(json!({"type": "register", "client_id": "b", "protocol": 1})).await;
    second.message().await;
    let began = std::time::Instant::now();
    assert_eq!(join(&mut second, "lab", "receiver", Some("wrong")).await["code"], "forbidden");
    let of_hash = began.elapsed();
    let began = std::time::Instant::now();
    assert_eq!(join(&mut second, "lab", "receiver", Some("right")).await["type"], "joined");
    assert!(began.elapsed() < of_hash, "{:?} and {of_hash:?}", began.elapsed());
}
