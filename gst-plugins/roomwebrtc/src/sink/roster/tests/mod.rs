//! Scenarios on virtual time: inputs and the exact outputs.

mod joins;
mod queue;
mod reasons;
mod retries;
mod room;
mod streams;

use super::{EndReason, Exclusion, Input, Limits, Notice, Output, ReceiverState, Roster, Update};
use crate::{codec::MediaKind, stream_key::StreamKey};
use room_signaling_client::{
    GoneReason, Media,
    protocol::{ClientId, SessionId},
    wire::{Body, IceCandidate, PeerEntry, Signal},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const VIDEO: [StreamKey; 2] =
    [StreamKey { kind: MediaKind::Video, index: 0 }, StreamKey { kind: MediaKind::Video, index: 1 }];

/// A roster, and an application that refuses receivers whose names begin with "stranger" unless their `meta` is a ticket.
struct Scenario {
    roster: Roster,
    now: Instant,
    has_port: bool,
}

/// An output in short form.
#[derive(Debug, Clone, PartialEq)]
enum Observed {
    Asked(String, Option<String>),
    Started(String, Vec<StreamKey>),
    Offered(String),
    SentCandidate(String),
    SentBye(String),
    Accepted(String, String),
    AddedCandidate(String),
    Opened(String),
    Ended(String, EndReason),
    Reported(String, Media),
    Noticed(Notice),
}

impl Scenario {
    /// The element is in the room, and one video stream flows.
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut scenario = Self::empty(limits);
        for input in [Input::InRoom(true), Input::Streams(vec![VIDEO[0]]), Input::Flowing(true)] {
            assert_eq!(scenario.handle(input), []);
        }
        scenario
    }

    fn empty(limits: Limits) -> Self {
        let now = Instant::now();
        Self { roster: Roster::new(limits, 7, now), now, has_port: true }
    }

    /// Handles one input. Returns the outputs at this time.
    fn handle(&mut self, input: Input) -> Vec<Observed> {
        self.roster.handle(self.now, input);
        let mut did = self.outputs();
        self.roster.handle_timeout(self.now);
        did.extend(self.outputs());
        did.extend(self.run_for(Duration::ZERO));
        did
    }

    fn outputs(&mut self) -> Vec<Observed> {
        let mut did = Vec::new();
        while let Some(output) = self.roster.poll_output() {
            if let Output::Authorize { id, meta } = &output {
                let ticket = meta.as_deref() == Some("\"ticket\"");
                let allowed = ticket || !id.as_str().starts_with("stranger");
                self.roster.handle(self.now, Input::Authorized(id.clone(), allowed));
            }
            if let Output::ConductorConfig { id, session, .. } = &output
                && !self.has_port
            {
                self.roster.handle(self.now, Input::Session(id.clone(), session.clone(), Update::NoPort));
            }
            did.push(output.into());
        }
        did
    }

    /// Advances time, stopping at every deadline.
    fn run_for(&mut self, time: Duration) -> Vec<Observed> {
        let end = self.now + time;
        let mut did = Vec::new();
        while let Some(at) = self.roster.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.roster.handle_timeout(self.now);
            did.extend(self.outputs());
        }
        self.now = end;
        did
    }

    /// Asserts that there is no output until this time, and returns the outputs at this time.
    fn nothing_until(&mut self, time: Duration) -> Vec<Observed> {
        assert_eq!(self.run_for(time.saturating_sub(MS)), []);
        self.run_for(MS)
    }

    fn join(&mut self, name: &str) -> Vec<Observed> {
        self.handle(Input::PeerReady(peer(name)))
    }

    fn session(&self, name: &str) -> SessionId {
        self.roster.receivers()[name].session().expect("a session").id.clone()
    }

    fn update(&mut self, name: &str, update: Update) -> Vec<Observed> {
        let session = self.session(name);
        self.handle(Input::Session(id(name), session, update))
    }

    fn fail(&mut self, name: &str) -> Vec<Observed> {
        self.update(name, Update::Failed(EndReason::Timeout))
    }

    /// Handles a message of a receiver in its current session.
    fn receive(&mut self, name: &str, body: Body) -> Vec<Observed> {
        let session = Some(self.session(name));
        self.handle(signal(name, session, body))
    }

    /// Advances a session up to its offer.
    fn offer(&mut self, name: &str) {
        for update in [Update::Offer("offer".into()), Update::OfferSet, Update::Candidate(candidate())] {
            self.update(name, update);
        }
    }

    fn answer(&mut self, name: &str) -> Vec<Observed> {
        self.receive(name, Body::Answer { sdp: "answer".into() })
    }

    /// Advances a session up to media.
    fn connect(&mut self, name: &str) {
        self.offer(name);
        self.answer(name);
        self.update(name, Update::Connected);
    }

    /// Adds a receiver and connects it.
    fn watcher(&mut self, name: &str) {
        self.join(name);
        self.connect(name);
    }

    fn assert_out(&self, name: &str, expected: Exclusion) {
        let state = &self.roster.receivers()[name].state;
        assert!(matches!(state, ReceiverState::Excluded(reason) if *reason == expected), "{name}: {state:?}");
    }

    /// The receivers with a session.
    fn served(&self) -> Vec<String> {
        let receivers = self.roster.receivers().iter();
        receivers.filter(|(_, receiver)| receiver.session().is_some()).map(|(id, _)| id.to_string()).collect()
    }
}

impl From<Output> for Observed {
    fn from(output: Output) -> Self {
        let name = |id: ClientId| id.to_string();
        match output {
            Output::Authorize { id, meta } => Observed::Asked(name(id), meta),
            Output::ConductorConfig { id, streams, .. } => Observed::Started(name(id), streams),
            Output::AcceptAnswer { id, sdp, .. } => Observed::Accepted(name(id), sdp),
            Output::AddCandidate { id, .. } => Observed::AddedCandidate(name(id)),
            Output::OpenGates { id, .. } => Observed::Opened(name(id)),
            Output::End { id, reason, .. } => Observed::Ended(name(id), reason),
            Output::Report { id, media, .. } => Observed::Reported(name(id), media),
            Output::Notice(notice) => Observed::Noticed(notice),
            Output::Send(Signal { body, target_id, .. }) => {
                let to = name(target_id.expect("a target"));
                match body {
                    Body::Offer { .. } => Observed::Offered(to),
                    Body::Candidate { .. } => Observed::SentCandidate(to),
                    Body::Bye => Observed::SentBye(to),
                    Body::Answer { .. } => panic!("a sender does not answer"),
                }
            }
        }
    }
}

fn id(name: &str) -> ClientId {
    ClientId::new(name).expect("an id")
}

/// A current receiver, whose process has the same name.
fn peer(name: &str) -> PeerEntry {
    with_meta(name, &Value::Null)
}

fn with_meta(name: &str, meta: &Value) -> PeerEntry {
    process(name, name, meta)
}

fn process(name: &str, epoch: &str, meta: &Value) -> PeerEntry {
    let entry = json!({"client_id": name, "role": "receiver", "protocol": 1, "epoch": epoch, "meta": meta});
    serde_json::from_value(entry).expect("an entry")
}

/// An old receiver, which names no protocol version.
fn old_peer(name: &str) -> PeerEntry {
    let entry = json!({"client_id": name, "role": "receiver", "protocol": 0});
    serde_json::from_value(entry).expect("an entry")
}

fn candidate() -> IceCandidate {
    IceCandidate {
        candidate: "candidate:1".into(),
        sdp_mid: Some("video0".into()),
        sdp_m_line_index: Some(0),
    }
}

fn signal(from: &str, session_id: Option<SessionId>, body: Body) -> Input {
    Input::Signal(Signal { body, target_id: None, session_id, from: Some(id(from)) })
}

fn asked(name: &str) -> Observed {
    Observed::Asked(name.into(), None)
}

fn asked_with(name: &str, meta: &str) -> Observed {
    Observed::Asked(name.into(), Some(meta.into()))
}

fn started(name: &str) -> Observed {
    Observed::Started(name.into(), vec![VIDEO[0]])
}

fn started_both(name: &str) -> Observed {
    Observed::Started(name.into(), VIDEO.to_vec())
}

fn ended(name: &str, reason: EndReason) -> Observed {
    Observed::Ended(name.into(), reason)
}

fn reported(name: &str, media: Media) -> Observed {
    Observed::Reported(name.into(), media)
}

fn stays_excluded(name: &str) -> Observed {
    Observed::Noticed(Notice::StaysExcluded(id(name)))
}

/// The outputs at the end of a session whose offer was sent; `bye` is sent first.
fn end_with_bye(name: &str, reason: EndReason) -> Vec<Observed> {
    vec![Observed::SentBye(name.into()), ended(name, reason), reported(name, Media::Ended)]
}

/// The outputs at the failure of such a session.
fn failure(name: &str, reason: EndReason) -> Vec<Observed> {
    let notice = Observed::Noticed(Notice::Failed(id(name), reason.clone()));
    [vec![notice], end_with_bye(name, reason)].concat()
}
