//! Crowds of clients, hostile or not.

use crate::{
    memory::until,
    rig::{Target, attack},
    support::{Raw, frame},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Registers and joins. Returns the answer to `join`.
async fn join(target: Target, nth: usize, room: &str, id: &str, role: &str) -> (Raw, Value) {
    let mut raw = target.open(nth).await;
    let instance = format!("the secret of {id:_>16}");
    let register =
        json!({"type": "register", "client_id": id, "protocol": 1, "instance": instance}).to_string();
    let join = json!({"type": "join", "room_id": room, "role": role}).to_string();
    raw.write(&[frame(0x81, register.as_bytes()), frame(0x81, join.as_bytes())].concat()).await;
    assert_eq!(raw.message().await["type"], "registered");
    loop {
        let answer = raw.message().await;
        if matches!(answer["type"].as_str(), Some("joined" | "error")) {
            return (raw, answer);
        }
    }
}

/// Joins and leaves one room as fast as possible. Each time, all senders there are informed.
#[test]
fn a_storm_of_joins() {
    // Lower rates than the default, so that a slow machine reaches them, too. Honest clients send 50 messages a second.
    let limits = "[limits]\nmessages_per_second = 70\nmessages_burst = 140";
    attack(limits, |target| async move {
        // On a slow machine, it takes the attackers a while to exceed their rates.
        let paused = Arc::new(AtomicBool::new(false));
        let mut attackers = JoinSet::new();
        for n in 0..40 {
            let paused = paused.clone();
            attackers.spawn(async move {
                let role = if n < 16 { "sender" } else { "receiver" };
                let (raw, _) = join(target, n, "attacked", &format!("a{n}"), role).await;
                let (mut reader, mut writer) = raw.stream.into_split();
                let reading = tokio::spawn(async move {
                    let mut sink = [0; 4096];
                    while tokio::io::AsyncReadExt::read(&mut reader, &mut sink).await.is_ok_and(|n| n > 0) {}
                });
                let join = json!({"type": "join", "room_id": "attacked", "role": role}).to_string();
                let round = [frame(0x81, br#"{"type":"leave"}"#), frame(0x81, join.as_bytes())].concat();
                while target.goes_on() || !paused.load(Ordering::Relaxed) {
                    let writing = tokio::io::AsyncWriteExt::write_all(&mut writer, &round);
                    let _ = tokio::time::timeout(Duration::from_millis(100), writing).await;
                }
                reading.abort();
            });
        }
        until(target, "room_signaling_pauses_total", |pauses| pauses >= 10.0).await;
        paused.store(true, Ordering::Relaxed);
        attackers.join_all().await;
    });
}

#[test]
fn a_room_for_each_of_ten_thousand() {
    const ROOMS: usize = 10_000;
    attack("", |target| async move {
        let mut held = Vec::new();
        let mut full = 0;
        // Honest clients have five.
        for chunk in 0..=ROOMS / 200 {
            let mut joining = JoinSet::new();
            for n in chunk * 200..(chunk + 1) * 200 {
                // A hundred from each address.
                joining.spawn(async move { join(target, n / 100, &format!("r{n}"), "x", "receiver").await });
            }
            for (raw, answer) in joining.join_all().await {
                held.push(raw);
                if answer["type"] == "error" {
                    assert_eq!(answer["code"], "too_many_rooms");
                    full += 1;
                }
            }
        }
        assert_eq!(held.len() - full, ROOMS - 5);
        assert_eq!(target.metric("room_signaling_rooms").await.to_string(), "10000");
    });
}

/// Honest clients that all connect at the same time, as after an outage of a network. Each one gets in.
#[test]
fn a_thousand_members_come_back_at_once() {
    const MEMBERS: usize = 1_000;
    attack("", |target| async move {
        let enter = |round: &'static str| async move {
            let mut joining = JoinSet::new();
            for n in 0..MEMBERS {
                let role = if n == 0 { "sender" } else { "receiver" };
                // Fifty from each address, twice.
                let from = n / 50;
                joining.spawn(async move {
                    let (raw, answer) = join(target, from, "large", &format!("m{n}"), role).await;
                    assert_eq!(answer["type"], "joined", "{round}: {answer}");
                    raw
                });
            }
            joining.join_all().await
        };
        let members = enter("first").await;
        drop(members);
        let began = Instant::now();
        let members = enter("again").await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let newcomer = join(target, 999, "large", "one too many", "receiver").await.1;
        assert_eq!(newcomer["code"], "room_full");
        drop(members);
    });
}
