//! The client over real sockets: connecting, reconnecting, giving up and shutting down.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use room_signaling_client::{
    Event, GoneReason, Media, State, TokenSource,
    wire::{Body, ErrorCode, Signal},
};
use serde_json::{Value, json};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

fn viewer() -> Value {
    json!({"client_id": "viewer", "role": "receiver", "protocol": 1, "epoch": "aa"})
}

fn offer(sdp: impl Into<String>) -> Signal {
    Signal {
        body: Body::Offer { sdp: sdp.into() },
        target_id: Some(id("viewer")),
        session_id: Some(room_signaling_client::protocol::SessionId::new("s1").unwrap()),
        from: None,
    }
}

#[tokio::test]
async fn comes_in_and_talks() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let (mut connection, register) = server.accept_into_room(&[viewer()]).await;
    assert_eq!(register["client_id"], "me");
    assert_eq!(register["protocol"], 1);
    assert_eq!(register["instance"].as_str().unwrap().len(), 32);

    assert_eq!(client.event().await, Event::State(State::Connecting));
    assert_eq!(client.event().await, Event::State(State::Joined));
    assert_eq!(client.event().await, Event::Joined { client_id: id("me"), ice_servers: vec![] });
    assert_eq!(client.event().await, Event::PeerReady(serde_json::from_value(viewer()).unwrap()));

    client.handle.send(offer("v=0"));
    let offered = json!({"type": "offer", "sdp": "v=0", "target_id": "viewer", "session_id": "s1"});
    assert_eq!(connection.hear().await, offered);
    connection.say(json!({"type": "answer", "sdp": "v=0", "from": "viewer", "session_id": "s1"})).await;
    let answer = Signal {
        body: Body::Answer { sdp: "v=0".to_owned() },
        target_id: None,
        from: Some(id("viewer")),
        ..offer("")
    };
    assert_eq!(client.event().await, Event::Signal(answer));
    assert_eq!(client.events.try_recv(), None);

    connection.send(Message::Ping("are you there".into())).await;
    assert_eq!(connection.next().await, Some(Message::Pong("are you there".into())));
    connection.send(Message::Binary(vec![1, 2].into())).await;
    connection.send(Message::Ping("still".into())).await;
    assert_eq!(connection.next().await, Some(Message::Pong("still".into())));
}

#[tokio::test]
async fn media_continues_over_a_reset_connection() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let (connection, first) = server.accept_into_room(&[viewer()]).await;
    client.until(State::Joined).await;
    client.handle.media(&id("viewer"), None, Media::Connected);
    drop(connection);
    let (_connection, second) = server.accept_into_room(&[viewer()]).await;
    assert_eq!(first, second, "the same process under the same id");
    let reported = client.until(State::Joined).await;
    let gone = Event::PeerGone(id("viewer"), GoneReason::Restart);
    assert!(
        !reported.contains(&gone) && reported.contains(&Event::State(State::Reconnecting)),
        "{reported:?}"
    );
    assert_eq!(client.event().await, Event::Joined { client_id: id("me"), ice_servers: vec![] });
    assert_eq!(client.events.try_recv(), None);
}

#[tokio::test]
async fn a_server_that_starts_late_or_restarts_is_found() {
    let server = Server::start().await;
    let (address, uri) = (server.address(), server.uri());
    drop(server);
    let mut client = Client::new(options(uri));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..2 {
        let server = Server::start_at(address).await;
        let (connection, _) = server.accept_into_room(&[]).await;
        client.until(State::Joined).await;
        drop(server);
        drop(connection);
        client.until(State::Reconnecting).await;
    }
}

#[tokio::test]
async fn shutdown_sends_bye_and_leave_and_closes() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let (mut connection, _) = server.accept_into_room(&[viewer()]).await;
    client.until(State::Joined).await;
    client.handle.send(offer("v=0"));
    client.handle.shutdown();
    assert_eq!(connection.hear().await["type"], "offer");
    let bye = json!({"type": "bye", "target_id": "viewer", "session_id": "s1"});
    assert_eq!(connection.hear().await, bye);
    assert_eq!(connection.hear().await, json!({"type": "leave"}));
    assert_eq!(connection.next().await, Some(Message::Close(None)));
    assert_eq!(connection.next().await, None);
    client.until(State::Closed).await;
    assert_eq!(soon("the end", client.events.recv()).await, None);
    client.handle.send(offer("nobody listens"));
    assert_eq!(client.events.recv().await, None);
}

#[tokio::test]
async fn dropping_the_last_handle_is_a_shutdown() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let (mut connection, _) = server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    let other = client.handle.clone();
    drop(client.handle);
    other.send(offer("still here"));
    assert_eq!(connection.hear().await["sdp"], "still here");
    drop(other);
    assert_eq!(connection.hear().await["type"], "leave");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_an_unresponsive_server() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let _never_upgraded = server.accept_tcp().await;
    let asked = Instant::now();
    client.handle.shutdown();
    client.until(State::Closed).await;
    assert_eq!(soon("the end", client.events.recv()).await, None);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());

    let mut client = Client::new(options(server.uri()));
    let (_never_read, _) = server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    for _ in 0..200 {
        client.handle.send(offer("x".repeat(60_000)));
    }
    let asked = Instant::now();
    client.handle.shutdown();
    client.until(State::Closed).await;
    assert_eq!(soon("the end", client.events.recv()).await, None);
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_server_that_does_not_read_is_still_heard() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let (mut connection, _) = server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    client.event().await;
    for _ in 0..200 {
        client.handle.send(offer("x".repeat(60_000)));
    }
    connection
        .say({
            let mut joined = viewer();
            joined["type"] = "peer_joined".into();
            joined
        })
        .await;
    assert_eq!(client.event().await, Event::PeerReady(serde_json::from_value(viewer()).unwrap()));
    for _ in 0..200 {
        assert_eq!(connection.hear().await["type"], "offer");
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_stays_silent_is_retried() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let asked = Instant::now();
    let _never_upgraded = server.accept_tcp().await;
    server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    assert!(asked.elapsed() >= room_signaling_client::CONNECT_TIMEOUT);
}

#[tokio::test]
async fn close_codes_arrive() {
    let server = Server::start().await;
    let client = Client::new(options(server.uri()));
    let (mut connection, _) = server.accept_into_room(&[]).await;
    connection.close(4002).await;
    match connection.next().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::from(4002)),
        other => panic!("{other:?}"),
    }
    let expected = client.failure().await;
    assert!(expected.contains("\"me\" is in use by another process"), "{expected}");
}

#[tokio::test]
async fn a_refusal_names_its_code() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let mut connection = server.accept().await;
    connection.hear().await;
    connection.say(json!({"type": "error", "code": "unauthorized", "message": "the token expired"})).await;
    let reported = client.until(State::Closed).await;
    let Some(Event::Failed(failure)) = reported.last() else { panic!("{reported:?}") };
    assert_eq!(failure.code, Some(ErrorCode::Unauthorized));
    assert!(failure.message.contains("the token expired"), "{failure}");
}

/// Answers the next upgrade request with this status.
async fn answer(server: &Server, status: &str) {
    let mut tcp = server.accept_tcp().await;
    let mut request = [0; 4096];
    let read = tcp.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    assert!(request.contains(&format!("Host: {}\r\n", server.address())), "{request}");
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    tcp.write_all(response.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_proxy_without_its_server_is_tried_again() {
    let server = Server::start().await;
    let mut client = Client::new(options(server.uri()));
    let port = server.address().port().to_string();
    for status in ["502 Bad Gateway", "503 Service Unavailable", "404 Not Found", "429 Too Many Requests"] {
        answer(&server, status).await;
        let reason = client.reason().await;
        assert!(reason.contains(&status[..3]) && reason.contains(&port), "{reason}");
    }
    server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
}

#[tokio::test]
async fn a_server_of_another_kind_is_a_failure() {
    for status in ["403 Forbidden", "301 Moved Permanently", "200 OK"] {
        let server = Server::start().await;
        let client = Client::new(options(server.uri()));
        answer(&server, status).await;
        let expected = client.failure().await;
        assert!(expected.contains("is no signaling server") && expected.contains(&status[..3]), "{expected}");
    }
}

#[tokio::test]
async fn the_upgrade_request_names_the_room_and_keeps_the_query() {
    let server = Server::start().await;
    let _client = Client::new(options(format!("ws://{}/ws?key=1", server.address())));
    let mut tcp = server.accept_tcp().await;
    let mut request = [0; 4096];
    let read = tcp.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    assert!(request.starts_with("GET /ws?key=1&room=living_room HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_server_that_can_not_be_reached_is_reported_with_its_address_and_the_cause() {
    // The port is free again after this.
    let address = Server::start().await.address();
    let reason = Client::new(options(format!("ws://{address}"))).reason().await;
    assert!(reason.contains("127.0.0.1") && reason.contains(&address.port().to_string()), "{reason}");
    assert!(reason.contains("refused"), "{reason}");
    let reason = Client::new(options("ws://no-such-host.invalid")).reason().await;
    assert!(reason.contains("no-such-host.invalid") && reason.contains("resolved"), "{reason}");
}

#[tokio::test]
async fn ipv6_addresses_work() {
    let server = Server::start_at("[::1]:0".parse().unwrap()).await;
    let mut client = Client::new(options(server.uri()));
    server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
}

#[tokio::test]
async fn a_name_with_one_deaf_address_works() {
    // "localhost" may be ::1 and 127.0.0.1. The server listens on one of them only.
    let server = Server::start().await;
    let mut client = Client::new(options(format!("ws://localhost:{}", server.address().port())));
    server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
}

/// Provides no token at first, then "token 1", "token 2" and so on.
#[derive(Debug, Default)]
struct Tokens(AtomicUsize);

impl TokenSource for Tokens {
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(
            async move { if number == 0 { Err("not yet".into()) } else { Ok(format!("token {number}")) } },
        )
    }
}

#[tokio::test]
async fn each_connection_has_a_fresh_token_of_its_source() {
    let server = Server::start().await;
    let mut options = options(server.uri());
    options.token_source = Some(Arc::new(Tokens::default()));
    let mut client = Client::new(options);
    let (mut connection, register) = server.accept_into_room(&[]).await;
    assert_eq!(register["token"], "token 1");
    client.until(State::Joined).await;
    client.handle.set_token("token 1b");
    assert_eq!(connection.hear().await["token"], "token 1b");
    connection.say(json!({"type": "error", "code": "unauthorized", "message": "the token expired"})).await;
    connection.close(4010).await;
    let (_connection, register) = server.accept_into_room(&[]).await;
    assert_eq!(register["token"], "token 2");
    client.until(State::Joined).await;
}
