//! Whatever clients do, well-behaved or not, and however the sockets and the clock fare: nothing crosses rooms, order is
//! kept, everyone's picture of its room is the Hub's, nothing follows a close, and nothing breaks.

use crate::world::{Asked, Closed, Out, Pinged, Said, World};
use proptest::prelude::*;
use room_protocol::{
    HubConfig, RoomId,
    hub::{ConnId, Event, Input, Output},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const IDS: [&str; 5] = ["a", "b", "c", "d\"", "客"];
const ROOMS: [&str; 4] = ["one", "two", "room_default", "three"];
const WORDS: [&str; 6] = ["offer", "answer", "candidate", "bye", "chat", "ping"];

/// One thing that happens. Connections are named by a number, taken modulo how many there ever were.
#[derive(Debug, Clone)]
enum Step {
    Connect,
    Client { id: Option<usize>, protocol: Option<u32>, process: Option<usize> },
    Register { conn: usize, id: Option<usize>, protocol: Option<u32>, process: Option<usize> },
    Join { conn: usize, room: Option<usize>, role: &'static str, meta: u8 },
    Leave(usize),
    Relay { conn: usize, word: usize, target: Option<usize> },
    Text(usize, String),
    Other(usize, u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let conn = 0..12_usize;
    let room = prop::option::weighted(0.9, prop_oneof![4 => Just(0), 1 => 1..ROOMS.len()]);
    let id = || prop::option::weighted(0.9, 0..IDS.len());
    prop_oneof![
        2 => Just(Step::Connect),
        6 => (id(), prop::option::weighted(0.7, 0..3_u32), prop::option::of(0..3_usize))
            .prop_map(|(id, protocol, process)| Step::Client { id, protocol, process }),
        4 => (conn.clone(), id(), prop::option::weighted(0.7, 0..3_u32), prop::option::of(0..3_usize))
            .prop_map(|(conn, id, protocol, process)| Step::Register { conn, id, protocol, process }),
        16 => (conn.clone(), room, prop_oneof!["sender", "receiver"], 0..3_u8)
            .prop_map(|(conn, room, role, meta)| {
                let role = if role == "sender" { "sender" } else { "receiver" };
                Step::Join { conn, room, role, meta }
            }),
        2 => conn.clone().prop_map(Step::Leave),
        16 => (conn.clone(), 0..WORDS.len(), id()).prop_map(|(conn, word, target)| Step::Relay { conn, word, target }),
        1 => (conn.clone(), hostile()).prop_map(|(conn, text)| Step::Text(conn, text)),
        3 => (conn, 0..6_u8).prop_map(|(conn, what)| Step::Other(conn, what)),
        3 => prop_oneof![Just(1), Just(500), Just(2_000), Just(10_000), Just(15_000), 0..60_000_u64].prop_map(Step::Pass),
    ]
}

/// Text that nobody in their right mind would send.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r#"[{}\[\]",:0-9a-z\\u ]{0,40}"#,
        any::<String>().prop_map(|text| json!({"type": text, "from": "a", "n": 0}).to_string()),
        Just(r#"{"type":"join","room_id":"one","role":7}"#.to_owned()),
        Just(r#"{"type":"peer_left","client_id":"a","reason":"left"}"#.to_owned()),
        Just(r#"{"type":"chat","from":"b","from":"c"}"#.to_owned()),
        Just("[".repeat(5_000)),
    ]
}

/// What a connection knows from what it was told.
#[derive(Debug, Default)]
struct View {
    /// Its id, once it has one.
    id: Option<String>,
    /// Its room and whom it sees there, once it is told.
    room: Option<(String, BTreeMap<String, Value>)>,
    /// The last number that it heard, from each connection.
    heard: BTreeMap<u64, u64>,
    closed: bool,
}

struct Play {
    world: World,
    conns: Vec<ConnId>,
    views: BTreeMap<ConnId, View>,
    /// What was said with which number: by which connection.
    said: u64,
}

impl Play {
    fn new() -> Self {
        let config = HubConfig { max_members: 4, max_senders: 2, max_rooms: 3, ..HubConfig::default() };
        Self { world: World::with(config), conns: Vec::new(), views: BTreeMap::new(), said: 0 }
    }

    fn conn(&self, number: usize) -> Option<ConnId> {
        let count = self.conns.len().max(1);
        self.conns.get(number % count).copied()
    }

    fn say(&mut self, conn: usize, message: Value) {
        if let Some(conn) = self.conn(conn) {
            self.world.say(conn, message);
        }
    }

    fn connect(&mut self) {
        let conn = self.world.connect();
        self.conns.push(conn);
        self.views.insert(conn, View::default());
    }

    fn register(&mut self, conn: usize, id: Option<usize>, protocol: Option<u32>, process: Option<usize>) {
        let (id, instance) = (id.map(|id| IDS[id]), process.map(|process| format!("process {process}")));
        self.say(
            conn,
            json!({"type": "register", "client_id": id, "protocol": protocol, "instance": instance}),
        );
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect => self.connect(),
            Step::Client { id, protocol, process } => {
                self.connect();
                self.register(self.conns.len() - 1, id, protocol, process);
            }
            Step::Register { conn, id, protocol, process } => self.register(conn, id, protocol, process),
            Step::Join { conn, room, role, meta } => {
                let meta = (meta > 0).then_some(meta);
                let room = room.map(|room| ROOMS[room]);
                self.say(conn, json!({"type": "join", "room_id": room, "role": role, "meta": meta}));
            }
            Step::Leave(conn) => self.say(conn, json!({"type": "leave"})),
            Step::Relay { conn, word, target } => {
                self.said += 1;
                let (target, by) = (target.map(|target| IDS[target]), self.conn(conn).map(|conn| conn.0));
                // A `from` of one's own makes believe; it has to be gone.
                let relay =
                    json!({"type": WORDS[word], "target_id": target, "from": "a", "by": by, "n": self.said});
                self.say(conn, relay);
            }
            Step::Text(conn, text) => {
                if let Some(conn) = self.conn(conn) {
                    self.world.text(conn, &text);
                }
            }
            Step::Other(conn, what) => {
                let Some(conn) = self.conn(conn) else { return };
                let input = match what {
                    0 => Input::BadFrame(conn),
                    1 => Input::Overflowed(conn),
                    2 => Input::TooBig(conn),
                    3 => Input::Disconnected(conn),
                    _ => Input::Alive(conn),
                };
                if matches!(input, Input::Disconnected(_)) {
                    self.views.entry(conn).or_default().closed = true;
                }
                self.world.input(input);
            }
            Step::Pass(ms) => self.world.pass(Duration::from_millis(ms)),
        }
    }

    /// Reads what the Hub put out as the clients would.
    fn read(&mut self) {
        for out in self.world.take() {
            let conn = match &out {
                Said(conn, _) | Pinged(conn) | Closed(conn, _) | Asked(conn, _) => *conn,
            };
            let view = self.views.get_mut(&conn).expect("only known connections are talked to");
            assert!(!view.closed, "{out:?} after the end");
            match out {
                Out::Pinged(_) | Asked(..) => {}
                Out::Closed(..) => view.closed = true,
                Out::Said(_, said) => view.hear(conn, &said),
            }
        }
    }

    /// Checks everyone's view against the Hub's rooms.
    fn check(&self) {
        let hub = &self.world.hub;
        let rooms: Vec<RoomId> = hub.room_ids().cloned().collect();
        let mut members = 0;
        for room in &rooms {
            let entries = hub.members_of(room);
            assert!(!entries.is_empty() && entries.len() <= 4, "{entries:?}");
            members += entries.len();
            let ids: BTreeSet<_> = entries.iter().map(|entry| entry.client_id.clone()).collect();
            assert_eq!(ids.len(), entries.len());
        }
        assert_eq!(members, hub.members());
        assert!(rooms.len() <= 3);
        assert_eq!(self.views.values().filter(|view| !view.closed).count(), hub.connections());
        for (conn, view) in self.views.iter().filter(|(_, view)| !view.closed) {
            let Some((room, peers)) = &view.room else { continue };
            let entries = hub.members_of(&RoomId::new(room).expect("a room"));
            let me = entries.iter().find(|entry| Some(entry.client_id.as_str()) == view.id.as_deref());
            let me = me.unwrap_or_else(|| panic!("{conn:?} believes that it is in {room}: {entries:?}"));
            let sees = |role| {
                me.role == room_protocol::wire::Role::Sender || role == room_protocol::wire::Role::Sender
            };
            let visible: BTreeMap<String, Value> = entries
                .iter()
                .filter(|entry| entry.client_id != me.client_id && sees(entry.role))
                .map(|entry| (entry.client_id.to_string(), serde_json::to_value(entry).expect("JSON")))
                .collect();
            assert_eq!(*peers, visible, "{conn:?} in {room}");
        }
    }
}

impl View {
    fn hear(&mut self, conn: ConnId, said: &Value) {
        let id = |value: &Value| value["client_id"].as_str().expect("an id").to_owned();
        let kind = said["type"].as_str().expect("a type");
        if said.get("from").is_some() && kind != "pong" {
            return self.hear_peer(conn, said);
        }
        match kind {
            "registered" => self.id = Some(id(said)),
            "joined" => {
                let peers = said["peers"].as_array().expect("a list").iter();
                let peers = peers.map(|peer| (id(peer), peer.clone())).collect();
                self.room = Some((said["room_id"].as_str().expect("a room").to_owned(), peers));
            }
            "left" => self.room = None,
            "peer_joined" => {
                let (_, peers) = self.room.as_mut().expect("joined comes before");
                let mut entry = said.clone();
                entry.as_object_mut().expect("an object").remove("type");
                peers.insert(id(said), entry);
            }
            "peer_left" => {
                let (_, peers) = self.room.as_mut().expect("joined comes before");
                assert!(peers.remove(&id(said)).is_some(), "{said} was seen before");
            }
            "error" | "pong" | "peers" => {}
            other => panic!("{other}"),
        }
    }

    /// The words of another member.
    fn hear_peer(&mut self, conn: ConnId, said: &Value) {
        let Some(by) = said["by"].as_u64() else { return };
        let number = said["n"].as_u64().expect("a number");
        assert_ne!(by, conn.0, "nobody hears itself: {said}");
        if let Some(target) = said["target_id"].as_str() {
            assert_eq!(Some(target), self.id.as_deref(), "only the target hears it");
        }
        let last = self.heard.insert(by, number);
        assert!(last.is_none_or(|last| last < number), "{said} after {last:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_picture_is_the_hubs(steps in prop::collection::vec(step(), 1..200)) {
        let mut play = Play::new();
        for step in steps {
            play.step(step);
            play.read();
            play.check();
        }
        // When everyone is gone nothing is left.
        for number in 0..play.conns.len() {
            play.step(Step::Other(number, 3));
            play.read();
        }
        prop_assert_eq!((play.world.hub.connections(), play.world.hub.rooms()), (0, 0));
        prop_assert_eq!(play.world.hub.poll_timeout(), None);
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in prop::collection::vec(step(), 1..100)) {
        let mut plays = [Play::new(), Play::new()];
        plays[1].world.now = plays[0].world.now;
        for step in steps {
            let [one, two] = plays.each_mut().map(|play| {
                play.step(step.clone());
                (play.world.take(), play.world.hub.poll_timeout())
            });
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn nothing_crosses_rooms(steps in prop::collection::vec(step(), 1..200)) {
        let mut play = Play::new();
        let mut rooms = BTreeMap::new();
        for step in steps {
            play.step(step);
            // The log tells in order with everything else who is where.
            while let Some(output) = play.world.hub.poll_output() {
                match output {
                    Output::Event(conn, Event::Joined { room_id, .. }) => drop(rooms.insert(conn, room_id)),
                    Output::Event(conn, Event::Left { .. }) => drop(rooms.remove(&conn)),
                    Output::Send(to, text) => {
                        let said: Value = serde_json::from_str(&text).expect("JSON");
                        if let (Some(by), true) = (said["by"].as_u64(), said["type"] != "pong") {
                            let (to, by) = (rooms.get(&to), rooms.get(&ConnId(by)));
                            prop_assert!(to.is_some() && to == by, "{} from {:?} to {:?}", said, by, to);
                        }
                    }
                    Output::Event(..) | Output::Ping(_) | Output::Verify(..) | Output::Close(..) => {}
                }
            }
        }
    }
}
