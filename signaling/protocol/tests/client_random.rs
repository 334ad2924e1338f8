//! Random inputs in random order: a client never panics, uses its socket correctly, and reports consistent events.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client_support;

use client_support::{config, to};
use proptest::prelude::*;
use room_protocol::{
    Client, SessionId,
    client::{Event, Input, Media, Output, State},
    wire::{Body, Role},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The state of the WebSocket as the Client must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    None,
    Opening,
    Open,
}

struct Watcher {
    client: Client,
    now: Instant,
    socket: Socket,
    states: Vec<State>,
    known: BTreeSet<String>,
}

impl Watcher {
    fn input(&mut self, input: Input) {
        match (&input, self.socket) {
            (Input::Connected, Socket::Opening) => self.socket = Socket::Open,
            (Input::Disconnected(_), _)
            | (Input::Misconfigured(_) | Input::Unreachable(_), Socket::Opening) => {
                self.socket = Socket::None;
            }
            _ => {}
        }
        self.client.handle(self.now, input);
        self.look();
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut at_once = 0;
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            at_once = if at > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 5, "a busy loop");
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            self.look();
        }
        self.now = end;
    }

    fn look(&mut self) {
        while let Some(output) = self.client.poll_output() {
            assert_ne!(self.states.last(), Some(&State::Closed), "{output:?} after the end");
            match output {
                Output::Connect => {
                    assert_eq!(self.socket, Socket::None);
                    self.socket = Socket::Opening;
                }
                Output::Send(frame) => {
                    assert_eq!(self.socket, Socket::Open, "{frame}");
                    assert!(serde_json::from_str::<Value>(&frame).unwrap()["type"].is_string());
                }
                Output::Ping => assert_eq!(self.socket, Socket::Open),
                Output::Disconnect => {
                    assert_ne!(self.socket, Socket::None);
                    self.socket = Socket::None;
                }
                Output::Event(event) => self.reported(event),
            }
        }
        if self.client.state() == State::Closed {
            assert_eq!((self.client.poll_timeout(), self.socket), (None, Socket::None));
        } else {
            assert!(self.client.poll_timeout().is_some(), "nothing would ever happen again");
        }
    }

    fn reported(&mut self, event: Event) {
        match event {
            Event::State(state) => {
                assert_ne!(self.states.last(), Some(&state), "told twice");
                self.states.push(state);
            }
            Event::PeerReady(peer) => assert!(self.known.insert(peer.client_id.to_string()), "ready twice"),
            Event::PeerGone(peer, _) => assert!(self.known.remove(peer.as_str()), "gone, but never ready"),
            Event::PeerChanged(peer) => assert!(self.known.contains(peer.client_id.as_str())),
            Event::Signal(signal) => assert!(signal.from.is_some()),
            Event::Joined { .. }
            | Event::Refused { .. }
            | Event::Failed(_)
            | Event::Disconnected(_)
            | Event::Unreachable(_) => {}
        }
    }
}

const NAMES: [&str; 4] = ["me", "a", "b", "客"];
const CODES: [&str; 8] = [
    "room_full",
    "forbidden",
    "unauthorized",
    "client_id_taken",
    "target_not_found",
    "server_draining",
    "bad_message",
    "news",
];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn entry() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(&["sender", "receiver", "observer"][..]);
    let epoch = prop::sample::select(vec![json!(null), json!("aa"), json!("bb")]);
    (name(), role, epoch, 0u32..3, 0u8..3).prop_map(|(name, role, epoch, protocol, meta)| {
        json!({"client_id": name, "role": role, "epoch": epoch, "protocol": protocol, "meta": meta})
    })
}

fn signal() -> impl Strategy<Value = (Body, &'static str)> {
    let body = prop_oneof![
        Just(Body::Offer { sdp: "v=0".to_owned() }),
        Just(Body::Answer { sdp: "v=0".to_owned() }),
        Just(Body::Bye),
        Just(client_support::candidate("")),
        Just(client_support::candidate("candidate:1")),
    ];
    (body, prop::sample::select(&["", "s1", "s2"][..]))
}

fn frame() -> impl Strategy<Value = Value> {
    let peers = prop::collection::vec(entry(), 0..5);
    prop_oneof![
        4 => Just(client_support::registered()),
        6 => (peers, 0usize..6).prop_map(|(peers, total)| {
            let mut joined = client_support::joined(&peers);
            joined["total"] = json!(total);
            joined
        }),
        6 => entry().prop_map(|entry| client_support::peer_joined(&entry)),
        4 => (name(), prop::sample::select(&["left", "kicked", "disconnected", "timeout", "news"][..]))
            .prop_map(|(name, reason)| client_support::peer_left(name, reason)),
        1 => prop::sample::select(&CODES[..]).prop_map(|code| client_support::error(code, "join")),
        1 => any::<u64>().prop_map(|ms| json!({"type": "draining", "retry_after_ms": ms})),
        4 => (signal(), name()).prop_map(|((body, session), from)| {
            let mut frame = serde_json::to_value(client_support::from(from, None, body)).unwrap();
            frame["session_id"] = session.into();
            frame
        }),
        1 => Just(json!({"type": "left"})),
        1 => Just(json!([{"type": "joined"}])),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => Just(Input::Connected),
        12 => frame().prop_map(|frame| Input::Frame(frame.to_string().into())),
        1 => ".{0,20}".prop_map(|text| Input::Frame(text.into())),
        1 => Just(Input::Alive),
        2 => prop::sample::select(vec![None, Some(1000), Some(1012), Some(4008), Some(4002)])
            .prop_map(Input::Disconnected),
        1 => Just(Input::Misconfigured("wrong".to_owned())),
        1 => Just(Input::Unreachable("refused".to_owned())),
        3 => (signal(), name()).prop_map(|((body, session), name)| {
            Input::Send(to(name, SessionId::new(session).ok(), body))
        }),
        4 => (signal(), name(), prop::sample::select(&[Media::Started, Media::Connected, Media::Ended][..]))
            .prop_map(|((_, session), name, media)| {
                client_support::report(name, SessionId::new(session).ok(), media)
            }),
        1 => Just(Input::Shutdown),
    ]
}

/// Inputs with which the client is in its room most of the time, so that rare inputs have an effect.
fn steps() -> impl Strategy<Value = Vec<(Vec<Input>, Duration)>> {
    let into_room = Just(vec![
        Input::Connected,
        Input::Frame(client_support::registered().to_string().into()),
        Input::Frame(client_support::joined(&[]).to_string().into()),
    ]);
    let inputs = prop_oneof![1 => into_room, 4 => input().prop_map(|input| vec![input])];
    let pause = prop_oneof![
        6 => Just(Duration::ZERO),
        3 => (0u64..2_000).prop_map(Duration::from_millis),
        1 => (0u64..100).prop_map(Duration::from_secs),
    ];
    prop::collection::vec((inputs, pause), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_inputs_leave_the_client_consistent(steps in steps(), sender: bool, seed: u64) {
        let now = Instant::now();
        let role = if sender { Role::Sender } else { Role::Receiver };
        let client = Client::new(config(role), seed, now);
        let mut watcher =
            Watcher { client, now, socket: Socket::None, states: Vec::new(), known: BTreeSet::new() };
        watcher.look();
        for (inputs, pause) in steps {
            for input in inputs {
                watcher.input(input);
            }
            watcher.run_for(pause);
        }
    }
}
