//! Access for operators: on a separate address, and with a token from a file.

use crate::support::{Client, Program, Raw, get, handshake};
use serde_json::Value;
use std::net::SocketAddr;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_draining_server_is_not_ready_and_accepts_no_client() {
    let (mut program, address) = Program::start("", &["--drain-seconds", "60"]);
    assert!(get(address, "/readyz", "").await.0.starts_with("HTTP/1.1 200 "));
    let (mut client, _) = Client::join(address, "a", "r", "receiver").await;
    program.signal("TERM");
    assert_eq!(client.message().await["type"], "draining");
    let (head, body) = get(address, "/readyz", "").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("draining"), "{head}\n{body}");
    assert!(get(address, "/healthz", "").await.0.starts_with("HTTP/1.1 200 "));
    let mut raw = Raw::connect(address).await;
    raw.write(handshake(address, "/", "").as_bytes()).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    drop(client);
    assert_eq!(program.end().code(), Some(0));
}

#[tokio::test]
async fn the_operators_address_needs_no_token_and_serves_no_clients() {
    let (mut program, address) = Program::start("", &["--metrics-listen", "127.0.0.1:0"]);
    let line: Value = serde_json::from_str(&program.line_with("answering operators")).unwrap();
    let operators: SocketAddr = line["listen"].as_str().unwrap().parse().unwrap();
    let (_client, _) = Client::join(address, "a", "r", "receiver").await;
    let (_, text) = get(operators, "/metrics", "").await;
    assert!(text.contains("\nroom_signaling_members{role=\"receiver\"} 1\n"), "{text}");
    assert!(get(operators, "/api/rooms", "").await.1.contains("\"total\":1"));
    assert!(get(operators, "/readyz", "").await.0.starts_with("HTTP/1.1 200 "));
    for (path, headers) in [("/", ""), ("/ws", ""), ("/main.js", ""), ("/", "Upgrade: websocket\r\n")] {
        let (head, _) = get(operators, path, headers).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
    // A page whose host name was rebound to this address can't read it.
    let mut raw = Raw::connect(operators).await;
    raw.write(b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 403 "));
    assert!(get(address, "/metrics", "").await.0.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn the_token_is_read_from_a_file() {
    let folder = std::env::temp_dir().join(format!("room-signaling-admin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, weak) = (folder.join("token"), folder.join("weak"));
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    std::fs::write(&weak, "secret").unwrap();
    let (program, address) = Program::start("", &["--admin-token-file", file.to_str().unwrap()]);
    let (head, _) = get(address, "/metrics", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    drop(program);
    let mut refused = Program::spawn("", &["--admin-token-file", weak.to_str().unwrap()]);
    assert_eq!(refused.end().code(), Some(1));
    let said = refused.seen.join("\n");
    assert!(said.contains("admin.token_file") && said.contains("openssl rand") && !said.contains("secret"));
    std::fs::remove_dir_all(folder).unwrap();
}
