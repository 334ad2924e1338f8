//! A signaling server that the test controls, over real sockets, and a client whose events it waits for.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use futures_util::{Sink, Stream};
use room_signaling_client::{
    ClientConfig, Event, Events, Handle, Options, State, new_instance,
    protocol::{ClientId, RoomId},
    spawn,
    wire::Role,
};
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

/// The time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("timed out waiting for {what}"))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap(), tls: None }
    }

    pub fn with_tls(mut self, authority: &Authority, name: &str) -> Self {
        self.tls = Some(authority.acceptor(name));
        self
    }

    /// A server with a certificate that becomes valid tomorrow.
    pub fn with_tls_from_tomorrow(mut self, authority: &Authority, name: &str) -> Self {
        let tomorrow = SystemTime::now() + Duration::from_hours(24);
        self.tls = Some(authority.acceptor_from(name, Some(tomorrow)));
        self
    }

    /// A server with the certificate of the authority itself, as some users set it up.
    pub fn with_tls_of_the_authority(mut self, authority: &Authority) -> Self {
        self.tls = Some(acceptor(&authority.issuer.pem(), authority.issuer.key()));
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn uri(&self) -> String {
        format!("{}://{}/", if self.tls.is_some() { "wss" } else { "ws" }, self.address())
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.unwrap().0
    }

    /// Whether the client accepts the certificate of this server.
    pub async fn try_tls(&self, tcp: TcpStream) -> bool {
        match &self.tls {
            Some(tls) => soon("TLS", tls.accept(tcp)).await.is_ok(),
            None => true,
        }
    }

    /// The next connection, with an open WebSocket.
    pub async fn accept(&self) -> Connection {
        let tcp = self.accept_tcp().await;
        let io: Box<dyn Io> = match &self.tls {
            Some(tls) => Box::new(soon("TLS", tls.accept(tcp)).await.unwrap()),
            None => Box::new(tcp),
        };
        Connection(soon("the upgrade", accept_async(io)).await.unwrap())
    }

    /// Accepts the next connection and lets it into the room; also returns its `register`.
    pub async fn accept_into_room(&self, peers: &[Value]) -> (Connection, Value) {
        let mut connection = self.accept().await;
        let register = connection.hear().await;
        assert_eq!(register["type"], "register");
        connection
            .say(json!({"type": "registered", "client_id": "me", "protocol": 1, "heartbeat_s": 15}))
            .await;
        let join = connection.hear().await;
        assert_eq!(join["type"], "join");
        let joined = json!({"type": "joined", "room_id": "living_room", "role": join["role"], "peers": peers,
                            "total": peers.len(), "ice_servers": []});
        connection.say(joined).await;
        (connection, register)
    }
}

pub struct Connection(WebSocketStream<Box<dyn Io>>);

impl Connection {
    pub async fn next(&mut self) -> Option<Message> {
        soon("a frame", poll_fn(|cx| Pin::new(&mut self.0).poll_next(cx))).await.and_then(Result::ok)
    }

    /// The next text frame.
    pub async fn hear(&mut self) -> Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?} instead of text"),
        }
    }

    pub async fn say(&mut self, message: Value) {
        self.send(Message::Text(message.to_string().into())).await;
    }

    pub async fn send(&mut self, message: Message) {
        poll_fn(|cx| Pin::new(&mut self.0).poll_ready(cx)).await.unwrap();
        Pin::new(&mut self.0).start_send(message).unwrap();
        poll_fn(|cx| Pin::new(&mut self.0).poll_flush(cx)).await.unwrap();
    }

    pub async fn close(&mut self, code: u16) {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))).await;
    }
}

/// A client, and its events.
pub struct Client {
    pub handle: Handle,
    pub events: Events,
}

impl Client {
    pub fn new(options: Options) -> Self {
        let (handle, events) = spawn(options).unwrap();
        Self { handle, events }
    }

    pub async fn event(&mut self) -> Event {
        soon("an event", self.events.recv()).await.expect("events go on")
    }

    /// Waits for a state; returns the events before it.
    pub async fn until(&mut self, state: State) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            match self.event().await {
                Event::State(now) if now == state => return before,
                event => before.push(event),
            }
        }
    }

    /// Waits for the reason why the server can't be reached.
    pub async fn reason(&mut self) -> String {
        loop {
            if let Event::Unreachable(reason) = self.event().await {
                return reason;
            }
        }
    }

    /// The text of its failure, after which it is closed and ends.
    pub async fn failure(mut self) -> String {
        let before = self.until(State::Closed).await;
        assert_eq!(soon("the end", self.events.recv()).await, None);
        match before.last() {
            Some(Event::Failed(failure)) => failure.to_string(),
            other => panic!("{other:?} instead of a failure"),
        }
    }
}

pub fn options(uri: impl Into<String>) -> Options {
    let mut config = ClientConfig::new(RoomId::new("living_room").unwrap(), Role::Sender, new_instance());
    config.client_id = Some(id("me"));
    Options::new(uri, config)
}

pub fn id(text: &str) -> ClientId {
    ClientId::new(text).unwrap()
}

/// A certificate authority, and its PEM file.
pub struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    pub file: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer =
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let file = std::env::temp_dir().join(format!("room-client-{}-{name}.pem", std::process::id()));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        self.acceptor_from(name, None)
    }

    fn acceptor_from(&self, name: &str, not_before: Option<SystemTime>) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        if let Some(time) = not_before {
            params.not_before = time.into();
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        acceptor(&certificate.pem(), &key)
    }
}

fn acceptor(certificate: &str, key: &rcgen::KeyPair) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
