//! Invalid frames, and unusual ones that are valid.

use crate::support::{Client, Raw, frame, server, unmasked};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

const REGISTER: &[u8] = br#"{"type":"register","client_id":"x","protocol":1}"#;
const PING: &[u8] = br#"{"type":"ping"}"#;

/// A WebSocket that has registered.
async fn registered(address: std::net::SocketAddr) -> Raw {
    let mut raw = Raw::upgraded(address).await;
    raw.write(&frame(0x81, REGISTER)).await;
    assert_eq!(raw.message().await["type"], "registered");
    raw
}

#[tokio::test]
async fn an_invalid_message_is_refused_and_the_connection_stays() {
    let server = server(|_| {});
    let mut raw = registered(server.local_addr()).await;
    let long_number = format!(r#"{{"type":"x","n":{}}}"#, "1".repeat(5000));
    let deep = format!(r#"{{"type":"x","n":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    for text in ["{oops", "[]", "null", "", "{}", r#"{"type":1}"#, &long_number, &deep] {
        raw.write(&frame(0x81, text.as_bytes())).await;
        let error = raw.message().await;
        assert_eq!(error["code"], "bad_message", "{error}");
        // A valid message in between resets the count of invalid ones in a row.
        raw.write(&frame(0x81, PING)).await;
        assert_eq!(raw.message().await["type"], "pong");
    }
    raw.write(&frame(0x82, b"binary")).await;
    assert_eq!(raw.message().await["code"], "bad_message");
    raw.write(&frame(0x81, PING)).await;
    assert_eq!(raw.message().await["type"], "pong");
}

#[tokio::test]
async fn ten_bad_messages_in_a_row_close_the_connection() {
    let server = server(|_| {});
    let mut client = Client::connect(server.local_addr()).await;
    client.send_text(String::from_utf8_lossy(REGISTER)).await;
    for _ in 0..10 {
        client.send_text("{oops").await;
    }
    assert_eq!(client.close_code().await, 4003);
}

#[tokio::test]
async fn a_message_may_arrive_in_fragments() {
    let server = server(|_| {});
    let mut raw = Raw::upgraded(server.local_addr()).await;
    // Three fragments with a ping between them, cut in the middle of a character.
    let text = r#"{"type":"register","client_id":"客厅","protocol":1}"#.as_bytes();
    let mut bytes = frame(0x01, &text[..32]);
    bytes.extend(frame(0x89, b"?"));
    bytes.extend(frame(0x00, &text[32..40]));
    bytes.extend(frame(0x80, &text[40..]));
    for byte in bytes {
        raw.write(&[byte]).await;
    }
    assert_eq!(raw.frame().await, (0xa, b"?".to_vec()));
    assert_eq!(raw.message().await["client_id"], "客厅");
}

#[tokio::test]
async fn buffers_that_grew_and_shrank_lose_nothing() {
    let server = server(|_| {});
    let mut raw = registered(server.local_addr()).await;
    for length in [100, 511, 512, 513, 5_000, 64_000, 10] {
        let padding = "x".repeat(length);
        let ping = format!(r#"{{"type":"ping","padding":"{padding}"}}"#);
        // In one frame, then in two fragments with a pause inside the second frame's header.
        let (first, second) = ping.as_bytes().split_at(ping.len() / 2);
        let mut fragments = frame(0x01, first);
        let inside = fragments.len() + 1;
        fragments.extend(frame(0x80, second));
        raw.write(&frame(0x81, ping.as_bytes())).await;
        assert_eq!(raw.message().await["padding"], *padding);
        raw.write(&fragments[..inside]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        raw.write(&fragments[inside..]).await;
        assert_eq!(raw.message().await["padding"], *padding);
    }
}

#[tokio::test]
async fn unmasked_frames_are_accepted() {
    let server = server(|_| {});
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&unmasked(0x8a, b"")).await;
    raw.write(&unmasked(0x81, REGISTER)).await;
    assert_eq!(raw.message().await["client_id"], "x");
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_with_1009() {
    let server = server(|_| {});
    for pieces in
        [vec![frame(0x81, &[b' '; 65_537])], vec![frame(0x01, &[b' '; 40_000]), frame(0x80, &[b' '; 40_000])]]
    {
        let mut raw = registered(server.local_addr()).await;
        raw.write(&pieces.concat()).await;
        assert_eq!(raw.close_code().await, 1009);
        assert_eq!(raw.read_to_end().await, "");
    }
    // A header that announces more bytes than memory holds.
    let mut raw = registered(server.local_addr()).await;
    raw.write(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await;
    assert_eq!(raw.close_code().await, 1009);
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_accepted() {
    let server = server(|_| {});
    let mut raw = registered(server.local_addr()).await;
    let frame_of = |length: usize| {
        let rest = length - r#"{"type":"ping","p":""}"#.len();
        frame(0x81, format!(r#"{{"type":"ping","p":"{}"}}"#, "x".repeat(rest)).as_bytes())
    };
    raw.write(&frame_of(65_536)).await;
    assert_eq!(raw.message().await["type"], "pong");
}

#[tokio::test]
async fn text_that_is_no_utf8_fails_the_connection() {
    let server = server(|_| {});
    let invalid = [b"{\"type\":\"".as_slice(), &[0xc3, 0x28], b"\"}"].concat();
    for bytes in [frame(0x81, &invalid), [frame(0x01, &invalid[..10]), frame(0x80, &invalid[10..])].concat()]
    {
        let mut raw = registered(server.local_addr()).await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, 1007);
    }
}

#[tokio::test]
async fn what_breaks_the_websocket_protocol_is_answered_with_1002() {
    let server = server(|_| {});
    let cases = [
        ("reserved bit", frame(0xc1, PING)),
        ("reserved opcode", frame(0x83, PING)),
        ("fragmented ping", frame(0x09, b"")),
        ("long ping", frame(0x89, &[0; 126])),
        ("continuation of nothing", frame(0x80, PING)),
    ];
    for (what, bytes) in cases {
        let mut raw = registered(server.local_addr()).await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, 1002, "{what}");
    }
}

#[tokio::test]
async fn a_close_frame_is_answered_with_the_same_code() {
    let server = server(|_| {});
    let mut raw = registered(server.local_addr()).await;
    raw.write(&frame(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(raw.close_code().await, 1000);
    assert_eq!(raw.read_to_end().await, "");
}

/// A socket that is closed with unread input, or receives more afterwards, sends a reset. That discards whatever the other
/// side has not read yet.
#[tokio::test]
async fn the_close_code_arrives_although_the_peer_reads_late_and_keeps_sending() {
    let server = server(|_| {});
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut raw = Raw::upgrade(socket.connect(server.local_addr()).await.unwrap()).await;
    raw.write(&frame(0x81, REGISTER)).await;
    let echoed = format!(r#"{{"type":"ping","p":"{}"}}"#, "x".repeat(60_000));
    raw.write(&frame(0x81, echoed.as_bytes()).repeat(5)).await;
    raw.write(&frame(0x81, b"{oops").repeat(10)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        raw.write(&frame(0x81, &[b' '; 1000])).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(raw.message().await["type"], "registered");
    for _ in 0..5 {
        assert_eq!(raw.message().await["type"], "pong");
    }
    for _ in 0..10 {
        assert_eq!(raw.message().await["code"], "bad_message");
    }
    assert_eq!(raw.close_code().await, 4003);
}

#[tokio::test]
async fn a_client_that_never_registers_is_closed() {
    let server = server(|config| config.hub.register_timeout = Duration::from_millis(100));
    let mut client = Client::connect(server.local_addr()).await;
    assert_eq!(client.message().await["code"], json!("not_registered"));
    assert_eq!(client.close_code().await, 4000);
}
