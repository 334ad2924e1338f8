//! Requests that never come to an end.

use crate::rig::{Target, attack};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

const CONNECTIONS: usize = 400;
const ADDRESSES: usize = 8;

/// Sends a byte now and then until it is ended; returns what it was told.
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

/// More of them than may be, from some addresses.
async fn slowloris(target: Target, bytes: &'static [u8]) -> Vec<Vec<u8>> {
    let mut attackers = JoinSet::new();
    for n in 0..CONNECTIONS {
        let stream = target.connect(n % ADDRESSES).await.unwrap();
        attackers.spawn(trickle(stream, bytes));
    }
    // Whoever makes his request is taken, however many don't.
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
        let told = slowloris(target, b"GET / HTTP/1.1\r\nX: y\r\n").await;
        let late = told.iter().filter(|said| said.starts_with(b"HTTP/1.1 408 ")).count();
        let ended = told.iter().filter(|said| said.is_empty()).count();
        assert!(late > 0 && ended >= CONNECTIONS - 300, "{late} late, {ended} ended of {CONNECTIONS}");
        let made_way = target.metric("room_signaling_handshakes_ended_total").await;
        assert!(made_way >= 100.0, "{made_way}");
    });
}

#[test]
fn connections_that_say_nothing() {
    attack("[limits]\nmax_handshakes = 300\nhead_seconds = 1", |target| async move {
        let told = slowloris(target, b"").await;
        assert!(told.iter().all(Vec::is_empty), "there was no request to answer");
    });
}
