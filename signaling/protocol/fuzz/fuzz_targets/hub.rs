//! Any sequence of inputs: no panic, nothing after a close, nothing that isn't JSON, nothing left when all are gone.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use room_protocol::{
    Hub, HubConfig,
    hub::{ConnId, Input, Output, PeerInfo},
    turn::WallClock,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

const IDS: [&str; 4] = ["a", "b", "c", ""];
const ROOMS: [&str; 4] = ["one", "two", "room_default", ""];
const WORDS: [&str; 10] = ["offer", "answer", "candidate", "bye", "chat", "ping", "leave", "peers", "error", "server.x"];

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Connected,
    Register { conn: u8, id: u8, protocol: Option<u8>, process: Option<bool> },
    Join { conn: u8, room: u8, sender: bool, meta: Option<&'a str> },
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

struct World {
    hub: Hub,
    now: Instant,
    conns: u64,
    open: BTreeSet<ConnId>,
}

impl World {
    /// Connections that never were are among those named.
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
                Input::Connected(conn, PeerInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST) })
            }
            Step::Register { conn, id, protocol, process } => {
                let id = pick(&IDS, id);
                let instance = process.map(|process| process.to_string());
                return self.say(conn, json!({"type": "register", "client_id": id, "protocol": protocol, "instance": instance}));
            }
            Step::Join { conn, room, sender, meta } => {
                let (room, role) = (pick(&ROOMS, room), if sender { "sender" } else { "receiver" });
                return self.say(conn, json!({"type": "join", "room_id": room, "role": role, "meta": meta}));
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
                Input::Disconnected(conn)
            }
            Step::Pass(ms) => {
                self.now += Duration::from_millis(ms.into());
                return self.hub.handle_timeout(self.now);
            }
            Step::Drain => return self.hub.drain(self.now, Duration::from_secs(1)),
            Step::CloseAll => return self.hub.close_all(),
        };
        self.hub.handle(self.now, input);
    }

    fn check(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send(conn, text) => {
                    assert!(self.open.contains(&conn), "{text} after the end");
                    serde_json::from_str::<Value>(&text).expect("JSON");
                }
                Output::Ping(conn) => assert!(self.open.contains(&conn)),
                Output::Close(conn, ..) => assert!(self.open.remove(&conn), "closed twice"),
                Output::Event(..) => {}
            }
        }
        assert_eq!(self.hub.connections(), self.open.len());
        let members: usize = self.hub.room_ids().map(|room| self.hub.members_of(room).len()).sum();
        assert_eq!(members, self.hub.members());
        assert_eq!(self.hub.poll_timeout().is_none(), self.open.is_empty());
    }
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let config = HubConfig { max_members: 3, max_senders: 2, max_rooms: 2, ..HubConfig::default() };
    let now = Instant::now();
    let hub = Hub::new(config, [0; 32], WallClock { at: now, unix: Duration::ZERO });
    let mut world = World { hub, now, conns: 0, open: BTreeSet::new() };
    for step in steps {
        world.step(step);
        world.check();
    }
    while let Some(conn) = world.open.pop_first() {
        world.hub.handle(world.now, Input::Disconnected(conn));
        world.check();
    }
    assert_eq!((world.hub.rooms(), world.hub.members()), (0, 0));
});
