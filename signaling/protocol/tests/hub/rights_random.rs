//! Random messages, verdicts and settings in random order: no client is in a room, or gets news of one, without the right.

use crate::{passwords::rule, rights_model::Rights, world::World};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use room_protocol::{
    ByteString, Hub, HubConfig,
    hub::{Auth, Claim, ConnId, Grant, Input, KeyPrint, PeerInfo, Verdict},
    turn::WallClock,
    wire::Role,
};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

const ROOMS: [&str; 4] = ["hall", "lab 1", "lab 2", "room_default"];
const IDS: [&str; 3] = ["a", "b", "c"];

/// The rights that a client proves in a step.
#[derive(Debug, Clone)]
struct Proven {
    rooms: &'static str,
    role: Role,
    seconds: u64,
    key: u8,
    pinned: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Connect,
    /// Connects and registers.
    Come {
        id: usize,
        token: bool,
    },
    Register {
        conn: usize,
        id: usize,
        old: bool,
        token: bool,
    },
    Join {
        conn: usize,
        room: usize,
        sender: bool,
        token: bool,
        password: bool,
    },
    /// Answers the claim of a connection, of either kind.
    Answer(usize, Proven),
    Say {
        conn: usize,
        word: &'static str,
    },
    Granted(usize, Proven),
    Passed(usize),
    Refused(usize),
    Disconnect(usize),
    Pass(u64),
    Reconfigure {
        users: bool,
        key: u8,
        passwords: [Option<bool>; 2],
    },
}

fn proven() -> impl Strategy<Value = Proven> {
    let rooms = prop_oneof![3 => Just("*"), 1 => Just("hall"), 1 => Just("lab*"), 1 => Just("room_*")];
    let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    (rooms, role, 1..60_u64, 1..3_u8, prop::bool::weighted(0.2))
        .prop_map(|(rooms, role, seconds, key, pinned)| Proven { rooms, role, seconds, key, pinned })
}

fn step() -> impl Strategy<Value = Step> {
    let conn = || 0..4_usize;
    let mostly = || prop::bool::weighted(0.8);
    let password = || prop::option::of(any::<bool>());
    prop_oneof![
        2 => (0..IDS.len(), mostly()).prop_map(|(id, token)| Step::Come { id, token }),
        1 => Just(Step::Connect),
        1 => (conn(), 0..IDS.len(), any::<bool>(), mostly())
            .prop_map(|(conn, id, old, token)| Step::Register { conn, id, old, token }),
        6 => (conn(), 0..ROOMS.len(), any::<bool>(), prop::bool::weighted(0.3), mostly())
            .prop_map(|(conn, room, sender, token, password)| Step::Join { conn, room, sender, token, password }),
        3 => (conn(), prop_oneof![Just("offer"), Just("chat"), Just("peers"), Just("leave")])
            .prop_map(|(conn, word)| Step::Say { conn, word }),
        16 => (conn(), proven()).prop_map(|(conn, proven)| Step::Answer(conn, proven)),
        1 => (conn(), proven()).prop_map(|(conn, proven)| Step::Granted(conn, proven)),
        1 => conn().prop_map(Step::Passed),
        1 => conn().prop_map(Step::Refused),
        1 => conn().prop_map(Step::Disconnect),
        2 => (1..8_000_u64).prop_map(Step::Pass),
        1 => (mostly(), 1..4_u8, [password(), password()])
            .prop_map(|(users, key, passwords)| Step::Reconfigure { users, key, passwords }),
    ]
}

fn config(users: bool, key: u8, passwords: [Option<bool>; 2]) -> HubConfig {
    // 3 stands for both keys.
    let keys = (1..3).filter(|bit| key & bit != 0).map(|bit| KeyPrint([bit; 16])).collect();
    let hash = |new: bool| if new { "new" } else { "old" };
    let rules = ["hall", "lab*"].into_iter().zip(passwords);
    HubConfig {
        auth: if users { Auth::Token { keys, audience: None } } else { Auth::None },
        room_rules: rules.filter_map(|(rooms, new)| Some(rule(rooms, Some(hash(new?))))).collect(),
        ..HubConfig::default()
    }
}

struct Run {
    hub: Hub,
    rights: Rights,
    clock: WallClock,
    now: Instant,
    conns: u64,
}

impl Run {
    fn new() -> Self {
        let (config, now) = (config(true, 3, [Some(false), None]), Instant::now());
        let wall_clock = WallClock { at: now, unix: Duration::from_secs(1) };
        let rights = Rights::new(&config, wall_clock);
        Self { hub: Hub::new(config, [0; 32], wall_clock), rights, clock: wall_clock, now, conns: 0 }
    }

    fn apply(&mut self, step: &Step) {
        // Recent connections, because most earlier ones are closed.
        let latest = self.conns;
        let conn_id = |conn: &usize| ConnId(latest.saturating_sub(*conn as u64));
        let said = |conn: &usize, message: serde_json::Value| {
            Input::Frame(conn_id(conn), ByteString::from(message.to_string()))
        };
        let input = match step {
            Step::Come { id, token } => {
                self.apply(&Step::Connect);
                return self.apply(&Step::Register { conn: 0, id: *id, old: false, token: *token });
            }
            Step::Connect => {
                self.conns += 1;
                Input::Connected(
                    ConnId(self.conns),
                    PeerInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), room: None },
                )
            }
            Step::Register { conn, id, old, token } => {
                let (protocol, token) = ((!old).then_some(1), token.then_some("t"));
                said(
                    conn,
                    json!({"type": "register", "client_id": IDS[*id], "protocol": protocol, "token": token}),
                )
            }
            Step::Join { conn, room, sender, token, password } => {
                let (token, password) = (token.then_some("t"), password.then_some("p"));
                let role = if *sender { "sender" } else { "receiver" };
                said(
                    conn,
                    json!({"type": "join", "room_id": ROOMS[*room], "role": role, "token": token, "password": password}),
                )
            }
            Step::Say { conn, word } => said(conn, json!({"type": word})),
            Step::Answer(conn, proven) => match self.rights.asked(conn_id(conn)) {
                Some(Claim::Token(_)) => Input::Verified(conn_id(conn), self.grant(proven)),
                Some(Claim::Password { .. }) => Input::Verified(conn_id(conn), Verdict::Passed),
                None => return,
            },
            Step::Granted(conn, proven) => Input::Verified(conn_id(conn), self.grant(proven)),
            Step::Passed(conn) => Input::Verified(conn_id(conn), Verdict::Passed),
            Step::Refused(conn) => Input::Verified(conn_id(conn), Verdict::Refused(String::new())),
            Step::Disconnect(conn) => Input::Disconnected(conn_id(conn)),
            Step::Pass(ms) => return self.pass(Duration::from_millis(*ms)),
            Step::Reconfigure { users, key, passwords } => {
                let config = config(*users, *key, *passwords);
                self.rights.reconfigure(&config);
                return self.hub.reconfigure(self.now, config);
            }
        };
        match &input {
            Input::Verified(conn, verdict) => self.rights.verdict(*conn, verdict),
            Input::Disconnected(conn) => self.rights.disconnected(*conn),
            _ => {}
        }
        self.hub.handle(self.now, input);
    }

    fn grant(&self, proven: &Proven) -> Verdict {
        let world = World::new();
        let grant = world.grant("ann", &[proven.rooms], &[proven.role]);
        Verdict::Granted(Box::new(Grant {
            client_id: proven.pinned.then(|| room_protocol::ClientId::new("a").expect("an id")),
            until: self.clock.unix(self.now) + Duration::from_secs(proven.seconds),
            key: KeyPrint([proven.key; 16]),
            ..grant
        }))
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.hub.poll_timeout().filter(|at| *at <= until) {
            let before = self.now;
            self.now = self.now.max(at);
            self.hub.handle_timeout(self.now);
            self.read(before);
        }
        self.now = until;
    }

    fn read(&mut self, now: Instant) {
        while let Some(output) = self.hub.poll_output() {
            self.rights.output(now, &output);
        }
        self.rights.check(self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_client_is_in_a_room_without_the_right(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for _ in 0..3 {
            run.apply(&Step::Connect);
        }
        for step in &steps {
            run.apply(step);
            run.read(run.now);
        }
    }
}

/// The test above would prove nothing without clients that enter rooms.
#[test]
fn the_random_walk_gets_into_rooms() {
    let mut run = Run::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..2_000 {
        run.apply(&step().new_tree(&mut runner).expect("a step").current());
        run.read(run.now);
    }
    assert!(run.rights.joins > 10, "{}", run.rights.joins);
}
