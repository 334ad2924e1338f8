//! Clients without a right that try to get in.

use crate::{
    honest::Way,
    rig::{Attack, Target, attack},
    support::{Raw, frame},
};
use room_signaling_server::{
    auth::{SigningKey, TokenSpec, hash_password},
    protocol::{UserId, hub::RoomPattern, wire::Role},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use tokio::task::JoinSet;

/// The number of attackers at a time.
const ATTACKERS: usize = 16;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The number of answers by error code.
type Codes = BTreeMap<String, usize>;

async fn say(raw: &mut Raw, message: Value) {
    raw.write(&frame(0x81, message.to_string().as_bytes())).await;
}

fn count(codes: &mut Codes, answer: &Value) {
    let code = answer["code"].as_str().or(answer["type"].as_str()).unwrap();
    *codes.entry(code.to_owned()).or_default() += 1;
}

/// Runs this many attackers, and adds up their answers.
async fn together<F: Future<Output = Codes> + Send + 'static>(attacker: impl Fn(usize) -> F) -> Codes {
    let mut attackers = JoinSet::new();
    for nth in 0..ATTACKERS {
        attackers.spawn(attacker(nth));
    }
    let mut sum = Codes::new();
    for (code, number) in attackers.join_all().await.into_iter().flatten() {
        *sum.entry(code).or_default() += number;
    }
    sum
}

/// Guesses passwords in one room after the other until the attack ends, and until it was refused as too often.
async fn guess(target: Target, nth: usize) -> Codes {
    let mut raw = target.open(nth).await;
    say(&mut raw, json!({"type": "register", "client_id": format!("guesser {nth}"), "protocol": 1})).await;
    assert_eq!(raw.message().await["type"], "registered");
    let mut codes = Codes::new();
    while target.goes_on() || !codes.contains_key("too_many_attempts") {
        let room = format!("lab {}", codes.values().sum::<usize>());
        say(&mut raw, json!({"type": "join", "room_id": room, "password": "wrong"})).await;
        count(&mut codes, &raw.message().await);
    }
    codes
}

#[test]
fn passwords_are_guessed_in_many_rooms_from_many_addresses() {
    let hash = hash_password("right").unwrap();
    let configuration = format!("[[rooms]]\nname = 'lab*'\npassword_hash = '{hash}'\n");
    attack(&configuration, |target| async move {
        let codes = together(move |nth| guess(target, nth)).await;
        assert_eq!(codes.keys().collect::<Vec<_>>(), ["forbidden", "too_many_attempts"]);
        // Five each, and those that are forgiven during the attack.
        let forgiven = usize::try_from(target.lasted().as_secs() / 12).unwrap();
        assert!(codes["forbidden"] <= ATTACKERS * (5 + forgiven), "{codes:?}");
    });
}

/// A token for all rooms that expires this many seconds from now.
fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let spec = TokenSpec {
        kid: "k".into(),
        user: UserId::new("ann").unwrap(),
        id: None,
        client_id: None,
        rooms: vec![RoomPattern::new("*").unwrap()],
        roles: vec![Role::Sender, Role::Receiver],
        audience: Vec::new(),
        expires: Duration::from_secs(now.as_secs().checked_add_signed(seconds).unwrap()),
    };
    spec.sign(&SigningKey::new(SECRET.as_bytes()).unwrap()).unwrap()
}

/// Connects again and again with an expired token.
async fn insist(target: Target, nth: usize) -> Codes {
    let mut codes = Codes::new();
    let token = token(-60);
    for attempt in 0.. {
        if !target.goes_on() && !codes.is_empty() {
            break;
        }
        let mut raw = target.open(nth + ATTACKERS * attempt).await;
        say(&mut raw, json!({"type": "register", "client_id": "a", "protocol": 1, "token": token})).await;
        say(&mut raw, json!({"type": "join", "room_id": "honest 0", "role": "sender"})).await;
        count(&mut codes, &raw.message().await);
        assert_eq!(raw.close_code().await, 4010);
    }
    codes
}

#[test]
fn expired_tokens_come_again_and_again() {
    let auth = "[auth]\nmode = 'token'\n[[auth.keys]]\nkid = 'k'\nalgorithm = 'HS256'\nfile = 'k.key'\n";
    let way = Way { token: Some(token(600)), tls: None };
    Attack::on(auth).file("k.key", SECRET).by(way).run(|target| async move {
        let codes = together(move |nth| insist(target, nth)).await;
        assert_eq!(codes.keys().collect::<Vec<_>>(), ["unauthorized"]);
    });
}
