//! The log during a flood.

use crate::support::{Client, Program};
use serde_json::json;

#[tokio::test]
async fn a_flood_of_refusals_is_summed_up() {
    let (mut program, address) = Program::start("", &["--drain-seconds", "0"]);
    let mut client = Client::connect(address).await;
    client.send(json!({"type": "register", "client_id": "x", "protocol": 1})).await;
    for _ in 0..400 {
        client.send(json!({"type": "offer", "sdp": ""})).await;
    }
    client.send(json!({"type": "ping"})).await;
    client.message_of("pong").await;
    drop(client);
    program.signal("TERM");
    let line = program.line_with("lines about refusals were omitted");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let refused = program.seen.iter().filter(|line| line.contains("\"refused\"")).count() as u64;
    assert_eq!(line["omitted"].as_u64().unwrap() + refused, 400);
    assert!(refused < 300, "{refused}");
}

/// Behind a proxy that is not in trusted_proxies, all clients share the limits of its address.
#[tokio::test]
async fn a_limit_met_by_a_private_address_hints_at_a_proxy() {
    let folder = crate::support::Folder::new();
    let file = folder.write("c.toml", "[limits]\nmax_connections_per_ip = 1\n");
    let (mut program, address) = Program::start("", &["--config", &file]);
    let _only = Client::connect(address).await;
    for _ in 0..3 {
        crate::support::Raw::connect(address).await.read_to_end().await;
    }
    let line = program.line_with("trusted_proxies");
    assert!(line.contains("WARN") && line.contains("127.0.0.1"), "{line}");
    program.signal("TERM");
    program.line_with("stopped");
    assert_eq!(program.seen.iter().filter(|line| line.contains("trusted_proxies")).count(), 1);
}
