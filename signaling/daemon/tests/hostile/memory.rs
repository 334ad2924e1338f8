//! Attacks that hold memory, or cause much work with few bytes.

use crate::{
    honest::Way,
    messages::{enter, flood, hear, join},
    rig::{Attack, Target, attack},
    support::{Raw, frame},
};
use room_signaling_server::{
    auth::{SigningKey, TokenSpec, hash_password},
    protocol::{UserId, hub::RoomPattern, wire::Role},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use tokio::{io::AsyncWriteExt, task::JoinSet, time::timeout};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The connections of the honest clients.
const HONEST: f64 = 10.0;

fn text(message: &Value) -> Vec<u8> {
    frame(0x81, message.to_string().as_bytes())
}

/// A member with a small window that reads nothing from now on.
async fn lazy(target: Target, nth: usize, room: &str, id: &str) -> Raw {
    let stream = target.connect_with(nth, |socket| socket.set_recv_buffer_size(4096).unwrap()).await;
    let (status, mut raw) = target.upgrade(stream.unwrap(), "").await;
    assert_eq!(status, 101);
    enter(&mut raw, room, id, "receiver").await;
    raw
}

/// Waits until a metric has an expected value.
pub(crate) async fn until(target: Target, name: &str, is_right: impl Fn(f64) -> bool) {
    let began = Instant::now();
    loop {
        let value = target.metric(name).await;
        if is_right(value) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{name} is {value}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Clients that are closed for bad messages while their queues are full, and then send pings and read nothing.
#[test]
fn zombies() {
    let limits = "[limits]\nmax_message = 4096\nmax_queue = 73728\nmessages_per_second = 5000\nmessages_burst = 10000\n";
    attack(limits, |target| async move {
        let mut attackers = JoinSet::new();
        for n in 0..40 {
            let mut raw = lazy(target, n, "attackers", &format!("a{n}")).await;
            attackers.spawn(async move {
                let pings = frame(0x89, &[0; 125]).repeat(2_000 + 7 * n);
                let _ = timeout(Duration::from_secs(2), raw.stream.write_all(&pings)).await;
                let bad = frame(0x81, b"nonsense").repeat(10);
                let _ = timeout(Duration::from_secs(1), raw.stream.write_all(&bad)).await;
                while target.goes_on() {
                    let more = raw.stream.write_all(&pings[..13_000]);
                    let _ = timeout(Duration::from_millis(100), more).await;
                }
                raw
            });
        }
        let zombies = attackers.join_all().await;
        until(target, "room_signaling_connections{state=\"open\"}", |open| open <= HONEST).await;
        until(target, "room_signaling_queued_bytes", |bytes| bytes < 73_728.0).await;
        drop(zombies);
    });
}

/// Clients with almost full queues that show signs of life.
#[test]
fn clients_that_answer_pings_and_never_read() {
    // No queue may reach its own limit.
    attack("[limits]\nmax_queue = 4194304\nmax_queues = 4194304\n", |target| async move {
        let mut idle = Vec::new();
        for n in 0..6 {
            idle.push(lazy(target, n, "attackers", &format!("idle {n}")).await);
        }
        let target = target.afresh();
        let mut attackers = JoinSet::new();
        for n in 0..24 {
            let raw = join(target, 100 + n, "attackers", &format!("a{n}"), "receiver").await;
            let more =
                json!({"type": "fill", "target_id": format!("idle {}", n % 6), "x": "x".repeat(30_000)});
            attackers.spawn(flood(target, raw, text(&more)));
        }
        while target.goes_on() {
            for raw in &mut idle {
                let _ = timeout(Duration::from_millis(10), raw.stream.write_all(&frame(0x8a, b""))).await;
            }
            let held = target.metric("room_signaling_queued_bytes").await;
            assert!(held <= 4_194_304.0, "{held}");
        }
        attackers.join_all().await;
        assert!(target.metric("room_signaling_slow_consumers_total").await >= 1.0);
    });
}

/// No recipient is slow. If each counted separately, the messages would be six times the limit.
#[test]
fn five_simultaneous_broadcasts_to_a_large_room() {
    attack("[limits]\nmax_queues = 1572864\n", |target| async move {
        let mut listeners = JoinSet::new();
        for n in 0..30 {
            let raw = join(target, n, "attackers", &format!("l{n}"), "receiver").await;
            listeners.spawn(hear(raw.stream));
        }
        let mut speakers = Vec::new();
        for n in 0..5 {
            speakers.push(join(target, 100 + n, "attackers", &format!("s{n}"), "sender").await);
        }
        let target = target.afresh();
        let wave = text(&json!({"type": "wave", "x": "x".repeat(60_000)}));
        let ping = text(&json!({"type": "ping"}));
        while target.goes_on() {
            for raw in &mut speakers {
                raw.write(&wave).await;
            }
            for raw in &mut speakers {
                raw.write(&ping).await;
                while raw.message().await["type"] != "pong" {}
            }
        }
        assert_eq!(target.metric("room_signaling_slow_consumers_total").await.to_string(), "0");
        listeners.abort_all();
    });
}

/// Messages that are never completed, with signs of life between their fragments.
#[test]
fn half_messages() {
    attack("[limits]\nmax_queues = 2097152\nstall_seconds = 2\n", |target| async move {
        let mut half = Vec::new();
        for n in 0..60 {
            let mut raw = target.open(n).await;
            raw.write(&frame(0x01, &vec![b' '; 60_000])).await;
            half.push(raw);
            let held = target.metric("room_signaling_inbound_bytes").await;
            assert!(held <= 2_097_152.0, "{held}");
        }
        // There is space for about half of them.
        assert!(target.metric("room_signaling_slow_consumers_total").await >= 20.0);
        let began = Instant::now();
        while target.metric("room_signaling_connections{state=\"open\"}").await > HONEST {
            assert!(began.elapsed() < Duration::from_secs(20), "they are given two seconds");
            for raw in &mut half {
                let _ = raw.stream.write_all(&frame(0x8a, b"")).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(target.metric("room_signaling_inbound_bytes").await.to_string(), "0");
    });
}

/// A client whose join has waited pays for its deliveries, too.
#[test]
fn many_messages_while_a_join_waits() {
    attack("", |target| async move {
        let mut listeners = JoinSet::new();
        for n in 0..100 {
            let raw = join(target, n, "attackers", &format!("l{n}"), "receiver").await;
            listeners.spawn(hear(raw.stream));
        }
        let silent = join(target, 100, "attackers", "x", "receiver").await;
        let mut other = target.open(101).await;
        let register =
            json!({"type": "register", "client_id": "x", "protocol": 1, "instance": "another".repeat(5)});
        let target = target.afresh();
        let wave = json!({"type": "wave", "x": "x".repeat(900)});
        let said = [
            text(&register),
            text(&json!({"type": "join", "room_id": "attackers", "role": "sender"})),
            text(&wave).repeat(255),
        ];
        let attacker = tokio::spawn(async move {
            let _ = other.stream.write_all(&said.concat()).await;
            hear(other.stream).await;
        });
        // The holder of the id is silent for two seconds. Then the first of these messages are delivered.
        let before = target.metric("room_signaling_messages_relayed_total").await;
        until(target, "room_signaling_members{role=\"sender\"}", |senders| senders > HONEST / 2.0).await;
        until(target, "room_signaling_pauses_total", |pauses| pauses >= 1.0).await;
        let relayed = target.metric("room_signaling_messages_relayed_total").await - before;
        // This includes those of honest clients. All messages of the attacker would be 25,500.
        assert!(relayed < 10_000.0, "{relayed} messages were relayed");
        drop(silent);
        attacker.abort();
        listeners.abort_all();
    });
}

/// Short requests for a long list.
#[test]
fn lists_are_asked_for_again_and_again() {
    attack("", |target| async move {
        for n in 0..200 {
            let mut raw = target.open(n).await;
            let register = json!({"type": "register", "client_id": format!("l{n}"), "protocol": 1});
            let join = json!({"type": "join", "room_id": "attackers", "meta": "m".repeat(1_000)});
            raw.write(&[text(&register), text(&join)].concat()).await;
            tokio::spawn(hear(raw.stream));
        }
        let mut attackers = JoinSet::new();
        let mut raws = Vec::new();
        for n in 0..8 {
            raws.push(join(target, 300 + n, "attackers", &format!("a{n}"), "sender").await);
        }
        let target = target.afresh();
        let before = target.metric("room_signaling_sent_bytes_total").await;
        for raw in raws {
            attackers.spawn(flood(target, raw, text(&json!({"type": "peers"})).repeat(10)));
        }
        attackers.join_all().await;
        let sent = target.metric("room_signaling_sent_bytes_total").await - before;
        // A burst of half a queue and an answer over it, then half a MiB a second for each. Honest clients are in there.
        let allowed = 8.0 * 524_288.0 * (target.lasted().as_secs_f64() + 3.0);
        assert!(sent < allowed, "{sent} bytes, where {allowed} are allowed");
        assert!(target.metric("room_signaling_pauses_total").await >= 8.0);
        assert_eq!(target.metric("room_signaling_slow_consumers_total").await.to_string(), "0");
    });
}

fn token(user: &str, minutes: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let spec = TokenSpec {
        kid: "k".into(),
        user: UserId::new(user).unwrap(),
        id: None,
        client_id: None,
        rooms: vec![RoomPattern::new("*").unwrap()],
        roles: vec![Role::Sender, Role::Receiver],
        audience: Vec::new(),
        expires: now + Duration::from_mins(minutes),
    };
    spec.sign(&SigningKey::new(SECRET.as_bytes()).unwrap()).unwrap()
}

/// Two valid tokens in turn: each join makes the server verify a signature.
#[test]
fn tokens_are_verified_again_and_again() {
    let auth = "[auth]\nmode = 'token'\n[[auth.keys]]\nkid = 'k'\nalgorithm = 'HS256'\nfile = 'k.key'\n";
    let way = Way { token: Some(token("honest", 10)), tls: None };
    Attack::on(auth).file("k.key", SECRET).by(way).run(|target| async move {
        let mut attackers = JoinSet::new();
        for n in 0..16 {
            let mut raw = target.open(n).await;
            let (one, two) = (token("eve", 10), token("eve", 11));
            let register =
                json!({"type": "register", "client_id": format!("a{n}"), "protocol": 1, "token": one});
            raw.write(&text(&register)).await;
            let join = |token: &str| {
                text(&json!({"type": "join", "room_id": "attackers", "role": "receiver", "token": token}))
            };
            let round = [join(&two), join(&one)].concat();
            attackers.spawn(flood(target, raw, round));
        }
        attackers.join_all().await;
        // Each join costs 21 messages of a burst of 200, and of 100 a second.
        let joins = target.metric("room_signaling_messages_received_total{type=\"join\"}").await;
        let allowed = 16.0 * (10.0 + 5.0 * (target.lasted().as_secs_f64() + 1.0));
        assert!(joins < allowed + HONEST, "{joins} joins, where {allowed} are allowed");
        assert!(target.metric("room_signaling_pauses_total").await >= 16.0);
    });
}

/// A client of another network does not wait for all guesses.
#[test]
fn guesses_fill_the_queue_of_passwords() {
    let hash = hash_password("right").unwrap();
    let configuration = format!("[[rooms]]\nname = 'lab*'\npassword_hash = '{hash}'\n");
    attack(&configuration, |target| async move {
        let mut guesses = Vec::new();
        for n in 0..40 {
            let mut raw = target.open(n / 5).await;
            let register = json!({"type": "register", "client_id": format!("g{n}"), "protocol": 1});
            let join = json!({"type": "join", "room_id": "lab", "password": format!("wrong {n}")});
            raw.write(&[text(&register), text(&join)].concat()).await;
            assert_eq!(raw.message().await["type"], "registered");
            guesses.push(raw);
        }
        let mut newcomer = target.open(100).await;
        let register = json!({"type": "register", "client_id": "newcomer", "protocol": 1});
        let join = json!({"type": "join", "room_id": "lab", "password": "right"});
        newcomer.write(&[text(&register), text(&join)].concat()).await;
        assert_eq!(newcomer.message().await["type"], "registered");
        assert_eq!(newcomer.message().await["type"], "joined");
        let code = "room_signaling_errors_total{code=\"forbidden\"}";
        let answered = target.metric(code).await;
        assert!(answered <= 30.0, "{answered} of 40 guesses were answered before");
        until(target, code, |answered| answered >= 40.0).await;
        drop(guesses);
    });
}
