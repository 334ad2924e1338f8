//! One Hub, some connections and a clock of its own. Whatever the Hub puts out has to be looked at before a test ends.

use room_protocol::{
    ByteString, Hub, HubConfig, UserId,
    hub::{
        Auth, Claim, ConnId, Event, Grant, Input, KeyPrint, Output, PeerInfo, RoomPattern, Secret, Verdict,
    },
    turn::WallClock,
    wire::Role,
};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// An [`Output`] in the form that tests compare. The words of an error are free, so they are left out.
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

/// What the clock on the wall shows at first, in seconds since 1970.
pub(crate) const START_OF_WORLD: u64 = 1_700_000_000;

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) now: Instant,
    pub(crate) events: Vec<(ConnId, Event)>,
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
        Self { hub, now, events: Vec::new(), config, conns: 0 }
    }

    /// A server that wants tokens; those of [`World::KEY`] are good.
    pub(crate) fn with_users() -> Self {
        let auth = Auth::Token { keys: [Self::KEY].into(), audience: None };
        Self::with(HubConfig { server: "test".into(), auth, ..HubConfig::default() })
    }

    pub(crate) const KEY: KeyPrint = KeyPrint([1; 16]);

    /// What a token may grant, for an hour.
    pub(crate) fn grant(&self, user: &str, rooms: &[&str], roles: &[Role]) -> Grant {
        Grant {
            user: UserId::new(user).expect("a user"),
            client_id: None,
            rooms: rooms.iter().map(|rooms| RoomPattern::new(rooms).expect("a pattern")).collect(),
            roles: roles.iter().copied().collect(),
            audience: Vec::new(),
            until: self.now + Duration::from_hours(1),
            key: Self::KEY,
        }
    }

    /// A client that registered with a token.
    pub(crate) fn user(&mut self, id: &str, grant: &Grant) -> ConnId {
        let conn = self.connect();
        self.say(conn, json!({"type": "register", "client_id": id, "protocol": 1, "instance": format!("secret of {id}"), "token": "t"}));
        assert_eq!(self.take(), [Asked(conn, Claim::Token(Secret::new("t")))]);
        self.granted(conn, grant);
        let outs = self.take();
        assert!(matches!(&outs[..], [Said(_, said)] if said["type"] == "registered"), "{outs:?}");
        conn
    }

    /// The token that a connection brought is good.
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
    }

    /// A new connection that has said nothing.
    pub(crate) fn connect(&mut self) -> ConnId {
        self.connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(crate) fn connect_from(&mut self, ip: IpAddr) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.input(Input::Connected(conn, PeerInfo { ip }));
        conn
    }

    /// A registered client whose process has a secret made of `id`.
    pub(crate) fn client(&mut self, id: &str) -> ConnId {
        self.process(id, &format!("secret of {id}"))
    }

    /// A registered client, with the secret of its process.
    pub(crate) fn process(&mut self, id: &str, instance: &str) -> ConnId {
        let conn = self.connect();
        self.say(conn, json!({"type": "register", "client_id": id, "protocol": 1, "instance": instance}));
        self.take();
        conn
    }

    /// A registered client of before there were protocol versions.
    pub(crate) fn old(&mut self, id: &str) -> ConnId {
        let conn = self.connect();
        self.say(conn, json!({"type": "register", "client_id": id}));
        self.take();
        conn
    }

    /// A client in a room, its coming announced and forgotten.
    pub(crate) fn member(&mut self, room: &str, id: &str, role: &str) -> ConnId {
        let conn = self.client(id);
        self.join(conn, room, role);
        self.take();
        conn
    }

    /// An old client in a room that it asked for.
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
        self.input(Input::Frame(conn, ByteString::from(text)));
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.hub.handle(self.now, input);
    }

    /// Lets time pass, everything being done when it is due.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.hub.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.hub.handle_timeout(self.now);
        }
        self.now = until;
    }

    /// Everything that was put out since the last time.
    pub(crate) fn take(&mut self) -> Vec<Out> {
        let mut outs = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send(conn, text) => outs.push(Said(conn, read(&text))),
                Output::Ping(conn) => outs.push(Pinged(conn)),
                Output::Close(conn, code, reason) => {
                    assert!(!reason.is_empty());
                    outs.push(Closed(conn, code));
                }
                Output::Verify(conn, claim) => outs.push(Asked(conn, claim)),
                Output::Event(conn, event) => self.events.push((conn, event)),
            }
        }
        outs
    }

    /// The very text that was put out, which has to be one message to `conn`.
    pub(crate) fn take_text(&mut self, conn: ConnId) -> String {
        match (self.hub.poll_output(), self.hub.poll_output()) {
            (Some(Output::Send(to, text)), None) if to == conn => text.into(),
            other => panic!("not one message to {conn:?}: {other:?}"),
        }
    }

    /// The ids of those whom a client is told are there.
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

/// A message of the server's. Each of its own has to be one that the other end can read.
fn read(text: &str) -> Value {
    let mut message: Value = serde_json::from_str(text).expect("JSON");
    if message["type"] == "error" {
        let words = message.as_object_mut().and_then(|fields| fields.remove("message"));
        assert!(words.is_some_and(|words| words.as_str().is_some_and(|words| !words.is_empty())));
    }
    if message.get("from").is_none() && message["type"] != "pong" {
        serde_json::from_str::<room_protocol::wire::ServerMessage>(text).expect("a known message");
    }
    message
}
