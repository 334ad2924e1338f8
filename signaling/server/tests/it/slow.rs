//! One connection never makes another wait.

use crate::support::{Client, Got, Raw, frame, server, unhurried};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Relays one message after the other in another room until `enough`. Returns the time of the slowest.
async fn talk(address: SocketAddr, enough: impl Fn(u32) -> bool) -> Duration {
    let (mut sender, _) = Client::join(address, "sender", "other", "sender").await;
    let (mut receiver, _) = Client::join(address, "receiver", "other", "receiver").await;
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !enough(count) {
        let began = Instant::now();
        sender.send(json!({"type": "candidate", "candidate": {"candidate": "c"}})).await;
        assert_eq!(receiver.message().await["type"], "candidate");
        slowest = slowest.max(began.elapsed());
        count += 1;
    }
    slowest
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_no_other_is_affected() {
    let server = server(unhurried);
    let address = server.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let talking = tokio::spawn(talk(address, move |count| count > 10 && stopped.load(Ordering::Relaxed)));
    let (mut sender, _) = Client::join(address, "sender", "r", "sender").await;
    let (mut good, _) = Client::join(address, "good", "r", "receiver").await;
    let (mut slow, _) = Client::join(address, "slow", "r", "receiver").await;

    // Both receive every offer; only one of them reads.
    let text = json!({"type": "offer", "sdp": "x".repeat(60_000)}).to_string();
    let mut sent = 0_u32;
    let left = loop {
        sender.send_text(text.clone()).await;
        sent += 1;
        assert_eq!(good.message().await["type"], "offer");
        sender.send(json!({"type": "ping"})).await;
        let answers = answers_until_pong(&mut sender).await;
        if let Some(left) = answers.into_iter().find(|message| message["type"] == "peer_left") {
            break left;
        }
        assert!(
            sent < 2_000,
            "its queue should have been full after about 1 MiB and what the system buffers"
        );
    };
    assert_eq!((&left["client_id"], &left["reason"]), (&json!("slow"), &json!("disconnected")));
    assert!(sent > 16, "a queue takes 1 MiB: {sent}");

    // When it does read, it receives whole frames in order, and finally the reason.
    let mut last = Value::Null;
    let code = loop {
        match slow.next().await {
            Got::Message(message) => last = message,
            Got::Closed(code) => break code,
            Got::Cut => panic!("cut after {last}"),
        }
    };
    assert_eq!((code, &last["code"]), (4008, &json!("slow_consumer")));
    stop.store(true, Ordering::Relaxed);
    let slowest = talking.await.unwrap();
    assert!(slowest < Duration::from_secs(2), "the slowest relay took {slowest:?}");
}

async fn answers_until_pong(client: &mut Client) -> Vec<Value> {
    let mut answers = Vec::new();
    loop {
        let message = client.message().await;
        if message["type"] == "pong" {
            return answers;
        }
        answers.push(message);
    }
}

#[tokio::test]
async fn the_sum_of_all_queues_is_bounded() {
    let server = server(|config| {
        unhurried(config);
        config.limits.max_queue = usize::MAX >> 1;
        config.limits.max_queues = 256 << 10;
    });
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "sender", "r", "sender").await;
    let (_slow, _) = Client::join(address, "slow", "r", "receiver").await;
    let text = json!({"type": "offer", "sdp": "x".repeat(60_000)}).to_string();
    for _ in 0..2_000 {
        sender.send_text(text.clone()).await;
        sender.send(json!({"type": "ping"})).await;
        if answers_until_pong(&mut sender).await.iter().any(|message| message["type"] == "peer_left") {
            return;
        }
    }
    panic!("the queue should have been full");
}

#[tokio::test]
async fn endless_pings_whose_pongs_are_not_read_end_the_connection() {
    let server = server(|config| {
        unhurried(config);
        config.limits.max_queue = 64 << 10;
    });
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x81, br#"{"type":"register","client_id":"pinger","protocol":1}"#)).await;
    let pings = frame(0x89, &[0; 125]).repeat(500);
    let began = Instant::now();
    // After the server has given up, it shuts its side and reads for another second.
    while tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &pings).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the server should have ended it");
    }
}

#[tokio::test]
async fn a_flood_does_not_delay_other_connections() {
    let server = server(unhurried);
    let address = server.local_addr();
    let mut flood = Raw::upgraded(address).await;
    flood.write(&frame(0x81, br#"{"type":"register","client_id":"flood","protocol":1}"#)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let flooding = tokio::spawn(async move {
        let burst = frame(0x8a, b"").repeat(20_000);
        while !stopped.load(Ordering::Relaxed) {
            flood.write(&burst).await;
        }
    });
    let slowest = talk(address, |count| count == 50).await;
    stop.store(true, Ordering::Relaxed);
    assert!(slowest < Duration::from_secs(2), "the slowest relay took {slowest:?}");
    flooding.await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_before_its_queue_is_full() {
    let server = server(|config| {
        unhurried(config);
        config.limits.max_queue = 64 << 20;
        config.limits.stall_timeout = Duration::from_millis(500);
    });
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "sender", "r", "sender").await;
    let (mut slow, _) = Client::join(address, "slow", "r", "receiver").await;
    // More than the system buffers.
    for _ in 0..200 {
        sender.send(json!({"type": "offer", "sdp": "x".repeat(60_000)})).await;
    }
    slow.send(json!({"type": "ping"})).await;
    assert_eq!(sender.message().await["type"], "peer_joined");
    let left = sender.message().await;
    assert_eq!((&left["client_id"], &left["reason"]), (&json!("slow"), &json!("disconnected")));
}

#[tokio::test]
async fn a_message_that_stays_incomplete_closes_the_connection() {
    let server = server(|config| config.limits.stall_timeout = Duration::from_millis(500));
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x81, br#"{"type":"register","client_id":"a","protocol":1}"#)).await;
    assert_eq!(raw.message().await["type"], "registered");
    raw.write(&frame(0x01, br#"{"type":"#)).await;
    assert_eq!(raw.close_code().await, 1008);
}
