//! The protocol of each kind of server, so that each row is written once: how clients enter rooms, and the messages of a
//! pair.

use crate::{
    crowd::{Crowd, Event, Replies, Seat, TIMEOUT},
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

/// The most clients that are connecting at the same time.
const CONCURRENT: usize = 256;

/// A protocol.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    /// The protocol of docs/protocol.md.
    Room {
        /// The token, for servers that require one.
        token: Option<String>,
    },
    /// The protocol of gst-plugins-rs: peers, some of which are producers, and sessions between two peers.
    Gst,
}

/// A sender and a receiver that exchange messages.
pub(crate) struct Pair {
    pub(crate) sender: Seat,
    pub(crate) receiver: Seat,
    /// From the sender to the receiver.
    pub(crate) offer: Frame,
    /// From the receiver to the sender.
    pub(crate) answer: Frame,
}

/// A member of a room, by its numbers. Member 0 is the sender.
#[derive(Debug, Clone, Copy)]
struct MemberNumber {
    room: usize,
    member: usize,
}

impl MemberNumber {
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

    /// Brings clients into rooms, and returns once all have joined. The first client of each room is its sender.
    pub(crate) fn enter(&self, crowd: &mut Crowd, rooms: Range<usize>, members: usize) -> Result<Vec<Seat>> {
        self.entrance(crowd, rooms, members)?.open(crowd)
    }

    /// Prepares the messages and sockets of clients that will enter rooms, so that this work is not measured.
    pub(crate) fn entrance(
        &self,
        crowd: &mut Crowd,
        rooms: Range<usize>,
        members: usize,
    ) -> Result<Entrance> {
        crowd.prepare(rooms.len() * members)?;
        let numbers = rooms.flat_map(|room| (0..members).map(move |member| MemberNumber { room, member }));
        let greetings = numbers.map(|number| self.greeting(number)).collect();
        let welcome = match self {
            Self::Room { .. } => "\"joined\"",
            // The answer to the last message of the greeting.
            Self::Gst => "\"error\"",
        };
        Ok(Entrance { greetings, welcome })
    }

    fn greeting(&self, number: MemberNumber) -> [Frame; 2] {
        let MemberNumber { room, member } = number;
        let frame = |message: Value| Frame::text(&message.to_string());
        match self {
            Self::Room { token } => {
                let instance = format!("{room:016x}{member:016x}");
                let mut register = json!({"type": "register", "client_id": number.id(), "protocol": 1, "instance": instance});
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
                    frame(json!({"type": "setPeerStatus", "roles": roles, "meta": {"name": number.id()}})),
                    // The error in answer to it shows that the message before it was processed.
                    frame(json!({"type": "startSession", "peerId": "nobody"})),
                ]
            }
        }
    }

    /// Fills rooms, and pairs each receiver with its sender. `size` is the size of the SDP in their messages, in bytes.
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
            let number = MemberNumber { room: rooms.start + index / members, member: index % members };
            let sender = MemberNumber { member: 0, ..number };
            let (offer, answer) = match self {
                Self::Room { .. } => {
                    (message("offer", &number.id(), size), message("answer", &sender.id(), size))
                }
                Self::Gst => {
                    let producer = producers.get(&sender.id()).context("a producer is not listed")?;
                    let session = gst_session(crowd, receiver, producer)?;
                    (gst_message("offer", &session, size), gst_message("answer", &session, size))
                }
            };
            pairs.push(Pair { sender: seats[index - number.member], receiver, offer, answer });
        }
        crowd.settle()?;
        Ok(pairs)
    }
}

/// Clients that are about to enter rooms.
pub(crate) struct Entrance {
    /// The first messages of each client.
    greetings: Vec<[Frame; 2]>,
    /// The text that shows that a client has joined.
    welcome: &'static str,
}

impl Entrance {
    /// Connects the clients, several at the same time, and returns once all have joined.
    pub(crate) fn open(self, crowd: &mut Crowd) -> Result<Vec<Seat>> {
        let (total, deadline) = (self.greetings.len(), Instant::now() + TIMEOUT);
        let mut seats: Vec<Seat> = Vec::with_capacity(total);
        let mut inside = 0;
        while inside < total {
            ensure!(Instant::now() < deadline, "{inside} of {total} clients joined within {TIMEOUT:?}");
            while seats.len() < total.min(inside + CONCURRENT) {
                seats.push(crowd.connect()?);
            }
            crowd.turn(Duration::from_millis(100), |replies, seat, event| {
                if let Some(index) = seats.first().and_then(|first| seat.checked_sub(*first)) {
                    inside += usize::from(self.greet(index, replies, seat, event)?);
                }
                Ok(())
            })?;
        }
        Ok(seats)
    }

    /// Handles an event of a client that is entering. Returns whether it has joined.
    fn greet(&self, index: usize, replies: &mut Replies, seat: Seat, event: Event<'_>) -> Result<bool> {
        match event {
            Event::Open => {
                for frame in self.greetings.get(index).into_iter().flatten() {
                    replies.send(seat, frame);
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

/// Requests the ids of all producers, by their names.
fn gst_producers(crowd: &mut Crowd, asking: Seat) -> Result<BTreeMap<String, String>> {
    let list = request(crowd, asking, json!({"type": "list"}), "list")?;
    let producers = list["producers"].as_array().context("no producers")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entry = |producer: &Value| Some((text(&producer["meta"]["name"])?, text(&producer["id"])?));
    Ok(producers.iter().filter_map(entry).collect())
}

fn gst_session(crowd: &mut Crowd, consumer: Seat, producer: &str) -> Result<String> {
    let started =
        request(crowd, consumer, json!({"type": "startSession", "peerId": producer}), "sessionStarted")?;
    Ok(started["sessionId"].as_str().context("no session id")?.to_owned())
}

/// Sends a request, and waits for an answer of this type.
fn request(crowd: &mut Crowd, seat: Seat, message: Value, answer: &str) -> Result<Value> {
    crowd.send(seat, &Frame::text(&message.to_string()))?;
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

/// An offer to all receivers in the room of the sender.
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

/// Text that resembles SDP, with a placeholder for a time stamp.
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
