//! Clients of the server: over WebSockets, over plain sockets byte by byte, and over HTTP.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Longer than any expected event takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A WebSocket client.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: WebSocketStream<S>,
}

/// An event that a client has received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    Message(Value),
    /// The close code.
    Closed(u16),
    /// An end without a close frame.
    Cut,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "/").await
    }

    pub(crate) async fn connect_to(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = client_async(format!("ws://{address}{path}"), stream).await.unwrap();
        Self { socket }
    }

    /// Connects, registers and joins. Also returns the answer to `join`.
    pub(crate) async fn join(address: SocketAddr, id: &str, room: &str, role: &str) -> (Self, Value) {
        let mut client = Self::connect(address).await;
        let joined = client.enter(id, room, role).await;
        (client, joined)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client over an open stream.
    pub(crate) async fn over(stream: S, address: SocketAddr) -> Self {
        let (socket, _) = client_async(format!("ws://{address}/"), stream).await.unwrap();
        Self { socket }
    }

    /// Registers and joins. Returns the answer to `join`.
    pub(crate) async fn enter(&mut self, id: &str, room: &str, role: &str) -> Value {
        self.send(json!({"type": "register", "client_id": id, "protocol": 1, "instance": format!("{id}-secret-0123456789")})).await;
        assert_eq!(self.message().await["type"], "registered");
        self.send(json!({"type": "join", "room_id": room, "role": role})).await;
        let joined = self.message().await;
        assert_eq!(joined["type"], "joined", "{joined}");
        joined
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// The next event other than a ping or a pong.
    pub(crate) async fn next(&mut self) -> Got {
        loop {
            let next =
                timeout(PATIENCE, self.socket.next()).await.expect("a message or an end should have arrived");
            match next {
                Some(Ok(Message::Text(text))) => return Got::Message(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Got::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Got::Cut,
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Value {
        match self.next().await {
            Got::Message(message) => message,
            other => panic!("a message should have arrived, not {other:?}"),
        }
    }

    /// The next message of this type; others are skipped.
    pub(crate) async fn message_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The close code, after any messages.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Got::Message(_) => {}
                Got::Closed(code) => return code,
                Got::Cut => panic!("the connection should have been closed with a code"),
            }
        }
    }

    /// Checks that the server still answers this client.
    pub(crate) async fn ping(&mut self) {
        self.send(json!({"type": "ping"})).await;
        assert_eq!(self.message().await["type"], "pong");
    }
}

/// A socket that sends bytes that no WebSocket library would.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    /// A socket from one of many addresses of this machine, each with its own limits.
    pub(crate) async fn connect_from(nth: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 1, nth], 0).into()).unwrap();
        Self { stream: socket.connect(address).await.unwrap() }
    }

    /// A WebSocket after its handshake.
    pub(crate) async fn upgraded(address: SocketAddr) -> Self {
        Self::upgrade(TcpStream::connect(address).await.unwrap()).await
    }

    /// The same on a connected socket.
    pub(crate) async fn upgrade(stream: TcpStream) -> Self {
        let address = stream.peer_addr().unwrap();
        let mut raw = Self { stream };
        raw.write(handshake(address, "/", "").as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, raw.stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        raw
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads until the server shuts its side.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut bytes))
            .await
            .expect("the end should have arrived")
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The opcode and payload of the next frame.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        read_frame(&mut self.stream).await
    }

    pub(crate) async fn message(&mut self) -> Value {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    /// The code of the next frame, which must be a close frame.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 8, "{}", String::from_utf8_lossy(&payload));
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// The opcode and payload of the next frame.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    timeout(PATIENCE, async {
        let (first, second) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        let length = match second {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        (first & 0x0f, payload)
    })
    .await
    .expect("a frame should have arrived")
}

/// The head of a request for a WebSocket.
pub(crate) fn handshake(host: impl std::fmt::Display, path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame as a client sends it. `first` is the first octet: FIN, RSV and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An unmasked frame.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0);
    frame.extend(payload);
    frame
}

fn header(first: u8, length: usize, mask: u8) -> Vec<u8> {
    match length {
        0..126 => vec![first, mask | u8::try_from(length).unwrap()],
        126..0x1_0000 => [&[first, mask | 0x7e][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        _ => [&[first, mask | 0x7f][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// The head and the body of the response to a GET with further headers.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> (String, String) {
    ask(address, "GET", path, headers).await
}

/// The head and the body of the response to a request with further headers.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (String, String) {
    let mut raw = Raw::connect(address).await;
    raw.write(format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n").as_bytes()).await;
    let answer = raw.read_to_end().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Whether a request with this `Host` is accepted.
pub(crate) async fn knows_host(address: SocketAddr, name: &str) -> bool {
    let mut raw = Raw::connect(address).await;
    raw.write(handshake(name, "/healthz", "").replace("Upgrade: websocket\r\n", "").as_bytes()).await;
    raw.read_to_end().await.starts_with("HTTP/1.1 200 ")
}

pub(crate) async fn register(address: SocketAddr, id: &str, token: &str) -> (Client, Value) {
    let mut client = Client::connect(address).await;
    client.send(json!({"type": "register", "client_id": id, "protocol": 1, "token": token})).await;
    let answer = client.message().await;
    (client, answer)
}

pub(crate) async fn join(client: &mut Client, room: &str, role: &str, password: Option<&str>) -> Value {
    client.send(json!({"type": "join", "room_id": room, "role": role, "password": password})).await;
    client.message().await
}
