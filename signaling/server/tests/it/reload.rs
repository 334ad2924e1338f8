//! Reloads of the configuration.

use crate::support::{Client, knows_host, server};
use room_signaling_server::Config;
use serde_json::json;

/// A configuration like that of `server`, with a change.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
    change(&mut config);
    config
}

#[tokio::test]
async fn a_reload_keeps_connections_and_applies_immediately() {
    let server = server(|_| {});
    let address = server.local_addr();
    let (mut client, _) = Client::join(address, "a", "r", "sender").await;
    assert!(!knows_host(address, "robot.example").await);
    server.reload(config(|config| {
        config.allow_hosts = vec!["robot.example".into()];
        config.limits.max_message = 1_000;
    }));
    assert!(knows_host(address, "robot.example").await);
    client.ping().await;
    client.send(json!({"type": "ping", "filling": "x".repeat(1_000)})).await;
    assert_eq!(client.close_code().await, 1009);
}
