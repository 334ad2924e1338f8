//! HTTP: pages, refusals, and requests that may or may not open a WebSocket.

use crate::support::{Client, Raw, handshake, server};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The whole response to a request.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut raw = Raw::connect(address).await;
    raw.write(request.as_bytes()).await;
    raw.read_to_end().await
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn the_viewer_is_on_the_same_port() {
    let server = server(|_| {});
    let address = server.local_addr();
    let page = get(address, "/?room=living_room").await;
    assert_eq!(status(&page), 200, "{page}");
    for part in [
        "Content-Type: text/html; charset=utf-8\r\n",
        "Cache-Control: no-cache\r\n",
        "Content-Security-Policy: default-src 'none'; script-src 'self';",
        "connect-src 'self' http: https: ws: wss:;",
        "frame-ancestors 'none'\r\n",
        "X-Content-Type-Options: nosniff\r\n",
        "<script type=\"module\"",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    // The page declares the same policy, except for what works in a header only.
    let header = page
        .split("Content-Security-Policy: ")
        .nth(1)
        .and_then(|rest| rest.split("; frame-ancestors").next());
    assert!(page.contains(&format!("content=\"{}\"", header.unwrap())), "{page}");
    // The scripts of the page exist, with a media type that browsers run.
    let scripts: Vec<_> = page.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let answer = get(address, &format!("/{script}")).await;
        assert_eq!(status(&answer), 200, "{script}");
        assert!(answer.contains("Content-Type: text/javascript; charset=utf-8\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn only_the_files_of_the_page_are_served() {
    let server = server(|_| {});
    for path in
        ["/nothing", "/test/", "/package.json", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/index.html/", "//"]
    {
        let answer = get(server.local_addr(), path).await;
        assert_eq!(status(&answer), 404, "{path}: {answer}");
    }
}

#[tokio::test]
async fn health_is_json() {
    let server = server(|_| {});
    let answer = get(server.local_addr(), "/healthz").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], "ok");
}

#[tokio::test]
async fn head_has_no_body() {
    let server = server(|_| {});
    let address = server.local_addr();
    let answer = ask(address, &format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with("\r\n\r\n") && !answer.contains("Content-Length: 0\r\n"), "{answer}");
}

#[tokio::test]
async fn invalid_requests_are_answered_with_their_status() {
    let server = server(|_| {});
    let address = server.local_addr();
    let host = format!("Host: {address}\r\n");
    let wrong_version = handshake(address, "/", "").replace("Version: 13", "Version: 8");
    for (request, expected) in [
        ("hello\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("GET /ws HTTP/1.1\r\n{host}\r\n"), 426),
        (handshake(address, "/other", ""), 404),
        (wrong_version, 426),
        (handshake(address, "/", "").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (handshake(address, "/", "").replace("keep-alive, Upgrade", "keep-alive"), 400),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(300)), 431),
        (format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(32 << 10)), 431),
        (format!("GET /{}", "x".repeat(33_000)), 431),
    ] {
        let answer = ask(address, &request).await;
        assert_eq!(status(&answer), expected, "{request}\n{answer}");
    }
    assert_eq!(status(&ask(address, "GET /healthz HTTP/1.0\r\n\r\n").await), 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_with_408() {
    let server = server(|config| config.limits.head_timeout = Duration::from_millis(200));
    let began = Instant::now();
    let answer = ask(server.local_addr(), "GET / HTTP/1.1\r\nHo").await;
    assert_eq!(status(&answer), 408);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_head_may_arrive_byte_by_byte() {
    let server = server(|_| {});
    let address = server.local_addr();
    let mut raw = Raw::connect(address).await;
    for byte in handshake(address, "/ws", "").bytes() {
        raw.write(&[byte]).await;
    }
    let (opcode, _) = {
        let mut head = [0; 129];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        raw.write(&crate::support::frame(0x89, b"")).await;
        raw.frame().await
    };
    assert_eq!(opcode, 0xa);
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused() {
    let server = server(|_| {});
    let address = server.local_addr();
    for (request, words) in [
        (handshake("rebound.example:8765", "/", ""), "--allow-host rebound.example"),
        ("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n".to_owned(), "--allow-host rebound.example"),
        (handshake(address, "/", "Origin: https://evil.example\r\n"), "--allow-origin https://evil.example"),
        (handshake(address, "/ws", "Origin: null\r\n"), "--allow-origin null"),
    ] {
        let answer = ask(address, &request).await;
        assert_eq!(status(&answer), 403, "{answer}");
        assert!(answer.contains(words), "{answer}");
    }
}

#[tokio::test]
async fn the_own_origin_and_allowed_ones_may_connect() {
    let server = server(|config| {
        config.allow_hosts = vec!["robot.example".into()];
        config.allow_origins = vec!["https://viewer.example".into()];
    });
    let address = server.local_addr();
    for request in [
        handshake(address, "/", &format!("Origin: http://{address}\r\n")),
        handshake("localhost:1", "/", "Origin: http://localhost:1\r\n"),
        handshake("robot.example", "/", "Origin: https://viewer.example\r\n"),
    ] {
        let mut raw = Raw::connect(address).await;
        raw.write(request.as_bytes()).await;
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101", "{request}");
    }
}

#[tokio::test]
async fn no_websocket_extension_is_accepted() {
    let server = server(|_| {});
    let address = server.local_addr();
    let mut raw = Raw::connect(address).await;
    raw.write(handshake(address, "/", "Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes()).await;
    raw.write(&crate::support::frame(0x88, b"")).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("Extensions"), "{answer}");
}

#[tokio::test]
async fn heads_with_long_cookies_of_single_sign_on_are_accepted() {
    let server = server(|_| {});
    let address = server.local_addr();
    let cookies = format!("Cookie: session={}\r\n", "x".repeat(30_000));
    let headers = (0..200).map(|n| format!("X-Header-{n}: v\r\n")).collect::<Vec<_>>().concat();
    for more in [cookies, headers] {
        let page = ask(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n{more}\r\n")).await;
        assert_eq!(status(&page), 200);
        let mut raw = Raw::connect(address).await;
        raw.write(handshake(address, "/ws", &more).as_bytes()).await;
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
    }
}

#[tokio::test]
async fn a_full_server_refuses_websockets_and_answers_health_checks() {
    let server = server(|config| config.limits.max_connections = 2);
    let address = server.local_addr();
    let (_first, second) = (Client::connect(address).await, Client::connect(address).await);
    let answer = ask(address, &handshake(address, "/", "")).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("Retry-After"), "{answer}");
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(status(&get(address, path).await), 200, "{path}");
    }
    drop(second);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !upgrades(address).await {
        assert!(Instant::now() < deadline, "a seat should have become free");
    }
}

/// Whether a request opens a WebSocket.
async fn upgrades(address: SocketAddr) -> bool {
    let mut raw = Raw::connect(address).await;
    raw.write(handshake(address, "/", "").as_bytes()).await;
    let mut head = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
    &head == b"HTTP/1.1 101"
}

/// The spare seats are limited. When silent connections occupy all of them, the next connection is rejected.
#[tokio::test]
async fn a_full_server_limits_requests_too() {
    let server = server(|config| {
        config.limits.max_connections = 1;
        config.limits.head_timeout = Duration::from_mins(1);
    });
    let address = server.local_addr();
    let _only = Client::connect(address).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(Raw::connect(address).await);
    }
    let mut next = Raw::connect(address).await;
    assert_eq!(status(&next.read_to_end().await), 503);
    drop(silent);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while status(&get(address, "/healthz").await) != 200 {
        assert!(Instant::now() < deadline, "a seat should have become free");
    }
}

#[tokio::test]
async fn a_page_can_ask_why_its_websocket_was_refused() {
    let server = server(|config| config.allow_origins = vec!["https://viewer.example".into()]);
    let address = server.local_addr();
    for (path, expected, words) in [
        ("/ws?origin=https://evil.example", 403, "--allow-origin https://evil.example"),
        ("/ws?origin=null", 403, "--allow-origin null"),
        ("/ws?origin=https://viewer.example", 426, "WebSockets only"),
        ("/ws?other=1", 426, "WebSockets only"),
        ("/ws", 426, "WebSockets only"),
    ] {
        let answer = get(address, path).await;
        assert_eq!(status(&answer), expected, "{path}: {answer}");
        assert!(answer.contains(words) && answer.contains("Access-Control-Allow-Origin: *\r\n"), "{answer}");
    }
    // Pages of other origins can read nothing else.
    assert!(!get(address, "/healthz").await.contains("Access-Control"));
}

#[tokio::test]
async fn all_routes_work_below_a_path_that_a_proxy_keeps() {
    let server = server(|config| config.base_path = "/cameras/rooms".into());
    let address = server.local_addr();
    for (path, expected) in [
        ("/cameras/rooms/", 200),
        ("/cameras/rooms/?room=a", 200),
        ("/cameras/rooms/main.js", 200),
        ("/cameras/rooms/healthz", 200),
        ("/cameras/rooms/ws", 426),
        ("/cameras/rooms", 308),
        ("/cameras/roomsy/", 404),
        ("/cameras/", 404),
        ("/cameras/rooms/cameras/rooms/", 404),
        // Health checks on the machine itself do not use the path.
        ("/healthz", 200),
    ] {
        let answer = get(address, path).await;
        assert_eq!(status(&answer), expected, "{path}: {answer}");
    }
    let answer = get(address, "/cameras/rooms?room=%E5%AE%A2").await;
    assert!(answer.contains("\r\nLocation: /cameras/rooms/?room=%E5%AE%A2\r\n"), "{answer}");
    for path in ["/cameras/rooms/ws", "/cameras/rooms/", "/cameras/rooms"] {
        let mut raw = Raw::connect(address).await;
        raw.write(handshake(address, path, "").as_bytes()).await;
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101", "{path}");
    }
}

#[tokio::test]
async fn the_server_listens_on_several_addresses() {
    let server = server(|config| {
        config.listen =
            ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(|listen| listen.parse().unwrap()).into();
    });
    let addresses = server.local_addrs();
    assert_eq!(addresses.len(), 3);
    let (mut first, _) = Client::join(addresses[0], "a", "r", "sender").await;
    for (address, id) in addresses.iter().zip(["a", "b", "c"]).skip(1) {
        let (_client, joined) = Client::join(*address, id, "r", "receiver").await;
        assert_eq!(joined["peers"][0]["client_id"], "a", "{address}");
        first.message_of("peer_joined").await;
    }
}

#[tokio::test]
async fn a_url_with_a_room_admits_to_that_room_only() {
    let server = server(|_| {});
    let address = server.local_addr();
    let mut client = Client::connect_to(address, "/ws?x=y&room=lab%201").await;
    client.send(json!({"type": "register", "client_id": "a", "protocol": 1})).await;
    assert_eq!(client.message().await["type"], "registered");
    client.send(json!({"type": "join", "room_id": "another"})).await;
    assert_eq!(client.message().await["code"], "forbidden");
    client.send(json!({"type": "join", "room_id": "lab 1"})).await;
    assert_eq!(client.message().await["type"], "joined");

    let mut raw = Raw::connect(address).await;
    raw.write(handshake(address, "/?room=%20lab", "").as_bytes()).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("white space"), "{answer}");
}
