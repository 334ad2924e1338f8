//! Random clients, well-behaved or not, with random sockets and a random clock: no message crosses rooms, each message
//! arrives once and in order unless its recipient is closed, each client's view of its room equals the Hub's, nothing
//! follows a close, and nothing panics.

use crate::world::{Asked, Closed, Out, Pinged, Said, World, secret_of};
use proptest::prelude::*;
use room_protocol::{
    ClientId, HubConfig, RoomId,
    hub::{ConnId, Event, Input, Output},
    wire::Role,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const IDS: [&str; 5] = ["a", "b", "c", "d\"", "客"];
const ROOMS: [&str; 4] = ["one", "two", "room_default", "three"];
const WORDS: [&str; 6] = ["offer", "answer", "candidate", "bye", "chat", "ping"];

/// One event. A connection is chosen by a number, modulo the number of connections so far.
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

/// Text that no sane client would send.
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

/// A client's knowledge, from the messages that it got.
#[derive(Debug, Default)]
struct View {
    /// Its id, once it has one.
    id: Option<String>,
    /// Its room and the members that it sees there, once it was told of them.
    room: Option<(String, BTreeMap<String, Value>)>,
    /// How many numbered messages it got, from each connection.
    heard: BTreeMap<u64, u64>,
    closed: bool,
}

/// Where a connection is, from the Hub's events.
#[derive(Debug, Clone)]
struct Seat {
    room: RoomId,
    client_id: ClientId,
    role: Role,
}

struct Play {
    world: World,
    conns: Vec<ConnId>,
    views: BTreeMap<ConnId, View>,
    seats: BTreeMap<ConnId, Seat>,
    /// The protocol of each connection, from its last `register`.
    protocols: BTreeMap<ConnId, u32>,
    /// How many numbered messages each connection sent to each other one.
    sent: BTreeMap<(u64, u64), u64>,
}

impl Play {
    fn new() -> Self {
        let config = HubConfig { max_members: 4, max_senders: 2, max_rooms: 3, ..HubConfig::default() };
        Self {
            world: World::with(config),
            conns: Vec::new(),
            views: BTreeMap::new(),
            seats: BTreeMap::new(),
            protocols: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
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
        let (id, instance) = (id.map(|id| IDS[id]), process.map(|process| secret_of(&process.to_string())));
        if let Some(conn) = self.conn(conn).filter(|conn| self.is_new(*conn)) {
            self.protocols.insert(conn, protocol.unwrap_or_default());
        }
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
                if let Some(conn) = self.conn(conn) {
                    self.relay(conn, WORDS[word], target.map(|target| IDS[target]));
                }
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

    fn is_new(&self, conn: ConnId) -> bool {
        self.views.get(&conn).is_some_and(|view| view.id.is_none())
    }

    /// Sends a message to others. For each recipient, it carries the number of messages to that recipient so far.
    fn relay(&mut self, conn: ConnId, word: &str, target: Option<&str>) {
        let mut numbers = BTreeMap::new();
        for to in self.recipients(conn, word, target) {
            let sent = self.sent.entry((conn.0, to.0)).or_default();
            *sent += 1;
            numbers.insert(to.0.to_string(), *sent);
        }
        // The Hub has to replace a false `from`.
        let relay = json!({"type": word, "target_id": target, "from": "a", "by": conn.0, "n": numbers});
        self.world.say(conn, relay);
    }

    /// The recipients of a message by the rules, except for messages that the Hub may keep from old receivers, and those
    /// that first bring their author into a room.
    fn recipients(&mut self, by: ConnId, word: &str, target: Option<&str>) -> Vec<ConnId> {
        let (protocol, held) = (self.protocol(by), self.world.is_held(by));
        let Some(seat) = self.seats.get(&by).filter(|_| !held && word != "ping") else { return Vec::new() };
        if word == "offer" && protocol == 0 {
            return Vec::new();
        }
        let is_media = matches!(word, "offer" | "answer" | "candidate" | "bye");
        let others = self.seats.iter().filter(|(conn, other)| **conn != by && other.room == seat.room);
        let gets = |conn: ConnId, other: &Seat| {
            let is_for_it = match target {
                Some(target) => other.client_id.as_str() == target,
                None => !is_media || other.role != seat.role,
            };
            let is_kept = self.protocol(conn) == 0 && matches!(word, "offer" | "candidate");
            let is_forbidden = word == "offer" && seat.role == other.role && other.role == Role::Receiver;
            is_for_it && !is_kept && !is_forbidden
        };
        others.filter(|(conn, other)| gets(**conn, other)).map(|(conn, _)| *conn).collect()
    }

    fn protocol(&self, conn: ConnId) -> u32 {
        self.protocols.get(&conn).copied().unwrap_or_default()
    }

    /// Applies the outputs of the Hub to the views of the clients.
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
        for (conn, event) in std::mem::take(&mut self.world.events) {
            match event {
                Event::Joined { client_id, room_id, role } => {
                    drop(self.seats.insert(conn, Seat { room: room_id, client_id, role }));
                }
                Event::Left { .. } => drop(self.seats.remove(&conn)),
                Event::Registered { .. } | Event::Refused { .. } => {}
            }
        }
        self.seats.retain(|conn, _| self.views.get(conn).is_some_and(|view| !view.closed));
    }

    /// Every numbered message has arrived.
    fn check_arrivals(&self) {
        for ((by, to), sent) in &self.sent {
            let view = &self.views[&ConnId(*to)];
            let heard = view.heard.get(by).copied().unwrap_or_default();
            assert!(heard == *sent || view.closed, "{to} got {heard} of {sent} messages from {by}");
        }
    }

    /// Checks everyone's view against the Hub's rooms.
    fn check(&self) {
        self.check_arrivals();
        let hub = &self.world.hub;
        let rooms: Vec<RoomId> = hub.rooms_after(None).map(|room| room.room_id.clone()).collect();
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
            let sees = |role| me.role == Role::Sender || role == Role::Sender;
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

    /// A message from another member.
    fn hear_peer(&mut self, conn: ConnId, said: &Value) {
        let Some(by) = said["by"].as_u64() else { return };
        assert_ne!(by, conn.0, "nobody hears itself: {said}");
        if let Some(target) = said["target_id"].as_str() {
            assert_eq!(Some(target), self.id.as_deref(), "only the target hears it");
        }
        // Without a number for it, whether it arrives depends on rule 12.
        if let Some(number) = said["n"][conn.0.to_string()].as_u64() {
            let heard = self.heard.entry(by).or_default();
            *heard += 1;
            assert_eq!(number, *heard, "{said}: each message once, in order, without a gap");
        }
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
        // After all clients have left, nothing remains.
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
            // The events for the log are in order with all other outputs.
            while let Some(output) = play.world.poll() {
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
                    _ => {}
                }
            }
        }
    }
}
