//! Requests that never end.

use crate::{
    honest::Way,
    rig::{Attack, Target, attack},
    support::PATIENCE,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring},
};

const CONNECTIONS: usize = 400;
const ADDRESSES: usize = 8;

/// An attack on a server with TLS, and the configuration of clients that trust its certificate. `limits` is the section.
fn attack_over_tls(limits: &str) -> (Attack, Arc<ClientConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let way = Way { tls: Some(TlsConnector::from(config.clone())), token: None };
    let settings = format!("[tls]\ncertificate = 'chain.pem'\nkey = 'key.pem'\n[limits]\n{limits}");
    let attack = Attack::on(&settings)
        .file("chain.pem", certificate.pem())
        .file("key.pem", key.serialize_pem())
        .by(way);
    (attack, config)
}

/// Sends a byte now and then until the server closes the connection. Returns the response.
async fn trickle(mut stream: TcpStream, bytes: &'static [u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let mut said = Vec::new();
    let writing = async {
        for byte in bytes.iter().cycle() {
            if writer.write_u8(*byte).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    // A reset is an end as well.
    tokio::select! {
        () = writing => {}
        _ = reader.read_to_end(&mut said) => {}
    }
    said
}

/// More of them than allowed, from several addresses.
async fn slowloris(target: Target, bytes: &'static [u8]) -> Vec<Vec<u8>> {
    let mut attackers = JoinSet::new();
    for n in 0..CONNECTIONS {
        let stream = target.connect(n % ADDRESSES).await.unwrap();
        attackers.spawn(trickle(stream, bytes));
    }
    // A complete request is served in spite of the incomplete ones.
    for n in 0..20 {
        let began = Instant::now();
        target.open(ADDRESSES + n).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    attackers.join_all().await
}

#[test]
fn slowloris_over_http() {
    let limits = "[limits]\nmax_handshakes = 300\nhead_seconds = 1";
    attack(limits, |target| async move {
        let reported = slowloris(target, b"GET / HTTP/1.1\r\nX: y\r\n").await;
        let late = reported.iter().filter(|said| said.starts_with(b"HTTP/1.1 408 ")).count();
        let ended = reported.iter().filter(|said| said.is_empty()).count();
        assert!(late > 0 && ended >= CONNECTIONS - 300, "{late} late, {ended} ended of {CONNECTIONS}");
        let made_way = target.metric("room_signaling_handshakes_ended_total").await;
        assert!(made_way >= 100.0, "{made_way}");
    });
}

/// Incomplete TLS handshakes cost more than HTTP. The same limits apply to both.
#[test]
fn slowloris_over_tls() {
    let (attack, config) = attack_over_tls("max_handshakes = 300\nhead_seconds = 1");
    let tls = TlsConnector::from(config);
    attack.run(|target| async move {
        // A handshake record of 512 bytes that begins a ClientHello.
        const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        let mut attackers = JoinSet::new();
        for n in 0..CONNECTIONS {
            let mut stream = target.connect(n % ADDRESSES).await.unwrap();
            stream.write_all(HELLO).await.unwrap();
            attackers.spawn(trickle(stream, b"x"));
        }
        for n in 0..5 {
            let began = Instant::now();
            let stream = target.connect(ADDRESSES + n).await.unwrap();
            tls.connect(target.address.ip().into(), stream).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
        let told = attackers.join_all().await;
        assert!(told.iter().all(|said| !said.starts_with(b"HTTP/")), "there was no TLS to answer in");
        let made_way = target.metric("room_signaling_handshakes_ended_total").await;
        assert!(made_way >= 100.0, "{made_way}");
    });
}

#[test]
fn silent_connections() {
    attack("[limits]\nmax_handshakes = 300\nhead_seconds = 1", |target| async move {
        let told = slowloris(target, b"").await;
        assert!(told.iter().all(Vec::is_empty), "there was no request to answer");
    });
}

/// The server signs each of these handshakes, which is what TLS costs it most for, and the client never completes it.
#[test]
fn tls_handshakes_that_stop_after_the_signature() {
    let (attack, config) = attack_over_tls("max_handshakes = 300\nhead_seconds = 10");
    attack.run(|target| async move {
        let mut half_done = Vec::new();
        while target.goes_on() || half_done.len() <= 300 {
            let mut stream = target.connect(half_done.len() % 100).await.unwrap();
            let mut client = ClientConnection::new(config.clone(), target.address.ip().into()).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            stream.write_all(&hello).await.unwrap();
            // The answer contains the signature. The client says nothing more.
            timeout(PATIENCE, stream.read_u8()).await.expect("an answer").unwrap();
            half_done.push(stream);
        }
        let ended = target.metric("room_signaling_handshakes_ended_total").await;
        assert!(ended >= 1.0, "{ended} of {} were ended for newer ones", half_done.len());
    });
}
