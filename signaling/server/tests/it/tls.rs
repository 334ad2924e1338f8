//! TLS: the only way in if it is configured; certificates that are renewed without closing connections.

use crate::support::{Authority, Client, Folder, PATIENCE, Raw, certificate, server};
use room_signaling_server::{Config, Tls};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn clients_exchange_messages_over_tls() {
    let authority = Authority::new();
    let server = server(|config| config.tls = Some(authority.make().tls()));
    let mut sender = authority.client(server.local_addr()).await;
    let mut receiver = authority.client(server.local_addr()).await;
    sender.enter("a", "r", "sender").await;
    receiver.enter("b", "r", "receiver").await;
    // More than a TLS record holds, and than the session buffers.
    let sdp = "x".repeat(50_000);
    for _ in 0..20 {
        sender.send(json!({"type": "offer", "sdp": sdp})).await;
    }
    for _ in 0..20 {
        assert_eq!(receiver.message_of("offer").await["sdp"], sdp);
    }
    let stopping = tokio::task::spawn_blocking(|| server.stop());
    assert_eq!(receiver.close_code().await, 1012);
    drop((sender, receiver));
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_tls_server_refuses_plain_http_with_an_explanation() {
    let server = server(|config| config.tls = Some(Authority::new().make().tls()));
    let address = server.local_addr();
    let mut raw = Raw::connect(address).await;
    raw.write(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    // A client that does not trust the certificate ends the handshake, which affects no other.
    assert!(Authority::new().connect(address).await.is_err());
}

#[tokio::test]
async fn a_tls_handshake_has_the_time_limit_of_a_request() {
    let server = server(|config| {
        config.tls = Some(Authority::new().make().tls());
        config.limits.head_timeout = Duration::from_millis(200);
    });
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let began = Instant::now();
        let mut raw = Raw::connect(server.local_addr()).await;
        raw.write(beginning).await;
        assert_eq!(raw.read_to_end().await, "");
        assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_reload_keeps_connections_and_uses_the_new_certificate_for_new_ones() {
    let authority = Authority::new();
    let (old, new) = (authority.make(), authority.make());
    let server = server(|config| config.tls = Some(old.tls()));
    let mut first = authority.client(server.local_addr()).await;
    first.enter("a", "r", "sender").await;
    server.reload(Config { tls: Some(new.tls()), ..Config::default() });
    let second = authority.client(server.local_addr()).await;
    assert_eq!((certificate(&first), certificate(&second)), (old.der(), new.der()));
    first.ping().await;
}

/// Keys as `openssl genpkey`, `ecparam` and `genrsa` write them.
#[test]
fn keys_of_all_common_kinds_are_accepted() {
    let folder = Folder::new();
    for (name, make) in [
        ("PKCS#8, P-256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("SEC1, P-384", "openssl ecparam -genkey -noout -name secp384r1"),
        ("PKCS#1, RSA", "openssl genrsa -traditional 2048"),
        ("Ed25519", "openssl genpkey -algorithm ED25519"),
    ] {
        let key = folder.path("key.pem");
        let script = format!(
            "{make} > {key} && openssl req -x509 -key {key} -subj /CN=x -addext basicConstraints=critical,CA:FALSE"
        );
        let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        let tls = Tls::new(&made.stdout, &std::fs::read(&key).unwrap(), SystemTime::now());
        assert!(tls.is_ok(), "{name}: {:?}", tls.err());
    }
}

#[tokio::test]
async fn metrics_show_the_expiry_of_the_certificate() {
    let operators = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = Authority::new().make_with(|params| params.not_after = rcgen::date_time_ymd(2099, 1, 2));
    let _server = server(|config| {
        config.tls = Some(made.tls());
        config.metrics_listen = Some(operators);
    });
    let (_, text) = crate::support::get(operators, "/metrics", "").await;
    assert!(text.contains("\nroom_signaling_tls_certificate_not_after_seconds 4070995200\n"), "{text}");
}

#[tokio::test]
async fn a_reload_switches_tls_neither_off_nor_on() {
    let authority = Authority::new();
    let with = server(|config| config.tls = Some(authority.make().tls()));
    with.reload(Config::default());
    authority.client(with.local_addr()).await.enter("a", "r", "sender").await;
    let without = server(|_| {});
    without.reload(Config { tls: Some(authority.make().tls()), ..Config::default() });
    Client::join(without.local_addr(), "a", "r", "sender").await;
}

#[tokio::test]
async fn with_tls_a_page_without_tls_has_another_origin() {
    let authority = Authority::new();
    let server = server(|config| config.tls = Some(authority.make().tls()));
    let address = server.local_addr();
    for (origin, status) in [("https", "101"), ("http", "403")] {
        let mut stream = authority.connect(address).await.unwrap();
        let request = crate::support::handshake(address, "/", &format!("Origin: {origin}://{address}\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[9..], status.as_bytes(), "{origin}");
    }
}
