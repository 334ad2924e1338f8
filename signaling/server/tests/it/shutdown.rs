//! The shutdown of a server.

use crate::support::{Client, PATIENCE, Raw, server};
use room_signaling_server::{Config, spawn_thread};
use serde_json::json;
use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_shutdown_is_announced_then_closes_with_1012() {
    let server = server(|config| {
        config.drain = Duration::from_millis(300);
        config.retry_after = Duration::from_millis(700);
    });
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "a", "r", "sender").await;
    let (mut receiver, _) = Client::join(address, "b", "r", "receiver").await;
    let began = Instant::now();
    let stopping = tokio::task::spawn_blocking(|| server.stop());
    assert_eq!(receiver.message().await, json!({"type": "draining", "retry_after_ms": 700}));
    // Meanwhile, members still exchange messages, and new connections are rejected.
    sender.send(json!({"type": "offer", "sdp": "v=0"})).await;
    assert_eq!(receiver.message().await["type"], "offer");
    let mut newcomer = crate::support::Raw::connect(address).await;
    newcomer.write(crate::support::handshake(address, "/", "").as_bytes()).await;
    assert!(newcomer.read_to_end().await.starts_with("HTTP/1.1 503 "));
    assert_eq!(receiver.close_code().await, 1012);
    assert_eq!(sender.close_code().await, 1012);
    assert!(began.elapsed() >= Duration::from_millis(300));
    drop((sender, receiver));
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_frees_the_port() {
    let running = server(|_| {});
    let address = running.local_addr();
    let mut client = Client::connect(address).await;
    running.stop().unwrap();
    assert_eq!(client.close_code().await, 1012);
    TcpListener::bind(address).unwrap();
    let again = spawn_thread(Config { listen: vec![address], ..Config::default() }).unwrap();
    assert_eq!(again.local_addr(), address);
    drop(again);
    TcpListener::bind(address).unwrap();
}

#[test]
fn a_server_without_connections_stops_immediately() {
    let server = server(|config| config.drain = 6 * PATIENCE);
    let began = Instant::now();
    server.stop().unwrap();
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_delay_the_shutdown() {
    let server = server(|_| {});
    let _silent = Raw::upgraded(server.local_addr()).await;
    let began = Instant::now();
    server.stop().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_port_in_use_is_an_error() {
    let running = server(|_| {});
    let error = spawn_thread(Config { listen: vec![running.local_addr()], ..Config::default() }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
