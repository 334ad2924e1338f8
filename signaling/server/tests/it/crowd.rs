//! Many connections at the same time.

use crate::support::{Client, raise_file_limit, server, unhurried};
use serde_json::json;

#[tokio::test]
async fn two_thousand_connections_at_once() {
    const COUNT: usize = 2_000;
    raise_file_limit();
    let server = server(unhurried);
    let address = server.local_addr();
    let joining: Vec<_> = (0..COUNT)
        .map(|n| {
            let role = if n % 4 == 0 { "sender" } else { "receiver" };
            tokio::spawn(async move {
                Client::join(address, &format!("c{n}"), &format!("room{}", n / 4), role).await.0
            })
        })
        .collect();
    let mut clients = Vec::new();
    for client in joining {
        clients.push(client.await.unwrap());
    }
    // All are connected at the same time, and every room works.
    for room in clients.chunks_mut(4) {
        let [sender, receivers @ ..] = room else { panic!("rooms of four") };
        sender.send(json!({"type": "offer", "sdp": "v=0"})).await;
        for receiver in receivers {
            receiver.message_of("offer").await;
        }
    }
}
