//! What clients say to each kind of server, so that rows are written once: how one gets in, who talks to whom, and what
//! two talk about.

use crate::{
    crowd::{Crowd, Event, Mouth, PATIENCE, Seat},
    frames::{Frame, placeholder},
    servers::Kind,
};
use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

/// Clients that come at the same time; more wait their turn.
const AT_ONCE: usize = 256;

/// Which protocol.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    /// docs/protocol.md.
    Room {
        /// For servers that want one.
        token: Option<String>,
    },
    /// That of gst-plugins-rs: peers, producers among them, and sessions between two.
    Gst,
}

/// Two who talk to each other.
pub(crate) struct Pair {
    pub(crate) sender: Seat,
    pub(crate) receiver: Seat,
    /// From the sender to the receiver.
    pub(crate) offer: Frame,
    /// From the receiver to the sender.
    pub(crate) answer: Frame,
}

/// A place in a room. Member 0 is the sender.
#[derive(Debug, Clone, Copy)]
struct Place {
    room: usize,
    member: usize,
}

impl Place {
    fn id(self) -> String {
        format!("client-{}-{}", self.room, self.member)
    }
}

impl Dialect {
    pub(crate) fn of(kind: Kind, token: &str) -> Self {
        match kind {
            Kind::Ours => Self::Room { token: Some(token.to_owned()) },
            Kind::Python | Kind::Bare => Self::Room { token: None },
            Kind::Gst => Self::Gst,
        }
    }

    /// Brings clients into rooms and returns once all are in. The first of each room is its sender.
    pub(crate) fn enter(&self, crowd: &mut Crowd, rooms: Range<usize>, members: usize) -> Result<Vec<Seat>> {
        self.entrance(crowd, rooms, members)?.open(crowd)
    }

    /// Makes ready what clients need to come into rooms, so that it is not measured.
    pub(crate) fn entrance(
        &self,
        crowd: &mut Crowd,
        rooms: Range<usize>,
        members: usize,
    ) -> Result<Entrance> {
        crowd.prepare(rooms.len() * members)?;
        let places = rooms.flat_map(|room| (0..members).map(move |member| Place { room, member }));
        let greetings = places.map(|place| self.greeting(place)).collect();
        let welcome = match self {
            Self::Room { .. } => "\"joined\"",
            // Its answer to the greeting's last line.
            Self::Gst => "\"error\"",
        };
        Ok(Entrance { greetings, welcome })
    }

    fn greeting(&self, place: Place) -> [Frame; 2] {
        let Place { room, member } = place;
        let frame = |message: Value| Frame::text(&message.to_string());
        match self {
            Self::Room { token } => {
                let instance = format!("{room:016x}{member:016x}");
                let mut register =
                    json!({"type": "register", "client_id": place.id(), "protocol": 1, "instance": instance});
                if let Some(token) = token {
                    register["token"] = json!(token);
                }
                let role = if member == 0 { "sender" } else { "receiver" };
                [
                    frame(register),
                    frame(json!({"type": "join", "room_id": format!("room-{room}"), "role": role})),
                ]
            }
            Self::Gst => {
                let roles = json!([if member == 0 { "producer" } else { "consumer" }]);
                [
                    frame(json!({"type": "setPeerStatus", "roles": roles, "meta": {"name": place.id()}})),
                    // Answered by an error, which tells that the line before it was read.
                    frame(json!({"type": "startSession", "peerId": "nobody"})),
                ]
            }
        }
    }

    /// Fills rooms and introduces each receiver to its sender. `size` is that of the SDP in their messages.
    pub(crate) fn fill(
        &self,
        crowd: &mut Crowd,
        rooms: Range<usize>,
        members: usize,
        size: usize,
    ) -> Result<Vec<Pair>> {
        let seats = self.enter(crowd, rooms.clone(), members)?;
        crowd.settle()?;
        let producers = match self {
            Self::Room { .. } => BTreeMap::new(),
            Self::Gst => gst_producers(crowd, seats[1])?,
        };
        let mut pairs = Vec::with_capacity(rooms.len() * (members - 1));
        for (index, &receiver) in seats.iter().enumerate().filter(|(index, _)| index % members > 0) {
            let place = Place { room: rooms.start + index / members, member: index % members };
            let sender = Place { member: 0, ..place };
            let (offer, answer) = match self {
                Self::Room { .. } => {
                    (message("offer", &place.id(), size), message("answer", &sender.id(), size))
                }
                Self::Gst => {
                    let producer = producers.get(&sender.id()).context("a producer is not listed")?;
                    let session = gst_session(crowd, receiver, producer)?;
                    (gst_message("offer", &session, size), gst_message("answer", &session, size))
                }
            };
            pairs.push(Pair { sender: seats[index - place.member], receiver, offer, answer });
        }
        crowd.settle()?;
        Ok(pairs)
    }
}

/// Clients who are about to come.
pub(crate) struct Entrance {
    /// What each says as soon as it is connected.
    greetings: Vec<[Frame; 2]>,
    /// What tells each that it is in.
    welcome: &'static str,
}

impl Entrance {
    /// Lets them in, some at the same time, and returns once all are.
    pub(crate) fn open(self, crowd: &mut Crowd) -> Result<Vec<Seat>> {
        let (total, deadline) = (self.greetings.len(), Instant::now() + PATIENCE);
        let mut seats: Vec<Seat> = Vec::with_capacity(total);
        let mut inside = 0;
        while inside < total {
            ensure!(Instant::now() < deadline, "{inside} of {total} clients got in within {PATIENCE:?}");
            while seats.len() < total.min(inside + AT_ONCE) {
                seats.push(crowd.connect()?);
            }
            crowd.turn(Duration::from_millis(100), |mouth, seat, event| {
                if let Some(index) = seats.first().and_then(|first| seat.checked_sub(*first)) {
                    inside += usize::from(self.greet(index, mouth, seat, event)?);
                }
                Ok(())
            })?;
        }
        Ok(seats)
    }

    /// What a client does on its way in. Returns whether it is there.
    fn greet(&self, index: usize, mouth: &mut Mouth, seat: Seat, event: Event<'_>) -> Result<bool> {
        match event {
            Event::Open => {
                for frame in self.greetings.get(index).into_iter().flatten() {
                    mouth.say(seat, frame);
                }
                Ok(false)
            }
            Event::Text(text) if has(text, self.welcome) => Ok(true),
            Event::Text(text) => {
                ensure!(!has(text, "\"error\""), "refused: {}", String::from_utf8_lossy(text));
                Ok(false)
            }
            Event::Closed => anyhow::bail!("the server closed a client's connection"),
        }
    }
}

/// Asks for the ids of all producers, by the names that they gave themselves.
fn gst_producers(crowd: &mut Crowd, asking: Seat) -> Result<BTreeMap<String, String>> {
    let list = ask(crowd, asking, json!({"type": "list"}), "list")?;
    let producers = list["producers"].as_array().context("no producers")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entry = |producer: &Value| Some((text(&producer["meta"]["name"])?, text(&producer["id"])?));
    Ok(producers.iter().filter_map(entry).collect())
}

fn gst_session(crowd: &mut Crowd, consumer: Seat, producer: &str) -> Result<String> {
    let started =
        ask(crowd, consumer, json!({"type": "startSession", "peerId": producer}), "sessionStarted")?;
    Ok(started["sessionId"].as_str().context("no session id")?.to_owned())
}

/// Says something and waits for the answer of a type.
fn ask(crowd: &mut Crowd, seat: Seat, message: Value, answer: &str) -> Result<Value> {
    crowd.say(seat, &Frame::text(&message.to_string()))?;
    let mut found = Value::Null;
    crowd.count(answer, 1, |_, other, event| {
        if let Event::Text(text) = event
            && other == seat
            && has(text, answer)
        {
            found = serde_json::from_slice(text)?;
            return Ok(1);
        }
        Ok(0)
    })?;
    Ok(found)
}

/// An offer to everyone in the room of a sender.
pub(crate) fn offer_to_all(size: usize) -> Frame {
    Frame::text(&json!({"type": "offer", "sdp": sdp(size)}).to_string())
}

fn message(kind: &str, target: &str, size: usize) -> Frame {
    Frame::text(&json!({"type": kind, "target_id": target, "sdp": sdp(size)}).to_string())
}

fn gst_message(kind: &str, session: &str, size: usize) -> Frame {
    let sdp = json!({"type": kind, "sdp": sdp(size)});
    Frame::text(&json!({"type": "peer", "sessionId": session, "sdp": sdp}).to_string())
}

/// Text that looks like SDP, with place for a time stamp.
fn sdp(size: usize) -> String {
    let mut text = format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns={}\r\n", placeholder());
    while text.len() < size {
        text.push_str("a=rtcp-fb:96 transport-cc\r\n");
    }
    text.truncate(size);
    text
}

fn has(text: &[u8], word: &str) -> bool {
    memmem::find(text, word.as_bytes()).is_some()
}
