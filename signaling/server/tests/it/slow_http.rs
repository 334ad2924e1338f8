//! Requests over HTTP whose peers are slow: their memory is in the budget, and a response continues while it is read.

use crate::support::{Client, PATIENCE, Raw, get, raise_file_limit, server, unhurried};
use room_signaling_server::{AdminToken, Config};
use serde_json::Value;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{sleep, timeout},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The rooms that make the list of rooms long: longer than the system buffers between sockets with small buffers.
const ROOMS: usize = 1_000;

fn operated(config: &mut Config) {
    unhurried(config);
    config.admin_token = Some(AdminToken::try_from(TOKEN.to_owned()).unwrap());
}

fn authorization() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

async fn metric(address: SocketAddr, name: &str) -> f64 {
    let (_, text) = get(address, "/metrics", &authorization()).await;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap()
}

async fn until(address: SocketAddr, name: &str, is_right: impl Fn(f64) -> bool) {
    let began = Instant::now();
    loop {
        let value = metric(address, name).await;
        if is_right(value) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{name} is {value}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Members of rooms with long names, so that the list of rooms has several hundred KB.
async fn crowd(address: SocketAddr) -> Vec<Client> {
    raise_file_limit();
    let mut clients = Vec::new();
    for n in 0..ROOMS {
        let (id, room) = (format!("{n:0100}"), format!("{n:0128}"));
        let mut client = Client::connect(address).await;
        client.enter(&id, &room, "receiver").await;
        clients.push(client);
    }
    clients
}

/// Asks for the list of rooms with a small receive buffer, and reads nothing yet.
async fn ask_for_rooms(address: SocketAddr) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET /api/rooms HTTP/1.1\r\nHost: {address}\r\n{}\r\n", authorization());
    stream.write_all(request.as_bytes()).await.unwrap();
    Raw { stream }
}

fn total(text: &str) -> Value {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let list: Value = serde_json::from_str(body).expect("the list is whole");
    assert_eq!(list["rooms"].as_array().unwrap().len(), list["total"]);
    list["total"].clone()
}

#[tokio::test]
async fn a_slow_operator_gets_the_whole_list_of_rooms_however_long_it_takes() {
    let server = server(operated);
    let address = server.local_addr();
    let _crowd = crowd(address).await;
    let mut slow = ask_for_rooms(address).await;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 3 << 10]);
    let began = Instant::now();
    // Longer than the 10 s within which other answers must be read.
    while began.elapsed() < Duration::from_secs(11) {
        sleep(Duration::from_millis(300)).await;
        let count = timeout(PATIENCE, slow.stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(count > 0, "the answer ended after {} bytes", bytes.len());
        bytes.extend(&piece[..count]);
    }
    timeout(PATIENCE, slow.stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(total(&String::from_utf8(bytes).unwrap()), ROOMS);
}

#[tokio::test]
async fn the_list_of_rooms_is_not_cut_for_newer_connections() {
    let server = server(|config| {
        operated(config);
        config.limits.max_handshakes = 2;
    });
    let address = server.local_addr();
    let _crowd = crowd(address).await;
    let mut slow = ask_for_rooms(address).await;
    let mut first = [0; 12];
    slow.stream.read_exact(&mut first).await.unwrap();
    // Newer connections without a request end older ones.
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(Raw::connect(address).await);
    }
    until(address, "room_signaling_handshakes_ended_total", |ended| ended >= 4.0).await;
    let rest = slow.read_to_end().await;
    assert_eq!(total(&format!("{}{rest}", String::from_utf8_lossy(&first))), ROOMS);
}

#[tokio::test]
async fn an_operator_that_reads_nothing_does_not_hold_memory_forever() {
    let server = server(|config| {
        operated(config);
        config.limits.stall_timeout = Duration::from_secs(3);
    });
    let address = server.local_addr();
    let _crowd = crowd(address).await;
    let baseline = metric(address, "room_signaling_http_bytes").await;
    let _stalled = ask_for_rooms(address).await;
    until(address, "room_signaling_http_bytes", |bytes| bytes > baseline + 16_000.0).await;
    until(address, "room_signaling_http_bytes", |bytes| bytes <= 2.0 * baseline).await;
}

#[tokio::test]
async fn heads_of_requests_are_in_the_memory_budget_and_the_largest_go_first() {
    let server = server(|config| {
        operated(config);
        config.limits.max_queues = 256 << 10;
        config.limits.head_timeout = Duration::from_mins(1);
    });
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "sender", "r", "sender").await;
    let (mut receiver, _) = Client::join(address, "receiver", "r", "receiver").await;
    sender.message_of("peer_joined").await;
    // Twenty heads of 24 KiB are more than the budget.
    let beginning = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(24 << 10));
    let mut heads = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(address).await;
        raw.write(beginning.as_bytes()).await;
        heads.push(raw);
    }
    // A head that has to go is answered, and the memory of all of them stays within the budget.
    let answer = heads.remove(0).read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("memory"), "{answer}");
    assert!(metric(address, "room_signaling_http_bytes").await <= 262_144.0);
    // Connections that hold little lose nothing.
    sender.send(serde_json::json!({"type": "offer", "sdp": "x".repeat(10_000)})).await;
    receiver.message_of("offer").await;
    sender.ping().await;
    drop(heads);
    until(address, "room_signaling_http_bytes", |bytes| bytes < 20_000.0).await;
}
