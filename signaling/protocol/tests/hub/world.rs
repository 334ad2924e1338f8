//! One Hub, some connections and a virtual clock. A test has to check all outputs of the Hub.

use room_protocol::{
    ByteString, Hub, HubConfig, RoomId, UserId,
    hub::{
        Auth, Claim, ConnId, Event, Grant, Input, KeyPrint, Output, PeerInfo, RoomPattern, Secret, Verdict,
    },
    turn::WallClock,
    wire::Role,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// An [`Output`] in the form that tests compare, without the message of an error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    Said(ConnId, Value),
    Pinged(ConnId),
    Closed(ConnId, u16),
    Asked(ConnId, Claim),
}
pub(crate) use Out::{Asked, Closed, Pinged, Said};

/// An error as [`Out`] shows it, answering a message of type `request`.
pub(crate) fn error(to: ConnId, code: &str, request: &str) -> Out {
    Said(to, json!({"type": "error", "code": code, "request": request}))
}

/// The first reading of the wall clock, in seconds since 1970.
pub(crate) const START_OF_WORLD: u64 = 1_700_000_000;

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) now: Instant,
    pub(crate) events: Vec<(ConnId, Event)>,
    began: Instant,
    /// Frames of held connections, which stay in the socket.
    sockets: BTreeMap<ConnId, VecDeque<ByteString>>,
    outputs: VecDeque<Output>,
    config: HubConfig,
    conns: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(HubConfig { server: "test".into(), ..HubConfig::default() })
    }

    pub(crate) fn with(config: HubConfig) -> Self {
        let now = Instant::now();
        let wall_clock = WallClock { at: now, unix: Duration::from_secs(START_OF_WORLD) };
        let hub = Hub::new(config.clone(), [7; 32], wall_clock);
        let (sockets, outputs) = Default::default();
        Self { hub, now, events: Vec::new(), began: now, sockets, outputs, config, conns: 0 }
    }

    /// A server that requires tokens signed with [`World::KEY`].
    pub(crate) fn with_users() -> Self {
        let auth = Auth::Token { keys: [Self::KEY].into(), audience: None };
        Self::with(HubConfig { server: "test".into(), auth, ..HubConfig::default() })
    }

    pub(crate) const KEY: KeyPrint = KeyPrint([1; 16]);

    /// A grant for an hour.
    pub(crate) fn grant(&self, user: &str, rooms: &[&str], roles: &[Role]) -> Grant {
        Grant {
            user: UserId::new(user).expect("a user"),
            id: None,
            client_id: None,
            rooms: rooms.iter().map(|rooms| RoomPattern::new(rooms).expect("a pattern")).collect(),
            roles: roles.iter().copied().collect(),
            audience: Vec::new(),
            until: self.unix() + Duration::from_hours(1),
            key: Self::KEY,
        }
    }

    /// The time since 1970, as the Hub knows it.
    pub(crate) fn unix(&self) -> Duration {
        Duration::from_secs(START_OF_WORLD) + (self.now - self.began)
    }

    /// A client that registered with a token.
    pub(crate) fn user(&mut self, id: &str, grant: &Grant) -> ConnId {
        self.process_of_user(id, id, grant)
    }

    /// A client that registered with a token, whose process has a secret made of `name`.
    pub(crate) fn process_of_user(&mut self, id: &str, name: &str, grant: &Grant) -> ConnId {
        self.take();
        let conn = self.connect();
        self.say(conn, json!({"type": "register", "client_id": id, "protocol": 1, "instance": secret_of(name), "token": "t"}));
        assert_eq!(self.take(), [Asked(conn, Claim::Token(Secret::new("t")))]);
        self.granted(conn, grant);
        let outs = self.take();
        assert!(matches!(&outs[..], [Said(_, said)] if said["type"] == "registered"), "{outs:?}");
        conn
    }

    /// Verifies the token of a connection as valid.
    pub(crate) fn granted(&mut self, conn: ConnId, grant: &Grant) {
        self.verdict(conn, Verdict::Granted(Box::new(grant.clone())));
    }

    pub(crate) fn verdict(&mut self, conn: ConnId, verdict: Verdict) {
        self.input(Input::Verified(conn, verdict));
    }

    /// Changes the settings.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut HubConfig)) {
        let mut config = self.config.clone();
        change(&mut config);
        self.config = config.clone();
        self.hub.reconfigure(self.now, config);
        self.pump();
    }

    /// A new connection that has sent nothing.
    pub(crate) fn connect(&mut self) -> ConnId {
        self.connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(crate) fn connect_from(&mut self, ip: IpAddr) -> ConnId {
        self.connect_with(PeerInfo { ip, room: None })
    }

    /// A new connection whose URL names a room.
    pub(crate) fn connect_to(&mut self, room: &str) -> ConnId {
        let room = Some(RoomId::new(room).expect("a room"));
        self.connect_with(PeerInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), room })
    }

    fn connect_with(&mut self, peer: PeerInfo) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.input(Input::Connected(conn, peer));
        conn
    }

    /// Whether the Hub holds a connection.
    pub(crate) fn is_held(&mut self, conn: ConnId) -> bool {
        self.pump();
        self.sockets.contains_key(&conn)
    }

    /// A registered client whose process has a secret made of `id`.
    pub(crate) fn client(&mut self, id: &str) -> ConnId {
        self.process(id, id)
    }

    /// A registered client, whose process has a secret made of `name`.
    pub(crate) fn process(&mut self, id: &str, name: &str) -> ConnId {
        let conn = self.connect();
        let instance = secret_of(name);
        self.say(conn, json!({"type": "register", "client_id": id, "protocol": 1, "instance": instance}));
        self.take();
        conn
    }

    /// A registered client of protocol 0.
    pub(crate) fn old(&mut self, id: &str) -> ConnId {
        let conn = self.connect();
        self.say(conn, json!({"type": "register", "client_id": id}));
        self.take();
        conn
    }

    /// A client in a room.
    pub(crate) fn member(&mut self, room: &str, id: &str, role: &str) -> ConnId {
        let conn = self.client(id);
        self.join(conn, room, role);
        self.take();
        conn
    }

    /// An old client in a room that it joined.
    pub(crate) fn old_member(&mut self, room: &str, id: &str, role: &str) -> ConnId {
        let conn = self.old(id);
        self.join(conn, room, role);
        self.take();
        conn
    }

    pub(crate) fn join(&mut self, conn: ConnId, room: &str, role: &str) {
        self.say(conn, json!({"type": "join", "room_id": room, "role": role}));
    }

    pub(crate) fn say(&mut self, conn: ConnId, message: Value) {
        self.text(conn, &message.to_string());
    }

    pub(crate) fn text(&mut self, conn: ConnId, text: &str) {
        self.pump();
        match self.sockets.get_mut(&conn) {
            Some(socket) => socket.push_back(text.into()),
            None => self.input(Input::Frame(conn, text.into())),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        if let Input::Disconnected(conn) | Input::TooBig(conn) = input {
            self.sockets.remove(&conn);
        }
        self.hub.handle(self.now, input);
        self.pump();
    }

    /// Collects the outputs of the Hub, and holds and releases connections as a shell does.
    fn pump(&mut self) {
        loop {
            let mut released = None;
            while let Some(output) = self.hub.poll_output() {
                match output {
                    Output::Hold(conn) => {
                        let before = self.sockets.insert(conn, VecDeque::new());
                        assert!(before.is_none(), "{conn:?} is held twice");
                    }
                    Output::Release(conn) => {
                        let socket = self.sockets.remove(&conn).expect("only what is held is released");
                        released = Some((conn, socket));
                        break;
                    }
                    Output::Close(conn, ..) => {
                        self.sockets.remove(&conn);
                        self.outputs.push_back(output);
                    }
                    output => self.outputs.push_back(output),
                }
            }
            let Some((conn, socket)) = released else { return };
            for text in socket {
                self.text(conn, &text);
            }
        }
    }

    /// The next output, apart from holding and releasing.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.pump();
        self.outputs.pop_front()
    }

    /// Advances the time, with every deadline at its time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.hub.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.hub.handle_timeout(self.now);
            self.pump();
        }
        self.now = until;
    }

    /// All outputs since the last call.
    pub(crate) fn take(&mut self) -> Vec<Out> {
        let mut outs = Vec::new();
        while let Some(output) = self.poll() {
            match output {
                Output::Send(conn, text) => outs.push(Said(conn, read(&text))),
                Output::Ping(conn) => outs.push(Pinged(conn)),
                Output::Close(conn, code, reason) => {
                    assert!(!reason.is_empty());
                    outs.push(Closed(conn, code));
                }
                Output::Verify(conn, claim) => outs.push(Asked(conn, claim)),
                Output::Event(conn, event) => self.events.push((conn, event)),
                Output::Hold(_) | Output::Release(_) => unreachable!("`pump` performs these"),
            }
        }
        outs
    }

    /// The text of the only output, a message to `conn`.
    pub(crate) fn take_text(&mut self, conn: ConnId) -> String {
        match (self.poll(), self.poll()) {
            (Some(Output::Send(to, text)), None) if to == conn => text.into(),
            other => panic!("not one message to {conn:?}: {other:?}"),
        }
    }

    /// The text of the only output, an error to `conn`.
    pub(crate) fn take_refusal(&mut self, conn: ConnId) -> String {
        match (self.poll(), self.poll(), self.poll()) {
            (Some(Output::Send(to, text)), Some(Output::Event(..)), None) if to == conn => text.into(),
            other => panic!("not one error to {conn:?}: {other:?}"),
        }
    }

    /// The ids in a client's list of peers.
    pub(crate) fn peers(&mut self, conn: ConnId) -> Vec<String> {
        self.say(conn, json!({"type": "peers"}));
        let [Said(_, answer)] = &self.take()[..] else { panic!("no single answer") };
        assert_eq!(answer["type"], "peers");
        let peers = answer["peers"].as_array().expect("a list");
        peers.iter().map(|peer| peer["client_id"].as_str().expect("an id").to_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.take(), [], "nothing is left over");
        }
    }
}

/// The secret of the process of this name.
pub(crate) fn secret_of(name: &str) -> String {
    format!("{name}, a secret of enough bytes")
}

/// Parses a message from the server. Each message that is not a relay must be a `ServerMessage`.
fn read(text: &str) -> Value {
    let mut message: Value = serde_json::from_str(text).expect("JSON");
    if message["type"] == "error" {
        let expected = message.as_object_mut().and_then(|fields| fields.remove("message"));
        assert!(
            expected.is_some_and(|expected| expected.as_str().is_some_and(|expected| !expected.is_empty()))
        );
    }
    if message.get("from").is_none() && message["type"] != "pong" {
        serde_json::from_str::<room_protocol::wire::ServerMessage>(text).expect("a known message");
    }
    message
}
