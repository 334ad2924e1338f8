//! Connections that are alive, and connections that only seem to be.

use crate::support::{Client, Got, Raw, frame, server, unmasked};
use serde_json::json;
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_half_open_connection_is_detected() {
    let server = server(|config| {
        config.hub.heartbeat = BEAT;
        config.hub.heartbeat_grace = 2 * BEAT;
    });
    let address = server.local_addr();
    let (mut watcher, _) = Client::join(address, "watcher", "r", "sender").await;
    // It joins, then neither reads nor writes, and its socket stays open.
    let mut silent = Raw::upgraded(address).await;
    silent.write(&frame(0x81, br#"{"type":"register","client_id":"silent","protocol":1}"#)).await;
    silent.write(&frame(0x81, br#"{"type":"join","room_id":"r"}"#)).await;
    assert_eq!(watcher.message().await["client_id"], "silent");
    let began = Instant::now();
    let left = watcher.message().await;
    assert_eq!((&left["client_id"], &left["reason"]), (&json!("silent"), &json!("timeout")));
    assert!(began.elapsed() >= 2 * BEAT, "{:?}", began.elapsed());
    // The watcher answers its pings, so it is still a member.
    watcher.ping().await;
}

#[tokio::test]
async fn any_frame_counts_as_life_even_an_unmasked_one() {
    let server = server(|config| {
        config.hub.heartbeat = BEAT;
        config.hub.heartbeat_grace = 2 * BEAT;
    });
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x81, br#"{"type":"register","client_id":"c++"}"#)).await;
    assert_eq!(raw.message().await["type"], "registered");
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < 8 * BEAT {
        assert_eq!(raw.frame().await, (9, Vec::new()));
        pings += 1;
        raw.write(&unmasked(0x8a, b"")).await;
    }
    assert!(pings >= 3, "{pings}");
}

#[tokio::test]
async fn a_restarted_client_replaces_its_old_connection_immediately() {
    let server = server(|_| {});
    let address = server.local_addr();
    let (mut old, _) = Client::join(address, "camera", "r", "sender").await;
    let (mut new, _) = Client::join(address, "camera", "r", "sender").await;
    assert_eq!(old.next().await, Got::Closed(4001));
    new.ping().await;
}

/// Pings cannot be answered while a long message is being sent, so its bytes have to count as life.
#[tokio::test]
async fn a_long_message_over_a_slow_link_counts_as_life() {
    let server = server(|config| {
        config.hub.heartbeat = Duration::from_millis(700);
        config.hub.heartbeat_grace = Duration::from_millis(1_100);
    });
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x81, br#"{"type":"register","client_id":"slow","protocol":1}"#)).await;
    assert_eq!(raw.message().await["type"], "registered");
    let ping = frame(0x81, format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(100)).as_bytes());
    let (last, most) = ping.split_last().unwrap();
    let began = Instant::now();
    for byte in most {
        raw.write(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(3_600), "longer than two periods of silence");
    raw.write(&[*last]).await;
    while let (opcode, payload) = raw.frame().await
        && opcode != 1
    {
        assert_eq!(opcode, 9, "{}", String::from_utf8_lossy(&payload));
    }
}
