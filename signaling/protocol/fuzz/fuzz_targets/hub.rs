//! Any sequence of inputs: no panic, no output after a close, only JSON, no client in a room without the right, and nothing
//! left after all clients have disconnected.

#![no_main]

#[path = "../../tests/hub/rights_model.rs"]
mod rights_model;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rights_model::Rights;
use room_protocol::{
    ClientId, Hub, HubConfig, UserId,
    hub::{Auth, ConnId, Grant, Input, KeyPrint, Output, PasswordHash, PeerInfo, RoomPattern, RoomRule, Verdict},
    turn::WallClock,
    wire::Role,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

const IDS: [&str; 4] = ["a", "b", "c", ""];
const ROOMS: [&str; 4] = ["one", "two", "room_default", ""];
const PATTERNS: [&str; 4] = ["*", "one", "t*", "room_default"];
const WORDS: [&str; 10] = ["offer", "answer", "candidate", "bye", "chat", "ping", "leave", "peers", "error", "server.x"];

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Connected,
    Register { conn: u8, id: u8, protocol: Option<u8>, process: Option<bool>, token: Option<bool> },
    Join { conn: u8, room: u8, sender: bool, meta: Option<&'a str>, token: Option<bool>, password: Option<bool> },
    Granted { conn: u8, rooms: u8, sender: bool, receiver: bool, id: Option<u8>, key: bool, seconds: u8 },
    Passed(u8),
    Refused(u8),
    Busy(u8),
    Reconfigure(Settings),
    Say { conn: u8, word: u8, target: u8 },
    Text { conn: u8, text: &'a str },
    BadFrame(u8),
    TooBig(u8),
    Alive(u8),
    Overflowed(u8),
    Disconnected(u8),
    Pass(u16),
    Drain,
    CloseAll,
}

/// Whether tokens are required, which are valid, and the passwords of rooms.
#[derive(Debug, Default, Arbitrary)]
struct Settings {
    keys: Option<[bool; 2]>,
    passwords: [Option<bool>; 2],
}

struct World {
    hub: Hub,
    rights: Rights,
    clock: WallClock,
    now: Instant,
    conns: u64,
    open: BTreeSet<ConnId>,
    held: BTreeSet<ConnId>,
}

impl World {
    /// Some of the numbers belong to no connection.
    fn conn(&self, number: u8) -> ConnId {
        ConnId(u64::from(number) % (self.conns + 1))
    }

    fn say(&mut self, conn: u8, message: Value) {
        self.text(conn, &message.to_string());
    }

    fn text(&mut self, conn: u8, text: &str) {
        let conn = self.conn(conn);
        self.hub.handle(self.now, Input::Frame(conn, text.into()));
    }

    fn step(&mut self, step: Step<'_>) {
        let pick = |words: &[&'static str], number: u8| words[usize::from(number) % words.len()];
        let input = match step {
            Step::Connected => {
                self.conns += 1;
                let conn = ConnId(self.conns);
                self.open.insert(conn);
                Input::Connected(conn, PeerInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), room: None })
            }
            Step::Register { conn, id, protocol, process, token } => {
                let id = pick(&IDS, id);
                let (instance, token) = (process.map(|process| format!("the process {process:5}")), token.map(|token| token.to_string()));
                return self.say(conn, json!({"type": "register", "client_id": id, "protocol": protocol, "instance": instance, "token": token}));
            }
            Step::Join { conn, room, sender, meta, token, password } => {
                let (room, role) = (pick(&ROOMS, room), if sender { "sender" } else { "receiver" });
                let (token, password) = (token.map(|token| token.to_string()), password.map(|password| password.to_string()));
                return self.say(conn, json!({"type": "join", "room_id": room, "role": role, "meta": meta, "token": token, "password": password}));
            }
            Step::Granted { conn, rooms, sender, receiver, id, key, seconds } => {
                let roles = [(sender, Role::Sender), (receiver, Role::Receiver)];
                let grant = Grant {
                    user: UserId::new("ann").expect("a user"),
                    id: None,
                    client_id: id.and_then(|id| ClientId::new(pick(&IDS, id)).ok()),
                    rooms: vec![RoomPattern::new(pick(&PATTERNS, rooms)).expect("a pattern")],
                    roles: roles.into_iter().filter_map(|(may, role)| may.then_some(role)).collect(),
                    audience: Vec::new(),
                    until: self.clock.unix(self.now) + Duration::from_secs(seconds.into()),
                    key: KeyPrint([key.into(); 16]),
                };
                self.verdict(conn, Verdict::Granted(Box::new(grant)))
            }
            Step::Passed(conn) => self.verdict(conn, Verdict::Passed),
            Step::Refused(conn) => self.verdict(conn, Verdict::Refused(String::new())),
            Step::Busy(conn) => self.verdict(conn, Verdict::Busy),
            Step::Reconfigure(settings) => {
                let config = settings.config();
                self.rights.reconfigure(&config);
                return self.hub.reconfigure(self.now, config);
            }
            Step::Say { conn, word, target } => {
                let (word, target) = (pick(&WORDS, word), pick(&IDS, target));
                return self.say(conn, json!({"type": word, "target_id": target}));
            }
            Step::Text { conn, text } => return self.text(conn, text),
            Step::BadFrame(conn) => Input::BadFrame(self.conn(conn)),
            Step::TooBig(conn) => Input::TooBig(self.conn(conn)),
            Step::Alive(conn) => Input::Alive(self.conn(conn)),
            Step::Overflowed(conn) => Input::Overflowed(self.conn(conn)),
            Step::Disconnected(conn) => {
                let conn = self.conn(conn);
                self.open.remove(&conn);
                self.held.remove(&conn);
                self.rights.disconnected(conn);
                Input::Disconnected(conn)
            }
            Step::Pass(ms) => {
                self.now += Duration::from_millis(ms.into());
                return self.hub.handle_timeout(self.now);
            }
            Step::Drain => return self.hub.drain(Duration::from_secs(1)),
            Step::CloseAll => return self.hub.close_all(),
        };
        self.hub.handle(self.now, input);
    }

    fn verdict(&mut self, conn: u8, verdict: Verdict) -> Input {
        let conn = self.conn(conn);
        self.rights.verdict(conn, &verdict);
        Input::Verified(conn, verdict)
    }

    /// Checks the outputs since the state `before`.
    fn check(&mut self, before: Instant) {
        while let Some(output) = self.hub.poll_output() {
            self.rights.output(before, &output);
            match output {
                Output::Send(conn, text) => {
                    assert!(self.open.contains(&conn), "{text} after the end");
                    serde_json::from_str::<Value>(&text).expect("JSON");
                }
                Output::Ping(conn) | Output::Verify(conn, _) => assert!(self.open.contains(&conn)),
                Output::Hold(conn) => assert!(self.open.contains(&conn) && self.held.insert(conn), "held twice"),
                Output::Release(conn) => assert!(self.open.contains(&conn) && self.held.remove(&conn), "not held"),
                Output::Close(conn, ..) => {
                    self.held.remove(&conn);
                    assert!(self.open.remove(&conn), "closed twice");
                }
                Output::Event(..) => {}
            }
        }
        self.rights.check(self.now);
        assert_eq!(self.hub.connections(), self.open.len());
        let members: usize = self.hub.rooms_after(None).map(|room| room.members.len()).sum();
        assert_eq!(members, self.hub.members());
        assert_eq!(self.hub.poll_timeout().is_none(), self.open.is_empty());
    }
}

impl Settings {
    fn config(&self) -> HubConfig {
        let keys = |keys: [bool; 2]| (0..2).filter(|key| keys[usize::from(*key)]).map(|key| KeyPrint([key; 16])).collect();
        let rule = |(rooms, new): (&str, Option<bool>)| {
            let password = Some(PasswordHash::new(new?.to_string()));
            Some(RoomRule { rooms: RoomPattern::new(rooms).expect("a pattern"), password })
        };
        HubConfig {
            auth: self.keys.map_or(Auth::None, |chosen| Auth::Token { keys: keys(chosen), audience: None }),
            room_rules: ["one", "room_*"].into_iter().zip(self.passwords).filter_map(rule).collect(),
            max_members: 3,
            max_senders: 2,
            max_rooms: 2,
            ..HubConfig::default()
        }
    }
}

fuzz_target!(|input: (Settings, Vec<Step<'_>>)| {
    let (settings, steps) = input;
    let config = settings.config();
    let now = Instant::now();
    let clock = WallClock { at: now, unix: Duration::ZERO };
    let rights = Rights::new(&config, clock);
    let hub = Hub::new(config, [0; 32], clock);
    let mut world = World { hub, rights, clock, now, conns: 0, open: BTreeSet::new(), held: BTreeSet::new() };
    for step in steps {
        let before = world.now;
        world.step(step);
        world.check(before);
    }
    while let Some(conn) = world.open.pop_first() {
        world.rights.disconnected(conn);
        world.hub.handle(world.now, Input::Disconnected(conn));
        world.check(world.now);
    }
    assert_eq!((world.hub.rooms(), world.hub.members()), (0, 0));
});
