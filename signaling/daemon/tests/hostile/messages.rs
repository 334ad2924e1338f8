//! Valid connections that send too much, or never read.

use crate::{
    rig::{Target, attack},
    support::{Raw, frame},
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};

/// Registers and joins.
pub(crate) async fn join(target: Target, nth: usize, room: &str, id: &str, role: &str) -> Raw {
    let mut raw = target.open(nth).await;
    enter(&mut raw, room, id, role).await;
    raw
}

pub(crate) async fn enter(raw: &mut Raw, room: &str, id: &str, role: &str) {
    let register = json!({"type": "register", "client_id": id, "protocol": 1}).to_string();
    let join = json!({"type": "join", "room_id": room, "role": role}).to_string();
    raw.write(&[frame(0x81, register.as_bytes()), frame(0x81, join.as_bytes())].concat()).await;
    while raw.message().await["type"] != "joined" {}
}

/// Writes the same frame again and again, and reads, until the attack ends.
pub(crate) async fn flood(target: Target, raw: Raw, bytes: Vec<u8>) {
    let (reader, mut writer) = raw.stream.into_split();
    let reading = tokio::spawn(hear(reader));
    while target.goes_on() {
        // While the server does not read, check the time regularly.
        let _ = timeout(Duration::from_millis(100), writer.write_all(&bytes)).await;
    }
    reading.abort();
}

/// Reads and discards everything.
pub(crate) async fn hear(mut stream: impl AsyncRead + Unpin) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
}

#[test]
fn floods_of_pings_and_pongs() {
    attack("", |target| async move {
        let mut attackers = JoinSet::new();
        for n in 0..40 {
            let raw = join(target, n, "attackers", &format!("a{n}"), "receiver").await;
            let bytes = [frame(0x89, &[0; 125]), frame(0x8a, b""), frame(0x89, b"")][n % 3].repeat(1_000);
            attackers.spawn(flood(target, raw, bytes));
        }
        attackers.join_all().await;
        let pauses = target.metric("room_signaling_pauses_total").await;
        assert!(pauses >= 40.0, "{pauses}");
    });
}

#[test]
fn floods_of_refused_messages() {
    attack("", |target| async move {
        let mut attackers = JoinSet::new();
        for n in 0..40 {
            let raw = join(target, n, "attackers", &format!("a{n}"), "receiver").await;
            let text = [
                r#"{"type":"register","client_id":"again","protocol":1}"#,
                r#"{"type":"bye","target_id":"nobody"}"#,
                r#"{"type":"joined"}"#,
                r#"{"type":"join","room_id":" ","role":"sender"}"#,
            ][n % 4];
            attackers.spawn(flood(target, raw, frame(0x81, text.as_bytes()).repeat(100)));
        }
        attackers.join_all().await;
        assert!(target.metric("room_signaling_pauses_total").await >= 40.0);
        assert!(target.metric("room_signaling_errors_total{code=\"already_registered\"}").await >= 200.0);
    });
}

/// A message from one member to two hundred others.
#[test]
fn messages_to_everybody() {
    attack("", |target| async move {
        let mut members = Vec::new();
        for n in 0..200 {
            members.push(join(target, n, "attackers", &format!("l{n}"), "receiver").await);
        }
        let target = target.afresh();
        let mut listeners = JoinSet::new();
        for raw in members {
            listeners.spawn(hear(raw.stream));
        }
        let mut attackers = JoinSet::new();
        for n in 0..8 {
            let raw = join(target, 200 + n, "attackers", &format!("a{n}"), "sender").await;
            let text = json!({"type": "wave", "p": "x".repeat(1_000)}).to_string();
            attackers.spawn(flood(target, raw, frame(0x81, text.as_bytes())));
        }
        attackers.join_all().await;
        listeners.abort_all();
        let pauses = target.metric("room_signaling_pauses_total").await;
        assert!(pauses >= 8.0, "{pauses}");
    });
}

#[test]
fn a_client_that_never_reads() {
    attack("", |target| async move {
        let stream = target.connect_with(0, |socket| socket.set_recv_buffer_size(4096).unwrap()).await;
        let (_, mut idle) = target.upgrade(stream.unwrap(), "").await;
        enter(&mut idle, "attackers", "idle", "receiver").await;
        let mut attackers = JoinSet::new();
        for n in 0..16 {
            let raw = join(target, n + 1, "attackers", &format!("a{n}"), "sender").await;
            let text = json!({"type": "offer", "target_id": "idle", "sdp": "x".repeat(60_000)}).to_string();
            attackers.spawn(flood(target, raw, frame(0x81, text.as_bytes())));
        }
        attackers.join_all().await;
        assert_eq!(target.metric("room_signaling_slow_consumers_total").await.to_string(), "1");
        // When it reads at last, it gets the reason.
        let mut last = (0, Vec::new());
        let code = loop {
            match idle.frame().await {
                (8, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                other => last = other,
            }
        };
        assert_eq!(code, 4008);
        assert!(String::from_utf8_lossy(&last.1).contains("slow_consumer"));
        assert_eq!(target.metric("room_signaling_queued_bytes").await.to_string(), "0");
    });
}
