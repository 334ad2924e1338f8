//! Clients behind a balancer of TCP connections, which names them by the PROXY protocol.

use crate::support::{Client, Raw, handshake, server};
use room_signaling_server::{Config, TrustedProxy};
use std::net::SocketAddr;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x9c\x40\x01\xbb";

fn behind_a_balancer(config: &mut Config) {
    config.proxy_protocol = true;
    config.trusted_proxies = vec!["127.0.0.1".parse::<TrustedProxy>().unwrap()];
    config.limits.max_connections_per_ip = 1;
}

/// What a request gets that comes behind these bytes; empty: the connection ends without an answer.
async fn ask(address: SocketAddr, header: &[u8]) -> String {
    let mut raw = Raw::connect(address).await;
    raw.write(header).await;
    raw.write(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    let mut answer = String::new();
    // A connection that is dropped with a request in it ends in a reset.
    let read = tokio::io::AsyncReadExt::read_to_string(&mut raw.stream, &mut answer);
    let _ = tokio::time::timeout(crate::support::PATIENCE, read).await.expect("an end should have come");
    answer
}

#[tokio::test]
async fn limits_are_about_the_clients_that_the_balancer_names() {
    let server = server(behind_a_balancer);
    let address = server.local_addr();
    let mut held = Vec::new();
    for header in
        [b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", b"PROXY TCP4 192.0.2.8 10.0.0.1 40000 443\r\n"]
    {
        let mut raw = Raw::connect(address).await;
        raw.write(header).await;
        raw.write(handshake(address, "/ws", "").as_bytes()).await;
        let mut status = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        held.push(raw);
    }
    // 192.0.2.7 again, in binary.
    assert!(ask(address, V2).await.starts_with("HTTP/1.1 429 "));
    drop(held);
}

#[tokio::test]
async fn a_trusted_proxy_must_send_the_header() {
    let server = server(behind_a_balancer);
    let address = server.local_addr();
    assert_eq!(ask(address, b"").await, "");
    assert_eq!(ask(address, b"PROXY TCP4 nobody\r\n").await, "");
    // A health check of the balancer's own.
    assert!(ask(address, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let server = server(|config| {
        behind_a_balancer(config);
        config.trusted_proxies = vec!["192.0.2.1".parse().unwrap()];
        config.limits.max_connections_per_ip = 10;
    });
    let address = server.local_addr();
    assert!(ask(address, b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(ask(address, b"").await.starts_with("HTTP/1.1 200 "));
    // Nor is it anybody's unless it is switched on.
    let plain = crate::support::server(|_| {});
    assert!(ask(plain.local_addr(), V2).await.starts_with("HTTP/1.1 400 "));
    drop(Client::connect(address).await);
}
