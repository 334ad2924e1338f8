//! Ten honest clients in five rooms that relay all the time, and the lower bound of this machine: a socket of the test
//! whose other end echoes.

use crate::support::{PATIENCE, frame, handshake, read_frame};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsConnector;

/// The time between two messages of a client.
const PERIOD: Duration = Duration::from_millis(20);
const ROOMS: usize = 5;

/// The address of the server, and the token of an honest client.
#[derive(Clone, Default)]
pub(crate) struct Way {
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) token: Option<String>,
}

/// A connection, with TLS or without.
type Socket = Box<dyn Stream>;
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// When a message was sent, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
}

/// The measurements.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) relayed: Vec<Sample>,
    pub(crate) echoed: Vec<Sample>,
}

/// The honest clients, in a separate thread.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Measured>,
}

impl Honest {
    /// Returns when all of them are in their rooms.
    pub(crate) fn start(server: SocketAddr, way: Way) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut pairs = Vec::new();
                for room in 0..ROOMS {
                    let room = format!("honest {room}");
                    pairs.push([
                        join(server, &way, &room, "sender").await,
                        join(server, &way, &room, "receiver").await,
                    ]);
                }
                ready.send(()).unwrap();
                talk(pairs, &stopped).await
            })
        });
        is_ready.recv_timeout(PATIENCE).expect("ten clients should have joined");
        Self { stop, thread }
    }

    /// Returns when all messages have arrived. Panics if one is missing or out of order.
    pub(crate) fn stop(self) -> Measured {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("honest clients lose nothing")
    }
}

async fn join(server: SocketAddr, way: &Way, room: &str, role: &str) -> Socket {
    let stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut socket: Socket = match &way.tls {
        Some(tls) => Box::new(tls.connect(server.ip().into(), stream).await.unwrap()),
        None => Box::new(stream),
    };
    socket.write_all(handshake(server, "/", "").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let register = json!({"type": "register", "client_id": role, "protocol": 1, "token": way.token});
    for (message, answer) in
        [(register, "registered"), (json!({"type": "join", "room_id": room, "role": role}), "joined")]
    {
        socket.write_all(&frame(0x81, message.to_string().as_bytes())).await.unwrap();
        let (_, payload) = read_frame(&mut socket).await;
        let said: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(said["type"], answer, "{said}");
    }
    socket
}

async fn talk(pairs: Vec<[Socket; 2]>, stop: &Arc<AtomicBool>) -> Measured {
    let epoch = Instant::now();
    let (mut relays, mut echoes) = (JoinSet::new(), JoinSet::new());
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for pair in pairs {
        let [one, other] = pair.map(tokio::io::split);
        let mut keep = Vec::new();
        for (from, to) in [(one.1, other.0), (other.1, one.0)] {
            keep.push((tokio::spawn(speak(from, epoch, stop.clone())), to));
        }
        for (speaking, to) in keep {
            relays.spawn(async move {
                let samples = listen(to, epoch).await;
                (samples, speaking.await.unwrap())
            });
        }
        let stream = TcpStream::connect(echo.local_addr().unwrap()).await.unwrap();
        send_back(echo.accept().await.unwrap().0);
        echoes.spawn(call(stream, stop.clone()));
    }
    // All sockets stay open until all messages have arrived.
    let (relayed, _open): (Vec<_>, Vec<_>) = relays.join_all().await.into_iter().unzip();
    Measured { relayed: relayed.concat(), echoed: echoes.join_all().await.concat() }
}

/// Sends a numbered message with the time every [`PERIOD`], and a last one at the end.
async fn speak(mut to: WriteHalf<Socket>, epoch: Instant, stop: Arc<AtomicBool>) -> WriteHalf<Socket> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let padding = "x".repeat(300);
    for n in 0_u64.. {
        ticks.tick().await;
        let over = stop.load(Ordering::Relaxed);
        let at = u64::try_from(epoch.elapsed().as_nanos()).unwrap();
        let text = json!({"type": "wave", "n": n, "at": at, "over": over, "padding": padding}).to_string();
        to.write_all(&frame(0x81, text.as_bytes())).await.expect("an honest client is not cut off");
        to.flush().await.unwrap();
        if over {
            break;
        }
    }
    to
}

/// Receives all messages, and checks their order.
async fn listen(mut from: ReadHalf<Socket>, epoch: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let (opcode, payload) = read_frame(&mut from).await;
        let now = Instant::now();
        if opcode == 9 {
            // A ping needs no answer here, because its messages are signs of life.
            continue;
        }
        assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&payload));
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] != "wave" {
            assert_eq!(message["type"], "peer_joined", "{message}");
            continue;
        }
        assert_eq!(message["n"], samples.len(), "nothing is lost, and nothing changes places");
        let sent = epoch + Duration::from_nanos(message["at"].as_u64().unwrap());
        samples.push(Sample { sent, took: now - sent });
        if message["over"] == true {
            return samples;
        }
    }
}

/// Echoes everything in a separate thread, which is the best that a server can do.
fn send_back(stream: TcpStream) {
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 8];
        while std::io::Read::read_exact(&mut stream, &mut bytes).is_ok() {
            if std::io::Write::write_all(&mut stream, &bytes).is_err() {
                return;
            }
        }
    });
}

async fn call(mut stream: TcpStream, stop: Arc<AtomicBool>) -> Vec<Sample> {
    stream.set_nodelay(true).unwrap();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let sent = Instant::now();
        stream.write_all(&[0; 8]).await.unwrap();
        timeout(PATIENCE, stream.read_exact(&mut [0; 8])).await.expect("an echo").unwrap();
        samples.push(Sample { sent, took: sent.elapsed() });
    }
    samples
}
