//! Old and new clients meet in rooms.

use crate::support::{Client, Raw, frame, handshake, server};
use serde_json::json;

#[tokio::test]
async fn a_sender_and_a_receiver_introduce_each_other() {
    let server = server(|_| {});
    let address = server.local_addr();
    let (mut sender, joined) = Client::join(address, "camera", "客厅", "sender").await;
    assert_eq!((&joined["room_id"], &joined["peers"]), (&json!("客厅"), &json!([])));
    let (mut receiver, joined) = Client::join(address, "screen", "客厅", "receiver").await;
    assert_eq!(joined["peers"][0]["client_id"], "camera");
    let peer = sender.message().await;
    assert_eq!((&peer["type"], &peer["client_id"]), (&json!("peer_joined"), &json!("screen")));

    let offer =
        json!({"type": "offer", "sdp": "v=0", "target_id": "screen", "session_id": "s1", "extra": [1, 2.50]});
    sender.send(offer.clone()).await;
    let mut relayed = receiver.message().await;
    assert_eq!(relayed["from"].take(), "camera");
    let mut expected = offer;
    expected["from"] = json!(null);
    assert_eq!(relayed, expected);

    receiver.send(json!({"type": "answer", "sdp": "v=1", "target_id": "camera", "from": "somebody"})).await;
    let answer = sender.message().await;
    assert_eq!((&answer["sdp"], &answer["from"]), (&json!("v=1"), &json!("screen")));

    receiver.socket.close(None).await.unwrap();
    let left = sender.message().await;
    assert_eq!((&left["type"], &left["reason"]), (&json!("peer_left"), &json!("disconnected")));
    server.stop().unwrap();
}

#[tokio::test]
async fn old_clients_receive_the_messages_that_they_know() {
    let server = server(|_| {});
    let address = server.local_addr();
    let mut sender = Client::connect(address).await;
    sender.send(json!({"type": "register", "client_id": "old-camera"})).await;
    assert_eq!(sender.message().await["client_id"], "old-camera");
    let mut receiver = Client::connect_to(address, "/ws").await;
    receiver.send(json!({"type": "register", "client_id": "old-screen"})).await;
    assert_eq!(receiver.message().await["type"], "registered");
    // The receiver sends nothing, and is in the default room after a while. The sender's first message takes it there.
    receiver.send(json!({"type": "hello"})).await;
    receiver.ping().await;
    sender.send(json!({"type": "offer", "sdp": "v=0"})).await;
    let offer = receiver.message().await;
    assert_eq!(offer, json!({"type": "offer", "sdp": "v=0", "from": "old-camera"}));
    receiver.send(json!({"type": "answer", "sdp": "v=0", "target_id": "old-camera"})).await;
    let answer = sender.message().await;
    assert_eq!(
        answer,
        json!({"type": "answer", "sdp": "v=0", "target_id": "old-camera", "from": "old-screen"})
    );
}

#[tokio::test]
async fn old_and_new_clients_meet() {
    let server = server(|_| {});
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "camera", "room_default", "sender").await;
    let mut old = Client::connect(address).await;
    old.send(json!({"type": "register", "client_id": "old"})).await;
    assert_eq!(old.message().await["type"], "registered");
    let joined = sender.message().await;
    assert_eq!((&joined["client_id"], &joined["protocol"]), (&json!("old"), &json!(0)));
    sender.send(json!({"type": "offer", "sdp": "v=0", "target_id": "old", "session_id": "s1"})).await;
    assert_eq!(old.message().await["session_id"], "s1");
}

#[tokio::test]
async fn nothing_crosses_rooms() {
    let server = server(|_| {});
    let address = server.local_addr();
    let (mut here, _) = Client::join(address, "a", "here", "sender").await;
    let (mut there, _) = Client::join(address, "b", "there", "receiver").await;
    here.send(json!({"type": "offer", "sdp": "v=0"})).await;
    here.send(json!({"type": "offer", "sdp": "v=0", "target_id": "b"})).await;
    let error = here.message().await;
    assert_eq!((&error["code"], &error["target_id"]), (&json!("target_not_found"), &json!("b")));
    // A relayed message would have arrived before the answer to this one.
    there.ping().await;
}

#[tokio::test]
async fn members_receive_the_ice_servers() {
    let server = server(|config| {
        let ice = json!([{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}]);
        config.hub.ice_servers = serde_json::from_value(ice).unwrap();
    });
    let (_client, joined) = Client::join(server.local_addr(), "a", "r", "receiver").await;
    assert_eq!(joined["ice_servers"][0]["credential"], "c");
}

#[tokio::test]
async fn a_message_sent_together_with_the_request_is_not_lost() {
    let server = server(|_| {});
    let address = server.local_addr();
    let mut raw = Raw::connect(address).await;
    let mut bytes = handshake(address, "/", "").into_bytes();
    bytes.extend(frame(0x81, br#"{"type":"register","client_id":"eager"}"#));
    raw.write(&bytes).await;
    let mut head = [0; 129];
    tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
    assert!(head.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head));
    assert_eq!(raw.message().await["client_id"], "eager");
}
