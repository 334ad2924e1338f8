//! `wss`: which servers the client trusts, and what it reports about the others.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use room_signaling_client::{Options, State};
use std::path::Path;
use support::*;

fn trusting(uri: String, file: &Path) -> Options {
    Options { tls_ca_file: Some(file.to_owned()), ..options(uri) }
}

#[tokio::test]
async fn an_authority_from_a_file_is_trusted() {
    let authority = Authority::new("trusted");
    let server = Server::start().await.with_tls(&authority, "127.0.0.1");
    let mut client = Client::new(trusting(server.uri(), &authority.file));
    let (mut connection, _) = server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    client.handle.shutdown();
    assert_eq!(connection.hear().await["type"], "leave");
    client.until(State::Closed).await;
}

#[tokio::test]
async fn names_work_too() {
    let authority = Authority::new("named");
    let server = Server::start().await.with_tls(&authority, "localhost");
    let uri = format!("wss://localhost:{}", server.address().port());
    let mut client = Client::new(trusting(uri, &authority.file));
    server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
}

/// The error of a client whose TLS handshake with this server fails.
async fn refusal(server: &Server, options: Options) -> String {
    let client = Client::new(options);
    let (expected, _) = tokio::join!(client.failure(), async {
        let tcp = server.accept_tcp().await;
        server.try_tls(tcp).await
    });
    expected
}

#[tokio::test]
async fn an_untrusted_authority_is_explained() {
    let (authority, other) = (Authority::new("real"), Authority::new("other"));
    let server = Server::start().await.with_tls(&authority, "127.0.0.1");
    let expected = refusal(&server, trusting(server.uri(), &other.file)).await;
    assert!(
        expected.contains("is not trusted") && expected.contains("authority that signed it"),
        "{expected}"
    );
    let expected = refusal(&server, trusting(server.uri(), &other.file)).await;
    assert!(expected.contains("127.0.0.1"), "{expected}");
}

#[tokio::test]
async fn another_name_is_not_trusted() {
    let authority = Authority::new("name");
    let server = Server::start().await.with_tls(&authority, "video.example.org");
    let expected = refusal(&server, trusting(server.uri(), &authority.file)).await;
    assert!(expected.contains("connect to a name for which it was issued"), "{expected}");
}

/// A machine without a clock battery boots with a time in the past.
#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_retried() {
    let authority = Authority::new("early");
    let server = Server::start().await.with_tls_from_tomorrow(&authority, "127.0.0.1");
    let address = server.address();
    let mut client = Client::new(trusting(server.uri(), &authority.file));
    let tcp = server.accept_tcp().await;
    assert!(!server.try_tls(tcp).await);
    let reason = client.reason().await;
    assert!(reason.contains("not valid yet") && reason.contains("clocks"), "{reason}");
    drop(server);
    Server::start_at(address).await.with_tls(&authority, "127.0.0.1").accept_into_room(&[]).await;
    client.until(State::Joined).await;
}

#[tokio::test]
async fn the_error_for_an_authority_certificate_explains_it() {
    let authority = Authority::new("127.0.0.1");
    let server = Server::start().await.with_tls_of_the_authority(&authority);
    let expected = refusal(&server, trusting(server.uri(), &authority.file)).await;
    assert!(expected.contains("basicConstraints=CA:FALSE"), "{expected}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let authority = Authority::new("plain");
    let server = Server::start().await;
    let client = Client::new(trusting(server.uri().replace("ws://", "wss://"), &authority.file));
    let (expected, _) = tokio::join!(client.failure(), async {
        use tokio::io::AsyncWriteExt;
        let mut tcp = server.accept_tcp().await;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
    });
    assert!(expected.contains("does not speak TLS: write ws://"), "{expected}");
}

#[tokio::test]
async fn a_server_that_was_trusted_before_is_retried() {
    let (authority, other) = (Authority::new("before"), Authority::new("interim"));
    let server = Server::start().await.with_tls(&authority, "127.0.0.1");
    let (address, uri) = (server.address(), server.uri());
    let mut client = Client::new(trusting(uri, &authority.file));
    let connection = server.accept_into_room(&[]).await;
    client.until(State::Joined).await;
    drop(server);
    drop(connection);
    client.until(State::Reconnecting).await;

    let wrong = Server::start_at(address).await.with_tls(&other, "127.0.0.1");
    let tcp = wrong.accept_tcp().await;
    assert!(!wrong.try_tls(tcp).await);
    drop(wrong);
    let right = Server::start_at(address).await.with_tls(&authority, "127.0.0.1");
    right.accept_into_room(&[]).await;
    client.until(State::Joined).await;
}
