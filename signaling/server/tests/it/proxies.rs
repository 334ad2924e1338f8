//! Clients behind a TCP load balancer, which names them by the PROXY protocol.

use crate::support::{Client, Raw, handshake, server};
use room_signaling_server::{Config, TrustedProxy};
use std::net::SocketAddr;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x9c\x40\x01\xbb";

fn behind_a_balancer(config: &mut Config) {
    config.proxy_protocol = true;
    config.trusted_proxies = vec!["127.0.0.1".parse::<TrustedProxy>().unwrap()];
    config.limits.max_connections_per_ip = 1;
}

/// The response to a request after these bytes. It is empty if the connection ends without a response.
async fn ask(address: SocketAddr, header: &[u8]) -> String {
    let mut raw = Raw::connect(address).await;
    raw.write(header).await;
    raw.write(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    let mut answer = String::new();
    // A connection that is dropped with an unread request ends with a reset.
    let read = tokio::io::AsyncReadExt::read_to_string(&mut raw.stream, &mut answer);
    let _ = tokio::time::timeout(crate::support::PATIENCE, read).await.expect("an end should have come");
    answer
}

#[tokio::test]
async fn limits_apply_to_the_clients_in_proxy_headers() {
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
    // A health check by the load balancer itself.
    assert!(ask(address, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_proxy_header_from_another_address_is_not_accepted() {
    let server = server(|config| {
        behind_a_balancer(config);
        config.trusted_proxies = vec!["192.0.2.1".parse().unwrap()];
        config.limits.max_connections_per_ip = 10;
    });
    let address = server.local_addr();
    assert!(ask(address, b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(ask(address, b"").await.starts_with("HTTP/1.1 200 "));
    // Without the setting, no address may send the header.
    let plain = crate::support::server(|_| {});
    assert!(ask(plain.local_addr(), V2).await.starts_with("HTTP/1.1 400 "));
    drop(Client::connect(address).await);
}
