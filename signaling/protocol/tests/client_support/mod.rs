//! One Client on virtual time. Tests check all of its outputs. The reasons for lost connections are collected separately,
//! because most scenarios do not concern them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use room_protocol::{
    Client, ClientId, Instance, RoomId, SessionId,
    client::{ClientConfig, Event, GoneReason, Input, Media, Output, State},
    wire::{Body, ErrorCode, IceCandidate, PeerEntry, Role, Signal},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// An output of a Client, with frames as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Did {
    Connect,
    Say(Value),
    Ping,
    Disconnect,
    Tell(Event),
}

pub struct Scenario {
    pub client: Client,
    pub now: Instant,
    /// The reasons of [`Event::Disconnected`] and [`Event::Unreachable`] so far.
    pub reasons: Vec<Event>,
}

impl Scenario {
    /// A new client, whose first outputs are still queued.
    pub fn new(config: ClientConfig) -> Self {
        let now = Instant::now();
        Self { client: Client::new(config, 1, now), now, reasons: Vec::new() }
    }

    /// A client "me" in room "living_room" with these peers.
    pub fn joined(role: Role, peers: &[Value]) -> Self {
        let mut scenario = Self::new(config(role));
        scenario.did();
        scenario.join(peers);
        scenario
    }

    /// Registers and joins over an open WebSocket.
    pub fn join(&mut self, peers: &[Value]) -> Vec<Did> {
        self.handle(Input::Connected);
        self.hear(registered());
        self.hear(joined(peers))
    }

    pub fn handle(&mut self, input: Input) -> Vec<Did> {
        self.client.handle(self.now, input);
        self.did()
    }

    pub fn hear(&mut self, frame: Value) -> Vec<Did> {
        self.handle(Input::Frame(frame.to_string().into()))
    }

    /// A report on a session that was never named, which has no consequences.
    pub fn media(&mut self, peer: &str, media: Media) {
        assert_eq!(self.handle(report(peer, None, media)), [], "media {media:?} of {peer}");
    }

    /// A report on a session that an offer named, which has no consequences.
    pub fn media_of(&mut self, peer: &str, named: &str, media: Media) {
        assert_eq!(
            self.handle(report(peer, session(named), media)),
            [],
            "media {media:?} of {peer}, {named}"
        );
    }

    pub fn say(&mut self, signal: Signal) -> Vec<Did> {
        self.handle(Input::Send(signal))
    }

    /// Breaks the connection, and advances the time to the next attempt.
    pub fn reconnect(&mut self) {
        assert_eq!(self.handle(Input::Disconnected(None)), [tell(Event::State(State::Reconnecting))]);
        assert_eq!(self.run_to_timeout(), [Did::Connect]);
    }

    /// Advances the time to the next deadline.
    pub fn run_to_timeout(&mut self) -> Vec<Did> {
        self.now = self.client.poll_timeout().expect("a deadline");
        self.client.handle_timeout(self.now);
        self.did()
    }

    /// Advances the time, with every deadline at its time.
    pub fn run_for(&mut self, time: Duration) -> Vec<Did> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(next) = self.client.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.client.handle_timeout(self.now);
            all.extend(self.did());
        }
        self.now = end;
        all
    }

    /// The same while the server sends a ping every second.
    pub fn run_alive_for(&mut self, time: Duration) -> Vec<Did> {
        let end = self.now + time;
        let mut all = Vec::new();
        while self.now < end {
            let step = Duration::from_secs(1).min(end - self.now);
            all.extend(self.run_for(step));
            all.extend(self.handle(Input::Alive));
        }
        all
    }

    pub fn did(&mut self) -> Vec<Did> {
        let all = std::iter::from_fn(|| self.client.poll_output()).map(Did::from);
        let (reasons, did) =
            all.partition(|did| matches!(did, Did::Tell(Event::Disconnected(_) | Event::Unreachable(_))));
        let reasons: Vec<Did> = reasons;
        self.reasons.extend(reasons.into_iter().filter_map(|did| match did {
            Did::Tell(event) => Some(event),
            _ => None,
        }));
        did
    }

    pub fn present(&self) -> Vec<&str> {
        self.client.peers().map(|peer| peer.client_id.as_str()).collect()
    }
}

impl From<Output> for Did {
    fn from(output: Output) -> Self {
        match output {
            Output::Connect => Did::Connect,
            Output::Send(frame) => Did::Say(serde_json::from_str(&frame).unwrap()),
            Output::Ping => Did::Ping,
            Output::Disconnect => Did::Disconnect,
            Output::Event(event) => Did::Tell(event),
        }
    }
}

pub fn config(role: Role) -> ClientConfig {
    ClientConfig {
        client_id: Some(id("me")),
        ..ClientConfig::new(RoomId::new("living_room").unwrap(), role, Instance::from_random([7; 16]))
    }
}

pub fn report(peer: &str, session: Option<SessionId>, media: Media) -> Input {
    Input::Media { peer: id(peer), session, media }
}

pub fn id(text: &str) -> ClientId {
    ClientId::new(text).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "as signals have it")]
pub fn session(text: &str) -> Option<SessionId> {
    Some(SessionId::new(text).unwrap())
}

pub fn tell(event: Event) -> Did {
    Did::Tell(event)
}

pub fn ready(entry: &Value) -> Did {
    tell(Event::PeerReady(entry_of(entry)))
}

pub fn changed(entry: &Value) -> Did {
    tell(Event::PeerChanged(entry_of(entry)))
}

pub fn gone(peer: &str, reason: GoneReason) -> Did {
    tell(Event::PeerGone(id(peer), reason))
}

pub fn entry_of(entry: &Value) -> PeerEntry {
    serde_json::from_value(entry.clone()).unwrap()
}

pub fn registered() -> Value {
    json!({"type": "registered", "client_id": "me", "protocol": 1, "server": "test", "heartbeat_s": 15})
}

pub fn joined(peers: &[Value]) -> Value {
    json!({"type": "joined", "room_id": "living_room", "role": "receiver", "peers": peers, "total": peers.len(),
           "ice_servers": []})
}

pub fn tell_joined() -> Did {
    tell(Event::Joined { client_id: id("me"), ice_servers: vec![] })
}

pub fn peer(id: &str, role: &str, epoch: &str) -> Value {
    json!({"client_id": id, "role": role, "protocol": 1, "epoch": epoch})
}

pub fn old_peer(id: &str, role: &str) -> Value {
    json!({"client_id": id, "role": role, "protocol": 0})
}

pub fn peer_joined(entry: &Value) -> Value {
    let mut message = entry.clone();
    message["type"] = "peer_joined".into();
    message
}

pub fn peer_left(id: &str, reason: &str) -> Value {
    json!({"type": "peer_left", "client_id": id, "reason": reason})
}

pub fn error(code: &str, request: &str) -> Value {
    json!({"type": "error", "code": code, "message": "because", "request": request})
}

pub fn refused(code: ErrorCode, request: &str) -> Did {
    tell(Event::Refused {
        code,
        message: "because".to_owned(),
        request: Some(request.to_owned()),
        target_id: None,
    })
}

pub fn to(target: &str, session_id: Option<SessionId>, body: Body) -> Signal {
    Signal { body, target_id: Some(id(target)), session_id, from: None }
}

pub fn from(from: &str, session_id: Option<SessionId>, body: Body) -> Signal {
    Signal { body, target_id: None, session_id, from: Some(id(from)) }
}

pub fn offer() -> Body {
    Body::Offer { sdp: "v=0".to_owned() }
}

pub fn candidate(text: &str) -> Body {
    Body::Candidate {
        candidate: IceCandidate {
            candidate: text.to_owned(),
            sdp_mid: Some("0".to_owned()),
            sdp_m_line_index: Some(0),
        },
    }
}
