//! The limits of one connection and of one address: beyond them, reading pauses or connections are rejected.

use crate::support::{Client, Got, Raw, frame, handshake, server, unhurried};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

const REGISTER: &[u8] = br#"{"type":"register","client_id":"x","protocol":1}"#;

fn number(number: u32) -> std::num::NonZeroU32 {
    number.try_into().unwrap()
}

/// The time until `count` messages, sent together, are answered. Checks that all answers arrive, in order.
async fn echo_all(address: SocketAddr, count: usize, padding: usize) -> Duration {
    let mut raw = Raw::upgraded(address).await;
    raw.write(&frame(0x81, REGISTER)).await;
    raw.message().await;
    let padding = "x".repeat(padding);
    let began = Instant::now();
    let (mut reader, mut writer) = raw.stream.into_split();
    let writing = tokio::spawn(async move {
        for n in 0..count {
            let ping = format!(r#"{{"type":"ping","n":{n},"p":"{padding}"}}"#);
            tokio::io::AsyncWriteExt::write_all(&mut writer, &frame(0x81, ping.as_bytes())).await.unwrap();
        }
        writer
    });
    for n in 0..count {
        let (_, payload) = crate::support::read_frame(&mut reader).await;
        let pong: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&pong["type"], &pong["n"]), (&json!("pong"), &json!(n)));
    }
    writing.await.unwrap();
    began.elapsed()
}

#[tokio::test]
async fn beyond_the_message_rate_reading_pauses_and_nothing_is_lost() {
    let server = server(|config| {
        config.limits.messages_per_second = number(100);
        config.limits.messages_burst = number(50);
    });
    // The first message was the register; 49 are the rest of the burst, and 100 take a second.
    let took = echo_all(server.local_addr(), 149, 0).await;
    assert!(took >= Duration::from_millis(990), "{took:?}");
}

#[tokio::test]
async fn beyond_the_byte_rate_reading_pauses_and_nothing_is_lost() {
    let server = server(|config| {
        config.limits.bytes_per_second = number(200_000);
        config.limits.bytes_burst = number(100_000);
    });
    // The burst, the largest debt, and 200 KB in a second.
    let took = echo_all(server.local_addr(), 6, 60_000).await;
    assert!(took >= Duration::from_millis(990), "{took:?}");
}

#[tokio::test]
async fn pings_and_fragments_count_as_messages() {
    let server = server(|config| {
        config.limits.messages_per_second = number(100);
        config.limits.messages_burst = number(20);
    });
    for (count, flood) in [
        (100, frame(0x89, b"").repeat(100)),
        (100, frame(0x8a, b"").repeat(100)),
        (100, [frame(0x01, b""), frame(0x00, b"").repeat(98), frame(0x80, b" ")].concat()),
    ] {
        let mut raw = Raw::upgraded(server.local_addr()).await;
        let began = Instant::now();
        raw.write(&flood).await;
        raw.write(&frame(0x81, REGISTER)).await;
        while !matches!(raw.frame().await, (1, payload) if payload.starts_with(br#"{"type":"registered""#)) {}
        let least = Duration::from_millis(10) * (count - 20);
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    }
}

/// A paused peer is not silent, even while its message stays incomplete, and it still receives messages.
#[tokio::test]
async fn a_paused_connection_receives_messages_and_counts_as_alive() {
    let server = server(|config| {
        config.hub.heartbeat = Duration::from_millis(500);
        config.hub.heartbeat_grace = Duration::from_millis(500);
        config.limits.messages_per_second = number(2);
        config.limits.messages_burst = number(2);
    });
    let address = server.local_addr();
    let mut flood = Raw::upgraded(address).await;
    flood.write(&frame(0x81, REGISTER)).await;
    assert_eq!(flood.message().await["type"], "registered");
    flood.write(&frame(0x81, br#"{"type":"join","room_id":"r"}"#)).await;
    assert_eq!(flood.message().await["type"], "joined");
    let pieces = [frame(0x01, b"{"), frame(0x00, b" ").repeat(3), frame(0x80, br#""type":"chat"}"#)].concat();
    flood.write(&pieces).await;
    let began = Instant::now();
    let (mut other, _) = Client::join(address, "other", "r", "sender").await;
    other.send(json!({"type": "offer", "sdp": "v=0"})).await;
    for expected in ["peer_joined", "offer"] {
        let text = loop {
            // Pings may arrive in between.
            if let (1, text) = flood.frame().await {
                break text;
            }
        };
        let message: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(message["type"], expected);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    other.message_of("chat").await;
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_message_to_many_recipients_costs_more() {
    let server = server(|config| {
        config.limits.max_connections_per_ip = 1_000;
        config.limits.new_connections_per_second = number(1_000);
        config.limits.messages_per_second = number(100);
        config.limits.messages_burst = number(20);
    });
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "sender", "r", "sender").await;
    let mut others = Vec::new();
    for n in 0..40 {
        others.push(Client::join(address, &format!("r{n}"), "r", "receiver").await.0);
    }
    let began = Instant::now();
    for _ in 0..20 {
        sender.send(json!({"type": "chat"})).await;
    }
    for other in &mut others {
        for _ in 0..20 {
            other.message_of("chat").await;
        }
    }
    // Each costs 11, 220 together: 20 are the burst, the last may leave a debt, and 180 take 1.8 s.
    assert!(began.elapsed() >= Duration::from_millis(1_700), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_message_of_too_many_frames_is_closed_with_1009() {
    let server = server(|config| {
        unhurried(config);
        config.limits.max_fragments = 16;
    });
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x01, REGISTER)).await;
    raw.write(&frame(0x00, b"").repeat(14)).await;
    raw.write(&frame(0x80, b"")).await;
    assert_eq!(raw.message().await["type"], "registered");
    raw.write(&frame(0x01, b"")).await;
    raw.write(&frame(0x00, b"").repeat(1_000)).await;
    assert_eq!(raw.close_code().await, 1009);
}

async fn ask(raw: &mut Raw, request: &str) -> String {
    raw.write(request.as_bytes()).await;
    raw.read_to_end().await
}

#[tokio::test]
async fn connections_of_an_address_are_limited() {
    let server = server(|config| config.limits.max_connections_per_ip = 2);
    let address = server.local_addr();
    let (_first, second) = (Client::connect(address).await, Client::connect(address).await);
    let answer = ask(&mut Raw::connect(address).await, &handshake(address, "/", "")).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: "), "{answer}");
    // Other addresses are not affected, and a seat that is given back is free.
    Raw::upgrade(Raw::connect_from(9, address).await.stream).await;
    drop(second);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while ask(&mut Raw::connect(address).await, "GET /healthz HTTP/1.0\r\n\r\n").await.contains(" 429 ") {
        assert!(Instant::now() < deadline, "a seat should have become free");
    }
}

#[tokio::test]
async fn new_connections_of_an_address_are_limited_per_second() {
    let server = server(|config| config.limits.new_connections_per_second = number(5));
    let address = server.local_addr();
    let mut refused = 0;
    let began = Instant::now();
    for _ in 0..30 {
        let answer = ask(&mut Raw::connect(address).await, "GET /healthz HTTP/1.0\r\n\r\n").await;
        refused += usize::from(answer.starts_with("HTTP/1.1 429 "));
    }
    let came_in = usize::try_from(began.elapsed().as_secs()).unwrap() * 5 + 5;
    assert!((20 - came_in.min(20)..=20).contains(&refused), "{refused} in {:?}", began.elapsed());
    let mut raw = Raw::connect_from(9, address).await;
    assert!(ask(&mut raw, "GET /healthz HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn limits_apply_to_each_client_behind_a_trusted_proxy() {
    let server = server(|config| {
        config.limits.max_connections_per_ip = 1;
        config.trusted_proxies = vec!["127.0.1.1".parse().unwrap()];
    });
    let address = server.local_addr();
    let connect = async |from: u8, forwarded: &str| {
        let mut raw = Raw::connect_from(from, address).await;
        let line = format!("X-Forwarded-For: {forwarded}\r\n");
        raw.write(handshake(address, "/", &line).as_bytes()).await;
        let mut start = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut start).await.unwrap();
        (String::from_utf8_lossy(&start[9..]).into_owned(), raw)
    };
    let (first, _first) = connect(1, "203.0.113.1").await;
    let (second, _second) = connect(1, "198.51.100.7, 203.0.113.2").await;
    let (again, _again) = connect(1, "198.51.100.8, 203.0.113.1").await;
    assert_eq!([first, second, again], ["101", "101", "429"]);
    // The header of an address that is not a trusted proxy is ignored.
    let (one, _one) = connect(2, "203.0.113.3").await;
    let (two, _two) = connect(2, "203.0.113.4").await;
    assert_eq!([one, two], ["101", "429"]);
}

#[tokio::test]
async fn the_oldest_connection_without_a_request_is_ended_for_a_new_one() {
    let server = server(|config| config.limits.max_handshakes = 3);
    let address = server.local_addr();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(address).await;
        raw.write(b"GET / HTTP/1.1\r\n").await;
        slow.push(raw);
    }
    // They connected in order, so the first is ended.
    let mut rest = Vec::new();
    let ending = tokio::io::AsyncReadExt::read_to_end(&mut slow[0].stream, &mut rest);
    let _ = tokio::time::timeout(crate::support::PATIENCE, ending).await.expect("it should have been ended");
    assert!(rest.is_empty());
    let mut client = Client::connect(address).await;
    client.send_text(String::from_utf8_lossy(REGISTER)).await;
    assert!(matches!(client.next().await, Got::Message(_)));
}
